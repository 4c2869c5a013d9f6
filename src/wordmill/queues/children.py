"""The Celery worker: a parent that hears of jobs, and child processes that do them.

The parent opens neither the database nor an engine. Each child opens its own at its first job,
after the fork: threads and connections do not survive one. A child hears through a pipe that it is
to stop: the parent closes the other end when it is told to end itself, and the job at hand is given
back, to be taken by another. When the parent is killed the system kills its children, and what they
had is freed by whoever looks next on this machine.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from wordmill.errors import WordmillError
from wordmill.jobs import Jobs, Leased
from wordmill.queues.base import Handler, Work
from wordmill.queues.celery import TASK, make_app, queue_of
from wordmill.queues.leases import LEASE, LOOK, RENEW, do, keep, worker_name
from wordmill.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a child works with. handlers: by kind of job."""

    jobs: Jobs
    handlers: Mapping[str, Handler]


Opening: TypeAlias = Callable[[], AbstractContextManager[Bench]]


class Child:
    """What one child process does: one job at a time, in the thread that Celery gives it.

    heard: the end of the pipe on which it hears that it is to stop.
    """

    def __init__(self, opening: Opening, heard: int) -> None:
        self._opening, self._heard = opening, heard
        self._stack = ExitStack()
        self._bench: Bench | None = None
        self._lock = threading.Lock()
        self._work: Work | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._keep, name="wordmill-leases", daemon=True).start()

    def take(self, name: str) -> None:
        """Do a job, if it waits for somebody. Never raises what a job can do wrong."""
        if self._stopping.is_set():
            return
        try:
            bench = self._bench or self._stack.enter_context(self._opening())
            self._bench = bench
            lease = self._leased(bench, name)
        except WordmillError as error:
            log.error("the job could not be taken: %s", error)  # it is announced again
            return
        if lease is None:
            return
        work = Work(lease)
        with self._lock:
            self._work = work
            if self._stopping.is_set():
                work.closing = True
                work.end()
            if lease.job.cancel_requested:
                work.end()
        try:
            do(bench.handlers, work)
        finally:
            with self._lock:
                self._work = None

    def _leased(self, bench: Bench, name: str) -> Leased | None:
        def lease() -> Leased | None:
            return bench.jobs.lease(worker_name(), bench.handlers, LEASE, job=name)

        # The message may have come back from a child of this machine that is no more.
        return lease() or (lease() if bench.jobs.reclaim(worker_name(), bench.handlers) else None)

    def _keep(self) -> None:
        looks = 0
        while True:
            if self._stopping.is_set():
                time.sleep(LOOK)
            elif select.select([self._heard], [], [], LOOK)[0]:
                self._stop()
            looks += 1
            work, bench = self._work, self._bench
            if work is not None and bench is not None:
                keep(bench.jobs, {work.job.id: work}, renew=looks % RENEW == 0)

    def _stop(self) -> None:
        with self._lock:
            self._stopping.set()
            if self._work is not None:
                self._work.closing = True
                self._work.end()

    def close(self) -> None:
        """Close what was opened."""
        self._stack.close()


def work(settings: Settings, kinds: Collection[str], concurrency: int, opening: Opening) -> int:
    """Be a Celery worker until SIGTERM; the exit status. Raises ConfigError, ExtraMissing.

    opening: called in each child, for what its jobs need.
    """
    from celery import signals

    app = make_app(settings, kinds)
    heard, held = os.pipe()
    children: list[Child] = []

    def begin(**_: Any) -> None:
        os.close(held)  # the parent's alone: when that is closed, or gone, all children hear it
        child = Child(opening, heard)
        children.append(child)
        child.start()

    def end(**_: Any) -> None:
        for child in children:
            child.close()

    def stop(**_: Any) -> None:
        os.close(held)

    def keep_ours(**_: Any) -> None:
        """Celery leaves the logging alone when somebody listens to this."""

    signals.worker_process_init.connect(begin, weak=False)
    signals.worker_process_shutdown.connect(end, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)
    signals.setup_logging.connect(keep_ours, weak=False)
    _only_task(app, lambda name: children[0].take(name))
    worker = app.Worker(
        pool="prefork", concurrency=concurrency, queues=[queue_of(kind) for kind in kinds],
        hostname=f"wordmill-{worker_name().replace(':', '-')}", quiet=True,
        without_gossip=True, without_mingle=True, without_heartbeat=True,
    )  # fmt: skip
    worker.start()
    return int(worker.exitcode or 0)


def _only_task(app: "Celery", take: Callable[[str], None]) -> None:
    """Make the application know one task: those that Celery brings could be called by a message."""

    def look(job: object) -> None:
        if isinstance(job, str):
            take(job)

    app.task(look, name=TASK)
    app.finalize()
    for name in [name for name in app.tasks if name != TASK]:
        app.tasks.unregister(name)
