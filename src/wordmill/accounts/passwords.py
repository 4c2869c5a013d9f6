"""Passwords: what may be one, its Argon2id hash, and whether one fits.

Any text of 8 characters up to 1,024 bytes, whatever it is made of; nothing is cut off. Only what is
guessed first is refused. A hash says with which parameters it was made, so they can be raised: old
ones are made anew at the next sign-in.
"""

import unicodedata
from functools import cache
from threading import Semaphore
from typing import TYPE_CHECKING, Final

from wordmill.errors import InvalidInput

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MOST_BYTES: Final = 1024
FEWEST: Final = 8

TIME, MEMORY, LANES = 3, 65536, 4
"""Argon2id: passes, KiB, lanes. The second choice of RFC 9106, section 4."""

NOBODY: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$bm9ib2R5aGFzdGhpc29uZQ$"
    "S6ZFNNlZrY4Zt4mhIhskqgzuNb9yFi48a5l4/QVqdiQ"
)
"""A hash that no password fits: whoever is not there takes as long as whoever is."""

_AT_ONCE = Semaphore(4)
"""Each takes MEMORY: a flood of sign-ins waits in line."""

_FIRST_GUESSES: Final = """
00000000 000000000 0987654321 11111111 111111111 1111111111 11223344 112233445566 12121212
123123123 123321123 12341234 1234512345 12345678 123456789 1234567890 12345678910 123456789a
123456789q 12qwaszx 1357924680 13579246810 1q2w3e4r 1q2w3e4r5t 1q2w3e4r5t6y 1qaz2wsx 1qaz2wsx3edc
1qazxsw2 22222222 55555555 66666666 77777777 87654321 88888888 987654321 9876543210 99999999
aaaaaaaa abc12345 abcd1234 abcdefgh abcdefghi access14 admin123 admin1234 adminadmin administrator
asdasdasd asdf1234 asdfasdf asdfghjk asdfghjkl baseball basketball batman123 butterfly changeme
changeme1 changemenow charlie1 chocolate computer consumer danielle december dragon123 einstein
elephant facebook fender12 football football1 freedom1 garfield gateway1 geheim123 hallo123
hello123 hellohello hunter22 iloveyou iloveyou1 iloveyou2 internet jennifer jordan23 letmein1
letmein123 liverpool lovelove master12 maverick michelle microsoft midnight minecraft mustang1
mypassword newyork1 nicholas november p4ssw0rd p@ssw0rd p@ssword pa55word pass1234 passpass
passw0rd passw0rd1 password password! password1 password12 password123 password1234 passwort
passwort1 patricia pokemon1 princess princess1 q1w2e3r4 q1w2e3r4t5 qazwsxedc qweasdzxc qwer1234
qwerasdf qwerty12 qwerty123 qwerty1234 qwertyui qwertyuiop qwertz123 qwertzui rockstar root1234
rootroot samantha samsung1 schatz123 secret12 secret123 september shadow12 slipknot snowball
spiderman startrek starwars steelers sunshine sunshine1 superman superman1 swordfish test1234
testing1 testpass testtest tinkerbell trustno1 trustnoone victoria welcome1 welcome123 whatever
william1 winter2024 wordmill wordmill1 x1x2x3x4 yamaha12 yankees1 zaq12wsx zaq1zaq1 zxcvbnm1
zxcvbnmm
"""
_GUESSED: Final = frozenset(_FIRST_GUESSES.split())


def check(password: str, *own: str) -> str:
    """The password as it is hashed. `own`: what the person is called, which is guessed first.

    Raises InvalidInput for one that is too short, too long, no text, or among the first guesses.
    """
    text = unicodedata.normalize("NFC", password)
    if len(text) < FEWEST:
        raise InvalidInput(f"A password has at least {FEWEST} characters.", "password")
    if len(_encoded(text)) > MOST_BYTES:
        raise InvalidInput(f"A password has at most {MOST_BYTES:,} bytes.", "password")
    words = {name.casefold() for one in own for name in (one, one.partition("@")[0]) if name}
    if text.casefold() in _GUESSED | words or len(set(text)) < 3:
        raise InvalidInput(
            "This password is among the first that are guessed. Three or four words that have "
            "nothing to do with each other make a good one.",
            "password",
        )
    return text


def hashed(password: str) -> str:
    """The Argon2id hash of a password that `check` returned."""
    with _AT_ONCE:
        return _hasher().hash(_encoded(password))


def fits(stored: str | None, password: str) -> bool:
    """Whether this is the password. Takes as long where `stored` is None, and is False."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        data = _encoded(unicodedata.normalize("NFC", password[: 4 * MOST_BYTES]))
    except InvalidInput:
        data = b""
    possible = stored is not None and 0 < len(data) <= MOST_BYTES
    try:
        with _AT_ONCE:
            _hasher().verify(stored if stored and possible else NOBODY, data[:MOST_BYTES])
    except (VerificationError, InvalidHashError):
        return False
    return possible


def outdated(stored: str) -> bool:
    """Whether the hash was made with other parameters than those of now."""
    return _hasher().check_needs_rehash(stored)


@cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=TIME, memory_cost=MEMORY, parallelism=LANES)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("This password holds half a character.", "password") from error
