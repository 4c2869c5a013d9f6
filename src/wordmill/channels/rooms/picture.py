"""A dataset at a glance, as a PNG: how often which values came, for those who read in a chat."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

WIDTH: Final = 900
LINE: Final = 30
MOST_COLUMNS: Final = 4
MOST_VALUES: Final = 8
_LONGEST: Final = 36
_INK, _PAPER, _BAR, _PALE = "#1f2430", "#ffffff", "#4c72b0", "#8a93a6"


def picture(title: str, rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Bars of the columns with few different values; None where there is no such column.

    rows: values by column. Of each column the values that came most are drawn.
    """
    counted = _counted(rows)
    if not counted:
        return None
    from PIL import Image, ImageDraw, ImageFont  # a part of the extra `web`

    lines = sum(len(values) + 2 for _, values in counted) + 2
    image = Image.new("RGB", (WIDTH, lines * LINE), _PAPER)
    draw = ImageDraw.Draw(image)
    font, bold = ImageFont.load_default(17), ImageFont.load_default(21)
    draw.text((24, LINE // 2), _line(title), _INK, bold)
    y = 2 * LINE
    for name, values in counted:
        draw.text((24, y), _line(name), _INK, bold)
        y += LINE
        most = max(number for _, number in values)
        for value, number in values:
            draw.text((24, y), _line(value), _INK, font)
            length = max(2, int((WIDTH - 480) * number / most))
            draw.rectangle((380, y + 3, 380 + length, y + LINE - 9), _BAR)
            draw.text((390 + length, y), f"{number:,}", _PALE, font)
            y += LINE
        y += LINE
    made = io.BytesIO()
    image.save(made, "PNG")
    return made.getvalue()


def _counted(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, int]]]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    found = []
    for name in names:
        values = [row[name] for row in rows if isinstance(row.get(name), str | int | float | bool)]
        counts = Counter(str(value) for value in values)
        few = len(counts) <= MOST_VALUES or len(counts) <= min(3 * MOST_VALUES, len(values) // 2)
        if values and few and all(len(value) <= 2 * _LONGEST for value in counts):
            found.append((name, counts.most_common(MOST_VALUES)))
    return found[:MOST_COLUMNS]


def _line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
