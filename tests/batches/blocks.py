"""Batches whose blocks are handed out by the conductor, and somebody who takes them by hand."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import uuid4

import amqp
import kombu.message
from sqlalchemy import func, select, update

from tests.servers import rabbitmq
from wordmill.batches import Batch, Batches, Counts, Files, Wish
from wordmill.batches.batches import segment
from wordmill.batches.conductor import Conductor
from wordmill.batches.outbox import Outbox
from wordmill.database import Database, now, open_database
from wordmill.database import batches as batch_table
from wordmill.database import blocks as block_table
from wordmill.queues.rabbitmq import queue_of
from wordmill.settings import Settings, load
from wordmill.storage import Folder

Message = kombu.message.Message


class Mill:
    """A database, a broker, and batches of blocks of one line each."""

    def __init__(self, settings: Settings, database: Database, broker: rabbitmq.Server) -> None:
        self.settings, self.database, self.broker = settings, database, broker
        self.files = Files(database, Folder(settings.home), 1 << 30)
        self.batches = Batches(database, self.files)
        self.outbox = Outbox(database)
        self.lane = f"lane-{uuid4().hex[:12]}"

    @property
    def queue(self) -> str:
        """Where the blocks of its batches go."""
        return queue_of({self.lane: 1}, 4)

    def order(self, blocks: int) -> Batch:
        """A batch that is handed over."""
        upload = self.files.begin("local", "asked.jsonl")
        upload.write(b'{"custom_id": "x"}\n' * blocks)
        batch, _ = self.batches.order("local", Wish(file=upload.commit().id))
        models = json.dumps([[self.lane, 1]])
        self.batches.add_blocks(
            batch.id,
            0,
            [(19 * n, 19, n, 1, models, "[]", 0) for n in range(blocks)],
            lambda models, python: queue_of(models, 4, python=python),
        )
        self.batches.count(batch.id, Counts(total=blocks))
        self.outbox.plan(batch.id, {"version": 1}, lambda models: queue_of(models, 4))
        return self.batches.get("local", batch.id)

    def row(self, batch: Batch, number: int) -> Any:
        """A block as it stands."""
        table = block_table.c
        query = select(block_table).where(table.batch == batch.id, table.number == number)
        with self.database.read() as connection:
            return connection.execute(query).one()

    def change(self, batch: Batch, number: int, **values: Any) -> None:
        """Change a block, as a consumer would."""
        table = block_table.c
        here = (table.batch == batch.id, table.number == number)
        with self.database.begin() as connection:
            connection.execute(update(block_table).where(*here).values(**values))

    def expire(self, batch: Batch) -> None:
        """Its time is over."""
        values = {"expires": now() - timedelta(seconds=1)}
        with self.database.begin() as connection:
            connection.execute(
                update(batch_table).where(batch_table.c.id == batch.id).values(values)
            )

    def published(self, batch: Batch) -> int:
        """Blocks that the broker has."""
        table = block_table.c
        query = select(func.count()).where(table.batch == batch.id, table.published.is_not(None))
        with self.database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def finish(self, batch: str, number: int, code: str | None = None) -> None:
        """Answer a block, or fail it with this code."""
        error = None if code is None else {"code": code, "message": "."}
        response = {"status_code": 200, "body": {}} if error is None else None
        line = {"custom_id": "x", "response": response, "error": error}
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self.files.storage.write(segment(batch, number), data)
        counts = Counts(completed=1, output_bytes=len(data))
        if code is not None:
            counts = Counts(failed=1, causes={code: 1}, failure_bytes=len(data))
        table = block_table.c
        with self.database.begin() as connection:
            connection.execute(
                update(block_table)
                .where(table.batch == batch, table.number == number)
                .values(done=True, counts=asdict(counts), ended=now(), lease_until=None)
            )

    @contextmanager
    def conducting(self) -> Iterator[Conductor]:
        """With a conductor."""
        conductor = Conductor(self.database, self.settings, self.batches)
        conductor.start()
        try:
            yield conductor
        finally:
            conductor.stop()

    def until(self, ready: Callable[[], Any], seconds: float = 40.0) -> Any:
        """Wait until something is so; what `ready` gave."""
        end = time.monotonic() + seconds
        while not (found := ready()):
            assert time.monotonic() < end, "it was not so in time"
            time.sleep(0.02)
        return found

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel to the broker."""
        where = f"127.0.0.1:{self.broker.port}"
        connection = amqp.Connection(where, "mill", self.broker.password, read_timeout=5)
        connection.connect()
        try:
            yield connection.channel()
        finally:
            connection.collect()

    def next(self, channel: Any) -> tuple[int, dict[str, Any]] | None:
        """The next message: how it is named, and what it says."""
        try:
            message = channel.basic_get(self.queue)
        except amqp.exceptions.NotFound:  # nobody has published yet
            channel.open()
            return None
        return None if message is None else (message.delivery_tag, json.loads(message.body))

    def work(self, until: Callable[[], Any], each: Callable[[dict[str, Any]], None]) -> None:
        """Take messages one after another until something is so; the broker may die meanwhile."""
        end = time.monotonic() + 60
        while not until():
            assert time.monotonic() < end, "it was not so in time"
            try:
                with self.channel() as channel:
                    while not until():
                        assert time.monotonic() < end, "it was not so in time"
                        taken = self.next(channel)
                        if taken is None:
                            time.sleep(0.01)
                            continue
                        each(taken[1])
                        channel.basic_ack(taken[0])
            except (OSError, amqp.exceptions.AMQPError):
                time.sleep(0.1)

    def ended(self, batch: Batch) -> bool:
        """Whether it has ended."""
        return self.batches.get("local", batch.id).ended


@contextmanager
def milling(url: str, broker: rabbitmq.Server) -> Iterator[Mill]:
    """All of it, on a database with tables."""
    settings = load(
        {"database_url": url, "broker_url": broker.url, "elasticsearch_url": "http://127.0.0.1:1"}
    )
    with open_database(settings) as database:
        yield Mill(settings, database, broker)
