"""Asking the rehearsal model over plain HTTP, and what the tests of it share."""

import json
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple

import jsonschema_rs
import openai

from wordmill._engine import Rehearsal

Rehearse = Callable[..., Rehearsal]
Json = Any

FAULTS = [
    "429", "401", "500", "503", "drop", "truncate", "malformed", "empty", "slow", "refuse",
    "schema", "as-an-ai",
]  # fmt: skip
TICKET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["summary", "level"],
    "properties": {
        "summary": {"type": "string"},
        "level": {"type": "integer", "minimum": 1, "maximum": 5},
    },
}


class Answered(NamedTuple):
    """What came back over plain HTTP."""

    status: int
    headers: dict[str, str]
    body: Json


def ask(
    server: Rehearsal, body: Json, path: str = "/v1/chat/completions", method: str = "POST"
) -> Answered:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, raw if method == "POST" else None)
        return answered(connection.getresponse())


def answered(response: HTTPResponse) -> Answered:
    raw = response.read()
    is_json = response.headers["content-type"] == "application/json"
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answered(response.status, headers, json.loads(raw) if is_json else raw.decode())


def chat(prompt: str, **fields: Json) -> dict[str, Json]:
    return {"model": "mock-1", "messages": [{"role": "user", "content": prompt}], **fields}


def by_schema(schema: Json) -> dict[str, Json]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def text_of(answer: Answered, choice: int = 0) -> str:
    assert answer.status == 200, answer
    content = answer.body["choices"][choice]["message"]["content"]
    assert isinstance(content, str)
    return content


def say(server: Rehearsal, prompt: str, **fields: Json) -> str:
    return text_of(ask(server, chat(prompt, **fields)))


def stats(server: Rehearsal) -> dict[str, Json]:
    found: dict[str, Json] = json.loads(server.stats())
    return found


def client_of(server: Rehearsal) -> openai.OpenAI:
    base_url = f"http://127.0.0.1:{server.port}/v1"
    return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)


def valid(schema: Json, text: str) -> Json:
    """The JSON value of a text, which the schema must allow."""
    value = json.loads(text)
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    assert validator.is_valid(value), (schema, text, [str(e) for e in validator.iter_errors(value)])
    return value
