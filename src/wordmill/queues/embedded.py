"""Workers in this process: a thread for each job at work, and two that watch over them.

Nothing else is needed for one machine. A job that is put here is taken at once, since whoever puts
it wakes the queue; one that another process put is found within a second. What a process of this
machine was working on when it died is taken up when the next one starts.
"""

import logging
import threading
import time
from collections.abc import Mapping

from wordmill.errors import WordmillError
from wordmill.jobs import Jobs, Leased
from wordmill.processes import give_way
from wordmill.queues.base import Handler, Queue, Work
from wordmill.queues.leases import LEASE, LOOK, RENEW, do, keep, worker_name

log = logging.getLogger(__name__)


class Embedded(Queue):
    """A pool of workers for some kinds of jobs.

    handlers: by kind. A handler that returns has finished the job, unless it ended it itself.
    workers: jobs at once.  turn: seconds after which a job is asked to give its place to one that
    waits and is not less urgent; None lets each work to its end.
    background: jobs come after what people wait for, where the processor is short.
    """

    def __init__(
        self,
        jobs: Jobs,
        handlers: Mapping[str, Handler],
        workers: int,
        turn: float | None = None,
        *,
        background: bool = False,
    ) -> None:
        self._stores, self._handlers, self._count = [jobs], dict(handlers), workers
        self._turn, self._background = turn, background
        self._name = worker_name()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._woken = False
        self._at_work: dict[str, Work] = {}
        self._workers: list[threading.Thread] = []
        self._watchers: list[threading.Thread] = []

    def start(self) -> None:
        """Take back what died with an earlier process, and begin to work."""
        for jobs in self._stores:
            jobs.reclaim(self._name, self._handlers)
        for target, name in ((self._look, "queue"), (self._keep, "leases")):
            thread = threading.Thread(target=target, name=f"wordmill-{name}", daemon=True)
            self._watchers.append(thread)
            thread.start()

    def serve(self, jobs: Jobs) -> None:
        """Work on these jobs too, with the same handlers."""
        with self._changed:
            self._stores.append(jobs)
        self.wake()

    @property
    def alive(self) -> bool:
        """Whether it looks for work and keeps what it has."""
        return bool(self._watchers) and all(thread.is_alive() for thread in self._watchers)

    def wake(self) -> None:
        """Look now: there may be work."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def ask(self, job: str) -> None:
        """Tell a job of this process at once that somebody wants its end."""
        work = self._at_work.get(job)
        if work is not None:
            work.end()

    def stop(self, grace: float) -> None:
        """Take no more; jobs at work are given back, and have `grace` seconds to notice."""
        until = time.monotonic() + grace
        with self._changed:
            self._closed.set()
            for work in self._at_work.values():
                work.closing = True
                work.end()
            self._changed.notify_all()
            threads = [*self._watchers, *self._workers]
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    # Taking

    def _look(self) -> None:
        while not self._closed.is_set():
            with self._changed:
                full = len(self._at_work) >= self._count
                if full or not self._woken:
                    self._changed.wait(None if full else LOOK)
                self._woken = False
                if len(self._at_work) >= self._count:
                    continue
                stores = list(self._stores)
            while not self._closed.is_set() and self._take(stores):
                pass

    def _take(self, stores: list[Jobs]) -> bool:
        """Take one job and begin to work on it; whether there may be another to take."""
        for jobs in stores:
            try:
                lease = jobs.lease(self._name, self._handlers, LEASE)
            except WordmillError as error:
                log.error("no job could be taken: %s", error)
                continue
            if lease is not None:
                return self._begin(lease)
        return False

    def _begin(self, lease: Leased) -> bool:
        work = Work(lease)
        thread = threading.Thread(
            target=self._do, args=(work,), name=f"wordmill-{lease.job.kind}", daemon=True
        )
        with self._changed:
            if self._closed.is_set():  # taken while it was told to take no more
                work.closing = True
                work.end()
            if lease.job.cancel_requested:  # while nobody was there to hear it
                work.end()
            self._at_work[lease.job.id] = work
            self._workers = [one for one in self._workers if one.is_alive()] + [thread]
            room = len(self._at_work) < self._count
            thread.start()
        return room

    # Working

    def _do(self, work: Work) -> None:
        if self._background:
            give_way()
        try:
            do(self._handlers, work)
        finally:
            with self._changed:
                self._at_work.pop(work.job.id, None)
            self.wake()  # what waited behind it, for the same subject

    # Keeping

    def _keep(self) -> None:
        looks = 0
        while not self._closed.wait(LOOK):
            looks += 1
            with self._changed:
                held = list(self._at_work.values())
                stores = list(self._stores)
            for jobs in stores:
                ours = {work.job.id: work for work in held if work.lease.jobs is jobs}
                if ours:
                    keep(jobs, ours, renew=looks % RENEW == 0)
            if self._turn is not None and len(held) >= self._count:
                self._share(self._turn, stores, held)

    def _share(self, turn: float, stores: list[Jobs], held: list[Work]) -> None:
        """Ask who has had a place for longest to leave it to a job that waits."""
        if any(work.wanted for work in held):
            return
        try:
            waiting = [job for jobs in stores if (job := jobs.first(self._handlers)) is not None]
        except WordmillError as error:
            log.error("what waits could not be looked at: %s", error)
            return
        if not waiting:
            return
        urgent = max(job.priority for job in waiting)
        begun = time.monotonic() - turn
        old = [work for work in held if work.since < begun and work.job.priority <= urgent]
        if old:
            min(old, key=lambda work: (work.job.priority, work.since)).wanted = True
