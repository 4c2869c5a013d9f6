"""Who is worked on when there are more batches than places."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wordmill._engine import Rehearsal
from wordmill.accounts import LOCAL_PERSON
from wordmill.batches import Batch, Wish
from wordmill.channels import house as houses
from wordmill.channels.house import House, open_house
from wordmill.providers.base import Model
from wordmill.settings import load


@pytest.fixture
def server(rehearse: Callable[..., Rehearsal]) -> Rehearsal:
    """A model that takes 20 ms for an answer."""
    return rehearse(latency_ms=20)


@pytest.fixture
def house(server: Rehearsal, monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[House]:
    """One place, which goes round every half second."""
    monkeypatch.setattr(houses, "TURN", 0.5)
    with open_house(load({"batches_at_once": "1"})) as house:
        url = f"http://127.0.0.1:{server.port}/v1"
        house.add_model(
            LOCAL_PERSON, Model(name="slow", base_url=url, model="mock-1", concurrency=4)
        )
        yield house


def order(house: House, name: str, lines: int, **wish: Any) -> Batch:
    upload = house.files.begin("local", f"{name}.jsonl")
    for number in range(lines):
        body = {"model": "slow", "messages": [{"role": "user", "content": f"{name} {number}"}]}
        upload.write(json.dumps({"custom_id": f"{number}", "body": body}).encode() + b"\n")
    return house.order_batch(LOCAL_PERSON, Wish(file=upload.commit().id, **wish))[0]


def until(house: House, batch: Batch, reached: Callable[[Batch], bool]) -> Batch:
    end = time.monotonic() + 60
    while not reached(found := house.batches.get("local", batch.id)):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def test_a_large_batch_does_not_hold_up_a_small_one(house: House, server: Rehearsal) -> None:
    large = order(house, "large", 1200)
    until(house, large, lambda found: found.state == "in_progress")
    small = order(house, "small", 10)
    ended = until(house, small, lambda found: found.ended)
    assert ended.state == "completed"
    assert not house.batches.get("local", large.id).ended
    ended = until(house, large, lambda found: found.ended)
    assert (ended.state, ended.counts.completed) == ("completed", 1200)
    assert json.loads(server.stats())["requests"] == 1210  # nothing was asked twice
    results = house.batches.results("local", large.id, limit=2000)
    assert [one["custom_id"] for one in results] == [f"{number}" for number in range(1200)]


def test_the_more_urgent_batch_goes_first(house: House) -> None:
    first = order(house, "first", 300)
    until(house, first, lambda found: found.state == "in_progress")
    later = [order(house, f"{priority}", 40, priority=priority) for priority in (1, 5, 9)]
    for batch in later:
        until(house, batch, lambda found: found.ended)
    until(house, first, lambda found: found.ended)
    times = [house.batches.get("local", one.id).times["completed"] for one in (*later, first)]
    low, middle, high, usual = times
    assert high < middle < usual < low
