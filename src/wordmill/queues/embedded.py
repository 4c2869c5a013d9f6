"""Workers in this process: a thread for each job at work, and two that watch over them.

Nothing else is needed for one machine. A job that is put here is taken at once, since whoever puts
it wakes the queue; one that another process put is found within a second. What a process of this
machine was working on when it died is taken up when the next one starts.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Final

from wordmill.errors import Conflict, WordmillError
from wordmill.jobs import Jobs, Leased
from wordmill.queues.base import Handler, Queue, Work

LEASE: Final = 30.0
"""Seconds that a job stays with a worker that says nothing."""
LOOK: Final = 1.0
"""Seconds between looks for what other processes put, and for what they want to end."""
RENEW: Final = 5
"""Looks between renewals of what is held."""

log = logging.getLogger(__name__)


class Embedded(Queue):
    """A pool of workers for some kinds of jobs.

    handlers: by kind. A handler that returns has finished the job, unless it ended it itself.
    workers: jobs at once.
    """

    def __init__(self, jobs: Jobs, handlers: Mapping[str, Handler], workers: int) -> None:
        self._stores, self._handlers, self._count = [jobs], dict(handlers), workers
        self._name = _worker()
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
        kind = work.job.kind
        try:
            self._handlers[kind](work)
            self._end(work, None)
        except WordmillError as error:
            self._end(work, str(error))
        except Exception:  # a fault of ours must not end the worker
            log.exception("the job %s (%s) met a fault of Wordmill", work.job.id, kind)
            self._end(work, "A fault of Wordmill; the log says more.")
        finally:
            with self._changed:
                self._at_work.pop(work.job.id, None)
            self.wake()  # what waited behind it, for the same subject

    def _end(self, work: Work, error: str | None) -> None:
        try:
            if work.closing and work.stop:
                work.lease.release()
            elif error is not None:
                work.lease.fail(error)
            elif work.stop:
                work.lease.cancelled()
            else:
                work.lease.finish()
        except Conflict:
            log.info("the job %s had ended, or was another worker's", work.job.id)
        except WordmillError as failure:
            log.error("the end of the job %s could not be written: %s", work.job.id, failure)

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
                    self._keep_these(jobs, ours, renew=looks % RENEW == 0)

    def _keep_these(self, jobs: Jobs, held: Mapping[str, Work], renew: bool) -> None:
        try:
            if renew:
                for name in jobs.renew([work.lease for work in held.values()]):
                    held[name].lost = True
                    held[name].end()
            for name in jobs.unwanted(held):
                held[name].end()
        except WordmillError as error:
            log.error("what is at work could not be looked after: %s", error)


@cache
def _worker() -> str:
    """This process, as no other one is called: numbers of processes are used again."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
