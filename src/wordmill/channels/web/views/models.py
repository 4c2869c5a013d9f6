"""The page of models: which there are, whether they answer, what they cost; an admin adds more."""

from collections.abc import Callable

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.models import checked
from wordmill.providers.presets import PRESETS

Texts = Callable[[str], str]


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    st.title(_("Models"), anchor=False)
    with parts.said():
        found = house.catalog.all()
        st.dataframe(
            [
                {
                    _("Name"): model.name,
                    _("Provider"): model.provider,
                    _("Its name there"): model.model,
                    _("Address"): model.base_url,
                    _("In, per million"): model.price_in,
                    _("Out, per million"): model.price_out,
                    _("Context"): model.context,
                    _("Stands in"): model.fallback or "",
                    _("From"): source,
                }
                for model, source in found
            ],
            hide_index=True,
            width="stretch",
        )
        _test(house, who, [model.name for model, _source in found], _)
    if who.role == "admin":
        _add(house, who, _)
        _remove(house, who, [model.name for model, source in found if source == "catalog"], _)
    else:
        st.caption(_("An admin can add models. Your own keys for them are on the page Settings."))


def _test(house: House, who: Person, names: list[str], _: Texts) -> None:
    row = st.container(horizontal=True, vertical_alignment="bottom")
    name = row.selectbox(_("Try a model with one small question"), names)
    if row.button(_("Try it"), icon=":material/play_arrow:"):
        with st.spinner(_("Asking ...")):
            trial = house.try_model(who, name)
        show_it = st.success if trial.passed else st.error
        show_it(parts.plain(trial.sentence))
        for sentence in trial.degraded:
            st.caption(parts.plain(sentence))


def _add(house: House, who: Person, _: Texts) -> None:
    with st.expander(_("Add a model"), icon=":material/add:"), st.form("add", border=False):
        left, right = st.columns(2)
        name = left.text_input(_("Name"), help=_("As people will call it here."))
        provider = right.selectbox(_("Provider"), sorted(PRESETS))
        model = left.text_input(_("Its name there"), placeholder="gpt-4o-mini")
        address = right.text_input(
            _("Address"), placeholder="http://127.0.0.1:9000/v1",
            help=_("Empty for the provider's own."),
        )  # fmt: skip
        key = left.text_input(
            _("API key"), type="password", help=_("Encrypted; used for everybody. May stay empty.")
        )
        context = right.number_input(_("Context, in tokens"), min_value=0, step=1024)
        price_in = left.number_input(_("In, per million"), min_value=0.0, format="%.4f")
        price_out = right.number_input(_("Out, per million"), min_value=0.0, format="%.4f")
        if st.form_submit_button(_("Add")):
            with parts.said():
                options = {
                    "name": name, "provider": provider, "model": model, "base_url": address,
                    "price_in": price_in, "price_out": price_out, "context": context or None,
                }  # fmt: skip
                house.add_model(who, checked(options), key=key or None)
                st.toast(_("Added."))
                st.rerun()


def _remove(house: House, who: Person, names: list[str], _: Texts) -> None:
    if not names:
        return
    with st.expander(_("Remove a model"), icon=":material/delete:"):
        name = st.selectbox(_("Name"), names, key="remove which")
        if st.button(_("Remove")):
            with parts.said():
                house.remove_model(who, name)
                st.rerun()
