"""Doing a batch: its lines are checked, sent through an engine, and written down block by block.

All of it can be taken up again after a crash: what was answered is in the engine's records, and a
block counts as done when its segment is in the storage.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Final

from wordmill._engine import Blocks, Engine, EngineFault, Segment, Splitter
from wordmill.accounts import Accounts, Person, catalog_of
from wordmill.batches.batches import REASONS, Batches, place, segment
from wordmill.batches.types import Batch, Block, Counts
from wordmill.database import LOCAL, Database, now
from wordmill.errors import EngineError, Forbidden, WordmillError
from wordmill.models import Catalog
from wordmill.queues.base import Work
from wordmill.settings import Settings

BLOCK_LINES: Final = 1000
BLOCK_BYTES: Final = 4 << 20
AT_ONCE: Final = 8
"""Blocks of a batch that are in memory."""
TELL: Final = 1.0
"""Seconds between looks at the batch's state, and between words on how far it is."""

log = logging.getLogger(__name__)


class Worker:
    """Handles the jobs of batches."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        accounts: Accounts,
        batches: Batches,
        kept: Callable[[str], None] = lambda batch: None,
    ) -> None:
        """kept: told when there are new results of a batch."""
        self.kept = kept
        self._database, self._settings = database, settings
        self._accounts, self._batches = accounts, batches

    def __call__(self, work: Work) -> None:
        """Do a job. Raises WordmillError, which is its failure in words."""
        batch = self._batches.get(work.job.owner, work.job.payload["batch"])
        if batch.ended:
            return
        people = self._accounts.people
        person = people.local() if batch.owner == LOCAL else people.get(batch.owner)
        try:
            if person.disabled:
                raise Forbidden("The account is disabled, so its batches are not worked on.")
            self._do(work, person, batch)
        except WordmillError as error:
            reason = {"code": "stopped", "message": str(error), "line": None, "param": None}
            self._batches.move(batch.id, "failed", errors=[reason])
            raise

    def _do(self, work: Work, person: Person, batch: Batch) -> None:
        if batch.state == "validating":
            if not self.validate(work, batch):
                return
            self._batches.move(batch.id, "in_progress")
            batch = self._batches.get(batch.owner, batch.id)
        if batch.state == "cancelling" and "in_progress" not in batch.times:
            self._batches.forget_blocks(batch.id)
            self._batches.move(batch.id, "cancelled")
            return
        catalog = catalog_of(self._database, self._settings, person.id)
        sitting = Sitting(self, work, person, batch, catalog)
        if sitting.run():
            self._batches.move(batch.id, "finalizing")
            counts = self._batches.summed(batch.id)
            output, failures = self._batches.publish(batch, counts)
            state = sitting.end_state
            self._batches.move(
                batch.id, state, counts=asdict(counts), output=output, failures=failures
            )

    # Validating

    def validate(self, work: Work, batch: Batch) -> bool:
        """Check all lines and cut them into blocks; whether the batch goes on."""
        catalog = catalog_of(self._database, self._settings, batch.owner)
        file = self._batches.files.get(batch.owner, batch.file)
        splitter = Splitter(self.rules(batch, catalog.names()))
        self._batches.forget_blocks(batch.id)
        found, told = _Found(), time.monotonic()
        for piece in self._batches.files.content(file):
            splitter.feed(piece)
            if time.monotonic() - told > TELL:
                found.take(self._batches, batch.id, splitter)
                self._batches.count(batch.id, found.counts())
                told = time.monotonic()
                if work.stop or self._batches.state(batch.id) != "validating":
                    return not work.stop
            if found.lines > self._settings.batch_lines:
                return self._refuse(
                    batch, found, f"The file has more than {self._settings.batch_lines:,} lines."
                )
        if work.stop:
            return False
        splitter.finish()
        found.take(self._batches, batch.id, splitter)
        if not found.lines:
            return self._refuse(batch, found, "The file holds no requests.")
        if found.bad > self._settings.batch_bad_share * found.lines:
            return self._refuse(
                batch,
                found,
                f"{found.bad:,} of {found.lines:,} lines are bad, and only "
                f"{self._settings.batch_bad_share:.0%} may be (the setting batch_bad_share).",
            )
        self._batches.count(batch.id, found.counts())
        return True

    def _refuse(self, batch: Batch, found: "_Found", words: str) -> bool:
        first = {"code": "invalid_batch", "message": words, "line": None, "param": None}
        self._batches.move(
            batch.id, "failed", errors=[first, *found.reasons], counts=asdict(found.counts())
        )
        self._batches.forget_blocks(batch.id)
        return False

    def rules(self, batch: Batch, models: Sequence[str]) -> str:
        """What lines have to keep to, for the engine."""
        return json.dumps(
            {
                "endpoint": batch.endpoint,
                "models": list(models),
                "most_bytes": self._settings.batch_line_bytes,
                "block_lines": BLOCK_LINES,
                "block_bytes": BLOCK_BYTES,
            }
        )

    @property
    def batches(self) -> Batches:
        """The batches it works on."""
        return self._batches

    @property
    def settings(self) -> Settings:
        """Those of this process."""
        return self._settings

    @property
    def accounts(self) -> Accounts:
        """Whose ledger is charged."""
        return self._accounts


class _Found:
    """What the validation has found so far."""

    def __init__(self) -> None:
        self.blocks = self.lines = self.bad = 0
        self.reasons: list[Mapping[str, Any]] = []

    def take(self, batches: Batches, batch: str, splitter: Splitter) -> None:
        cut = splitter.blocks()
        batches.add_blocks(batch, self.blocks, cut)
        self.blocks += len(cut)
        for *_, lines, _, bad in cut:
            self.lines += lines
            for one in json.loads(bad):
                self.bad += 1
                if len(self.reasons) < REASONS:
                    self.reasons.append({
                        "code": one["code"], "message": one["message"], "line": one["line"] + 1,
                        "param": None,
                    })  # fmt: skip

    def counts(self) -> Counts:
        return Counts(total=self.lines, rejected=self.bad)


class Sitting:
    """One go at the blocks of a batch that are not done."""

    def __init__(
        self, worker: Worker, work: Work, person: Person, batch: Batch, catalog: Catalog
    ) -> None:
        self._worker, self._work, self._person = worker, work, person
        self._batch, self._catalog = batch, catalog
        self._batches = worker.batches
        self._charged = (0, 0, 0, 0.0)
        self._advanced = False
        self.end_state: Any = "completed"

    def run(self) -> bool:
        """Send what is left; whether all blocks are done."""
        waiting = self._batches.blocks(self._batch.id, done=False)
        first = next(waiting, None)
        if first is None:
            return True
        names: set[str] = set()
        for block in self._batches.blocks(self._batch.id, done=False):
            names.update(block.models)
        engine = self._engine(names)
        try:
            return self._send(engine, sorted(names), _after(first, waiting))
        except EngineFault as fault:
            raise EngineError(f"The engine ended: {fault}") from fault
        finally:
            self._charge(engine)
            engine.close()

    def _send(self, engine: Engine, names: Sequence[str], waiting: Iterator[Block]) -> bool:
        batch, worker = self._batch, self._worker
        provider = self._catalog.provider(names[0]) if names else None
        path = provider.path(batch.kind) if provider is not None else "/"
        rules, share = worker.rules(batch, names), bool(batch.options["cache"])
        blocks = Blocks(engine, batch.id, path, rules, share)
        file = self._batches.files.get(batch.owner, batch.file)
        counts, told, abandoned = self._batches.summed(batch.id), 0.0, False
        while True:
            for block in islice(waiting, max(0, AT_ONCE - blocks.open)):
                data = self._batches.files.storage.whole(file.place, block.offset, block.size)
                blocks.add(block.number, block.first, data, json.dumps(block.bad))
            if abandoned:
                blocks.abandon(*_words(self.end_state))
            ended = blocks.ended()
            if not ended and not blocks.open:
                return True
            if ended:
                counts = self._keep(ended, counts)
            if time.monotonic() - told > TELL:
                told = time.monotonic()
                self._tell(engine, counts, blocks)
                abandoned = abandoned or self._unwanted(engine)
                if self._work.stop and not abandoned:
                    return False
            if not abandoned:
                blocks.step(0.2)

    def _keep(self, ended: Sequence[Segment], counts: Counts) -> Counts:
        done = []
        for one in ended:
            data = one.data
            self._batches.files.storage.write(segment(self._batch.id, one.number), data)
            own = counted(one, data)
            done.append((one.number, own))
            counts = counts.plus(own)
        self._batches.end_blocks(self._batch.id, done)
        self._worker.kept(self._batch.id)
        if self._work.job.attempts > 1 and not self._advanced:
            self._work.lease.advanced()
            self._advanced = True
        return counts

    def _tell(self, engine: Engine, counts: Counts, blocks: Blocks) -> None:
        self._charge(engine)
        metrics = json.loads(engine.metrics())
        under_way = max(0, metrics["done"] - counts.completed)
        self._work.lease.progress(
            sent=metrics["sent"], in_flight=metrics["in_flight"], retried=metrics["retried"],
            lanes=metrics["lanes"], left=blocks.left, answered=under_way,
        )  # fmt: skip
        self._batches.count(self._batch.id, counts)

    def _unwanted(self, engine: Engine) -> bool:
        """Whether the batch is to end before its time."""
        state = self._batches.state(self._batch.id)
        if state is None or state == "cancelling":
            self.end_state = "cancelled"
        elif now() > self._batch.expires:
            self.end_state = "expired"
        else:
            return False
        engine.cancel(0.0)
        return True

    def _engine(self, names: set[str]) -> Engine:
        settings, batch = self._worker.settings, self._batch
        chain = {one.name: one for name in sorted(names) for one in self._catalog.chain(name)}
        lanes = [self._catalog.provider(name).lane() for name in chain]
        folder = Path(settings.home) / place(batch.id)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "records": str(folder / "records.db"),
            "cache": str(settings.home / "cache.db") if batch.options["cache"] else None,
            "owner": batch.owner,
            "lanes": lanes or [{"name": "none", "base_url": "http://127.0.0.1", "model": "none"}],
            "in_doubt": settings.in_doubt,
            "budget": self._ceilings(),
            "whole": True,
        }
        try:
            return Engine(json.dumps(config))
        except EngineFault as fault:
            raise EngineError(f"The engine cannot start: {fault}") from fault

    def _ceilings(self) -> Mapping[str, float | None]:
        """What may be spent in all: the batch's budget, and what the person's quotas leave."""
        found: dict[str, float | None] = {"requests": None, "tokens": None, "money": None}
        found |= self._batch.options["budget"]
        before = self._batches.summed(self._batch.id)
        spent = {
            "requests": before.completed + before.failed - before.rejected,
            "tokens": before.input_tokens + before.output_tokens,
            "money": before.money,
        }
        for used in self._worker.accounts.ledger.used(self._person.id).values():
            for name in found:
                most = getattr(used.quota, name) if used.quota is not None else None
                if most is None:
                    continue
                left = max(0.0, most - getattr(used.amount, name)) + spent[name]
                held = found[name]
                found[name] = left if held is None else min(held, left)
        for name in ("requests", "tokens"):
            held = found[name]
            found[name] = None if held is None else int(held)
        return found

    def _charge(self, engine: Engine) -> None:
        """Write into the ledger what was used since the last time."""
        metrics = json.loads(engine.metrics())
        used = (metrics["sent"], metrics["tokens_in"], metrics["tokens_out"], metrics["money"])
        more = [new - old for new, old in zip(used, self._charged, strict=True)]
        if not any(more):
            return
        self._charged = used
        try:
            self._worker.accounts.ledger.charge(
                self._person.id, "batch", "", requests=int(more[0]), input_tokens=int(more[1]),
                output_tokens=int(more[2]), money=more[3], subject=self._batch.id,
            )  # fmt: skip
        except WordmillError as error:
            log.error("what the batch %s used could not be written: %s", self._batch.id, error)


def counted(one: Segment, data: bytes) -> Counts:
    """What became of the lines of a block; `data` is the segment's."""
    causes: dict[str, int] = {}
    completed = rejected = failure_bytes = 0
    lines = data.splitlines(keepends=True)
    for status, model, line in zip(one.statuses, one.models, lines, strict=True):
        if status == "ok":
            completed += 1
            continue
        causes[status] = causes.get(status, 0) + 1
        failure_bytes += len(line)
        rejected += not model
    return Counts(
        completed=completed,
        failed=len(one) - completed,
        rejected=rejected,
        cached=sum(one.cached),
        retried=sum(max(0, attempts - 1) for attempts in one.attempts),
        input_tokens=sum(one.input_tokens),
        output_tokens=sum(one.output_tokens),
        money=sum(one.money),
        seconds=sum(one.seconds),
        causes=causes,
        output_bytes=len(data) - failure_bytes,
        failure_bytes=failure_bytes,
    )


def _words(state: str) -> tuple[str, str]:
    if state == "expired":
        return "batch_expired", "The batch expired before this request was answered."
    return "batch_cancelled", "The batch was cancelled before this request was answered."


def _after(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest
