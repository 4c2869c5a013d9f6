"""The results of batches, found again: the index is filled from what is kept, and asked.

It also keeps what happens to batches (`Batches.note`), and how they stand. Nothing waits for it: a
store that is away is told later.
"""

import logging
import os
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from wordmill.batches.batches import Batches, segment
from wordmill.batches.types import Batch, Block
from wordmill.errors import ExtraMissing, NotFound, WordmillError
from wordmill.settings import Settings
from wordmill.storage import PIECE, Folder
from wordmill.stores.base import (
    Entry,
    Event,
    Hit,
    Kind,
    Point,
    Query,
    Scope,
    Standing,
    Statistics,
    Store,
    Whose,
    excerpt,
    text_of,
)
from wordmill.stores.sqlite import Sqlite

SHARE: Final = 0.2
"""Of the time, what filling the index takes from the batches that are under way."""
TELL: Final = 0.5
"""Seconds for which events are gathered."""
UNTOLD: Final = 10_000
"""Events that wait for a store that is away; the oldest go."""
LONGEST_PAUSE: Final = 30.0
TEND: Final = 600.0
"""Seconds between looks for what has become too large or too old."""
DAY: Final = 86400.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Far:
    """How far a rebuild is. lines: of blocks that are done, and how many of them are there."""

    batches: int
    lines: int
    there: int


class Index:
    """Searching and counting the results of a person's batches. Safe from any thread.

    A thread of its own fills the store as blocks are done; whoever asks before it is through waits
    for the rest.
    """

    def __init__(
        self,
        batches: Batches,
        store: Store,
        days: float | None = None,
        documents: int | None = None,
    ) -> None:
        """days, documents: how long, and how many, lines are kept; None for all."""
        self._batches, self._store = batches, store
        self._days, self._documents = days, documents
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._untold: deque[tuple[str, Event]] = deque(maxlen=UNTOLD)
        self._came = threading.Condition()
        self._closed = False
        self._source = f"{socket.gethostname()}-{os.getpid()}"
        self._threads = [
            threading.Thread(target=work, name=f"wordmill-{name}", daemon=True)
            for name, work in (("index", self._fill), ("events", self._tell))
        ]
        batches.listener = self

    def start(self, *, fill: bool = True) -> None:
        """Fill it in the background; without `fill`, only with what happens to batches."""
        for thread in self._threads if fill else self._threads[1:]:
            thread.start()

    def close(self) -> None:
        """Fill it no more; the rest is filled by whoever asks."""
        with self._came:
            self._closed = True
            self._came.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5.0)
        self._store.close()

    # What batches tell

    def want(self, batch: str) -> None:
        """There are new results of this batch."""
        with self._came:
            self._wanted.add(batch)
            self._came.notify_all()

    def noted(self, batch: str, kind: Kind, message: str, detail: Mapping[str, Any]) -> None:
        """Something happened to a batch."""
        with self._came:
            self._untold.append(
                (batch, Event(time.time(), kind, self._source, message, dict(detail)))
            )
            self._came.notify_all()

    def removed(self, batch: str) -> None:
        """A batch is no more. Raises StorageError."""
        self._store.remove(batch)

    def place(self, batch: Batch) -> str:
        """Where consumers write the lines of a batch. Raises StorageError."""
        return self._store.place(_whose(batch))

    # What people ask

    def search(
        self,
        owner: str,
        query: Query,
        *,
        batch: str | None = None,
        dataset: str | None = None,
        source: str | None = None,
        after: tuple[str, int] | None = None,
        limit: int = 50,
    ) -> list[Hit]:
        """Lines of one batch, or of all of a person's that have these labels; the newest first.

        after: batch and line of the last one seen. Raises NotFound, StorageError.
        """
        if batch is not None:
            self.catch_up(self._batches.get(owner, batch))
        elif self._store.shared:
            self._settle()
        among = self._caught_up(owner, dataset, source, after)
        scope = Scope(owner, batch, dataset, source, among)
        hits = self._store.search(scope, query, after=after, limit=limit)
        return self._excerpts(owner, hits, query)

    def statistics(self, owner: str, batch: str) -> Statistics:
        """All that was counted of a batch. Raises NotFound, StorageError."""
        one = self._batches.get(owner, batch)
        self.catch_up(one)
        return self._store.statistics(owner, one.id)

    def series(self, owner: str, batch: str, points: int = 60) -> list[Point]:
        """The same over time. Raises NotFound, StorageError."""
        one = self._batches.get(owner, batch)
        self.catch_up(one)
        return self._store.series(owner, one.id, points)

    def events(
        self,
        owner: str,
        batch: str,
        *,
        after: str = "",
        limit: int = 100,
        kinds: Sequence[Kind] = (),
        newest: bool = False,
    ) -> list[Event]:
        """What happened to a batch, as `Store.events`. Raises NotFound, StorageError."""
        one = self._batches.get(owner, batch)
        return self._store.events(
            owner, one.id, after=after, limit=limit, kinds=kinds, newest=newest
        )

    def export(self, owner: str, batch: str, form: str) -> Iterator[bytes]:
        """All results that are there, each with its request: `jsonl` or `parquet`.

        Raises NotFound at once, StorageError.
        """
        one = self._batches.get(owner, batch)
        if form == "parquet":
            return self._parquet(one)
        return (
            orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE)
            for block in self._batches.blocks(one.id, done=True)
            for whole in self._wholes(one, block)
        )

    def _wholes(self, batch: Batch, block: Block) -> Iterator[dict[str, Any]]:
        storage = self._batches.files.storage
        file = self._batches.files.get(batch.owner, batch.file)
        sent = storage.whole(file.place, block.offset, block.size).split(b"\n")
        for line in storage.whole(segment(batch.id, block.number)).splitlines():
            result = orjson.loads(line)
            yield {**result, "request": _parsed(sent[result["wordmill"]["line"] - 1 - block.first])}

    def _parquet(self, batch: Batch) -> Iterator[bytes]:
        """Row groups of a block each; what is nested is JSON in a text."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema(
            [
                ("line", pa.int64()), ("custom_id", pa.string()), ("status", pa.string()),
                ("model", pa.string()), ("request", pa.string()), ("answer", pa.string()),
                ("response", pa.string()), ("error", pa.string()), ("seconds", pa.float64()),
                ("attempts", pa.int32()), ("input_tokens", pa.int64()),
                ("output_tokens", pa.int64()), ("money", pa.float64()), ("cached", pa.bool_()),
            ]
        )  # fmt: skip
        with tempfile.TemporaryFile() as file:
            with pq.ParquetWriter(file, schema) as writer:
                for block in self._batches.blocks(batch.id, done=True):
                    rows = [_row(whole) for whole in self._wholes(batch, block)]
                    writer.write_table(pa.Table.from_pylist(rows, schema))
            file.seek(0)
            while piece := file.read(PIECE):
                yield piece

    def catch_up(self, batch: Batch, share: float = 1.0) -> None:
        """Take in the blocks that are done and not here. Raises StorageError.

        share: of the time, the part that is spent on it.
        """
        if self._store.fed:
            done = batch.counts.completed + batch.counts.failed
            if self._store.count(batch.owner, batch.id) >= done:
                return
        if self._store.forgotten(batch.id):
            return
        for _ in self._missing(batch, share):
            pass

    def _missing(self, batch: Batch, share: float = 1.0) -> Iterator[Block]:
        """Blocks that are done and not here, each once it is here."""
        here = self._store.blocks(batch.owner, batch.id)
        whose = _whose(batch)
        for block in self._batches.blocks(batch.id, done=True):
            if here.get(block.number, 0) >= block.lines or self._closed:
                continue
            began = time.monotonic()
            with self._lock:
                self._store.add(whose, block.number, list(self._entries(batch, block)))
            yield block
            if share < 1.0:
                self._pause((time.monotonic() - began) * (1 / share - 1))

    # Looking after it

    def standing(self) -> Standing:
        """How the store stands. Raises StorageError."""
        return self._store.standing()

    def rebuild(
        self,
        batches: Sequence[str] = (),
        told: Callable[[Far], None] = lambda far: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Far:
        """Take in all that is not there, of these batches or of everybody's.

        What `retain` let go comes back. It can be stopped at any moment, and goes on where it was.
        Raises NotFound, StorageError.
        """
        self._store.open()
        far = Far(0, 0, 0)
        for batch in self._named(batches) if batches else self._batches.every():
            if stop():
                break
            self._store.remember(batch.id)
            self._describe(batch)
            done = list(self._batches.blocks(batch.id, done=True))
            lines = sum(block.lines for block in done)
            here = self._store.blocks(batch.owner, batch.id)
            there = sum(min(here.get(block.number, 0), block.lines) for block in done)
            far = Far(far.batches + 1, far.lines + lines, far.there + there)
            told(far)
            for block in self._missing(batch):
                came = block.lines - min(here.get(block.number, 0), block.lines)
                far = replace(far, there=far.there + came)
                told(far)
                if stop():
                    break
        return far

    def retain(self) -> list[str]:
        """Let go of what is too old, or too much; the names of the parts. Raises StorageError."""
        before = None if self._days is None else time.time() - self._days * DAY
        if before is None and self._documents is None:
            return []
        return self._store.retain(before, self._documents)

    def roll(self) -> list[str]:
        """Begin new parts where the open ones are large or old; their names.

        Raises StorageError.
        """
        return self._store.roll()

    def _named(self, names: Sequence[str]) -> Iterator[Batch]:
        for name in names:
            found = self._batches.find(name)
            if found is None:
                raise NotFound("batch", name)
            yield found

    def _settle(self) -> None:
        """See to the batches of which there are new results."""
        with self._came:
            names = list(self._wanted)
        with self._lock:  # the one that is being taken in
            pass
        for name in names:
            batch = self._batches.find(name)
            if batch is not None:
                self.catch_up(batch)

    def _caught_up(
        self, owner: str, dataset: str | None, source: str | None, after: tuple[str, int] | None
    ) -> Iterator[str]:
        """The batches of a person, the newest first, each with all its results."""
        last = None
        while True:
            found = self._batches.all(owner, dataset=dataset, source=source, after=last)
            for batch in found:
                if after is None or batch.id <= after[0]:
                    self.catch_up(batch)
                    yield batch.id
            if len(found) < 100:
                return
            last = found[-1].id

    def _entries(self, batch: Batch, block: Block) -> Iterator[Entry]:
        for result in self._wholes(batch, block):
            request = orjson.dumps(result.pop("request"))
            ours, error = result["wordmill"], result["error"]
            yield Entry(
                line=ours["line"],
                custom_id=result["custom_id"] or "",
                status=error["code"] if error else "ok",
                model=ours["model"],
                ended=block.ended,
                seconds=ours["seconds"],
                input_tokens=ours["input_tokens"],
                output_tokens=ours["output_tokens"],
                money=ours["money"],
                attempts=ours["attempts"],
                cached=ours["cached"],
                text=text_of(request, result),
                block=block.number,
                request=request.decode(),
                result=orjson.dumps(result).decode(),
            )

    def _excerpts(self, owner: str, hits: Sequence[Hit], query: Query) -> list[Hit]:
        wanted, shown = query.words(), []
        batch, block = None, (-1, dict[int, dict[str, Any]]())
        for hit in hits:
            if hit.excerpt is None:
                if batch is None or batch.id != hit.batch:
                    batch, block = self._batches.get(owner, hit.batch), (-1, {})
                if block[0] != hit.block:
                    found = self._batches.blocks(batch.id, done=True, after=hit.line)
                    wholes = self._wholes(batch, next(found))
                    block = (hit.block, {one["wordmill"]["line"]: one for one in wholes})
                one = block[1][hit.line]
                text = text_of(orjson.dumps(one["request"]), one)
                hit = replace(hit, excerpt=excerpt(text, wanted))
            shown.append(hit)
        return shown

    def result(self, batch: Batch, hit: Hit) -> Mapping[str, Any]:
        """A result whole, with the `request` that it answers. Raises StorageError."""
        if kept := self._store.whole(batch.owner, batch.id, hit.line):
            return {**orjson.loads(kept[1]), "request": orjson.loads(kept[0])}
        found = self._batches.results(batch.owner, batch.id, after=hit.line - 1, limit=1)[0]
        request = self._batches.request(batch, hit.block, hit.line)
        return {**found, "request": _parsed(request)}

    # In the background

    def _fill(self) -> None:
        if self._store.shared:
            self._gaps()
        while True:
            with self._came:
                while not self._wanted and not self._closed:
                    self._came.wait()
                if self._closed:
                    return
                names = list(self._wanted)
            for name in names:
                with self._came:
                    self._wanted.discard(name)
                try:
                    batch = self._batches.find(name)
                    # Whoever answers tells a store that is fed; gaps are looked for at the end.
                    if batch is not None and (batch.ended or not self._store.fed):
                        self.catch_up(batch, SHARE)
                except WordmillError as error:
                    log.error("the results of %s could not be indexed: %s", name, error)
                    self.want(name)
                    self._pause(LONGEST_PAUSE)

    def _gaps(self) -> None:
        """What was done while nobody filled it."""
        try:
            for batch in self._batches.every():
                if self._closed:
                    return
                if batch.counts.total:
                    self.catch_up(batch, SHARE)
        except WordmillError as error:
            log.error("the index could not be looked through: %s", error)

    def _tell(self) -> None:
        pause, tended, closed = TELL, time.monotonic(), False
        while not closed:
            closed = self._closed  # once more then, for the last words
            with self._came:
                self._came.wait_for(lambda: self._closed or self._untold, TEND)
            self._pause(pause)
            try:
                self._told()
                if self._closed:
                    continue
                if time.monotonic() - tended > TEND:
                    tended = time.monotonic()
                    self.roll()
                    self.retain()
                pause = TELL
            except WordmillError as error:
                if pause == TELL:
                    log.error("what happens to batches could not be written: %s", error)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _told(self) -> None:
        """Write down what is untold. Raises StorageError; what is not told then stays."""
        with self._came:
            waiting = list(self._untold)
        by_batch: dict[str, list[Event]] = {}
        for name, event in waiting:
            by_batch.setdefault(name, []).append(event)
        for name, events in by_batch.items():
            batch = self._batches.find(name)
            if batch is not None:
                if any(event.kind == "state" for event in events):
                    self._describe(batch)
                self._store.note(_whose(batch), events)
            mine = {id(event) for event in events}
            with self._came:
                left = [one for one in self._untold if id(one[1]) not in mine]
                self._untold.clear()
                self._untold.extend(left)

    def _describe(self, batch: Batch) -> None:
        options = {
            name: batch.options.get(name) for name in ("cache", "budget", "window", "metadata")
        }
        facts = {
            "endpoint": batch.endpoint, "file": batch.file, "priority": batch.priority,
            "options": options, "times": dict(batch.times), "total": batch.counts.total,
            "created": batch.created.isoformat(), "expires": batch.expires.isoformat(),
        }  # fmt: skip
        self._store.describe(_whose(batch), batch.state, facts)

    def _pause(self, seconds: float) -> None:
        with self._came:
            self._came.wait_for(lambda: self._closed, seconds)


def open_store(settings: Settings) -> Store:
    """The store that the settings choose. Raises ExtraMissing, ConfigError."""
    if not settings.elasticsearch_url:
        return Sqlite(Folder(settings.home))
    try:
        from wordmill.stores.elasticsearch import Elasticsearch
    except ModuleNotFoundError as error:
        raise ExtraMissing("The client of Elasticsearch", "scale") from error
    return Elasticsearch(
        settings.elasticsearch_url, settings.elasticsearch_prefix, fed=bool(settings.broker_url)
    )


def _whose(batch: Batch) -> Whose:
    return Whose(batch.id, batch.owner, batch.dataset, batch.source, batch.index)


def _row(whole: Mapping[str, Any]) -> dict[str, Any]:
    ours, error, response = whole["wordmill"], whole["error"], whole["response"]
    body = response["body"] if response else {}
    choices = body.get("choices") or [{}]
    message = choices[0].get("message") or choices[0]
    return {
        "line": ours["line"], "custom_id": whole["custom_id"],
        "status": error["code"] if error else "ok", "model": ours["model"],
        "request": orjson.dumps(whole["request"]).decode(),
        "answer": message.get("content") or message.get("text"),
        "response": orjson.dumps(body).decode() if response else None,
        "error": error["message"] if error else None,
        **{
            name: ours[name]
            for name in (
                "seconds", "attempts", "input_tokens", "output_tokens", "money", "cached",
            )
        },
    }  # fmt: skip


def _parsed(line: bytes) -> Any:
    """The body of a request; what is no JSON is its own text."""
    try:
        sent = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line.decode("utf-8", "replace")
    return sent.get("body", sent) if isinstance(sent, dict) else sent
