"""What the conductor promises, with a real broker and a real PostgreSQL."""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.batches.blocks import Mill, milling
from tests.servers import postgres, rabbitmq
from wordmill.batches import conductor
from wordmill.batches.conductor import ATTEMPTS, WINDOW
from wordmill.batches.plan import missing
from wordmill.batches.queues import Queues
from wordmill.database import now, open_database
from wordmill.errors import StorageError
from wordmill.queues.rabbitmq import DEAD, queue_of
from wordmill.settings import load


@pytest.fixture
def mill(postgres_server: postgres.Server, rabbitmq_server: rabbitmq.Server) -> Iterator[Mill]:
    url = postgres_server.filled_database(
        lambda new: open_database(load({"database_url": new})).close()
    )
    with milling(url, rabbitmq_server) as made:
        yield made
    postgres_server.drop_database(url)


def test_a_batch_goes_out_block_by_block_and_ends_with_its_files(mill: Mill) -> None:
    batch = mill.order(40)
    with mill.conducting():
        mill.until(lambda: mill.published(batch) == WINDOW)
        seen: list[dict[str, Any]] = []

        def each(message: dict[str, Any]) -> None:
            seen.append(message)
            mill.finish(message["batch"], message["block"])

        mill.work(lambda: mill.ended(batch), each)
    assert sorted(one["block"] for one in seen) == list(range(40))
    assert all(one.keys() == {"batch", "block"} for one in seen)
    found = mill.batches.get("local", batch.id)
    assert (found.state, found.counts.completed, found.counts.total) == ("completed", 40, 40)
    assert found.output is not None
    output = b"".join(mill.batches.content(mill.files.get("local", found.output)))
    assert output.count(b"\n") == 40


class Noted:
    """Keeps what happens to batches."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Mapping[str, Any]]] = []

    def noted(self, batch: str, kind: str, message: str, detail: Mapping[str, Any]) -> None:
        self.seen.append((batch, kind, detail))

    def removed(self, batch: str) -> None: ...


def test_counts_grow_while_it_runs(mill: Mill) -> None:
    batch = mill.order(3)
    mill.batches.listener = noted = Noted()
    with mill.conducting():
        mill.finish(batch.id, 0)
        mill.change(batch, 1, attempts=1, counts={"completed": 1})
        counts = mill.until(
            lambda: (found := mill.batches.get("local", batch.id).counts).completed == 2 and found
        )
        assert counts.total == 3
        mill.until(lambda: [one for one in noted.seen if one[1] == "metrics"])
    last = [one for one in noted.seen if one[1] == "metrics"][-1]
    assert (last[0], last[2]["done"], last[2]["failed"]) == (batch.id, 2, 0)


def test_a_batch_of_one_block_does_not_wait_for_one_of_many(mill: Mill) -> None:
    many = mill.order(200)
    with mill.conducting():
        mill.until(lambda: mill.published(many) == WINDOW)
        one = mill.order(1)
        before: list[str] = []

        def each(message: dict[str, Any]) -> None:
            before.append(message["batch"])
            mill.finish(message["batch"], message["block"])
            time.sleep(0.05)

        mill.work(lambda: one.id in before, each)
        mill.until(lambda: mill.ended(one))
        assert not mill.ended(many)
        assert before.count(many.id) < 100


def test_nothing_is_lost_when_the_broker_is_killed_while_it_publishes(mill: Mill) -> None:
    batch = mill.order(120)
    done: set[int] = set()
    kill_at = [70, 20]

    def each(message: dict[str, Any]) -> None:
        mill.finish(message["batch"], message["block"])
        done.add(message["block"])
        if kill_at and len(done) == kill_at[-1]:
            kill_at.pop()
            mill.broker.kill()
            words = mill.until(conducting.trouble)
            assert words.startswith("RabbitMQ at amqp://mill:********@127.0.0.1:")
            mill.broker.start()

    with mill.conducting() as conducting:
        mill.work(lambda: mill.ended(batch), each)
        mill.until(lambda: conducting.trouble() is None)
    assert (kill_at, done) == ([], set(range(120)))


def test_publishing_goes_on_within_seconds_after_the_broker_is_back(mill: Mill) -> None:
    first = mill.order(1)
    with mill.conducting() as conducting:
        mill.until(lambda: mill.published(first) == 1)
        mill.broker.kill()
        second = mill.order(1)
        mill.until(conducting.trouble)
        mill.broker.start()
        came = time.monotonic()
        mill.until(lambda: mill.published(second) == 1, 30)
        assert time.monotonic() - came < 30


def test_a_broker_without_memory_is_waited_for_and_named(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "PATIENCE", 0.5)
    with mill.conducting() as conducting:
        first = mill.order(1)
        mill.until(lambda: mill.published(first) == 1)
        mill.broker.alarm(True)
        try:
            second = mill.order(1)
            words = mill.until(conducting.trouble)
            assert "RabbitMQ has taken nothing for" in words
            assert "for want of memory or disk: blocks wait until it has some again." in words
            assert mill.published(second) == 0
        finally:
            mill.broker.alarm(False)
        mill.until(lambda: mill.published(second) == 1)
        mill.until(lambda: conducting.trouble() is None)


def test_what_a_queue_did_not_take_is_published_again(mill: Mill) -> None:
    with mill.conducting():
        first = mill.order(1)
        mill.until(lambda: mill.published(first) == 1)
        with mill.channel() as channel:
            channel.queue_delete(mill.queue)  # and whoever publishes knows nothing of it
            second = mill.order(1)
            mill.until(lambda: mill.published(second) == 1)
            found = [mill.until(lambda: mill.next(channel))[1]["batch"] for _ in range(2)]
            assert sorted(found) == sorted([first.id, second.id])


def test_blocks_of_a_queue_that_is_gone_are_published_again(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "GONE", 0.5)
    monkeypatch.setattr(conductor, "SWEEP", 0.1)
    batch = mill.order(1)
    with mill.conducting():
        mill.until(lambda: mill.published(batch) == 1)
        with mill.channel() as channel:
            mill.until(lambda: mill.next(channel))  # never acknowledged: and then it is lost
            channel.queue_delete(mill.queue)
            taken = mill.until(lambda: mill.next(channel))
            assert taken[1] == {"batch": batch.id, "block": 0}


def test_what_a_dead_consumer_held_is_published_again(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "SWEEP", 0.1)
    batch = mill.order(1)
    with mill.conducting(), mill.channel() as channel:
        mill.until(lambda: mill.published(batch) == 1)
        taken = mill.until(lambda: mill.next(channel))
        channel.basic_ack(taken[0])
        late = now() - timedelta(seconds=1)
        mill.change(batch, 0, holder="one", fence=1, attempts=1, lease_until=late)
        mill.until(lambda: mill.next(channel))
        assert mill.row(batch, 0).holder is None


def test_an_innocent_neighbour_of_a_poison_block_is_published_again(mill: Mill) -> None:
    batch = mill.order(2)
    with mill.conducting(), mill.channel() as channel:
        mill.until(lambda: mill.published(batch) == 2)
        for attempts in (ATTEMPTS, 1):
            tag, message = mill.until(lambda: mill.next(channel))
            mill.change(batch, message["block"], attempts=attempts)
            channel.basic_reject(tag, requeue=False)
        tag, again = mill.until(lambda: mill.next(channel))
        assert again == {"batch": batch.id, "block": 1}
        dead = mill.until(lambda: mill.outbox.dead(batch.id))
        assert [(one.number, one.first, one.lines, one.attempts) for one in dead] == [(0, 1, 1, 5)]
        assert dead[0].reason == (
            "Each of 5 consumers that took it ended or gave it back (rejected)."
        )
        mill.finish(batch.id, 1)
        channel.basic_ack(tag)
        queues = Queues(mill.database, mill.settings, mill.batches)
        assert queues.dead("local", batch.id) == dead
        queues.replay("local", batch.id)
        tag, again = mill.until(lambda: mill.next(channel))
        assert again == {"batch": batch.id, "block": 0}
        mill.finish(batch.id, 0)
        mill.until(lambda: mill.ended(batch))


def test_what_was_given_up_is_closed_when_the_batch_is_cancelled(mill: Mill) -> None:
    batch = mill.order(1)
    with mill.conducting():
        mill.until(lambda: mill.published(batch) == 1)
        mill.change(batch, 0, dead="poison", attempts=5)
        mill.batches.cancel("local", batch.id)
        mill.until(lambda: mill.row(batch, 0).dead is None)
        mill.finish(batch.id, 0, "batch_cancelled")
        mill.until(lambda: mill.ended(batch))
    assert mill.batches.get("local", batch.id).state == "cancelled"


def test_what_cannot_even_be_closed_ends_the_batch_with_its_reason(mill: Mill) -> None:
    batch = mill.order(1)
    with mill.conducting():
        mill.change(batch, 0, dead="poison", attempts=5)
        mill.expire(batch)
        mill.until(lambda: mill.row(batch, 0).dead is None)
        mill.change(batch, 0, dead="poison again", attempts=5)
        mill.until(lambda: mill.ended(batch))
    found = mill.batches.get("local", batch.id)
    assert found.state == "failed"
    assert found.errors[0]["message"] == (
        "1 blocks can be neither answered nor closed: poison again"
    )


def test_one_leads_and_another_goes_on_when_it_ends(mill: Mill) -> None:
    with mill.conducting() as first:
        mill.until(lambda: first.leads)
        with mill.conducting() as second:
            batch = mill.order(1)
            mill.until(lambda: mill.published(batch) == 1)
            assert (first.leads, second.leads) == (True, False)
            first.stop()
            mill.until(lambda: second.leads)
            after = mill.order(1)
            mill.until(lambda: mill.published(after) == 1)


def test_it_goes_on_when_the_database_comes_back(mill: Mill) -> None:
    with mill.conducting() as conducting:
        mill.until(lambda: conducting.leads)
        with mill.database.engine.connect() as connection:
            ended = text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute(ended)
        mill.until(lambda: answers(mill))
        batch = mill.order(1)
        mill.until(lambda: mill.published(batch) == 1)
        assert conducting.leads


def answers(mill: Mill) -> bool:
    """Whether the connections that were ended have been made anew."""
    try:
        return mill.outbox.under_way() == [] and mill.batches.find("nobody") is None
    except StorageError:
        return False


def test_a_queue_without_blocks_is_removed(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "SWEEP", 0.1)
    monkeypatch.setattr(conductor, "IDLE", 0.3)
    batch = mill.order(1)
    with mill.conducting():
        mill.until(lambda: mill.published(batch) == 1)
        queues = Queues(mill.database, mill.settings, mill.batches)
        standing = {one.name: one for one in queues.standing().queues}
        assert (standing[mill.queue].blocks, standing[mill.queue].waiting) == (1, 1)
        assert standing[DEAD].consumers == 0
        mill.finish(batch.id, 0)
        mill.until(lambda: mill.ended(batch))

        def listed() -> set[str]:
            names = mill.broker.control("list_queues", "name", "--formatter", "json")
            return {one["name"] for one in json.loads(names)}

        mill.until(lambda: mill.queue not in listed())


def test_queues_are_named_after_lanes_and_priorities() -> None:
    assert queue_of({"gpt-4": 3, "other": 2}, 4) == "wordmill.blocks.gpt-4.4"
    assert queue_of({}, 0) == "wordmill.blocks.none.0"
    assert queue_of({"gpt-4": 3}, 9, python=True) == "wordmill.python.9"
    odd = queue_of({"hf.co/meta llama:8b": 1}, 4)
    assert odd.startswith("wordmill.blocks.hf-co-meta-llama-8b-")
    assert odd != queue_of({"hf.co/meta:llama:8b": 1}, 4)


@pytest.mark.sqlite
def test_what_is_missing_is_said(rabbitmq_server: rabbitmq.Server) -> None:
    assert missing(load()) == ""
    assert missing(load({"broker_url": rabbitmq_server.url})) == (
        "Batches over RabbitMQ (WORDMILL_BROKER_URL) also need PostgreSQL "
        "(WORDMILL_DATABASE_URL) and Elasticsearch (WORDMILL_ELASTICSEARCH_URL). "
        "Set what is missing, or leave all of them empty for one machine."
    )
