"""The page that starts runs: a recipe by form or as YAML, a preview, its cost, its progress.

A run is a job of the server: leaving the page stops nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.recipes import Recipe
from wordmill.runs.desk import Wish
from wordmill.runs.registry import Run
from wordmill.runs.show import by_cause, duration

OWN: Final = "own"
SHOWN: Final = 10
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
    _runs()


def _wished(house: House, who: Person, _: Texts) -> Wish | None:
    """The forms; None while what they hold is no recipe."""
    desk = house.desk(who)
    built_in = desk.recipes()
    chosen = st.segmented_control(
        _("Recipe"), [*built_in, OWN], default=built_in[0],
        format_func=lambda one: _("My own, as YAML") if one == OWN else one,
    )  # fmt: skip
    text = chosen or built_in[0]
    if text == OWN:
        text = st.text_area(_("Recipe"), _STARTER, height=280, key="yaml")
    try:
        with parts.said_again():
            recipe = desk.read(Wish(recipe=text))
    except parts.Said:
        return None
    names = house.catalog.names()
    left, right = st.columns(2)
    first = recipe.model or house.settings.default_model or "rehearsal"
    model = left.selectbox(
        _("Model"), names, index=names.index(first) if first in names else 0, key="run model"
    )
    _own_key(house, who, model, right, _)
    rows = left.number_input(_rows_label(recipe, _), min_value=1, value=20, key="rows")
    seed = right.number_input(_("Seed"), value=recipe.seed, step=1, key=f"seed {recipe.name}")
    budget = right.text_input(
        _("Budget"), placeholder="5usd, 1000requests", help=_("A ceiling; empty for none.")
    )
    values = _parameters(recipe, left, _)
    rest_of = _rest(house, who, recipe, right, _)
    return Wish(
        recipe=text, rows=int(rows) if rest_of is None else None, parameters=values, model=model,
        seed=int(seed), budget=budget, rest_of=rest_of,
    )  # fmt: skip


def _rows_label(recipe: Recipe, _: Texts) -> str:
    return _("Number of {things}").format(things=recipe.table or _("rows"))


def _own_key(house: House, who: Person, model: str, where: Any, _: Texts) -> None:
    """The key of the model's provider, where it wants one and none is known."""
    if house.has_key(who, model):
        return
    key = where.text_input(
        _("API key for {model}").format(model=model), type="password", key=f"key {model}",
        help=_("Stored encrypted, used for you alone."),
    )  # fmt: skip
    if key:
        with parts.said():
            house.accounts.provider_keys.set(who, model, key)
            st.rerun()


def _parameters(recipe: Recipe, where: Any, _: Texts) -> Mapping[str, Any]:
    """A field for each parameter that the recipe declares."""
    values: dict[str, Any] = {}
    for name, parameter in recipe.declared.items():
        key, words = f"parameter {recipe.name} {name}", parameter.help or None
        label = parts.label(name)
        now = parameter.default
        if parameter.type == "boolean":
            values[name] = where.toggle(label, bool(now), help=words, key=key)
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


def _rest(house: House, who: Person, recipe: Recipe, where: Any, _: Texts) -> str | None:
    """An earlier run of the recipe whose rows lack something: scenarios without actions, say."""
    earlier = [
        run.id
        for run in house.desk(who).registry.all()
        if run.name == recipe.name and run.state != "running"
    ]
    if not earlier:
        return None
    chosen: str | None = where.selectbox(
        _("Complete the rows of an earlier run"), earlier, index=None, key=f"rest {recipe.name}",
        help=_("Adds what its rows lack, as scenarios without actions."),
    )  # fmt: skip
    return chosen


def _go(house: House, who: Person, wish: Wish, _: Texts) -> None:
    desk = house.desk(who)
    try:
        with parts.said_again():
            st.caption(parts.plain(desk.estimate(wish)))
    except parts.Said:
        return
    row = st.container(horizontal=True)
    if row.button(_("Preview two rows"), icon=":material/visibility:"):
        with parts.said(), st.spinner(_("Asking ...")):
            seen = desk.preview(wish, 2, lambda: False)
            for record in seen.records:
                _record(record, _)
    if row.button(_("Start"), icon=":material/play_arrow:", type="primary"):
        with parts.said():
            run = house.start_run(who, wish)
            st.toast(_("Started as {run}.").format(run=run.id))


def _record(record: Mapping[str, Any], _: Texts) -> None:
    with st.container(border=True):
        st.caption(_("row {number}").format(number=record["row"]))
        for name, value in record["values"].items():
            st.markdown(f"**{parts.plain(name)}**")
            if isinstance(value, str):
                st.markdown(parts.markdown(value))
            else:
                st.json(value, expanded=2)
        for name, words in record["errors"].items():
            st.error(parts.plain(f"{name}: {words}"))


@st.fragment(run_every=1.0)
def _runs() -> None:
    """The newest runs; drawn anew every second, apart from the rest of the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    found = house.desk(who).registry.all()[:SHOWN]
    if not found:
        st.caption(_("None yet."))
    for run in found:
        _run(house, who, run, _)


def _run(house: House, who: Person, run: Run, _: Texts) -> None:
    made, counts = run.counts.get("ended", 0), run.counts
    with st.container(border=True):
        row = st.container(horizontal=True, vertical_alignment="center")
        row.markdown(f"**{parts.plain(run.id)}** - {_state(run, _)}")
        if run.state in ("created", "running") and row.button(_("Cancel"), key=f"stop {run.id}"):
            with parts.said():
                house.cancel_run(who, run.id)
        again = run.state in ("cancelled", "short", "failed", "interrupted")
        if again and row.button(_("Go on"), key=f"on {run.id}", icon=":material/play_arrow:"):
            with parts.said():
                house.resume_run(who, run.id)
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


def _state(run: Run, _: Texts) -> str:
    return {
        "created": _("waits for a worker"), "running": _("at work"), "finished": _("finished"),
        "short": _("short: something failed"), "cancelled": _("cancelled"),
        "failed": _("failed"), "interrupted": _("interrupted"),
    }[run.state]  # fmt: skip
