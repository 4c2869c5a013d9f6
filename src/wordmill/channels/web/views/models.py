"""The page of models: which there are, whether they answer, what they cost; an admin adds more."""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.channels.web.views import hub, local_models, tools
from wordmill.models import checked
from wordmill.providers.base import Model
from wordmill.providers.presets import PRESETS

Texts = Callable[[str], str]


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    st.title(_("Models"), anchor=False)
    which = {"all": _("All"), "here": _("On this machine"), "disk": _("Disk")}
    if who.admin:
        which["hub"] = _("From the hub")
    wanted = st.session_state.pop("models-part", None)
    if wanted is not None:
        st.session_state["models-which"] = wanted
    part = st.segmented_control(
        _("Which"), list(which), format_func=which.__getitem__, default="all",
        key="models-which", label_visibility="collapsed",
    )  # fmt: skip
    st.space("small")  # where the bar of a table below lies on a telephone
    if part in ("here", "disk", "hub"):
        draw = {"here": local_models.show, "disk": local_models.disk, "hub": hub.show}[part]
        with parts.said():
            draw(house, who, _)
        return
    _all(house, who, _)


def _all(house: House, who: Person, _: Texts) -> None:
    """The catalog."""
    with parts.said():
        found = house.catalog.all()
        _table(house, who, found, _)
        _test(house, who, [model.name for model, _source in found], _)
    _private(house, who, _)
    if who.admin:
        _add(house, who, _)
        own = {model.name: model for model, source in found if source == "catalog"}
        _change(house, who, own, _)
        tools.show(house, who, _)
    else:
        st.caption(_("An admin can add models. Your own keys for them are on the page Settings."))


def _table(house: House, who: Person, found: Any, _: Texts) -> None:
    rows = [
        {
            "name": model.name,
            "provider": model.provider,
            "model": model.model,
            "key": house.has_key(who, model.name),
            "in": model.price_in,
            "out": model.price_out,
            "context": model.context,
            "fallback": model.fallback or "",
            "address": "" if model.provider == "rehearsal" else model.base_url,
            "source": source,
        }
        for model, source in found
    ]
    column = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        column_config={
            "name": column.TextColumn(_("Name"), pinned=True),
            "provider": column.TextColumn(_("Provider")),
            "model": column.TextColumn(_("Its name there")),
            "key": column.CheckboxColumn(_("Key"), help=_("Whether you can ask it now.")),
            "in": column.NumberColumn(_("In"), format="$%.4g", help=_("For a million tokens.")),
            "out": column.NumberColumn(_("Out"), format="$%.4g", help=_("For a million tokens.")),
            "context": column.NumberColumn(_("Context"), format="localized"),
            "fallback": column.TextColumn(_("Stands in"), help=_("When its server is down.")),
            "address": column.TextColumn(_("Address")),
            "source": column.TextColumn(_("From")),
        },
    )


def _test(house: House, who: Person, names: list[str], _: Texts) -> None:
    row = st.container(horizontal=True, vertical_alignment="bottom")
    name = row.selectbox(_("Try a model with one small question"), names, width=360)
    if row.button(_("Try it"), icon=":material/play_arrow:"):
        with st.spinner(_("Asking ...")):
            trial = house.try_model(who, name)
        show_it = st.success if trial.passed else st.error
        show_it(parts.plain(trial.sentence))
        for sentence in trial.degraded:
            st.caption(parts.plain(sentence))


def _add(house: House, who: Person, _: Texts) -> None:
    with st.expander(_("Add a model"), icon=":material/add:"):
        providers = sorted(PRESETS)
        provider = st.selectbox(
            _("Provider"), providers, index=providers.index("openai"), width=360,
            help=_("For any other server that speaks OpenAI's language take openai and its "
                   "address."),
        )  # fmt: skip
        preset = PRESETS[provider]
        if preset.note:
            st.caption(parts.plain(preset.note))
        with st.form("add", border=False):
            left, right = st.columns(2)
            name = left.text_input(_("Name"), help=_("As people will call it here."))
            model = right.text_input(_("Its name there"), placeholder="gpt-4o-mini")
            address = left.text_input(
                _("Address"), placeholder=preset.base_url, help=_("Empty for the provider's own.")
            )
            key = right.text_input(
                _("API key"), type="password",
                help=_("Encrypted; used for everybody. May stay empty."),
            )  # fmt: skip
            numbers = _numbers(left, right, None, _)
            if st.form_submit_button(_("Add"), type="primary"):
                with parts.said():
                    options = {"name": name, "provider": provider, "model": model}
                    house.add_model(
                        who, checked({**options, "base_url": address, **numbers}), key=key or None
                    )
                    st.toast(_("Added."))
                    st.rerun()


def _private(house: House, who: Person, _: Texts) -> None:
    """Servers that batches of this person named by their addresses."""
    names = [model.name for model in house.private_models(who)]
    if not names:
        return
    with st.expander(_("Servers that your batches named"), icon=":material/dns:"):
        st.caption(_("Nobody else sees them. A batch that names one again makes it again."))
        row = st.container(horizontal=True, vertical_alignment="bottom")
        name = row.selectbox(_("Name"), names, key="private which", width=480)
        if row.button(_("Remove"), key="private remove"):
            with parts.said():
                house.remove_private_model(who, name)
                st.rerun()


def _numbers(left: Any, right: Any, now: Model | None, _: Texts) -> Mapping[str, Any]:
    """Fields for prices and context."""
    price_in = left.number_input(
        _("Price of a million tokens in"), min_value=0.0, format="%.4f",
        value=now.price_in if now else 0.0,
    )  # fmt: skip
    price_out = right.number_input(
        _("Price of a million tokens out"), min_value=0.0, format="%.4f",
        value=now.price_out if now else 0.0,
    )  # fmt: skip
    context = left.number_input(
        _("Context, in tokens (0: unknown)"), min_value=0, step=1024,
        value=(now.context or 0) if now else 0,
    )  # fmt: skip
    return {"price_in": price_in, "price_out": price_out, "context": context or None}


def _change(house: House, who: Person, own: Mapping[str, Model], _: Texts) -> None:
    """Prices and context of a model that was added here, or its end."""
    if not own:
        return
    with st.expander(_("Change or remove a model"), icon=":material/edit:"):
        name = st.selectbox(_("Name"), list(own), key="change which", width=360)
        with st.form(f"change {name}", border=False):
            left, right = st.columns(2)
            numbers = _numbers(left, right, own[name], _)
            row = st.container(horizontal=True)
            if row.form_submit_button(_("Save"), type="primary"):
                with parts.said():
                    house.change_model(who, name, **numbers)
                    st.toast(_("Saved."))
                    st.rerun()
            if row.form_submit_button(_("Remove")):
                with parts.said():
                    house.remove_model(who, name)
                    st.rerun()
