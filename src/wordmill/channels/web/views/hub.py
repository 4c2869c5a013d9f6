"""For admins, on the page of models: the hub - search, card, whether it fits, fetching."""

from collections.abc import Callable
from typing import Any, Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.model_shelf import Task
from wordmill.channels.web import parts, place
from wordmill.errors import InvalidInput, WordmillError
from wordmill.local_models.fit import Fit, size
from wordmill.local_models.hub import Found, Sort
from wordmill.local_models.local_models import Ask, Planned

Texts = Callable[[str], str]

TASKS: Final = (
    "text-generation", "text-classification", "feature-extraction", "sentence-similarity",
    "text-ranking", "image-text-to-text",
)  # fmt: skip
SIZES: Final = (None, 10**8, 5 * 10**8, 10**9, 2 * 10**9, 4 * 10**9, 8 * 10**9, 15 * 10**9, 10**11)
SIGNS: Final = {
    "yes": ":material/check_circle:",
    "tight": ":material/error:",
    "no": ":material/cancel:",
}


def show(house: House, who: Person, _: Texts) -> None:
    """Draw the search and what was chosen of it."""
    if house.shelf.models.offline:
        st.info(_("Offline mode is on: the hub is not asked."))
        return
    _search(house, who, _)
    found: list[Found] = st.session_state.get("hub-found", [])
    if found:
        _results(found, _)
    chosen = st.session_state.get("hub-chosen", "")
    with st.form("hub-one", border=False):
        row = st.container(horizontal=True, vertical_alignment="bottom")
        name = row.text_input(
            _("Model, as owner/name"), chosen, width=420,
            placeholder="HuggingFaceTB/SmolLM2-135M-Instruct",
        )  # fmt: skip
        revision = row.text_input(_("Branch, tag or commit"), "main", width=200)
        if row.form_submit_button(_("Look at it"), icon=":material/visibility:"):
            st.session_state["hub-look"] = (name.strip(), revision.strip() or "main")
    if look := st.session_state.get("hub-look"):
        _one(house, who, look[0], look[1], _)


def _search(house: House, who: Person, _: Texts) -> None:
    with st.form("hub-search"):
        words = st.text_input(_("Search the hub"), placeholder="smollm2 instruct")
        row = st.columns(4)
        task = row[0].selectbox(_("For"), ["", *TASKS], index=1)
        license_ = row[1].text_input(_("Licence"), placeholder="apache-2.0")
        most = row[2].selectbox(
            _("Parameters at most"), SIZES, format_func=lambda one: _count(one) if one else _("any")
        )
        sorts: dict[Sort, str] = {
            "downloads": _("Downloads"), "likes": _("Likes"), "trending": _("Trending"),
            "last_modified": _("Changed last"), "created_at": _("Newest"),
        }  # fmt: skip
        sort = row[3].selectbox(_("Sort by"), list(sorts), format_func=sorts.__getitem__)
        if st.form_submit_button(_("Search"), type="primary", icon=":material/search:"):
            with parts.said(), st.spinner(_("Asking ...")):
                found = house.shelf.search(
                    who, words, task=task, license_=license_.strip(), most=most, sort=sort
                )
                st.session_state["hub-found"] = found
                st.session_state.pop("hub-look", None)
                if not found:
                    st.info(_("Nothing was found."))


def _results(found: list[Found], _: Texts) -> None:
    column = st.column_config
    event: Any = st.dataframe(
        [
            {
                "model": one.repository,
                "parameters": _count(one.parameters),
                "task": one.task,
                "license": one.license,
                "downloads": one.downloads,
                "gated": one.gated,
            }
            for one in found
        ],
        hide_index=True,
        width="stretch",
        key="hub-results",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "model": column.TextColumn(_("Model"), pinned=True),
            "parameters": column.TextColumn(_("Parameters")),
            "task": column.TextColumn(_("For")),
            "license": column.TextColumn(_("Licence")),
            "downloads": column.NumberColumn(_("Downloads"), format="localized"),
            "gated": column.CheckboxColumn(_("Gated"), help=_("Its owner lets people in.")),
        },
    )
    rows = event.selection.rows
    if rows and rows[0] < len(found):
        chosen = found[rows[0]].repository
        if st.session_state.get("hub-chosen") != chosen:
            st.session_state["hub-chosen"] = chosen
            st.session_state["hub-look"] = (chosen, "main")


def _one(house: House, who: Person, name: str, revision: str, _: Texts) -> None:
    with st.container(border=True, key="hub-model"):
        st.subheader(parts.plain(name), anchor=False)
        file, context = _wish(name, _)
        planned = None
        try:
            planned = house.shelf.plan(who, Ask(name, revision, "", file), context)
        except InvalidInput as error:
            if error.field == "file" and st.session_state.get("hub-gguf") != name:
                st.session_state["hub-gguf"] = name  # there are several: ask which
                st.rerun()
            st.error(parts.plain(str(error)))
        except WordmillError as error:
            st.error(parts.plain(str(error)))
        if planned is not None:
            _plan(house, who, planned, _)
        with st.expander(_("What its owner says"), key="hub-card", on_change="rerun") as box:
            if box.open:
                with parts.said():
                    st.markdown(
                        parts.markdown(house.shelf.card(who, name, revision)) or _("Nothing.")
                    )


def _wish(name: str, _: Texts) -> tuple[str | None, int]:
    """The one of several GGUF files, and the length of a conversation to reckon with."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    context = row.number_input(
        _("Tokens of a conversation"), min_value=128, value=4096, step=1024, width=220
    )
    file = ""
    if st.session_state.get("hub-gguf") == name:
        file = row.text_input(_("Which GGUF file"), width=320, key=f"hub-file {name}")
    return file.strip() or None, int(context)


def _plan(house: House, who: Person, planned: Planned, _: Texts) -> None:
    found = planned.about.found
    facts = [
        planned.facts.architecture,
        _("{number} parameters").format(number=_count(planned.facts.parameters)),
        _("{number} tokens of context").format(number=f"{planned.facts.context:,}"),
        found.license or _("no licence said"),
        _("{size} to fetch").format(size=size(planned.fit.download)),
    ]
    st.caption(" · ".join(parts.plain(one) for one in facts if one))
    fitting(planned.fit, _)
    for note in planned.notes:
        st.caption(parts.plain(note))
    row = st.container(horizontal=True, vertical_alignment="bottom")
    called = row.text_input(_("Its name here"), planned.ask.called, width=320, key="hub-called")
    anyway = False
    if planned.fit.verdict == "no":
        anyway = row.toggle(_("Fetch it although it does not fit"))
    if row.button(
        _("Fetch"), type="primary", icon=":material/download:",
        disabled=planned.fit.verdict == "no" and not anyway,
    ):  # fmt: skip
        with parts.said():
            ask = Ask(
                planned.ask.repository, planned.ask.revision, called.strip(), planned.ask.file
            )
            house.shelf.fetch(who, ask, anyway=anyway)
            st.toast(_("It is being fetched: see On this machine."))
            st.session_state["models-part"] = "here"
            st.session_state["local-new"] = called.strip()
            st.rerun()


def fitting(fit: Fit, _: Texts) -> None:
    """Whether a model fits, with the numbers."""
    show_it = {"yes": st.success, "tight": st.warning, "no": st.error}[fit.verdict]
    show_it(parts.plain(fit.sentence), icon=SIGNS[fit.verdict])
    if len(fit.rows) < 2:
        return
    verdicts = {"yes": _("yes"), "tight": _("tight"), "no": _("no")}
    column = st.column_config
    st.dataframe(
        [
            {
                "dtype": row.need.dtype,
                "weights": size(row.need.weights),
                "cache": size(row.need.cache),
                "memory": size(row.need.memory),
                "fits": verdicts[row.verdict],
                "engine": row.need.engine,
            }
            for row in fit.rows
        ],
        hide_index=True,
        width="stretch",
        column_config={
            "dtype": column.TextColumn(_("Precision"), pinned=True),
            "weights": column.TextColumn(_("Weights")),
            "cache": column.TextColumn(_("Conversation")),
            "memory": column.TextColumn(_("Memory in all")),
            "fits": column.TextColumn(_("Fits")),
            "engine": column.TextColumn(_("Engine")),
        },
    )


def tasks(house: House, who: Person, found: list[Task], _: Texts) -> None:
    """What is being fetched or made, with a way to stop it and to go on."""
    whats = {"fetch": _("Fetching"), "update": _("Updating"), "quantize": _("Converting")}
    states = {
        "waiting": _("waits"), "running": _("under way"), "stopping": _("is stopping"),
        "paused": _("paused"), "failed": _("failed"), "cancelled": _("stopped"),
    }  # fmt: skip
    done = {task.name for task in found if task.state == "done"}
    seen: set[str] = set()
    for task in found:
        if task.state == "done" or task.name in seen or task.name in done:
            seen.add(task.name)
            continue
        seen.add(task.name)
        if f"hide {task.id}" in st.session_state:
            continue
        row = st.container(horizontal=True, vertical_alignment="center", key=f"task-{task.id}")
        amount = f"{size(task.done)} / {size(task.of)}" if task.of else task.step
        words = f"{whats[task.what]} {task.name}: {states[task.state]} {amount}"
        row.progress(min(1.0, task.done / task.of) if task.of else 0.0, text=parts.plain(words))
        with parts.said():
            if task.state in ("waiting", "running") and row.button(
                _("Pause") if task.what != "quantize" else _("Stop"),
                key=f"pause {task.id}", icon=":material/pause:",
            ):  # fmt: skip
                house.shelf.pause(who, task.id)
                st.rerun()
            if task.state in ("paused", "failed"):
                if row.button(_("Go on"), key=f"go {task.id}", icon=":material/play_arrow:"):
                    house.shelf.resume(who, task.id)
                    st.rerun()
                if row.button(_("Throw away"), key=f"no {task.id}", icon=":material/delete:"):
                    house.shelf.discard(who, task.id)
                    st.session_state[f"hide {task.id}"] = True
                    st.rerun()
        if task.error and task.state == "failed":
            st.caption(parts.plain(task.error))


def _count(number: int | None) -> str:
    """Parameters for people: `135M`."""
    for factor, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if (number or 0) >= factor:
            return f"{(number or 0) / factor:.3g}{unit}"
    return str(number) if number else "?"


def again(was_busy: bool) -> None:
    """The tasks, again and again while one is under way."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    with parts.said():
        found = house.shelf.tasks(who)
        tasks(house, who, found, _)
        if was_busy and not busy(found):
            st.rerun()


def busy(found: list[Task]) -> bool:
    """Whether one is under way."""
    return any(task.state in ("waiting", "running", "stopping") for task in found)
