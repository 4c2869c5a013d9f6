"""OpenAI's Responses API without its memory: a request is made one of chat completions, and the
answer comes back as a response, whole or as the events that the official clients read.

Text, pictures by address, functions and their results, structured output. Nothing is stored here:
whoever asks sends the whole conversation.
"""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, TypeAlias

from wordmill.channels.api import wire
from wordmill.channels.api.errors import status_of
from wordmill.channels.api.fields import messages_of
from wordmill.completions import Answer, Delta
from wordmill.errors import InvalidInput, WordmillError
from wordmill.types import Reply

Json: TypeAlias = Mapping[str, Any]

_STORED: Final = {
    "previous_response_id": "send the whole conversation",
    "conversation": "send the whole conversation, or continue a stored one at /v1/chat/completions",
    "prompt": "send the text itself",
    "background": "leave it out, or send a message under /api/conversations",
}
"""What would need a memory, and what to do instead."""

_SAME: Final = ("temperature", "top_p", "parallel_tool_calls", "user", "top_logprobs")
_SHOWN: Final = ("instructions", "temperature", "top_p", "tools", "max_output_tokens", "text")


def as_chat(body: Json) -> dict[str, Any]:
    """The request as one of chat completions. Raises InvalidInput."""
    for name, instead in _STORED.items():
        if body.get(name):
            raise InvalidInput(f"Responses are not stored here: {instead}.", name)
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    elif isinstance(given, list) and given:
        for number, item in enumerate(given):
            _add(messages, item, f"input.{number}")
    else:
        raise InvalidInput("input is a text, or a list with at least one item.", "input")
    made: dict[str, Any] = {"messages": messages_of({"messages": messages})}
    made |= {name: body[name] for name in _SAME if name in body}
    if "max_output_tokens" in body:
        made["max_tokens"] = body["max_output_tokens"]
    if effort := (body.get("reasoning") or {}).get("effort"):
        made["reasoning_effort"] = effort
    if form := _form(body.get("text") or {}):
        made["response_format"] = form
    if tools := body.get("tools"):
        made["tools"] = [_tool(tool, f"tools.{number}") for number, tool in enumerate(tools)]
        made["tool_choice"] = _choice(body.get("tool_choice", "auto"))
    return made


def _add(messages: list[dict[str, Any]], item: Any, place: str) -> None:
    """One item of the input. Calls that stand together are one message of the assistant."""
    if not isinstance(item, dict):
        raise InvalidInput(f"{place} must be an object.", place)
    kind = item.get("type", "message")
    if kind == "message":
        messages.append({"role": item.get("role", "user"), "content": _content(item, place)})
    elif kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        if not all(isinstance(value, str) for value in function.values()):
            raise InvalidInput(f"{place} needs a name and arguments, both texts.", place)
        call = {"id": str(item.get("call_id", "")), "type": "function", "function": function}
        if messages and messages[-1].get("tool_calls"):
            messages[-1]["tool_calls"].append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif kind == "function_call_output":
        output = item.get("output")
        if not isinstance(output, str):
            raise InvalidInput(f"{place}.output must be a text.", f"{place}.output")
        said = {"role": "tool", "tool_call_id": str(item.get("call_id", "")), "content": output}
        messages.append(said)
    elif kind != "reasoning":  # of an earlier answer: it is not sent to a model again
        raise InvalidInput(
            f"{place}.type is one of message, function_call, function_call_output, reasoning.",
            f"{place}.type",
        )


def _content(item: Json, place: str) -> Any:
    content = item.get("content")
    if not isinstance(content, list):
        return content
    parts: list[dict[str, Any]] = []
    for number, part in enumerate(content):
        where = f"{place}.content.{number}"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text", "text"):
            parts.append({"type": "text", "text": part.get("text")})
        elif kind == "refusal":
            parts.append({"type": "text", "text": part.get("refusal")})
        elif kind == "input_image" and isinstance(part.get("image_url"), str):
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"]}})
        else:
            raise InvalidInput(
                f"{where}: a part is input_text, or input_image with an image_url.", where
            )
    if all(part["type"] == "text" and isinstance(part["text"], str) for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _form(text: Json) -> dict[str, Any] | None:
    form = text.get("format") or {}
    if not isinstance(form, dict):
        raise InvalidInput("text.format is an object.", "text.format")
    kind = form.get("type", "text")
    if kind == "json_schema":
        if not isinstance(form.get("schema"), dict):
            raise InvalidInput("text.format.schema is an object.", "text.format.schema")
        named = {"name": form.get("name", "answer"), "schema": form["schema"]}
        return {"type": "json_schema", "json_schema": named}
    if kind not in ("text", "json_object"):
        raise InvalidInput(
            "text.format.type is one of text, json_object, json_schema.", "text.format.type"
        )
    return {"type": kind} if kind == "json_object" else None


def _tool(tool: Json, place: str) -> dict[str, Any]:
    if tool.get("type") != "function" or not isinstance(tool.get("name"), str):
        raise InvalidInput(f"{place}: only functions with a name can be called.", place)
    names = ("name", "description", "parameters", "strict")
    function = {name: tool[name] for name in names if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


class Response:
    """One response, as it stands. body: of the request."""

    def __init__(self, model: str, body: Json) -> None:
        self._head = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "metadata": body.get("metadata") or {},
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "store": False,
            "tool_choice": body.get("tool_choice", "auto"),
            "truncation": "disabled",
            **{name: body.get(name) for name in _SHOWN},
            "tools": body.get("tools") or [],
        }
        self.item = f"msg_{uuid.uuid4().hex}"
        """The id of the message in it."""

    def begun(self) -> dict[str, Any]:
        """While nothing has come."""
        return self._of("in_progress", [], None)

    def failed(self, error: WordmillError) -> dict[str, Any]:
        """When no answer came."""
        _, _, code = status_of(error)
        made = self._of("failed", [], None)
        return {**made, "error": {"code": code, "message": str(error)}}

    def ended(self, answer: Answer, reply: Reply) -> dict[str, Any]:
        """With all that has come."""
        output = [*self._messages(answer, reply), *map(_called, wire.calls_of(answer))]
        if reply.finish == "length":
            made = self._of("incomplete", output, reply)
            return {**made, "incomplete_details": {"reason": "max_output_tokens"}}
        return self._of("completed", output, reply)

    def message(self, parts: list[dict[str, Any]], status: str) -> dict[str, Any]:
        """The message in it."""
        return {
            "type": "message",
            "id": self.item,
            "status": status,
            "role": "assistant",
            "content": parts,
        }

    def _messages(self, answer: Answer, reply: Reply) -> list[dict[str, Any]]:
        if not reply.text and wire.calls_of(answer):
            return []
        return [self.message([_part(reply)], "completed")]

    def _of(self, status: str, output: list[dict[str, Any]], reply: Reply | None) -> dict[str, Any]:
        used = None
        if reply is not None:
            used = {
                "input_tokens": reply.usage.input,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": reply.usage.output,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": reply.usage.input + reply.usage.output,
            }
        return {
            **self._head,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "output": output,
            "usage": used,
        }


async def events(
    response: Response,
    model: str,
    answer: Answer,
    first: Delta | None,
    pieces: AsyncIterator[Delta],
) -> AsyncIterator[str]:
    """A streamed response. first: its first piece, which was waited for."""
    made = _Events(response)
    yield made.event("response.created", response=response.begun())
    yield made.event("response.in_progress", response=response.begun())
    if first is not None:
        yield made.said(first.text)
        async for piece in pieces:
            yield made.said(piece.text)
    try:
        reply = wire.reply_of(model, answer)
    except WordmillError as error:
        yield made.event("response.failed", response=response.failed(error))
        return
    ended = response.ended(answer, reply)
    for place, item in enumerate(ended["output"]):
        yield made.called(place, item) if item["type"] == "function_call" else made.told(item)
    yield made.event(f"response.{ended['status']}", response=ended)


class _Events:
    """Server-sent events, numbered. A message is opened with its first word."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._number = 0
        self._open = False
        self._at = {"item_id": response.item, "output_index": 0, "content_index": 0}

    def event(self, kind: str, **fields: Any) -> str:
        made = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(made)}\n\n"

    def said(self, text: str) -> str:
        if not text:
            return ""
        before = self._opened()
        delta = self.event("response.output_text.delta", **self._at, delta=text, logprobs=[])
        return before + delta

    def told(self, item: Json) -> str:
        """The end of the message."""
        before = self._opened()
        (part,) = item["content"]
        said = ""
        if part["type"] == "output_text":
            told = {**self._at, "text": part["text"], "logprobs": []}
            said = self.event("response.output_text.done", **told)
        ended = self.event("response.content_part.done", **self._at, part=part)
        return before + said + ended + self._item("done", 0, item)

    def called(self, place: int, item: Json) -> str:
        """A call, which came whole."""
        begun = {**item, "arguments": "", "status": "in_progress"}
        at = {"item_id": item["id"], "output_index": place}
        arguments = item["arguments"]
        kind = "response.function_call_arguments"
        return (
            self._item("added", place, begun)
            + self.event(f"{kind}.delta", **at, delta=arguments)
            + self.event(f"{kind}.done", **at, name=item["name"], arguments=arguments)
            + self._item("done", place, item)
        )

    def _opened(self) -> str:
        if self._open:
            return ""
        self._open = True
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        added = self._item("added", 0, self._response.message([], "in_progress"))
        return added + self.event("response.content_part.added", **self._at, part=part)

    def _item(self, what: str, place: int, item: Json) -> str:
        return self.event(f"response.output_item.{what}", output_index=place, item=item)


def _part(reply: Reply) -> dict[str, Any]:
    if reply.refusal:
        return {"type": "refusal", "refusal": reply.text}
    return {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}


def _called(call: Json) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "type": "function_call",
        "id": f"fc_{uuid.uuid4().hex}",
        "call_id": call.get("id") or f"call_{uuid.uuid4().hex}",
        "name": function.get("name", ""),
        "arguments": function.get("arguments", ""),
        "status": "completed",
    }
