"""The page that starts runs: a recipe by form or as YAML, a preview, its cost, its progress.

A run is a job of the server: leaving the page stops nothing.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.channels.web.views import record
from wordmill.models import REHEARSAL, checked
from wordmill.recipes import Recipe
from wordmill.runs.desk import Desk, Wish
from wordmill.runs.registry import Run
from wordmill.runs.show import by_cause, duration

OWN: Final = "own"
SHOWN: Final = 10
MOST_DRAWN: Final = 1000
"""Rows that can be picked from by hand."""
_OPEN: Final = ("created", "running")
_STARTER: Final = """\
name: notes
columns:
  mood: {type: category, values: [calm, angry, curious]}
  note: {type: prompt, prompt: "Write a short note in a {{ mood }} voice."}
"""
Texts = Callable[[str], str]


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    st.title(_("Generate"), anchor=False)
    wish = _wished(house, who, _)
    if wish is not None:
        _go(house, who, wish, _)
    st.subheader(_("Runs"), anchor=False)
    busy = any(run.state in _OPEN for run in house.desk(who).registry.all()[:SHOWN])
    # While something is at work the list alone is drawn anew every second.
    st.fragment(_runs, run_every=1.0 if busy else None)()


def _wished(house: House, who: Person, _: Texts) -> Wish | None:
    """The forms; None while what they hold is no recipe."""
    desk = house.desk(who)
    text = _recipe_text(desk, _)
    try:
        with parts.said_again():
            recipe = desk.read(Wish(recipe=text))
    except parts.Said:
        return None
    if text != recipe.name:
        st.caption(" ".join((":material/check:", _("This is a recipe."), _columns(recipe, _))))
    elif recipe.description:
        st.caption(parts.plain(f"{recipe.description} {_columns(recipe, _)}"))
    left, right = st.columns(2)
    rest = _rest(desk, recipe, left, _)
    picked = _picked(desk, rest, recipe, _) if rest is not None else ()
    most = len(picked) or (rest.rows if rest is not None else 20)
    rows = left.number_input(
        _rows_label(recipe, _), min_value=1, value=most,
        key=f"rows {rest.id if rest else ''} {len(picked)}",
    )  # fmt: skip
    values = _parameters(recipe, left, _)
    model = _model(house, who, recipe, right, _)
    seed = right.number_input(
        _("Seed"), value=recipe.seed, step=1, key=f"seed {recipe.name}",
        help=_("The same seed deals the same combinations."),
    )  # fmt: skip
    budget = right.text_input(
        _("Budget"), placeholder="5usd, 1000requests", help=_("A ceiling; empty for none.")
    )
    return Wish(
        recipe=text, rows=int(rows), parameters=values, model=model, seed=int(seed),
        budget=budget, rest_of=rest.id if rest else None,
        picked=picked,
    )  # fmt: skip


def _recipe_text(desk: Desk, _: Texts) -> str:
    """The name of a built-in recipe, or the YAML of one's own."""
    built_in = desk.recipes()
    chosen = st.segmented_control(
        _("Recipe"), [*built_in, OWN], default=built_in[0],
        format_func=lambda one: _("My own, as YAML") if one == OWN else one,
    )  # fmt: skip
    if chosen != OWN:
        return chosen or built_in[0]
    text: str = st.text_area(
        _("Recipe"), _STARTER, height=280, key="yaml",
        help=_("It is checked as you leave the field."),
    )  # fmt: skip
    return text


def _columns(recipe: Recipe, _: Texts) -> str:
    return _("Columns: {names}.").format(names=", ".join(recipe.columns))


def _rows_label(recipe: Recipe, _: Texts) -> str:
    return _("Number of {things}").format(things=recipe.table or _("rows"))


def _model(house: House, who: Person, recipe: Recipe, where: Any, _: Texts) -> str:
    """The model that is asked, and a key where it lacks one."""
    names = house.catalog.names()
    first = recipe.model or house.settings.default_model or REHEARSAL.name
    if added := st.session_state.pop("next run model", None):
        st.session_state["run model"] = added
    model: str = where.selectbox(
        _("Model"), names, index=names.index(first) if first in names else 0, key="run model"
    )
    if not house.has_key(who, model):
        key = where.text_input(
            _("API key for {model}").format(model=model), type="password", key=f"key {model}",
            help=_("Stored encrypted, used for you alone."),
        )  # fmt: skip
        if key:
            with parts.said():
                house.accounts.provider_keys.set(who, model, key)
                st.rerun()
    if who.admin:
        with where.expander(_("With an OpenAI key"), icon=":material/key:"):
            _openai(house, who, _)
    return model


def _openai(house: House, who: Person, _: Texts) -> None:
    """A key and the name of a model are enough to ask OpenAI."""
    with st.form("openai", border=False):
        model = st.text_input(_("Model"), "gpt-4o-mini")
        key = st.text_input(
            _("OpenAI key"), type="password", help=_("Stored encrypted, used for you alone.")
        )
        if st.form_submit_button(_("Use it")):
            with parts.said():
                if model not in house.catalog.names():
                    made = {"name": model, "provider": "openai", "model": model}
                    house.add_model(who, checked(made))
                house.accounts.provider_keys.set(who, model, key)
                st.session_state["next run model"] = model
                st.rerun()


def _parameters(recipe: Recipe, where: Any, _: Texts) -> Mapping[str, Any]:
    """A field for each parameter that the recipe declares."""
    values: dict[str, Any] = {}
    for name, parameter in recipe.declared.items():
        key, words = f"parameter {recipe.name} {name}", parameter.help or None
        label = parts.label(name)
        now = parameter.default
        if parameter.type == "boolean":
            told = f"**{label}**: {parts.plain(words)}" if words else label
            values[name] = where.toggle(told, bool(now), key=key)
        elif parameter.type == "choice":
            options = list(parameter.choices or ())
            index = options.index(now) if now in options else 0
            values[name] = where.selectbox(label, options, index=index, help=words, key=key)
        elif parameter.type in ("integer", "number"):
            kind = int if parameter.type == "integer" else float
            values[name] = where.number_input(
                label,
                min_value=None if parameter.min is None else kind(parameter.min),
                max_value=None if parameter.max is None else kind(parameter.max),
                value=kind(now) if now is not None else kind(parameter.min or 0),
                help=words,
                key=key,
            )
        else:
            values[name] = where.text_input(label, str(now or ""), help=words, key=key)
    return values


def _rest(desk: Desk, recipe: Recipe, where: Any, _: Texts) -> Run | None:
    """An earlier run of the recipe that is gone on from: scenarios without actions, say."""
    earlier = {
        run.id: run
        for run in desk.registry.all()
        if run.name == recipe.name and run.state not in _OPEN
    }
    if not earlier:
        return None
    things = recipe.table or _("rows")
    chosen = where.selectbox(
        _("Begin with {things} of an earlier run").format(things=things),
        list(earlier), index=None, key=f"rest {recipe.name}", placeholder=_("none, all are new"),
        help=_("Rows of an earlier run: what they have is kept, what they lack is made, as the "
               "actions of scenarios."),
        format_func=lambda one: _earlier(earlier[one], _),
    )  # fmt: skip
    return earlier[chosen] if chosen else None


def _earlier(run: Run, _: Texts) -> str:
    if lacking := _lacks(run):
        return _("{run}: {count} lack something").format(run=run.id, count=f"{lacking:,}")
    return _("{run}: {count} rows").format(run=run.id, count=f"{run.rows:,}")


def _picked(desk: Desk, run: Run, recipe: Recipe, _: Texts) -> tuple[int, ...]:
    """The numbers of the rows that are clicked in a table of them; () for all."""
    page = desk.rows_after(run.id, -1, MOST_DRAWN)
    if not page.records:
        return ()
    things = recipe.table or _("rows")
    event = st.dataframe(
        [_short(one) for one in page.records], hide_index=True, width="stretch",
        on_select="rerun", selection_mode="multi-row", key=f"picked {run.id}",
    )  # fmt: skip
    numbers = [int(str(one["row"])) for one in page.records]
    picked = tuple(numbers[place] for place in event["selection"]["rows"] if place < len(numbers))
    words = _("Tick the {things} to go on with; none ticked is all {count}.")
    if picked:
        words = _("{picked} of {count} {things} are picked.")
    st.caption(
        words.format(things=things, count=f"{page.total:,}", picked=f"{len(picked):,}")
        + (" " + _("The first {count} are drawn.").format(count=f"{MOST_DRAWN:,}")
           if page.total > MOST_DRAWN else "")
    )  # fmt: skip
    return picked


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a line: its number, of lists how much they hold, of the rest the value."""
    cells = {name: record.plain(value) for name, value in row["values"].items()}
    return {"row": row["row"]} | {
        name: len(value) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)
        if isinstance(value, dict) else value
        for name, value in cells.items()
    }  # fmt: skip


def _lacks(run: Run) -> int:
    """Rows of a run that were begun or asked for, and are not whole."""
    counts = run.counts

    def number(name: str) -> int:
        found = counts.get(name, 0)
        return int(found) if isinstance(found, int | float) else 0

    return max(0, run.rows - number("ended")) + number("failed_rows")


def _go(house: House, who: Person, wish: Wish, _: Texts) -> None:
    try:
        with parts.said_again():
            st.info(parts.plain(house.desk(who).estimate(wish)), icon=":material/calculate:")
    except parts.Said:
        return
    if wish.model and house.rehearses(who, wish.model):
        st.caption(_("The rehearsal model makes up its words: good to try things out."))
    row = st.container(horizontal=True)
    preview = row.button(_("Preview two rows"), icon=":material/visibility:")
    if row.button(_("Start"), icon=":material/play_arrow:", type="primary"):
        with parts.said():
            run = house.start_run(who, wish)
            st.toast(_("Started as {run}.").format(run=run.id))
    if preview:
        with parts.said(), st.spinner(_("Asking ...")):
            seen = house.preview(who, wish, 2)
            for one in seen.records:
                with st.container(border=True):
                    st.caption(_("row {number}").format(number=one["row"]))
                    record.show(one, _)


def _runs() -> None:
    """The newest runs."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    found = house.desk(who).registry.all()[:SHOWN]
    if not found:
        st.caption(_("None yet."))
    for run in found:
        _run(house, who, run, _)
    busy = any(run.state in _OPEN for run in found)
    if st.session_state.get("runs at work") and not busy:
        st.session_state["runs at work"] = False
        st.rerun()
    st.session_state["runs at work"] = busy


def _run(house: House, who: Person, run: Run, _: Texts) -> None:
    made, counts = run.counts.get("ended", 0), run.counts
    with st.container(border=True):
        row = st.container(horizontal=True, vertical_alignment="center")
        row.markdown(f"**{parts.plain(run.id)}** {_badge(run, _)}", width="content")
        if run.state in _OPEN and row.button(
            _("Cancel"), key=f"stop {run.id}", icon=":material/stop_circle:"
        ):
            with parts.said():
                house.cancel_run(who, run.id)
        again = run.state in ("cancelled", "short", "failed", "interrupted")
        if again and row.button(_("Go on"), key=f"on {run.id}", icon=":material/play_arrow:"):
            with parts.said():
                house.resume_run(who, run.id)
                st.rerun()
        if run.state not in _OPEN and counts.get("ended"):
            with row.container(width="content"):
                place.link(
                    "explore", _("Look at the rows"), ":material/table:", query={"run": run.id}
                )
        st.progress(min(1.0, made / run.rows) if run.rows else 1.0)
        words = [
            _("{made} of {rows} rows").format(made=f"{made:,}", rows=f"{run.rows:,}"),
            _("{count} requests").format(count=f"{counts.get('requests', 0):,}"),
            parts.money(counts.get("money", 0.0)),
            duration(counts.get("seconds", 0.0)),
        ]
        failed = by_cause(counts.get("failed", {}))
        if failed:
            words.append(_("failed: {causes}").format(causes=failed))
        st.caption(parts.plain(", ".join(words)))


def _badge(run: Run, _: Texts) -> str:
    color = {"finished": "green", "running": "blue", "created": "gray"}.get(run.state, "orange")
    return f":{color}-badge[{parts.plain(state(run, _))}]"


def state(run: Run, _: Texts) -> str:
    """How a run stands, in the reader's language."""
    return {
        "created": _("waits for a worker"), "running": _("at work"), "finished": _("finished"),
        "short": _("short: something failed"), "cancelled": _("cancelled"),
        "failed": _("failed"), "interrupted": _("interrupted"),
    }[run.state]  # fmt: skip
