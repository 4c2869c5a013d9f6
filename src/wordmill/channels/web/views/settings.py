"""The page of settings: one's keys, sessions, quota and language; for an admin every setting."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import i18n, parts, place
from wordmill.channels.web.gate import COOKIE
from wordmill.settings import table

Texts = Callable[[str], str]


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    st.title(_("Settings"), anchor=False)
    names = [_("Me"), _("API keys"), _("Provider keys"), _("Used")]
    if who.role == "admin":
        names.append(_("This server"))
    tabs = st.tabs(names)
    draw = (_me, _api_keys, _provider_keys, _used, _server)
    for tab, part in zip(tabs, draw, strict=False):
        with tab, parts.said():
            part(house, who, _)


def _me(house: House, who: Person, _: Texts) -> None:
    st.text(f"{who.name}, {who.email}, {who.role}")  # as Markdown an address becomes a link
    languages = i18n.languages()
    now = i18n.chosen(who.language, st.context.locale)
    language = st.selectbox(
        _("Language"), languages, index=languages.index(now), format_func=i18n.own_name
    )
    if language != now:
        house.accounts.people.change(who, who.id, language=language)
        st.rerun()
    with st.form("password", clear_on_submit=True):
        old = st.text_input(_("Password until now"), type="password")
        new = st.text_input(_("New password"), type="password")
        if st.form_submit_button(_("Change the password")):
            with parts.said():
                house.accounts.people.set_password(
                    who, who.id, new, current=old, keep=st.context.cookies.get(COOKIE, "")
                )
                st.success(_("Changed. All other sessions are signed out."))
    st.subheader(_("Where I am signed in"), anchor=False)
    for session in house.accounts.sessions.all(who):
        row = st.container(horizontal=True, vertical_alignment="center")
        row.text(
            f"{parts.program(session.agent)}, {session.address}, {session.seen:%Y-%m-%d %H:%M}"
        )
        if row.button(_("Sign out"), key=f"session {session.digest}"):
            house.accounts.sessions.revoke(who, session.digest)
            st.rerun()
    st.link_button(_("Sign out here"), "/logout", icon=":material/logout:")


def _api_keys(house: House, who: Person, _: Texts) -> None:
    st.caption(_("For any OpenAI client: the address of this server with /v1, and a key."))
    with st.form("key", clear_on_submit=True):
        name = st.text_input(_("Name"), placeholder="notebook")
        days = st.number_input(_("Good for days (0: always)"), min_value=0, step=30)
        if st.form_submit_button(_("Make a key")):
            with parts.said():
                until = datetime.now(UTC) + timedelta(days=days) if days else None
                _key, secret = house.accounts.keys.create(who, name, expires=until)
                st.code(secret, language=None)
                st.warning(_("Copy it now: it is shown once."))
    for key in house.accounts.keys.all(who):
        if key.revoked is not None:
            continue
        row = st.container(horizontal=True, vertical_alignment="center")
        used = f"{key.used:%Y-%m-%d}" if key.used else _("never")
        last = _("last used: {day}").format(day=used)
        row.write(f"`{key.start}...` {parts.plain(key.name)} - {last}")
        if row.button(_("Revoke"), key=f"key {key.id}"):
            house.accounts.keys.revoke(who, key.id)
            st.rerun()


def _provider_keys(house: House, who: Person, _: Texts) -> None:
    st.caption(_("Your own key for a model is used before everybody's. It is stored encrypted."))
    with st.form("provider", clear_on_submit=True):
        model = st.selectbox(_("Model"), house.catalog.names())
        key = st.text_input(_("API key"), type="password")
        if st.form_submit_button(_("Save")) and key:
            with parts.said():
                house.accounts.provider_keys.set(who, model, key)
                st.success(_("Saved."))
    for stored in house.accounts.provider_keys.models(who):
        row = st.container(horizontal=True, vertical_alignment="center")
        whose = _("everybody's") if stored.everyone else _("mine")
        row.write(f"{parts.plain(stored.model)} ({whose})")
        if not stored.everyone and row.button(_("Remove"), key=f"provider {stored.model}"):
            house.accounts.provider_keys.remove(who, stored.model)
            st.rerun()


def _used(house: House, who: Person, _: Texts) -> None:
    titles = {"day": _("Today"), "month": _("This month")}
    for period, used in house.accounts.ledger.used(who.id).items():
        st.subheader(titles[period], anchor=False)
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
    st.caption(_("What is set outside of this page is locked, and says where it comes from."))
    settings = house.settings
    for setting in table():
        origin = settings.origin(setting.name)
        locked = setting.row.early or origin not in ("default", "set in the UI")
        left, right = st.columns([3, 2], vertical_alignment="bottom")
        value = left.text_input(
            setting.name, settings.shown(setting.name), disabled=locked or setting.row.secret,
            help=f"{setting.row.help} {setting.row.kind.expects}", key=f"set {setting.name}",
        )  # fmt: skip
        right.caption(f"{parts.plain(origin)}" + (" :material/lock:" if locked else ""))
        changed = not locked and value != settings.shown(setting.name)
        if changed and right.button(_("Save"), key=f"save {setting.name}"):
            with parts.said():
                house.change_setting(who, setting.name, value)
                st.toast(_("Saved; it counts after the next start."))
