import pytest

from wordmill.secrets import HIDDEN, scrub


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
