"""What engines share: limits and pauses, within a process or by Redis, and there answers too."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Answers, Driver, refused, said
from tests.servers import redis
from wordmill import _engine

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-nobody-may-read-this"


class Stamped:
    """A server that remembers when each request came."""

    def __init__(self, serve: Callable[..., Answers]) -> None:
        self.stamps: list[float] = []
        self.server = serve(self._answer)

    def _answer(self, _number: int, _body: dict[str, Any]) -> Any:
        self.stamps.append(time.monotonic())
        return said("fine")

    @property
    def url(self) -> str:
        return self.server.url

    def between(self, begin: float, end: float) -> int:
        return sum(begin <= stamp < end for stamp in sorted(self.stamps))

    def check(self, a_minute: float) -> None:
        """In no window came more than a full bucket and what grows meanwhile.

        A machine that is busy may hold some up and let them come together: half a second's worth.
        """
        stamps = sorted(self.stamps)
        for seconds in (1.0, 3.0):
            most = a_minute * (0.01 + 0.98 * (seconds + 0.5) / 60) + 1
            first = 0
            for last, stamp in enumerate(stamps):
                while stamp - stamps[first] >= seconds:
                    first += 1
                assert last - first + 1 <= most, f"in {seconds} s"


@pytest.fixture
def stamped(serve: Callable[..., Answers]) -> Stamped:
    return Stamped(serve)


@pytest.fixture
def shared_redis(redis_server: redis.Server) -> Iterator[redis.Server]:
    """An empty one; it runs again afterwards, whatever a test did to it."""
    with redis_server.client() as connection:
        connection.flushall()
    yield redis_server
    if not redis_server.answers():
        redis_server.start()


class Sender:
    """A process that sends what it may."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.sender", json.dumps(config)], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def stop(self) -> dict[str, Any]:
        """Its metrics."""
        said, _ = self.process.communicate("\n", timeout=60)
        found: dict[str, Any] = json.loads(said)
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def send(stamped: Stamped, shared_redis: redis.Server) -> Iterator[Callable[..., Sender]]:
    """Start processes that share one limit."""
    started: list[Sender] = []

    def start(a_minute: float) -> Sender:
        lane = {
            "name": "m", "base_url": stamped.url, "model": "m", "key": KEY, "concurrency": 32,
            "requests_per_minute": a_minute,
        }  # fmt: skip
        config = {"owner": "o", "lanes": [lane], "shared": {"redis": shared_redis.url}}
        started.append(Sender(config))
        return started[-1]

    yield start
    for sender in started:
        if sender.process.poll() is None:
            sender.kill()


def wait(true: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


def test_engines_of_one_process_hold_one_limit(stamped, drive):
    limit = {"requests_per_minute": 6000.0}
    drivers = [drive(stamped.url, records=False, lane=limit | {"name": name}) for name in "abc"]
    for driver in drivers:
        driver.offer({n: f"p{n}" for n in range(200)})
    began = time.monotonic()
    for driver in drivers:
        driver.collect(80)
    took = time.monotonic() - began
    assert took > 1.5, f"240 requests at 100 a second took {took:.1f} s"
    stamped.check(6000.0)


def test_another_key_has_a_limit_of_its_own(stamped, drive):
    limit = {"requests_per_minute": 60.0}
    one = drive(stamped.url, records=False, lane=limit)
    other = drive(stamped.url, records=False, lane=limit | {"key": "other"})
    one.ask({0: "p"})
    began = time.monotonic()
    other.ask({0: "p"})
    assert time.monotonic() - began < 0.9


def test_a_pause_holds_the_other_engines_too(serve, drive):
    def answer(number, body):
        return refused(429, "wait", retry_after="1") if number == 0 else said("fine")

    server = serve(answer)
    one, other = drive(server.url, records=False), drive(server.url, records=False)
    one.offer({0: "p"})
    wait(lambda: one.metrics()["lanes"]["m"]["backed_off"] == 1)
    began = time.monotonic()
    other.ask({0: "p"})
    assert time.monotonic() - began > 0.8
    one.collect(1)


def test_two_processes_hold_one_limit_and_use_it(stamped, send):
    senders = [send(12_000), send(12_000)]
    wait(lambda: len(stamped.stamps) > 300)
    begin = time.monotonic()
    wait(lambda: time.monotonic() > begin + 3)
    found = [sender.stop() for sender in senders]
    stamped.check(12_000)
    # 196 a second; the rest is for a machine that does other things besides.
    assert stamped.between(begin, begin + 3) >= 0.9 * 600
    assert all(one["sent"] > 150 for one in found), [one["sent"] for one in found]
    assert [one["shared"]["works"] for one in found] == [True, True]
    # A slice holds many requests: nobody asks for each of them.
    assert sum(one["shared"]["asked"] for one in found) < len(stamped.stamps) / 2


def test_what_a_killed_process_had_is_had_by_the_other(stamped, send):
    one, other = send(6000), send(6000)
    wait(lambda: len(stamped.stamps) > 150)
    other.kill()
    killed = time.monotonic()
    wait(lambda: time.monotonic() > killed + 3)
    one.stop()
    assert stamped.between(killed + 1, killed + 3) >= 0.9 * 200
    stamped.check(6000)


def test_without_redis_each_keeps_to_its_share_and_finds_back(stamped, send, shared_redis):
    senders = [send(6000), send(6000)]
    wait(lambda: len(stamped.stamps) > 150)
    # Each has seen the other by now: they say that they are there every second.
    time.sleep(1.5)
    shared_redis.kill()
    killed = time.monotonic()
    wait(lambda: time.monotonic() > killed + 3)
    between = stamped.between(killed + 1, killed + 3)
    shared_redis.start()
    back = time.monotonic()
    wait(lambda: time.monotonic() > back + 3)
    found = [sender.stop() for sender in senders]
    stamped.check(6000)
    assert between >= 0.85 * 200, f"{between} of 200 while it was away"
    assert [(one["shared"]["works"], one["shared"]["lost"]) for one in found] == [(True, 1)] * 2


def test_a_redis_that_has_lost_everything_lets_no_more_out(stamped, send, shared_redis):
    senders = [send(6000), send(6000)]
    wait(lambda: len(stamped.stamps) > 150)
    with shared_redis.client() as connection:
        for _ in range(10):
            connection.flushall()
            time.sleep(0.1)
        connection.script_flush()
        [limit] = connection.keys("*:limit")
        # Nor what somebody else has written there.
        connection.hset(limit, mapping={"requests": "1e300", "at": "nan", "since": "9e15"})
        time.sleep(0.5)
        connection.set(limit, "garbage")
        connection.set(limit.replace(b":limit", b":holders"), "garbage")
    time.sleep(1)
    for sender in senders:
        sender.stop()
    stamped.check(6000)


def test_an_engine_begins_without_redis_with_a_small_share(stamped, drive):
    url = "redis://:hidden@127.0.0.1:1/0"
    driver = drive(
        stamped.url, lane={"requests_per_minute": 12_000.0}, shared={"redis": url, "answers": True}
    )
    outcomes = driver.ask({n: f"p{n}" for n in range(60)})
    assert {outcome["error"] for outcome in outcomes.values()} == {None}
    assert len(stamped.stamps) == 60
    assert stamped.stamps[-1] - stamped.stamps[0] > 1.5, "20 a second, a tenth of the limit"
    found = driver.metrics()["shared"]
    assert not found["works"]
    assert found["words"].startswith("Redis at 127.0.0.1:1: ")
    assert "hidden" not in json.dumps(driver.metrics())


def test_a_redis_that_hangs_holds_nothing_up(stamped, drive, shared_redis):
    shared_redis.freeze()
    try:
        driver = drive(
            stamped.url, lane={"requests_per_minute": 60_000.0},
            shared={"redis": shared_redis.url, "answers": True},
        )  # fmt: skip
        began = time.monotonic()
        driver.ask({n: f"p{n}" for n in range(20)})
        assert time.monotonic() - began < 5
        assert "does not answer in time" in driver.metrics()["shared"]["words"]
    finally:
        shared_redis.thaw()
    wait(lambda: bool(driver.metrics()["shared"]["works"]) or not driver.ask({99: "again"}))


def remembering(server: redis.Server, **config: Any) -> dict[str, Any]:
    return {"shared": {"redis": server.url, "answers": True}, **config}


def kept(driver: Driver, count: int) -> None:
    """Wait until Redis has so many answers of a driver's process."""
    wait(lambda: driver.metrics()["shared"]["kept"] >= count)


def values(server: redis.Server) -> dict[bytes, bytes]:
    """All answers that lie there."""
    with server.client() as connection:
        return {key: connection.get(key) for key in connection.keys("wordmill:1:answer:*")}


def test_an_answer_is_known_to_all_engines_of_its_owner_and_to_no_other(serve, drive, shared_redis):
    server = serve(lambda number, body: said(f"answer {number}"))
    prompts = {n: f"p{n}" for n in range(30)}
    before = drive(server.url, records="0.db", **remembering(shared_redis))
    had = before.metrics()["shared"]["kept"]
    first = before.ask(prompts)
    kept(before, had + 30)
    again = drive(server.url, records="1.db", **remembering(shared_redis)).ask(prompts)
    assert {n: one["text"] for n, one in again.items()} == {
        n: one["text"] for n, one in first.items()
    }
    assert {one["flags"] for one in again.values()} == {1}
    assert len(server.bodies) == 30
    other = drive(server.url, records="2.db", **remembering(shared_redis, owner="other"))
    assert {one["flags"] for one in other.ask(prompts).values()} == {0}
    off = drive(server.url, records="3.db", shared={"redis": shared_redis.url})
    assert {one["flags"] for one in off.ask(prompts).values()} == {0}


@pytest.mark.parametrize(
    "poison",
    [
        lambda connection, key, value: connection.set(key, b"garbage"),
        lambda connection, key, value: connection.set(key, b"WM\x02" + value[3:]),
        lambda connection, key, value: connection.set(key, value[:-1]),
        lambda connection, key, value: connection.set(key, value.replace(b"fine", b"evil")),
        lambda connection, key, value: connection.set(key, b"WM\x01" + b"x" * 50_000_000),
        lambda connection, key, value: connection.delete(key) and connection.rpush(key, "a"),
    ],
    ids=["garbage", "version", "cut", "changed", "huge", "list"],
)
def test_what_was_not_written_as_an_answer_is_none(poison, serve, drive, shared_redis):
    server = serve(lambda number, body: said("fine"))
    first = drive(server.url, records=False, **remembering(shared_redis))
    had = first.metrics()["shared"]["kept"]
    first.ask({n: f"p{n}" for n in range(3)})
    kept(first, had + 3)
    [one, *others] = list(values(shared_redis).items())
    with shared_redis.client() as connection:
        poison(connection, *one)
        # And an answer that is good, but to another question.
        connection.set(others[0][0], others[1][1])
    again = drive(server.url, records=False, **remembering(shared_redis))
    outcomes = again.ask({n: f"p{n}" for n in range(3)})
    assert sorted(outcome["flags"] for outcome in outcomes.values()) == [0, 0, 1]
    assert {outcome["text"] for outcome in outcomes.values()} == {"fine"}


def test_no_secret_and_no_question_lies_in_redis(serve, drive, shared_redis):
    server = serve(lambda number, body: said("fine"))
    lane = {"key": KEY, "headers": {"x-extra": "hidden-header"}, "requests_per_minute": 6000.0}
    driver = drive(server.url, lane=lane, **remembering(shared_redis))
    had = driver.metrics()["shared"]["kept"]
    driver.ask({0: "a question of mine"})
    kept(driver, had + 1)
    with shared_redis.client() as connection:
        names = connection.keys("*")
        assert len(names) == 3
        whole = b"".join([*names, *(connection.dump(name) for name in names)])
        assert all(connection.pttl(name) > 0 for name in names), "something is kept for ever"
    for secret in (KEY, "hidden-header", "a question of mine", "local", server.url):
        assert secret.encode() not in whole


def test_a_long_answer_is_not_kept(serve, drive, shared_redis):
    server = serve(lambda number, body: said("x" * 300_000))
    driver = drive(server.url, records=False, **remembering(shared_redis))
    had = driver.metrics()["shared"]["dropped"]
    driver.ask({0: "p"})
    assert driver.metrics()["shared"]["dropped"] == had + 1
    assert values(shared_redis) == {}


def test_a_server_is_judged_before_it_is_used():
    with redis.serving(lasting=False) as server:
        with server.client() as connection:
            connection.config_set("maxmemory-policy", "allkeys-lru")
        found = json.loads(_engine.redis_check(server.url))
        assert found["version"]
        [lasting, evicting] = found["warnings"]
        assert "appendonly yes" in lasting
        assert "maxmemory-policy allkeys-lru" in evicting
        wrong = server.url.replace(server.password, "hidden-password")
        with pytest.raises(_engine.EngineFault, match="refuses the password") as caught:
            _engine.redis_check(wrong)
        assert "hidden-password" not in str(caught.value)
        server.kill()
        with pytest.raises(_engine.EngineFault, match=f"Redis at 127.0.0.1:{server.port}"):
            _engine.redis_check(server.url)


def test_a_server_as_it_should_be_is_not_spoken_of(redis_server):
    assert json.loads(_engine.redis_check(redis_server.url))["warnings"] == []


def test_a_full_redis_stops_nothing(serve, drive, shared_redis):
    server = serve(lambda number, body: said("fine"))
    with shared_redis.client() as connection:
        connection.config_set("maxmemory", "1")
        try:
            driver = drive(
                server.url, records=False, lane={"requests_per_minute": 60_000.0},
                **remembering(shared_redis),
            )  # fmt: skip
            assert len(driver.ask({n: f"p{n}" for n in range(20)})) == 20
            wait(lambda: not driver.metrics()["shared"]["works"])
            assert "OOM" in driver.metrics()["shared"]["words"]
        finally:
            connection.config_set("maxmemory", "268435456")
