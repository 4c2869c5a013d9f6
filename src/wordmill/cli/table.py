"""Tables: columns padded, nothing cut off.

On a terminal that is too narrow the widest columns are wrapped; where there is none (`| grep`), a
row is a line.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap

_GAP = "  "
_NARROWEST = 8
"""A column is not made narrower than this."""


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], dull: Mapping[str, str] | None = None
) -> str:
    """Lines of columns, two spaces apart. Every row has as many cells as the head.

    dull: by column, the cell that says nothing; a column of nothing else is left out.
    """
    told = [i for i, name in enumerate(head) if {row[i] for row in rows} - {(dull or {}).get(name)}]
    cells = [[row[i] for i in told] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if sys.stdout and sys.stdout.isatty():
        _fit(widths, shutil.get_terminal_size().columns)
    return "\n".join(line for row in cells for line in _lines(row, widths))


def _fit(widths: list[int], room: int) -> None:
    """Take from the widest column until the line fits; the first, a name, stays whole."""
    room -= len(_GAP) * (len(widths) - 1)
    while sum(widths) > room and (widest := max(widths[1:], default=0)) > _NARROWEST:
        widths[widths.index(widest, 1)] -= 1


def _lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    wrapped = [
        wrap(cell, width, break_on_hyphens=False) if len(cell) > width else [cell]
        for cell, width in zip(row, widths, strict=True)
    ]
    return [
        _GAP.join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip()
        for parts in zip_longest(*wrapped, fillvalue="")
    ]
