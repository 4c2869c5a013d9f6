"""Pieces that several pages show: an error in words, untrusted text, a number of money."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor, log10
from typing import Final

import streamlit as st

from wordmill.errors import WordmillError

_CODE_OR_PICTURE: Final = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^`\n]*\n(?s:.*?)(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)"
    r"|\\.|(?<!`)(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`)|(?P<picture>!+(?=\[))"
    r"|\$\$(?:(?!!\[)[^$])+\$\$|\$(?=[^\s$])(?:(?!!\[)[^$\n`])*(?<=[^\s$])\$(?!\d)|(?P<money>\$)",
    re.MULTILINE,
)
_BROWSERS: Final = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
"""What each writes into its User-Agent; a later one's sign stands in an earlier one's too."""
_SYSTEMS: Final = ("Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux")


@contextmanager
def said() -> Iterator[None]:
    """What Wordmill raises on purpose is shown in its own words, and the page goes on."""
    try:
        yield
    except WordmillError as error:
        st.error(plain(str(error)))


class Said(Exception):  # not an error: the page has shown one
    """What went wrong has been shown; the page goes on without it."""


@contextmanager
def said_again() -> Iterator[None]:
    """As `said`, and then raises Said: what follows would need what is missing."""
    try:
        yield
    except WordmillError as error:
        st.error(plain(str(error)))
        raise Said from error


def markdown(text: str) -> str:
    """What a model or a file said, as Markdown that carries nothing away.

    HTML is never allowed by the page. A picture would be fetched by showing it, and its address can
    carry what was said to somebody else's server, so pictures become links. Code stays as it is;
    what is taken for code and is none cannot load from elsewhere either: the policy of the gate.
    A dollar sign that begins no formula, as in "$5 and $6", stays one.
    """

    def shown(found: re.Match[str]) -> str:
        return "" if found["picture"] else "\\$" if found["money"] else found[0]

    return _CODE_OR_PICTURE.sub(shown, text)


def plain(text: str) -> str:
    """A text for a place that reads Markdown, shown as it stands."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>])", r"\\\1", text)


def words(name: str) -> str:
    """What a recipe calls `max_words`, for people."""
    spaced = name.replace("_", " ")
    return spaced[:1].upper() + spaced[1:]


def label(name: str) -> str:
    """The same for a place that reads Markdown, as above a field."""
    return plain(words(name))


def program(agent: str) -> str:
    """The browser and the system of a User-Agent, which itself is long and names several."""
    browser = next((name for sign, name in _BROWSERS if sign in agent), agent[:40] or "?")
    system = next((name for name in _SYSTEMS if name in agent), "")
    return f"{browser}, {system}" if system else browser


def money(amount: float) -> str:
    """`$0.31`, with as many digits as say something."""
    if not amount:
        return "$0"
    if amount >= 0.01:
        return f"${amount:,.2f}"
    return f"${amount:.{1 - floor(log10(amount))}f}".rstrip("0")
