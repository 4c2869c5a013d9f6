"""RabbitMQ for blocks of batches: a queue for each lane and priority, and one for dead letters.

A message is a reference: the ids of a batch and of a block. The rows in PostgreSQL say what is to
be done and who does it, so a message that comes twice does nothing, and one that is lost is sent
again (`batches.conductor`).

A `Broker` is one connection of one thread. What it is told to publish it has published when the
call returns: written by most of the nodes, or raised. A broker that is short of memory stops
reading from whoever publishes and says so; `blocked` tells since when.

The consumer (engine/consumer) declares the same queues with the same arguments.
"""

import hashlib
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from wordmill.errors import BrokerError, ExtraMissing
from wordmill.settings import Settings

BLOCKS: Final = "wordmill.blocks."
PYTHON: Final = "wordmill.python."
DEAD: Final = "wordmill.dead"
DELIVERIES: Final = 50
"""How often a message may come back before it is a dead letter. Far above the attempts at a block,
which are counted in PostgreSQL: here the attempts of its neighbours count too."""
BEAT: Final = 15
"""Seconds between heartbeats."""
ANSWER: Final = 10.0
"""Seconds that the broker has for an answer."""
TAKEN: Final = 5.0
"""Seconds that it has to confirm what is published."""

NOT_FOUND: Final = 404
"""What RabbitMQ answers where there is no such queue."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")
_QUORUM: Final[Mapping[str, Any]] = {"x-queue-type": "quorum"}
_BLOCKS: Final[Mapping[str, Any]] = {
    **_QUORUM,
    "x-delivery-limit": DELIVERIES,
    "x-dead-letter-exchange": DEAD,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


log = logging.getLogger(__name__)


class Letter(NamedTuple):
    """A message: a block of a batch. `why`: the broker's word for its death."""

    batch: str
    block: int
    why: str = ""


class Depth(NamedTuple):
    """Of a queue: messages that wait, and who takes them."""

    waiting: int
    consumers: int


def queue_of(models: Mapping[str, int], priority: int, *, python: bool = False) -> str:
    """The queue for a block with lines for these models (and how many each).

    python: some of its lines need what only Python can do.
    """
    if python:
        return f"{PYTHON}{priority}"
    lane = max(sorted(models), key=lambda name: models[name]) if models else "none"
    if not _PLAIN.fullmatch(lane):
        mark = hashlib.sha256(lane.encode()).hexdigest()[:8]
        lane = re.sub(r"[^A-Za-z0-9_-]+", "-", lane)[:60].strip("-") + f"-{mark}"
    return f"{BLOCKS}{lane}.{priority}"


class Broker:
    """A connection. Used by one thread at a time; `blocked` may be read by any."""

    def __init__(self, settings: Settings) -> None:
        """Connect. Raises BrokerError, ExtraMissing."""
        try:
            from kombu import connection
        except ModuleNotFoundError as error:
            raise ExtraMissing("kombu", "scale") from error
        self.blocked: float | None = None
        """Since when (time.monotonic) the broker takes nothing, for want of memory or disk."""
        self._place = settings.shown("broker_url")
        made: Any = connection.Connection  # without types
        self._kombu: Any = made(
            settings.broker_url,
            connect_timeout=ANSWER,
            heartbeat=BEAT,
            transport_options={
                "read_timeout": ANSWER,
                "write_timeout": ANSWER,
                "on_blocked": self._on_blocked,
                "on_unblocked": self._on_unblocked,
                "client_properties": {"connection_name": f"wordmill on {socket.gethostname()}"},
            },
        )
        self._faults: tuple[type[BaseException], ...] = (
            OSError, *self._kombu.connection_errors, *self._kombu.channel_errors,
        )  # fmt: skip
        self._declared: set[str] = set()
        self._sent = 0
        self._open: set[int] = set()
        self._refused: set[int] = set()
        self._unrouted: set[str] = set()
        with self._said("let us in"):
            self._connection: Any = self._kombu.connect()
            self._channel: Any = self._connection.channel()
            self._channel.events["basic_ack"].add(self._on_ack)
            self._channel.events["basic_nack"].add(self._on_nack)
            self._channel.events["basic_return"].add(self._on_return)
            self._channel.confirm_select()

    def close(self) -> None:
        """Let go of the connection at once, whether the broker answers or not."""
        self._connection.collect()

    def beat(self) -> None:
        """Show that we live, and hear what the broker has to say. To be called each second.

        Raises BrokerError when the connection is gone.
        """
        with self._said("keep the connection"):
            self._connection.heartbeat_tick()
            self._hear(0.001)

    # Publishing

    def publish(self, queue: str, letters: Sequence[Letter], seconds: float = TAKEN) -> list[bool]:
        """Put these into a queue, which is made when it is not there.

        Of each, whether the broker has it for good; what is not confirmed may have come all the
        same. seconds: how long to wait for that. Raises BrokerError.
        """
        if self.blocked is not None:
            return [False] * len(letters)
        with self._said("take messages"):
            if queue not in self._declared:
                self._declare(queue)
            self._unrouted.discard(queue)
            first = self._sent + 1
            for letter in letters:
                self._send(queue, letter)
            until = time.monotonic() + seconds
            while self._open and self.blocked is None and time.monotonic() < until:
                self._hear(0.5)
        numbers = range(first, self._sent + 1)
        lost = self._open | self._refused
        self._refused.clear()
        if queue in self._unrouted:  # somebody removed it
            self._declared.discard(queue)
            return [False] * len(letters)
        return [number not in lost for number in numbers]

    def _send(self, queue: str, letter: Letter) -> None:
        body = json.dumps({"batch": letter.batch, "block": letter.block}, separators=(",", ":"))
        message = self._channel.prepare_message(
            body, content_type="application/json", content_encoding="utf-8",
            properties={"delivery_mode": 2},
        )  # fmt: skip
        self._sent += 1
        self._open.add(self._sent)
        self._channel.basic_publish(message, exchange="", routing_key=queue, mandatory=True)

    def _declare(self, queue: str) -> None:
        self._declare_dead()
        self._channel.queue_declare(queue, durable=True, auto_delete=False, arguments=_BLOCKS)
        self._declared.add(queue)

    def _declare_dead(self) -> None:
        if DEAD not in self._declared:
            self._channel.exchange_declare(DEAD, "fanout", durable=True, auto_delete=False)
            self._channel.queue_declare(DEAD, durable=True, auto_delete=False, arguments=_QUORUM)
            self._channel.queue_bind(DEAD, DEAD)
            self._declared.add(DEAD)

    # Looking

    def depth(self, queue: str) -> Depth | None:
        """How much waits in a queue, and who takes it; None where there is no such queue.

        Raises BrokerError.
        """
        with self._said(f"tell of the queue {queue}"):
            channel = self._connection.channel()  # it ends where there is no queue
            try:
                found = channel.queue_declare(queue, passive=True)
            except self._kombu.channel_errors as error:
                if getattr(error, "reply_code", 0) == NOT_FOUND:
                    return None
                raise
            channel.close()
            return Depth(found.message_count, found.consumer_count)

    def remove(self, queue: str) -> None:
        """Remove a queue with all that is in it. Raises BrokerError."""
        self._declared.discard(queue)
        with self._said(f"remove the queue {queue}"):
            self._channel.queue_delete(queue)

    def take(self, queue: str, handle: Callable[[Letter], None]) -> bool:
        """Hand out one message of a queue that is there; it is gone when `handle` returns.

        Whether there was one. Raises BrokerError, and what `handle` raises.
        """
        with self._said(f"hand out messages of {queue}"):
            message = self._channel.basic_get(queue)
            if message is None:
                return False
            letter = _letter(message)
            if letter is None:
                log.error("a message that was no block's was thrown away: it was in %s", queue)
            else:
                handle(letter)
            self._channel.basic_ack(message.delivery_tag)
            return True

    def bury(self, handle: Callable[[Letter], None], most: int = 100) -> int:
        """Hand out dead letters, at most so many; each is gone when `handle` returns.

        How many there were. Raises BrokerError, and what `handle` raises.
        """
        with self._said("hand out dead letters"):
            self._declare_dead()
            for number in range(most):
                message = self._channel.basic_get(DEAD)
                if message is None:
                    return number
                letter = _letter(message)
                if letter is None:
                    log.error("a message that was no block's was thrown away: it was in %s", DEAD)
                else:
                    handle(letter)
                self._channel.basic_ack(message.delivery_tag)
            return most

    def _hear(self, seconds: float) -> None:
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=seconds)

    def _on_ack(self, number: int, multiple: bool) -> None:
        self._open -= self._meant(number, multiple)

    def _on_nack(self, number: int, multiple: bool) -> None:
        these = self._meant(number, multiple)
        self._open -= these
        self._refused |= these

    def _meant(self, number: int, multiple: bool) -> set[int]:
        return {one for one in self._open if one == number or (multiple and one < number)}

    def _on_return(self, _error: object, _exchange: object, queue: str, _message: object) -> None:
        self._unrouted.add(queue)

    def _on_blocked(self, *_reason: object) -> None:
        self.blocked = time.monotonic()

    def _on_unblocked(self) -> None:
        self.blocked = None

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._faults as error:
            why = getattr(error, "reply_text", "") or str(error) or type(error).__name__
            raise BrokerError(f"RabbitMQ at {self._place} does not {what}: {why}") from error


def _letter(message: Any) -> Letter | None:
    """What a message says; None for one that is none of ours."""
    try:
        sent = json.loads(message.body)
        batch, block = sent["batch"], sent["block"]
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(batch, str) or not isinstance(block, int):
        return None
    deaths = (message.headers or {}).get("x-death") or [{}]
    return Letter(batch, block, str(deaths[0].get("reason", "")))
