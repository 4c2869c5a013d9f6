"""The official client, against us."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.api.conftest import Server
from wordmill.models import checked

HELLO = [{"role": "user", "content": "Hello, who is there?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=server.keys["bob"], max_retries=0
    ) as made:
        yield made


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["rehearsal"]
    assert client.models.retrieve("rehearsal").owned_by == "rehearsal"


def test_an_answer_whole_and_in_pieces_is_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="rehearsal", messages=HELLO)
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    pieces, usage = [], None
    for chunk in client.chat.completions.create(
        model="rehearsal", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        pieces += [choice.delta.content or "" for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert usage is not None
    assert usage.total_tokens == whole.usage.total_tokens > 0


def test_tools_whole_and_streamed(client: openai.OpenAI) -> None:
    asked = {"model": "rehearsal", "messages": HELLO, "tools": [WEATHER], "tool_choice": "required"}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    (call,) = whole.choices[0].message.tool_calls
    assert whole.choices[0].finish_reason == "tool_calls"
    assert set(json.loads(call.function.arguments)) == {"city"}
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    (streamed,) = final.choices[0].message.tool_calls
    assert streamed.function.arguments == call.function.arguments


def test_structured_output(client: openai.OpenAI) -> None:
    class Person(BaseModel):
        name: str
        age: int

    answer = client.chat.completions.parse(
        model="rehearsal", messages=HELLO, response_format=Person
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_the_other_operations(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="rehearsal", input=["a", "b"])
    assert len(found.data) == 2
    assert len(client.completions.create(model="rehearsal", prompt="Once").choices[0].text) > 0
    assert client.responses.create(model="rehearsal", input="Hello").output_text
    several = client.chat.completions.create(model="rehearsal", messages=HELLO, n=3)
    assert len(several.choices) == 3


def test_a_stored_conversation_goes_on(client: openai.OpenAI, server: Server) -> None:
    bob = server.people["bob"]
    kept = server.house.conversations.create(bob, model="rehearsal", system="Be brief.")
    answer = client.chat.completions.create(
        model="rehearsal", messages=HELLO, extra_headers={"X-Wordmill-Conversation": kept.id}
    )
    branch = server.house.conversations.branch(bob, kept.id)
    assert [message.text for message in branch] == [
        HELLO[0]["content"],
        answer.choices[0].message.content,
    ]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(
            model="rehearsal", messages=HELLO, extra_body={"conversation": "nobody's"}
        )


def test_a_stored_conversation_goes_on_in_pieces(client: openai.OpenAI, server: Server) -> None:
    bob = server.people["bob"]
    kept = server.house.conversations.create(bob, model="rehearsal")
    answer = client.chat.completions.create(
        model="rehearsal", messages=HELLO, stream=True, extra_body={"conversation": kept.id},
        stream_options={"include_usage": True}, extra_headers={"Idempotency-Key": "one"},
    )  # fmt: skip
    assert answer.response.headers["x-wordmill-conversation"] == kept.id
    chunks = list(answer)
    text = "".join(one.delta.content or "" for chunk in chunks for one in chunk.choices)
    question, message = server.house.conversations.branch(bob, kept.id)
    assert (question.text, message.text) == (HELLO[0]["content"], text)
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == message.usage["output"]  # type: ignore[index]
    # Said once more with the same key, it is said once.
    again = client.chat.completions.create(
        model="rehearsal", messages=HELLO, extra_body={"conversation": kept.id},
        extra_headers={"Idempotency-Key": "one"},
    )  # fmt: skip
    assert again.choices[0].message.content == text
    assert len(server.house.conversations.branch(bob, kept.id)) == 2
    with pytest.raises(openai.BadRequestError) as own:
        client.chat.completions.create(
            model="rehearsal", messages=HELLO, temperature=1,
            extra_body={"conversation": kept.id},
        )  # fmt: skip
    assert own.value.param == "temperature"


def test_the_other_clients_ways_with_responses(client: openai.OpenAI, server: Server) -> None:
    class Person(BaseModel):
        name: str
        age: int

    with client.responses.stream(model="rehearsal", input="Who is it?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert final.output_text
    parsed = client.responses.parse(model="rehearsal", input="Who is it?", text_format=Person)
    assert isinstance(parsed.output_parsed, Person)

    async def in_a_loop() -> str:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key=server.keys["bob"], max_retries=0
        ) as other:
            made = [
                event.delta
                async for event in await other.responses.create(
                    model="rehearsal", input="Who is it?", stream=True
                )
                if event.type == "response.output_text.delta"
            ]
            return "".join(made)

    assert asyncio.run(in_a_loop()) == final.output_text


def test_what_a_server_refuses_is_said(server: Server, client: openai.OpenAI) -> None:
    from tests.servers.talking import talking

    with talking("Fine.") as talk:
        talk.refuse = lambda body: (
            (400, "Unsupported parameter: 'top_k'") if "top_k" in body else None
        )
        server.house.catalog.add(checked({"name": "plain", "model": "m", "base_url": talk.url}))
        raw = client.chat.completions.with_raw_response.create(
            model="plain", messages=HELLO, extra_body={"top_k": 5}
        )
    assert raw.parse().choices[0].message.content == "Fine."
    assert "the server refused `top_k`" in raw.headers["x-wordmill-degraded"]


def test_errors_are_openais(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="rehearsel", messages=HELLO)
    assert missing.value.code == "model_not_found"
    assert "Did you mean 'rehearsal'?" in str(missing.value)
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="rehearsal", messages=[])
    assert bad.value.param == "messages"
    for key in ("wm-wrong", "sk-other"):
        stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
        with pytest.raises(openai.AuthenticationError) as unknown, stranger:
            stranger.models.list()
        assert unknown.value.code == "invalid_api_key"


def test_a_quota_ends_it_for_every_door(client: openai.OpenAI, server: Server) -> None:
    bob, ann = server.people["bob"], server.people["ann"]
    server.house.accounts.ledger.set_quota(ann, bob.id, "day", requests=2)
    for _ in range(2):
        client.chat.completions.create(model="rehearsal", messages=HELLO)
    with pytest.raises(openai.RateLimitError) as reached:
        client.chat.completions.create(model="rehearsal", messages=HELLO)
    assert reached.value.code == "insufficient_quota"
    assert int(reached.value.response.headers["retry-after"]) > 0
    kept = server.house.conversations.create(bob, model="rehearsal")
    turn = server.house.chat.send(bob, kept.id, "Hello", door="web")
    for _ in server.house.chat.watch(bob, turn.answer):
        pass
    refused = server.house.conversations.message(bob, turn.answer)
    assert refused.state == "failed"
    assert "requests" in str(refused.error)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"model": "rehearsal", "messages": [NaN]}',
        b'{"model": "rehearsal", "messages": "x"}',
        b'{"model": 5, "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "rehearsal", "messages": [{"role": "nobody", "content": "x"}]}',
        b'{"model": "rehearsal", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "rehearsal", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "rehearsal", "messages": [{"role": "user", "content": ["x"]}]}',
        b'{"model": "rehearsal", "messages": [{"role": "user", "content": 7}]}',
        b'{"model": "rehearsal", "messages": [{"role": "user", "content": "x"}], "n": 0}',
        b'{"model": "rehearsal", "messages": [{"role": "user", "content": "x"}], "stream": 1}',
    ],
)
def test_bad_bodies_are_400_in_openais_form(server: Server, body: bytes) -> None:
    with server.client("bob") as client:
        answer = client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_too_long(server: Server) -> None:
    def long() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 1_000_000

    with server.client("bob") as client:
        answer = client.post("/v1/chat/completions", content=long())
    assert answer.status_code == 413


def test_three_hundred_streams_at_once(server: Server, rehearse: Callable[..., object]) -> None:
    slow = rehearse(latency_ms=100)
    address = f"http://127.0.0.1:{slow.port}/v1"  # type: ignore[attr-defined]
    server.house.catalog.add(checked({"name": "slow", "model": "m", "base_url": address}))

    async def one(client: openai.AsyncOpenAI, number: int) -> tuple[str, str]:
        messages = [{"role": "user", "content": f"Tell me story number {number}."}]
        pieces = []
        stream = await client.chat.completions.create(
            model="slow",
            messages=messages,  # type: ignore[arg-type]
            stream=True,
        )
        async for chunk in stream:
            pieces += [choice.delta.content or "" for choice in chunk.choices]
        return messages[0]["content"], "".join(pieces)

    async def all_of_them() -> list[tuple[str, str]]:
        limits = httpx.Limits(max_connections=None)
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1",
            api_key=server.keys["bob"],
            max_retries=0,
            http_client=httpx.AsyncClient(limits=limits, timeout=60),
        ) as client:
            return await asyncio.gather(*(one(client, number) for number in range(300)))

    said = asyncio.run(all_of_them())
    with httpx.Client(base_url=address) as direct:
        for question, text in said[::30]:
            body = {"model": "m", "messages": [{"role": "user", "content": question}]}
            answer = direct.post("/chat/completions", json=body).json()
            assert answer["choices"][0]["message"]["content"] == text
    assert len({text for _, text in said}) > 250


class _Endless(BaseHTTPRequestHandler):
    closed = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        try:
            while True:
                chunk = {"choices": [{"index": 0, "delta": {"content": "on "}}]}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            type(self).closed.set()

    def log_message(self, *_: object) -> None:
        pass


def test_a_client_that_goes_ends_the_request_upstream(server: Server) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endless) as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{upstream.server_port}/v1"
        server.house.catalog.add(checked({"name": "endless", "model": "m", "base_url": address}))
        body = {"model": "endless", "messages": HELLO, "stream": True}
        with (
            server.client("bob") as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            lines = answer.iter_lines()
            while "on " not in next(lines):
                pass
        assert _Endless.closed.wait(20)
        upstream.shutdown()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": HELLO}),
        ("/v1/chat/completions", {"messages": HELLO, "stream": True}),
        ("/v1/responses", {"input": "Hello", "stream": True}),
        ("/v1/embeddings", {"input": "Hello"}),
    ],
)
def test_a_client_that_goes_before_a_word_came_ends_it_too(
    server: Server, path: str, body: dict[str, object]
) -> None:
    closed, asked = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as upstream:

        def silent() -> None:
            connection, _ = upstream.accept()
            with connection:
                connection.recv(65536)
                asked.set()
                while connection.recv(65536):
                    pass
                closed.set()

        threading.Thread(target=silent, daemon=True).start()
        address = f"http://127.0.0.1:{upstream.getsockname()[1]}/v1"
        server.house.catalog.add(checked({"name": "silent", "model": "m", "base_url": address}))
        port = int(server.url.rpartition(":")[2])
        sent = json.dumps({"model": "silent", **body}).encode()
        with socket.create_connection(("127.0.0.1", port)) as client:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.keys['bob']}"
                f"\r\nContent-Length: {len(sent)}\r\n\r\n"
            )
            client.sendall(head.encode() + sent)
            assert asked.wait(20)
            assert not closed.is_set()
        assert closed.wait(20)
