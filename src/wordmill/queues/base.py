"""What every queue promises: that work which was put is done, once at a time, and can be ended.

A queue hands each job to the handler of its kind. Jobs are rows of the database whatever carries
them, so a queue is only the way by which a worker hears of them.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from wordmill.jobs import Jobs, Leased


class Work:
    """A leased job and whether to go on with it. A handler asks `stop` now and then."""

    def __init__(self, lease: Leased) -> None:
        self.lease, self.job = lease, lease.job
        self._stop = threading.Event()
        self.lost = False
        """Another worker has the job: what is written from now on is refused."""
        self.closing = False
        """This process ends: give the job back rather than end it."""
        self.since = time.monotonic()
        self.wanted = False
        """Another job waits for this one's place: give it back where that costs little."""
        self.given_back = False

    @property
    def stop(self) -> bool:
        """Whether to end soon: somebody asked for it, or the job is another's."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait, at most that long, for `stop`."""
        return self._stop.wait(seconds)

    def give_back(self) -> None:
        """The job is not done when its handler returns now: it goes on later."""
        self.given_back = True

    def end(self) -> None:
        """Make `stop` true."""
        self._stop.set()


Handler: TypeAlias = Callable[[Work], None]
"""Does a job. When it returns, the job is finished; an exception is its failure."""


class Queue(ABC):
    """Workers for some kinds of jobs."""

    @abstractmethod
    def start(self) -> None:
        """Begin to work."""

    @abstractmethod
    def serve(self, jobs: Jobs) -> None:
        """Work on these jobs too, with the same handlers."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it is at work."""

    @abstractmethod
    def wake(self) -> None:
        """Look now: there may be work."""

    @abstractmethod
    def ask(self, job: str) -> None:
        """Tell a job that is worked on here at once that somebody wants its end."""

    @abstractmethod
    def stop(self, grace: float) -> None:
        """Take no more; jobs at work are given back, and have `grace` seconds to notice."""
