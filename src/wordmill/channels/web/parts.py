"""Pieces that several pages show: an error in words, untrusted text, a number of money."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import streamlit as st

from wordmill.errors import WordmillError

_PICTURE: Final = re.compile(r"!(?=\[)")


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
    carry what was said to somebody else's server, so pictures become links.
    """
    return _PICTURE.sub("", text)


def plain(text: str) -> str:
    """A text for a place that reads Markdown, shown as it stands."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>])", r"\\\1", text)


def money(amount: float) -> str:
    """`$0.31`, with as many digits as say something."""
    if not amount:
        return "$0"
    return f"${amount:,.2f}" if amount >= 0.01 else f"${amount:.2g}"
