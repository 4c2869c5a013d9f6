"""Jobs of which workers in other processes hear over Celery.

A message is a wake-up and holds the id of a job, nothing else: the row in the database says what is
to be done and who does it (`jobs`). So a message that comes twice does nothing, and one that is
lost is sent again: whoever announces jobs also looks for those that wait and of which the broker
holds no message, and frees what processes of its machine had that are no more.

RabbitMQ carries the messages where there is one, else Redis. Both could; RabbitMQ hands a message
on as soon as the connection of a dead worker is gone, and the Redis is for what may be lost at any
time. Only JSON is read, no results are kept, nobody steers a worker through the broker, and what is
to be done later is the database's to know.
"""

import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from wordmill.errors import ConfigError, ExtraMissing, StorageError, WordmillError
from wordmill.jobs import Jobs
from wordmill.queues.base import Queue
from wordmill.queues.leases import LOOK, worker_name
from wordmill.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

TASK: Final = "wordmill.job"
"""The one task there is: to look at the job of an id."""
LOST: Final = 5.0
"""Seconds that a job waits before its wake-up is looked for."""
MOST: Final = 200
"""Wake-ups that are sent at once, the oldest jobs first."""
VISIBLE: Final = 3600
"""Seconds after which Redis hands out again what nobody has confirmed: far above any lease."""
LONGEST: Final = 1200
"""Seconds after which Celery kills the process that a job is in; a third of RabbitMQ's patience is
what jobs keep to by themselves."""
BEAT: Final = 30
"""Seconds between heartbeats of a connection to RabbitMQ."""

log = logging.getLogger(__name__)


def is_configured(settings: Settings) -> bool:
    """Whether there is a broker."""
    return bool(settings.broker_url or settings.redis_url)


def queue_of(kind: str) -> str:
    """The queue in which the wake-ups for jobs of a kind wait."""
    return f"wordmill.jobs.{kind}"


def make_app(settings: Settings, kinds: Collection[str]) -> "Celery":
    """The Celery application. Raises ConfigError without a broker, ExtraMissing."""
    address = settings.broker_url or settings.redis_url
    if not address:
        raise ConfigError(
            "There is no broker for jobs: set WORDMILL_BROKER_URL (RabbitMQ) or WORDMILL_REDIS_URL."
        )
    try:
        from celery import Celery
        from kombu import entity
    except ModuleNotFoundError as error:
        raise ExtraMissing("Celery", "scale") from error
    declared: Any = entity.Queue  # without types
    app = Celery("wordmill", broker=address, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        result_accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_queues=[declared(queue_of(kind), durable=True) for kind in kinds],
        task_default_queue=queue_of(next(iter(kinds))),
        task_create_missing_queues=False,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        task_reject_on_worker_lost=True,
        task_time_limit=LONGEST,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_proc_alive_timeout=60,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=BEAT,
        broker_transport_options=_options(address),
    )
    return app


def _options(address: str) -> dict[str, Any]:
    if address.startswith("amqp"):
        return {"confirm_publish": True}
    return {
        "visibility_timeout": VISIBLE,
        "socket_connect_timeout": 10,
        "socket_keepalive": True,
        "health_check_interval": 30,
    }


class Announced(Queue):
    """Jobs that workers elsewhere take: what is put is announced, and what was missed once more.

    kinds: the jobs that such workers do.  Raises ExtraMissing.
    """

    def __init__(self, jobs: Jobs, settings: Settings, kinds: Sequence[str]) -> None:
        if find_spec("celery") is None:  # importing it takes a second, and may not be needed
            raise ExtraMissing("Celery", "scale")
        self._stores, self._settings, self._kinds = [jobs], settings, tuple(kinds)
        self._woken, self._closed = threading.Event(), threading.Event()
        self._told: set[str] = set()
        self._free_at = 0.0
        self._thread = threading.Thread(target=self._run, name="wordmill-announce", daemon=True)

    def start(self) -> None:
        """Begin to announce jobs. Harmless when repeated."""
        if self._thread.ident is None:
            self._thread.start()

    def serve(self, jobs: Jobs) -> None:
        """Announce these too."""
        self._stores.append(jobs)
        self.wake()

    @property
    def alive(self) -> bool:
        """Whether it announces. The broker may be away all the same: it is tried again."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Announce what was put, now; begin to announce, if that was not done."""
        self._woken.set()
        self.start()

    def ask(self, job: str) -> None:
        """Nothing: whoever works on a job looks every second whether its end is wanted."""

    def stop(self, grace: float) -> None:
        """Announce no more. Nobody's work is ended by it."""
        self._closed.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(grace)

    def _run(self) -> None:
        self._app = make_app(self._settings, self._kinds)
        quiet = False
        while True:
            woken = self._woken.wait(LOOK)
            self._woken.clear()
            closed = self._closed.is_set()  # then one look more: what was put last is told too
            try:
                self._look(fresh=woken)
                quiet = False
            except WordmillError as error:
                # Once for each time that the broker goes away, and not every second.
                log.log(logging.DEBUG if quiet else logging.WARNING, "%s", error)
                quiet = True
                self._woken.set()
                self._closed.wait(LOOK)
            if closed:
                return

    def _look(self, *, fresh: bool) -> None:
        freeing = time.monotonic() >= self._free_at
        if freeing:
            self._free_at = time.monotonic() + LOST
        for jobs in self._stores:
            if freeing:
                jobs.reclaim(worker_name(), self._kinds)
            if fresh:
                waiting = jobs.left(self._kinds, 0.0, MOST)
                new = [job for job in waiting if job.id not in self._told]
                self._announce((job.kind, job.id) for job in new)
                self._told = {job.id for job in waiting}
            missed = [(job.kind, job.id) for job in jobs.left(self._kinds, LOST, MOST)]
            for kind in {kind for kind, _ in missed}:
                self._again(kind, [job for job in missed if job[0] == kind])

    def _again(self, kind: str, missed: Sequence[tuple[str, str]]) -> None:
        """Announce what waits, unless the broker still holds messages: then all are only busy."""
        with _connected(self._app) as connection:
            if _held(self._app, connection, kind) == 0:
                self._announce(missed)

    def _announce(self, jobs: Iterable[tuple[str, str]]) -> None:
        jobs = list(jobs)
        if not jobs:
            return
        with _connected(self._app) as connection:
            producer = self._app.amqp.Producer(connection)
            for kind, job in jobs:
                self._app.send_task(
                    TASK, args=[job], queue=queue_of(kind), producer=producer,
                    retry=False, ignore_result=True,
                )  # fmt: skip


@contextmanager
def _connected(app: "Celery") -> Iterator[Any]:
    """A connection to the broker. Raises StorageError for what goes wrong with it."""
    from kombu.exceptions import KombuError

    connection = app.connection_for_write()
    try:
        with connection:
            # No longer than a look: without a broker there is nothing to wait for.
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
            yield connection
    except (KombuError, *connection.connection_errors, *connection.channel_errors) as error:
        raise StorageError(
            f"The broker {connection.as_uri()} cannot be reached ({type(error).__name__}); jobs "
            "wait in the database and are announced when it is back."
        ) from error


def _held(app: "Celery", connection: Any, kind: str) -> int:
    """Messages that wait in the queue of a kind; 0 where there is no such queue."""
    queue = app.amqp.queues[queue_of(kind)]
    with connection.channel() as channel:
        try:
            return int(queue(channel).queue_declare(passive=True).message_count)
        except connection.channel_errors:
            return 0
