"""Making one part of a run: what a worker does with a job of the kind `part`.

It is a sitting without a dataset. Finished rows go into the engine's records and, shard by shard,
into the storage. Where the storage is a folder that all share, the records lie there too, and a
worker that takes the part up repeats only what was in flight. With S3 they lie on the worker's own
disk while it works and are put into the storage when it stops in good order; of a worker that was
killed the shards are left, and the rows of those are not made again.
"""

import fcntl
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from wordmill import telemetry
from wordmill._engine import Engine, EngineFault
from wordmill.accounts import Ledger, catalog_of
from wordmill.database import Database
from wordmill.errors import EngineError, RunError, StorageError
from wordmill.queues.base import Work
from wordmill.runs.budget import Budget
from wordmill.runs.execute import Executor
from wordmill.runs.files import RunFiles, Saved, reading
from wordmill.runs.lanes import open_lanes
from wordmill.runs.meter import Meter
from wordmill.runs.outbox import Outbox
from wordmill.runs.parts import (
    SHARD,
    UNITS,
    Order,
    Told,
    given_place,
    place_of,
    read,
    recipe_place,
    rows_place,
    tallied,
    written,
)
from wordmill.runs.plan import make_plan
from wordmill.runs.row import failed_on_the_wire
from wordmill.runs.session import End, Progress, Session, Terms
from wordmill.runs.sitting import Job, start_engine, tell_steps, window_of
from wordmill.settings import Settings
from wordmill.storage import Folder, Storage, WholeFile, said
from wordmill.types import Value

LONGEST: Final = 480.0
"""Seconds after which a part is given back, to be taken up again: a broker's patience is finite."""
TELL: Final = 1.0
"""Seconds between two times that a part tells how far it is."""
CHARGE: Final = 30.0
"""Seconds between two lines in the ledger."""
AGAIN: Final = 5.0
"""Seconds before a storage that failed is tried again."""
PATIENCE: Final = 60.0
"""Seconds for which a storage or a database may be away when a part ends."""

log = logging.getLogger(__name__)


class PartWorker:
    """The handler of jobs of the kind `part`. Safe from any thread."""

    def __init__(self, database: Database, settings: Settings, storage: Storage) -> None:
        self._database, self._settings, self._storage = database, settings, storage
        self._ledger = Ledger(database)

    def __call__(self, work: Work) -> None:
        """Make a part, or go on with it. Raises WordmillError for what ends the run."""
        order = Order.model_validate(work.job.payload)
        told = Told.model_validate(work.job.progress)
        job = self._job(order, work.job.owner)
        until = time.monotonic() + LONGEST
        with self._records(order, work.lease.fence) as files:
            with _Part(self._settings, self._storage, job, order, files, work, told) as part:
                part.charge = self._charge if order.charge else None
                end = part.work(lambda: work.stop or time.monotonic() > until)
            if end.kind == "made":
                work.lease.finish()
            elif end.kind == "cancelled" and not work.stop:  # its time is over
                work.give_back()

    def _job(self, order: Order, owner: str) -> Job:
        text = self._storage.whole(recipe_place(order.run))
        try:
            saved = Saved.model_validate_json(text)
        except ValidationError as error:
            raise RunError(
                f"The run {order.run} cannot go on: what is to be run is damaged in the storage."
            ) from error
        recipe = saved.load()
        if recipe.digest != order.digest:
            raise RunError(
                f"The run {order.run} cannot be made by this worker: a file that its recipe reads, "
                f"or a module that it calls, is another one here (below {saved.folder}). "
                "All workers need the same."
            )
        catalog = catalog_of(self._database, self._settings, owner)
        lanes = open_lanes(catalog, self._settings, sorted(recipe.models()))
        lanes.check_keys()
        return Job(
            recipe=recipe, plan=make_plan(recipe), lanes=lanes, rows=order.of, folder=Path(),
            concurrency=saved.concurrency, cache=saved.cache and self._remembers(), owner=owner,
        )  # fmt: skip

    def _remembers(self) -> bool:
        """Whether answers can be found later: in records that stay, or in Redis."""
        return isinstance(self._storage, Folder) or bool(self._settings.redis_url)

    @contextmanager
    def _records(self, order: Order, fence: int) -> Iterator[RunFiles]:
        """A folder for the records of a part, with those that can be had."""
        place = place_of(order.run, order.part)
        if isinstance(self._storage, Folder):
            with _alone(self._storage.path(place), fence) as folder:
                yield RunFiles(order.run, folder)
            return
        with tempfile.TemporaryDirectory(prefix="wordmill-") as name:
            files = RunFiles(order.run, Path(name))
            kept = f"{place}/{files.records.name}"
            if self._storage.size(kept) is not None:
                with WholeFile(files.records) as file:
                    file.writelines(self._storage.read(kept))
            yield files
            if files.records.exists():
                _put(self._storage, kept, files.records)

    def _charge(self, owner: str, run: str, more: Mapping[str, float]) -> None:
        self._ledger.charge(
            owner, "run", "", requests=int(more["requests"]), money=more["money"], subject=run,
            input_tokens=int(more["tokens_in"]), output_tokens=int(more["tokens_out"]),
        )  # fmt: skip


class _Part:
    """One taking of a part. Open it as a context manager, `work` once.

    charge: writes down what was used; None where nobody wants that.
    """

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        job: Job,
        order: Order,
        files: RunFiles,
        work: Work,
        earlier: Told,
    ) -> None:
        self._settings, self._storage, self._order = settings, storage, order
        self._files, self._work, self._earlier = files, work, earlier
        self._job = job
        self.charge: Any = None
        self._said = list(earlier.said)
        self._charged = dict(earlier.charged)
        self._tell_at = self._charge_at = 0.0

    def __enter__(self) -> "_Part":
        with ExitStack() as stack:
            had = _spent_by(self._files)
            earlier = self._earlier
            before = earlier.before or had
            # What the records know of this job is exact; of lost ones there is what was told.
            self._used = {name: max(had[name] - before[name], earlier.used[name]) for name in UNITS}
            self._had, self._before = had, before
            job = self._job = replace(self._job, budget=self._budget())
            engine = self._engine = start_engine(job, self._settings, self._files.records)
            stack.callback(engine.close)
            self._meter = Meter(engine, earlier.counts)
            at_once = job.lanes.at_once(self._settings, job.concurrency)
            self._outbox = Outbox(engine, job.lanes.providers, self._refused, at_once)
            self._outbox.restore(self._files.refusals())
            self._store = PartStore(engine, self._storage, self._order, self._work.job.id)
            self._store.restore(earlier)
            given = _Given(self._storage, self._order) if self._order.given else None
            window = window_of(job, self._settings)
            self._executor = Executor(
                job.plan, self._outbox, self._store, self._store.missing(),
                window=window, backlog=window // 2, given=given,
            )  # fmt: skip
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _budget(self) -> Budget:
        """The ceilings as the engine counts: all that these records ever used is below them."""
        ceilings = {
            name: max(0, value - self._used[name]) + self._had[name]
            for name, value in self._order.budget.items()
        }
        whole = {name: value if name == "money" else int(value) for name, value in ceilings.items()}
        return Budget(**whole)  # type: ignore[arg-type]  # whole numbers but for the money

    def work(self, wanted: Any) -> End:
        """Make the rows. wanted: whether to end. Raises as `Session.run`."""
        terms = Terms(
            rows=len(self._store.numbers), grace=self._settings.grace_seconds,
            wanted=wanted, show=self._show,
        )  # fmt: skip
        # Before anything is sent: what the records had used is not this job's.
        session = Session(
            self._engine, self._executor, self._outbox, self._store, self._meter, terms
        )
        self._tell(session.progress(), None)
        measured = telemetry.measured(
            "part", name=self._order.run, part=self._order.part, person=self._job.owner
        )
        with measured as fields:
            try:
                end = session.run()
            except EngineFault as fault:
                raise EngineError(f"The engine ended: {fault}") from fault
            progress = session.progress()
            tell_steps(self._job, self._order.run, progress.tally)
            fields |= {"state": end.kind, "rows": self._store.ended}
            _patiently(self._store.finish)
            _patiently(lambda: self._tell(session.progress(), end))
        return end

    def _show(self, progress: Progress) -> None:
        if time.monotonic() < self._tell_at:
            return
        try:
            self._tell(progress, None)
        except StorageError as error:  # the next time will do
            log.warning("how far a part is could not be told: %s", error)
        self._tell_at = time.monotonic() + TELL

    def _tell(self, progress: Progress, end: End | None) -> None:
        reading, tally = progress.reading, progress.tally
        used = {name: self._used[name] + reading.spent[name] - self._had[name] for name in UNITS}
        counts = {**reading.counts(), "requests": int(used["requests"]), "money": used["money"]}
        latencies = {name: times.counts() for name, times in tally.latencies.items()}
        told = Told(
            ended=self._store.ended,
            part_done=progress.part_done,
            shards=self._store.shards,
            rest=self._store.rest or self._earlier.rest,
            counts=counts,
            used=used,
            before=self._before,
            charged=self._charge_more(counts, last=end is not None),
            tally=tallied(tally),
            latencies=latencies,
            lanes=[asdict(lane) for lane in reading.lanes],
            in_flight=reading.in_flight,
            resumed=self._earlier.resumed + reading.resumed,
            degraded=self._earlier.degraded + self._outbox.degraded,
            first=self._earlier.first or _moment(progress),
            said=self._said,
            kind=None if end is None else end.kind,
            sentence="" if end is None else end.sentence,
        )
        self._work.lease.progress(**told.model_dump())
        if self._store.advanced:
            self._work.lease.advanced()
            self._store.advanced = False

    def _charge_more(self, counts: Mapping[str, Value], *, last: bool) -> dict[str, float]:
        """Write down what was used since the last time; what is written down by now."""
        names = ("requests", "tokens_in", "tokens_out", "money")
        more = {name: counts[name] - self._charged.get(name, 0) for name in names}
        due = last or time.monotonic() >= self._charge_at
        if self.charge is not None and due and more["requests"] > 0:
            self.charge(self._job.owner, self._order.run, more)
            self._charged = {name: counts[name] for name in names}
            self._charge_at = time.monotonic() + CHARGE
        return self._charged

    def _refused(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.append(sentence)
        self._files.save_refusals(self._outbox.refusals)


class PartStore:
    """The sink of a part: rows into the records at once, into the storage by shards.

    shards: those that lie in the storage.  rest: whether one does.  ended: finished rows.
    advanced: a shard came there since somebody last looked.
    """

    def __init__(self, engine: Engine, storage: Storage, order: Order, job: str) -> None:
        self._engine, self._storage, self._order, self._job = engine, storage, order, job
        self.numbers = order.numbers()
        self._places = {number: place for place, number in enumerate(self.numbers)}
        self._ended = bytearray(len(self.numbers))
        self._left = [len(shard) for shard in self._cut()]
        self._full: list[int] = []
        self._wait_until = 0.0
        self.shards: list[int] = []
        self.rest = self.advanced = False
        self.ended = 0

    def restore(self, told: Told) -> None:
        """Take what is finished: shards, the rest, and rows that the records have.

        A row that failed on the wire and lies in no shard is made again.
        """
        for shard in told.shards:
            self._mark(self._shard(shard))
            self.shards.append(shard)
        self._full.clear()
        if told.rest:
            rest = b"".join(self._storage.read(rows_place(self._order, self._job, None)))
            known = set(self._engine.row_numbers())
            kept = [one for one in zip(*read(rest), strict=True) if one[0] not in known]
            self._engine.keep_rows([number for number, _ in kept], [text for _, text in kept])
            self._engine.sync_rows()
        for low in range(0, len(self.numbers), SHARD):
            part = self.numbers[low : low + SHARD]
            fine = [
                number
                for number, text in self._engine.rows(part[0], part[-1] + 1)
                if number in self._places and not failed_on_the_wire(text)
            ]
            self._mark(fine)

    def missing(self) -> Iterator[int]:
        """The numbers of the rows that are not finished, ascending, as of now."""
        return (number for number in self.numbers if not self._ended[self._places[number]])

    def keep(self, numbers: list[int], records: list[bytes]) -> None:
        """Store finished rows."""
        self._engine.keep_rows(numbers, records)
        self._mark(numbers)

    def write_ready(self) -> None:
        """Put one whole shard into the storage. One that is away is tried again later."""
        if not self._full or time.monotonic() < self._wait_until:
            return
        try:
            self._put(self._full[0])
        except StorageError as error:
            log.warning("a shard of the run %s waits: %s", self._order.run, error)
            self._wait_until = time.monotonic() + AGAIN

    def finish(self) -> None:
        """Put all that is finished into the storage. Raises StorageError."""
        while self._full:
            self._put(self._full[0])
        whole = set(self.shards)
        numbers = [
            number
            for place, number in enumerate(self.numbers)
            if self._ended[place] and place // SHARD not in whole
        ]
        if numbers:
            self._write(None, numbers)
            self.rest = True

    def _put(self, shard: int) -> None:
        self._write(shard, self._shard(shard))
        self._full.remove(shard)
        self.shards.append(shard)
        self.advanced = True

    def _write(self, shard: int | None, numbers: Sequence[int]) -> None:
        wanted = set(numbers)
        found = (
            record
            for number, record in self._engine.rows(numbers[0], numbers[-1] + 1)
            if number in wanted
        )
        self._storage.write(rows_place(self._order, self._job, shard), written(found))

    def _mark(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            place = self._places[number]
            if not self._ended[place]:
                self._ended[place] = 1
                self.ended += 1
                self._left[place // SHARD] -= 1
                if not self._left[place // SHARD]:
                    self._full.append(place // SHARD)

    def _shard(self, shard: int) -> list[int]:
        return self.numbers[shard * SHARD : (shard + 1) * SHARD]

    def _cut(self) -> Iterator[list[int]]:
        return (self._shard(shard) for shard in range(-(-len(self.numbers) // SHARD)))


class _Given:
    """Rows of an earlier run, those of this part."""

    def __init__(self, storage: Storage, order: Order) -> None:
        numbers, records = read(storage.whole(given_place(order)))
        self._records = dict(zip(numbers, records, strict=True))

    def rows(self, numbers: Sequence[int]) -> Mapping[int, Mapping[str, Value]]:
        """Row records of those numbers, as far as there are any."""
        found = ((number, self._records.get(number)) for number in numbers)
        return {number: orjson.loads(text) for number, text in found if text is not None}


@contextmanager
def _alone(folder: Path, fence: int) -> Iterator[Path]:
    """A folder that nobody else writes to: that one or, while another holds it, one beside it.

    Another may: who lost the job and has not noticed it yet.
    """
    with said(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        for _ in range(20):
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield folder
                return
            time.sleep(0.1)
    with tempfile.TemporaryDirectory(prefix=f"again-{fence}-", dir=folder) as name:
        yield Path(name)


def _spent_by(files: RunFiles) -> dict[str, float]:
    """What records have used so far."""
    if not files.records.exists():
        return dict.fromkeys(UNITS, 0.0)
    with reading(files) as engine:
        found = orjson.loads(engine.metrics())["spent"]
    return {name: found[name] for name in UNITS}


def _patiently(write: Any) -> None:
    """Write at the end of a part, however long that takes within PATIENCE. Raises StorageError."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            write()
            return
        except StorageError as error:
            if time.monotonic() > until:
                raise
            log.warning("the end of a part waits: %s", error)
            time.sleep(1.0)


def _put(storage: Storage, place: str, path: Path) -> None:
    """A file of this machine into the storage."""
    writer = storage.create(place)
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                writer.write(piece)
        writer.commit()
    finally:
        writer.abort()


def _moment(progress: Progress) -> str:
    if progress.first is None or not progress.reading.requests:
        return ""
    return progress.first.isoformat(timespec="milliseconds")
