"""An OpenAI-shaped body, made into one that a model's server takes.

What is plain (system, user and assistant messages of text) goes through the provider as a recipe's
requests do, so that an imperfect server is met in the same way. What is richer (pictures, tools and
their results) keeps its messages as they are, and only its fields are fitted.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from wordmill.providers.base import Provider
from wordmill.providers.openai import SCHEMA_PROMPT
from wordmill.types import Message, RequestShape, Role

_OWN: Final = ("model", "messages", "stream", "stream_options", "response_format", "tools")
PICTURE: Final = 3000
_ROLES: Final = ("system", "user", "assistant")

Json = Mapping[str, Any]


def shape_of(model: str, body: Json) -> RequestShape:
    """The body as a shape, its messages as texts: what a provider needs to know of it."""
    parameters = tuple((name, value) for name, value in body.items() if name not in _OWN)
    form = body.get("response_format") or {}
    schema = None
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        schema = json.dumps(form.get("json_schema", {}).get("schema", {}))
    elif form:
        parameters += (("response_format", form),)
    tools = body.get("tools")
    messages = tuple(
        Message(_role(message), text_of(message.get("content"))) for message in body["messages"]
    )
    return RequestShape(
        model=model,
        messages=messages,
        parameters=parameters,
        schema=schema,
        tools=json.dumps(tools) if tools else None,
    )


def fitted(provider: Provider, shape: RequestShape, body: Json) -> dict[str, Any]:
    """What is sent, in the provider's dialect of now."""
    made = dict(provider.body(shape))
    if any(map(_rich, body["messages"])):
        messages = [dict(message) for message in body["messages"]]
        if shape.schema is not None:
            form = provider.dialect.form_of(shape.schema)
            if form in ("json_object", "prompt"):
                words = SCHEMA_PROMPT.format(schema=shape.schema)
                messages.insert(0, {"role": "system", "content": words})
        made["messages"] = messages
    if "max_tokens" not in body and "max_completion_tokens" not in body:
        # Nobody bounded the answer: the server's own bound is the better one in a talk.
        for name in ("max_tokens", "max_completion_tokens"):
            made.pop(name, None)
    return made


def as_sent(provider: Provider, body: Json) -> dict[str, Any]:
    """The body as the server has it, with what the engine adds to it on the way."""
    told = {key: value for key, value in body.items() if not (key == "seed" and value is None)}
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    return {**told, "model": provider.model.model, **streamed}


def text_of(content: Any) -> str:
    """The texts of a message's content."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return ""


def length(body: Json) -> int:
    """Characters of a body that a model reads; a picture counts as some, however large it is."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return len(json.dumps(body))
    rest = {name: value for name, value in body.items() if name != "messages"}
    size = len(json.dumps(rest))
    for message in messages:
        content = message.get("content")
        size += len(text_of(content)) + len(json.dumps(message.get("tool_calls") or ""))
        if isinstance(content, list):
            size += PICTURE * sum(part.get("type") != "text" for part in content)
    return size


def _rich(message: Json) -> bool:
    return (
        message.get("role") not in _ROLES
        or not isinstance(message.get("content"), str)
        or bool(message.get("tool_calls"))
        or "name" in message
    )


def _role(message: Json) -> Role:
    role = message.get("role")
    return cast(Role, role) if role in _ROLES else "system" if role == "developer" else "user"
