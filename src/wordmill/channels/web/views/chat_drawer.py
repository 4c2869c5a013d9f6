"""The drawer of a conversation: its title, place, system prompt and tools; and the settings of the
person and the model together, each with where its value comes from.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts, place
from wordmill.channels.web.views import chat_document, chat_shelf
from wordmill.chat.answering import TOOLS
from wordmill.chat.types import Conversation
from wordmill.commands.words import file_name
from wordmill.models import REHEARSAL

Texts = Callable[[str], str]


def button(house: House, who: Person, conversation: Conversation, where: Any, _: Texts) -> None:
    """A button that opens the drawer."""
    if where.button(_("Settings"), icon=":material/tune:", key=f"drawer {conversation.id}"):
        title = parts.plain(conversation.title or _("New conversation"))
        opened = st.dialog(title, position="right", width="medium", on_dismiss="rerun")
        opened(_drawer)(conversation.id, _)


def _drawer(name: str, _: Texts) -> None:
    """Runs apart from the page, so it asks anew who looks and how things stand."""
    who, house = place.person(), place.house()
    with parts.said():
        conversation = house.conversations.get(who, name)
        about, asking, away = st.tabs([_("Conversation"), _("Model"), _("Share and export")])
        with about:
            _about(house, who, conversation, _)
        with asking:
            _asking(house, who, conversation, _)
        with away:
            _away(house, who, conversation, _)


def _about(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    name = conversation.id
    folders = house.conversations.folders.all(who)
    names = {"": _("(none)")} | {one.id: chat_shelf.path(one, folders) for one in folders}
    with st.form(f"about {name}", border=False):
        title = st.text_input(_("Title"), conversation.title)
        tags = st.multiselect(
            _("Tags"), sorted({*house.conversations.tags(who), *conversation.tags}),
            list(conversation.tags), accept_new_options=True, placeholder=_("choose or write one"),
        )  # fmt: skip
        options = list(names)
        folder = st.selectbox(
            _("Folder"), options, format_func=names.__getitem__,
            index=options.index(conversation.folder or ""),
        )  # fmt: skip
        new = st.text_input(_("or a new folder"))
        row = st.container(horizontal=True)
        pinned = row.checkbox(_("Pinned"), conversation.pinned)
        archived = row.checkbox(_("Archived"), conversation.archived)
        if st.form_submit_button(_("Save"), type="primary"):
            with parts.said():
                if new.strip():
                    folder = house.conversations.folders.create(who, new.strip()).id
                fields: dict[str, Any] = {
                    "tags": tags, "folder": folder or None, "pinned": pinned, "archived": archived,
                }  # fmt: skip
                if title != conversation.title:
                    fields["title"] = title
                house.conversations.change(who, name, **fields)
                st.rerun()
    with st.expander(_("Delete"), icon=":material/delete:"):
        sure = st.checkbox(_("Delete this conversation for good"), key=f"sure {name}")
        if st.button(_("Delete"), key=f"delete {name}", disabled=not sure):
            house.conversations.remove(who, name)
            st.query_params.clear()
            st.rerun()


def _asking(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    model = conversation.model or house.settings.default_model or REHEARSAL.name
    with st.form(f"system {conversation.id}", border=False):
        system = st.text_area(_("System prompt"), conversation.system)
        if st.form_submit_button(_("Save")):
            with parts.said():
                house.conversations.change(who, conversation.id, system=system)
                st.toast(_("Saved."))
    servers = [one.name for one in house.chat.tools.all(who) if one.enabled]
    used = [name for name in conversation.settings.get(TOOLS, ()) if name in servers]
    if servers:
        tools = st.multiselect(
            _("Tools that the model may call"), servers, used, key=f"tools {conversation.id}",
            placeholder=_("none"), help=_("Each call is shown, and made after your yes."),
        )  # fmt: skip
        if tools != used:
            with parts.said():
                house.chat.use_tools(who, conversation.id, tools)
    st.divider()
    with parts.said():
        _parameters(house, who, conversation, model, _)


def _parameters(
    house: House, who: Person, conversation: Conversation, model: str, _: Texts
) -> None:
    parameters = house.chat.parameters
    modes = parameters.modes()
    now = parameters.mode(who, model)
    mode = st.selectbox(
        _("Decoding mode"), modes, index=modes.index(now), key=f"mode {conversation.id} {now}",
        help=_("A way of choosing words; another one replaces it whole."),
    )  # fmt: skip
    if mode != now:
        with parts.said():
            parameters.set_mode(who, model, mode)
            st.rerun(scope="fragment")
    view = parameters.view(who, model, conversation)
    by_name = {one.name: one for one in view}
    st.dataframe(
        [
            {
                _("Setting"): one.name,
                _("Value"): "" if one.value is None else str(one.value),
                _("Where it comes from"): place_of(one.origin, _),
            }
            for one in view
        ],
        hide_index=True,
        width="stretch",
        height="content",
    )
    name = st.selectbox(
        _("Change"), list(by_name), index=None, placeholder=_("a setting"),
        key=f"which {conversation.id}",
    )  # fmt: skip
    if name is None:
        return
    with st.form(f"parameter {conversation.id} {name}", border=False):
        st.caption(parts.plain(f"{by_name[name].help} {by_name[name].range}"))
        value = st.text_input(_("Value; empty takes it back"))
        scopes = {
            "me": _("for me with {model}").format(model=model), "here": _("in this conversation")
        }  # fmt: skip
        scope = st.radio(_("It holds"), list(scopes), format_func=scopes.__getitem__)
        if st.form_submit_button(_("Set")):
            with parts.said():
                if scope == "here":
                    house.chat.set_here(who, conversation.id, name, value or None)
                else:
                    parameters.set(who, model, name, value or None)
                st.rerun(scope="fragment")


def place_of(origin: str, _: Texts) -> str:
    """Where a value comes from, in the reader's language."""
    known = {
        "the model's default": _("the model's default"),
        "you, with this model": _("you, with this model"),
        "this conversation": _("this conversation"),
    }
    if origin in known:
        return known[origin]
    mode, default, _rest = origin.removeprefix("the mode ").partition(", the default")
    words = _("the mode {mode}, the default") if default else _("the mode {mode}")
    return words.format(mode=mode)


def _away(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    if conversation.temporary:
        st.caption(_("A temporary conversation cannot be shared."))
    elif st.button(
        _("Make a read-only link"), key=f"share {conversation.id}", icon=":material/link:"
    ):
        with parts.said():
            _share, token = house.conversations.share(who, conversation.id)
            st.code(f"{place.here()}/shared/{token}", language=None, wrap_lines=True)
            st.caption(_("Shown once. Whoever has it sees this branch as it is now."))
    if not conversation.temporary:
        for share in house.conversations.shares(who, conversation.id):
            if share.revoked is None and st.button(
                _("Take back the link of {day}").format(day=f"{share.created:%Y-%m-%d %H:%M}"),
                key=f"revoke {share.id}",
                icon=":material/link_off:",
            ):
                house.conversations.revoke(who, share.id)
                st.rerun(scope="fragment")
    st.divider()
    row = st.container(horizontal=True)
    row.download_button(
        _("Download as {format}").format(format="JSON"),
        lambda: house.conversations.exported(who, conversation.id, "json"),
        file_name=f"{file_name(conversation.title)}.json",
        key=f"json {conversation.id}",
        icon=":material/download:",
        help=_("All branches; it can be imported again."),
    )
    st.divider()
    chat_document.draw(house, who, conversation, _)
