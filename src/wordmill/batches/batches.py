"""Batches of a person: ordered, looked at, cancelled, removed. `work` does them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final, Protocol

import orjson
from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from wordmill._engine import digest
from wordmill.batches.files import Files
from wordmill.batches.types import (
    BEYOND,
    ENDED,
    Batch,
    Block,
    Counts,
    File,
    State,
    Wish,
    batch_of,
    block_of,
)
from wordmill.database import Database, new_id, now
from wordmill.database import batches as table
from wordmill.database import blocks as block_table
from wordmill.errors import Conflict, InvalidInput, NotFound, StorageError
from wordmill.storage import Storage
from wordmill.stores.base import Kind

JOB: Final = "batch"
REASONS: Final = 100
"""Bad lines that are named when a batch is refused."""


class Listener(Protocol):
    """Who is told what happens to batches. It neither fails nor waits in `noted`."""

    def noted(self, batch: str, kind: Kind, message: str, detail: Mapping[str, Any]) -> None:
        """Something happened."""

    def removed(self, batch: str) -> None:
        """It is no more. Raises StorageError."""


def job_of(batch: Batch) -> Mapping[str, Any]:
    """What the job that works on a batch is told."""
    return {"batch": batch.id, "priority": batch.priority}


class Batches:
    """All batches. Safe from any thread and any process."""

    def __init__(self, database: Database, files: Files, local: Storage | None = None) -> None:
        """local: where engines keep their records, if that is not the storage of the files."""
        self._database, self.files, self._local = database, files, local
        self.listener: Listener | None = None

    def note(self, batch: str, kind: Kind, message: str = "", **detail: Any) -> None:
        """Tell whoever keeps what happens to a batch (`stores.base.Event`); no secrets."""
        if self.listener is not None:
            self.listener.noted(batch, kind, message, detail)

    # Of a person

    def order(self, owner: str, wish: Wish) -> tuple[Batch, bool]:
        """Write a batch down; whether it is new. One with the same `once` is the first one.

        Raises InvalidInput, NotFound for the file, Conflict where `once` was another order's.
        """
        wish = wish.checked()
        file = self.files.get(owner, wish.file)
        if file.purpose != "batch":
            raise InvalidInput(f"The file {file.id} has the purpose {file.purpose}.", "file")
        mark = digest(json.dumps({**asdict(wish), "file": file.digest}, sort_keys=True))
        if wish.once is not None and (found := self._once(owner, wish.once, mark)) is not None:
            return found, False
        at = now()
        values: dict[str, Any] = {
            "id": f"batch_{new_id()}", "owner": owner, "file": wish.file,
            "endpoint": wish.endpoint, "state": "validating", "dataset": wish.dataset,
            "source": wish.source, "priority": wish.priority,
            "options": {
                "cache": wish.cache, "budget": dict(wish.budget),
                "metadata": dict(wish.metadata), "window": wish.window,
                **{name: value for name in BEYOND if (value := getattr(wish, name)) is not None},
            },
            "counts": {}, "errors": [], "times": {"validating": at.timestamp()},
            "output": None, "failures": None, "once": wish.once, "digest": mark, "created": at,
            "expires": at + timedelta(seconds=wish.window),
        }  # fmt: skip
        try:
            with self._database.begin() as connection:
                connection.execute(insert(table).values(values))
        except StorageError as error:
            if wish.once is not None and isinstance(error.__cause__, IntegrityError):
                return self.order(owner, wish)
            raise
        self.note(values["id"], "state", "validating")
        return batch_of(values), True

    def get(self, owner: str, batch: str) -> Batch:
        """A batch of a person. Raises NotFound."""
        query = select(table).where(table.c.id == batch, table.c.owner == owner)
        with self._database.look() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound("batch", batch)
        return batch_of(row)

    def all(
        self,
        owner: str,
        *,
        dataset: str | None = None,
        source: str | None = None,
        state: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Batch]:
        """The batches of a person, the newest first. after: the id of the last one seen."""
        query = select(table).where(table.c.owner == owner)
        for name, value in (("dataset", dataset), ("source", source), ("state", state)):
            if value is not None:
                query = query.where(table.c[name] == value)
        if after is not None:
            seen = self.get(owner, after)
            older = and_(table.c.created == seen.created, table.c.id < seen.id)
            query = query.where((table.c.created < seen.created) | older)
        query = query.order_by(table.c.created.desc(), table.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [batch_of(row) for row in connection.execute(query).mappings()]

    def results(
        self,
        owner: str,
        batch: str,
        *,
        after: int = 0,
        limit: int = 100,
        failed: bool | None = None,
    ) -> list[dict[str, Any]]:
        """Results of the blocks that are done, in the order of their lines.

        after: the number of the last line seen, from 1.  failed: only those, or only the others.
        Raises NotFound.
        """
        self.get(owner, batch)
        found: list[dict[str, Any]] = []
        for block in self.blocks(batch, done=True, after=after):
            data = self.files.storage.whole(segment(batch, block.number))
            for line in data.splitlines():
                if failed is None or answered(line) is not failed:
                    result = orjson.loads(line)
                    if result["wordmill"]["line"] > after:
                        found.append(result)
                        if len(found) == limit:
                            return found
        return found

    def request(self, batch: Batch, block: int, line: int) -> bytes:
        """A line of the input. line: its number, from 1."""
        file = self.files.get(batch.owner, batch.file)
        here = and_(block_table.c.batch == batch.id, block_table.c.number == block)
        with self._database.read() as connection:
            row = connection.execute(select(block_table).where(here)).mappings().one()
        found = block_of(row)
        data = self.files.storage.whole(file.place, found.offset, found.size)
        return data.split(b"\n")[line - 1 - found.first]

    def failed_requests(self, owner: str, batch: str) -> Iterator[bytes]:
        """The lines of the input that were sent and have no answer. Raises NotFound."""
        found = self.get(owner, batch)
        file = self.files.get(owner, found.file)
        for block in self.blocks(batch, done=True):
            if block.counts.failed == block.counts.rejected:
                continue
            data = self.files.storage.whole(segment(batch, block.number))
            results = map(orjson.loads, data.splitlines())
            bad = {one["line"] for one in block.bad}
            again = {
                result["wordmill"]["line"] - 1
                for result in results
                if result["response"] is None and result["wordmill"]["line"] - 1 not in bad
            }
            sent = self.files.storage.whole(file.place, block.offset, block.size)
            for number, line in enumerate(sent.split(b"\n"), block.first):
                if number in again:
                    yield line.strip() + b"\n"

    def cancel(self, owner: str, batch: str) -> Batch:
        """Ask for its end; what is answered stays. Raises NotFound, Conflict when it has ended."""
        found = self.get(owner, batch)
        if found.ended:
            raise Conflict(f"The batch {batch} is {found.state} already.")
        self.move(batch, "cancelling")
        return self.get(owner, batch)

    def resume(self, owner: str, batch: str) -> Batch:
        """Let a batch go on that was stopped by a fault. Raises NotFound, Conflict."""
        found = self.get(owner, batch)
        if not found.ended:
            return found
        if found.state != "failed" or "in_progress" not in found.times:
            raise Conflict(f"The batch {batch} is {found.state}: there is nothing to go on with.")
        with self._database.begin() as connection:
            values = {"state": "in_progress", "errors": []}
            connection.execute(update(table).where(table.c.id == batch).values(values))
        self.note(batch, "state", "in_progress", resumed=True)
        return self.get(owner, batch)

    def remove(self, owner: str, batch: str) -> None:
        """Forget a batch and its results. Raises NotFound, Conflict while it is worked on."""
        found = self.get(owner, batch)
        if not found.ended:
            raise Conflict(f"The batch {batch} is {found.state}: cancel it first.")
        with self._database.begin() as connection:
            connection.execute(delete(block_table).where(block_table.c.batch == batch))
            connection.execute(delete(table).where(table.c.id == batch))
        for file in (found.output, found.failures):
            if file is not None:
                self.files.remove(owner, file)
        self.files.storage.remove(place(batch))
        if self.listener is not None:
            self.listener.removed(batch)
        if self._local is not None:
            self._local.remove(place(batch))

    def _once(self, owner: str, once: str, mark: str) -> Batch | None:
        query = select(table).where(table.c.owner == owner, table.c.once == once)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        if row["digest"] != mark:
            raise Conflict(f"The idempotency key {once!r} belongs to another order.")
        return batch_of(row)

    # For who works on them

    def move(self, batch: str, state: State, **values: Any) -> None:
        """Enter a state; one that has ended stays as it is."""
        with self._database.begin() as connection:
            query = select(table.c.times, table.c.state).where(table.c.id == batch)
            row = connection.execute(query).one_or_none()
            if row is None or row.state in ENDED:
                return
            if row.state == "cancelling" and state == "in_progress":
                return
            times = {**row.times, state: now().timestamp()}
            changed = {**values, "state": state, "times": times}
            connection.execute(update(table).where(table.c.id == batch).values(changed))
        detail = {"counts": values["counts"]} if values.get("counts") else {}
        detail |= {"errors": list(values["errors"])[:10]} if values.get("errors") else {}
        self.note(batch, "state", state, **detail)

    def count(self, batch: str, counts: Counts) -> None:
        """How far it is."""
        values = {"counts": asdict(counts)}
        with self._database.begin() as connection:
            connection.execute(update(table).where(table.c.id == batch).values(values))

    def keep_options(self, batch: str, options: Mapping[str, Any]) -> None:
        """What was found out about it while it was validated."""
        with self._database.begin() as connection:
            values = {"options": dict(options)}
            connection.execute(update(table).where(table.c.id == batch).values(values))

    def every(self) -> Iterator[Batch]:
        """All batches, whosever they are, the oldest first."""
        last = ""
        while True:
            query = select(table).where(table.c.id > last).order_by(table.c.id).limit(100)
            with self._database.read() as connection:
                found = [batch_of(row) for row in connection.execute(query).mappings()]
            yield from found
            if len(found) < 100:
                return
            last = found[-1].id

    def find(self, batch: str) -> Batch | None:
        """A batch, whosever it is; None where it is no more."""
        with self._database.read() as connection:
            query = select(table).where(table.c.id == batch)
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else batch_of(row)

    def state(self, batch: str) -> State | None:
        """Its state; None where it is no more."""
        with self._database.read() as connection:
            query = select(table.c.state).where(table.c.id == batch)
            found: State | None = connection.execute(query).scalar()
        return found

    def add_blocks(
        self,
        batch: str,
        number: int,
        cut: Sequence[tuple[int, int, int, int, str, str, int]],
        queue: Callable[[Mapping[str, int], bool], str] | None = None,
    ) -> None:
        """Write down blocks as a Splitter gives them; `number` is the first one's.

        queue: that of a block, by its models and whether it needs Python; none without it.
        """
        rows = [
            {
                "batch": batch, "number": number + n, "offset": offset, "size": size,
                "first": first, "lines": lines, "models": dict(orjson.loads(models)),
                "bad": orjson.loads(bad), "done": False, "counts": {},
                "ended": None,
                "queue": queue(dict(orjson.loads(models)), bool(python)) if queue else None,
            }
            for n, (offset, size, first, lines, models, bad, python) in enumerate(cut)
        ]  # fmt: skip
        if rows:
            with self._database.begin() as connection:
                connection.execute(insert(block_table), rows)

    def forget_blocks(self, batch: str) -> None:
        """Before it is validated again."""
        with self._database.begin() as connection:
            connection.execute(delete(block_table).where(block_table.c.batch == batch))

    def blocks(self, batch: str, *, done: bool | None = None, after: int = 0) -> Iterator[Block]:
        """Its blocks, in order, some at a time.

        after: only those that hold lines beyond this number, from 1.
        """
        query = select(block_table).where(block_table.c.batch == batch)
        if done is not None:
            query = query.where(block_table.c.done.is_(done))
        query = query.order_by(block_table.c.number).limit(256)
        last = -1
        if after:
            begun = select(func.max(block_table.c.number)).where(
                block_table.c.batch == batch, block_table.c.first < after
            )
            with self._database.read() as connection:
                last = (connection.execute(begun).scalar() or 0) - 1
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query.where(block_table.c.number > last)).mappings()
                found = [block_of(row) for row in rows]
            yield from found
            if len(found) < 256:
                return
            last = found[-1].number

    def summed(self, batch: str) -> Counts:
        """What became of the lines of all blocks that are done."""
        counts = Counts()
        for block in self.blocks(batch, done=True):
            counts = counts.plus(block.counts)
        query = select(func.coalesce(func.sum(block_table.c.lines), 0)).where(
            block_table.c.batch == batch
        )
        with self._database.read() as connection:
            total = int(connection.execute(query).scalar_one())
        return Counts(**{**asdict(counts), "total": total})

    def end_blocks(self, batch: str, ended: Iterable[tuple[int, Counts]]) -> None:
        """These blocks have their segments."""
        with self._database.begin() as connection:
            for number, counts in ended:
                here = and_(block_table.c.batch == batch, block_table.c.number == number)
                values = {"done": True, "counts": asdict(counts), "ended": now()}
                connection.execute(update(block_table).where(here).values(values))

    def publish(self, batch: Batch, counts: Counts) -> tuple[str | None, str | None]:
        """Make its output and error files, out of its segments; their ids."""

        def kept(kind: str, size: int) -> str | None:
            if not size:
                return None
            file: Mapping[str, Any] = {
                "id": f"file-{batch.id.removeprefix('batch_')}-{kind}", "owner": batch.owner,
                "name": f"{batch.id}_{kind}.jsonl", "purpose": "batch_output", "bytes": size,
                "digest": "",
                "place": f"{place(batch.id)}/{kind}",
            }  # fmt: skip
            return self.files.keep(file).id

        return kept("output", counts.output_bytes), kept("errors", counts.failure_bytes)

    def content(self, file: File) -> Iterator[bytes]:
        """The bytes of a file; those of a batch's files out of its segments, in input order."""
        if file.purpose != "batch_output":
            yield from self.files.content(file)
            return
        folder, _, kind = file.place.rpartition("/")
        batch = folder.rpartition("/")[2]
        for block in self.blocks(batch, done=True):
            data = self.files.storage.whole(segment(batch, block.number))
            good = kind == "output"
            if block.counts.failed == (0 if good else block.lines):
                yield data
                continue
            lines = data.splitlines(keepends=True)
            yield b"".join(line for line in lines if answered(line) is good)


def answered(line: bytes) -> bool:
    """Whether a line of a segment holds an answer. Before `response` there are only texts, whose
    quotes are escaped, so the first one is the line's own.
    """
    return not line.startswith(b"null", line.index(b'"response":') + 11)


def place(batch: str) -> str:
    """Where a batch's files are in the storage."""
    return f"batches/{batch}"


def segment(batch: str, number: int) -> str:
    """Where the answers to a block are."""
    return f"{place(batch)}/segments/{number:07d}.jsonl"
