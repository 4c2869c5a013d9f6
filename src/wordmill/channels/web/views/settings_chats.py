"""The part of the settings on chat accounts: which are one's own, and how another is linked."""

from collections.abc import Callable
from typing import Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts

Texts = Callable[[str], str]

_ASKED: Final = "chat code asked about"


def chat_accounts(house: House, who: Person, _: Texts) -> None:
    """Those of a person; a code for the chat, and a field for the code from there."""
    st.subheader(_("Chat accounts"), anchor=False)
    identities = house.accounts.identities
    for one in identities.all(who):
        if one.provider not in ("matrix", "discord"):
            continue
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.text(f"{one.provider.title()}: {one.subject}", width="content")
            if st.button(_("Unlink"), key=f"unlink {one.provider} {one.subject}"):
                with parts.said():
                    identities.unlink(who, one.provider, one.subject)
                    st.rerun()
    left, right = st.columns(2)
    with left:
        st.caption(_("Make a code here, and send it to the bot in a direct room."))
        if st.button(_("Make a code")):
            with parts.said():
                st.code(f"--link {identities.code(who)}", language=None)
                st.caption(_("It is good once, for ten minutes."))
    with right, st.form("chat code", clear_on_submit=True, border=False):
        code = st.text_input(_("Or the code that the bot gave for `--link`"))
        if st.form_submit_button(_("Link")) and code:
            with parts.said():
                st.session_state[_ASKED] = (code, *identities.offered(who, code))
    if _ASKED in st.session_state:
        _confirmed(house, who, _)


def _confirmed(house: House, who: Person, _: Texts) -> None:
    """Whose account a code is of, and the question whether it is one's own."""
    code, provider, subject = st.session_state[_ASKED]
    words = _("This code is of {account} on {service}. Whoever that is will be you. Is it you?")
    st.warning(parts.plain(words.format(account=subject, service=provider.title())))
    with st.container(horizontal=True):
        yes = st.button(_("Yes, that is me"), type="primary")
        no = st.button(_("No, that is somebody else"))
    if yes or no:
        del st.session_state[_ASKED]
    if yes:
        with parts.said():
            house.accounts.identities.accept(who, code)
            st.rerun()
    if no:
        st.rerun()
