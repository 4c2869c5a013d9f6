"""The results of batches, found again: the index is filled from what is kept, and asked."""

import logging
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from wordmill.batches.batches import Batches, segment
from wordmill.batches.types import Batch, Block
from wordmill.errors import WordmillError
from wordmill.storage import PIECE
from wordmill.stores.base import WORD, Entry, Hit, Point, Query, Statistics, Store

AROUND: Final = 60
"""Characters of an excerpt on each side of a word."""
TEXT: Final = 20_000
"""Characters of a request, and of an answer, by which it is found."""
SHARE: Final = 0.2
"""Of the time, what filling the index takes from the batches that are under way."""

log = logging.getLogger(__name__)


class Index:
    """Searching and counting the results of a person's batches. Safe from any thread.

    A thread of its own fills the store as blocks are done; whoever asks before it is through waits
    for the rest.
    """

    def __init__(self, batches: Batches, store: Store) -> None:
        self._batches, self._store = batches, store
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._came = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._fill, name="wordmill-index", daemon=True)

    def start(self) -> None:
        """Fill it in the background."""
        self._thread.start()

    def close(self) -> None:
        """Fill it no more; the rest is filled by whoever asks."""
        with self._came:
            self._closed = True
            self._came.notify_all()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def want(self, batch: str) -> None:
        """There are new results of this batch."""
        with self._came:
            self._wanted.add(batch)
            self._came.notify_all()

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
        found: list[Hit] = []
        for one in self._these(owner, batch, dataset, source):
            line = 0
            if after is not None:
                if after[0] < one.id:
                    continue
                line = after[1] if after[0] == one.id else 0
            self.catch_up(one)
            hits = self._store.search(one.id, query, after=line, limit=limit - len(found))
            found += self._excerpts(one, hits, query)
            if len(found) >= limit:
                break
        return found

    def statistics(self, owner: str, batch: str) -> Statistics:
        """All that was counted of a batch. Raises NotFound, StorageError."""
        one = self._batches.get(owner, batch)
        self.catch_up(one)
        return self._store.statistics(one.id)

    def series(self, owner: str, batch: str, points: int = 60) -> list[Point]:
        """The same over time. Raises NotFound, StorageError."""
        one = self._batches.get(owner, batch)
        self.catch_up(one)
        return self._store.series(one.id, points)

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
        here = self._store.blocks(batch.id)
        for block in self._batches.blocks(batch.id, done=True):
            if block.number in here or self._closed:
                continue
            began = time.monotonic()
            with self._lock:
                self._store.add(batch.id, block.number, list(self._entries(batch, block)))
            if share < 1.0:
                self._pause((time.monotonic() - began) * (1 / share - 1))

    def _pause(self, seconds: float) -> None:
        with self._came:
            self._came.wait_for(lambda: self._closed, seconds)

    def _these(
        self, owner: str, batch: str | None, dataset: str | None, source: str | None
    ) -> Iterator[Batch]:
        if batch is not None:
            yield self._batches.get(owner, batch)
            return
        last = None
        while True:
            found = self._batches.all(owner, dataset=dataset, source=source, after=last)
            yield from found
            if len(found) < 100:
                return
            last = found[-1].id

    def _entries(self, batch: Batch, block: Block) -> Iterator[Entry]:
        for result in self._wholes(batch, block):
            ours, error = result["wordmill"], result["error"]
            answered = error["message"] if error else result["response"]["body"]
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
                asked=_texts(result["request"]),
                answered=_texts(answered),
                block=block.number,
            )

    def _excerpts(self, batch: Batch, hits: Sequence[Hit], query: Query) -> Iterator[Hit]:
        words = WORD.findall(query.text)
        for hit in hits:
            result = self.result(batch, hit)
            text = _texts(result["request"]) + "\n" + _texts(result["response"] or result["error"])
            yield replace(hit, excerpt=_excerpt(text, words))

    def result(self, batch: Batch, hit: Hit) -> Mapping[str, Any]:
        """A result whole, with the `request` that it answers."""
        found = self._batches.results(batch.owner, batch.id, after=hit.line - 1, limit=1)[0]
        request = self._batches.request(batch, hit.block, hit.line)
        return {**found, "request": _parsed(request)}

    def _fill(self) -> None:
        while True:
            with self._came:
                while not self._wanted and not self._closed:
                    self._came.wait()
                if self._closed:
                    return
                names = list(self._wanted)
                self._wanted.clear()
            for name in names:
                try:
                    batch = self._batches.find(name)
                    if batch is not None:
                        self.catch_up(batch, SHARE)
                except WordmillError as error:
                    log.error("the results of %s could not be indexed: %s", name, error)


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


def _texts(value: Any) -> str:
    """The texts of a request or of an answer, one after another."""
    found: list[str] = []
    _gather(value, found)
    return "\n".join(found)[:TEXT]


_DULL: Final = frozenset(
    ("id", "object", "model", "role", "type", "finish_reason", "system_fingerprint", "request_id")
)


def _gather(value: Any, found: list[str]) -> None:
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in _DULL:
                _gather(inner, found)
    elif isinstance(value, list):
        for inner in value[:1000]:
            if isinstance(inner, float):
                return  # an embedding
            _gather(inner, found)


def _excerpt(text: str, words: Sequence[str]) -> str:
    flat = " ".join(text.split())
    if not words:
        return flat[: 2 * AROUND]
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    first = pattern.search(flat)
    start = max(0, first.start() - AROUND) if first else 0
    part = flat[start : start + 3 * AROUND]
    shown = pattern.sub(lambda match: f"⟦{match[0]}⟧", part)
    return ("…" if start else "") + shown + ("…" if start + 3 * AROUND < len(flat) else "")
