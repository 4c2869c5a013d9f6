"""One model that people ask: its queue, its worker, and how the two come together.

A request enters with a `Ticket`. When its turn has come and a slot is free, the ticket is granted
the worker, and whoever holds it sends the request there. All of it happens in the event loop.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wordmill.model_server.fairness import FairQueue
from wordmill.model_server.process import Process
from wordmill.model_server.types import Described, Place, State

TRIES: Final = 2
"""How often a request is given to a worker: it may have been the one that ended the first."""
WEIGHT: Final = 0.2
"""Of the newest in a running mean."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server keeps to; the settings `local_*` say it.

    memory: bytes of all models together.  idle: seconds after which an unused one is unloaded, None
    for never.  waiting: requests that wait for a model; waiting_each, at_once_each: of one person.
    load: seconds that loading may take.  patience: seconds that a model waits for another that is
    in use to make room.  drain: seconds that answers have to end where their worker is replaced.
    hang: seconds without a word after which a worker is ended.  backoff: seconds until the first
    restart.
    """

    memory: int
    idle: float | None = 900.0
    waiting: int = 2048
    waiting_each: int = 512
    at_once_each: int | None = None
    load: float = 600.0
    patience: float = 10.0
    drain: float = 600.0
    hang: float = 120.0
    backoff: float = 0.5


class Refused(Exception):
    """A request that waited will not be answered. `status` is HTTP's; `again`: seconds until it is
    worth another try, None for never.
    """

    def __init__(self, message: str, status: int = 503, again: float | None = 5.0) -> None:
        super().__init__(message)
        self.message, self.status, self.again = message, status, again


def ending() -> Refused:
    """What is said to all while the server ends."""
    return Refused("The model server ends.", 503, 10.0)


@dataclass(eq=False)
class Ticket:
    """A request's place in the queue. `name`: by which it is asked for, "" for none.  answers: how
    many it asks for, each of which takes a slot.
    """

    person: str
    name: str
    answers: int
    granted: "asyncio.Future[Process]"
    arrived: float = field(default_factory=time.monotonic)
    tries: int = 0
    taken: float = 0.0


class Served:
    """A model with those who wait for it. need: called when somebody waits and nothing is there."""

    def __init__(self, name: str, limits: Limits, need: Callable[["Served"], None]) -> None:
        self.name, self._need = name, need
        self.queue: FairQueue[Ticket] = FairQueue(
            limits.waiting, limits.waiting_each, limits.at_once_each, lambda one: one.answers
        )
        self.worker: Process | None = None
        self.draining: set[Process] = set()
        """Workers that were replaced and still answer."""
        self.loading: asyncio.Task[None] | None = None
        self.started = 0.0
        """When loading began; 0 where nothing loads."""
        self.held = False
        """Whether nothing is handed out, because the worker is about to end."""
        self.closed = False
        """The server ends: nobody is answered any more."""
        self.asked = False
        """Somebody wants it loaded, even if nobody waits."""
        self.pinned: bool | None = None
        """As somebody said meanwhile; None: as it is described."""
        self.followed: Path | None = None
        """Other files for which it was replaced by itself, or could not be."""
        self.trouble: str | None = None
        self.failures = 0
        self.again = 0.0
        """When it may be started next (monotonic)."""
        self.shut = 0.0
        """Until when requests are refused, because it could not be loaded (monotonic)."""
        self.used = time.monotonic()
        self.load_seconds: float | None = None
        self.answer_seconds: float | None = None
        self.changed = asyncio.Event()
        """Set when an answer ended."""

    @property
    def state(self) -> State:
        """What it is doing."""
        if self.worker is not None:
            return "swapping" if self.started else "ready"
        if self.started:
            return "loading"
        if self.loading is not None:
            return "waiting"
        return "failed" if self.trouble else "unloaded"

    @property
    def described(self) -> Described | None:
        """What is loaded."""
        return None if self.worker is None else self.worker.model

    @property
    def pin(self) -> bool:
        """Whether it is never unloaded for another, nor when it is idle."""
        if self.pinned is not None:
            return self.pinned
        return self.described is not None and self.described.pinned

    @property
    def processes(self) -> list[Process]:
        """All of its workers."""
        return [*self.draining, *([self.worker] if self.worker else [])]

    @property
    def running(self) -> int:
        """Answers under way."""
        return sum(one.running for one in self.processes)

    @property
    def busy(self) -> bool:
        """Whether anybody is answered or waits."""
        return bool(self.running or len(self.queue))

    def enter(self, person: str, name: str = "", answers: int = 1) -> Ticket:
        """Stand in the queue. Raises QueueFull."""
        ticket = Ticket(person, name, answers, asyncio.get_running_loop().create_future())
        self.queue.add(person, ticket)
        self.used = time.monotonic()
        self._need(self)
        self.pump()
        return ticket

    def pump(self) -> None:
        """Hand free slots to those whose turn it is."""
        worker = self.worker
        if worker is None or worker.ended or worker.ending or self.held:
            return
        while worker.running < worker.slots:
            ticket = self.queue.take()
            if ticket is None:
                return
            # One that asks for more answers than slots are free goes all the same, and waits there.
            worker.running += ticket.answers
            ticket.tries += 1
            ticket.taken = time.monotonic()
            ticket.granted.set_result(worker)

    def leave(self, ticket: Ticket) -> None:
        """The holder of a ticket wants nothing more: answered, or gone."""
        if not ticket.granted.done() or ticket.granted.cancelled() or ticket.granted.exception():
            self.queue.remove(ticket.person, ticket)
        else:
            self.queue.release(ticket.person, ticket)
            ticket.granted.result().running -= ticket.answers
        self._freed()

    def once_more(self, ticket: Ticket) -> bool:
        """Its worker was lost: back into the queue, the person's first; False when it has been
        tried often enough.
        """
        if ticket.tries >= TRIES:
            return False
        ticket.granted.result().running -= ticket.answers
        ticket.granted = asyncio.get_running_loop().create_future()
        self.queue.again(ticket.person, ticket)
        self._need(self)
        self._freed()
        return True

    def answered(self, seconds: float) -> None:
        """An answer took so long, from its slot to its end."""
        self.answer_seconds = _mean(self.answer_seconds, seconds)

    def ready(self, worker: Process, seconds: float) -> None:
        """A worker has come up; it took so long. The one before is drained."""
        if self.worker is not None:
            self.draining.add(self.worker)
        self.worker, self.held, self.trouble = worker, False, None
        self.load_seconds = _mean(self.load_seconds, seconds)
        self.used = time.monotonic()
        self.pump()

    def refuse(self, why: Refused) -> None:
        """Nobody who waits will be answered."""
        for ticket in self.queue.all():
            self.queue.remove(ticket.person, ticket)
            if not ticket.granted.done():
                ticket.granted.set_exception(why)

    def place(self, ticket: Ticket) -> Place | None:
        """Where a ticket stands; None once it is granted."""
        place = self.queue.place(ticket)
        if place is None:
            return None
        seconds: float | None = 0.0
        if self.worker is None or self.held:
            seconds = self._until_loaded()
            slots = 0 if self.worker is None else self.worker.slots
            place_in_line = max(0, place - max(1, slots))
        else:
            slots, place_in_line = self.worker.slots, place
        if seconds is not None and place_in_line:
            each = self.answer_seconds
            seconds = None if each is None else seconds + each * place_in_line / max(1, slots)
        return Place(place, seconds, self.state)

    def _until_loaded(self) -> float | None:
        if self.load_seconds is None:
            return None
        gone = time.monotonic() - self.started if self.started else 0.0
        return max(1.0, self.load_seconds - gone)

    def _freed(self) -> None:
        self.used = time.monotonic()
        self.changed.set()
        self.pump()


def _mean(before: float | None, now: float) -> float:
    return now if before is None else before + WEIGHT * (now - before)
