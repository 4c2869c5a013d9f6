import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Type
from tests.cli.typed import Typed, type_command
from tests.servers.imperfect import Asked, Told, completion, models, serving

Models = Callable[..., Typed]


@pytest.fixture
def typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Models:
    """`wordmill models ARGUMENTS`, in an empty project."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("A_KEY", raising=False)
    return lambda *arguments: type_command(capsys, "models", *arguments)


MOCK = ("add", "mock", "--provider", "openai", "--base-url", "http://127.0.0.1:9000/v1/",
        "--model", "mock-1")  # fmt: skip


def test_the_first_model_is_there_already(typed: Models) -> None:
    assert typed("list") == Typed(
        0,
        "name       provider   model      base URL    key   from\n"
        "rehearsal  rehearsal  rehearsal  rehearsal:  none  built in\n",
        "",
    )


def test_adding_and_looking(typed: Models) -> None:
    full = (*MOCK, "--key-env", "A_KEY", "--rpm", "60", "--tpm", "9000", "--concurrency", "8",
            "--price-in", "0.15", "--price-out", "0.60", "--context", "8192",
            "--fallback", "rehearsal", "--header", "X-Team: blue", "--header", "api-key: ${A_KEY}",
            "--without", "seed")  # fmt: skip
    assert typed(*full) == Typed(
        0,
        "Added mock: mock-1 at http://127.0.0.1:9000/v1.\n",
        (
            "note: A_KEY is not set yet; `wordmill models key mock` stores a key.\n"
            "Try it with: wordmill models test mock\n"
        ),
    )
    assert json.loads(typed("show", "mock", "--json").out) == {
        "name": "mock",
        "provider": "openai",
        "base_url": "http://127.0.0.1:9000/v1",
        "model": "mock-1",
        "key_env": "A_KEY",
        "headers": {"X-Team": "blue", "api-key": "${A_KEY}"},
        "concurrency": 8,
        "rpm": 60,
        "tpm": 9000,
        "price_in": 0.15,
        "price_out": 0.6,
        "context": 8192,
        "fallback": "rehearsal",
        "without": ["seed"],
        "from": "catalog",
    }
    lines = typed("show", "mock").out.splitlines()
    assert lines[0] == "field          value"
    assert "headers        X-Team: blue, api-key: ${A_KEY}" in lines
    assert lines[-2:] == ["key            missing", "falls back to  rehearsal"]
    head, mock, *_ = typed("list").out.splitlines()
    assert head.endswith("at once  price/M   key      fallback   from")
    assert mock.endswith("8        0.15/0.6  missing  rehearsal  catalog")
    listed = json.loads(typed("list", "--json").out)
    assert [(model["name"], model["from"]) for model in listed] == [
        ("mock", "catalog"),
        ("rehearsal", "built in"),
    ]


def test_a_preset_needs_no_address(typed: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk_secret_value")
    assert typed("add", "fast", "--provider", "groq", "--model", "m").out == (
        "Added fast: m at https://api.groq.com/openai/v1.\n"
    )
    shown = typed("list").out + typed("show", "fast").out
    assert "GROQ_API_KEY" in shown
    assert "gsk_secret_value" not in shown
    assert typed("list").out.splitlines()[1].split() == [
        "fast", "groq", "m", "https://api.groq.com/openai/v1", "set", "catalog",
    ]  # fmt: skip


def test_the_presets_can_be_listed(typed: Models) -> None:
    presets = typed("list", "--presets").out
    assert presets.splitlines()[1].split() == [
        "openai", "https://api.openai.com/v1", "OPENAI_API_KEY",
    ]  # fmt: skip
    assert json.loads(typed("list", "--presets", "--json").out)["vllm"] == {
        "base_url": "http://127.0.0.1:8000/v1",
        "key_env": None,
        "note": "",
    }


def test_adding_twice(typed: Models) -> None:
    typed(*MOCK)
    assert typed(*MOCK) == Typed(
        2,
        "",
        "error: There is a model 'mock' already. `wordmill models show mock` shows it; "
        "--replace overwrites it.\n",
    )
    assert typed(*MOCK, "--replace", "--concurrency", "auto").code == 0


def test_removing(typed: Models) -> None:
    typed(*MOCK)
    assert typed("remove", "mock") == Typed(0, "Removed mock.\n", "")
    assert typed("remove", "mock") == Typed(
        2,
        "",
        "error: There is no model 'mock'. There are: rehearsal. "
        "`wordmill models add mock --base-url URL --model NAME` makes one.\n",
    )


def test_a_fallback_may_come_later(typed: Models) -> None:
    added = typed(*MOCK, "--fallback", "spare")
    assert added.code == 0
    assert added.err.splitlines()[0] == (
        "note: There is no model 'spare'. There are: mock, rehearsal. "
        "It is the fallback of 'mock'. Add it before a run."
    )
    assert typed("show", "mock").out.splitlines()[-1] == (
        "falls back to  There is no model 'spare'. There are: mock, rehearsal. "
        "It is the fallback of 'mock'."
    )


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--provider", "opanai", "error: There is no provider 'opanai'. Did you mean 'openai' or"),
        ("--base-url", "nowhere", "error: 'nowhere' is no address of a server: it begins with"),
        ("--header", "X-Team blue", "error: --header 'X-Team' has no colon: write it as 'Name:"),
        ("--header", "api-key: secret", "error: The header 'api-key' would store a secret: put"),
        ("--key-env", "sk-abcdefghijklm", "error: key_env is the name of the environment variable"),
        (
            "--without",
            "json_shema",
            "error: There is no capability 'json_shema'. Did you mean 'json_schema' or",
        ),
        ("--rpm", "0", "error: rpm must be greater than or equal to 1, not 0."),
    ],
)
def test_bad_options(typed: Models, option: str, value: str, sentence: str) -> None:
    code, out, err = typed(*MOCK, option, value)
    assert (code, out) == (2, "")
    assert err.startswith(sentence)
    assert "secret" not in err.replace("store a secret", "")
    assert "sk-abc" not in err


def test_a_concurrency_that_is_none(typed: Models) -> None:
    code, _, err = typed(*MOCK, "--concurrency", "0")
    assert code == 2
    assert "'0' is neither a whole number of 1 or more nor `auto`." in " ".join(err.split())


def test_a_model_that_works(typed: Models) -> None:
    with serving(lambda _: completion()) as server:
        typed("add", "mock", "--base-url", server.url, "--model", "mock-1")
        code, out, err = typed("test", "mock")
        as_json = json.loads(typed("test", "mock", "--json").out)
    assert (code, err) == (0, "")
    assert out.startswith("mock works: mock-1 answered in ")
    assert out.endswith(" ms, 7 tokens in, 2 out: 'Hello.'\n")
    assert (as_json["passed"], as_json["text"]) == (True, "Hello.")
    assert as_json["usage"] == {"input": 7, "output": 2, "estimated": False}


def test_a_model_that_does_not(typed: Models) -> None:
    def respond(asked: Asked) -> Told:
        error = {"message": "The model `mock-1` does not exist", "code": "model_not_found"}
        return models("mock-2") if asked.method == "GET" else Told(404, {"error": error})

    with serving(respond) as server:
        typed("add", "mock", "--base-url", server.url, "--model", "mock-1")
        sentence = "The server has no model 'mock-1'. Did you mean 'mock-2'?"
        assert typed("test", "mock") == Typed(2, "", f"error: {sentence}\n")
        code, out, _ = typed("test", "mock", "--json")
    assert code == 2
    assert json.loads(out)["sentence"] == sentence


def test_what_a_server_refuses_is_a_note(typed: Models) -> None:
    def respond(asked: Asked) -> Told:
        if "max_tokens" in asked.body:
            return Told(400, {"error": {"message": "Unknown parameter: 'max_tokens'."}})
        return completion()

    with serving(respond) as server:
        typed("add", "mock", "--base-url", server.url, "--model", "mock-1")
        code, _, err = typed("test", "mock")
    assert code == 0
    assert err == (
        "note: mock: the server refused `max_tokens`, so the run goes on without it "
        "(its words: Unknown parameter: 'max_tokens'.)\n"
    )


def test_the_rehearsal_model(typed: Models) -> None:
    code, out, _ = typed("test", "rehearsal")
    assert code == 0
    assert out.startswith("rehearsal works: rehearsal answered in ")


def test_a_home_that_cannot_be_made(
    typed: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WORDMILL_HOME", str(tmp_path / "file" / "home"))
    assert typed("list") == Typed(
        2,
        "",
        f"error: The data folder {tmp_path}/file/home cannot be made: Not a directory. "
        "Name another in WORDMILL_HOME.\n",
    )


# Stored keys --------------------------------------------------------------------------------------

SECRET = "k-hunter2hunter2"


def test_a_key_is_read_from_what_is_piped_in(
    typed: Models, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pipe(*arguments: str, key: str = SECRET + "\n") -> Typed:
        monkeypatch.setattr("sys.stdin", io.StringIO(key))
        return typed(*arguments)

    with serving(lambda _: completion()) as server:
        typed("add", "mock", "--base-url", server.url, "--model", "mock-1", "--key-env", "A_KEY")
        assert typed("test", "mock").err == (
            "error: No API key for the model 'mock': the variable A_KEY is not set. Set it, or "
            "store the key with `wordmill models key mock`.\n"
        )
        assert pipe("key", "mock") == Typed(
            0,
            "Stored your key for mock, encrypted.\n",
            "Try it with: wordmill models test mock\n",
        )
        assert typed("test", "mock").code == 0
        assert server.asked[-1].headers["authorization"] == f"Bearer {SECRET}"
        assert SECRET.encode() not in b"".join(
            file.read_bytes() for file in home.rglob("*") if file.is_file()
        )
        assert typed("list").out.count("stored") == 1
        assert typed("show", "mock").out.splitlines()[-1].endswith("  stored")
        monkeypatch.setenv("A_KEY", "k-variable")
        assert typed("test", "mock").code == 0
        assert server.asked[-1].headers["authorization"] == f"Bearer {SECRET}"
        assert typed("key", "mock", "--remove").out == "Removed your key for mock.\n"
        assert typed("test", "mock").code == 0
        assert server.asked[-1].headers["authorization"] == "Bearer k-variable"
        monkeypatch.delenv("A_KEY")
        assert pipe("key", "mock", "--everyone").out == (
            "Stored everybody's key for mock, encrypted.\n"
        )
        assert typed("test", "mock").code == 0
        assert "stored for everybody" in typed("list").out
        assert typed("key", "mock", "--remove", "--everyone").code == 0
    assert typed("key", "mock", "--remove") == Typed(
        2, "", "error: There is no stored key of the model 'mock' that is yours.\n"
    )
    assert pipe("key", "mock", key="").err == (
        "error: API key for mock: nothing was piped in, and there is nobody to ask.\n"
    )
    assert pipe("key", "mock", key="schlüssel").err.startswith("error: This is no API key: ")
    assert pipe("key", "mokc").err.startswith(
        "error: There is no model 'mokc'. Did you mean 'mock'?"
    )


def test_a_key_is_typed_unseen(typed: Models) -> None:
    """On a terminal it is asked for, and not shown."""
    typed("add", "mock", "--base-url", "http://127.0.0.1:9", "--model", "m")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from wordmill.cli import main; main()"]
    command += ["models", "key", "mock"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while b"API key for mock:" not in seen:
        seen += os.read(ours, 1000)
    os.write(ours, SECRET.encode() + b"\n")
    while b"encrypted." not in seen:
        seen += os.read(ours, 1000)
    assert process.wait(30) == 0
    os.close(ours)
    assert SECRET.encode() not in seen


def test_a_run_goes_with_the_stored_key(
    typed: Models, wordmill: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "name: one\nmodel: mock\ncolumns:\n  said: {type: prompt, prompt: Say something.}\n"
    )
    with serving(lambda _: completion()) as server:
        typed("add", "mock", "--base-url", server.url, "--model", "mock-1", "--key-env", "A_KEY")
        failed = wordmill("generate", "recipe.yaml", "--rows", "2", "--out", "out", "--yes")
        assert failed.code == 2
        assert "`wordmill models key mock`" in failed.err
        monkeypatch.setattr("sys.stdin", io.StringIO(SECRET))
        typed("key", "mock")
        done = wordmill("generate", "recipe.yaml", "--rows", "2", "--out", "out", "--yes")
    assert done.code == 0, done.err
    told = {asked.headers.get("authorization") for asked in server.asked}
    assert told == {f"Bearer {SECRET}"}
