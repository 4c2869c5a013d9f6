"""The page to look at what was made: runs, their rows, distributions, and one row whole."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import altair
import pandas
import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.datasets.reading import Dataset
from wordmill.errors import StorageError
from wordmill.runs.desk import Desk

MOST: Final = 20_000
"""Rows that are held for filters and charts; of a larger dataset the first ones."""
_FORMS: Final = {
    "jsonl": "jsonl",
    "csv": "csv",
    "parquet": "parquet",
    "sft": "jsonl",
    "dpo": "jsonl",
}
Texts = Callable[[str], str]


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    st.title(_("Explore"), anchor=False)
    desk = house.desk(who)
    runs = [run for run in desk.registry.all() if run.state != "running"]
    if not runs:
        st.info(_("There is nothing to see yet: the page Generate makes the first run."))
        return
    run = st.selectbox(
        _("Run"), runs, format_func=lambda one: f"{one.id} ({one.created:%Y-%m-%d %H:%M})"
    )
    with parts.said():
        try:
            dataset = desk.dataset(run.id)
        except StorageError:
            st.info(_("This run has written no dataset yet."))
            return
        _about(dataset, _)
        table, rows = _chosen(dataset, _)
        shown = _filtered(rows, _)
        st.dataframe([_flat(row) for row in shown[:1000]], hide_index=True, width="stretch")
        st.caption(
            _("{shown} of {all} rows").format(
                shown=f"{len(shown):,}", all=f"{dataset.table(table).count:,}"
            )
        )
        views = st.tabs([_("Distributions"), _("One row"), _("Recipe"), _("Download")])
        with views[0]:
            _charts(shown, _)
        with views[1]:
            _one(desk, run.id, dataset, shown, _)
        with views[2]:
            st.code(desk.recipe_of(run.id), language="yaml")
        with views[3]:
            _download(house, who, run.id, _)


def _about(dataset: Dataset, _: Texts) -> None:
    manifest = dataset.manifest
    facts = (
        (_("Rows"), f"{manifest.rows.made:,}"),
        (_("Turned down"), f"{manifest.rows.turned_down:,}"),
        (_("Failed cells"), f"{manifest.rows.failed_cells:,}"),
        (_("Requests"), f"{manifest.requests.sent:,}"),
        (_("Money"), parts.money(manifest.money)),
    )
    row = st.container(horizontal=True, gap="large")
    for label, value in facts:
        row.metric(label, value, width="content")
    if dataset.rehearsed:
        st.warning(
            _("{count} rows hold answers of the rehearsal model: they mean nothing.").format(
                count=f"{dataset.rehearsed:,}"
            )
        )


def _chosen(dataset: Dataset, _: Texts) -> tuple[str, list[Mapping[str, Any]]]:
    names = list(dataset.tables)
    name = names[0]
    if len(names) > 1:
        name = st.segmented_control(_("Table"), names, default=names[0]) or names[0]
    rows: list[Mapping[str, Any]] = []
    for row in dataset.table(name).rows():
        rows.append(row)
        if len(rows) == MOST:
            break
    return name, rows


def _filtered(rows: list[Mapping[str, Any]], _: Texts) -> list[Mapping[str, Any]]:
    left, right = st.columns(2)
    words = left.text_input(_("Search in all cells"), key="explore search")
    columns = [name for name in (rows[0] if rows else {}) if _few(rows, name)]
    column = right.selectbox(_("Only where"), columns, index=None)
    if column:
        values = sorted({str(row[column]) for row in rows})
        wanted = st.multiselect(column, values)
        if wanted:
            rows = [row for row in rows if str(row[column]) in wanted]
    if words:
        low = words.casefold()
        rows = [
            row
            for row in rows
            if low in json.dumps(row, ensure_ascii=False, default=str).casefold()
        ]
    return rows


def _few(rows: list[Mapping[str, Any]], column: str) -> bool:
    """Whether a column has so few values that they can be chosen from."""
    seen: set[str] = set()
    for row in rows:
        value = row[column]
        if isinstance(value, dict | list):
            return False
        seen.add(str(value))
        if len(seen) > 50:
            return False
    return len(seen) > 1


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        for name, value in row.items()
    }


def _charts(rows: list[Mapping[str, Any]], _: Texts) -> None:
    """A bar chart for what has few values, a histogram for numbers, lengths for texts."""
    if not rows:
        st.caption(_("Nothing was found."))
        return
    drawn = [chart for name in rows[0] if name != "row" and (chart := _chart(rows, name, _))]
    for start in range(0, len(drawn), 2):
        for column, chart in zip(st.columns(2), drawn[start : start + 2], strict=False):
            column.altair_chart(chart, width="stretch")


def _chart(rows: list[Mapping[str, Any]], name: str, _: Texts) -> altair.Chart | None:
    values = [row[name] for row in rows if row[name] is not None]
    if not values or isinstance(values[0], dict | list):
        return None
    title = altair.Title(name)
    if isinstance(values[0], bool) or _few(rows, name):
        counts: dict[str, int] = {}
        for value in values:
            counts[str(value)] = counts.get(str(value), 0) + 1
        data = pandas.DataFrame({"value": list(counts), "count": list(counts.values())})
        bars: altair.Chart = (
            altair.Chart(data, title=title)
            .mark_bar()
            .encode(
                x=altair.X("count:Q", title=None),
                y=altair.Y("value:N", sort="-x", title=None),
                tooltip=["value:N", "count:Q"],
            )
        )
        return bars
    numbers = [value if isinstance(value, int | float) else len(str(value)) for value in values]
    if isinstance(values[0], str):
        title = altair.Title(_("{column}, characters").format(column=name))
    data = pandas.DataFrame({"value": numbers})
    steps: altair.Chart = (
        altair.Chart(data, title=title)
        .mark_bar()
        .encode(
            x=altair.X("value:Q", bin=altair.Bin(maxbins=30), title=None),
            y=altair.Y("count()", title=None),
        )
    )
    return steps


def _one(desk: Desk, run: str, dataset: Dataset, rows: list[Mapping[str, Any]], _: Texts) -> None:
    """One row of the main table whole: its values, what failed, where each cell came from."""
    if not rows:
        return
    numbers = sorted({row["row"] for row in rows})
    number = st.selectbox(_("Row"), numbers, key="explore row")
    found = desk.rows(run, 1, 1, row=number).records
    if not found:
        return
    record = found[0]
    for name, value in record["values"].items():
        st.markdown(f"**{parts.plain(name)}**")
        if isinstance(value, str):
            st.markdown(parts.markdown(value))
        else:
            st.json(value, expanded=2)
    for name, words in record["errors"].items():
        st.error(parts.plain(f"{name}: {words}"))
    with st.expander(_("Where it came from"), icon=":material/account_tree:"):
        st.json(record["lineage"], expanded=1)


def _download(house: House, who: Person, run: str, _: Texts) -> None:
    form = st.selectbox(_("Format"), list(_FORMS))
    if st.button(_("Make the file")):
        with parts.said(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{run}.{_FORMS[form]}"
            done = house.desk(who).export(run, form, path)
            st.caption(parts.plain(done.sentence()))
            files = [path] if path.is_file() else sorted(path.rglob("*"))
            for file in files:
                st.download_button(file.name, file.read_bytes(), file_name=file.name, key=str(file))
