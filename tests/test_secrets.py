import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wordmill.errors import ConfigError
from wordmill.secrets import HIDDEN, KEY_FILE, derived, scrub, seal, unseal
from wordmill.settings import Settings, load


def test_known_values_go_in_every_form() -> None:
    secret = 'p@ss"word/1'
    text = f'plain {secret}, url p%40ss%22word%2F1, json p@ss\\"word/1'
    assert scrub(text, [secret]) == f"plain {HIDDEN}, url {HIDDEN}, json {HIDDEN}"


def test_a_secret_within_a_secret() -> None:
    assert scrub("abcdefgh", ["abcd", "abcdefgh"]) == HIDDEN


def test_a_very_short_value_is_not_looked_for() -> None:
    assert scrub("a cab", ["a", ""]) == "a cab"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Incorrect API key provided: sk-proj-abcdefgh.", f"Incorrect API key provided: {HIDDEN}"),
        ("Incorrect API key: sk-ab***********wxyz", f"Incorrect API key: {HIDDEN}"),
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {HIDDEN}"),
        ("GET /v1beta/models?key=AIzaSyA1234567&a=b", f"GET /v1beta/models?key={HIDDEN}&a=b"),
        ("the key AIzaSyA1234567890abc", f"the key {HIDDEN}"),
        ('{"x-api-key": "0123456789"}', f'{{"x-api-key": "{HIDDEN}"}}'),
        ("api_key=0123456789, and", f"api_key={HIDDEN}, and"),
        ("postgresql://mill:hunter2@db/mill", f"postgresql://{HIDDEN}@db/mill"),
        ("gsk_abcdefgh1234 hf_abcdefgh1234", f"{HIDDEN} {HIDDEN}"),
        ("eyJhbGciOiJI.eyJzdWIi.c2lnbmF0", HIDDEN),
    ],
)
def test_what_looks_like_a_key(text: str, clean: str) -> None:
    assert scrub(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "The server has no model 'gpt-9'.",
        "Bearer of bad news",
        "http://127.0.0.1:9000/v1/models answers",
        "monkey=banana keyboard: qwerty",
        "max_tokens: 2048, tokens=12",
        "ask-me-anything-you-like",
    ],
)
def test_harmless_words_stay(text: str) -> None:
    assert scrub(text) == text


# Sealing ------------------------------------------------------------------------------------------


def settings(home: Path, key: str | None = None) -> Settings:
    return Settings(home=home, secret_key=key)


def test_what_is_sealed_opens_at_its_place_alone(tmp_path: Path) -> None:
    here = settings(tmp_path / "home")
    sealed = seal(here, "hunter2 ü", "a:1")
    assert b"hunter2" not in sealed
    assert sealed != seal(here, "hunter2 ü", "a:1")
    assert unseal(here, sealed, "a:1") == "hunter2 ü"
    for place in ("a:2", "", "a:1 "):
        with pytest.raises(ConfigError) as caught:
            unseal(here, sealed, place)
        assert str(caught.value) == (
            f"A stored secret ({place}) is damaged or was moved there. Enter it again."
        )


@pytest.mark.parametrize("at", [0, 1, 5, 20, -1])
def test_every_byte_is_checked(tmp_path: Path, at: int) -> None:
    here = settings(tmp_path)
    sealed = bytearray(seal(here, "hunter2", "a"))
    sealed[at] ^= 1
    with pytest.raises(ConfigError):
        unseal(here, bytes(sealed), "a")
    for cut in (b"", bytes(sealed[:10]), bytes(sealed[:-1])):
        with pytest.raises(ConfigError):
            unseal(here, cut, "a")


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    first = derived(settings(home), "x")
    file = home / KEY_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert derived(settings(home), "x") == first != derived(settings(home), "y")
    assert derived(settings(tmp_path / "other"), "x") != first
    assert [one.name for one in home.iterdir()] == [KEY_FILE]
    assert first not in file.read_bytes()


def test_many_processes_make_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from wordmill.secrets import derived; "
        "from wordmill.settings import Settings; sys.stdin.read(1); "
        "print(derived(Settings(home=Path(sys.argv[1])), 'x').hex())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "home")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(6)
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    assert len({process.communicate()[0] for process in started}) == 1


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    derived(settings(tmp_path), "x")
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigError) as caught:
        derived(settings(tmp_path), "x")
    assert str(caught.value) == (
        f"{tmp_path / KEY_FILE} opens every stored secret and may be read by others: "
        f"chmod 600 {tmp_path / KEY_FILE}"
    )


@pytest.mark.parametrize("content", ["", "secret", "A" * 44, "ü" * 44])
def test_what_is_no_key(tmp_path: Path, content: str) -> None:
    (tmp_path / KEY_FILE).write_text(content)
    (tmp_path / KEY_FILE).chmod(0o600)
    with pytest.raises(ConfigError, match="is no key of Wordmill"):
        derived(settings(tmp_path), "x")
    assert (tmp_path / KEY_FILE).read_text() == content


def test_another_key_is_known_for_another(tmp_path: Path) -> None:
    given = settings(tmp_path, "x" * 32)
    sealed = seal(given, "hunter2", "a")
    assert not (tmp_path / KEY_FILE).exists()
    assert unseal(given, sealed, "a") == "hunter2"
    with pytest.raises(ConfigError) as caught:
        unseal(settings(tmp_path), sealed, "a")
    assert str(caught.value) == (
        f"A stored secret (a) was sealed with another key than {tmp_path / KEY_FILE}: "
        "put that one back, or enter the secret again."
    )
    with pytest.raises(ConfigError, match="another key than the setting secret_key"):
        unseal(settings(tmp_path, "y" * 32), sealed, "a")


def test_a_short_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDMILL_SECRET_KEY", "changeme")
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value) == (
        "secret_key must be at least 32 characters, or nothing, not what it is "
        "(from: environment (WORDMILL_SECRET_KEY))."
    )


def test_an_own_api_key_looks_like_one() -> None:
    assert scrub("with wm-" + "aB3_" * 10 + "abc.") == f"with {HIDDEN}."
    assert scrub("a wm-radio") == "a wm-radio"


VECTORS = json.loads((Path(__file__).parent / "vectors" / "secrets.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_what_was_sealed_is_opened_as_the_consumer_opens_it(
    vector: dict[str, Any], home: Path
) -> None:
    home.mkdir()
    if vector["key_file"] is not None:
        file = home / KEY_FILE
        file.touch(0o600)
        file.write_text(vector["key_file"])
    settings = load({"secret_key": vector["secret_key"] or ""})
    sealed = base64.b64decode(vector["sealed"])
    if vector["error"] is None:
        assert unseal(settings, sealed, vector["place"]) == vector["text"]
        return
    with pytest.raises(ConfigError, match=vector["error"]):
        unseal(settings, sealed, vector["place"])
