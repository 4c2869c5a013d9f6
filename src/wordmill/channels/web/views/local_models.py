"""On the page of models: those of this machine - what they do now, how they are run, the disk."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import altair
import pandas
import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.model_shelf import Order
from wordmill.channels.web import parts, place
from wordmill.channels.web.views import hub
from wordmill.local_models.fit import size
from wordmill.local_models.types import LocalModel

Texts = Callable[[str], str]

LOOK: Final = 5.0
"""Seconds between looks at what is loaded."""
BACK: Final = 3600.0
"""Seconds of history that are drawn."""
HEIGHT: Final = 180


def show(house: House, who: Person, _: Texts) -> None:
    """Draw the models of this machine."""
    if who.admin:
        is_busy = hub.busy(house.shelf.tasks(who))
        st.fragment(hub.again, run_every=1.0 if is_busy else None)(is_busy)
    st.fragment(_now, run_every=LOOK)()
    found = house.shelf.all()
    if found:
        _one(house, who, found, _)
    else:
        st.info(_("No model is on this machine yet."))
    if who.admin:
        _import(house, who, _)
        _token(house, who, _)


def _now() -> None:
    """What is loaded, again and again."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    found = house.shelf.all()
    if not found:
        return
    with parts.said():
        overview = house.shelf.loaded()
        loaded = {one.name: one for one in overview.models} if overview else {}
        states = {
            "unloaded": _("not loaded"), "waiting": _("waits for memory"), "loading": _("loading"),
            "ready": _("ready"), "swapping": _("being replaced"), "failed": _("failed"),
        }  # fmt: skip
        column = st.column_config
        rows = []
        for model in found:
            one = loaded.get(model.name)
            rows.append(
                {
                    "name": model.name,
                    "state": states[one.state if one else "unloaded"],
                    "engine": (one.engine if one else None) or model.engines[0],
                    "memory": size(one.memory) if one and one.memory else "",
                    "speed": one.tokens_per_second if one else None,
                    "running": one.running if one else None,
                    "waiting": one.waiting if one else None,
                    "disk": size(model.size),
                    "license": model.license,
                }
            )
        st.dataframe(
            rows,
            hide_index=True,
            width="stretch",
            column_config={
                "name": column.TextColumn(_("Name"), pinned=True),
                "state": column.TextColumn(_("State")),
                "engine": column.TextColumn(_("Engine")),
                "memory": column.TextColumn(_("Memory")),
                "speed": column.NumberColumn(_("Tokens/s"), format="%.1f"),
                "running": column.NumberColumn(_("Answering")),
                "waiting": column.NumberColumn(_("Waiting")),
                "disk": column.TextColumn(_("Disk")),
                "license": column.TextColumn(_("Licence")),
            },
        )
        for one in loaded.values():
            if one.trouble:
                st.warning(parts.plain(f"{one.name}: {one.trouble}"))
        if overview is not None:
            st.caption(
                _("{used} of {ceiling} that models may have are in use.").format(
                    used=size(overview.memory), ceiling=size(overview.ceiling)
                )
            )
            _pictures(house, _)
            if who.admin:
                _people(house, who, _)


def _pictures(house: House, _: Texts) -> None:
    """How it went over the last hour."""
    frame = pandas.DataFrame(
        [
            {**sample, "model": name, "time": datetime.fromtimestamp(sample["at"], UTC)}
            for name, one in house.shelf.history(time.time() - BACK).items()
            for sample in one["history"]
        ]
    )
    if len(frame) < 2:
        return
    titles = {
        "tokens_out": _("Tokens a second"), "tokens_in": _("Tokens read a second"),
        "batch": _("Answered together"), "waiting": _("Waiting"), "memory": _("Memory, GB"),
        "cache": _("Use of the cache"),
        "first": _("Seconds to the first token"), "between": _("Seconds between tokens"),
    }  # fmt: skip
    drawn = [name for name in titles if name in frame and frame[name].notna().any()]
    if "memory" in drawn:
        frame["memory"] = frame["memory"] / 1e9
    columns = st.columns(2)
    for number, name in enumerate(drawn):
        chart = altair.Chart(frame, title=titles[name], height=HEIGHT).mark_line()
        columns[number % 2].altair_chart(
            chart.encode(
                x=altair.X("time:T", title=None),
                y=altair.Y(f"{name}:Q", title=None),
                color=altair.Color("model:N", title=None, legend=altair.Legend(orient="bottom")),
            ),
            width="stretch",
        )


def _people(house: House, who: Person, _: Texts) -> None:
    """Who has used what, since the model server began."""
    names = {one.id: one.name for one in house.accounts.people.all(who)}
    rows = [
        {
            "model": model, "name": names.get(person, person), "requests": used["requests"],
            "in": used["tokens_in"], "out": used["tokens_out"], "first": used["first"]["mean"],
        }
        for model, people in house.shelf.people(who).items()
        for person, used in people.items()
    ]  # fmt: skip
    if not rows:
        return
    column = st.column_config
    with st.expander(_("By person, since the model server began"), icon=":material/group:"):
        st.dataframe(
            rows,
            hide_index=True,
            width="stretch",
            column_config={
                "model": column.TextColumn(_("Model")),
                "name": column.TextColumn(_("Name")),
                "requests": column.NumberColumn(_("Requests"), format="localized"),
                "in": column.NumberColumn(_("Tokens read"), format="localized"),
                "out": column.NumberColumn(_("Tokens written"), format="localized"),
                "first": column.NumberColumn(_("Seconds to the first token"), format="%.2f"),
            },
        )


def _one(house: House, who: Person, found: list[LocalModel], _: Texts) -> None:
    """One model: what it is, whether it fits, and what an admin can do with it."""
    names = {model.name: model for model in found}
    if st.session_state.get("local-new") in names:  # what was just fetched is looked at
        st.session_state["local-which"] = st.session_state.pop("local-new")
    name = st.selectbox(_("Look at a model"), list(names), key="local-which", width=360)
    model = names[name]
    with st.container(border=True, key="local-model"):
        facts = [
            model.facts.architecture,
            _("kept as {form}").format(form=f"{model.form} {model.facts.dtype}".strip()),
            _("{number} tokens of context").format(number=f"{model.facts.context:,}"),
            f"{model.repository} @ {model.revision[:12]}" if model.repository else str(model.path),
            _("made from {model}").format(model=model.made_from) if model.made_from else "",
        ]
        st.caption(" · ".join(parts.plain(one) for one in facts if one))
        if len(model.quality) == 2:
            before, after = model.quality["before"], model.quality["after"]
            words = _("Perplexity {before} before, {after} after ({change}); lower is better.")
            change = f"{(after / before - 1) * 100:+.1f} %" if before else "?"
            st.caption(
                parts.plain(
                    words.format(before=f"{before:.4g}", after=f"{after:.4g}", change=change)
                )
            )
        with parts.said():
            hub.fitting(house.shelf.fit(name), _)
        if not who.admin:
            return
        _orders(house, who, model, _)
        _options(house, who, model, _)
        if model.source == "hub":
            _revisions(house, who, model, _)
        if model.form == "safetensors" and model.facts.task == "chat":
            _quantize(house, who, model, _)


def _orders(house: House, who: Person, model: LocalModel, _: Texts) -> None:
    orders: dict[Order, tuple[str, str]] = {
        "load": (_("Load"), ":material/play_arrow:"),
        "unload": (_("Unload"), ":material/stop:"),
        "restart": (_("Restart"), ":material/restart_alt:"),
        "warm": (_("Warm up"), ":material/local_fire_department:"),
    }
    row = st.container(horizontal=True)
    for order, (label, icon) in orders.items():
        if row.button(label, icon=icon, key=f"{order} {model.name}"):
            with parts.said(), st.spinner(_("It may take a while ...")):
                house.shelf.order(who, order, model.name)
                st.rerun()
    with row.popover(_("Remove"), icon=":material/delete:"):
        st.write(_("Its files that were fetched or made are deleted."))
        if st.button(_("Remove it"), type="primary", key=f"remove {model.name}"):
            with parts.said():
                house.shelf.remove(who, model.name)
                st.rerun()


def _options(house: House, who: Person, model: LocalModel, _: Texts) -> None:
    with st.expander(_("How it is run"), icon=":material/tune:"), st.form(f"run {model.name}"):
        st.caption(_("It holds from the next load on. Empty is what suits this machine best."))
        row = st.columns(3)

        def best(one: str) -> str:
            return one or _("what is best here")

        dtypes = ["", "float32", "bfloat16", "float16"]
        new = {
            "engine": row[0].selectbox(
                _("Engine"), ["", *model.engines],
                index=["", *model.engines].index(model.engine or ""), format_func=best,
            ),
            "device": row[1].text_input(_("Device"), model.device or "", placeholder="cpu"),
            "dtype": row[2].selectbox(
                _("Precision"), dtypes, index=dtypes.index(model.dtype or ""), format_func=best
            ),
            "threads": row[0].text_input(_("Threads"), str(model.threads or "")),
            "context": row[1].text_input(_("Context"), str(model.context or "")),
            "follows": row[2].text_input(
                _("Branch that it follows"), model.follows, disabled=model.source != "hub"
            ),
        }  # fmt: skip
        pinned = st.toggle(_("Stays in memory"), model.pinned)
        if st.form_submit_button(_("Save")):
            if model.source != "hub":
                del new["follows"]
            with parts.said():
                words = {**new, "pinned": "yes" if pinned else "no"}
                house.shelf.set(who, model.name, words)
                st.toast(_("Saved."))
                st.rerun()


def _revisions(house: House, who: Person, model: LocalModel, _: Texts) -> None:
    with st.expander(_("Updates"), icon=":material/update:"):
        key = f"newer {model.name}"
        row = st.container(horizontal=True)
        if row.button(_("Look for an update"), key=f"check {model.name}"):
            with parts.said(), st.spinner(_("Asking ...")):
                found = house.shelf.newer(who, model.name)
                st.session_state[key] = (model.revision, found)
        at, update = st.session_state.get(key, ("", None))
        if at == model.revision and update is None:
            st.caption(_("Nothing is newer."))
        if at == model.revision and update is not None:
            st.write(_("An update exists: {size} to fetch.").format(size=size(update.download)))
            for change in update.changes:
                st.caption(parts.plain(f"{change.at[:10]} {change.commit[:12]} {change.title}"))
            st.caption(parts.plain(", ".join(update.files)))
            if st.button(_("Update"), type="primary", key=f"update {model.name}"):
                with parts.said():
                    house.shelf.update(who, model.name)
                    st.rerun()
        for one in reversed(model.earlier):
            if st.button(
                _("Go back to {revision}").format(revision=one.revision[:12]),
                key=f"back {model.name} {one.revision}", icon=":material/undo:",
            ):  # fmt: skip
                with parts.said():
                    house.shelf.roll_back(who, model.name, one.revision)
                    st.rerun()


def _quantize(house: House, who: Person, model: LocalModel, _: Texts) -> None:
    box = st.expander(_("Make a smaller one"), icon=":material/compress:")
    with box, st.form(f"smaller {model.name}"):
        kinds = {
            "int8": _("8 bits"), "int4": _("4 bits"), "float32": _("as it is, for OpenVINO"),
        }  # fmt: skip
        to = st.radio(_("Weights of"), list(kinds), format_func=kinds.__getitem__, horizontal=True)
        text = st.text_area(
            _("A text that both read, to tell how much is lost"), height=100,
            help=_("A sample is read where this is empty. Perplexity: how surprised the model is."),
        )  # fmt: skip
        if st.form_submit_button(_("Make it")):
            with parts.said():
                house.shelf.quantize(who, model.name, to, text=text)
                st.rerun()


def _import(house: House, who: Person, _: Texts) -> None:
    box = st.expander(_("Add a folder or a GGUF file of your own"), icon=":material/folder:")
    with box, st.form("import", border=False, clear_on_submit=True):
        path = st.text_input(_("Path on the server"), placeholder="/srv/models/my-model")
        name = st.text_input(_("Its name here"))
        if st.form_submit_button(_("Add")):
            with parts.said():
                house.shelf.take(who, Path(path.strip()), name.strip())
                st.rerun()


def _token(house: House, who: Person, _: Texts) -> None:
    with st.expander(_("Token for the hub"), icon=":material/key:"), parts.said():
        origin = house.shelf.models.tokens.origin()
        if origin:
            st.caption(_("There is one, from: {origin}.").format(origin=parts.plain(origin)))
        with st.form("token", border=False, clear_on_submit=True):
            token = st.text_input(
                _("For private and gated models"), type="password",
                help=_("Encrypted, and sent to {hub} alone.").format(
                    hub=house.shelf.models.tokens.url
                ),
            )  # fmt: skip
            row = st.container(horizontal=True)
            if row.form_submit_button(_("Store")):
                with parts.said():
                    name = house.shelf.store_token(who, token)
                    st.success(_("It is the token of {name}.").format(name=parts.plain(name)))
            if row.form_submit_button(_("Forget")):
                with parts.said():
                    house.shelf.remove_token(who)
                    st.rerun()


def disk(house: House, who: Person, _: Texts) -> None:
    """What models take of the disk, and revisions to be deleted."""
    used = house.shelf.used()
    rows: list[dict[str, Any]] = [
        {
            "where": one.repository,
            "revision": one.commit[:12],
            "size": size(one.size),
            "alone": size(one.alone),
            "models": ", ".join(names),
        }
        for one, names in used
    ]
    rows += [
        {"where": str(model.path), "size": size(model.size), "models": model.name}
        for model in house.shelf.all()
        if model.source != "hub"
    ]
    rows += [
        {"where": name, "revision": _("unfinished"), "size": size(left)}
        for name, left in house.shelf.unfinished().items()
    ]
    if not rows:
        st.info(_("No model is on this machine yet."))
        return
    column = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        column_config={
            "where": column.TextColumn(_("From"), pinned=True),
            "revision": column.TextColumn(_("Revision")),
            "size": column.TextColumn(_("Size")),
            "alone": column.TextColumn(_("Its own"), help=_("What deleting it frees.")),
            "models": column.TextColumn(_("Models")),
        },
    )
    current = {(model.repository, model.revision) for model in house.shelf.all()}
    spare = [one for one, _names in used if (one.repository, one.commit) not in current]
    if not who.admin or not spare:
        return
    row = st.container(horizontal=True, vertical_alignment="bottom")
    chosen = row.selectbox(
        _("A revision that no model uses"), spare, width=420,
        format_func=lambda one: f"{one.repository} @ {one.commit[:12]} ({size(one.alone)})",
    )  # fmt: skip
    if row.button(_("Delete"), icon=":material/delete:"):
        with parts.said():
            freed = house.shelf.remove_revision(who, chosen.repository, chosen.commit)
            st.toast(_("{size} are free again.").format(size=size(freed)))
            st.rerun()
