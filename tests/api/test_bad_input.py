"""What nobody should send: a clear error in the door's own form, and nothing falls over."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.conftest import Server
from wordmill.channels.api.fields import CHAT, checked

HELLO = [{"role": "user", "content": "Hello"}]
DOORS = {"/v1/chat/completions": {"model": "rehearsal", "messages": HELLO}, "/api/folders": {}}


def said(answer: httpx.Response, path: str) -> str:
    """The words of an error, which has the form of its door."""
    error = answer.json()["error"]
    fields = {"message", "type", "param", "code"} if path.startswith("/v1") else {
        "message", "code", "field",
    }  # fmt: skip
    assert set(error) == fields
    assert error["message"]
    assert answer.headers["x-request-id"]
    return str(error["message"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/api/folders"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"name": "\xff\xfe"}', b'{"name": "\\ud800"}', b"\x00", b"NaN",
     b"[" * 100_000],
    ids=["nothing", "half", "list", "null", "utf8", "surrogate", "nul", "nan", "deep"],
)  # fmt: skip
def test_bodies_that_are_no_json_object(server: Server, path: str, body: bytes) -> None:
    with server.client("bob") as client:
        headers = {"content-type": "application/json"}
        answer = client.post(path, content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    said(answer, path)


@pytest.mark.parametrize(
    ("path", "most"), [("/v1/chat/completions", 33), ("/api/folders", 33), ("/v1/responses", 33)]
)
def test_a_body_that_is_too_long_is_not_read_to_its_end(
    server: Server, path: str, most: int
) -> None:
    def long() -> Iterator[bytes]:
        yield b'{"name": "'
        for _ in range(most):
            yield b"x" * 1024 * 1024

    with server.client("bob") as client:
        answer = client.post(path, content=long(), headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert "longer than" in said(answer, path)


def test_a_prompt_of_a_megabyte_and_ten_thousand_messages_are_answered(server: Server) -> None:
    long = [{"role": "user", "content": "water " * 170_000}]
    many = [
        {"role": "assistant" if number % 2 else "user", "content": f"Message {number}."}
        for number in range(10_001)
    ]
    with server.client("bob") as client:
        for messages in (long, many):
            body = {"model": "rehearsal", "messages": messages}
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text[:300]
            assert answer.json()["choices"][0]["message"]["content"]


def test_letters_that_no_database_holds(server: Server) -> None:
    with server.client("bob") as client:
        kept = client.post("/api/conversations", json={"title": "x"}).json()["id"]
        for body in ({"text": "a\x00b"}, {"text": "x", "model": "a\x00"}):
            answer = client.post(f"/api/conversations/{kept}/messages", json=body)
            assert answer.status_code in (202, 400, 404), answer.text
        for path in ("/api/runs/%00", "/api/messages/%00", "/api/conversations/a%00b",
                     "/api/models/%00", "/v1/models/%00", "/api/shared/%00"):  # fmt: skip
            answer = client.get(path)
            assert answer.status_code == 404, (path, answer.text)
            said(answer, path)
        body = {"model": "re\x00", "messages": HELLO}
        assert client.post("/v1/chat/completions", json=body).status_code == 404
        nul = [{"role": "user", "content": "a\x00b"}]
        answer = client.post("/v1/chat/completions", json={"model": "rehearsal", "messages": nul})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mesages": HELLO}, "mesages"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"tools": {}}, "tools"),
        ({"tools": ["x"]}, "tools"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": 5}}, "response_format"),
        ({"response_format": {"type": "choices", "choices": []}}, "response_format"),
        ({"response_format": {"type": "choices", "choices": [1]}}, "response_format"),
        ({"response_format": {"type": "regex", "pattern": 5}}, "response_format"),
        ({"logit_bias": []}, "logit_bias"),
        ({"stream_options": True}, "stream_options"),
        ({"extra_body": {"model": "other"}}, "extra_body"),
        ({"messages": [{"role": "user", "content": [{"type": 5}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]},
         "messages.0.content.0.text"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "messages.0.tool_calls"),
    ],
)  # fmt: skip
def test_fields_that_are_not_what_they_should_be(
    server: Server, change: dict[str, Any], field: str
) -> None:
    with server.client("bob") as client:
        body = {"model": "rehearsal", "messages": HELLO, **change}
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field
    said(answer, "/v1")


@pytest.mark.parametrize(
    "form",
    [
        {"type": "choices", "choices": ["yes", "no"]},
        {"type": "regex", "pattern": "[A-Z]{2}"},
    ],
)
def test_the_forms_of_models_of_ones_own_are_handed_on(form: dict[str, Any]) -> None:
    body = {"model": "own", "response_format": form}
    assert checked(body, CHAT)["response_format"] == form


def test_another_persons_conversation_is_not_there(server: Server) -> None:
    theirs = server.house.conversations.create(server.people["cem"], model="rehearsal")
    body = {"model": "rehearsal", "messages": HELLO}
    for way in ({"headers": {"x-wordmill-conversation": theirs.id}, "json": body},
                {"json": {**body, "conversation": theirs.id}}):  # fmt: skip
        with server.client("bob") as client:
            answer = client.post("/v1/chat/completions", **way)  # type: ignore[arg-type]
        assert answer.status_code == 404
        assert json.loads(answer.text)["error"]["code"] == "not_found"
    assert server.house.conversations.branch(server.people["cem"], theirs.id) == []


def test_ways_that_lead_nowhere(server: Server) -> None:
    with server.client("bob") as client:
        for path in ("/v1/nothing", "/api/nothing"):
            said(client.get(path), path)
        answer = client.put("/v1/chat/completions", json={})
        assert answer.status_code == 405
        said(answer, "/v1")
