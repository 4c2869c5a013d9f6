"""A report as a PNG, for those who read in a chat: the charts of `report.json`, one below another.

The shapes are those of `datasets.charts`, so that the picture and the page say the same. A batch
has no report; its answers are counted here, and drawn alike.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final

from wordmill.batches import Batch
from wordmill.datasets.charts import Bars, Columns, HeatMap, bars
from wordmill.datasets.pages import count, plural
from wordmill.datasets.report import Drawn

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

WIDTH: Final = 1000
MARGIN: Final = 40
LINE: Final = 30
HIGH: Final = 110
"""Pixels of vertical bars."""
MOST_CHARTS: Final = 6
MOST_BARS: Final = 10
MOST_COLUMNS: Final = 4
"""Of a batch's answers, that are counted."""
MOST_VALUES: Final = 8
_LONGEST: Final = 60
_INK, _SOFT, _PAPER, _LINE = "#22252a", "#666b73", "#fffefb", "#e4e1d8"
_FILL, _TRACK, _WARN, _BAD, _GOOD = "#3d6b9c", "#f0eee7", "#b9852f", "#b2503f", "#4d8a62"
_FONTS: Final = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "Arial.ttf")
"""Looked for among the machine's: they have more letters than the one that Pillow brings."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture with its words."""

    title: str
    fact: str
    shape: Bars | Columns | HeatMap


def report_picture(drawn: Drawn) -> bytes:
    """A run: what became of its rows, and the first charts of each section of its report."""
    parts = (
        ("whole", drawn.whole, _GOOD),
        ("turned down", drawn.turned_down, _WARN),
        ("failed", drawn.failed, _BAD),
    )
    return _paint(f"{drawn.name}: {plural(drawn.rows, 'row')}", parts, _charts(drawn))


def batch_picture(batch: Batch, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A batch: how many lines were answered, why others failed, and the values that answers share.

    rows: the parts of its first answers.
    """
    counts = batch.counts
    parts = (("answered", counts.completed, _GOOD), ("failed", counts.failed, _BAD))
    charts = list(_counted(rows))
    if counts.causes:
        charts.insert(0, Chart("why lines failed", "", bars(counts.causes)))
    name = batch.dataset or "Batch"
    return _paint(f"{name}: {plural(counts.total, 'request')}", parts, charts)


def _charts(drawn: Drawn) -> list[Chart]:
    """The first of each section, then the second of each, in the report's order at the end."""
    sections = [
        [
            Chart(f"{card.name} {part.title}".strip(), ", ".join(part.facts), shape)
            for card in section.cards
            for part in card.pictures
            if (shape := part.bars or part.columns or part.openings) is not None
        ]
        for section in drawn.sections
    ]
    maps = [Chart(f"{one.down} by {one.across}", _empty(one), one) for one in drawn.maps]
    every = [*sections, maps]
    turns = (one for turn in zip_longest(*every) for one in turn if one is not None)
    taken = {id(one) for one, _ in zip(turns, range(MOST_CHARTS), strict=False)}
    return [one for one in chain(*every) if id(one) in taken]


def _empty(one: HeatMap) -> str:
    return f"{plural(one.empty, 'pair')} never met" if one.empty else "all pairs met"


def _counted(rows: Sequence[Mapping[str, Any]]) -> Iterator[Chart]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    found = 0
    for name in names:
        values = [row[name] for row in rows if isinstance(row.get(name), str | int | float | bool)]
        counts = Counter(str(value) for value in values)
        few = len(counts) <= MOST_VALUES or len(counts) <= min(3 * MOST_VALUES, len(values) // 2)
        if values and few and all(len(value) <= 2 * _LONGEST for value in counts):
            yield Chart(name, plural(len(counts), "different value"), bars(counts))
            found += 1
        if found == MOST_COLUMNS:
            return


class _Page:
    """Where the next thing is drawn. On a first pass nothing is: only its height is found."""

    def __init__(self, draw: "ImageDraw | None") -> None:
        self.draw, self.y = draw, MARGIN
        self.font, self.small, self.large = _font(19), _font(16), _font(26)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        colour: str = _INK,
        font: "FreeTypeFont | ImageFont | None" = None,
        anchor: str = "la",
    ) -> None:
        if self.draw is not None:
            self.draw.text((x, y), _line(words), colour, font or self.font, anchor)

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        if self.draw is not None and width > 0 and height > 0:
            self.draw.rectangle((x, y, x + max(width - 1, 0), y + max(height - 1, 0)), colour)


def _paint(title: str, parts: Sequence[tuple[str, int, str]], charts: Sequence[Chart]) -> bytes:
    from PIL import Image, ImageDraw  # a part of the extra `web`

    height = _lay(_Page(None), title, parts, charts)
    image = Image.new("RGB", (WIDTH, height), _PAPER)
    _lay(_Page(ImageDraw.Draw(image)), title, parts, charts)
    made = io.BytesIO()
    image.save(made, "PNG", optimize=True)
    return made.getvalue()


def _lay(
    page: _Page, title: str, parts: Sequence[tuple[str, int, str]], charts: Sequence[Chart]
) -> int:
    """Everything, from the top. Returns the height that it took."""
    wide = WIDTH - 2 * MARGIN
    page.text(MARGIN, page.y, _fitting(title, page.large, wide), font=page.large)
    page.y += 48
    _outcome(page, parts)
    for chart in charts:
        page.y += 14
        page.text(MARGIN, page.y, _fitting(chart.title, page.font, wide))
        page.y += 26
        if chart.fact:
            fact = _fitting(chart.fact, page.small, wide)
            page.text(MARGIN, page.y, fact, _SOFT, page.small)
            page.y += 28
        if isinstance(chart.shape, Bars):
            _bars(page, chart.shape)
        elif isinstance(chart.shape, Columns):
            _columns(page, chart.shape)
        else:
            _heat_map(page, chart.shape)
        page.y += 12
    return page.y + MARGIN - 12


def _outcome(page: _Page, parts: Sequence[tuple[str, int, str]]) -> None:
    wide, every = WIDTH - 2 * MARGIN, sum(n for _, n, _ in parts)
    x = float(MARGIN)
    page.box(x, page.y, wide, 14, _TRACK)
    for _, n, colour in parts:
        width = wide * n / every if every else 0.0
        page.box(x, page.y, width, 14, colour)
        x += width
    page.y += 24
    x = float(MARGIN)
    for name, n, colour in parts:
        words = f"{count(n)} {name}"
        page.box(x, page.y + 4, 12, 12, colour)
        page.text(x + 20, page.y, words, _SOFT, page.small)
        x += 60 + page.small.getlength(words)
    page.y += 32


def _bars(page: _Page, chart: Bars) -> None:
    left, right = 360, 110
    for bar in chart.bars[:MOST_BARS]:
        page.text(
            left - 16, page.y, _fitting(bar.label, page.font, left - 16 - MARGIN), anchor="ra"
        )
        wide = WIDTH - MARGIN - right - left
        page.box(left, page.y + 5, wide, 14, _TRACK)
        page.box(left, page.y + 5, wide * bar.width / 100, 14, _FILL)
        page.text(WIDTH - MARGIN, page.y, count(bar.n), _SOFT, anchor="ra")
        page.y += LINE
    hidden = chart.hidden + len(chart.bars[MOST_BARS:])
    if hidden:
        times = chart.hidden_n + sum(bar.n for bar in chart.bars[MOST_BARS:])
        words = f"and {plural(hidden, 'more value')}, {plural(times, 'time')} in all"
        page.text(left, page.y, words, _SOFT, page.small)
        page.y += LINE


def _columns(page: _Page, chart: Columns) -> None:
    wide, foot = WIDTH - 2 * MARGIN, page.y + HIGH
    for column in chart.columns:
        x, width = MARGIN + wide * column.x / 100, wide * column.width / 100
        high = max(HIGH * column.height / 100, 2.0) if column.n else 0.0
        page.box(x + 0.07 * width, foot - high, 0.86 * width, high, _FILL)
        if chart.ends is None:
            words = _fitting(column.label, page.small, width)
            page.text(x + width / 2, foot + 6, words, _SOFT, page.small, "ma")
    page.box(MARGIN, foot, wide, 2, _LINE)
    if chart.mark is not None:
        page.box(MARGIN + wide * chart.mark / 100, page.y, 2, HIGH, _WARN)
    if chart.ends is not None:
        page.text(MARGIN, foot + 6, chart.ends[0], _SOFT, page.small)
        page.text(WIDTH - MARGIN, foot + 6, chart.ends[1], _SOFT, page.small, "ra")
    page.y = foot + 32


def _heat_map(page: _Page, chart: HeatMap) -> None:
    left, high = 360, 26
    wide = (WIDTH - MARGIN - left) / max(len(chart.labels), 1)
    for n, name in enumerate(chart.labels):
        words = _fitting(name, page.small, wide - 6)
        page.text(left + (n + 0.5) * wide, page.y, words, _SOFT, page.small, "ma")
    page.y += 26
    for name, cells in chart.rows:
        page.text(left - 16, page.y, _fitting(name, page.font, left - 16 - MARGIN), anchor="ra")
        for n, (met, shade) in enumerate(cells):
            page.box(left + n * wide, page.y, wide - 2, high - 2, _mixed(shade / 100))
            colour = _PAPER if shade > 55 else _INK if met else _SOFT
            words = _fitting(count(met), page.small, wide - 4)
            page.text(left + (n + 0.5) * wide, page.y + 3, words, colour, page.small, "ma")
        page.y += high
    page.y += 6


def _mixed(share: float) -> str:
    """The colour between nothing (0) and all (1)."""
    low, high = ([int(c[n : n + 2], 16) for n in (1, 3, 5)] for c in (_TRACK, _FILL))
    return "#" + "".join(
        f"{round(a + (b - a) * share):02x}" for a, b in zip(low, high, strict=True)
    )


def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _fitting(text: str, font: "FreeTypeFont | ImageFont", width: float) -> str:
    """As much of a text as fits into that many pixels; what is left out is an ellipsis."""
    text = _line(text)
    if font.getlength(text) <= width:
        return text
    return _longest(text, lambda part: font.getlength(part + "…") <= width)


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
    return text[:low] + "…" if low else ""


def _line(text: str) -> str:
    """One line of what can be drawn: a control character or a direction mark never is."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 2 * _LONGEST else line[: 2 * _LONGEST - 1] + "…"
