"""The page for talk.

Answers are made by the server, never by this script: a click anywhere ends the running script, and
the next run finds the answer where it is by then. So the page only watches, and does so last, when
all the rest of it is drawn.

On the page are the last messages of one branch, with "Earlier" above them; the browser, and not the
server, is what a long conversation slows down.
"""

from collections.abc import Callable
from typing import Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.channels.web.views import (
    chat_compare,
    chat_drawer,
    chat_list,
    chat_message,
    chat_watch,
    chat_write,
)
from wordmill.chat.types import Conversation

SHOWN: Final = 50
Texts = Callable[[str], str]


def show() -> None:
    """Draw the page: the list beside, the branch, the box to write in."""
    who, house = place.person(), place.house()
    _ = place.texts(who)
    with st.sidebar:
        conversation = chat_list.chosen(house, who, _)
    chat_write.box(house, who, conversation, _)
    with st.container(key="talk"):
        if conversation is None:
            _welcome(house, who, _)
            growing = []
        else:
            _head(house, who, conversation, _)
            growing = _branch(house, who, conversation, _)
        chat_write.answers(house, who, conversation, _)
    if growing:
        with parts.said():
            chat_watch.watch(house, who, growing, _)


def _branch(
    house: House, who: Person, conversation: Conversation, _: Texts
) -> list[chat_watch.Growing]:
    """Draw the messages; those that still grow, each with its place."""
    key = f"shown {conversation.id}"
    shown = st.session_state.setdefault(key, SHOWN)
    branch = house.conversations.branch(who, conversation.id, limit=shown)
    more = bool(branch) and branch[0].parent is not None
    if more and st.button(_("Earlier"), icon=":material/history:"):
        st.session_state[key] = shown + SHOWN
        st.rerun()
    ratings = house.conversations.ratings(who, conversation.id)
    calls = {call.message: call for call in house.chat.asks(who, conversation.id)}
    growing: list[chat_watch.Growing] = []
    for message in branch:
        if message.role == "tool":
            growing += chat_message.tool(house, who, message, calls.get(message.id), _)
        elif message.role in ("user", "assistant"):
            growing += chat_message.show(house, who, message, ratings.get(message.id), _)
    return growing


def _welcome(house: House, who: Person, _: Texts) -> None:
    st.title(_("What shall we talk about?"), anchor=False)
    row = st.container(horizontal=True, vertical_alignment="bottom")
    chat_list.model_of_a_new_one(house, who, row, _)
    chat_compare.wanted(house, row, _)
    row.toggle(
        _("Temporary"), key="new temporary", help=_("Kept in memory only, and gone when you leave.")
    )
    if all(model.provider == "rehearsal" for model, _source in house.catalog.all()):
        st.info(
            _(
                "Only the rehearsal model is here: it answers at once, without weights, keys or "
                "sense. Add a real one on the page Models."
            ),
            icon=":material/info:",
        )
        place.link("models", _("Add a model"), ":material/add:")
    st.caption(
        _(
            "Answers are written by the server: they go on when you leave, and are here when you "
            "come back. `/commands` lists what can be typed instead of a message; files can be "
            "dropped into the box."
        )
    )


def _head(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    title = parts.plain(conversation.title or _("New conversation"))
    st.subheader(title, anchor=False)
    about = [f":material/sell: {parts.plain(tag)}" for tag in conversation.tags]
    if conversation.temporary:
        about.insert(0, _("Temporary: it is not kept."))
    if conversation.archived:
        about.insert(0, ":material/archive: " + _("Archived"))
    if about:
        st.caption("  ".join(about))
    row = st.container(horizontal=True, vertical_alignment="bottom")
    chat_list.model_of(house, who, conversation, row, _)
    chat_compare.wanted(house, row, _)
    chat_drawer.button(house, who, conversation, row, _)
