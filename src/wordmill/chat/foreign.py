"""Conversations of others, made drafts of ours: ChatGPT's export, Claude's, and our own.

Everything here is untrusted and much of it undocumented: what is not of the expected kind is taken
for absent, unknown fields are ignored, and what is left out although somebody may miss it becomes a
sentence of `problems`. No I/O, no database; the texts are cleaned where they are stored.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from wordmill.chat.exporting import FORMAT, VERSION
from wordmill.chat.inputs import cleaned_json
from wordmill.chat.types import ENDED, ROLES, Part, Role, State

CLAUDE_ROOT = "00000000-0000-4000-8000-000000000000"


@dataclass(slots=True)
class DraftFile:
    """A file of a message: its bytes, or the name by which the archive has it."""

    name: str
    data: bytes | None = None
    asset: str = ""
    media_type: str = ""


@dataclass(slots=True)
class DraftMessage:
    """A message as another system had it; `id` and `parent` are that system's."""

    id: str
    parent: str | None
    role: Role
    text: str
    created: datetime | None = None
    state: State = "done"
    reasoning: str = ""
    model: str | None = None
    finish: str | None = None
    parts: list[Part] = field(default_factory=list)
    files: list[DraftFile] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    """Further columns, of our own format."""


@dataclass(slots=True)
class Draft:
    """A conversation as another system had it.

    kind: chatgpt, claude or wordmill.  more: further columns, of our own format.
    """

    kind: str
    id: str
    title: str
    created: datetime | None
    updated: datetime | None
    model: str | None = None
    head: str | None = None
    messages: list[DraftMessage] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    folder: str | None = None
    feedback: list[Mapping[str, Any]] = field(default_factory=list)
    preferences: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """How a problem names it."""
        return repr(" ".join(self.title.split())[:60] or self.id[:60])

    def missing(self, what: str) -> None:
        """Say that something is not there."""
        self.problems.append(f"{self.shown}: {what}.")


def draft(element: object) -> Draft | None:
    """The conversation that an element of an export is; None for what is none."""
    if not isinstance(element, dict):
        return None
    if element.get("format") == FORMAT:
        return _own(element)
    if isinstance(element.get("mapping"), dict):
        return _chatgpt(element)
    if isinstance(element.get("chat_messages"), list):
        return _claude(element)
    return None


# ChatGPT: a mapping of nodes, many of them without anything to show.


def _chatgpt(element: Mapping[str, Any]) -> Draft:
    nodes: Mapping[str, Any] = element["mapping"]
    model = _text(element.get("default_model_slug")) or None
    new = Draft(
        kind="chatgpt",
        id=_text(element.get("conversation_id")) or _text(element.get("id")) or _digest(element),
        title=_text(element.get("title")),
        created=_time(element.get("create_time")),
        updated=_time(element.get("update_time")),
        model=model,
        head=_text(element.get("current_node")) or None,
    )
    kept: dict[str, DraftMessage | None] = {}
    thoughts: dict[str, str] = {}
    for name, node in nodes.items():
        message = _object(_object(node).get("message"))
        kept[name] = None
        kind = _text(_object(message.get("content")).get("content_type"))
        if kind in ("thoughts", "reasoning_recap"):
            thoughts[name] = _thoughts(message)
        elif message and not _object(message.get("metadata")).get(
            "is_visually_hidden_from_conversation"
        ):
            kept[name] = _chatgpt_message(new, name, message)
    above = {name: _text(_object(node).get("parent")) or None for name, node in nodes.items()}
    for name, one in kept.items():
        if one is not None:
            passed, one.parent = _nearest(name, above, kept)
            if one.role == "assistant":
                said = [thoughts[place] for place in reversed(passed) if thoughts.get(place)]
                one.reasoning = "\n\n".join(said)
            new.messages.append(one)
    if new.head is not None and kept.get(new.head) is None:
        _, new.head = _nearest(new.head, above, kept)
    return new


def _nearest(
    name: str, above: Mapping[str, str | None], kept: Mapping[str, object]
) -> tuple[list[str], str | None]:
    """The nearest kept node above one, and those in between, from below; a circle ends."""
    passed: list[str] = []
    seen = {name}
    parent = above.get(name)
    while parent is not None and parent not in seen and parent in above:
        if kept.get(parent) is not None:
            return passed, parent
        seen.add(parent)
        passed.append(parent)
        parent = above[parent]
    # In a circle of kept nodes the parent stays: whoever orders the messages cuts it.
    return passed, parent if parent is not None and kept.get(parent) is not None else None


def _chatgpt_message(new: Draft, name: str, message: Mapping[str, Any]) -> DraftMessage | None:
    author = _text(_object(message.get("author")).get("role"))
    content = _object(message.get("content"))
    about = _object(message.get("metadata"))
    if author not in ROLES:
        new.missing(f"a message of the unknown role {author[:40]!r}")
        return None
    role: Role = next(known for known in ROLES if known == author)
    kind = _text(content.get("content_type"))
    if kind in ("user_editable_context", "model_editable_context"):
        return None
    files: list[DraftFile] = []
    text = _chatgpt_text(new, kind, content, files)
    parts: list[Part] = []
    recipient = _text(message.get("recipient")) or "all"
    if role == "assistant" and recipient != "all":
        parts.append({"type": "tool_call", "id": name, "name": recipient, "arguments": text})
        text = ""
    elif role == "tool":
        parts.append({"type": "tool_result", "name": _text(_object(message["author"]).get("name"))})
    known = {file.asset for file in files}
    for one in _list(about.get("attachments")):
        asset = _text(_object(one).get("id"))
        if asset and asset not in known:
            files.append(DraftFile(_text(_object(one).get("name")) or asset, asset=asset))
    if not text.strip() and not files and not parts:
        return None
    running = message.get("status") == "in_progress"
    return DraftMessage(
        id=name,
        parent=None,
        role=role,
        text=text,
        created=_time(message.get("create_time")),
        state="interrupted" if running else "done",
        model=(_text(about.get("model_slug")) or new.model) if role == "assistant" else None,
        finish=_text(_object(about.get("finish_details")).get("type")) or None,
        parts=parts,
        files=files,
    )


def _chatgpt_text(new: Draft, kind: str, content: Mapping[str, Any], files: list[DraftFile]) -> str:
    match kind:
        case "code":
            language = _text(content.get("language"))
            fence = f"```{'' if language == 'unknown' else language}"
            return f"{fence}\n{_text(content.get('text'))}\n```"
        case "tether_quote":
            about = (_text(content.get(key)) for key in ("title", "url", "text"))
            return "\n".join(line for line in about if line)
    if "parts" not in content:
        text = _text(content.get("text")) or _text(content.get("result"))
        if not text and kind not in ("", "text"):
            new.missing(f"content of the unknown kind {kind[:40]!r}")
        return text
    lines = []
    for part in _list(content["parts"]):
        if isinstance(part, str):
            lines.append(part)
            continue
        of = _object(part)
        sort = _text(of.get("content_type"))
        asset = _text(of.get("asset_pointer")).rpartition("//")[2]
        if sort == "audio_transcription":
            lines.append(_text(of.get("text")))
        elif sort == "image_asset_pointer" and asset:
            files.append(DraftFile(asset, asset=asset))
        elif _text(of.get("text")):
            lines.append(_text(of["text"]))
        else:
            new.missing(f"content of the kind {sort[:40]!r}, which cannot be kept")
    return "\n".join(lines)


def _thoughts(message: Mapping[str, Any]) -> str:
    content = _object(message.get("content"))
    said = []
    for one in _list(content.get("thoughts")):
        said += [_text(_object(one).get(key)) for key in ("summary", "content")]
    return "\n".join(line for line in said if line)


# Claude: a list of messages, in newer exports with their parents.


def _claude(element: Mapping[str, Any]) -> Draft:
    new = Draft(
        kind="claude",
        id=_text(element.get("uuid")) or _digest(element),
        title=_text(element.get("name")),
        created=_time(element.get("created_at")),
        updated=_time(element.get("updated_at")),
        model=_text(element.get("model")) or None,
        head=_text(element.get("current_leaf_message_uuid")) or None,
    )
    before: str | None = None
    for number, one in enumerate(element["chat_messages"], 1):
        message = _object(one)
        sender = _text(message.get("sender"))
        roles: Mapping[str, Role] = {"human": "user", "assistant": "assistant"}
        if sender not in roles:
            new.missing(f"a message of the unknown sender {sender[:40]!r}")
            continue
        name = _text(message.get("uuid")) or f"number {number}"
        parent = before
        if "parent_message_uuid" in message:
            parent = _text(message["parent_message_uuid"]) or None
        draft = DraftMessage(
            id=name,
            parent=None if parent == CLAUDE_ROOT else parent,
            role=roles[sender],
            text="",
            created=_time(message.get("created_at")),
            model=new.model if sender == "assistant" else None,
            finish=_text(message.get("stop_reason")) or None,
        )
        _claude_content(new, draft, message)
        new.messages.append(draft)
        before = name
    return new


def _claude_content(new: Draft, draft: DraftMessage, message: Mapping[str, Any]) -> None:
    said, thought = [], []
    for one in _list(message.get("content")):
        block = _object(one)
        match _text(block.get("type")):
            case "text":
                said.append(_text(block.get("text")))
            case "thinking":
                thought.append(_text(block.get("thinking")))
            case "tool_use":
                arguments = json.dumps(cleaned_json(block.get("input")), ensure_ascii=False)
                draft.parts.append(
                    {
                        "type": "tool_call",
                        "id": _text(block.get("id")),
                        "name": _text(block.get("name")),
                        "arguments": arguments,
                    }
                )
            case "tool_result":
                content = block.get("content")
                lines = [_text(_object(line).get("text")) for line in _list(content)]
                draft.parts.append(
                    {
                        "type": "tool_result",
                        "id": _text(block.get("tool_use_id")),
                        "name": _text(block.get("name")),
                        "text": _text(content) or "\n".join(line for line in lines if line),
                    }
                )
            case "token_budget" | "flag":
                pass
            case kind:
                new.missing(f"content of the unknown kind {kind[:40]!r}")
    draft.text = "\n\n".join(text for text in said if text) or _text(message.get("text"))
    draft.reasoning = "\n\n".join(text for text in thought if text)
    for one in _list(message.get("attachments")):
        file = _object(one)
        name = _text(file.get("file_name")) or "file"
        text = file.get("extracted_content")
        data = text.encode("utf-8", "replace") if isinstance(text, str) else None
        draft.files.append(DraftFile(name, data=data, media_type="text/plain"))
    for one in _list(message.get("files")):
        name = _text(_object(one).get("file_name"))
        if name:
            draft.files.append(DraftFile(name, asset=name))


# Our own.


def _own(element: Mapping[str, Any]) -> Draft:
    new = Draft(
        kind="wordmill",
        id=_text(element.get("id")) or _digest(element),
        title=_text(element.get("title")),
        created=_time(element.get("created")),
        updated=_time(element.get("updated")),
        model=_text(element.get("model")) or None,
        head=_text(element.get("head")) or None,
        more={
            "titled_by": element.get("titled_by"),
            "tags": [one for one in _list(element.get("tags")) if isinstance(one, str)],
            "pinned": element.get("pinned") is True,
            "archived": element.get("archived") is True,
            "system": _text(element.get("system")),
            "settings": _object(element.get("settings")),
            "document_title": _text(element.get("document_title")) or None,
        },
        folder=_text(element.get("folder")) or None,
        feedback=[_object(one) for one in _list(element.get("feedback"))],
        preferences=[_object(one) for one in _list(element.get("preferences"))],
    )
    if element.get("version") != VERSION:
        new.missing(f"written as version {str(element.get('version'))[:20]!r}, read as {VERSION}")
    files = dict(_own_files(new, element))
    for one in _list(element.get("messages")):
        message = _object(one)
        role = next((known for known in ROLES if known == message.get("role")), None)
        name = _text(message.get("id"))
        if role is None or not name:
            new.missing("a message without a role or an id")
            continue
        parts = [_object(part) for part in _list(message.get("parts"))]
        attached = [_text(part.get("id")) for part in parts if part.get("type") == "attachment"]
        new.messages.append(
            DraftMessage(
                id=name,
                parent=_text(message.get("parent")) or None,
                role=role,
                text=_text(message.get("text")),
                created=_time(message.get("created")),
                state=next((s for s in ENDED if s == message.get("state")), "interrupted"),
                reasoning=_text(message.get("reasoning")),
                model=_text(message.get("model")) or None,
                finish=_text(message.get("finish")) or None,
                parts=[part for part in parts if part.get("type") != "attachment"],
                files=[files.get(key) or DraftFile(key) for key in attached],
                more={
                    "author": bool(message.get("author")),
                    "door": _text(message.get("door")),
                    "sent": _object(message.get("sent")) or None,
                    "usage": _object(message.get("usage")) or None,
                    "timing": _object(message.get("timing")) or None,
                    "error": _text(message.get("error")) or None,
                },
            )
        )
    return new


def _own_files(new: Draft, element: Mapping[str, Any]) -> Iterator[tuple[str, DraftFile]]:
    for one in _list(element.get("attachments")):
        file = _object(one)
        name = _text(file.get("name")) or "file"
        data = None
        try:
            if isinstance(file.get("data"), str):
                data = base64.b64decode(file["data"], validate=True)
        except (binascii.Error, ValueError):
            new.missing(f"the file {name[:60]!r} is damaged")
        yield (
            _text(file.get("id")),
            DraftFile(name, data=data, media_type=_text(file.get("media_type"))),
        )


# What is not of the expected kind is absent.


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _time(value: object) -> datetime | None:
    """Seconds since 1970 or an ISO text, as a time in UTC."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            time = datetime.fromtimestamp(value, UTC)
        elif isinstance(value, str):
            time = datetime.fromisoformat(value)
            time = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return time


def _digest(element: Mapping[str, Any]) -> str:
    """Something to know a conversation by that has no id: it stays while the content does."""
    try:
        data = orjson.dumps(element, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError):
        data = repr(element).encode("utf-8", "replace")
    return hashlib.sha256(data).hexdigest()
