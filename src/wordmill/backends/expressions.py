"""Regular expressions as parts of a grammar.

An expression is read by Python's own reader and written as llama.cpp's notation (GBNF). It is
about the whole answer. What looks ahead or back, or repeats what was found, has no place in such a
grammar and is refused by name.
"""

import re
from collections.abc import Sequence
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]  # how `re` itself reads; no public name
from typing import Any, Final

from wordmill.errors import InvalidInput

LONGEST: Final = 500
"""The most repetitions that are counted."""
COPIES: Final = 10_000
"""The most copies of a part that repetitions within repetitions come to."""
_CLASSES: Final = {
    sre.CATEGORY_DIGIT: "0-9",
    sre.CATEGORY_WORD: "0-9A-Za-z_",
    sre.CATEGORY_SPACE: " \\t\\n\\r",
}
_NOT_CLASSES: Final = {
    sre.CATEGORY_NOT_DIGIT: "0-9",
    sre.CATEGORY_NOT_WORD: "0-9A-Za-z_",
    sre.CATEGORY_NOT_SPACE: " \\t\\n\\r",
}
_BEGINS: Final = (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING)
_ENDS: Final = (sre.AT_END, sre.AT_END_STRING)


def literal(text: str) -> str:
    """A text as it stands, between quotes."""
    made = ""
    for char in text:
        if char in '"\\':
            made += "\\" + char
        elif char in "\n\r\t":
            made += {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char]
        elif ord(char) < 0x20:
            made += f"\\x{ord(char):02X}"
        else:
            made += char
    return f'"{made}"'


def translated(pattern: str, *, quoted: bool = False) -> str:
    """An expression as a part of a grammar.

    quoted: it stands inside a JSON text, so that quotes, backslashes and controls are escaped or
    left out.
    Raises InvalidInput for what is no expression, and for what no grammar says.
    """
    try:
        return _Writer(pattern, quoted).whole(_parser.parse(pattern)) or '""'
    except (re.error, RecursionError, OverflowError) as error:
        why = "it is too deep" if isinstance(error, RecursionError) else str(error)
        raise InvalidInput(
            f"The regular expression {pattern[:200]!r} cannot be read: {why}.", "response_format"
        ) from error


class _Writer:
    def __init__(self, pattern: str, quoted: bool) -> None:
        self._pattern, self._quoted = pattern, quoted
        self._copies = 1
        """Of what is being written."""

    def whole(self, parsed: Any) -> str:
        """What `re` has read."""
        if parsed.state.flags & ~re.UNICODE:
            raise self._cannot("it sets flags")
        return self.sequence(parsed, edges=True)

    def sequence(self, items: Sequence[Any], *, edges: bool = False) -> str:
        """edges: it begins and ends where the answer does, so `^` and `$` say nothing new."""
        items = list(items)
        parts = []
        for index, (kind, value) in enumerate(items):
            if kind is sre.AT:
                at = 0 if value in _BEGINS else len(items) - 1 if value in _ENDS else -1
                if not edges or index != at:
                    raise self._cannot("it looks at what is around a place")
                continue
            if kind is sre.BRANCH:
                parts.append(self._branch(value[1], edges=edges and len(items) == 1))
                continue
            parts.append(self._item(kind, value))
        return " ".join(parts)

    def _branch(self, ways: Sequence[Any], *, edges: bool) -> str:
        return f"({' | '.join(self.sequence(one, edges=edges) or chr(34) * 2 for one in ways)})"

    def _item(self, kind: Any, value: Any) -> str:
        if kind is sre.LITERAL:
            return self._literal(chr(value))
        if kind is sre.NOT_LITERAL:
            return self._set([(sre.LITERAL, value)], negated=True)
        if kind is sre.ANY:
            return self._set([(sre.LITERAL, 10)], negated=True)
        if kind is sre.IN:
            negated = bool(value) and value[0][0] is sre.NEGATE
            return self._set(value[1:] if negated else value, negated)
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            return self._repeated(*value)
        if kind is sre.SUBPATTERN:
            if value[1] or value[2]:
                raise self._cannot("it sets flags")
            return f"({self.sequence(value[-1]) or chr(34) * 2})"
        if kind is sre.ATOMIC_GROUP:
            return f"({self.sequence(value)})"
        raise self._cannot(f"`{str(kind).lower()}` has no place in a grammar")

    def _repeated(self, least: int, most: Any, inner: Sequence[Any]) -> str:
        times, before = self._times(least, most), self._copies
        self._copies *= max(1, least if most is sre.MAXREPEAT else min(int(most), LONGEST))
        if self._copies > COPIES:
            raise self._cannot(f"it repeats something more than {COPIES:,} times")
        made = self.sequence(inner) or '""'
        self._copies = before
        return f"({made}){times}"

    def _times(self, least: int, most: Any) -> str:
        if least > LONGEST:
            raise self._cannot(f"it repeats something more than {LONGEST} times")
        if most is sre.MAXREPEAT:
            return {0: "*", 1: "+"}.get(least, f"{{{least},}}")
        if (least, most) == (0, 1):
            return "?"
        return f"{{{least},{min(int(most), LONGEST)}}}"

    def _literal(self, char: str) -> str:
        if not self._quoted:
            return literal(char)
        if char in '"\\':
            return literal("\\" + char)
        if ord(char) < 0x20:
            short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
            return literal(short or f"\\u{ord(char):04x}")
        return literal(char)

    def _set(self, items: Sequence[Any], negated: bool) -> str:
        made = ""
        for kind, value in items:
            if kind is sre.LITERAL:
                made += _escaped(value)
            elif kind is sre.RANGE:
                made += f"{_escaped(value[0])}-{_escaped(value[1])}"
            elif kind is sre.CATEGORY and value in _CLASSES:
                made += _CLASSES[value]
            elif kind is sre.CATEGORY and value in _NOT_CLASSES and len(items) == 1:
                made, negated = _NOT_CLASSES[value], not negated
            else:
                raise self._cannot("a class of characters has what is not in another one")
        if negated and self._quoted:
            made += '"\\\\\\x00-\\x1F'
        if not negated and self._quoted and self._unquotable(items):
            raise self._cannot("a class of characters has a quote, a backslash or a control")
        return f"[{'^' if negated else ''}{made}]"

    @staticmethod
    def _unquotable(items: Sequence[Any]) -> bool:
        for kind, value in items:
            low, high = (value, value) if kind is sre.LITERAL else (0, 0)
            if kind is sre.RANGE:
                low, high = value
            elif kind is not sre.LITERAL:
                if value is sre.CATEGORY_SPACE:
                    return True
                continue
            if low < 0x20 or low <= 0x22 <= high or low <= 0x5C <= high:
                return True
        return False

    def _cannot(self, why: str) -> InvalidInput:
        return InvalidInput(
            f"The regular expression {self._pattern[:200]!r} cannot be used here: {why}.",
            "response_format",
        )


def _escaped(code: int) -> str:
    char = chr(code)
    if char in '\\]^-["':
        return "\\" + char
    if code < 0x20:
        return f"\\x{code:02X}"
    return char
