"""Conversations as files: JSON, whole, and Markdown, one branch to be read.

The JSON of a conversation holds all of it: every branch with its requests, models, edits and
ratings, and its files. `importing` reads it back. Several are a list of such objects.
No I/O: `Conversations.exported` gathers what is written here.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Literal, TypeAlias

import orjson

from wordmill.chat.types import Attachment, Conversation, Feedback, Message, Preference

FORMAT: Final = "wordmill.conversation"
VERSION: Final = 1

Form: TypeAlias = Literal["json", "markdown"]

_GERMAN: Final[Mapping[str, str]] = {
    "Assistant": "Assistent", "Attached": "Angehängt", "Calls": "Ruft auf",
    "Conversation": "Unterhaltung", "Reasoning": "Überlegungen", "Somebody": "Jemand",
    "Sources": "Quellen", "Tool": "Werkzeug", "You": "Du",
}  # fmt: skip
"""What documents say of themselves."""

_SPECIAL = re.compile(r"([\\`*_\[\]<>#])")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")


def word(text: str, language: str | None) -> str:
    """A word that a document adds, in a language as `de-AT`; English where there is no other."""
    return _GERMAN[text] if (language or "").partition("-")[0] == "de" else text


def as_json(
    conversation: Conversation,
    folder: str | None,
    tree: Sequence[Message],
    ratings: Iterable[Feedback],
    preferences: Iterable[Preference],
    files: Iterable[tuple[Attachment, bytes | None]],
) -> bytes:
    """A conversation, whole. `folder`: its folder's name. `files`: bytes of None are left out."""
    return orjson.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            **_without(asdict(conversation), "owner"),
            "folder": folder,
            "messages": [
                _without(asdict(one), "conversation", "place", "siblings") for one in tree
            ],
            "feedback": [_without(asdict(one), "person") for one in ratings],
            "preferences": [_without(asdict(one), "owner", "conversation") for one in preferences],
            "attachments": [
                {
                    "id": file.id,
                    "name": file.name,
                    "media_type": file.media_type,
                    "size": file.size,
                    "digest": file.digest,
                    "data": None if data is None else base64.b64encode(data).decode(),
                }
                for file, data in files
            ],
        },
        option=orjson.OPT_INDENT_2,
    )


def as_markdown(
    conversation: Conversation,
    branch: Sequence[Message],
    *,
    reasoning: bool = False,
    language: str | None = None,
) -> str:
    """A branch to be read: a heading for each message, its text as it is.

    reasoning: folded before each answer; left out without.  language: of the headings, as `de`.
    """
    title = conversation.document_title or conversation.title or word("Conversation", language)
    lines = [f"# {_plain(title)}", "", f"*{conversation.created:%Y-%m-%d}*"]
    if conversation.system:
        lines += ["", "## System", "", _closed(conversation.system)]
    for one in branch:
        lines += ["", f"## {_speaker(one, language)}"]
        lines += [
            f"\n*{word('Attached', language)}: {_plain(part['name'])} ({part['media_type']})*"
            for part in one.parts
            if part.get("type") == "attachment"
        ]
        if reasoning and one.reasoning:
            lines += ["", f"<details><summary>{word('Reasoning', language)}</summary>", ""]
            lines += [_closed(one.reasoning), "", "</details>"]
        lines += [
            f"\n*{word('Calls', language)} {_plain(str(part.get('name', 'a tool')))}:* "
            f"`{part.get('arguments', '')}`"
            for part in one.parts
            if part.get("type") == "tool_call"
        ]
        if one.text:
            lines += ["", _closed(one.text)]
        if one.state != "done":
            lines += ["", f"*{one.state}{': ' + _plain(one.error) if one.error else ''}*"]
    return "\n".join(lines) + "\n"


def _speaker(message: Message, language: str | None) -> str:
    match message.role:
        case "user":
            return word("You", language)
        case "assistant":
            return _plain(message.model or word("Assistant", language))
        case "tool":
            return word("Tool", language)
        case role:
            return role.capitalize()


def _plain(text: str) -> str:
    """A name on one line, in which nothing is Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _closed(text: str) -> str:
    """The text, with the code block closed that it leaves open: what follows stays outside."""
    fence = ""
    for line in text.split("\n"):
        if (found := _FENCE.match(line)) is None:
            continue
        mark, rest = found.groups()
        if not fence:
            fence = mark
        elif mark[0] == fence[0] and len(mark) >= len(fence) and not rest.strip():
            fence = ""
    return f"{text}\n{fence}" if fence else text


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
