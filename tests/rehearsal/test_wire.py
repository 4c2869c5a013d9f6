"""HTTP itself: bad requests, pipelines, bounds, limits, and what the server counts."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.rehearsal.asked import FAULTS, Json, Rehearse, ask, chat, say, stats
from wordmill._engine import Rehearsal

UNREADABLE = "The JSON body of your request cannot be read: "


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", f"{UNREADABLE}EOF while parsing an object at line 1 column 1."),
        (b"\xff{}", f"{UNREADABLE}expected value at line 1 column 1."),
        ({"model": "m"}, f"{UNREADABLE}missing field `messages` at line 1 column 14."),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
            f"{UNREADABLE}unexpected end of hex escape at line 1 column 64.",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}]},
            "you must provide a model parameter",
        ),
        (
            {"model": "m", "messages": []},
            "Invalid 'messages': empty array. Expected an array with minimum length 1.",
        ),
        (chat("x", n=0), "Invalid 'n': expected a value from 1 to 128, but got 0 instead."),
        (
            chat("x", max_tokens=0),
            "Invalid 'max_tokens': expected a value >= 1, but got 0 instead.",
        ),
        (
            chat("x", response_format={"type": "xml"}),
            'Invalid schema for response_format: there is no response format "xml".',
        ),
    ],
)
def test_bad_requests_are_told_in_openais_shape(server: Rehearsal, body: Json, says: str) -> None:
    answer = ask(server, body)
    assert (answer.status, set(answer.body["error"])) == (400, {"message", "type", "param", "code"})
    assert answer.body["error"]["message"] == says


def test_unknown_addresses_and_methods(server: Rehearsal) -> None:
    answer = ask(server, {}, "/v1/nothing")
    assert answer.status == 404
    assert answer.body["error"]["message"] == (
        "Unknown request URL: /v1/nothing. The rehearsal model answers POST /v1/chat/completions, "
        "POST /v1/completions, POST /v1/responses, POST /v1/embeddings, GET /v1/models "
        "and GET /stats."
    )
    answer = ask(server, None, "/v1/chat/completions", "GET")
    assert (answer.status, answer.body["error"]["code"]) == (405, "method_not_supported")
    assert ask(server, {}, "/v1/models").status == 405
    assert ask(server, chat("x"), "/any/prefix/chat/completions?a=b").status == 200


def raw(server: Rehearsal, sent: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_requests_may_be_pipelined_chunked_and_announced(server: Rehearsal) -> None:
    body = json.dumps(chat("hello")).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    counted = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    chunked += b"".join(
        b"%x\r\n%b\r\n" % (len(body[i : i + 9]), body[i : i + 9]) for i in range(0, len(body), 9)
    )
    chunked += b"0\r\n\r\n"
    closing_ = counted.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
    answers = raw(server, counted + chunked + closing_ + counted).split(b"HTTP/1.1 200 OK")[1:]
    assert len(answers) == 3
    texts = {
        json.loads(answer.split(b"\r\n\r\n", 1)[1])["choices"][0]["message"]["content"]
        for answer in answers
    }
    assert len(texts) == 1
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused(server: Rehearsal, sent: bytes, status: int) -> None:
    answer = raw(server, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert set(json.loads(answer.split(b"\r\n\r\n", 1)[1])) == {"error"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"latency_ms": -1}, "a latency of -1 ms is not from 0 to one hour"),
        ({"limit": 0}, "a limit of 0 would answer nothing; the smallest is 1"),
        ({"errors": {"drop": 2}}, 'the fault "drop" has the fraction 2; it must be from 0 to 1'),
        (
            {"errors": {"drop": 0.6, "500": 0.6}},
            "the fractions of the faults add up to 1.2, which is more than 1",
        ),
    ],
)
def test_wrong_options_are_said(options: Json, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Rehearsal(json.dumps(options))


def test_a_port_that_is_taken_is_said(server: Rehearsal) -> None:
    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{server.port}: "):
        Rehearsal(json.dumps({"port": server.port}))


def test_more_than_the_limit_at_once_is_too_many(rehearse: Rehearse) -> None:
    server = rehearse(limit=8, latency_ms=300)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: ask(server, chat(f"x {n}")), range(20)))
    refusals = [answer for answer in answers if answer.status == 429]
    assert len(refusals) == 12
    assert refusals[0].headers["retry-after-ms"] == "300"
    assert refusals[0].body["error"] == {
        "message": "Rate limit reached: too many requests at once. Please try again in 300ms.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    counted = stats(server)
    assert (counted["highest_concurrency"], counted["over_limit"]) == (8, 12)
    assert (counted["requests"], counted["answered"], counted["in_flight"]) == (20, 8, 0)
    assert counted["connections"] == 20


def test_an_answer_takes_its_latency(rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=200)
    begin = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(lambda n: say(server, f"x {n}"), range(10)))) == 10
    assert 0.2 <= time.monotonic() - begin < 1.5
    assert stats(server)["highest_concurrency"] == 10


def test_a_client_that_leaves_is_noticed(rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=60_000)
    body = json.dumps(chat("x")).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + body)
        until = time.monotonic() + 5
        while stats(server)["in_flight"] == 0 and time.monotonic() < until:
            time.sleep(0.01)
    while stats(server)["in_flight"] == 1 and time.monotonic() < until:
        time.sleep(0.01)
    counted = stats(server)
    assert (counted["in_flight"], counted["abandoned"], counted["answered"]) == (0, 1, 0)


def test_requests_that_come_again_are_counted(server: Rehearsal) -> None:
    for prompt in ["a", "b", "a", "c", "a"]:
        say(server, prompt)
    counted = stats(server)
    assert (counted["requests"], counted["distinct"], counted["repeated"]) == (5, 3, 2)


def test_statistics_are_served_too(server: Rehearsal) -> None:
    say(server, "a")
    served = ask(server, None, "/stats", "GET").body
    assert served == stats(server)
    assert served["connections"] == 2


def test_a_stopped_server_keeps_its_statistics(server: Rehearsal) -> None:
    say(server, "a")
    server.stop()
    server.stop()
    assert json.loads(server.stats())["answered"] == 1
    with pytest.raises(ConnectionRefusedError):
        ask(server, chat("a"))


def test_the_faults_have_their_names() -> None:
    assert Rehearsal.faults() == FAULTS
