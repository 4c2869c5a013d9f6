"""`wordmill worker`: jobs of which Celery tells it, each in a process of its own.

Three kinds of processes: this one, which says in the database that it is there, announces jobs that
nobody took and passes signals on; Celery's, which hears of jobs; and Celery's children, which do
them. Where RabbitMQ is set, one more takes blocks of batches whose lines need Python.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Final

import click
from sqlalchemy import delete, insert, select, update

from wordmill.batches.plan import missing, scaled_out
from wordmill.cli.settings import warn
from wordmill.database import Database, now, open_database, workers
from wordmill.errors import ConfigError, WordmillError
from wordmill.queues.leases import machine, worker_name
from wordmill.settings import Settings, load
from wordmill.storage import open_storage
from wordmill.telemetry import reporting

if TYPE_CHECKING:
    from wordmill.queues.children import Bench

KINDS: Final = ("part", "batch", "run")
"""Kinds of jobs that a worker can do. When nobody says it does parts, and where consumers answer
batches it looks through their files."""
SEEN: Final = 5.0
"""Seconds between two times that a worker says that it is there."""
GONE: Final = 30.0
"""Seconds after which one that says nothing is not there."""
FORGOTTEN: Final = timedelta(hours=1)
"""After which its row is removed."""
MORE: Final = 75.0
"""Seconds besides the grace that jobs have to write down how far they are."""

IDLE: Final = 0.5
"""Seconds between looks for blocks, where there were none."""
AGAIN: Final = 2.0
"""Seconds before a broker or a database that is away is tried again."""

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--concurrency", type=click.IntRange(1, 256), help="Jobs at once. [default: the processors]"
)
@click.option(
    "--kinds",
    help="The jobs that it does, with commas between: part, batch, run. [default: part, and batch "
    "where there are RabbitMQ and Elasticsearch]",
)
@click.option("--check", is_flag=True, help="Say whether a worker of this machine is there.")
def worker(concurrency: int | None, kinds: str | None, check: bool) -> int:
    """Do jobs of others: parts of runs, files of batches.

    It needs the database, the broker and the storage of the server. SIGTERM ends it in good order:
    what it has at hand is given back and done by another.

    Exit codes: 0 when it was ended; 2 bad input, or nobody is there; 3 when Celery's process died.
    """
    settings = load(serving=True)
    warn(settings)
    if check:
        return _say_whether_there(settings)
    chosen = _kinds(kinds, settings)
    from wordmill.queues.celery import make_app

    make_app(settings, chosen)  # all that can be wrong with it is found here
    with reporting(settings), open_database(settings) as database:
        return _Foreman(database, settings, chosen, concurrency or os.cpu_count() or 1).run()


def _kinds(text: str | None, settings: Settings) -> tuple[str, ...]:
    if text is None:
        return KINDS[:2] if scaled_out(settings) else KINDS[:1]
    chosen = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    odd = [name for name in chosen if name not in KINDS]
    if odd or not chosen:
        raise ConfigError(f"--kinds {text!r}: jobs are of the kinds {', '.join(KINDS)}.")
    if "batch" in chosen and not scaled_out(settings):
        raise ConfigError(
            "--kinds batch: workers look through files of batches where consumers answer them. "
            f"{missing(settings) or 'Set WORDMILL_BROKER_URL and WORDMILL_ELASTICSEARCH_URL.'}"
        )
    return chosen


def _say_whether_there(settings: Settings) -> int:
    alive = (workers.c.kind == "worker", workers.c.seen > now() - timedelta(seconds=GONE))
    with open_database(settings) as database, database.read() as connection:
        found = connection.execute(select(workers.c.id).where(*alive)).scalars()
        here = [name for name in found if name.split(":")[0] == machine()]
    if not here:
        raise ConfigError(f"No worker of this machine ({machine()}) is there.")
    click.echo(f"{', '.join(sorted(here))}: there.")
    return 0


class _Foreman:
    """This process: it does no job itself."""

    def __init__(
        self, database: Database, settings: Settings, kinds: tuple[str, ...], concurrency: int
    ) -> None:
        self._database, self._settings = database, settings
        self._kinds, self._concurrency, self._name = kinds, concurrency, worker_name()
        self._stopping = threading.Event()

    def run(self) -> int:
        from wordmill.jobs import Jobs
        from wordmill.queues.celery import Announced

        announced = Announced(Jobs(self._database), self._settings, self._kinds)
        with self._signals(), self._row():
            processes = self._start()
            announced.start()
            click.echo(
                f"The worker {self._name} does {' and '.join(self._kinds)} jobs, "
                f"{self._concurrency} at once."
            )
            died = self._watch(processes)
            self._end(processes)
            announced.stop(grace=5.0)  # it tells the others of what was given back
        if died is not None:
            log.error("a process of the worker ended by itself: %s", died)
            return 3
        return 0

    def _start(self) -> list[BaseProcess]:
        # Not forked: they begin without this one's threads and connections.
        context = multiprocessing.get_context("spawn")
        jobs = context.Process(
            target=hear, args=(self._kinds, self._concurrency), name="wordmill-jobs"
        )
        jobs.start()
        if "batch" not in self._kinds or not scaled_out(self._settings):
            return [jobs]
        blocks = context.Process(target=answer_blocks, name="wordmill-blocks")
        blocks.start()
        return [jobs, blocks]

    def _watch(self, processes: list[BaseProcess]) -> str | None:
        """Until somebody wants its end, or a process ended without that: which, and how."""
        said_at = 0.0
        while not self._stopping.wait(0.5):
            for process in processes:
                if not process.is_alive():
                    return f"{process.name}, exit status {process.exitcode}"
            if time.monotonic() - said_at > SEEN:
                said_at = time.monotonic()
                self._say_there()
        return None

    def _end(self, processes: list[BaseProcess]) -> None:
        until = time.monotonic() + self._settings.grace_seconds + MORE
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(max(0.1, until - time.monotonic()))
            if process.is_alive():
                log.error("%s did not end in time and is killed", process.name)
                process.kill()
                process.join()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def asked(*_: object) -> None:
            self._stopping.set()

        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, asked) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _row(self) -> Iterator[None]:
        """The row in which the others see that this worker is there."""
        started, detail = now(), {"kinds": list(self._kinds), "concurrency": self._concurrency}
        with self._database.begin() as connection:
            connection.execute(delete(workers).where(workers.c.seen < started - FORGOTTEN))
            connection.execute(
                insert(workers).values(
                    id=self._name, kind="worker", started=started, seen=_never(), detail=detail
                )
            )
        try:
            yield
        finally:
            with self._database.begin() as connection:
                connection.execute(delete(workers).where(workers.c.id == self._name))

    def _say_there(self) -> None:
        try:
            with self._database.begin() as connection:
                mine = update(workers).where(workers.c.id == self._name)
                connection.execute(mine.values(seen=now()))
        except WordmillError as error:
            log.error("the worker could not say that it is there: %s", error)


def _never() -> datetime:
    return now() - timedelta(seconds=GONE)


def hear(kinds: tuple[str, ...], concurrency: int) -> None:
    """Be Celery's process. Ends with the one that started it, however that ends."""
    from wordmill.queues.children import work

    settings = load(serving=True)
    _end_with_parent()
    with reporting(settings):
        raise SystemExit(work(settings, kinds, concurrency, lambda: _bench(settings, kinds)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    # A thread that holds nothing, so that a fork beside it is harmless.
    threading.Thread(target=wait, name="wordmill-parent", daemon=True).start()


def answer_blocks() -> None:
    """Take blocks of batches that need Python, until SIGTERM or the parent's end."""
    from wordmill.accounts import Accounts
    from wordmill.batches import Batches, Files
    from wordmill.batches.taking import PythonBlocks
    from wordmill.queues.rabbitmq import Broker

    settings, over = load(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    _end_with_parent()
    with reporting(settings), open_database(settings) as database:
        files = Files(database, open_storage(settings), settings.batch_file_bytes)
        blocks = PythonBlocks(
            database, settings, Accounts(database, settings), Batches(database, files),
            worker_name(), over.is_set,
        )  # fmt: skip
        broker: Broker | None = None
        while not over.is_set():
            try:
                broker = broker or Broker(settings)
                if not blocks.once(broker):
                    broker.beat()
                    over.wait(IDLE)
            except WordmillError as error:
                log.error("no block could be taken: %s", error)
                if broker is not None:
                    broker.close()
                broker = None
                over.wait(AGAIN)
        if broker is not None:
            broker.close()


@contextmanager
def _bench(settings: Settings, kinds: tuple[str, ...]) -> "Iterator[Bench]":
    """What jobs need, opened in the child that does them."""
    from wordmill.jobs import Jobs
    from wordmill.queues.children import Bench

    with open_database(settings) as database:
        if kinds == ("part",):
            from wordmill.runs.part import PartWorker

            parts = PartWorker(database, settings, open_storage(settings))
            yield Bench(Jobs(database), {"part": parts})
            return
        from wordmill.channels.house import House

        house = House(database, settings)
        yield Bench(house.jobs, {kind: house.handlers[kind] for kind in kinds})
