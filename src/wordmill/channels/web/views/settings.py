"""The page of settings: one's keys, sessions, quota and language; for an admin every setting."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import streamlit as st

from wordmill.accounts import SCOPES, Person
from wordmill.accounts.keys import DEFAULT_SCOPES
from wordmill.accounts.rows import digest_of
from wordmill.channels.house import House
from wordmill.channels.web import i18n, parts, place
from wordmill.channels.web.gate import COOKIE
from wordmill.channels.web.views import settings_documents
from wordmill.channels.web.views.settings_chats import chat_accounts
from wordmill.settings import table

Texts = Callable[[str], str]
OURS: Final = ("default", "set in the UI")
"""Origins of a value that can be changed here."""


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    st.title(_("Settings"), anchor=False)
    names = [_("Me"), _("Documents"), _("API keys"), _("Provider keys"), _("Used")]
    if who.admin:
        names.append(_("This server"))
    wanted = _("Documents") if st.query_params.get("tab") == "documents" else names[0]
    tabs = st.tabs(names, default=wanted)
    draw = (_me, settings_documents.show, _api_keys, _provider_keys, _used, _server)
    for tab, part in zip(tabs, draw, strict=False):
        with tab, parts.said():
            part(house, who, _)


def _me(house: House, who: Person, _: Texts) -> None:
    st.text(f"{who.name}, {who.email}, {who.role}")  # as Markdown an address becomes a link
    languages = i18n.languages()
    now = i18n.chosen(who.language, st.context.locale)
    language = st.selectbox(
        _("Language"), languages, index=languages.index(now), format_func=i18n.own_name, width=300
    )
    if language != now:
        house.accounts.people.change(who, who.id, language=language)
        st.rerun()
    with st.expander(_("Change the password"), icon=":material/password:"):
        _password(house, who, _)
    st.subheader(_("Where I am signed in"), anchor=False)
    own = digest_of(str(st.context.cookies.get(COOKIE, "")))
    for session in house.accounts.sessions.all(who):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            words = (
                f"{parts.program(session.agent)}, {session.address}, {session.seen:%Y-%m-%d %H:%M}"
            )
            st.text(words, width="content")
            if session.digest == own:
                st.badge(_("here"))
            elif st.button(_("Sign out"), key=f"session {session.digest}"):
                house.accounts.sessions.revoke(who, session.digest)
                st.rerun()
    st.link_button(_("Sign out here"), "/logout", icon=":material/logout:")
    chat_accounts(house, who, _)


def _password(house: House, who: Person, _: Texts) -> None:
    with st.form("password", clear_on_submit=True, border=False):
        old = st.text_input(_("Password until now"), type="password")
        new = st.text_input(_("New password"), type="password")
        if st.form_submit_button(_("Change the password")):
            with parts.said():
                house.accounts.people.set_password(
                    who, who.id, new, current=old, keep=st.context.cookies.get(COOKIE, "")
                )
                st.success(_("Changed. All other sessions are signed out."))


def _api_keys(house: House, who: Person, _: Texts) -> None:
    st.caption(_("For any OpenAI client: this address, and a key."))
    st.code(f"{place.here()}/v1", language=None)
    words = {
        "chat": _("talk to models"), "runs": _("start runs"), "read": _("only look"),
        "admin": _("what needs an admin"),
    }  # fmt: skip
    scopes = [one for one in SCOPES if one != "admin" or who.admin]
    with st.form("key", clear_on_submit=True):
        left, right = st.columns(2)
        name = left.text_input(_("Name"), placeholder="notebook")
        days = right.number_input(_("Good for days (0: always)"), min_value=0, step=30)
        wanted = st.pills(
            _("What it may do"), scopes, selection_mode="multi", format_func=words.__getitem__,
            default=[one for one in scopes if one in DEFAULT_SCOPES],
        )  # fmt: skip
        if st.form_submit_button(_("Make a key"), type="primary"):
            with parts.said():
                until = datetime.now(UTC) + timedelta(days=days) if days else None
                _key, secret = house.accounts.keys.create(who, name, wanted, until)
                st.code(secret, language=None, wrap_lines=True)
                st.warning(_("Copy it now: it is shown once."))
    for key in house.accounts.keys.all(who):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            used = f"{key.used:%Y-%m-%d}" if key.used else _("never")
            facts = [", ".join(words[one] for one in key.scopes)]
            facts.append(_("last used: {day}").format(day=used))
            if key.expires:
                facts.append(_("good until {day}").format(day=f"{key.expires:%Y-%m-%d}"))
            st.markdown(
                f"**{parts.plain(key.name)}** `{key.start}...`  \n{parts.plain('; '.join(facts))}",
                width="content",
            )
            if st.button(_("Revoke"), key=f"key {key.id}"):
                house.accounts.keys.revoke(who, key.id)
                st.rerun()


def _provider_keys(house: House, who: Person, _: Texts) -> None:
    st.caption(_("Your own key for a model is used before everybody's. It is stored encrypted."))
    names = [name for name in house.catalog.names() if not house.rehearses(who, name)]
    if not names:
        st.info(_("No model here wants a key: an admin adds models on the page Models."))
        return
    with st.form("provider", clear_on_submit=True):
        left, right = st.columns(2)
        model = left.selectbox(_("Model"), names)
        key = right.text_input(_("API key"), type="password")
        everyone = who.admin and st.checkbox(_("For everybody"))
        if st.form_submit_button(_("Save"), type="primary") and key:
            with parts.said():
                house.accounts.provider_keys.set(who, model, key, everyone=everyone)
                st.success(_("Saved."))
    for stored in house.accounts.provider_keys.models(who):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            whose = _("everybody's") if stored.everyone else _("mine")
            st.markdown(f"**{parts.plain(stored.model)}** {whose}", width="content")
            mine = not stored.everyone or who.admin
            if mine and st.button(_("Remove"), key=f"provider {stored.model} {stored.everyone}"):
                house.accounts.provider_keys.remove(who, stored.model, everyone=stored.everyone)
                st.rerun()


def _used(house: House, who: Person, _: Texts) -> None:
    titles = {"day": _("Today"), "month": _("This month")}
    for period, used in house.accounts.ledger.used(who.id).items():
        st.subheader(titles[period], anchor=False)
        st.caption(_("until {day} UTC").format(day=f"{used.ends:%Y-%m-%d %H:%M}"))
        quota = used.quota
        _spent(
            _("Requests"), used.amount.requests, quota.requests if quota else None, "{:,}".format
        )
        _spent(_("Tokens"), used.amount.tokens, quota.tokens if quota else None, "{:,}".format)
        _spent(_("Money"), used.amount.money, quota.money if quota else None, parts.money)


def _spent(label: str, spent: float, most: float | None, shown: Callable[[float], str]) -> None:
    words = f"{label}: {shown(spent)}"
    if most is None:
        st.write(parts.plain(words))
    else:
        part = min(1.0, spent / most) if most else 1.0
        st.progress(part, text=parts.plain(f"{words} / {shown(most)}"))


def _server(house: House, who: Person, _: Texts) -> None:
    """Every setting with its value and where that comes from; below, what can be changed here."""
    st.caption(_("What is set outside of this page is locked, and says where it comes from."))
    settings = house.settings
    origins = {one.name: settings.origin(one.name) for one in table()}
    locked = {
        one.name: one.row.early or one.row.secret or origins[one.name] not in OURS
        for one in table()
    }
    known = {"default": _("default"), "set in the UI": _("set here")}
    column = st.column_config
    st.dataframe(
        [
            {
                "name": one.name, "value": settings.shown(one.name), "unit": one.row.unit,
                "origin": known.get(origins[one.name], origins[one.name]),
                "locked": locked[one.name], "help": one.row.help,
            }
            for one in table()
        ],
        hide_index=True,
        width="stretch",
        height=460,
        column_config={
            "name": column.TextColumn(_("Setting"), pinned=True),
            "value": column.TextColumn(_("Value")),
            "unit": column.TextColumn(_("Unit")),
            "origin": column.TextColumn(_("Where it comes from")),
            "locked": column.CheckboxColumn(_("Locked")),
            "help": column.TextColumn(_("What it is")),
        },
    )  # fmt: skip
    rows = {one.name: one for one in table() if not locked[one.name]}
    name = st.selectbox(_("Change"), list(rows), key="which setting", width=360)
    if name is None:
        return
    row = rows[name].row
    with st.form(f"set {name}"):
        value = st.text_input(
            name, settings.shown(name), help=row.kind.expects, key=f"value {name}"
        )
        default = _("Default: {value}").format(value=rows[name].default)
        st.caption(parts.plain(f"{row.help} {default}"))
        buttons = st.container(horizontal=True)
        if buttons.form_submit_button(_("Save"), type="primary"):
            _set(house, who, name, value, _)
        if origins[name] != "default" and buttons.form_submit_button(_("Back to the default")):
            _set(house, who, name, "", _)


def _set(house: House, who: Person, name: str, value: str, _: Texts) -> None:
    with parts.said():
        house.change_setting(who, name, value)
        st.success(_("Saved; it counts after the next start."))
