"""The request of an answer: made from the branch, and made again, the same, to be shown.

Messages never change once they have ended, so an answer keeps only what it was made of: the ids of
the messages, the system prompt, the parameters. Attachments are immutable too.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from wordmill.chat.context import Turn
from wordmill.chat.types import Attachment, Message

CONTINUE: Final = "Continue exactly where you stopped, without repeating anything."

Json = Mapping[str, Any]
Read = Callable[[str], tuple[Attachment, bytes]]
"""An attachment and its bytes, by id."""


def turns(branch: Sequence[Message], read: Read, sees: bool) -> list[Turn]:
    """A branch as whole turns, oldest first. sees: whether the model takes pictures."""
    made: list[Turn] = []
    ids: list[str] = []
    messages: list[dict[str, Any]] = []
    for message in branch:
        if message.role == "system":
            continue
        if message.role == "user" and messages:
            made.append(Turn(tuple(ids), tuple(messages)))
            ids, messages = [], []
        wire = wired(message, read, sees)
        if wire is not None:
            ids.append(message.id)
            messages.append(wire)
    if messages:
        made.append(Turn(tuple(ids), tuple(messages)))
    return made


def wired(message: Message, read: Read, sees: bool) -> dict[str, Any] | None:
    """A message as it is sent; None for an answer that says nothing."""
    if message.role == "tool":
        (call,) = [part["id"] for part in message.parts if part.get("type") == "tool_result"][:1]
        return {"role": "tool", "tool_call_id": call, "content": message.text}
    if message.role == "assistant":
        calls = [part for part in message.parts if part.get("type") == "tool_call"]
        if not message.text and not calls:
            return None
        wire: dict[str, Any] = {"role": "assistant", "content": message.text}
        if calls:
            wire["tool_calls"] = [
                {
                    "id": part["id"],
                    "type": "function",
                    "function": {"name": part["name"], "arguments": part["arguments"]},
                }
                for part in calls
            ]
        return wire
    return {"role": "user", "content": _content(message, read, sees)}


def _content(message: Message, read: Read, sees: bool) -> str | list[dict[str, Any]]:
    texts: list[str] = []
    pictures: list[dict[str, Any]] = []
    for name in message.attachments:
        attachment, data = read(name)
        if not attachment.image:
            texts.append(f"[File {attachment.name}]\n{attachment.text}\n[End of {attachment.name}]")
        elif sees:
            encoded = base64.b64encode(data).decode()
            url = f"data:{attachment.media_type};base64,{encoded}"
            pictures.append({"type": "image_url", "image_url": {"url": url}})
        else:
            texts.append(f"[The picture {attachment.name} was attached, but you cannot see it.]")
    texts.append(message.text)
    text = "\n\n".join(one for one in texts if one)
    return [{"type": "text", "text": text}, *pictures] if pictures else text


def body(
    messages: Sequence[Json], parameters: Mapping[str, Any], schema: Json | None
) -> dict[str, Any]:
    """The whole of it, as OpenAI's chat completions, without the model."""
    made: dict[str, Any] = {"messages": list(messages), **parameters}
    if schema is not None:
        made["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(schema)},
        }
    return made


def structured(text: str) -> Any:
    """The value of an answer that follows a schema; None where it is no JSON."""
    plain = text.strip()
    if plain.startswith("```"):
        plain = plain.strip("`").removeprefix("json").strip()
    try:
        return json.loads(plain)
    except ValueError:
        return None
