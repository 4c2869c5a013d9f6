"""The index of results, on both stores: asked, emptied, filled again; what happens to batches."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.batches.conftest import Done, line, run
from tests.servers.elasticsearch import Server
from wordmill.batches import Batch, Far, Wish
from wordmill.channels.house import House, open_house
from wordmill.settings import load
from wordmill.stores.base import Query, Statistics


@pytest.fixture(params=["sqlite", "elasticsearch"])
def empty(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """The test runs on both; what it gives loses all that was indexed."""
    if request.param == "sqlite":

        def remove() -> None:
            for path in home.glob("batches/*/index.db*"):
                path.unlink()

        return remove
    server: Server = request.getfixturevalue("elasticsearch_server")
    prefix: str = request.getfixturevalue("elasticsearch_prefix")
    monkeypatch.setenv("WORDMILL_ELASTICSEARCH_URL", server.url)
    monkeypatch.setenv("WORDMILL_ELASTICSEARCH_PREFIX", prefix)
    return lambda: server.wipe(prefix)


@pytest.fixture
def house(empty: Callable[[], None]) -> Iterator[House]:
    with open_house(load()) as opened:
        yield opened


def ordered(house: House, *lines: str, **more: Any) -> Batch:
    """A batch of the person at the command line, at its end."""
    person = house.accounts.people.local()
    upload = house.files.begin(person.id, "asked.jsonl")
    upload.write("".join(one + "\n" for one in lines).encode())
    batch, _ = house.order_batch(person, Wish(file=upload.commit().id, **more))
    until = time.monotonic() + 60
    while not (found := house.batches.get(person.id, batch.id)).ended:
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def states(house: House, batch: Batch) -> list[str]:
    found = house.results.events(batch.owner, batch.id, kinds=["state"])
    return [event.message for event in found]


def test_what_was_lost_is_filled_again_and_counts_the_same(
    house: House, empty: Callable[[], None]
) -> None:
    first = ordered(house, *(line(f"r{n}") for n in range(1100)), "nothing", dataset="zoo")
    second = ordered(house, *(line(f"s{n}") for n in range(20)))
    before = [house.results.statistics(one.owner, one.id) for one in (first, second)]
    assert [(one.lines, one.completed, one.failed) for one in before] == [
        (1101, 1100, 1), (20, 20, 0)
    ]  # fmt: skip
    assert house.results.rebuild() == Far(2, 1121, 1121)
    empty()
    asked: list[Far] = []
    stopped = house.results.rebuild(told=asked.append, stop=lambda: len(asked) > 1)
    assert stopped == Far(1, 1101, 1000)
    told: list[Far] = []
    assert house.results.rebuild(told=told.append) == Far(2, 1121, 1121)
    assert told[0] == Far(1, 1101, 1000)
    for batch, counted in zip((first, second), before, strict=True):
        now = house.results.statistics(batch.owner, batch.id)
        assert replace(now, latency={}) == replace(counted, latency={})
        assert now.latency == pytest.approx(counted.latency, rel=0.05)
    found = house.results.search(first.owner, Query("say r77"), dataset="zoo")
    assert [hit.custom_id for hit in found] == ["r77"]
    assert "⟦Say⟧ ⟦r77⟧." in (found[0].excerpt or "")
    whole = house.results.result(first, found[0])
    assert whole["custom_id"] == "r77"
    assert whole["request"]["messages"][0]["content"] == "Say r77."


def test_what_happens_is_written_down(house: House) -> None:
    batch = ordered(house, *(line(f"r{n}") for n in range(5)))
    until = time.monotonic() + 60
    while (found := states(house, batch))[-1:] != ["completed"]:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    assert found == ["validating", "in_progress", "finalizing", "completed"]
    metrics = house.results.events(batch.owner, batch.id, kinds=["metrics"])
    assert metrics
    assert {"sent", "in_flight", "done", "failed", "tokens", "money", "lanes"} <= set(
        metrics[-1].detail
    )
    ended = house.results.events(batch.owner, batch.id, kinds=["state"], limit=1, newest=True)
    assert ended[0].detail["counts"]["completed"] == 5


def test_a_batch_that_is_removed_is_found_no_more(house: House) -> None:
    batch = ordered(house, line("one"))
    kept = ordered(house, line("two"))
    until = time.monotonic() + 60
    while len(house.results.search(batch.owner, Query("say"))) < 2:  # the store hears of an end
        assert time.monotonic() < until
        time.sleep(0.05)
    house.batches.remove(batch.owner, batch.id)
    assert [hit.batch for hit in house.results.search(batch.owner, Query("say"))] == [kept.id]


def test_what_is_let_go_is_not_taken_in_until_it_is_wanted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ordered(house, *(line(f"r{n}") for n in range(5)))
    assert house.results.statistics(batch.owner, batch.id).lines == 5
    until = time.monotonic() + 60
    while states(house, batch)[-1:] != ["completed"]:  # the store knows that it has ended
        assert time.monotonic() < until
        time.sleep(0.05)
    store = house.results._store
    store.roll()
    if store.shared:
        indices = store._indices  # type: ignore[attr-defined]
        monkeypatch.setattr(indices, "_limits", replace(indices._limits, documents=1))
        assert store.roll()
    assert store.retain(time.time() + 60, None)
    assert house.results.statistics(batch.owner, batch.id) == Statistics()
    assert house.results.search(batch.owner, Query("say"), batch=batch.id) == []
    assert house.results.rebuild([batch.id]) == Far(1, 5, 5)
    assert house.results.statistics(batch.owner, batch.id).lines == 5


def test_the_command_line_sees_to_it(empty: Callable[[], None], asked: Callable[..., Path]) -> None:
    def said(done: Done) -> tuple[int, str]:
        return done.code, done.out + done.err

    assert run("batch", "submit", asked(*(line(f"r{n}") for n in range(3)))).code == 0
    told = "3 of 3 results of 1 batch are in the index.\n"
    assert said(run("index", "rebuild")) == (0, told)
    empty()
    assert said(run("index", "rebuild")) == (0, told)
    standing = json.loads(run("index", "status", "--json").out)
    assert standing["trouble"] == ""
    assert sum(part["documents"] for part in standing["parts"]) == 3
    assert "documents" in run("index", "status").out
    words = (
        "error: Nothing says how much of the index to keep: give --days or --documents, or set "
        "index_days or index_documents.\n"
    )
    assert said(run("index", "retain")) == (2, words)
    assert said(run("index", "retain", "--days", "1")) == (0, "Nothing is too large or too old.\n")
    assert said(run("index", "rebuild", "batch_none")) == (
        2, "error: There is no batch 'batch_none' that is yours.\n",
    )  # fmt: skip


def test_what_consumers_write_is_not_written_again_but_gaps_are_filled(
    house: House, empty: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ordered(house, *(line(f"r{n}") for n in range(5)))
    assert house.results.statistics(batch.owner, batch.id).lines == 5
    store = house.results._store
    monkeypatch.setattr(store, "fed", True)
    with monkeypatch.context() as refusing:
        refusing.setattr(store, "add", lambda *_: pytest.fail("it is written already"))
        assert house.results.statistics(batch.owner, batch.id).lines == 5
    empty()
    store.open()
    assert house.results.statistics(batch.owner, batch.id).lines == 5
