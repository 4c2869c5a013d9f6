"""Workers in this process: threads that lease jobs from the database.

Nothing else is needed for one machine. A job that is put here is taken at once, since whoever puts
it wakes the workers; one that another process put is found within a second.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final

from wordmill.errors import Conflict, WordmillError
from wordmill.jobs import Jobs, Leased

Handler = Callable[["Work"], None]

LEASE: Final = 30.0
"""Seconds that a job stays with a worker that says nothing."""
LOOK: Final = 1.0
"""Seconds between looks for what other processes put."""
RENEW: Final = 5.0
"""Seconds between renewals; a wish of another process to cancel is heard that late."""

log = logging.getLogger(__name__)


class Work:
    """A leased job and whether to go on with it. A handler asks `stop` now and then."""

    def __init__(self, lease: Leased) -> None:
        self.lease, self.job = lease, lease.job
        self._stop = threading.Event()
        self.lost = False
        """Another worker has the job: what is written from now on is refused."""
        self.closing = False
        """This process ends: give the job back rather than end it."""

    @property
    def stop(self) -> bool:
        """Whether to end soon: somebody asked for it, or the job is another's."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait, at most that long, for `stop`."""
        return self._stop.wait(seconds)

    def end(self) -> None:
        """Make `stop` true."""
        self._stop.set()


class Embedded:
    """A pool of workers for some kinds of jobs.

    handlers: by kind. A handler that returns has finished the job, unless it ended it itself.
    workers: threads, each with one job at a time.
    """

    def __init__(self, jobs: Jobs, handlers: Mapping[str, Handler], workers: int) -> None:
        self._jobs, self._handlers, self._count = jobs, dict(handlers), workers
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._wake = threading.Condition()
        self._closed = threading.Event()
        self._at_work: dict[str, Work] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        for number in range(self._count):
            self._thread(self._run, f"worker-{number}")
        self._thread(self._renew, "leases")

    @property
    def alive(self) -> bool:
        """Whether every worker is at its place."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def wake(self) -> None:
        """Look now: there may be work."""
        with self._wake:
            self._wake.notify_all()

    def ask(self, job: str) -> None:
        """Tell a job of this process at once that somebody wants its end."""
        work = self._at_work.get(job)
        if work is not None:
            work.end()

    def stop(self, grace: float) -> None:
        """Take no more; jobs at work are given back, and have `grace` seconds to notice."""
        with self._wake:
            self._closed.set()
            for work in list(self._at_work.values()):
                work.closing = True
                work.end()
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(grace)

    def _thread(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=f"wordmill-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                lease = self._jobs.lease(self._name, self._handlers, LEASE)
            except WordmillError as error:
                log.error("no job could be taken: %s", error)
                lease = None
            if lease is None:
                with self._wake:
                    if not self._closed.is_set():
                        self._wake.wait(LOOK)
                continue
            self._do(lease)
            self.wake()  # what waited behind it, for the same subject

    def _do(self, lease: Leased) -> None:
        work = Work(lease)
        with self._wake:
            self._at_work[lease.job.id] = work
            if self._closed.is_set():
                work.closing = True
                work.end()
        try:
            self._handlers[lease.job.kind](work)
            self._end(work, None)
        except WordmillError as error:
            self._end(work, str(error))
        except Exception:  # a fault of ours must not end the worker
            log.exception("the job %s (%s) met a fault of Wordmill", lease.job.id, lease.job.kind)
            self._end(work, "A fault of Wordmill; the log says more.")
        finally:
            with self._wake:
                self._at_work.pop(lease.job.id, None)

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

    def _renew(self) -> None:
        while not self._closed.is_set():
            if self._closed.wait(RENEW):
                return
            with self._wake:
                held = list(self._at_work.values())
            for work in held:
                try:
                    if work.lease.renew():
                        work.end()
                except Conflict:
                    work.lost = True
                    work.end()
                except WordmillError as error:
                    log.error("the lease of %s could not be renewed: %s", work.job.id, error)
