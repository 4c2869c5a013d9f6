"""What people and models send, made safe for a database before it gets there.

Two evils: NUL, which PostgreSQL refuses, and lone surrogates, which are no characters and cannot
be encoded. From a person they are refused in words (`checked`); in what a model or a file of
somebody else's says they are replaced by U+FFFD (`cleaned`), because an answer must not be lost
to them. Infinite numbers and NaN, which JSON has not, go the same two ways.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from wordmill.errors import InvalidInput, NotFound

REPLACEMENT = "\ufffd"
DEEPEST = 64
"""How far lists and objects may be nested."""


def checked(text: object, field: str, most: int) -> str:
    """A text of at most `most` characters. Raises InvalidInput, with the place, for any other."""
    if not isinstance(text, str):
        raise InvalidInput(f"{field}: a text is wanted, not {_kind(text)}.", field)
    if len(text) > most:
        raise InvalidInput(f"{field}: {len(text):,} characters are more than the {most:,}.", field)
    place = text.find("\0")
    if place >= 0:
        raise InvalidInput(f"{field}: character {place + 1} is NUL. Take it out.", field)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{field}: character {error.start + 1} is a lone surrogate "
            f"(U+{ord(text[error.start]):X}), half of a character. Take it out.",
            field,
        ) from None
    return text


def checked_line(text: object, field: str, most: int) -> str:
    """A text on one line, its white space single and none around it."""
    return " ".join(checked(text, field, most).split())


def checked_id(kind: str, name: object) -> str:
    """An id that a database can be asked for. Raises NotFound for what none can be."""
    if isinstance(name, str) and name.isascii() and name.isprintable() and len(name) <= 64:
        return name
    raise NotFound(kind, cleaned(str(name))[:64])


def checked_json(value: object, field: str) -> Any:
    """A copy of what JSON can say. Raises InvalidInput for what it cannot."""
    return _copied(value, field, 0, clean=False)


def cleaned(text: str) -> str:
    """The text with NUL and lone surrogates replaced; halves that belong together are joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", REPLACEMENT)


def cleaned_json(value: object) -> Any:
    """A copy with its texts cleaned and what JSON cannot say as None."""
    return _copied(value, "", 0, clean=True)


def _copied(value: object, field: str, depth: int, *, clean: bool) -> Any:
    if isinstance(value, str):
        return cleaned(value) if clean else checked(value, field, len(value))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() < 64:
            return value
        if clean:
            return str(value)[:100]
        raise InvalidInput(f"{field}: a whole number beyond 64 bits. Write it as a text.", field)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if depth < DEEPEST and isinstance(value, Mapping):
        items = value.items()
        return {
            cleaned(str(key)) if clean else checked(key, field, 1000): _copied(
                item, field, depth + 1, clean=clean
            )
            for key, item in items
        }
    if depth < DEEPEST and isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_copied(item, field, depth + 1, clean=clean) for item in value]
    if clean:
        return None
    if depth >= DEEPEST:
        raise InvalidInput(f"{field}: nested deeper than {DEEPEST} levels.", field)
    raise InvalidInput(f"{field}: JSON cannot say {_kind(value)}.", field)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
