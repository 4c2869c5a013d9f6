"""The conductor of batches that consumers answer: publishes blocks, retakes them, ends batches.

A thread in each process that serves; one of them leads, by a lock that PostgreSQL holds for as
long as its connection lives. All it knows is in the table of blocks (`outbox`), and each of its
steps may be done twice, so another one goes on where the last one was killed.

Of each batch only some blocks are published at a time (WINDOW): a batch of a million lines stands
in a queue beside one of ten, not before it. What the broker has not confirmed is not published.

While the broker or the database is away it tries again, says so once in the log and all the time
in `trouble`; the batches wait.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Final

from wordmill.batches.batches import Batches
from wordmill.batches.leader import Leader
from wordmill.batches.outbox import Outbox, UnderWay
from wordmill.batches.types import Counts, State
from wordmill.database import Database
from wordmill.errors import BrokerError, WordmillError
from wordmill.queues.rabbitmq import DEAD, Broker, Letter
from wordmill.settings import Settings

WINDOW: Final = 16
"""Blocks of a batch that are published and not done."""
WIDE: Final = 256
"""The same of a batch whose lines are sent no more."""
ATTEMPTS: Final = 5
"""How often a block may have been taken before it is given up."""
LOOK: Final = 0.5
"""Seconds between looks while nothing is under way."""
BUSY: Final = 0.1
"""The same while something is."""
COUNT: Final = 0.5
"""Seconds between sums of a batch."""
SWEEP: Final = 2.0
"""Seconds between looks for what was lost."""
GONE: Final = 2.0
"""Seconds after which a block in a queue that is gone counts as lost."""
UNTAKEN: Final = 30.0
"""Seconds after which a block in a queue that is empty counts as lost."""
LONG_AGO: Final = 1800.0
"""Seconds after which a block that nobody took counts as lost, whatever its queue holds."""
IDLE: Final = 60.0
"""Seconds that a queue without open blocks stays."""
PATIENCE: Final = 10.0
"""Seconds that the broker may take nothing before it is said."""
LONGEST: Final = 8.0
"""Seconds between tries, at most, while something is away."""

log = logging.getLogger(__name__)


class Conductor:
    """See the module. `start` it, and `stop` it at the end."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        batches: Batches,
        kept: Callable[[str], None] = lambda batch: None,
    ) -> None:
        """kept: told when there are new results of a batch."""
        self.outbox = Outbox(database)
        self._settings, self._batches, self._kept = settings, batches, kept
        self._leader = Leader(database)
        self._closed, self._woken = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._trouble: dict[str, str] = {}
        self._brokers: tuple[Broker, Broker] | None = None
        self._broker_again, self._broker_pause = 0.0, 0.25
        self._sums: dict[str, _Sum] = {}
        self._told: set[tuple[str, int]] = set()
        self._revived: set[str] = set()
        self._swept = 0.0
        self._idle: dict[str, float] = {}
        self._looked_back = False
        self._silent = 0
        self._thread = threading.Thread(target=self._run, name="wordmill-conductor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, grace: float = 5.0) -> None:
        """End; another process leads from then on."""
        self._closed.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(grace)

    def wake(self) -> None:
        """Look now: there may be something to publish."""
        self._woken.set()

    @property
    def alive(self) -> bool:
        """Whether it is at its place."""
        return self._thread.is_alive()

    @property
    def leads(self) -> bool:
        """Whether this is the one."""
        return self._leader.leads

    def trouble(self) -> str | None:
        """What is wrong, in words; None where nothing is, or another one leads."""
        with self._lock:
            found = list(self._trouble.values())
        for broker in self._brokers or ():
            since = broker.blocked
            if since is not None and time.monotonic() - since > PATIENCE:
                gone = time.monotonic() - since
                found.append(
                    f"RabbitMQ has taken nothing for {gone:.0f} s, for want of memory or disk: "
                    "blocks wait until it has some again."
                )
                break
        return " ".join(found) or None

    # The thread

    def _run(self) -> None:
        try:
            self._conduct()
        finally:
            self._let_go()
            self._leader.resign()

    def _conduct(self) -> None:
        pause = LOOK
        while not self._closed.is_set():
            self._woken.clear()
            try:
                busy = self._leader.lead() and self._turn()
                self._well("database")
                pause = BUSY if busy else LOOK
            except WordmillError as error:
                self._bad("database", str(error))
                pause = min(LONGEST, pause * 2)
            self._woken.wait(pause)

    def _turn(self) -> bool:
        """All that is to be done now; whether there is more soon."""
        if time.monotonic() - self._swept > SWEEP:
            self._swept = time.monotonic()
            if lost := self.outbox.sweep():
                log.warning("%d blocks whose consumer was lost are published again", lost)
            self._look_after_queues()
        under_way = self.outbox.under_way()
        for one in under_way:
            self._each(one)
        for name in set(self._sums) - {one.id for one in under_way}:
            del self._sums[name]
        self._deliver(under_way)
        return bool(under_way)

    def _each(self, one: UnderWay) -> None:
        """What a batch needs beside its messages; a fault in one leaves the others alone."""
        try:
            if one.dead:
                self._tell(one)
            self._count(one)
            if one.left == 0:
                self._finish(one)
            elif one.dead and one.abandoned:
                self._revive(one)
            self._well(one.id)
        except (WordmillError, OSError) as error:
            if self._bad(one.id, f"The batch {one.id} cannot be looked after: {error}"):
                self._batches.note(one.id, "log", str(error))

    def _count(self, one: UnderWay) -> None:
        held = self._sums.setdefault(one.id, _Sum())
        if time.monotonic() - held.at < COUNT and one.left:
            return
        if held.take(self.outbox.ended(one.id, held.since)):
            self._kept(one.id)
        batch = self._batches.find(one.id)
        if batch is None:
            return
        counts = held.counts
        for begun in self.outbox.begun(one.id):
            counts = counts.plus(begun)
        counts = Counts(**{**asdict(counts), "total": batch.counts.total})
        if counts != batch.counts:
            self._batches.count(one.id, counts)
            self._batches.note(
                one.id, "metrics", done=counts.completed + counts.failed, failed=counts.failed,
                completed=counts.completed, tokens=counts.input_tokens + counts.output_tokens,
                money=counts.money, retried=counts.retried,
            )  # fmt: skip
        held.at = time.monotonic()

    def _finish(self, one: UnderWay) -> None:
        """All its blocks are done: make its files, and let it end."""
        batch = self._batches.find(one.id)
        if batch is None or batch.ended:
            return
        cancelled = "cancelling" in batch.times
        self._batches.move(batch.id, "finalizing")
        counts = self._batches.summed(batch.id)
        output, failures = self._batches.publish(batch, counts)
        state: State = "completed"
        if cancelled and "batch_cancelled" in counts.causes:
            state = "cancelled"
        elif "batch_expired" in counts.causes:
            state = "expired"
        self._batches.move(batch.id, state, counts=asdict(counts), output=output, failures=failures)
        self._kept(batch.id)

    # What was given up

    def _tell(self, one: UnderWay) -> None:
        for block in self.outbox.dead(one.id):
            if (one.id, block.number) in self._told:
                continue
            self._told.add((one.id, block.number))
            words = (
                f"The block {block.number} ({block.lines} lines from line {block.first}) was given "
                f"up after {block.attempts} attempts: {block.reason}"
            )
            log.error("batch %s: %s", one.id, words)
            self._batches.note(one.id, "dead", words, block=block.number)

    def _revive(self, one: UnderWay) -> None:
        """The batch ends before its time: consumers close what was given up without sending it.

        What is given up even so ends the batch with its reason.
        """
        if one.id not in self._revived:
            self._revived.add(one.id)
            self.outbox.replay(one.id)
            return
        if one.left > one.dead:
            return
        reason = self.outbox.dead(one.id)[0].reason
        words = f"{one.dead} blocks can be neither answered nor closed: {reason}"
        told = {"code": "stopped", "message": words, "line": None, "param": None}
        self._batches.move(one.id, "failed", errors=[told])

    # The broker

    def _deliver(self, under_way: list[UnderWay]) -> None:
        brokers = self._connected()
        if brokers is None:
            return
        publisher, keeper = brokers
        try:
            for one in under_way:
                if one.due:
                    self._publish(publisher, one)
            publisher.beat()
            keeper.beat()
            self._look_for_dead(keeper)
            self._well("broker")
        except BrokerError as error:
            self._bad("broker", str(error))
            self._let_go()

    def _look_for_dead(self, keeper: Broker) -> None:
        try:
            if self._silent > 1:
                self._silent = 0
                keeper.remove(DEAD)
            keeper.bury(self._bury)
            self._silent = 0
        except BrokerError as error:
            self._silent += isinstance(error.__cause__, TimeoutError)
            raise

    def _publish(self, publisher: Broker, one: UnderWay) -> None:
        room = (WIDE if one.abandoned else WINDOW) - one.out
        if room <= 0 or publisher.blocked is not None:
            return
        by_queue = defaultdict(list)
        for due in self.outbox.due(one.id, room):
            by_queue[due.queue].append(due)
        for queue, blocks in by_queue.items():
            letters = [Letter(block.batch, block.number) for block in blocks]
            confirmed = publisher.publish(queue, letters)
            good = [block for block, there in zip(blocks, confirmed, strict=True) if there]
            if good:
                self.outbox.published(good)
            elif publisher.blocked is None:
                self._make_anew(queue)

    def _make_anew(self, queue: str) -> None:
        """A queue that takes nothing. One that was young when its broker was killed never does
        again; what was in it is published once more.
        """
        if self._brokers is None:
            return
        log.warning("The queue %s takes nothing: it is made anew.", queue)
        self._brokers[1].remove(queue)
        self.outbox.again(queue, 0.0)

    def _bury(self, letter: Letter) -> None:
        """A message died: of its block's attempts, or of its neighbours'."""
        attempts = self.outbox.attempts(letter.batch, letter.block)
        if attempts is None:
            return
        if attempts < ATTEMPTS:
            self.outbox.innocent(letter.batch, letter.block)
            return
        why = {"delivery_limit": "its message came back too often"}.get(letter.why, letter.why)
        words = f"Each of {attempts} consumers that took it ended or gave it back ({why})."
        self.outbox.give_up(letter.batch, letter.block, words)

    def _look_after_queues(self) -> None:
        """Publish again what the broker has lost, and remove queues that nobody needs."""
        brokers = self._connected()
        if brokers is None:
            return
        keeper = brokers[1]
        try:
            depths = {queue: keeper.depth(queue) for queue in self.outbox.untaken(GONE)}
            for queue, depth in depths.items():
                if depth is None:
                    self._say_lost(queue, self.outbox.again(queue, GONE))
                elif depth.waiting == 0:
                    self._say_lost(queue, self.outbox.again(queue, UNTAKEN))
            for queue in self.outbox.untaken(LONG_AGO):
                self._say_lost(queue, self.outbox.again(queue, LONG_AGO))
            self._remove_empty(keeper)
        except BrokerError as error:
            self._bad("broker", str(error))
            self._let_go()

    def _compare(self, keeper: Broker) -> None:
        """What a broker that was away should have, and has not, is published again.

        One that is killed forgets queues that are younger than its log, with all that is in them;
        and whoever comes first makes them anew.
        """
        for queue, number in self.outbox.untaken(0.0).items():
            depth = keeper.depth(queue)
            if depth is None or depth.waiting < number:
                self._say_lost(queue, self.outbox.again(queue, 0.0))

    def _say_lost(self, queue: str, number: int) -> None:
        if number:
            log.warning("%d blocks that nobody took out of %s are published again", number, queue)

    def _remove_empty(self, keeper: Broker) -> None:
        open_ones = self.outbox.queues()
        known = set(self._idle) | set(open_ones)
        if not self._looked_back:  # queues that were left when another one led
            known |= set(self.outbox.queues(all_of_them=True))
            self._looked_back = True
        for queue in known:
            if queue in open_ones:
                self._idle[queue] = time.monotonic()
            elif time.monotonic() - self._idle.setdefault(queue, time.monotonic()) > IDLE:
                depth = keeper.depth(queue)
                if depth is not None and depth.consumers:
                    continue
                if depth is not None:
                    keeper.remove(queue)
                del self._idle[queue]

    def _connected(self) -> tuple[Broker, Broker] | None:
        """One to publish by, which may be held up, and one for the rest; None while it is away."""
        if self._brokers is None and time.monotonic() >= self._broker_again:
            try:
                publisher = Broker(self._settings)
                try:
                    keeper = Broker(self._settings)
                except WordmillError:
                    publisher.close()
                    raise
                self._brokers = (publisher, keeper)
                self._compare(keeper)
                self._broker_pause = 0.25
            except BrokerError as error:
                self._let_go()
                self._bad("broker", str(error))
                self._broker_pause = min(LONGEST, self._broker_pause * 2)
                self._broker_again = time.monotonic() + self._broker_pause
        return self._brokers

    def _let_go(self) -> None:
        brokers, self._brokers = self._brokers, None
        for broker in brokers or ():
            broker.close()

    def _bad(self, what: str, words: str) -> bool:
        """Note a trouble; whether it is new."""
        with self._lock:
            known = self._trouble.get(what)
            self._trouble[what] = words
        if known is None:
            log.error("%s", words)
        return known is None

    def _well(self, what: str) -> None:
        with self._lock:
            known = self._trouble.pop(what, None)
        if known is not None:
            log.warning("The %s is well again.", what)


class _Sum:
    """What became of the lines of the blocks of a batch that are done, added as they come."""

    def __init__(self) -> None:
        self.at, self.counts = 0.0, Counts()
        self.since: datetime | None = None
        self._seen: set[int] = set()

    def take(self, ended: list[tuple[int, Counts, datetime]]) -> bool:
        """Whether there were new ones among them."""
        new = False
        for number, counts, at in ended:
            if number in self._seen:
                continue
            new = True
            self._seen.add(number)
            self.counts = self.counts.plus(counts)
            self.since = at if self.since is None else max(self.since, at)
        return new
