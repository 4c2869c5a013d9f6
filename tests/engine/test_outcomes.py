"""Each request gives exactly one record: a reply or an error with a name."""

import json
import socket
import time
from collections import Counter

import pytest

from tests.engine.conftest import refused, said
from wordmill import _engine

FAULTS = {
    "throttled": ([refused(429, "slow down", retry_after_ms="1")], True),
    "overloaded": ([refused(503, "busy")], True),
    "server_error": ([refused(500, "oops")], True),
    "invalid_json": ([(200, b'{"choices": [{"mess', {})], True),
    "empty": ([said("")], True),
    "rejected": ([refused(400, "max_tokens is too large", "invalid_request")], False),
    "unauthorized": ([refused(401, "Incorrect API key provided: sk-secret-1234")], False),
    "payment": ([refused(429, "You exceeded your current quota", "insufficient_quota")], False),
    "unknown_model": (
        [refused(404, "The model `mock-1` does not exist", "model_not_found")],
        False,
    ),
    "invalid_text": ([(200, b'{"choices":[{"message":{"content":"\\ud800 half"}}]}', {})], False),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_tried_again_or_reported_by_its_name(kind, serve, drive):
    (fault,), retried = FAULTS[kind]
    server = serve(lambda number, body: fault if number == 0 else said("fine"))
    outcome = drive(server.url, lane={"key": "sk-secret-1234"}).ask({5: "hello"})[5]
    if retried:
        assert (outcome["text"], outcome["error"], outcome["attempts"]) == ("fine", None, 2)
    else:
        assert (outcome["error"], outcome["attempts"], len(server.bodies)) == (kind, 1, 1)
        assert outcome["detail"]
    assert "sk-secret-1234" not in json.dumps(outcome | {"body": None})


@pytest.mark.parametrize("kind", ["dropped", "cut"])
def test_a_broken_connection_is_tried_again(kind, serve, drive):
    def break_off(handler):
        if kind == "cut":
            handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices"')
            handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    server = serve(lambda number, body: break_off if number == 0 else said("fine"))
    driver = drive(server.url)
    outcome = driver.ask({0: "hello"})[0]
    assert (outcome["text"], outcome["attempts"]) == ("fine", 2)
    assert driver.metrics()["retried"] == {kind: 1}


def test_attempts_are_bounded_and_the_last_words_kept(serve, drive):
    server = serve(lambda number, body: refused(500, f"oops number {number}"))
    outcome = drive(server.url, lane={"attempts": 3}).ask({0: "hello"})[0]
    assert (outcome["error"], outcome["detail"], outcome["attempts"]) == (
        "server_error",
        "HTTP 500: oops number 2",
        3,
    )


def test_an_address_where_nobody_listens_stops_the_lane_with_a_sentence(drive):
    # Held, so that nobody else listens there meanwhile.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        driver = drive(f"http://127.0.0.1:{port}/v1", lane={"attempts": 2})
        outcomes = driver.ask(dict.fromkeys(range(50), "hello"))
    kinds = Counter(outcome["error"] for outcome in outcomes.values())
    # Three stop it; the other two places of the opening may be out at that moment.
    assert 3 <= kinds["connect"] <= 5
    assert kinds["connect"] + kinds["stopped"] == 50
    assert f"cannot connect to 127.0.0.1:{port}" in outcomes[49]["detail"]


def test_a_slow_answer_is_a_timeout(serve, drive):
    server = serve(lambda number, body: time.sleep(0.6) or said("late"))
    outcome = drive(server.url, lane={"first_byte_seconds": 0.2, "attempts": 1}).ask({0: "hello"})[
        0
    ]
    assert (outcome["error"], outcome["detail"]) == ("timeout", "no answer within 0.2 s")


def test_a_reply_of_fifty_megabytes_is_refused_and_not_kept(serve, drive):
    server = serve(lambda number, body: said("x" * 50_000_000))
    outcome = drive(server.url, lane={"max_reply_bytes": 1_000_000}).ask({0: "hello"})[0]
    assert outcome["error"] == "too_large"
    assert outcome["detail"] == "the reply is larger than 1000000 bytes (setting max_reply_bytes)"


def test_nul_and_every_plane_of_unicode_come_through(serve, drive):
    text = "a\0b \U0001f600 é \u2028 end"
    server = serve(lambda number, body: said(body["messages"][0]["content"]))
    assert drive(server.url).ask({0: text})[0]["text"] == text


def test_half_a_surrogate_pair_in_a_prompt_fails_that_request_alone(serve, drive):
    server = serve(lambda number, body: said("fine"))
    outcomes = drive(server.url).ask({0: "good", 1: "\ud800", 2: "good too"})
    assert [outcomes[n]["error"] for n in range(3)] == [None, "bad_request", None]
    assert outcomes[1]["detail"] == "the prompt holds half of a surrogate pair, which is no text"


def test_three_wrong_keys_stop_a_lane_and_the_rest_is_never_sent(serve, drive):
    server = serve(lambda number, body: refused(401, "Incorrect API key"))
    driver = drive(server.url, lane={"concurrency": 256})
    outcomes = driver.ask(dict.fromkeys(range(1000), "hello"))
    assert len(server.bodies) == 3
    assert sorted({outcome["error"] for outcome in outcomes.values()}) == [
        "stopped",
        "unauthorized",
    ]
    assert driver.metrics()["lanes"]["m"]["stopped"] == "HTTP 401: Incorrect API key"


def test_no_usage_content_as_parts_and_a_reason_are_understood(serve, drive):
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    answers = {
        "parts": (200, {"choices": [{"message": {"content": parts}}]}, {}),
        "length": said("", finish_reason="length"),
        "tools": (
            200,
            {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}}]},
            {},
        ),
    }
    server = serve(lambda number, body: answers[body["messages"][0]["content"]])
    outcomes = drive(server.url).ask(dict(enumerate(answers)))
    assert outcomes[0]["text"] == "one two"
    assert outcomes[0]["flags"] & 8, "usage was estimated"
    assert (outcomes[1]["text"], outcomes[1]["finish"], outcomes[1]["error"]) == (
        "",
        "length",
        None,
    )
    assert json.loads(outcomes[2]["body"])["choices"][0]["message"]["tool_calls"]


def test_money_follows_the_catalogs_prices(serve, drive):
    server = serve(lambda number, body: said("fine"))
    lane = {"price_input": 2.0, "price_output": 10.0}
    assert drive(server.url, lane=lane).ask({0: "hello"})[0]["cost"] == pytest.approx(
        (7 * 2 + 3 * 10) / 1e6
    )


def test_every_fault_of_the_rehearsal_server_ends_in_a_value(rehearse, drive):
    faults = ["429", "500", "503", "drop", "truncate", "malformed", "empty"]
    server = rehearse(latency_ms=2, errors=dict.fromkeys(faults, 0.04))
    driver = drive(f"http://127.0.0.1:{server.port}/v1", lane={"concurrency": 32, "attempts": 12})
    outcomes = driver.ask({n: f"Tell me about number {n}." for n in range(400)})
    assert {outcome["error"] for outcome in outcomes.values()} == {None}
    given = json.loads(server.stats())["faults"]
    names = {"429": "throttled", "500": "server_error", "503": "overloaded", "drop": "dropped"}
    names |= {"truncate": "cut", "malformed": "invalid_json", "empty": "empty"}
    met = driver.metrics()["retried"]
    assert met == {names[fault]: count for fault, count in given.items() if count}
    assert sum(met.values()) > 50


KEY = "sk-" + "K" * 60
TOKEN = "header-secret-1234"


@pytest.mark.parametrize(
    "answer",
    [
        refused(400, "x" * 350 + " Incorrect API key provided: " + KEY),
        refused(400, f"wrong token {TOKEN} in {KEY}"),
        (200, ("<html>" + "x" * 40 + KEY).encode(), {}),
        (502, ("bad gateway " + "y" * 380 + KEY).encode(), {}),
    ],
)
def test_no_secret_is_in_a_record_not_even_a_part_of_one(answer, serve, drive, tmp_path):
    server = serve(lambda number, body: answer)
    lane = {"key": KEY, "headers": {"x-api-key": TOKEN, "x-two": f"Bearer {TOKEN}"}, "attempts": 1}
    driver = drive(server.url, lane=lane)
    outcome = driver.ask({0: "hello"})[0]
    assert server.headers[0]["x-api-key"] == TOKEN
    driver.engine.close()
    for text in (outcome["detail"], json.dumps(driver.metrics())):
        assert "KKKK" not in text
        assert "secret" not in text
    assert b"KKKK" not in (tmp_path / "records.db").read_bytes()


def test_created_is_as_good_as_ok(serve, drive):
    server = serve(lambda number, body: (201, *said("fine")[1:]))
    assert drive(server.url).ask({0: "p"})[0]["text"] == "fine"


@pytest.mark.parametrize("scheme", ["socks5", "https"])
def test_a_proxy_that_is_not_spoken_to_is_refused_at_the_start(scheme, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:pass@127.0.0.1:1080")
    lane = {"name": "m", "base_url": "http://example.invalid/v1", "model": "m", "key": "sk-1"}
    with pytest.raises(_engine.EngineFault) as caught:
        _engine.Engine(json.dumps({"owner": "o", "lanes": [lane]}))
    assert str(caught.value) == (
        f'model "m": the proxy for "example.invalid" is {scheme}://127.0.0.1:1080, and only '
        "http:// proxies can be used: set HTTP_PROXY or HTTPS_PROXY to one, or name the host in "
        "NO_PROXY"
    )
