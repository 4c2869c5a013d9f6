"""Beside the talk: a new conversation, the search, the list with its folders."""

from collections.abc import Callable
from typing import Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts
from wordmill.channels.web.views import chat_compare
from wordmill.chat.types import Conversation
from wordmill.errors import NotFound

LISTED: Final = 30
_OPEN: Final = "c"
"""The conversation that is open stands in the address, so that a reload finds it."""


def chosen(house: House, who: Person, _: Callable[[str], str]) -> Conversation | None:
    """Draw the list; the conversation that is open, None for a new one."""
    if st.button(_("New conversation"), icon=":material/add:", width="stretch"):
        st.query_params.pop(_OPEN, None)
    open_now = st.query_params.get(_OPEN)
    conversation = None
    if open_now:
        try:
            conversation = house.conversations.get(who, open_now)
        except NotFound:
            st.query_params.pop(_OPEN, None)
    if conversation is None:
        _new(house, _)
    chat_compare.wanted(house, _)
    query = st.text_input(
        _("Search"), placeholder=_("words, tag:work, folder:trip"), key="search",
        icon=":material/search:", label_visibility="collapsed",
    )  # fmt: skip
    with parts.said():
        if query:
            _found(house, who, query, _)
        else:
            _list(house, who, open_now, _)
    return conversation


def open_conversation(name: str) -> None:
    """From the next run on, this one is open."""
    st.query_params[_OPEN] = name


def _new(house: House, _: Callable[[str], str]) -> None:
    names = house.catalog.names()
    default = house.settings.default_model
    st.selectbox(
        _("Model"), names, key="new model",
        index=names.index(default) if default in names else 0,
    )  # fmt: skip
    st.toggle(
        _("Temporary"), key="new temporary", help=_("Kept in memory only, and gone when you leave.")
    )


def _list(house: House, who: Person, open_now: str | None, _: Callable[[str], str]) -> None:
    archived = st.session_state.get("archived", False)
    folders = house.conversations.folders.all(who)
    for folder in folders:
        with st.expander(parts.plain(folder.name), icon=":material/folder:"):
            _entries(house, who, open_now, _, folder=folder.id, archived=archived)
    _entries(house, who, open_now, _, folder="", archived=archived)
    st.toggle(_("Archive"), key="archived")


def _entries(
    house: House,
    who: Person,
    open_now: str | None,
    _: Callable[[str], str],
    *,
    folder: str,
    archived: bool,
) -> None:
    key = f"listed {folder}"
    limit = st.session_state.setdefault(key, LISTED)
    pinned = house.conversations.all(who, folder=folder, archived=archived, pinned=True, limit=500)
    others = house.conversations.all(
        who, folder=folder, archived=archived, pinned=False, limit=min(limit, 500)
    )
    for one in (*pinned.items, *others.items):
        title = parts.plain(one.title or _("New conversation"))
        if st.button(
            title, key=f"open {one.id}", width="stretch",
            icon=":material/push_pin:" if one.pinned else None,
            type="secondary" if one.id == open_now else "tertiary",
        ):  # fmt: skip
            open_conversation(one.id)
            st.rerun()
    if others.cursor and st.button(_("More"), key=f"more {folder}", type="tertiary"):
        st.session_state[key] = limit + LISTED
        st.rerun()


def _found(house: House, who: Person, query: str, _: Callable[[str], str]) -> None:
    page = house.conversations.search(who, query, limit=LISTED)
    if not page.items:
        st.caption(_("Nothing was found."))
    for hit in page.items:
        title = parts.plain(hit.title or _("New conversation"))
        if st.button(
            title, key=f"hit {hit.conversation} {hit.message}", width="stretch", type="tertiary"
        ):
            if hit.message:
                house.conversations.switch(who, hit.message)
            open_conversation(hit.conversation)
            st.rerun()
        st.caption(_marked(hit.snippet.text, hit.snippet.marks))


def _marked(text: str, marks: tuple[tuple[int, int], ...]) -> str:
    """The passage with what was found in bold; everything else as it stands."""
    out, last = [], 0
    for start, end in marks:
        out += [parts.plain(text[last:start]), "**", parts.plain(text[start:end]), "**"]
        last = end
    return "".join([*out, parts.plain(text[last:])]).replace("\n", " ")
