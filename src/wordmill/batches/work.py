"""Doing a batch: its lines are checked, sent through an engine, and written down block by block.

All of it can be taken up again after a crash: what was answered is in the engine's records, and a
block counts as done when its segment is in the storage.

Where there is a broker the lines are only checked here: `plan` is what consumers need, and the
`conductor` tells them.
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
from wordmill.batches.engines import end_of, given_up, open_engine, owner_of, spent, within_quotas
from wordmill.batches.outbox import Outbox
from wordmill.batches.plan import plan_of, scaled_out
from wordmill.batches.python import Answered, Asker
from wordmill.batches.servers import Servers
from wordmill.batches.types import Batch, Block, Counts
from wordmill.database import Database
from wordmill.errors import EngineError, Forbidden, StorageError, WordmillError
from wordmill.models import Catalog
from wordmill.queues.base import Work
from wordmill.queues.rabbitmq import queue_of
from wordmill.settings import Settings

BLOCK_LINES: Final = 1000
BLOCK_BYTES: Final = 4 << 20
AT_ONCE: Final = 8
"""Blocks of a batch that are in memory."""
TELL: Final = 1.0
"""Seconds between looks at the batch's state, and between words on how far it is."""

TURN: Final = 10.0
"""Seconds after which a batch leaves its place to another one that waits."""
LEAVE: Final = 5.0
"""Seconds that requests which are out have to come in then; later ones are sent again."""

PATIENCE: Final = 900.0
"""Seconds that a batch on several machines waits for one of them that is away."""
RETRY: Final = 2.0

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
        place: Callable[[Batch], str] = lambda batch: "",
    ) -> None:
        """kept: told when there are new results of a batch.  place: where its results are found."""
        self.kept, self._place = kept, place
        self._outbox = Outbox(database) if scaled_out(settings) else None
        self._database, self._settings = database, settings
        self._accounts, self._batches = accounts, batches

    def __call__(self, work: Work) -> None:
        """Do a job. Raises WordmillError, which is its failure in words."""
        batch = self._batches.get(work.job.owner, work.job.payload["batch"])
        if batch.ended:
            return
        person = owner_of(self._accounts, batch)
        try:
            if person.disabled:
                raise Forbidden("The account is disabled, so its batches are not worked on.")
            self._patiently(work, person, batch)
        except WordmillError as error:
            reason = {"code": "stopped", "message": str(error), "line": None, "param": None}
            self._batches.move(batch.id, "failed", errors=[reason])
            raise

    def _patiently(self, work: Work, person: Person, batch: Batch) -> None:
        """Do it; where it is spread over machines, one of them that is away is waited for."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._do(work, person, self._batches.get(batch.owner, batch.id))
            except StorageError as error:
                if self._outbox is None or time.monotonic() > until:
                    raise
                log.warning("the batch %s waits: %s", batch.id, error)
                self._batches.note(batch.id, "log", f"It waits: {error}")
                if work.wait(RETRY):
                    return
            else:
                return

    def _do(self, work: Work, person: Person, batch: Batch) -> None:
        if batch.state == "validating":
            if not self.validate(work, batch):
                return
            if self._outbox is None:
                self._batches.move(batch.id, "in_progress")
            batch = self._batches.get(batch.owner, batch.id)
        if batch.state == "cancelling" and "in_progress" not in batch.times:
            self._batches.forget_blocks(batch.id)
            self._batches.move(batch.id, "cancelled")
            return
        catalog = catalog_of(self._database, self._settings, person.id)
        if self._outbox is not None:
            self._hand_over(self._outbox, person, batch, catalog)
            return
        sitting = Sitting(self, work, person, batch, catalog)
        if sitting.run():
            self._batches.move(batch.id, "finalizing")
            counts = self._batches.summed(batch.id)
            output, failures = self._batches.publish(batch, counts)
            state = sitting.end_state
            self._batches.move(
                batch.id, state, counts=asdict(counts), output=output, failures=failures
            )

    def _hand_over(self, outbox: Outbox, person: Person, batch: Batch, catalog: Catalog) -> None:
        """Leave the blocks of a batch to consumers, which the conductor tells of them."""
        if outbox.planned(batch.id):
            return
        names: set[str] = set()
        for block in self._batches.blocks(batch.id, done=False):
            names.update(block.models.keys() - batch.options.get("refused", {}).keys())
        rules = json.loads(self.rules(batch, sorted(names)))
        try:
            plan = plan_of(batch, person, catalog, names, rules, self._place(batch))
        except StorageError:
            raise
        except WordmillError:
            self._batches.move(batch.id, "in_progress")  # so that it can go on when that is mended
            raise
        outbox.plan(batch.id, plan, lambda models: queue_of(models, batch.priority))
        if batch.state == "validating":
            self._batches.note(batch.id, "state", "in_progress")

    # Validating

    def validate(self, work: Work, batch: Batch) -> bool:
        """Check all lines and cut them into blocks; whether the batch goes on."""
        catalog = catalog_of(self._database, self._settings, batch.owner)
        file = self._batches.files.get(batch.owner, batch.file)
        splitter = Splitter(self.rules(batch, catalog.names(), validating=True))
        self._batches.forget_blocks(batch.id)
        found, told = _Found(self._queue(batch)), time.monotonic()
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
        refused = self._servers(batch).enter(found.models)
        if refused:
            found.refuse(refused)
            self._batches.keep_options(batch.id, {**batch.options, "refused": refused})
        if found.bad > self._settings.batch_bad_share * found.lines:
            return self._refuse(
                batch,
                found,
                f"{found.bad:,} of {found.lines:,} lines are bad, and only "
                f"{self._settings.batch_bad_share:.0%} may be (the setting batch_bad_share).",
            )
        self._batches.count(batch.id, found.counts())
        return True

    def _queue(self, batch: Batch) -> Callable[[Mapping[str, int], bool], str] | None:
        if self._outbox is None:
            return None
        whole = any(batch.options.get(name) is not None for name in ("validate", "post"))
        return lambda models, python: queue_of(models, batch.priority, python=python or whole)

    def _refuse(self, batch: Batch, found: "_Found", words: str) -> bool:
        first = {"code": "invalid_batch", "message": words, "line": None, "param": None}
        self._batches.move(
            batch.id, "failed", errors=[first, *found.reasons], counts=asdict(found.counts())
        )
        self._batches.forget_blocks(batch.id)
        return False

    def rules(self, batch: Batch, models: Sequence[str], *, validating: bool = False) -> str:
        """What lines have to keep to, for the engine.

        validating: a line may bring a server that is not among the models yet.
        """
        servers = self._servers(batch).rules(batch.options)
        return json.dumps(
            {
                **servers,
                "servers": validating and servers["servers"],
                "refused": batch.options.get("refused", {}),
                "endpoint": batch.endpoint,
                "models": list(models),
                "most_bytes": self._settings.batch_line_bytes,
                "block_lines": BLOCK_LINES,
                "block_bytes": BLOCK_BYTES,
            }
        )

    def _servers(self, batch: Batch) -> Servers:
        return Servers(self._database, self._settings, owner_of(self._accounts, batch))

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

    def __init__(self, queue: Callable[[Mapping[str, int], bool], str] | None) -> None:
        self._queue = queue
        self.blocks = self.lines = self.bad = 0
        self.reasons: list[Mapping[str, Any]] = []
        self.models: dict[str, int] = {}

    def take(self, batches: Batches, batch: str, splitter: Splitter) -> None:
        cut = splitter.blocks()
        batches.add_blocks(batch, self.blocks, cut, self._queue)
        self.blocks += len(cut)
        for _, _, _, lines, models, bad, *_ in cut:
            self.lines += lines
            for name, count in json.loads(models):
                self.models[name] = self.models.get(name, 0) + count
            for one in json.loads(bad):
                self.bad += 1
                if len(self.reasons) < REASONS:
                    self.reasons.append({
                        "code": one["code"], "message": one["message"], "line": one["line"] + 1,
                        "param": None,
                    })  # fmt: skip

    def refuse(self, refused: Mapping[str, str]) -> None:
        """Lines that ask these servers are bad."""
        for name, words in refused.items():
            self.bad += self.models[name]
            if len(self.reasons) < REASONS:
                self.reasons.append({
                    "code": "url_refused", "message": words, "line": None, "param": "url",
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
        self._retried: dict[str, int] = {}
        self.end_state: Any = "completed"

    def run(self) -> bool:
        """Send what is left; whether all blocks are done."""
        waiting = self._batches.blocks(self._batch.id, done=False)
        first = next(waiting, None)
        if first is None:
            return True
        names: set[str] = set()
        for block in self._batches.blocks(self._batch.id, done=False):
            names.update(block.models.keys() - self._batch.options.get("refused", {}).keys())
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
        asker = Asker(batch, worker.settings, blocks)
        try:
            return self._step(engine, blocks, asker, waiting)
        finally:
            asker.close()

    def _step(self, engine: Engine, blocks: Blocks, asker: Asker, waiting: Iterator[Block]) -> bool:
        batch = self._batch
        file = self._batches.files.get(batch.owner, batch.file)
        counts, told, abandoned = self._batches.summed(batch.id), 0.0, False
        while True:
            for block in islice(waiting, max(0, AT_ONCE - blocks.open)):
                data = self._batches.files.storage.whole(file.place, block.offset, block.size)
                if asker.wants(data):
                    asker.add(block, data)
                else:
                    blocks.add(block.number, block.first, data, json.dumps(block.bad))
            if abandoned:
                blocks.abandon(*given_up(self.end_state))
                asker.abandon(*given_up(self.end_state))
            ended = asker.through(blocks.ended())
            if not ended and not blocks.open and not asker.open:
                return True
            if ended:
                counts = self._keep(ended, counts)
            if time.monotonic() - told > TELL:
                told = time.monotonic()
                self._tell(engine, counts, blocks)
                abandoned = abandoned or self._unwanted(engine)
                if self._work.stop and not abandoned:
                    return False
                if self._work.wanted and not abandoned:
                    self._give_way(engine, blocks, asker, counts)
                    return False
            if not abandoned:
                blocks.step(0.0 if asker.busy else 0.2)

    def _give_way(self, engine: Engine, blocks: Blocks, asker: Asker, counts: Counts) -> None:
        """Let come in what is out, and leave the place to another batch."""
        engine.cancel(LEAVE)
        until = time.monotonic() + LEAVE + TELL
        while json.loads(engine.metrics())["in_flight"] and time.monotonic() < until:
            blocks.step(0.05)
            if ended := asker.through(blocks.ended()):
                counts = self._keep(ended, counts)
        self._work.give_back()

    def _keep(self, ended: Sequence[Segment | Answered], counts: Counts) -> Counts:
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
        self._note(metrics, counts)
        self._batches.count(self._batch.id, counts)

    def _note(self, metrics: Mapping[str, Any], counts: Counts) -> None:
        """How it stands, and what was sent again since the last time, for whoever looks later."""
        again = {
            cause: number - self._retried.get(cause, 0)
            for cause, number in metrics["retried"].items()
            if number > self._retried.get(cause, 0)
        }
        if again:
            self._retried = dict(metrics["retried"])
            trouble = {
                name: lane["trouble"] for name, lane in metrics["lanes"].items() if lane["trouble"]
            }
            self._batches.note(self._batch.id, "retry", causes=again, trouble=trouble)
        lanes = {
            name: {one: lane[one] for one in ("sent", "in_flight", "limit", "p50", "p95")}
            for name, lane in metrics["lanes"].items()
        }
        self._batches.note(
            self._batch.id, "metrics", sent=metrics["sent"], in_flight=metrics["in_flight"],
            done=metrics["done"], failed=sum(metrics["failed"].values()), money=metrics["money"],
            tokens=metrics["tokens_in"] + metrics["tokens_out"], completed=counts.completed,
            lanes=lanes,
        )  # fmt: skip

    def _unwanted(self, engine: Engine) -> bool:
        """Whether the batch is to end before its time."""
        end = end_of(self._batches, self._batch)
        if end is None:
            return False
        self.end_state = end
        engine.cancel(0.0)
        return True

    def _engine(self, names: set[str]) -> Engine:
        worker, batch = self._worker, self._batch
        folder = Path(worker.settings.home) / place(batch.id)
        folder.mkdir(parents=True, exist_ok=True)
        most = {"requests": None, "tokens": None, "money": None, **batch.options["budget"]}
        before = spent(self._batches.summed(batch.id))
        budget = within_quotas(worker.accounts, self._person, most, before)
        return open_engine(worker.settings, self._catalog, batch, names, budget, folder)

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


def counted(one: Segment | Answered, data: bytes) -> Counts:
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


def _after(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest
