"""One sitting of a run: the loop between the executor and the engine, until there is an end.

It ends when all rows are made, or early: cancelled, at a ceiling, at a lane that stopped, at a
disk that is full. However it ends, what is in flight is awaited (up to the grace), every answer is
kept, and the run can go on.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, TypeAlias

from wordmill._engine import Engine
from wordmill.errors import StorageError
from wordmill.runs.execute import Executor, Tally
from wordmill.runs.meter import Meter, Reading
from wordmill.runs.outbox import Outbox

BATCH: Final = 256
"""Outcomes that are worth the work of a round; less is waited for, up to `LINGER`."""

MORE: Final = 2048
"""Outcomes taken besides, if they are there."""

WAIT: Final = 0.1
LINGER: Final = 0.015
"""Seconds: the longest wait for an outcome (so that Ctrl-C is heard), and for more after it."""

LOOK: Final = 0.2
"""Seconds between looks at the meter."""

DOUBT: Final = 1.0
"""Seconds after which a refused key that stopped no lane is taken for an ordinary failure."""

Kind: TypeAlias = Literal["made", "cancelled", "ceiling", "stopped", "disk"]


@dataclass(frozen=True, slots=True)
class End:
    """Why a sitting ended; the sentence is empty when all rows were made."""

    kind: Kind
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sitting is. rows: of the run; ended: of them, earlier sittings included.

    first: when the first question of this sitting went to the engine, if one did.
    """

    rows: int
    ended: int
    part_done: int
    tally: Tally
    reading: Reading
    ending: str
    first: datetime | None = None


class Ended(Protocol):
    """What the session must know of the place where rows go."""

    ended: int

    def write_ready(self) -> None:
        """Write what can be written now. Raises StorageError."""


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a session is told by whoever began it.

    rows: of the run.  grace: seconds for what is in flight when it ends early.
    wanted: whether somebody asks it to end.  show: told how far it is, five times a second.
    prepare: called by a thread once the first requests are out.
    """

    rows: int
    grace: float
    wanted: Callable[[], bool]
    show: Callable[[Progress], None] = _nothing
    prepare: Callable[[], None] = _nothing


class Session:
    """Runs the loop in the calling thread."""

    def __init__(
        self,
        engine: Engine,
        executor: Executor,
        outbox: Outbox,
        store: Ended,
        meter: Meter,
        terms: Terms,
    ) -> None:
        self._engine, self._executor, self._outbox = engine, executor, outbox
        self._store, self._meter, self._terms = store, meter, terms
        self._end = End("made")
        self._fault: StorageError | None = None
        self._doubt = 0.0
        self._first: datetime | None = None

    def run(self) -> End:
        """Work until the end. Raises StorageError when a file of the dataset cannot be written,
        once what was in flight is safe; EngineFault when the engine died.
        """
        engine, executor, outbox = self._engine, self._executor, self._outbox
        next_look, warming = 0.0, False
        while True:
            executor.open_rows()
            outbox.send()
            if not warming:
                # What the end needs is imported while the first requests are on their way.
                threading.Thread(target=self._terms.prepare, daemon=True).start()
                warming = True
            if executor.asked:
                self._first = self._first or datetime.now(UTC)
                batch = engine.poll(BATCH, WAIT, LINGER)
                executor.receive(batch)
                if len(batch) == BATCH:
                    executor.receive(engine.poll(MORE, 0.0))
                executor.advance()
            self._write()
            if time.monotonic() >= next_look or executor.refused:
                self._look()
                next_look = time.monotonic() + LOOK
            if executor.done:
                if not executor.doubtful:
                    break
                self._look()
                self._settle(at_once=True)
        self._look()
        if self._fault is not None:
            raise self._fault
        return self._end

    def progress(self) -> Progress:
        """How far it is now."""
        return Progress(
            rows=self._terms.rows,
            ended=self._store.ended,
            part_done=self._executor.part_done,
            tally=self._executor.tally,
            reading=self._meter.read(),
            ending=self._end.sentence,
            first=self._first,
        )

    def _write(self) -> None:
        if self._fault is not None:
            return
        try:
            self._store.write_ready()
        except StorageError as fault:
            self._fault = fault
            self._stop(End("disk", str(fault)), self._terms.grace)

    def _look(self) -> None:
        """Ask whether to end, and show how far it is."""
        progress = self.progress()
        if self._end.kind == "made":
            stopped = next((lane for lane in progress.reading.lanes if lane.stopped), None)
            if self._terms.wanted():
                self._stop(End("cancelled", "it was cancelled"), self._terms.grace)
            elif stopped is not None:
                self._stop(End("stopped", str(stopped.stopped)), self._terms.grace)
            elif progress.reading.ceiling is not None:
                self._stop(End("ceiling", progress.reading.ceiling), None)
            elif self._executor.doubtful:
                self._settle(at_once=False)
        self._executor.refused = False
        for lane in progress.reading.lanes:
            self._outbox.paces[lane.name].limit = max(1, lane.limit)
        self._terms.show(progress)

    def _stop(self, end: End, grace: float | None) -> None:
        self._end = end
        self._executor.stop()
        if grace is not None:
            self._engine.cancel(grace)

    def _settle(self, at_once: bool) -> None:
        """Decide about replies that may be the end of a lane."""
        if self._end.kind != "made":
            self._executor.doubtful.clear()  # their rows stay part-done
            return
        now = time.monotonic()
        self._doubt = self._doubt or now
        if at_once or now - self._doubt > DOUBT:
            self._doubt = 0.0
            self._executor.settle()
            self._executor.advance()
