"""Queues, workers and dead letters, for whoever looks at them or acts on them."""

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from wordmill.batches.batches import Batches
from wordmill.batches.outbox import DeadBlock, Outbox, Seen
from wordmill.batches.plan import scaled_out
from wordmill.batches.types import Batch
from wordmill.database import Database
from wordmill.errors import BrokerError, Conflict
from wordmill.queues.rabbitmq import DEAD, Broker
from wordmill.settings import Settings


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue. blocks: open ones in it, by the database.  waiting, consumers: by the broker; None
    where there is no such queue now, or the broker does not answer.
    """

    name: str
    blocks: int
    waiting: int | None
    consumers: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """All queues and all workers. trouble: what is wrong, a sentence; "" where nothing is."""

    queues: Sequence[Queue]
    workers: Sequence[Seen]
    trouble: str = ""


class Queues:
    """What is known of them. Safe from any thread. Raises StorageError."""

    def __init__(self, database: Database, settings: Settings, batches: Batches) -> None:
        self._settings, self._batches = settings, batches
        self._outbox = Outbox(database)
        self._lock = threading.Lock()

    def standing(self) -> Standing:
        """How they stand. Without a broker there are no queues."""
        workers = self._outbox.workers()
        if not scaled_out(self._settings):
            return Standing((), workers)
        blocks = {**self._outbox.queues(), DEAD: 0}
        try:
            with self._lock, closing(Broker(self._settings)) as broker:
                depths = {name: broker.depth(name) for name in blocks}
        except BrokerError as error:
            queues = [Queue(name, number, None, None) for name, number in blocks.items()]
            return Standing(queues, workers, str(error))
        queues = [
            Queue(name, blocks[name], depth and depth.waiting, depth and depth.consumers)
            for name, depth in depths.items()
        ]
        return Standing(queues, workers)

    def dead(self, owner: str, batch: str) -> list[DeadBlock]:
        """The blocks of a batch that were given up, with the reasons. Raises NotFound."""
        self._batches.get(owner, batch)
        return self._outbox.dead(batch)

    def replay(self, owner: str, batch: str, blocks: Sequence[int] | None = None) -> Batch:
        """Let blocks that were given up be tried again: these, or all.

        Raises NotFound, Conflict where the batch has ended or no such block was given up.
        """
        found = self._batches.get(owner, batch)
        if found.ended:
            raise Conflict(f"The batch {batch} is {found.state}: nothing of it is tried again.")
        if not (number := self._outbox.replay(batch, blocks)):
            raise Conflict(f"No such block of the batch {batch} was given up.")
        self._batches.note(batch, "dead", f"{number} blocks are tried again.")
        return found
