"""What Jinja says of a text that it cannot read, in our words.

Jinja names its own tokens (`end of print statement`) and no column. Here its sentence becomes one
about the text that somebody wrote, with the place in it, as far as that is known.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from jinja2 import TemplateError

from wordmill.columns.sandbox import bare
from wordmill.errors import nearest


class Words(NamedTuple):
    """A sentence without a full stop. at: the offset in the text, -1 where it is not known."""

    sentence: str
    at: int


def in_our_words(error: TemplateError, text: str, *, expression: bool) -> Words:
    """What is wrong with a text. expression: it is one; otherwise it is a template."""
    message = (error.message or str(error)).rstrip(".")
    for pattern, say in _SAID:
        if found := pattern.match(message):
            return say(found, text if expression else _line(text, error), expression)
    return Words(message, -1)


def _line(text: str, error: TemplateError) -> str:
    """The line that an error is in."""
    number = getattr(error, "lineno", None) or 1
    lines = text.split("\n")
    return lines[min(number, len(lines)) - 1]


_TOKENS = {
    "begin of print statement": "'{{'",
    "end of print statement": "'}}'",
    "begin of statement block": "'{%'",
    "end of statement block": "'%}'",
    "begin of comment": "'{#'",
    "end of comment": "'#}'",
    "end of template": "the end",
    "name": "a name",
}


def _token(word: str) -> str:
    """A token as it is written: Jinja's own name of it, or the text in quotes."""
    bare_word = word.strip("'\"")
    return _TOKENS.get(bare_word, f"'{bare_word}'")


def _at(word: str, text: str) -> int:
    """Where a token stands, if there is one such only."""
    written = _token(word).strip("'")
    return text.find(written) if text.count(written) == 1 else -1


def _tail(text: str) -> str:
    end = text.rstrip()[-20:]
    return f"after {end!r}" if end else "before it begins"


def _ends(found: re.Match[str], text: str, expression: bool) -> Words:
    wanted = found["wanted"]
    what = f"{_token(wanted)} is missing" if wanted else "something is missing"
    return Words(f"it ends {_tail(text)}, where {what}", len(text) if expression else -1)


def _stands(found: re.Match[str], text: str, expression: bool) -> Words:
    got, wanted = found["got"], found["wanted"]
    if _token(got) == "the end":
        return Words(f"it ends {_tail(text)}, where {_token(wanted)} is missing", -1)
    return Words(f"{_token(got)} stands where {_token(wanted)} is expected", _at(got, text))


def _value(found: re.Match[str], text: str, expression: bool) -> Words:
    got = found["got"]
    return Words(f"{_token(got)} stands where a value is expected", _at(got, text))


def _letter(found: re.Match[str], text: str, expression: bool) -> Words:
    letter, at = found["letter"][1:-1], int(found["at"])
    if letter in "'\"":
        return Words(f"the quote {letter} is opened and not closed", at if expression else -1)
    return Words(f"the character {letter!r} is no part of an expression", at if expression else -1)


def _after(found: re.Match[str], text: str, expression: bool) -> Words:
    got = found["got"]
    hint = "; two values are compared with ==" if got == "=" else ""
    return Words(f"{_token(got)} cannot follow what stands before it{hint}", _at(got, text))


def _unclosed(found: re.Match[str], text: str, expression: bool) -> Words:
    tag = found["tag"]
    return Words(f"{{% {tag} %}} is not closed: {{% end{tag} %}} is missing", -1)


def _tag(found: re.Match[str], text: str, expression: bool) -> Words:
    tag = found["tag"]
    what = (
        f"{{% {tag} %}} closes nothing" if tag.startswith("end") else f"there is no {{% {tag} %}}"
    )
    return Words(f"{what}; a template knows {{% if %}}, {{% for %}} and {{% set %}}", -1)


def _unknown(found: re.Match[str], text: str, expression: bool) -> Words:
    kind, name = found["kind"], found["name"]
    known = bare().filters if kind == "filter" else bare().tests
    return Words(f"there is no {kind} {name!r}{nearest(name, known)}", _at(name, text))


def _comment(found: re.Match[str], text: str, expression: bool) -> Words:
    return Words("the comment {# is not closed: #} is missing", -1)


def _name(found: re.Match[str], text: str, expression: bool) -> Words:
    return Words("a dot is followed by no name", -1)


_SAID: list[tuple[re.Pattern[str], Callable[[re.Match[str], str, bool], Words]]] = [
    (re.compile(pattern, re.DOTALL), say)
    for pattern, say in (
        (r"No (?P<kind>filter|test) named '(?P<name>.*)'\Z", _unknown),
        (r"unexpected '?end of template'?(?:, expected (?P<wanted>.+))?\Z", _ends),
        (r"unexpected char (?P<letter>.+) at (?P<at>\d+)\Z", _letter),
        (r"(?:unexpected (?P<got>.+), expected (?P<wanted>.+))\Z", _stands),
        (r"expected token '(?P<wanted>.+)', got '(?P<got>.+)'\Z", _stands),
        (r"(?:unexpected|Expected an expression, got) (?P<got>.+)\Z", _value),
        (r"the expression ends before '(?P<got>.+)'\Z", _after),
        (r"Unexpected end of template\. .*that needs to be closed is '(?P<tag>\w+)'", _unclosed),
        (r"Encountered unknown tag '(?P<tag>\w+)'", _tag),
        (r"Missing end of comment tag\Z", _comment),
        (r"expected name or number\Z", _name),
    )
]
"""Jinja's sentences, tried in this order."""
