"""Blocks that need Python, taken by a worker from a real broker, with a real PostgreSQL."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.batches.blocks import Mill
from tests.servers import postgres, rabbitmq
from tests.servers.imperfect import Asked, Told, completion, serving
from wordmill.accounts import Accounts, catalog_of
from wordmill.batches import Batch, Wish, Worker
from wordmill.batches.batches import segment
from wordmill.batches.taking import MOST, PythonBlocks
from wordmill.database import now, open_database
from wordmill.jobs import Jobs
from wordmill.models import checked
from wordmill.queues.base import Work
from wordmill.queues.rabbitmq import Broker, Letter
from wordmill.settings import load

LINES = 12


class Bench(Mill):
    """With batches of real lines, and a worker that answers their blocks."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.accounts = Accounts(self.database, self.settings)
        self.stopping = False
        self.blocks = PythonBlocks(
            self.database, self.settings, self.accounts, self.batches, "here:1:a",
            lambda: self.stopping,
        )  # fmt: skip

    def ask(self, url: str, **options: Any) -> Batch:
        """A batch of lines that want `yes` or `no`, looked through and handed over."""
        described = {"name": "mock", "provider": "openai", "model": "mock", "base_url": url}
        catalog_of(self.database, self.settings).add(checked(described), replacing=True)
        upload = self.files.begin("local", "asked.jsonl")
        for number in range(LINES):
            body = {"model": "mock", "messages": [{"role": "user", "content": f"Is it {number}?"}]}
            one = {
                "custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions",
                "body": body, "wordmill": {"validate": {"choices": ["yes", "no"]}},
            }  # fmt: skip
            upload.write(json.dumps(one).encode() + b"\n")
        wish = Wish(file=upload.commit().id, cache=False, **options)
        batch, _ = self.batches.order("local", wish)
        jobs = Jobs(self.database)
        jobs.put("local", "batch", {"batch": batch.id})
        lease = jobs.lease("here:1:b", ["batch"], 30.0)
        assert lease is not None
        place = lambda batch: "results"  # noqa: E731
        Worker(self.database, self.settings, self.accounts, self.batches, place=place)(Work(lease))
        return self.batches.get("local", batch.id)

    @contextmanager
    def told(self, batch: Batch) -> Iterator[Broker]:
        """With the batch's block in the broker."""
        broker = Broker(self.settings)
        due = self.outbox.due(batch.id, 5)
        assert [one.queue for one in due] == ["wordmill.python.4"]
        for one in due:
            assert broker.publish(one.queue, [Letter(one.batch, one.number)]) == [True]
        self.outbox.published(due)
        try:
            yield broker
        finally:
            while self.blocks.once(broker):
                pass
            broker.remove("wordmill.python.4")
            broker.close()


@pytest.fixture
def bench(postgres_server: postgres.Server, rabbitmq_server: rabbitmq.Server) -> Iterator[Bench]:
    url = postgres_server.filled_database(
        lambda new: open_database(load({"database_url": new})).close()
    )
    settings = load({
        "database_url": url, "broker_url": rabbitmq_server.url,
        "elasticsearch_url": "http://127.0.0.1:9",
    })  # fmt: skip
    with open_database(settings) as database:
        yield Bench(settings, database, rabbitmq_server)
    postgres_server.drop_database(url)


def sometimes(asked: Asked) -> Told:
    """Yes; but one question of three is answered well only when it is asked again."""
    messages = asked.body["messages"]
    odd = messages[0]["content"] in ("Is it 0?", "Is it 3?", "Is it 6?", "Is it 9?")
    return completion("perhaps" if odd and len(messages) == 1 else "yes")


def test_answers_are_checked_asked_again_and_written_down_once(bench: Bench) -> None:
    with serving(sometimes) as served:
        batch = bench.ask(served.url)
        with bench.told(batch) as broker:
            assert bench.blocks.once(broker)
            assert not bench.blocks.once(broker)
            row = bench.row(batch, 0)
            assert (row.done, row.attempts, row.fence, row.dead) == (True, 1, 1, None)
            assert (row.counts["completed"], row.counts["failed"]) == (LINES, 0)
            assert len(served.asked) == LINES + 4
            used = bench.accounts.ledger.used("local")["day"].amount
            assert used.requests == LINES + 4
            data = bench.files.storage.whole(segment(batch.id, 0))
            found = [json.loads(line) for line in data.splitlines()]
            assert [one["custom_id"] for one in found] == [f"c{n}" for n in range(LINES)]
            assert broker.publish("wordmill.python.4", [Letter(batch.id, 0)]) == [True]
            assert not bench.blocks.once(broker)  # no block is open: the queue is not looked at
            assert bench.row(batch, 0).fence == 1


def test_a_second_message_does_nothing_while_somebody_has_the_block(bench: Bench) -> None:
    with serving(sometimes) as served:
        batch = bench.ask(served.url)
        with bench.told(batch) as broker:
            until = now() + timedelta(seconds=30)
            bench.change(batch, 0, holder="far:1:x", fence=7, lease_until=until)
            assert bench.blocks.once(broker)
            assert (bench.row(batch, 0).fence, served.asked) == (7, [])


def test_a_worker_that_ends_gives_the_block_back(bench: Bench) -> None:
    def stops(asked: Asked) -> Told:
        bench.stopping = True
        return sometimes(asked)

    with serving(stops) as served:
        batch = bench.ask(served.url)
        with bench.told(batch) as broker:
            assert bench.blocks.once(broker)
            row = bench.row(batch, 0)
            assert (row.done, row.attempts, row.published, row.holder) == (False, 0, None, None)
            bench.stopping = False


def test_a_block_of_which_workers_die_is_given_up_with_the_reason(bench: Bench) -> None:
    batch = bench.ask("http://127.0.0.1:9")
    bench.change(batch, 0, attempts=MOST)
    with bench.told(batch) as broker:
        assert bench.blocks.once(broker)
        assert bench.row(batch, 0).dead == "Its worker died 5 times."


@pytest.mark.parametrize("ends", ["cancelled", "expired"])
def test_what_ended_meanwhile_is_not_asked(bench: Bench, ends: str) -> None:
    with serving(sometimes) as served:
        batch = bench.ask(served.url)
        if ends == "cancelled":
            bench.batches.cancel("local", batch.id)
        else:
            bench.expire(batch)
        with bench.told(batch) as broker:
            assert bench.blocks.once(broker)
            row = bench.row(batch, 0)
            assert (row.done, row.counts["failed"]) == (True, LINES)
            assert row.counts["causes"] == {f"batch_{ends}": LINES}
            assert served.asked == []


def test_a_budget_holds_and_nothing_stays_granted(bench: Bench) -> None:
    with serving(sometimes) as served:
        batch = bench.ask(served.url, budget={"requests": 5})
        with bench.told(batch) as broker:
            assert bench.blocks.once(broker)
            assert len(served.asked) == 5
            counts = bench.row(batch, 0).counts
            assert counts["completed"] + counts["failed"] == LINES
            assert counts["completed"] <= 5
    assert _granted(bench) == []


def _granted(bench: Bench) -> list[Any]:
    from sqlalchemy import select

    from wordmill.database import grants

    with bench.database.read() as connection:
        return list(connection.execute(select(grants.c.batch)).scalars())
