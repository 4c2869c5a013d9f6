"""`uuid`: an identifier in the form of a random UUID (version 4), a function of seed and row.

    id: {type: uuid}

The same recipe gives the same identifiers; another seed or column name gives others.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from wordmill.columns.base import Column, Context, Filler
from wordmill.columns.sampling import Stream
from wordmill.types import CellError, Row, Value

_VERSION, _VERSION_MASK = 0x4000, ~0xF000
_VARIANT, _VARIANT_MASK = 1 << 63, (1 << 62) - 1


class Uuid(Column):
    """An identifier: 36 characters, lower case, with hyphens."""

    type: Literal["uuid"] = "uuid"

    def needs(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def prepare(self, context: Context) -> Filler:
        """The maker."""
        return _Uuids(Stream(context.seed, context.name))

    def value_schema(self) -> Mapping[str, Any]:
        """Text in the form of a UUID."""
        return {"type": "string", "format": "uuid"}


class _Uuids(Filler):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """An identifier a row, of two words."""
        words = self._stream.words([2 * row["row"] + half for row in rows for half in (0, 1)])
        identifiers: list[Value | CellError] = []
        for high, low in zip(words[::2], words[1::2], strict=True):
            high = high & _VERSION_MASK | _VERSION
            low = low & _VARIANT_MASK | _VARIANT
            text = f"{high:016x}{low:016x}"
            identifiers.append(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
        return identifiers
