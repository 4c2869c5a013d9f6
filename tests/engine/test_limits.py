"""Budget, cancel, fallback, rates: what is sent, and when."""

import json
import socket
import sqlite3
import threading
import time
from itertools import pairwise

import pytest

from tests.engine.conftest import refused, said
from wordmill import _engine


def test_a_ceiling_in_requests_is_exact_and_a_higher_one_goes_on(serve, drive):
    server = serve(lambda number, body: said("fine"))
    driver = drive(server.url, budget={"requests": 30})
    outcomes = driver.ask({n: f"p{n}" for n in range(100)})
    assert len(server.bodies) == 30
    assert sum(outcome["error"] == "budget" for outcome in outcomes.values()) == 70
    assert driver.metrics()["budget_reached"] == "30 of 30 requests are spent"
    driver.engine.close()
    more = drive(server.url, budget={"requests": 50})
    more.ask({n: f"p{n}" for n in range(100)})
    assert len(server.bodies) == 50
    assert more.metrics()["spent"]["requests"] == 50


@pytest.mark.parametrize(("budget", "price"), [({"tokens": 2000}, 0.0), ({"money": 0.002}, 1.0)])
def test_no_request_is_sent_that_could_pass_a_ceiling(budget, price, serve, drive):
    # Each answer takes all that it may: 100 tokens.
    def answer(number, body):
        return (
            200,
            {
                "choices": [{"message": {"content": "x"}}],
                "usage": {"prompt_tokens": 50, "completion_tokens": 100},
            },
            {},
        )

    server = serve(answer)
    driver = drive(server.url, budget=budget, lane={"price_input": price, "price_output": price})
    driver.ask({n: f"p{n}" for n in range(100)})
    spent = driver.metrics()["spent"]
    assert 0 < spent["tokens"] <= 2000
    assert spent["money"] <= 0.002
    # The next one could not have fitted: its bytes and its bound.
    assert spent["tokens"] + 250 > 2000


def test_cancel_drains_and_the_rest_is_cancelled(serve, drive):
    server = serve(lambda number, body: time.sleep(0.2) or said("fine"))
    driver = drive(server.url, lane={"concurrency": 8})
    driver.offer({n: f"p{n}" for n in range(200)})
    time.sleep(0.5)
    driver.engine.cancel(5.0)
    outcomes = driver.collect(200)
    good = sum(outcome["error"] is None for outcome in outcomes.values())
    assert good == len(server.bodies) < 200
    assert {outcome["error"] for outcome in outcomes.values()} == {None, "cancelled"}


def test_cancel_without_grace_cuts_what_is_out(serve, drive):
    release = threading.Event()
    server = serve(lambda number, body: release.wait(10) and said("late"))
    driver = drive(server.url)
    driver.offer({0: "p"})
    while not server.bodies:
        time.sleep(0.01)
    began = time.monotonic()
    driver.engine.cancel(0.0)
    outcome = driver.collect(1)[0]
    release.set()
    assert (outcome["error"], outcome["detail"]) == (
        "cancelled",
        "the run was cancelled before this was answered",
    )
    assert time.monotonic() - began < 1


def test_a_fallback_takes_over_when_the_breaker_opens(serve, drive):
    broken = serve(lambda number, body: refused(500, "down"))
    other = serve(lambda number, body: said("from the other: " + body["model"]))
    driver = drive(
        broken.url,
        lane={"fallback": "b", "attempts": 20},
        lanes=[{"name": "b", "base_url": other.url, "model": "mock-2", "concurrency": 16}],
    )
    outcomes = driver.ask({n: f"p{n}" for n in range(60)})
    assert {outcome["error"] for outcome in outcomes.values()} == {None}
    moved = [outcome for outcome in outcomes.values() if outcome["model"] == "b"]
    assert len(moved) == 60
    assert all(
        outcome["flags"] & 4 and outcome["text"] == "from the other: mock-2" for outcome in moved
    )
    assert len(broken.bodies) < 40


def test_what_a_fallback_said_is_no_answer_of_the_model_in_the_cache(serve, drive, tmp_path):
    broken = serve(lambda number, body: refused(401, "wrong"))
    other = serve(lambda number, body: said("from the other"))
    cache = str(tmp_path / "cache.db")
    lanes = [{"name": "b", "base_url": other.url, "model": "mock-2", "concurrency": 4}]

    def start(records):
        config = {"lane": {"fallback": "b"}, "lanes": lanes, "cache": cache, "records": records}
        return drive(broken.url, **config)

    first = start(True)
    first.ask({n: f"p{n}" for n in range(10)})
    first.engine.close()
    resumed = start(True)
    outcomes = resumed.ask({n: f"p{n}" for n in range(10)})
    # Resumed, from the fallback; those that met the wrong key first are asked again.
    assert (outcomes[9]["text"], outcomes[9]["model"], outcomes[9]["flags"]) == (
        "from the other",
        "b",
        36,
    )
    resumed.engine.close()
    before = len(other.bodies)
    again = start(False)
    again.ask({n: f"p{n}" for n in range(5, 10)})
    assert again.metrics()["cached"] == 0, "the cache gave the fallback's answer as the model's"
    assert len(other.bodies) > before


def test_a_fallback_takes_over_from_a_wrong_key(serve, drive):
    broken = serve(lambda number, body: refused(401, "wrong"))
    other = serve(lambda number, body: said("fine"))
    driver = drive(
        broken.url,
        lane={"fallback": "b"},
        lanes=[{"name": "b", "base_url": other.url, "model": "m", "concurrency": 4}],
    )
    outcomes = driver.ask({n: f"p{n}" for n in range(20)})
    assert sum(outcome["model"] == "b" for outcome in outcomes.values()) >= 18
    assert len(broken.bodies) == 3


def test_a_slow_fallback_does_not_take_in_more_than_it_can_send(serve, drive):
    release = threading.Event()
    broken = serve(lambda number, body: refused(401, "wrong"))
    other = serve(lambda number, body: release.wait(30) and said("fine"))
    driver = drive(
        broken.url,
        lane={"fallback": "b"},
        lanes=[{"name": "b", "base_url": other.url, "model": "m", "concurrency": 2}],
    )
    total = 20_000
    ids, texts, salts = list(range(total)), ["p"] * total, [n + 1 for n in range(total)]
    taken, none = 0, 0
    while none < 3 and taken < total:
        more = driver.engine.submit(driver.shape, ids[taken:], texts[taken:], salts[taken:], 0.3)
        taken, none = taken + more, 0 if more else none + 1
    assert taken < 6000
    release.set()
    outcomes = driver.collect(taken, 60)
    assert [outcome["error"] for outcome in outcomes.values()].count(None) >= taken - 3


def test_fallbacks_that_go_in_a_circle_are_refused():
    lanes = [
        {"name": name, "base_url": "http://127.0.0.1:9/v1", "model": "m", "fallback": other}
        for name, other in ("ab", "ba")
    ]
    with pytest.raises(
        ValueError,
        match=r'"a" falls back to itself in the end',
    ):
        _engine.Engine(json.dumps({"owner": "local", "lanes": lanes}))


def test_a_rate_of_requests_is_kept(serve, drive):
    stamps = []
    server = serve(lambda number, body: stamps.append(time.monotonic()) or said("fine"))
    driver = drive(server.url, lane={"requests_per_minute": 1200})
    driver.ask({n: f"p{n}" for n in range(50)})
    # 20 a second, of which a second's worth may go at once.
    assert stamps[-1] - stamps[0] >= 1.3
    assert driver.metrics()["lanes"]["m"]["waited_seconds"] > 1


def test_retry_after_holds_the_whole_lane(serve, drive):
    stamps = []

    def answer(number, body):
        stamps.append(time.monotonic())
        return refused(429, "wait", retry_after="1") if number == 10 else said("fine")

    server = serve(answer)
    drive(server.url, lane={"concurrency": 4}).ask({n: f"p{n}" for n in range(60)})
    gaps = [later - earlier for earlier, later in pairwise(stamps)]
    assert max(gaps) >= 0.9


def test_an_exhausted_window_of_the_server_holds_the_lane(serve, drive):
    stamps = []

    def answer(number, body):
        stamps.append(time.monotonic())
        headers = (
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "800ms"}
            if number == 5
            else {}
        )
        return *said("fine")[:2], headers

    server = serve(answer)
    drive(server.url, lane={"concurrency": 1}).ask({n: f"p{n}" for n in range(12)})
    gaps = [later - earlier for earlier, later in pairwise(stamps)]
    assert 0.75 <= max(gaps) < 2


def test_concurrency_is_found_against_a_server_that_allows_eight(rehearse, drive):
    """The short form of the measurement in the benchmarks."""
    server = rehearse(latency_ms=40, limit=8)
    driver = drive(f"http://127.0.0.1:{server.port}/v1", lane={"concurrency": None}, records=False)
    driver.offer({n: f"p{n}" for n in range(2500)})
    time.sleep(5)
    before = json.loads(server.stats())
    time.sleep(4)
    after = json.loads(server.stats())
    answered = after["answered"] - before["answered"]
    refused_since = after["over_limit"] - before["over_limit"]
    assert answered >= 0.8 * 8 / 0.04 * 4
    assert refused_since < 0.05 * (answered + refused_since)
    driver.engine.cancel(0.0)


def test_the_first_three_are_out_until_one_succeeds(serve, drive):
    release = threading.Event()
    server = serve(lambda number, body: release.wait(10) and said("fine"))
    driver = drive(server.url, lane={"concurrency": 64})
    driver.offer({n: f"p{n}" for n in range(100)})
    time.sleep(0.4)
    assert len(server.bodies) == 3
    release.set()
    assert len(driver.collect(100)) == 100


def bare(status, body, *headers):
    """An answer with these headers and no others, so that there are few."""
    data = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", *headers, f"Content-Length: {len(data)}", "", ""]
    return lambda handler: handler.wfile.write("\r\n".join(lines).encode() + data)


def test_a_pause_is_heard_among_few_headers_and_the_longer_of_two_counts(serve, drive):
    stamps = []

    def answer(number, body):
        stamps.append(time.monotonic())
        if number == 1:
            return bare(429, {}, "Retry-After: 1")
        if number == 3:
            window = "x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 50ms"
            return bare(429, {}, "Retry-After: 1", *window)
        return said("fine")

    server = serve(answer)
    driver = drive(server.url, lane={"concurrency": 1})
    for number in range(2):
        driver.ask({number: f"p{number}"})
    assert stamps[2] - stamps[1] >= 1
    driver.offer({2: "p2"})
    while len(stamps) < 4:
        time.sleep(0.005)
    # Another one, which waits for the lane and not for its own next try.
    driver.offer({3: "p3"})
    driver.collect(2)
    assert len(stamps) == 6
    assert stamps[4] - stamps[3] >= 1


def test_an_empty_answer_is_charged_as_the_server_counted_it(serve, drive):
    server = serve(lambda number, body: said(""))
    lane = {"attempts": 3, "price_input": 1e6, "price_output": 1e6}
    driver = drive(server.url, lane=lane)
    assert driver.ask({0: "p"})[0]["cost"] == 3 * (7 + 3)
    assert driver.metrics()["spent"] == {"requests": 3, "tokens": 30, "money": 30.0}


def test_what_is_cut_is_charged_at_the_most_that_it_can_have_cost(serve, drive):
    release = threading.Event()
    server = serve(lambda number, body: release.wait(10) and said("late"))
    driver = drive(server.url)
    driver.offer({0: "p"})
    while not server.bodies:
        time.sleep(0.01)
    driver.engine.cancel(0.0)
    assert driver.collect(1)[0]["error"] == "cancelled"
    release.set()
    spent = driver.metrics()["spent"]
    # The bound on its answer, and a token for each byte of the request.
    assert spent["requests"] == 1
    assert 150 < spent["tokens"] < 250


def test_what_was_never_sent_costs_no_tokens(drive):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        # Whoever comes now waits for a place.
        with socket.create_connection(address):
            driver = drive(
                f"http://127.0.0.1:{address[1]}/v1",
                lane={"first_byte_seconds": 0.3, "attempts": 1},
            )
            assert driver.ask({0: "p"})[0]["detail"] == "no answer within 0.3 s"
            assert driver.metrics()["spent"]["tokens"] == 0


@pytest.mark.parametrize("most", [2**64 - 1, 2**64, 1e30, 5000.0])
def test_no_bound_is_large_enough_to_pass_a_ceiling(most, serve, drive):
    server = serve(lambda number, body: said("fine"))
    body = {"messages": [{"role": "user", "content": "\0"}], "max_tokens": most}
    driver = drive(server.url, body=body, budget={"tokens": 1000}, lane={"context": 10})
    assert driver.ask({0: "p"})[0]["error"] == "budget"
    driver.engine.submit_bodies("m", "/chat/completions", [1], [json.dumps(body).encode()], [1], 1)
    assert driver.collect(1)[1]["error"] == "budget"
    assert server.bodies == []


def test_what_was_lost_does_not_hold_a_rate_of_tokens_back(serve, drive):
    def drop(handler):
        handler.close_connection = True

    server = serve(lambda number, body: drop if number == 1 else said("fine"))
    body = {"messages": [{"role": "user", "content": "\0"}], "max_tokens": 6000}
    driver = drive(server.url, body=body, lane={"tokens_per_minute": 60_000})
    driver.ask({0: "p"})
    began = time.monotonic()
    driver.ask({1: "p"})
    assert server.bodies[2:], "it was not tried again"
    assert time.monotonic() - began < 3


def test_no_try_is_made_that_its_deadline_forbids(serve, drive):
    def answer(number, body):
        return said("fine") if number == 0 else refused(503, "busy", retry_after="30")

    server = serve(answer)
    driver = drive(server.url, lane={"deadline_seconds": 1.0})
    driver.ask({0: "p"})
    began = time.monotonic()
    outcome = driver.ask({1: "p"})[1]
    assert (outcome["error"], outcome["detail"]) == ("overloaded", "HTTP 503: busy")
    assert time.monotonic() - began < 1


WORDS = "all attempts together took too long (setting deadline_seconds)"


def test_a_deadline_also_ends_what_is_out(serve, drive):
    release = threading.Event()

    def answer(number, body):
        slow = body["messages"][0]["content"] == "slow"
        return release.wait(10) and said("late") if slow else said("")

    server = serve(answer)
    driver = drive(server.url, lane={"deadline_seconds": 0.6, "attempts": 100})
    began = time.monotonic()
    outcomes = driver.ask({1: "slow", 2: "fast"})
    assert time.monotonic() - began < 2
    release.set()
    assert (outcomes[1]["error"], outcomes[1]["detail"]) == ("timeout", WORDS)
    assert (outcomes[2]["error"], outcomes[2]["attempts"] < 100) == ("empty", True)


def test_a_deadline_ends_what_waits_for_the_breaker(serve, drive):
    server = serve(lambda number, body: refused(500, "oops") if number else said("fine"))
    driver = drive(server.url, lane={"deadline_seconds": 0.8, "attempts": 100})
    driver.ask({0: "p"})
    began = time.monotonic()
    outcomes = driver.ask({n: f"p{n}" for n in range(1, 13)})
    assert time.monotonic() - began < 2
    assert {outcome["error"] for outcome in outcomes.values()} == {"server_error"}
    assert f"HTTP 500: oops ({WORDS})" in {outcome["detail"] for outcome in outcomes.values()}


def test_a_short_outage_is_over_when_the_server_is_back(serve, drive):
    state = {"down": False}

    def drop(handler):
        handler.close_connection = True

    def answer(number, body):
        if not state["down"]:
            time.sleep(0.05)
        return drop if state["down"] else said("fine")

    server = serve(answer)
    driver = drive(server.url, lane={"concurrency": 64, "attempts": 50})
    driver.ask({0: "p"})
    driver.offer({n: f"p{n}" for n in range(1, 400)})
    time.sleep(0.2)
    state["down"] = True
    time.sleep(0.3)
    state["down"] = False
    began = time.monotonic()
    outcomes = driver.collect(399)
    assert {outcome["error"] for outcome in outcomes.values()} == {None}
    assert time.monotonic() - began < 12


def test_what_earlier_tries_cost_is_kept_before_the_last_one(serve, drive, tmp_path):
    release = threading.Event()
    server = serve(lambda number, body: said("") if number < 2 else release.wait(20) and said("x"))
    driver = drive(server.url)
    driver.offer({0: "p"})
    while len(server.bodies) < 3:
        time.sleep(0.01)
    time.sleep(1.2)
    with sqlite3.connect(f"file:{tmp_path / 'records.db'}?mode=ro", uri=True) as db:
        assert db.execute("SELECT requests, input, output FROM meter").fetchall() == [(2, 14, 6)]
    db.close()
    release.set()
    assert driver.collect(1)[0]["attempts"] == 3
    assert driver.metrics()["spent"]["requests"] == 3
