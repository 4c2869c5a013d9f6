"""What a page needs: the house it is in, who looks at it, and that person's language.

A page is a script that runs anew for every click. It asks here first, so that a session that was
revoked ends with the next click and not when the page is loaded again.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import i18n
from wordmill.channels.web.gate import COOKIE
from wordmill.errors import Unauthenticated

_CLOSE: Final = """
let tries = 0;
const close = () => {
  const beside = document.querySelector('[data-testid=stSidebar]');
  if (beside && beside.getBoundingClientRect().right > 1) {
    beside.querySelector('[data-testid=stSidebarCollapseButton] button')?.click();
  } else if (++tries < 6) {
    setTimeout(close, 100);
  }
};
if (window.innerWidth < 768) close();
"""
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


def close_beside(page: str) -> None:
    """Close what stands beside the page where that lies over it, as on a telephone, when
    something in it was chosen. The framework has no call for it.
    """
    now = f"{page}?{st.query_params.get('c', '')}"
    if st.session_state.get("was at") != now:
        st.session_state["was at"] = now
        # The address makes it another script, which is run; it holds nothing but our own letters.
        mark = sha256(now.encode()).hexdigest()
        st.html(f"<script>{{ /* {mark} */ {_CLOSE} }}</script>", unsafe_allow_javascript=True)


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


def here() -> str:
    """The address under which the browser sees this server."""
    return "/".join((st.context.url or "").split("/")[:3])


def texts(who: Person | None) -> Callable[[str], str]:
    """gettext in the language that the person chose, else in the browser's."""
    language = i18n.chosen(who.language if who else None, st.context.locale)
    return i18n.texts(language).gettext
