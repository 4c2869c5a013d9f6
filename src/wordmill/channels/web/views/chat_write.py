"""What somebody writes: a message, a command, or plain words that may mean one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.web import parts
from wordmill.channels.web.views import chat_list
from wordmill.chat.types import Conversation
from wordmill.commands import COMMANDS, Context, File
from wordmill.commands.language import Proposal, propose
from wordmill.errors import WordmillError
from wordmill.models import REHEARSAL

Texts = Callable[[str], str]
_DOOR = "web"


@dataclass(frozen=True)
class _Note:
    """What a command answered, or what went wrong; it stands until the next message."""

    text: str
    bad: bool = False
    file: File | None = None


@dataclass(frozen=True)
class _Asked:
    """A message that may mean a command."""

    text: str
    proposal: Proposal


def box(house: House, who: Person, conversation: Conversation | None, _: Texts) -> None:
    """The box to write in. It is there while answers grow: what is sent then waits its turn."""
    said = st.chat_input(
        _("Write a message, or / for commands"), key="write", accept_file="multiple",
        max_upload_size=max(1, house.settings.attachment_bytes // 2**20),
    )  # fmt: skip
    if not said:
        return
    for name in ("note", "asked"):
        st.session_state.pop(name, None)
    text, files = said.text or "", said.files
    with _noted():
        if not files and COMMANDS.parse(text) is not None:
            _command(house, who, conversation, text, None, _)
        elif not files and (found := _meant(house, who, conversation, text, _)) is not None:
            st.session_state["asked"] = _Asked(text, found)
        else:
            _send(house, who, conversation, text, files)
    st.rerun()


def answers(house: House, who: Person, conversation: Conversation | None, _: Texts) -> None:
    """What commands answered, and what is asked about one, under the messages."""
    note = st.session_state.get("note")
    if isinstance(note, _Note):
        with st.container(border=True, key="note-box"):
            if note.bad:
                st.error(parts.plain(note.text))
            else:
                st.markdown(parts.markdown(note.text))
            row = st.container(horizontal=True)
            if note.file is not None:
                row.download_button(
                    note.file.name, note.file.data, file_name=note.file.name,
                    mime=note.file.media_type, icon=":material/download:",
                )  # fmt: skip
            if row.button(_("Close"), icon=":material/close:", type="tertiary"):
                del st.session_state["note"]
                st.rerun()
    asked = st.session_state.get("asked")
    if isinstance(asked, _Asked):
        _question(house, who, conversation, asked, _)


def _question(
    house: House, who: Person, conversation: Conversation | None, asked: _Asked, _: Texts
) -> None:
    with st.container(border=True, key="asked-box"):
        st.markdown(parts.markdown(asked.proposal.text))
        row = st.container(horizontal=True)
        yes = row.button(_("Yes, do that"), type="primary", icon=":material/check:")
        no = row.button(_("No, send it as a message"), icon=":material/send:")
    if not yes and not no:
        return
    del st.session_state["asked"]
    with _noted():
        if yes:
            proposal = asked.proposal
            _command(house, who, conversation, proposal.command, dict(proposal.arguments), _)
        else:
            _send(house, who, conversation, asked.text, [])
    st.rerun()


class _noted:  # used as a function
    """What Wordmill raises on purpose becomes a note, which is still there after the rerun."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, WordmillError):
            return False
        st.session_state["note"] = _Note(str(error), bad=True)
        return True


def _context(house: House, who: Person, conversation: Conversation | None) -> Context:
    return Context(
        who, house, _DOOR, conversation.id if conversation else None,
        st.session_state.get("new model"), bool(st.session_state.get("new temporary")),
    )  # fmt: skip


def _meant(
    house: House, who: Person, conversation: Conversation | None, text: str, _: Texts
) -> Proposal | None:
    with st.spinner(_("Reading ...")):
        return propose(COMMANDS, _context(house, who, conversation), text)


def _command(
    house: House,
    who: Person,
    conversation: Conversation | None,
    line: str,
    arguments: dict[str, object] | None,
    _: Texts,
) -> None:
    outcome = COMMANDS.run(_context(house, who, conversation), line, arguments)
    if outcome.conversation:
        chat_list.open_conversation(outcome.conversation)
    if outcome.attachments:
        st.session_state["attached"] = list(outcome.attachments)
    if outcome.text or outcome.file:
        st.session_state["note"] = _Note(outcome.text, file=outcome.file)


def _send(
    house: House, who: Person, conversation: Conversation | None, text: str, files: Any
) -> None:
    if conversation is None:
        conversation = house.conversations.create(
            who,
            model=st.session_state.get("new model"),
            temporary=bool(st.session_state.get("new temporary")),
        )
        chat_list.open_conversation(conversation.id)
    attached = [
        house.conversations.attachments.add(
            who, file.name, file.getvalue(), file.type or "", conversation=conversation.id
        ).id
        for file in files
    ]
    attached = [*st.session_state.pop("attached", []), *attached]
    compare = st.session_state.get("compare") or []
    if compare:
        own = conversation.model or house.settings.default_model or REHEARSAL.name
        compare = list(dict.fromkeys([own, *compare]))
    house.chat.send(who, conversation.id, text, attachments=attached, door=_DOOR, compare=compare)
