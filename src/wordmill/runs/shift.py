"""The rows of a run, made by workers in parts, and taken together here as they come.

Whoever holds the run cuts what is missing into parts, puts some of them at a time (so that a long
run leaves room for a short one), and takes finished shards out of the storage into the run's own
records; the dataset is then written as by any sitting: the same rows, in order, by the same writer.

It makes no row itself and may die at any time: the parts go on, and whoever takes up the run finds
them by the **round** that is noted beside the run's records. What the run may spend is dealt out
to the parts and comes back with what they left; the last parts that do not fit get what is there,
one after the other.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from wordmill._engine import Engine, EngineFault
from wordmill.database import new_id
from wordmill.errors import (
    EngineError,
    NotFound,
    QuotaReached,
    RunError,
    StorageError,
    WordmillError,
)
from wordmill.jobs import ENDED, MOST_TAKINGS, Jobs
from wordmill.jobs import Job as Row
from wordmill.queues.base import Queue
from wordmill.runs.execute import Tally
from wordmill.runs.files import RunFiles
from wordmill.runs.parts import (
    PART,
    SHARD,
    Order,
    Told,
    add_tally,
    given_place,
    ranges,
    read,
    reading_of,
    recipe_place,
    rows_place,
    spent,
    sums,
    tallied,
    written,
)
from wordmill.runs.rows import RowStore
from wordmill.runs.session import End, Progress, Terms
from wordmill.runs.sitting import Job
from wordmill.storage import Storage, said, write_whole
from wordmill.types import Value

LOOK: Final = 0.25
"""Seconds between looks at the parts."""
ASK: Final = 5.0
"""Seconds between looks at the quota and at the workers."""
AHEAD: Final = 2
"""Parts that are put for each that workers do at once."""
GROUPS: Final = 8
"""Groups of rows that are written to the dataset between two looks."""
MOST_LOST: Final = 3
"""Times that a part may end without all of its rows."""
PATIENCE: Final = 60.0
"""Seconds for which the storage may be away; and, besides the grace, parts that are to end."""

ROUND: Final = "round.json"
"""The file of a round, in the folder of the run's own files."""

log = logging.getLogger(__name__)


class Leaving(WordmillError):
    """This process ends, and the parts of the run go on."""

    def __str__(self) -> str:
        return "The process that puts the run together ends; its parts go on."


class Round(BaseModel):
    """What whoever puts a run together must find again.

    size: rows of a part.  base: the counts of the run before it.  began: in seconds since 1970.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    size: int
    base: dict[str, Value]
    began: float


class Part:
    """A job of the round. taken: shards whose rows are here.  closed: nothing more comes."""

    def __init__(self, row: Row) -> None:
        self.order = Order.model_validate(row.payload)
        self.numbers = self.order.numbers()
        self.taken: set[int] = set()
        self.closed = False
        self.see(row)

    def see(self, row: Row) -> None:
        """What the database says of it now."""
        self.row, self.told = row, Told.model_validate(row.progress)


class Shift:
    """Makes the rows of a run; see `sitting.Working`.

    given: the records of the run that this one adds to.  earlier: what the registry counts.
    slots: parts that workers do at once.  size: rows of a part.  check, charge: see `crew.Crew`.
    terms: set before `run`.  degraded: questions that were asked again in simpler form.
    """

    terms: Terms

    def __init__(
        self,
        job: Job,
        files: RunFiles,
        engine: Engine,
        store: RowStore,
        *,
        given: Engine | None,
        earlier: Mapping[str, Value],
        jobs: Jobs,
        storage: Storage,
        queue: Queue,
        slots: Callable[[], int],
        check: Callable[[str], None],
        charge: bool,
        size: int,
        say: Callable[[str], None],
        leaving: Callable[[], bool],
    ) -> None:
        self._job, self._files, self._engine, self._store = job, files, engine, store
        self._given, self._jobs, self._storage, self._queue = given, jobs, storage, queue
        self._count_slots, self._check, self._charge = slots, check, charge
        self._say, self._leaving = say, leaving
        self._round = self._find_round(size, earlier)
        self._parts: dict[str, Part] = {}
        self._pending: deque[int] = deque()
        self._times: dict[int, int] = {}
        self._lost: dict[int, int] = {}
        self._tight = False
        self._end = End("made")
        self._fault: WordmillError | None = None
        self._ending_since = self._away_since = self._ask_at = 0.0
        self._slots, self._alone_since = AHEAD, time.monotonic()
        self._told: set[str] = set()
        # Of parts that are closed:
        self._counts: Mapping[str, Value] = sums(self._round.base, ())
        self._tally = Tally(job.plan)
        self._tally.latencies |= files.latencies()
        self._part_done: dict[int, int] = {}
        self._resumed = 0
        self._first = ""
        self.degraded = 0

    def run(self) -> End:
        """Until all rows are here, or an end that came early. Raises StorageError, RunError for
        what a worker met, EngineError, Leaving.
        """
        try:
            self._begin()
            while True:
                self._look()
                self._write()
                if not self._open() and not self._pending:
                    break
                self._decide()
                self._put()
                self.terms.show(self.progress())
                time.sleep(LOOK)
            self._engine.sync_rows()
        except EngineFault as fault:
            raise EngineError(f"The rows of the run cannot be kept: {fault}") from fault
        self._forget()
        if self._fault is not None:
            raise self._fault
        return self._end

    def progress(self) -> Progress:
        """How far it is now."""
        parts = self._open()
        told = [part.told for part in parts]
        counts = sums(self._counts, told)
        tally = Tally(self._job.plan)
        tally.latencies = self._tally.latencies
        for one in (tallied(self._tally), *(one.tally for one in told)):
            add_tally(tally, one)
        passed = max(0.0, time.time() - self._round.began)
        reading = reading_of(
            counts, told, self._resumed, self._round.base.get("seconds", 0.0) + passed, passed
        )
        coming = sum(max(0, part.told.ended - self._here(part)) for part in parts)
        done = self._part_done | {part.order.part: part.told.part_done for part in parts}
        return Progress(
            rows=self._job.rows,
            ended=min(self._job.rows, self._store.ended + coming),
            part_done=sum(done.values()),
            tally=tally,
            reading=reading,
            ending=self._end.sentence,
            first=datetime.fromisoformat(self._first) if self._first else None,
        )

    # The round

    def _find_round(self, size: int, earlier: Mapping[str, Value]) -> Round:
        path = self._files.folder / ROUND
        if path.exists():
            with said(path), suppress(ValidationError):
                return Round.model_validate_json(path.read_bytes())
        found = Round(id=new_id(), size=size, base=dict(earlier), began=time.time())
        write_whole(path, found.model_dump_json())
        return found

    def _begin(self) -> None:
        """Take over the parts that are there, and see what else is to be made."""
        run = self._files.run
        self._storage.write(recipe_place(run), self._files.recipe.read_bytes())
        ordered: set[int] = set()
        for row in self._jobs.below(PART, f"{run}/"):
            if row.payload["round"] == self._round.id:
                part = Part(row)
                self._parts[row.id] = part
                self._times[part.order.part] = self._times.get(part.order.part, 0) + 1
                ordered.update(number for number in part.numbers if row.state not in ENDED)
        size = self._round.size
        missing = (n // size for n in self._store.missing() if n not in ordered)
        self._pending.extend(dict.fromkeys(missing))

    def _forget(self) -> None:
        """Nothing is to be found again: all rows that came are in the run's own records."""
        path = self._files.folder / ROUND
        with said(path):
            path.unlink(missing_ok=True)
        try:
            for part in self._parts.values():
                for shard in (*part.told.shards, None):
                    self._storage.remove(rows_place(part.order, part.row.id, shard))
        except StorageError as error:
            log.warning("rows that are kept elsewhere could not be removed: %s", error)

    # Taking

    def _open(self) -> list[Part]:
        return [part for part in self._parts.values() if not part.closed]

    def _here(self, part: Part) -> int:
        """Rows of a part that are in the run's records; about."""
        return min(len(part.numbers), SHARD * len(part.taken))

    def _look(self) -> None:
        parts = {part.row.id: part for part in self._open()}
        for row in self._jobs.these(list(parts)):
            parts[row.id].see(row)
        try:
            for part in parts.values():
                self._take(part)
            self._away_since = 0.0
        except StorageError as error:
            self._away_since = self._away_since or time.monotonic()
            if time.monotonic() - self._away_since > PATIENCE:
                raise
            log.warning("rows of the run %s wait: %s", self._files.run, error)

    def _take(self, part: Part) -> None:
        told = part.told
        for shard in told.shards:
            if shard not in part.taken:
                numbers = part.numbers[shard * SHARD : (shard + 1) * SHARD]
                self._keep(part, shard, numbers)
                part.taken.add(shard)
        for sentence in told.said:
            if sentence not in self._told:
                self._told.add(sentence)
                self._say(sentence)
        self._first = min(filter(None, (self._first, told.first)), default="")
        if part.row.state in ENDED:
            if told.rest:
                self._keep(part, None, part.numbers)
            self._close(part)

    def _keep(self, part: Part, shard: int | None, wanted: list[int]) -> None:
        if all(map(self._store.has, wanted)):
            return
        place = rows_place(part.order, part.row.id, shard)
        found = read(self._storage.whole(place))
        new = [one for one in zip(*found, strict=True) if not self._store.has(one[0])]
        if new:
            self._store.keep([number for number, _ in new], [record for _, record in new])

    def _close(self, part: Part) -> None:
        """A part has ended: count it, and decide what that means for the run."""
        part.closed = True
        told, row, number = part.told, part.row, part.order.part
        self._counts = sums(self._counts, [told])
        add_tally(self._tally, told.tally)
        for name, counts in told.latencies.items():
            self._tally.latencies[name].merge(counts)
        self._resumed += told.resumed
        self.degraded += told.degraded
        self._part_done[number] = told.part_done
        if row.state == "failed":
            words = str(row.error)
            if row.attempts >= MOST_TAKINGS:
                words = f"Rows {part.numbers[0]:,} to {part.numbers[-1]:,}: {words}"
            self._fault = self._fault or RunError(words)
            self._stop(End("stopped", words))
        elif told.kind == "stopped":
            self._stop(End("stopped", told.sentence))
        elif row.state == "cancelled":
            self._stop(End("cancelled", "it was cancelled"))
        elif told.kind == "ceiling" and self._is_all(part):
            self._stop(End("ceiling", self._ceiling()))
        elif not all(map(self._store.has, part.numbers)):
            self._tight = self._tight or told.kind == "ceiling"
            self._lost[number] = self._lost.get(number, 0) + (told.kind != "ceiling")
            if self._lost[number] > MOST_LOST:
                self._fault = RunError(
                    f"Rows {part.numbers[0]:,} to {part.numbers[-1]:,} were made, and are not in "
                    "the storage."
                )
                self._stop(End("stopped", str(self._fault)))
            elif self._end.kind == "made":
                self._pending.append(number)

    def _write(self) -> None:
        """Into the dataset, what is there."""
        if self._end.kind == "disk":
            return
        try:
            for _ in range(GROUPS):
                self._store.write_ready()
        except StorageError as fault:
            self._fault = fault
            self._stop(End("disk", str(fault)))

    # Ending

    def _decide(self) -> None:
        if self._leaving():
            raise Leaving
        if self._end.kind != "made":
            grace = self.terms.grace + PATIENCE
            if time.monotonic() - self._ending_since > grace:
                for part in self._open():  # nobody is there who would end them
                    self._close_unheard(part)
            return
        if self.terms.wanted():
            self._stop(End("cancelled", "it was cancelled"))
        elif time.monotonic() > self._ask_at:
            self._ask_at = time.monotonic() + ASK
            self._ask()

    def _close_unheard(self, part: Part) -> None:
        part.closed = True
        self._counts = sums(self._counts, [part.told])

    def _ask(self) -> None:
        """Whether the person may go on, and whether workers are there."""
        try:
            self._check(self._job.owner)
        except QuotaReached as error:
            self._stop(End("stopped", str(error)))
        slots = self._count_slots()
        if slots:
            self._slots, self._alone_since = slots, time.monotonic()
        elif time.monotonic() - self._alone_since > PATIENCE:
            self._alone_since = math.inf
            self._say("No worker is there, so the run waits: `wordmill worker` starts one.")

    def _stop(self, end: End) -> None:
        """End early: what waits is not begun, what is at work comes to an end."""
        if self._end.kind != "made":
            return
        self._end, self._ending_since = end, time.monotonic()
        self._pending.clear()
        for part in self._open():
            with suppress(NotFound):
                self._jobs.cancel(self._job.owner, part.row.id)

    # Putting

    def _put(self) -> None:
        put = False
        while self._pending and len(self._open()) < (1 if self._tight else AHEAD * self._slots):
            part = self._pending[0]
            numbers = list(self._missing(part))
            if numbers:
                budget = self._deal(len(numbers))
                if budget is None:
                    if not self._open():
                        self._stop(End("ceiling", self._ceiling()))
                    break
                self._order(part, numbers, budget)
                put = True
            self._pending.popleft()
        if put:
            self._queue.wake()

    def _missing(self, part: int) -> Iterator[int]:
        low = part * self._round.size
        high = min(low + self._round.size, self._job.rows)
        return (number for number in range(low, high) if not self._store.has(number))

    def _order(self, part: int, numbers: list[int], budget: dict[str, float]) -> None:
        order = Order(
            run=self._files.run, round=self._round.id, part=part, rows=ranges(numbers),
            of=self._job.rows, digest=self._job.recipe.digest, budget=budget,
            given=self._given is not None, charge=self._charge,
        )  # fmt: skip
        if self._given is not None:
            rows = self._given.rows(numbers[0], numbers[-1] + 1)
            self._storage.write(given_place(order), written(record for _, record in rows))
        time_ = self._times.get(part, 0)
        name = self._jobs.put(
            self._job.owner, PART, order.model_dump(mode="json"),
            subject=f"{order.run}/{part}", once=f"{order.run}/{order.round}/{part}/{time_}",
        )  # fmt: skip
        self._times[part] = time_ + 1
        self._parts[name] = Part(self._jobs.get(self._job.owner, name))

    def _deal(self, rows: int) -> dict[str, float] | None:
        """What a part of that many rows may use; None where nothing is left just now."""
        left = self._left()
        if any(value <= 0 for value in left.values()):
            return None
        if self._tight:
            return left
        # As if the others that are not begun, too, took what their rows are of all rows.
        waiting = self._job.rows - self._store.ended
        waiting -= sum(len(part.numbers) - self._here(part) for part in self._open())
        share = min(1.0, rows / max(1, waiting))
        return {
            name: value * share if name == "money" else math.ceil(value * share)
            for name, value in left.items()
        }

    def _left(self) -> dict[str, float]:
        """Of each ceiling, what is neither used nor dealt out."""
        used = spent(self._counts)
        left = {name: value - used[name] for name, value in self._job.budget.ceilings().items()}
        for part in self._open():
            for name in left:
                left[name] -= max(part.order.budget[name], part.told.used[name])
        return left

    def _is_all(self, part: Part) -> bool:
        """Whether a part that has ended at its ceiling had all that was left of it."""
        used, alone = part.told.used, not self._open()
        return alone and all(
            part.order.budget[name] - used[name] >= left - 1e-9
            for name, left in self._left().items()
        )

    def _ceiling(self) -> str:
        """Which ceiling is reached: the one of which most is used."""
        used, ceilings = spent(self._counts), self._job.budget.ceilings()
        name = max(ceilings, key=lambda one: used[one] / ceilings[one])
        unit = "in money is" if name == "money" else f"{name} are"
        value = f"{used[name]:.4f}" if name == "money" else f"{used[name]:.0f}"
        more = "" if name == "requests" else " and the next request could take more"
        return f"{value} of {ceilings[name]:g} {unit} spent{more}"
