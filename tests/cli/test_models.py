import json
from collections.abc import Callable
from pathlib import Path

import pytest

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
        "name       provider   model      base URL    at once  price  key   fallback  from\n"
        "rehearsal  rehearsal  rehearsal  rehearsal:  auto     0/0    none  -         built in\n",
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
        "note: A_KEY is not set yet.\nTry it with: wordmill models test mock\n",
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
    assert lines[-2:] == ["key is set     missing", "falls back to  rehearsal"]
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
        "fast", "groq", "m", "https://api.groq.com/openai/v1", "auto", "0/0", "set", "-", "catalog",
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
