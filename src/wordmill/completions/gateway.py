"""Streams for an event loop: many answers at once, and no thread for any of them.

The engine names the streams that have something new, and a file descriptor is readable while it
names some. One reader a lane takes the pieces and hands each to whoever waits for it.
"""

import asyncio
from collections.abc import AsyncIterator

from wordmill.completions.answer import Answer, Delta
from wordmill.completions.lanes import Lane


class Gateway:
    """The streams of one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], asyncio.Event] = {}
        self._readers: dict[int, Lane] = {}

    async def pieces(self, answer: Answer) -> AsyncIterator[Delta]:
        """What comes of an answer, as it comes. Leaving it closes the connection upstream."""
        lane = answer.lane
        self._listen(lane)
        try:
            while True:
                key = (lane.engine.stream_fileno(), answer.stream.id)
                event = self._waiting.setdefault(key, asyncio.Event())
                event.clear()
                delta, ended = answer.next(0.0)
                if ended:
                    return
                if delta.text or delta.reasoning:
                    yield delta
                    continue
                if answer.stream.id == key[1]:
                    await event.wait()
                self._waiting.pop(key, None)
        finally:
            self._waiting.pop((lane.engine.stream_fileno(), answer.stream.id), None)
            # The ledger is written, which may wait for others: not in the loop.
            await asyncio.shield(asyncio.to_thread(answer.close))

    def close(self) -> None:
        """Listen no more."""
        loop = asyncio.get_running_loop()
        for descriptor in self._readers:
            loop.remove_reader(descriptor)
        self._readers.clear()

    def _listen(self, lane: Lane) -> None:
        descriptor = lane.engine.stream_fileno()
        if self._readers.get(descriptor) is lane:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(descriptor)  # of an engine that was closed: its number is used again
        self._readers[descriptor] = lane
        loop.add_reader(descriptor, self._ready, descriptor, lane)

    def _ready(self, descriptor: int, lane: Lane) -> None:
        for name in lane.engine.ready():
            event = self._waiting.get((descriptor, name))
            if event is not None:
                event.set()
