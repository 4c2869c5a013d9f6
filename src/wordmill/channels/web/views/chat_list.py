"""Beside the talk: a new conversation, the search, the list with its folders."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.channels.web.views import chat_shelf
from wordmill.chat.types import Conversation, Folder
from wordmill.errors import NotFound
from wordmill.models import REHEARSAL

LISTED: Final = 30
_OPEN: Final = "c"
"""The conversation that is open stands in the address, so that a reload finds it."""
Texts = Callable[[str], str]


def chosen(house: House, who: Person, _: Texts) -> Conversation | None:
    """Draw the list; the conversation that is open, None for a new one."""
    open_now = st.query_params.get(_OPEN)
    conversation = None
    if open_now:
        try:
            conversation = house.conversations.get(who, open_now)
        except NotFound:
            st.query_params.pop(_OPEN, None)
    place.link("chat", _("New conversation"), ":material/edit_square:")
    query = st.text_input(
        _("Search"), placeholder=_("words, tag:work, folder:trip"), key="search",
        icon=":material/search:", label_visibility="collapsed",
    )  # fmt: skip
    here = conversation.id if conversation else None
    with parts.said(), st.container(key="list", gap="xxsmall"):
        if query:
            _found(house, who, query, _)
        else:
            _list(house, who, here, _)
    chat_shelf.show(_)
    return conversation


def open_conversation(name: str) -> None:
    """From the next run on, this one is open."""
    st.query_params[_OPEN] = name


def model_of_a_new_one(house: House, who: Person, where: Any, _: Texts) -> None:
    """The model that the next conversation begins with: the one that was used last."""
    names = house.catalog.names()
    if st.session_state.get("new model") not in names:
        last = house.conversations.all(who, limit=1).items
        real = [name for name in names if name != REHEARSAL.name]
        wishes = [last[0].model if last else None, house.settings.default_model, *real]
        found = next((wish for wish in wishes if wish in names), REHEARSAL.name)
        st.session_state["new model"] = found
    where.selectbox(_("Model"), names, key="new model", width=280)


def model_of(house: House, who: Person, conversation: Conversation, where: Any, _: Texts) -> None:
    """The model of a conversation; another one answers from then on."""
    names = house.catalog.names()
    model = conversation.model or house.settings.default_model or REHEARSAL.name
    if model not in names:
        names = [*names, model]
    key = f"model {conversation.id} {model}"
    now = where.selectbox(_("Model"), names, index=names.index(model), key=key, width=280)
    if now != model:
        with parts.said():
            house.conversations.change(who, conversation.id, model=now)
            st.rerun()


def _list(house: House, who: Person, here: str | None, _: Texts) -> None:
    archived = bool(st.session_state.get("archived"))
    folders = house.conversations.folders.all(who)
    for folder in folders:
        if not folder.count and archived:
            continue
        title = parts.plain(chat_shelf.path(folder, folders))
        with st.expander(f"{title} ({folder.count})", icon=":material/folder:"):
            _entries(house, who, here, _, folder=folder, archived=archived)
    _entries(house, who, here, _, folder=None, archived=archived)


def _entries(
    house: House, who: Person, here: str | None, _: Texts, *, folder: Folder | None, archived: bool
) -> None:
    inside = folder.id if folder else ""
    key = f"listed {inside}"
    limit = st.session_state.setdefault(key, LISTED)
    pinned = house.conversations.all(who, folder=inside, archived=archived, pinned=True, limit=500)
    others = house.conversations.all(
        who, folder=inside, archived=archived, pinned=False, limit=min(limit, 500)
    )
    if folder is not None:
        _links((*pinned.items, *others.items), here, _)
        if not pinned.items and not others.items:
            st.caption(_("Empty."))
    else:
        if archived:
            st.caption(_("Archive"))
        _links(pinned.items, here, _)
        groups: dict[str, list[Conversation]] = {}
        for one in others.items:
            groups.setdefault(_age(one.updated, _), []).append(one)
        for age, some in groups.items():
            st.caption(age)
            _links(some, here, _)
    if others.cursor and st.button(_("More"), key=f"more {inside}", type="tertiary"):
        st.session_state[key] = limit + LISTED
        st.rerun()


def _age(moment: datetime, _: Texts) -> str:
    days = (datetime.now(UTC).date() - moment.date()).days
    if days < 1:
        return _("Today")
    if days < 2:
        return _("Yesterday")
    return _("The last 30 days") if days < 30 else _("Older")


def _links(some: Sequence[Conversation], here: str | None, _: Texts) -> None:
    for one in some:
        title = one.title or _("New conversation")
        icon = ":material/push_pin:" if one.pinned else ":material/chat_bubble:"
        with st.container(key=f"here-{one.id}" if one.id == here else f"there-{one.id}"):
            place.link("chat", parts.plain(title), icon, query={_OPEN: one.id}, help=title)


def _found(house: House, who: Person, query: str, _: Texts) -> None:
    page = house.conversations.search(who, query, limit=LISTED)
    if not page.items:
        st.caption(_("Nothing was found."))
    for hit in page.items:
        title = parts.plain(hit.title or _("New conversation"))
        if st.button(
            title, key=f"hit {hit.conversation} {hit.message}", width="stretch", type="tertiary",
            icon=":material/chat_bubble:",
        ):  # fmt: skip
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
