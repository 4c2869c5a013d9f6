"""The page to look at what was made: runs, their rows, distributions, and one row whole."""

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.channels.web.views import charts, record
from wordmill.channels.web.views.generate import state
from wordmill.datasets.reading import Dataset
from wordmill.errors import StorageError
from wordmill.runs.desk import Desk

MOST: Final = 20_000
"""Rows that are held for filters and charts; of a larger dataset the first ones."""
SHOWN: Final = 1000
_FORMS: Final = {
    "jsonl": "jsonl",
    "csv": "csv",
    "parquet": "parquet",
    "sft": "jsonl",
    "dpo": "jsonl",
}
_HIDDEN: Final = frozenset({"lineage", "errors", "error"})
Texts = Callable[[str], str]
Rows = list[Mapping[str, Any]]


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    st.title(_("Explore"), anchor=False)
    desk = house.desk(who)
    runs = {run.id: run for run in desk.registry.all() if run.state != "running"}
    if not runs:
        st.info(_("There is nothing to see yet: the page Generate makes the first run."))
        place.link("generate", _("Generate"), ":material/factory:")
        return
    asked = st.query_params.get("run")
    run = st.selectbox(
        _("Run"), list(runs), index=list(runs).index(asked) if asked in runs else 0,
        format_func=lambda one: f"{one}, {runs[one].created:%Y-%m-%d %H:%M}, {state(runs[one], _)}",
    )  # fmt: skip
    with parts.said():
        try:
            dataset = desk.dataset(run)
        except StorageError:
            st.info(_("This run has written no dataset yet."))
            return
        _about(dataset, _)
        table, rows = _chosen(run, dataset, _)
        shown = _filtered(rows, _)
        picked = _table(shown, dataset.table(table).count, table, _)
        views = st.tabs([_("One row"), _("Distributions"), _("Recipe"), _("Download")])
        with views[0]:
            _one(desk, run, shown, picked, _)
        with views[1]:
            charts.show(shown, _)
        with views[2]:
            st.code(desk.recipe_of(run), language="yaml")
        with views[3]:
            _download(house, who, run, _)


def _about(dataset: Dataset, _: Texts) -> None:
    manifest = dataset.manifest
    facts = (
        (_("Rows"), f"{manifest.rows.made:,}"),
        (_("Turned down"), f"{manifest.rows.turned_down:,}"),
        (_("Failed cells"), f"{manifest.rows.failed_cells:,}"),
        (_("Requests"), f"{manifest.requests.sent:,}"),
        (_("Money"), parts.plain(parts.money(manifest.money))),
    )
    row = st.container(horizontal=True, gap="medium", key="facts")
    for label, value in facts:
        row.metric(label, value, width="content")
    if dataset.rehearsed:
        st.warning(
            _("{count} rows hold answers of the rehearsal model: they mean nothing.").format(
                count=f"{dataset.rehearsed:,}"
            ),
            icon=":material/theater_comedy:",
        )


def _chosen(run: str, dataset: Dataset, _: Texts) -> tuple[str, Rows]:
    names = list(dataset.tables)
    name = names[0]
    if len(names) > 1:
        name = st.segmented_control(_("Table"), names, default=names[0]) or names[0]
    # Kept for the next click: reading twenty thousand rows takes longer than all the rest.
    key = (run, name, dataset.manifest.rows.made, dataset.manifest.ended)
    held = st.session_state.get("explored")
    if held is None or held[0] != key:
        rows: Rows = []
        for row in dataset.table(name).rows():
            rows.append(row)
            if len(rows) == MOST:
                break
        held = st.session_state["explored"] = (key, rows)
    return name, held[1]


def _filtered(rows: Rows, _: Texts) -> Rows:
    left, right = st.columns(2)
    words = left.text_input(
        _("Search in all cells"), key="explore search", icon=":material/search:"
    )
    few = [name for name in (rows[0] if rows else {}) if charts.few(rows, name)]
    numbers = [name for name in (rows[0] if rows else {}) if charts.numeric(rows, name)]
    columns = right.multiselect(
        _("Only where"), [*few, *(name for name in numbers if name not in few)],
        placeholder=_("any column"), format_func=parts.label,
    )  # fmt: skip
    for name in columns:
        if name in few:
            values = sorted({str(record.plain(row[name])) for row in rows})
            wanted = st.multiselect(parts.label(name), values, placeholder=_("any value"))
            if wanted:
                rows = [row for row in rows if str(record.plain(row[name])) in wanted]
        else:
            found = [row[name] for row in rows if row[name] is not None]
            low, high = float(min(found)), float(max(found))
            chosen = st.slider(parts.label(name), low, high, (low, high))
            rows = [row for row in rows if row[name] is not None and _within(row[name], chosen)]
    if words:
        low_words = words.casefold()
        rows = [row for row in rows if low_words in _text(row)]
    return rows


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _text(row: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in row.items() if name not in _HIDDEN}
    return json.dumps(kept, ensure_ascii=False, default=str).casefold()


def _table(rows: Rows, everything: int, table: str, _: Texts) -> int | None:
    """Draw the rows; the number of the one that was clicked."""
    if not rows:
        st.caption(_("Nothing was found."))
        return None
    drawn = rows[:SHOWN]
    empty = {name for name in drawn[0] if all(row[name] is None for row in drawn)}
    event = st.dataframe(
        [_flat(row, empty) for row in drawn],
        hide_index=True,
        width="stretch",
        on_select="rerun",
        selection_mode="single-row",
        key=f"table {table}",
    )
    words = _("{shown} of {all} rows").format(shown=f"{len(rows):,}", all=f"{everything:,}")
    if len(rows) > SHOWN:
        words += ". " + _("The first {count} are drawn.").format(count=f"{SHOWN:,}")
    if everything > MOST:
        words += " " + _("Filters and charts see the first {count}.").format(count=f"{MOST:,}")
    st.caption(words)
    chosen = [one for one in event["selection"]["rows"] if one < len(drawn)]
    return int(drawn[chosen[0]]["row"]) if chosen else None


def _flat(row: Mapping[str, Any], empty: set[str]) -> dict[str, Any]:
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        for name, value in ((name, record.plain(value)) for name, value in row.items())
        if name not in _HIDDEN and name not in empty
    }


def _one(desk: Desk, run: str, rows: Rows, picked: int | None, _: Texts) -> None:
    """One row of the main table whole: its values, what failed, where each cell came from."""
    if not rows:
        st.caption(_("Nothing was found."))
        return
    numbers = sorted({row["row"] for row in rows})
    if picked is not None and picked != st.session_state.get("picked"):
        st.session_state["explore row"] = picked
    st.session_state["picked"] = picked
    if st.session_state.get("explore row") not in numbers:
        st.session_state.pop("explore row", None)
    number = st.selectbox(
        _("Row"), numbers, key="explore row", width=200,
        help=_("A click at the beginning of a line of the table chooses it too."),
    )  # fmt: skip
    found = desk.rows(run, 1, 1, row=number).records
    if not found:
        return
    record.show(found[0], _)
    with st.expander(_("Where it came from"), icon=":material/account_tree:", expanded=False):
        st.caption(_("The model, the request and the answer behind each cell."))
        st.json(found[0]["lineage"], expanded=2)


def _download(house: House, who: Person, run: str, _: Texts) -> None:
    form = st.selectbox(_("Format"), list(_FORMS), width=300)
    if st.button(_("Make the file"), icon=":material/draft:"):
        with parts.said(), st.spinner(_("Writing ...")):
            st.session_state["made"] = (run, form, *_made(house, who, run, form))
    made = st.session_state.get("made")
    if made is not None and made[:2] == (run, form):
        _run, _form, name, data, sentence = made
        st.caption(parts.plain(sentence))
        st.download_button(name, data, file_name=name, icon=":material/download:", type="primary")


def _made(house: House, who: Person, run: str, form: str) -> tuple[str, bytes, str]:
    """The rows in a form: a file's name, its bytes (several files are zipped), what was done."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{run}.{_FORMS[form]}"
        done = house.desk(who).export(run, form, path)
        sentence = done.sentence().replace(f"{folder}/", "")
        if path.is_file():
            return path.name, path.read_bytes(), sentence
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(one for one in Path(folder).rglob("*") if one.is_file()):
                archive.write(file, file.relative_to(folder))
        return f"{run}-{form}.zip", packed.getvalue(), sentence
