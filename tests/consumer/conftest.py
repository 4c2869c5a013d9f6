"""A mill: PostgreSQL, RabbitMQ, Elasticsearch and a provider, with batches put there by hand."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select, update

from tests.servers import consumer, elasticsearch, postgres, rabbitmq
from wordmill import _engine
from wordmill.database import Database, now, open_database
from wordmill.database import batches as batch_table
from wordmill.database import blocks as block_table
from wordmill.database import files as file_table
from wordmill.queues.rabbitmq import DEAD, Broker, Letter
from wordmill.settings import load

RULES = {"most_bytes": 1 << 20, "block_lines": 1000, "block_bytes": 4 << 20}
_FIELDS = {
    **{
        name: {"type": "keyword"}
        for name in ("batch", "owner", "dataset", "source", "custom_id", "status", "model")
    },
    **{name: {"type": "long"} for name in ("line", "block", "input_tokens", "output_tokens")},
    "attempts": {"type": "integer"},
    "ended": {"type": "date", "format": "epoch_millis"},
    "seconds": {"type": "double"},
    "money": {"type": "double"},
    "cached": {"type": "boolean"},
    "text": {"type": "text"},
    "request": {"type": "keyword", "index": False, "doc_values": False},
    "result": {"type": "keyword", "index": False, "doc_values": False},
}


def line(name: str, model: str = "mock", text: str = "Say hello.") -> str:
    """A line of a batch."""
    message = {"role": "user", "content": f"{name}: {text}"}
    return json.dumps({"custom_id": name, "body": {"model": model, "messages": [message]}})


def wait(ready: Callable[[], Any], seconds: float = 60, why: Callable[[], str] = lambda: "") -> Any:
    """What `ready` gives once it gives something."""
    until = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < until, f"not so after {seconds} s: {why()}"
        time.sleep(0.05)
    return found


@dataclass
class Mill:
    """See the module."""

    home: Path
    url: str
    database: Database
    broker: rabbitmq.Server
    search: elasticsearch.Server
    index: str
    folder: Path
    queue: str = ""
    running: list[consumer.Consumer] = field(default_factory=list)

    def settings(self, **more: str) -> dict[str, str]:
        """Those of a consumer; `more` without their prefix."""
        return {
            "WORDMILL_HOME": str(self.home),
            "WORDMILL_DATABASE_URL": self.url,
            "WORDMILL_BROKER_URL": self.broker.url,
            "WORDMILL_ELASTICSEARCH_URL": self.search.url,
            **{f"WORDMILL_{name.upper()}": value for name, value in more.items()},
        }

    def consume(
        self, environment: Mapping[str, str] | None = None, **more: str
    ) -> consumer.Consumer:
        """Start a consumer."""
        log = self.folder / f"consumer-{len(self.running)}.log"
        started = consumer.Consumer({**self.settings(**more), **(environment or {})}, log)
        self.running.append(started)
        return started

    def lane(self, port: int, **more: Any) -> dict[str, Any]:
        """A lane of a plan."""
        return {
            "name": "mock", "base_url": f"http://127.0.0.1:{port}/v1", "model": "mock-1",
            "key": None, "headers": {}, "secret": None, "concurrency": 32, **more,
        }  # fmt: skip

    def batch(
        self,
        lines: Sequence[str],
        lanes: Sequence[Mapping[str, Any]],
        *,
        block: int = 100,
        **plan: Any,
    ) -> str:
        """A batch in progress, in blocks of so many lines, none of them published."""
        batch, file = f"batch_{uuid4().hex[:24]}", f"file-{uuid4().hex[:24]}"
        place = f"files/{file}"
        data = "".join(one + "\n" for one in lines).encode()
        (self.home / "files").mkdir(parents=True, exist_ok=True)
        (self.home / place).write_bytes(data)
        rules = {**RULES, "endpoint": "/v1/chat/completions"}
        written = {
            "version": 1, "path": "/chat/completions", "kind": "chat",
            "endpoint": "/v1/chat/completions", "share": False,
            "rules": {**rules, "models": [lane["name"] for lane in lanes]}, "owner": "ANN",
            "person": "ANN", "lanes": list(lanes), "cache": False, "budget": {},
            "index": self.index, "expires": time.time() + 3600, "dataset": "d", "source": None,
            **plan,
        }  # fmt: skip
        splitter = _engine.Splitter(json.dumps({**written["rules"], "block_lines": block}))
        splitter.feed(data)
        splitter.finish()
        self.queue = f"wordmill.blocks.{batch}.4"
        at = now()
        with self.database.begin() as connection:
            connection.execute(insert(file_table).values(
                id=file, owner="ANN", name="f", purpose="batch", bytes=len(data), digest="",
                place=place, created=at,
            ))  # fmt: skip
            connection.execute(insert(batch_table).values(
                id=batch, owner="ANN", file=file, endpoint="/v1/chat/completions",
                state="in_progress", dataset="d", source=None, priority=4, options={}, counts={},
                errors=[], times={}, digest="", created=at, expires=at + timedelta(hours=1),
                plan=written,
            ))  # fmt: skip
            for number, (offset, size, first, count, models, bad, *_) in enumerate(
                splitter.blocks()
            ):
                connection.execute(insert(block_table).values(
                    batch=batch, number=number, offset=offset, size=size, first=first,
                    lines=count, models=dict(json.loads(models)), bad=json.loads(bad), done=False,
                    counts={}, ended=None, queue=self.queue,
                ))  # fmt: skip
        return batch

    def publish(self, batch: str, times: int = 1) -> None:
        """Send what waits of a batch to its queue, as the conductor does."""
        waiting = select(block_table.c.number, block_table.c.queue).where(
            block_table.c.batch == batch, block_table.c.published.is_(None),
            block_table.c.done.is_(False), block_table.c.dead.is_(None),
        )  # fmt: skip
        with self.database.read() as connection:
            rows = connection.execute(waiting).all()
        if rows:
            letters = [Letter(batch, number) for number, _ in rows for _ in range(times)]
            self.send(rows[0].queue, letters)
        with self.database.begin() as connection:
            for number, _ in rows:
                here = (block_table.c.batch == batch) & (block_table.c.number == number)
                connection.execute(update(block_table).where(here).values(published=now()))

    def sweep(self) -> None:
        """As if the leases of whoever was killed had passed: the conductor sends these again."""
        with self.database.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE blocks SET lease_until = NULL, published = NULL WHERE NOT done"
            )

    @contextmanager
    def connected(self) -> Iterator[Broker]:
        """The broker, as `wordmill serve` speaks with it."""
        broker = Broker(load({"broker_url": self.broker.url}))
        try:
            yield broker
        finally:
            broker.close()

    def send(self, name: str, letters: Sequence[Letter]) -> None:
        """Messages into a queue."""
        with self.connected() as broker:
            assert all(broker.publish(name, letters))

    def dead_letters(self) -> int:
        """How many lie in the queue of dead letters."""
        with self.connected() as broker:
            depth = broker.depth(DEAD)
        return 0 if depth is None else depth[0]

    def blocks(self, batch: str) -> list[Any]:
        """Its rows."""
        query = select(block_table).where(block_table.c.batch == batch)
        with self.database.read() as connection:
            return list(connection.execute(query.order_by(block_table.c.number)).all())

    def done(self, batch: str) -> bool:
        """Whether all its blocks are."""
        left = select(func.count()).where(
            block_table.c.batch == batch, block_table.c.done.is_(False)
        )
        with self.database.read() as connection:
            return connection.execute(left).scalar_one() == 0

    def finished(self, batch: str, seconds: float = 90) -> None:
        """Wait until all its blocks are done, and publish what was given back, as the conductor."""

        def ready() -> bool:
            self.publish(batch)
            return self.done(batch)

        wait(ready, seconds, self.said)

    def said(self) -> str:
        """What the consumers said, the end of it."""
        return "\n".join(one.log[-3000:] for one in self.running)

    def segments(self, batch: str) -> list[dict[str, Any]]:
        """The lines of its segments, in order."""
        found = sorted((self.home / "batches" / batch / "segments").glob("*.jsonl"))
        return [json.loads(text) for file in found for text in file.read_text().splitlines()]

    def documents(self, batch: str) -> list[dict[str, Any]]:
        """Its documents in Elasticsearch, by line, with their ids."""
        self.search.ask("POST", f"/{self.index}/_refresh")
        query = {
            "query": {"term": {"batch": batch}}, "size": 10_000, "sort": ["line"], "version": True,
        }  # fmt: skip
        found: Any = self.search.ask("POST", f"/{self.index}/_search", query)
        return [
            {**hit["_source"], "_id": hit["_id"], "_version": hit["_version"]}
            for hit in found["hits"]["hits"]
        ]

    def complete(self, batch: str, names: Iterable[str]) -> None:
        """Each custom_id has exactly one line and one document, and they say the same."""
        expected = list(names)
        segments, documents = self.segments(batch), self.documents(batch)
        assert [one["custom_id"] for one in segments] == expected
        assert [one["custom_id"] for one in documents] == expected
        for line, document in zip(segments, documents, strict=True):
            assert json.loads(document["result"]) == line
            assert document["_id"] == f"{batch}-{line['wordmill']['line']}"


@pytest.fixture
def mill(
    home: Path,
    tmp_path: Path,
    postgres_server: postgres.Server,
    rabbitmq_server: rabbitmq.Server,
    elasticsearch_server: elasticsearch.Server,
    elasticsearch_prefix: str,
) -> Iterator[Mill]:
    """All servers, with an empty database and an empty index."""
    url = postgres_server.filled_database(
        lambda url: open_database(load({"database_url": url})).close()
    )
    database = open_database(load({"database_url": url}))
    index = f"{elasticsearch_prefix}-results-000001"
    mapping = {"dynamic": "strict", "properties": _FIELDS}
    shards = {"number_of_shards": 1, "number_of_replicas": 0}
    elasticsearch_server.ask("PUT", f"/{index}", {"settings": shards, "mappings": mapping})
    mill = Mill(home, url, database, rabbitmq_server, elasticsearch_server, index, tmp_path)
    home.mkdir(parents=True, exist_ok=True)
    try:
        yield mill
    finally:
        for one in mill.running:
            one.kill()
        database.close()
        postgres_server.drop_database(url)
        if mill.queue:
            with mill.connected() as broker:
                broker.remove(mill.queue)
