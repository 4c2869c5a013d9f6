"""Workers in other processes that make runs in parts, and the sitting of a run that they make."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import select

from wordmill.database import Database, now, workers
from wordmill.jobs import ENDED, Jobs
from wordmill.queues.base import Queue
from wordmill.queues.celery import Announced, is_configured
from wordmill.runs.files import RunFiles, opened
from wordmill.runs.parts import PART, place_of
from wordmill.runs.progress import Reporter
from wordmill.runs.result import Result
from wordmill.runs.session import Terms
from wordmill.runs.shift import ROUND, Shift
from wordmill.runs.sitting import Beat, Job, Sitting, Working
from wordmill.settings import Settings
from wordmill.storage import Storage, open_storage
from wordmill.types import Value

SEEN: Final = 30.0
"""Seconds after which a worker that says nothing does not count."""


@dataclass(frozen=True)
class Crew:
    """The workers, and how they are reached.

    queue: tells them of jobs.  charge: whether they write down in the ledger what they use.
    check: raises QuotaReached when a person may use no more.
    """

    database: Database
    settings: Settings
    queue: Queue
    storage: Storage
    charge: bool
    check: Callable[[str], None]

    @property
    def jobs(self) -> Jobs:
        """Where parts are put."""
        return Jobs(self.database)

    def slots(self) -> int:
        """Parts that the workers who are there can do at once."""
        alive = workers.c.seen > now() - timedelta(seconds=SEEN)
        query = select(workers.c.detail).where(workers.c.kind == "worker", alive)
        with self.database.read() as connection:
            details = list(connection.execute(query).scalars())
        return sum(one["concurrency"] for one in details if PART in one["kinds"])

    def takes(self, rows: int, own: Path) -> bool:
        """Whether a run of that many rows is theirs to make. own: the folder of its files.

        One that is no longer than a part is made where it was begun; and all are, while no worker
        is there. Parts that were put already are always waited for.
        """
        if (own / ROUND).exists():
            return True
        return rows > self.settings.part_rows and self.slots() > 0

    def forget(self, run: str) -> None:
        """End what is at work of a run, and remove what lies of it in the storage."""
        for part in self.jobs.below(PART, f"{run}/"):
            if part.state not in ENDED:
                self.jobs.cancel(part.owner, part.id)
        self.storage.remove(place_of(run))


@contextmanager
def open_crew(database: Database, settings: Settings) -> Iterator[Crew | None]:
    """The workers as whoever has the command line reaches them; None where no broker is set.

    What they use is charged to nobody, as all runs of the command line. Raises ExtraMissing.
    """
    if not is_configured(settings):
        yield None
        return
    queue = Announced(Jobs(database), settings, [PART])
    try:
        yield Crew(
            database, settings, queue, open_storage(settings), charge=False, check=lambda _: None
        )
    finally:
        queue.stop(grace=1.0)


class Shared(Sitting):
    """A sitting whose rows workers make. Otherwise as Sitting; `work` also raises Leaving.

    leaving: whether this process ends, and the parts shall go on without it.
    """

    def __init__(
        self,
        crew: Crew,
        job: Job,
        files: RunFiles,
        reporter: Reporter,
        *,
        started: datetime,
        earlier: Mapping[str, Value],
        beat: Beat,
        leaving: Callable[[], bool],
    ) -> None:
        super().__init__(
            crew.settings, job, files, reporter, started=started, earlier=earlier, beat=beat
        )
        self._crew, self._leaving = crew, leaving

    def _open(self, stack: ExitStack) -> None:
        self._open_rows(stack, stack.enter_context(opened(self._files)))
        crew = self._crew
        self._shift = Shift(
            self._job, self._files, self._engine, self._store,
            given=self._given(stack), earlier=self._earlier, jobs=crew.jobs, storage=crew.storage,
            queue=crew.queue, slots=crew.slots, check=crew.check, charge=crew.charge,
            size=crew.settings.part_rows, say=self._reporter.say, leaving=self._leaving,
        )  # fmt: skip

    def work(self, wanted: Callable[[], bool]) -> Result:
        """Have the rows made, and make the dataset. Raises as `Sitting.work`, Leaving."""
        return replace(super().work(wanted), charged=self._crew.charge)

    def _session(self, terms: Terms) -> Working:
        self._shift.terms = terms
        return self._shift

    def _degraded(self) -> int:
        return self._shift.degraded
