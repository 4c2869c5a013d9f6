"""The request of an answer: made from the branch, and made again, the same, to be shown.

Messages never change once they have ended, and attachments never do, so an answer keeps what its
request was made of: the ids of the messages, the system prompt, the fields beside them. Where a
provider's dialect made other messages of them, those are kept as they were sent.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from wordmill.chat.context import Turn, Wire
from wordmill.chat.types import Attachment, Message

CONTINUE: Final = "Continue exactly where you stopped, without repeating anything."

Json: TypeAlias = Mapping[str, Any]
Read: TypeAlias = Callable[[str], tuple[Attachment, bytes]]
"""An attachment and its bytes, by id."""


def says(message: Message) -> bool:
    """Whether a message is sent at all: an answer without a word is not, nor a system message,
    since the conversation has its prompt."""
    if message.role == "system":
        return False
    return message.role != "assistant" or bool(message.text or calls_of(message))


def turns(branch: Sequence[Message], read: Read, sees: bool) -> Iterator[Turn]:
    """A branch as whole turns, newest first; a turn is made when it is asked for.

    sees: whether the model takes pictures.
    """
    turn: list[Message] = []
    for message in reversed(branch):
        if not says(message):
            continue
        turn.insert(0, message)
        if message.role == "user":
            yield _made(turn, read, sees)
            turn = []
    if turn:
        yield _made(turn, read, sees)


def _made(messages: Sequence[Message], read: Read, sees: bool) -> Turn:
    whole = _answered(messages)
    return Turn(
        tuple(message.id for message in whole),
        tuple(wired(message, read, sees) for message in whole),
    )


def _answered(messages: Sequence[Message]) -> list[Message]:
    """Without tool calls that have no result, and results of no call: servers refuse both."""
    results = {name for message in messages for name in _results(message)}
    kept: list[Message] = []
    called: set[str] = set()
    for message in messages:
        calls = [str(call["id"]) for call in calls_of(message)]
        if calls and not results.issuperset(calls):
            if not message.text:
                continue
            parts = tuple(part for part in message.parts if part.get("type") != "tool_call")
            message = replace(message, parts=parts)
        elif calls:
            called.update(calls)
        if message.role == "tool" and not called.issuperset(_results(message)):
            continue
        kept.append(message)
    return kept


def calls_of(message: Message) -> list[Json]:
    """The tool calls of an answer."""
    return [part for part in message.parts if part.get("type") == "tool_call"]


def _results(message: Message) -> list[str]:
    return [str(part["id"]) for part in message.parts if part.get("type") == "tool_result"]


def wired(message: Message, read: Read, sees: bool) -> Wire:
    """A message as it is sent."""
    if message.role == "tool":
        call = (_results(message) or [""])[0]
        return {"role": "tool", "tool_call_id": call, "content": message.text}
    if message.role == "assistant":
        wire: dict[str, Any] = {"role": "assistant", "content": message.text}
        if calls := calls_of(message):
            wire["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in calls
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


def going_on(text: str) -> list[Wire]:
    """What follows the branch where an answer is to be continued."""
    return [{"role": "assistant", "content": text}, {"role": "user", "content": CONTINUE}]


def body(
    messages: Sequence[Wire],
    parameters: Json,
    schema: Json | None = None,
    tools: Sequence[Json] = (),
) -> dict[str, Any]:
    """The whole of it, as OpenAI's chat completions, without the model."""
    made: dict[str, Any] = {"messages": list(messages), **parameters}
    if schema is not None:
        made["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(schema)},
        }
    if tools:
        made["tools"] = list(tools)
    return made


def kept(asked: Json, made: Sequence[Wire]) -> dict[str, Any]:
    """What is kept of a request as it was sent, so that `shown` can give it again.

    made: its messages as they follow from the branch.
    """
    fields = {name: value for name, value in asked.items() if name != "messages"}
    sent = list(asked["messages"])
    if sent == list(made):
        return {"fields": fields}
    places = {json.dumps(wire, sort_keys=True): place for place, wire in enumerate(made)}
    differing = [places.get(json.dumps(wire, sort_keys=True), wire) for wire in sent]
    return {"fields": fields, "wires": differing}


def shown(record: Json, made: Sequence[Wire]) -> dict[str, Any]:
    """The request as it was sent, from what `kept` gave."""
    wires = record.get("wires")
    if wires is None:
        messages = list(made)
    else:
        messages = [made[wire] if isinstance(wire, int) else wire for wire in wires]
    return {**record["fields"], "messages": messages}


def structured(text: str) -> Any:
    """The value of an answer that follows a schema; None where it is no JSON."""
    plain = text.strip()
    if plain.startswith("```"):
        plain = plain.strip("`").removeprefix("json").strip()
    try:
        return json.loads(plain)
    except ValueError:
        return None
