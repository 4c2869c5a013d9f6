"""The admin's page: who is here, with which role and quota, and what was done."""

from collections.abc import Callable

import streamlit as st

from wordmill.accounts import PERIODS, ROLES, Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place

Texts = Callable[[str], str]


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    if who.role != "admin":
        st.error(_("This page is for admins."))
        return
    st.title(_("People"), anchor=False)
    with parts.said():
        everybody = house.accounts.people.all(who)
        st.dataframe(
            [
                {
                    _("Name"): one.name, _("E-mail"): one.email, _("Role"): one.role,
                    _("Disabled"): one.disabled, _("Since"): one.created,
                }
                for one in everybody
            ],
            hide_index=True,
            width="stretch",
        )  # fmt: skip
        _change(house, who, everybody, _)
        _add(house, who, _)
        _quota(house, who, everybody, _)
        _audit(house, who, _)


def _change(house: House, who: Person, everybody: list[Person], _: Texts) -> None:
    with st.expander(_("Change somebody"), icon=":material/edit:"):
        one = st.selectbox(_("Who"), everybody, format_func=lambda each: each.email)
        if one is None:
            return
        role = st.selectbox(_("Role"), ROLES, index=ROLES.index(one.role), key=f"role {one.id}")
        disabled = st.checkbox(_("Disabled"), one.disabled, key=f"off {one.id}")
        if st.button(_("Save"), key=f"save {one.id}"):
            with parts.said():
                house.accounts.people.change(who, one.id, role=role, disabled=disabled)
                st.rerun()
        sure = st.checkbox(_("Remove this account and all that is theirs"), key=f"sure {one.id}")
        if st.button(_("Remove"), key=f"remove {one.id}", disabled=not sure):
            with parts.said():
                house.accounts.people.remove(who, one.id)
                st.rerun()


def _add(house: House, who: Person, _: Texts) -> None:
    with st.expander(_("Add somebody"), icon=":material/person_add:"), st.form("add", border=False):
        email = st.text_input(_("E-mail"))
        name = st.text_input(_("Name"))
        password = st.text_input(_("Password"), type="password")
        role = st.selectbox(_("Role"), ROLES, index=1)
        if st.form_submit_button(_("Add")):
            with parts.said():
                house.accounts.people.create(who, email, name, password, role)
                st.rerun()


def _quota(house: House, who: Person, everybody: list[Person], _: Texts) -> None:
    with st.expander(_("Quotas"), icon=":material/speed:"), st.form("quota", border=False):
        names = {"": _("Everybody without one of their own")} | {
            one.id: one.email for one in everybody
        }
        person = st.selectbox(_("Who"), list(names), format_func=lambda one: names[one])
        period = st.selectbox(_("Period"), PERIODS)
        requests = st.number_input(_("Requests (0: no limit)"), min_value=0, step=100)
        tokens = st.number_input(_("Tokens (0: no limit)"), min_value=0, step=10_000)
        money = st.number_input(_("Money (0: no limit)"), min_value=0.0)
        if st.form_submit_button(_("Save")):
            with parts.said():
                house.accounts.ledger.set_quota(
                    who, person, period,
                    requests=requests or None, tokens=tokens or None, money=money or None,
                )  # fmt: skip
                st.toast(_("Saved."))


def _audit(house: House, who: Person, _: Texts) -> None:
    with st.expander(_("What was done"), icon=":material/history:"):
        st.dataframe(
            [
                {
                    _("When"): entry.at, _("Who"): entry.person, _("What"): entry.action,
                    _("On"): entry.subject, _("From"): entry.address,
                }
                for entry in house.accounts.audit.entries(who, limit=200)
            ],
            hide_index=True,
            width="stretch",
        )  # fmt: skip
