"""The admin's page of channels: which there are, how each is, adding and changing them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from wordmill import plugins
from wordmill.accounts import Person
from wordmill.channels.rooms.accounts import ChannelAccounts, Configured, fields_of, load
from wordmill.channels.rooms.admission import POLICY_HELP, Policy
from wordmill.channels.rooms.base import Check
from wordmill.channels.rooms.trial import tried
from wordmill.channels.web import parts, place
from wordmill.errors import ConfigError

Texts = Callable[[str], str]
_TRIED = "channel tried"


def show() -> None:
    """Draw the page."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    if not who.admin:
        st.error(_("This page is for admins."))
        return
    st.title(_("Channels"), anchor=False)
    st.caption(_("Accounts at chat services through which people talk to this server."))
    accounts = ChannelAccounts(house.database, house.settings)
    _checks(st.session_state.pop(_TRIED, ()))
    with parts.said():
        _all(accounts, who, _)
        _add(accounts, who, _)


def _checks(found: Sequence[Check]) -> None:
    """What is fine with a channel and what is not."""
    for check in found:
        (st.success if check.fine else st.error)(parts.plain(f"{check.name}: {check.words}"))


@st.fragment(run_every=5.0)
def _all(accounts: ChannelAccounts, who: Person, _: Texts) -> None:
    """How each is, looked at again and again."""
    found = accounts.all(who)
    if not found:
        st.info(_("There is no channel yet."))
    for one in found:
        with st.container(border=True):
            _one(accounts, who, one, _)


def _one(accounts: ChannelAccounts, who: Person, one: Configured, _: Texts) -> None:
    status = one.status
    row = st.container(horizontal=True, vertical_alignment="center")
    row.markdown(f"**{parts.plain(one.name)}** {one.kind}", width="content")
    words = str(status.get("words") or "")
    if not one.enabled:
        row.badge(_("off"), color="gray")
    elif one.running and status.get("connected") and not words:
        row.badge(_("connected"), icon=":material/check:", color="green")
    elif one.running:
        row.badge(_("trouble") if words else _("connecting"), color="orange")
    else:
        row.badge(_("not running"), color="red")
    if words:
        st.warning(parts.plain(words))
    facts = {
        _("Account"): status.get("account") or one.options.get("user"),
        _("Last event"): _moment(status.get("last_event")) or _("none yet"),
        _("Encryption"): status.get("encryption"),
        _("Waiting"): str(status.get("waiting", 0)),
    }
    st.text("\n".join(f"{title}: {value}" for title, value in facts.items() if value))
    actions = st.container(horizontal=True)
    if actions.button(_("Test"), key=f"test {one.name}"):
        with parts.said():
            _checks(tried(accounts, who, one.name))
    if actions.button(_("Stop") if one.enabled else _("Start"), key=f"switch {one.name}"):
        with parts.said():
            accounts.change(who, one.name, enabled=not one.enabled)
            st.rerun()
    with st.expander(_("Change or remove")):
        st.markdown(load(one.kind).invitation(one.options))
        _policy(accounts, who, one, _)
        sure = st.checkbox(_("Forget it with its keys"), key=f"sure {one.name}")
        if st.button(_("Remove"), key=f"remove {one.name}", disabled=not sure):
            with parts.said():
                accounts.remove(who, one.name)
                st.rerun()


def _policy(accounts: ChannelAccounts, who: Person, one: Configured, _: Texts) -> None:
    """Who may talk there."""
    with st.form(f"policy {one.name}", border=False):
        options = _asked(one.policy, one.name)
        if st.form_submit_button(_("Save")):
            with parts.said():
                accounts.change(who, one.name, options=options)
                st.rerun()


def _asked(policy: Policy, key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, words in POLICY_HELP.items():
        value = getattr(policy, name)
        label = parts.label(name)
        if isinstance(value, bool):
            found[name] = st.checkbox(label, value, help=words, key=f"{key} {name}")
        elif isinstance(value, int):
            found[name] = st.number_input(
                label, min_value=0, value=value, help=words, key=f"{key} {name}"
            )
        else:
            text = ", ".join(value) if isinstance(value, tuple) else value
            found[name] = st.text_input(label, text, help=words, key=f"{key} {name}")
    return found


def _add(accounts: ChannelAccounts, who: Person, _: Texts) -> None:
    with st.expander(_("Add a channel"), icon=":material/add:"):
        kind = st.selectbox(_("Service"), list(plugins.names("channels")))
        if kind is None:
            return
        try:
            fields = fields_of(kind)
        except ConfigError as error:
            st.error(parts.plain(str(error)))
            return
        with st.form("channel", border=False):
            name = st.text_input(_("Name"), placeholder=kind)
            values: Mapping[str, str] = {
                field.name: st.text_input(
                    parts.label(field.name), help=field.help,
                    type="password" if field.secret else "default",
                )
                for field in fields
            }  # fmt: skip
            if st.form_submit_button(_("Add"), type="primary"):
                with parts.said():
                    hidden = {f.name for f in fields if f.secret}
                    told = {key: value for key, value in values.items() if value}
                    accounts.add(
                        who, name, kind,
                        {key: value for key, value in told.items() if key not in hidden},
                        {key: value for key, value in told.items() if key in hidden},
                        enabled=False,
                    )  # fmt: skip
                    with st.spinner(_("Trying it out")):
                        st.session_state[_TRIED] = tried(accounts, who, name)
                    accounts.change(who, name, enabled=True)
                    st.rerun()


def _moment(text: object) -> str:
    if not isinstance(text, str):
        return ""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"
