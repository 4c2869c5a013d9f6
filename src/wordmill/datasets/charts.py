"""Numbers as shapes: positions and lengths in percent, for the report's templates to draw.

Nothing here knows HTML. A chart carries its labels and its counts, so that what is drawn can also
be read.
"""

import math
import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from wordmill.datasets.pages import count
from wordmill.datasets.sketches import Sample
from wordmill.types import Value

MOST_BARS: Final = 24
FEWER_BARS: Final = 8
"""Bars that are drawn where there are too many values to draw them all."""

MOST_COLUMNS: Final = 25
BINS: Final = 24


@dataclass(frozen=True, slots=True)
class Bar:
    """label: what it counts.  n: how often.  width: percent of the longest."""

    label: str
    n: int
    width: float


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars, the largest 100 wide.

    hidden: values that are not drawn; hidden_n: how often they came, all together.
    """

    bars: tuple[Bar, ...]
    hidden: int = 0
    hidden_n: int = 0


@dataclass(frozen=True, slots=True)
class Column:
    """A vertical bar at `x`, `width` wide and `height` high (percent)."""

    label: str
    n: int
    x: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Columns:
    """Vertical bars side by side.

    ends: what the left and the right edge stand for; empty where each bar has a label below.
    mark: where the median is, in percent, or None.  sampled: the counts are of a sample.
    """

    columns: tuple[Column, ...]
    ends: tuple[str, str] | None = None
    mark: float | None = None
    sampled: int = 0


@dataclass(frozen=True, slots=True)
class HeatMap:
    """How often the values of two columns met; shades from 0 to 100."""

    down: str
    across: str
    labels: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, int], ...]], ...]
    empty: int


def bars(counts: Mapping[Value, int], order: Sequence[Value] = ()) -> Bars:
    """Bars of counted values: in the given order, others after it by count.

    Where that makes more than `MOST_BARS`, only the most frequent `FEWER_BARS` are drawn.
    """
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], label(pair[0])))
    missing = [(value, 0) for value in order if value not in counts]
    if len(ranked) + len(missing) <= MOST_BARS:
        place = {value: n for n, value in enumerate(order)}
        ranked = sorted(ranked + missing, key=lambda pair: place.get(pair[0], len(place)))
        shown = ranked
    else:
        ranked += missing
        shown = ranked[:FEWER_BARS]
    top = max((n for _, n in shown), default=0) or 1
    return Bars(
        tuple(Bar(label(value), n, _width(n, top)) for value, n in shown),
        len(ranked) - len(shown),
        sum(n for _, n in ranked[len(shown) :]),
    )


def steps(counts: Mapping[int, int], low: int, high: int) -> Columns:
    """One vertical bar for each whole number from `low` to `high`."""
    top = max(counts.values(), default=0) or 1
    wide = 100 / (high - low + 1)
    return Columns(
        tuple(
            Column(count(n), counts.get(n, 0), k * wide, wide, 100 * counts.get(n, 0) / top)
            for k, n in enumerate(range(low, high + 1))
        )
    )


def histogram(sample: Sample[float], low: float, high: float, whole: bool) -> Columns:
    """Vertical bars over bins with round edges that hold `low` to `high`.

    whole: the numbers are integers, so a bin is at least 1 wide.
    """
    # Halves, and an edge that is a number: the largest floats have no sum and no double. Where
    # floats lie far apart, so do the edges.
    step = _round_up(2 * (high / 2 / BINS - low / 2 / BINS)) or 1.0
    step = math.ceil(step) if whole else step
    step = max(step, 4 * math.ulp(max(abs(low), abs(high))))
    start = math.floor(low / step)
    bins = max(math.floor(high / step) - start + 1, 1)
    ordered = sorted(sample.items)
    most = sys.float_info.max
    edges = [max(-most, min(most, (start + k) * step)) for k in range(bins + 1)]
    cuts = [bisect_left(ordered, edge) for edge in edges]
    cuts[-1] = len(ordered)
    counts = [after - before for before, after in pairwise(cuts)]
    top = max(counts, default=0) or 1
    wide = 100 / bins
    median = ordered[(len(ordered) - 1) // 2]
    middle = (median + (step / 2 if whole and step == 1 else 0.0)) / 2
    return Columns(
        tuple(
            Column(_interval(edges[k], edges[k + 1], whole), n, k * wide, wide, 100 * n / top)
            for k, n in enumerate(counts)
        ),
        ends=(count(edges[0]), count(edges[-1] - 1 if whole else edges[-1])),
        mark=min(100 * ((middle - edges[0] / 2) / (edges[-1] / 2 - edges[0] / 2)), 100.0),
        sampled=len(ordered) if sample.seen > len(ordered) else 0,
    )


def heat_map(
    pair: tuple[str, str],
    counts: Mapping[tuple[Value, Value], int],
    values: tuple[Sequence[Value], Sequence[Value]],
) -> HeatMap:
    """A table of two columns' values; the shorter list goes across, as a page is narrow."""
    (down, across), (rows, columns) = pair, values
    if len(rows) < len(columns):
        counts = {(b, a): n for (a, b), n in counts.items()}
        (across, down), (columns, rows) = pair, values
    top = max(counts.values(), default=0) or 1
    lines = tuple(
        (
            label(row),
            tuple(
                (n, round(100 * n / top))
                for n in (counts.get((row, column), 0) for column in columns)
            ),
        )
        for row in rows
    )
    return HeatMap(
        down,
        across,
        tuple(label(column) for column in columns),
        lines,
        sum(not n for _, cells in lines for n, _ in cells),
    )


def quantile(ordered: Sequence[float], q: float) -> float:
    """The number that a fraction `q` of a sorted, non-empty sequence does not exceed."""
    return ordered[min(math.ceil(q * len(ordered)), len(ordered)) - 1 if q > 0 else 0]


def label(value: Value) -> str:
    """A value as a chart names it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return count(value)
    if value is None:
        return "null"
    text = " ".join(str(value).split())
    return (text if len(text) <= 60 else text[:57] + "...") or "(empty)"


def _width(n: int, top: int) -> float:
    """Percent; what is there at all can be seen."""
    return max(100 * n / top, 0.6) if n else 0.0


def _round_up(step: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    if step <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * (1 - 1e-9))


def _interval(low: float, high: float, whole: bool) -> str:
    if whole and high - low == 1:
        return count(low)
    return f"{count(low)} to {count(high - 1 if whole else high)}"
