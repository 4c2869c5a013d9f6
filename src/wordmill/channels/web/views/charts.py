"""Distributions of columns: bars for what has few values, steps for numbers and lengths."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import altair
import pandas
import streamlit as st

from wordmill.channels.web import parts
from wordmill.channels.web.views import record

_MOST_VALUES: Final = 50
_HEIGHT: Final = 240
_BAR: Final = 18
"""Pixels of the height of a chart, and of a bar with its label."""
_LEFT_OUT: Final = frozenset({"row", "id", "item", "kept"})
Texts = Callable[[str], str]
Rows = list[Mapping[str, Any]]


def few(rows: Rows, column: str) -> bool:
    """Whether a column has so few values that they can be chosen from, and more than one."""
    seen: set[str] = set()
    for row in rows:
        value = record.plain(row[column])
        if isinstance(value, dict | list):
            return False
        seen.add(str(value))
        if len(seen) > _MOST_VALUES:
            return False
    return len(seen) > 1


def numeric(rows: Rows, column: str) -> bool:
    """Whether all values of a column are numbers, and not all the same."""
    values = {row[column] for row in rows[:2000] if isinstance(row[column], int | float)}
    kinds = {type(row[column]) for row in rows[:2000] if row[column] is not None}
    return len(values) > 1 and kinds <= {int, float} and column != "row"


def show(rows: Rows, _: Texts) -> None:
    """Draw a chart for each column that has something to show, two in a line."""
    drawn = [chart for name, values in _series(rows) if (chart := _chart(name, values, _))]
    if not drawn:
        st.caption(_("Nothing was found."))
        return
    for start in range(0, len(drawn), 2):
        for column, chart in zip(st.columns(2), drawn[start : start + 2], strict=False):
            column.altair_chart(chart, width="stretch")


def _series(rows: Rows) -> Iterator[tuple[str, list[Any]]]:
    """Columns and their values; of a column with scores, each score."""
    for name in rows[0] if rows else ():
        if name in _LEFT_OUT:
            continue
        values = [value for row in rows if (value := record.plain(row[name])) is not None]
        if not values or isinstance(values[0], list):
            continue
        if not isinstance(values[0], dict):
            yield name, values
            continue
        for part, first in values[0].items():
            if isinstance(first, int | float):
                inner = [value[part] for value in values if value.get(part) is not None]
                yield f"{name}: {part}", inner


def _chart(name: str, values: list[Any], _: Texts) -> altair.Chart | None:
    different = set(map(str, values[:5000]))
    if len(different) < 2:
        return None
    label = parts.words(name)
    if len(different) <= _MOST_VALUES and not isinstance(values[0], float):
        return _bars(label, values, _)
    if isinstance(values[0], str):
        return _steps(
            _("{column}, characters").format(column=label), [len(value) for value in values], _
        )
    return _steps(label, [value for value in values if isinstance(value, int | float)], _)


def _bars(label: str, values: list[Any], _: Texts) -> altair.Chart:
    counts: dict[str, int] = {}
    for value in values:
        counts[str(value)] = counts.get(str(value), 0) + 1
    data = pandas.DataFrame({"value": list(counts), "count": list(counts.values())})
    numbers = all(isinstance(value, int) for value in values)
    chart: altair.Chart = (
        altair.Chart(
            data, title=altair.Title(label, anchor="start"), height=max(80, _BAR * len(counts))
        )
        .mark_bar()
        .encode(
            x=altair.X("count:Q", title=None),
            y=altair.Y(
                "value:N", sort="ascending" if numbers else "-x", title=None,
                axis=altair.Axis(labelLimit=160),
            ),
            tooltip=[
                altair.Tooltip("value:N", title=_("Value")),
                altair.Tooltip("count:Q", title=_("Rows")),
            ],
        )
    )  # fmt: skip
    return chart


def _steps(label: str, numbers: list[float], _: Texts) -> altair.Chart:
    data = pandas.DataFrame({"value": numbers})
    chart: altair.Chart = (
        altair.Chart(data, title=altair.Title(label, anchor="start"), height=_HEIGHT)
        .mark_bar()
        .encode(
            x=altair.X("value:Q", bin=altair.Bin(maxbins=30), title=None),
            y=altair.Y("count()", title=None),
            tooltip=[altair.Tooltip("count()", title=_("Rows"))],
        )
    )
    return chart
