"""With the parameters that people get."""

import time

import pytest

from tests.accounts.refusing import said
from wordmill.accounts import passwords
from wordmill.errors import InvalidInput


def test_a_hash_fits_its_password_alone() -> None:
    made = passwords.hashed(passwords.check("three wet owls"))
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.fits(made, "three wet owls")
    assert not passwords.fits(made, "three wet owls ")
    assert not passwords.outdated(made)
    assert made != passwords.hashed("three wet owls")  # salted


def test_every_byte_counts_up_to_1024() -> None:
    longest = "a1" + "b" * 1022
    made = passwords.hashed(passwords.check(longest))
    assert passwords.fits(made, longest)
    assert not passwords.fits(made, longest[:-1] + "c")
    assert not passwords.fits(made, longest + "b")
    with said(InvalidInput, "A password has at most 1,024 bytes."):
        passwords.check(longest + "b")
    with said(InvalidInput, "at most 1,024 bytes"):
        passwords.check("ä1b" * 300)  # 900 letters, 1,200 bytes


def test_one_letter_may_be_written_in_two_ways() -> None:
    made = passwords.hashed(passwords.check("schl\u00fcsselbund"))
    assert passwords.fits(made, "schlu\u0308sselbund")


@pytest.mark.parametrize(
    "password",
    ["password1", "PassWord1", "iloveyou", "wordmill", "aaaaaaaaa", "abababababab",
     "ann@example.org", "Ann Example"],
)  # fmt: skip
def test_what_is_guessed_first_is_refused(password: str) -> None:
    with said(InvalidInput, "This password is among the first that are guessed."):
        passwords.check(password, "ann@example.org", "Ann Example")


def test_too_short_and_no_text() -> None:
    with said(InvalidInput, "A password has at least 8 characters.") as caught:
        passwords.check("short 7")
    assert caught.value.field == "password"
    with said(InvalidInput, "half a character"):
        passwords.check("a good one \ud800")
    assert not passwords.fits(passwords.hashed("a good one"), "a good one \ud800")


def test_whatever_it_is_made_of() -> None:
    for password in ("        x y", "пароль-и-ещё", "\0\0\0a\n\tbc", "🦉🦉🦉🐎🐎🐎🌲🌲"):
        assert passwords.fits(passwords.hashed(passwords.check(password)), password)


def test_nobody_takes_as_long_as_somebody() -> None:
    """The one hash that is built in is made with the parameters of now, and nothing fits it."""
    assert not passwords.outdated(passwords.NOBODY)
    assert not passwords.fits(None, "nobodyhasthisone")
    assert not passwords.fits(passwords.NOBODY, "nobodyhasthisone")
    made = passwords.hashed("three wet owls")

    def seconds(stored: str | None, password: str) -> float:
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            assert not passwords.fits(stored, password)
            times.append(time.perf_counter() - begun)
        return min(times)

    there = seconds(made, "another one")
    for stored, password in ((None, "another one"), (made, ""), (made, "x" * 5000)):
        assert 0.4 < seconds(stored, password) / there < 2.5


def test_a_damaged_hash_fits_nothing() -> None:
    assert not passwords.fits("no hash", "three wet owls")
    assert not passwords.fits("", "three wet owls")
