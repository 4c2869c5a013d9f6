"""The admin's page: who is here, with which role and quota, and what was done."""

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from wordmill.accounts import PERIODS, ROLES, Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place

Texts = Callable[[str], str]


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    if not who.admin:
        st.error(_("This page is for admins."))
        return
    st.title(_("People"), anchor=False)
    with parts.said():
        everybody = house.accounts.people.all(who)
        _waiting(house, who, everybody, _)
        _table(house, everybody, _)
        _change(house, who, everybody, _)
        _add(house, who, _)
        _quota(house, who, everybody, _)
        _audit(house, who, everybody, _)


def _waiting(house: House, who: Person, everybody: list[Person], _: Texts) -> None:
    """Those who signed up and wait to be let in."""
    for one in everybody:
        if one.role != "pending" or one.disabled:
            continue
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.text(
                _("{name} ({email}) waits to be let in.").format(name=one.name, email=one.email)
            )
            if st.button(_("Let in"), key=f"in {one.id}", icon=":material/how_to_reg:"):
                with parts.said():
                    house.accounts.people.change(who, one.id, role="member")
                    st.rerun()


def _table(house: House, everybody: list[Person], _: Texts) -> None:
    column, roles = st.column_config, _roles(_)
    month = {one.id: house.accounts.ledger.used(one.id)["month"].amount for one in everybody}
    st.dataframe(
        [
            {
                "name": one.name, "email": one.email, "role": roles[one.role],
                "disabled": one.disabled, "requests": month[one.id].requests,
                "money": month[one.id].money, "since": one.created,
            }
            for one in everybody
        ],
        hide_index=True,
        width="stretch",
        column_config={
            "name": column.TextColumn(_("Name"), pinned=True),
            "email": column.TextColumn(_("E-mail")),
            "role": column.TextColumn(_("Role")),
            "disabled": column.CheckboxColumn(_("Disabled")),
            "requests": column.NumberColumn(_("Requests this month"), format="localized"),
            "money": column.NumberColumn(_("Money this month"), format="$%.2f"),
            "since": column.DateColumn(_("Since"), format="YYYY-MM-DD"),
        },
    )  # fmt: skip


def _roles(_: Texts) -> Mapping[str, str]:
    return {"admin": _("admin"), "member": _("member"), "pending": _("pending")}


def _change(house: House, who: Person, everybody: list[Person], _: Texts) -> None:
    with st.expander(_("Change somebody"), icon=":material/edit:"):
        one = st.selectbox(_("Who"), everybody, format_func=lambda each: each.email)
        if one is None:
            return
        roles = _roles(_)
        left, right = st.columns(2, vertical_alignment="bottom")
        role = left.selectbox(
            _("Role"), ROLES, index=ROLES.index(one.role), key=f"role {one.id} {one.role}",
            format_func=roles.__getitem__,
        )  # fmt: skip
        disabled = right.checkbox(
            _("Disabled"), one.disabled, key=f"off {one.id}", help=_("Signed out and kept out.")
        )
        row = st.container(horizontal=True)
        if row.button(_("Save"), key=f"save {one.id}", type="primary"):
            with parts.said():
                house.accounts.people.change(who, one.id, role=role, disabled=disabled)
                st.rerun()
        if row.button(_("Code for a new password"), key=f"code {one.id}"):
            with parts.said():
                code = house.accounts.people.reset(who, one.id)
                st.code(f"{place.here()}/password?code={code}", language=None, wrap_lines=True)
                st.caption(_("Give it to them: it is good once, for a day, and shown once."))
        st.divider()
        sure = st.checkbox(_("Remove this account and all that is theirs"), key=f"sure {one.id}")
        if st.button(_("Remove"), key=f"remove {one.id}", disabled=not sure):
            with parts.said():
                house.accounts.people.remove(who, one.id)
                st.rerun()


def _add(house: House, who: Person, _: Texts) -> None:
    with st.expander(_("Add somebody"), icon=":material/person_add:"), st.form("add", border=False):
        left, right = st.columns(2)
        email = left.text_input(_("E-mail"))
        name = right.text_input(_("Name"))
        password = left.text_input(_("Password"), type="password")
        role = right.selectbox(_("Role"), ROLES, index=1, format_func=_roles(_).__getitem__)
        if st.form_submit_button(_("Add"), type="primary"):
            with parts.said():
                house.accounts.people.create(who, email, name, password, role)
                st.rerun()


def _quota(house: House, who: Person, everybody: list[Person], _: Texts) -> None:
    with st.expander(_("Quotas"), icon=":material/speed:"):
        _quotas(house, everybody, _)
        with st.form("quota", border=False):
            names = {"": _("Everybody without one of their own")} | {
                one.id: one.email for one in everybody
            }
            periods = {"day": _("a day"), "month": _("a month")}
            left, right = st.columns(2)
            person = left.selectbox(_("Who"), list(names), format_func=names.__getitem__)
            period = right.selectbox(_("Period"), PERIODS, format_func=periods.__getitem__)
            requests = left.number_input(_("Requests (0: no limit)"), min_value=0, step=100)
            tokens = right.number_input(_("Tokens (0: no limit)"), min_value=0, step=10_000)
            money = left.number_input(_("Money (0: no limit)"), min_value=0.0)
            if st.form_submit_button(_("Save"), type="primary"):
                with parts.said():
                    house.accounts.ledger.set_quota(
                        who, person, period,
                        requests=requests or None, tokens=tokens or None, money=money or None,
                    )  # fmt: skip
                    st.toast(_("Saved."))
                    st.rerun()


def _quotas(house: House, everybody: list[Person], _: Texts) -> None:
    """What bounds each person now."""
    rows: list[dict[str, Any]] = []
    for one in everybody:
        for period, used in house.accounts.ledger.used(one.id).items():
            if used.quota is not None:
                rows.append(
                    {
                        _("Who"): one.email,
                        _("Period"): {"day": _("a day"), "month": _("a month")}[period],
                        _("Requests"): used.quota.requests,
                        _("Tokens"): used.quota.tokens,
                        _("Money"): used.quota.money,
                    }
                )
    if rows:
        st.dataframe(rows, hide_index=True, width="stretch")
    else:
        st.caption(_("Nobody has a quota."))


def _audit(house: House, who: Person, everybody: list[Person], _: Texts) -> None:
    names = {one.id: one.email for one in everybody}
    with st.expander(_("What was done"), icon=":material/history:"):
        column = st.column_config
        st.dataframe(
            [
                {
                    "at": entry.at, "who": names.get(entry.person, entry.person),
                    "what": entry.action, "on": names.get(entry.subject, entry.subject),
                    "from": entry.address,
                }
                for entry in house.accounts.audit.entries(who, limit=200)
            ],
            hide_index=True,
            width="stretch",
            column_config={
                "at": column.DatetimeColumn(_("When"), format="YYYY-MM-DD HH:mm"),
                "who": column.TextColumn(_("Who")),
                "what": column.TextColumn(_("What")),
                "on": column.TextColumn(_("On")),
                "from": column.TextColumn(_("From")),
            },
        )  # fmt: skip
