"""What a page needs: the house it is in, who looks at it, and that person's language.

A page is a script that runs anew for every click. It asks here first, so that a session that was
revoked ends with the next click and not when the page is loaded again.
"""

from collections.abc import Callable

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import i18n
from wordmill.channels.web.gate import COOKIE
from wordmill.errors import Unauthenticated

_houses: list[House] = []


def enter(house: House) -> None:
    """The house of this process, from now on."""
    _houses[:] = [house]


def house() -> House:
    """The house of this process."""
    return _houses[0]


def person() -> Person:
    """Who looks at the page, checked now. Ends the script where nobody is signed in any more."""
    token = st.context.cookies.get(COOKIE, "")
    try:
        return house().accounts.sessions.check(token)
    except Unauthenticated:
        _ = texts(None)
        st.error(_("You are no longer signed in."))
        st.link_button(_("Sign in"), "/login")
        st.stop()


def texts(who: Person | None) -> Callable[[str], str]:
    """gettext in the language that the person chose, else in the browser's."""
    language = i18n.chosen(who.language if who else None, st.context.locale)
    return i18n.texts(language).gettext
