"""Answers as they grow, for as many as want to look.

Whoever writes an answer publishes it here; watchers of the same process see each piece at once, and
those of another process find it in the database a little later. A watcher may come late, leave and
come back: it says how much it has and gets the rest.

An answer that calls tools goes on in another message, and its watchers go with it.

What a watcher does is written once, as a generator that says what it needs (a wait, a look into the
database). It is driven by a thread or by an event loop; the latter keeps no thread for it.
"""

import asyncio
import threading
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from wordmill.chat.types import Message, State
from wordmill.providers.base import Place

LOOK: Final = 0.3
"""Seconds between looks into the database, for what another process writes."""
LONGEST: Final = 1.0
"""The same after many looks at something that does not change."""
QUIET: Final = 15.0
"""Seconds after which an empty event says that the watcher is still heard."""


class Event(NamedTuple):
    """A piece of `message`. offset: characters of its text before it.  state: of it by now.

    waiting: where its request stands, while it waits at a model server for others.
    While an answer that called tools goes on in another message it is `answering`; the state
    `waiting`, when it is the last one, says that a call waits for the person's yes.
    """

    offset: int
    text: str
    reasoning: str
    state: State
    message: str = ""
    waiting: Place | None = None


class Wait(NamedTuple):
    """A watcher has nothing to do for so long, unless something comes."""

    seconds: float


class Store(NamedTuple):
    """How a watcher reads what the database has.

    message: by its id.  following: the message in which an answer goes on, or None.
    asks: whether a tool's message waits for a person's yes, and not for its turn alone.
    """

    message: Callable[[str], Message]
    following: Callable[[Message], Message | None]
    asks: Callable[[Message], bool]


class _Text:
    """A text that grows at its end and is read from any place on; joined only as it is read."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._starts: list[int] = []
        self.length = 0

    def add(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._starts.append(self.length)
            self.length += len(piece)

    def since(self, place: int) -> str:
        if place >= self.length:
            return ""
        first = bisect_right(self._starts, place) - 1
        rest = "".join(self._pieces[first:])
        return rest[place - self._starts[first] :]


@dataclass
class _Growing:
    stop: Callable[[], None]
    text: _Text = field(default_factory=_Text)
    reasoning: _Text = field(default_factory=_Text)
    waiting: Place | None = None


class Watching:
    """The answers that grow in this process. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._growing: dict[str, _Growing] = {}
        self._listening: dict[str, list[Callable[[], None]]] = {}

    # Who writes.

    def begin(self, message: str, stop: Callable[[], None]) -> None:
        """An answer begins to grow. stop: what ends it."""
        with self._lock:
            self._growing[message] = _Growing(stop)
        self._tell(message)

    def add(self, message: str, text: str, reasoning: str = "") -> None:
        """A piece of it has come."""
        with self._lock:
            growing = self._growing[message]
            growing.text.add(text)
            growing.reasoning.add(reasoning)
        self._tell(message)

    def waits(self, message: str, place: Place | None) -> None:
        """Its request waits for others, at this place; None: no longer."""
        with self._lock:
            growing = self._growing[message]
            if growing.waiting == place:
                return
            growing.waiting = place
        self._tell(message)

    def end(self, message: str) -> None:
        """It grows no more, and what the database has is all of it."""
        with self._lock:
            self._growing.pop(message, None)
        self._tell(message)

    def stop(self, message: str) -> bool:
        """End one that grows here; whether it did."""
        with self._lock:
            growing = self._growing.get(message)
        if growing is None:
            return False
        growing.stop()
        return True

    # Who looks.

    def watch(self, message: str, after: int, thought: int, store: Store) -> Iterator[Event]:
        """What comes, until it ends; in the thread of whoever asks.

        after, thought: characters of text and of reasoning that the watcher has already.
        """
        news, answer = threading.Event(), None
        with closing(self._steps(message, after, thought, store, news.set)) as steps:
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration:
                    return
                answer = None
                if isinstance(step, Event):
                    yield step
                elif isinstance(step, Wait):
                    answer = news.wait(step.seconds)
                    news.clear()
                else:
                    answer = step()

    async def watch_async(
        self, message: str, after: int, thought: int, store: Store
    ) -> AsyncIterator[Event]:
        """The same in an event loop: no thread waits for it."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        answer: Any = None

        def tell() -> None:
            with suppress(RuntimeError):  # the loop ended without closing this
                loop.call_soon_threadsafe(news.set)

        with closing(self._steps(message, after, thought, store, tell)) as steps:
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration:
                    return
                answer = None
                if isinstance(step, Event):
                    yield step
                elif isinstance(step, Wait):
                    try:
                        answer = await asyncio.wait_for(news.wait(), step.seconds)
                    except TimeoutError:
                        answer = False
                    news.clear()
                else:
                    answer = await asyncio.to_thread(step)

    def _steps(
        self, message: str, after: int, thought: int, store: Store, tell: Callable[[], None]
    ) -> Generator[Any, Any, None]:
        """Events; waits, answered with whether something came; looks, with what is seen."""
        while True:
            with self._telling(message, tell):
                going_on = yield from self._steps_of(message, after, thought, store)
            if going_on is None:
                return
            message, after, thought = going_on.id, 0, 0

    def _steps_of(
        self, message: str, said: int, thoughts: int, store: Store
    ) -> Generator[Any, Any, Message | None]:
        """Those of one message; the message in which it goes on."""
        heard, pause = time.monotonic(), LOOK
        place: Place | None = None
        while True:
            piece = self._piece(message, said, thoughts)
            if piece is not None:
                text, reasoning, waiting = piece
                if text or reasoning or waiting != place:
                    place = waiting
                    yield Event(said, text, reasoning, "answering", message, place)
                    said, thoughts = said + len(text), thoughts + len(reasoning)
                elif not (yield Wait(QUIET)):
                    yield Event(said, "", "", "answering", message, place)
                heard, pause = time.monotonic(), LOOK
                continue
            found: Message = yield lambda: store.message(message)
            going_on: Message | None = None
            if found.ended:
                going_on = yield lambda: store.following(found)  # noqa: B023 (called at once)
            tool = found.role == "tool"
            text = "" if tool else found.text[said:]
            reasoning = "" if tool else found.reasoning[thoughts:]
            asks = False
            if tool and found.state == "waiting":
                asks = yield lambda: store.asks(found)  # noqa: B023 (called at once)
            if text or reasoning or found.ended or asks or time.monotonic() - heard > QUIET:
                state = found.state if going_on is None else "answering"
                yield Event(said, text, reasoning, state, message)
                said, thoughts = said + len(text), thoughts + len(reasoning)
                heard = time.monotonic()
            if asks or found.ended:
                return going_on
            yield Wait(pause)
            pause = min(LONGEST, 1.5 * pause)

    def _piece(
        self, message: str, said: int, thoughts: int
    ) -> tuple[str, str, Place | None] | None:
        """What is new of an answer that grows here; None for one that does not."""
        with self._lock:
            growing = self._growing.get(message)
            if growing is None:
                return None
            text, reasoning = growing.text.since(said), growing.reasoning.since(thoughts)
            return text, reasoning, growing.waiting

    # Who is told.

    def _tell(self, message: str) -> None:
        with self._lock:
            listeners = list(self._listening.get(message, ()))
        for tell in listeners:
            tell()

    @contextmanager
    def _telling(self, message: str, tell: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._listening.setdefault(message, []).append(tell)
        try:
            yield
        finally:
            with self._lock:
                left = self._listening[message]
                left.remove(tell)
                if not left:
                    del self._listening[message]
