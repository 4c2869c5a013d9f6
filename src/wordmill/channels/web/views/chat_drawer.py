"""The drawer of a conversation: its title, place, model and system prompt; and the settings of the
person and the model together, each with where its value comes from.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts
from wordmill.chat.types import Conversation

Texts = Callable[[str], str]


def show(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    """A button that opens the drawer."""
    with st.popover(_("Settings"), icon=":material/tune:", width="stretch"):
        about, asking, away = st.tabs([_("Conversation"), _("Model"), _("Share and export")])
        with about:
            _about(house, who, conversation, _)
        with asking:
            _asking(house, who, conversation, _)
        with away:
            _away(house, who, conversation, _)


def _about(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    name = conversation.id
    folders = {one.id: one.name for one in house.conversations.folders.all(who)}
    with st.form(f"about {name}", border=False):
        title = st.text_input(_("Title"), conversation.title)
        tags = st.text_input(_("Tags, with commas between"), ", ".join(conversation.tags))
        options = ["", *folders]
        folder = st.selectbox(
            _("Folder"), options, format_func=lambda one: folders.get(one, _("(none)")),
            index=options.index(conversation.folder or ""),
        )  # fmt: skip
        new = st.text_input(_("or a new folder"))
        pinned = st.checkbox(_("Pinned"), conversation.pinned)
        archived = st.checkbox(_("Archived"), conversation.archived)
        if st.form_submit_button(_("Save")):
            with parts.said():
                if new.strip():
                    folder = house.conversations.folders.create(who, new.strip()).id
                fields: dict[str, Any] = {
                    "tags": [one.strip() for one in tags.split(",") if one.strip()],
                    "folder": folder or None,
                    "pinned": pinned,
                    "archived": archived,
                }
                if title != conversation.title:
                    fields["title"] = title
                house.conversations.change(who, name, **fields)
                st.rerun()
    sure = st.checkbox(_("Delete this conversation for good"), key=f"sure {name}")
    if st.button(_("Delete"), key=f"delete {name}", disabled=not sure):
        house.conversations.remove(who, name)
        st.query_params.clear()
        st.rerun()


def _asking(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    names = house.catalog.names()
    model = conversation.model or house.settings.default_model or "rehearsal"
    if model not in names:
        names = [*names, model]
    chosen = st.selectbox(
        _("Model"), names, index=names.index(model), key=f"model {conversation.id}"
    )
    if chosen != conversation.model and st.button(_("Use this model")):
        house.conversations.change(who, conversation.id, model=chosen)
        st.rerun()
    with st.form(f"system {conversation.id}", border=False):
        system = st.text_area(_("System prompt"), conversation.system)
        if st.form_submit_button(_("Save")):
            with parts.said():
                house.conversations.change(who, conversation.id, system=system)
                st.rerun()
    with parts.said():
        _parameters(house, who, conversation, chosen, _)


def _parameters(
    house: House, who: Person, conversation: Conversation, model: str, _: Texts
) -> None:
    parameters = house.chat.parameters
    modes = parameters.modes()
    now = parameters.mode(who, model)
    mode = st.selectbox(
        _("Decoding mode"), modes, index=modes.index(now), key=f"mode {conversation.id}"
    )
    if mode != now:
        parameters.set_mode(who, model, mode)
        st.rerun()
    st.dataframe(
        [
            {
                _("Parameter"): one.name,
                _("Value"): "" if one.value is None else str(one.value),
                _("From"): one.origin,
                _("Range"): one.range,
            }
            for one in parameters.view(who, model, conversation)
        ],
        hide_index=True,
        width="stretch",
    )
    with st.form(f"parameter {conversation.id}", border=False):
        name = st.selectbox(_("Parameter"), parameters.names())
        value = st.text_input(_("Value; empty takes it back"))
        if st.form_submit_button(_("Set")):
            with parts.said():
                parameters.set(who, model, name, value or None)
                st.rerun()


def _away(house: House, who: Person, conversation: Conversation, _: Texts) -> None:
    if st.button(_("Make a read-only link"), key=f"share {conversation.id}"):
        with parts.said():
            _share, token = house.conversations.share(who, conversation.id)
            st.code(f"{_here()}/shared/{token}", language=None)
            st.caption(_("Shown once. Whoever has it sees this branch as it is now."))
    for share in house.conversations.shares(who, conversation.id):
        if share.revoked is None and st.button(
            _("Take back the link of {day}").format(day=f"{share.created:%Y-%m-%d %H:%M}"),
            key=f"revoke {share.id}",
        ):
            house.conversations.revoke(who, share.id)
            st.rerun()
    st.download_button(
        _("Download as {format}").format(format="Markdown"),
        lambda: house.conversations.exported(who, conversation.id, "markdown"),
        file_name=f"{conversation.id}.md",
        key=f"markdown {conversation.id}",
    )
    st.download_button(
        _("Download as {format}").format(format="JSON"),
        lambda: house.conversations.exported(who, conversation.id, "json"),
        file_name=f"{conversation.id}.json",
        key=f"json {conversation.id}",
    )


def _here() -> str:
    """The address under which the browser sees this server."""
    url = st.context.url or ""
    return "/".join(url.split("/")[:3])
