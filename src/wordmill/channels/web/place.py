"""What a page needs: the house it is in, who looks at it, and that person's language.

A page is a script that runs anew for every click. It asks here first, so that a session that was
revoked ends with the next click and not when the page is loaded again.
"""

from collections.abc import Callable, Mapping

from typing import Literal

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import i18n
from wordmill.channels.web.gate import COOKIE
from wordmill.errors import Unauthenticated

_houses: list[House] = []
_pages: dict[str, st.Page] = {}


def enter(house: House) -> None:
    """The house of this process, from now on."""
    _houses[:] = [house]


def house() -> House:
    """The house of this process."""
    return _houses[0]


def pages(known: Mapping[str, st.Page]) -> None:
    """The pages by name, from now on."""
    _pages.update(known)


def link(
    page: str,
    label: str,
    icon: str | None = None,
    *,
    query: Mapping[str, str] | None = None,
    help: str | None = None,  # noqa: A002  # as Streamlit calls it
) -> None:
    """A link to a page of the workbench; nothing where the page is run alone."""
    if page in _pages:
        st.page_link(
            _pages[page], label=label, icon=icon, help=help, width="stretch",
            query_params=dict(query or {}),
        )  # fmt: skip


def beside() -> Literal["auto", "collapsed", "expanded"]:
    """Whether what stands beside the page is open.

    On a telephone it lies over the page, so it closes when something in it was chosen.
    """
    if "Mobi" not in str(st.context.headers.get("User-Agent")):
        return "auto"
    before = st.session_state.get("was open")
    now = st.session_state["was open"] = st.query_params.get("c")
    return "collapsed" if before != now else "auto"


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
