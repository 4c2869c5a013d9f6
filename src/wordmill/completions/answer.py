"""An answer that is on its way: its pieces as they come, its record at the end."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from wordmill._engine import Batch, EngineFault, Stream
from wordmill.completions.lanes import Lane
from wordmill.errors import EngineError
from wordmill.providers.base import Place
from wordmill.types import Reply, Usage

Json: TypeAlias = Mapping[str, Any]

DRAIN: Final = 1.0
"""Seconds that the record of a cancelled answer may take."""


class Delta(NamedTuple):
    """What has come since the last one."""

    text: str = ""
    reasoning: str = ""


class Answer:
    """Iterate it for the pieces; then `reply` and `body` are there. Used by one thread at a time.

    begin: sends the request, and says what it was; called again when the server refuses something
        it can go without.
    again: what to do about a refusal, in the server's words; whether to ask again.
    counted: a reply with what it used, from the number of characters that came.
    close: called once, at the end, with the reply; also when it is thrown away.
    place: asks where the request stands, while it waits at a server that says so.
    """

    def __init__(
        self,
        lane: Lane,
        begin: Callable[[], tuple[Stream, Json]],
        again: Callable[[str], str | None],
        counted: Callable[[Reply, int], Reply],
        close: Callable[["Answer"], None],
        place: Callable[[], Place | None] = lambda: None,
    ) -> None:
        self.lane = lane
        self._begin, self._again, self._counted = begin, again, counted
        self._close = close
        self.place = place
        self._cancelled = self._closed = False
        self._length, self._ended = 0, 0.0
        self.started = time.monotonic()
        self.first: float | None = None
        """Seconds until the first piece."""
        self.degraded: list[str] = []
        """Sentences on what the server refused and got without."""
        self.reply: Reply | None = None
        self.body: Json | None = None
        """The whole reply as the server sent it, where it is more than a text."""
        self.stream, self.sent = begin()
        """`sent`: the request as the model's server has it."""

    def __iter__(self) -> Iterator[Delta]:
        """The pieces, as they come; an empty one at least once a second, to look up."""
        try:
            while True:
                delta, ended = self.next(1.0)
                if ended:
                    return
                yield delta
        finally:
            self.close()

    def next(self, timeout: float) -> tuple[Delta, bool]:
        """What has come, waiting up to `timeout` seconds for it; whether that was the end.

        Whoever calls this closes the answer afterwards; iterating does that by itself.
        """
        try:
            piece = self.stream.next(timeout)
        except EngineFault as fault:
            raise EngineError(f"The engine ended: {fault}") from fault
        reasoning = self.stream.next_reasoning()
        self._length += len(piece or "") + len(reasoning)
        if self.first is None and (piece or reasoning):
            self.first = time.monotonic() - self.started
        if piece is not None:
            return Delta(piece, reasoning), False
        if reasoning:
            return Delta("", reasoning), False
        record = self.stream.record()
        if record is None:
            return Delta(), False
        reply = reply_of(record)
        if reply.error == "rejected" and not self._cancelled:
            words = self._again(reply.detail)
            if words is not None:
                if words:
                    self.degraded.append(words)
                self.stream, self.sent = self._begin()
                return Delta(), False
        self.reply = self._counted(reply, self._length)
        body = record.bodies[0]
        self.body = json.loads(body) if body else None
        return Delta(), True

    @property
    def seconds(self) -> float:
        """Since it was begun, until it was closed."""
        return (self._ended or time.monotonic()) - self.started

    @property
    def tells(self) -> bool:
        """Whether `notes` may have something to say."""
        return any(provider.tells for provider in self.lane.providers.values())

    def notes(self) -> tuple[str, ...]:
        """Sentences on what the server makes of the request that its writer may not expect.

        For an answer of which something has come. May ask the server: not for an event loop.
        """
        answered = self.lane.model if self.reply is None else self.reply.model
        return self.lane.providers.get(answered, self.lane.provider).notes(self.sent)

    def cancel(self) -> None:
        """Close the connection to the server; what has come stays. From any thread."""
        self._cancelled = True
        self.stream.cancel()

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """It is no longer needed: cancelled when it has not ended. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        if self.reply is None:
            self.cancel()
            self._drain()
        self._ended = time.monotonic()
        self._close(self)

    def _drain(self) -> None:
        """Wait for the record of what was cancelled: it says what was used until then."""
        until = time.monotonic() + DRAIN
        try:
            while time.monotonic() < until:
                piece = self.stream.next(0.1)
                if piece is None:
                    if (record := self.stream.record()) is not None:
                        self.reply = self._counted(reply_of(record), self._length)
                    return
                self._length += len(piece)
        except EngineFault:
            return  # the engine was closed: there is no record


def reply_of(record: Batch) -> Reply:
    """The one outcome of a batch of one."""
    flags = record.flags[0]
    return Reply(
        text=record.texts[0],
        error=record.errors[0],
        detail=record.details[0],
        finish=record.finishes[0],
        model=record.models[0],
        usage=Usage(record.input_tokens[0], record.output_tokens[0], bool(flags & 8)),
        cost=record.costs[0],
        attempts=record.attempts[0],
        seconds=record.seconds[0],
        cached=bool(flags & 1),
        joined=bool(flags & 2),
        refusal=bool(flags & 16),
        digest=record.digests[0],
    )
