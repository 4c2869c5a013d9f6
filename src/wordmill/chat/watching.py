"""Answers as they grow, for as many as want to look.

Whoever writes an answer publishes it here; watchers of the same process see each piece at once, and
those of another process find it in the database a little later. A watcher may come late, leave and
come back: it says how much it has and gets the rest.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from wordmill.chat.types import Message, State

LOOK: Final = 0.3
"""Seconds between looks into the database, for what another process writes."""
QUIET: Final = 15.0
"""Seconds after which an empty event says that the watcher is still heard."""


class Event(NamedTuple):
    """A piece. offset: characters of text before it.  state: of the message by now."""

    offset: int
    text: str
    reasoning: str
    state: State


@dataclass
class _Growing:
    text: str = ""
    reasoning: str = ""
    state: State = "answering"
    stop: Callable[[], None] | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)


class Watching:
    """The answers that grow in this process. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._growing: dict[str, _Growing] = {}

    def begin(self, message: str, stop: Callable[[], None]) -> None:
        """An answer begins to grow. stop: what ends it."""
        with self._lock:
            self._growing[message] = _Growing(stop=stop)
            self._lock.notify_all()

    def add(self, message: str, text: str, reasoning: str) -> None:
        """A piece of it has come."""
        growing = self._growing[message]
        with growing.changed:
            growing.text += text
            growing.reasoning += reasoning
            growing.changed.notify_all()

    def end(self, message: str, state: State) -> None:
        """It grows no more."""
        with self._lock:
            growing = self._growing.pop(message, None)
            self._lock.notify_all()
        if growing is not None:
            with growing.changed:
                growing.state = state
                growing.changed.notify_all()

    def stop(self, message: str) -> bool:
        """End one that grows here; whether it did."""
        with self._lock:
            growing = self._growing.get(message)
        if growing is None or growing.stop is None:
            return False
        growing.stop()
        return True

    def watch(
        self, message: str, after: int, thought: int, read: Callable[[], Message]
    ) -> Iterator[Event]:
        """What comes, until it ends.

        after, thought: characters of text and of reasoning that the watcher has already.
        read: the message as the database has it.
        """
        said, thought, heard = after, thought, time.monotonic()
        while True:
            with self._lock:
                growing = self._growing.get(message)
            if growing is None:
                found = read()
                text, reasoning = found.text[said:], found.reasoning[thought:]
                if text or reasoning or found.ended:
                    yield Event(said, text, reasoning, found.state)
                    said, thought, heard = (
                        said + len(text),
                        thought + len(reasoning),
                        time.monotonic(),
                    )
                if found.ended:
                    return
                if time.monotonic() - heard > QUIET:
                    heard = time.monotonic()
                    yield Event(said, "", "", found.state)
                with self._lock:
                    self._lock.wait_for(lambda: message in self._growing, LOOK)
                continue
            with growing.changed:
                growing.changed.wait_for(
                    lambda growing=growing, said=said, thought=thought: (  # type: ignore[misc]
                        len(growing.text) > said
                        or len(growing.reasoning) > thought
                        or growing.state != "answering"
                    ),
                    QUIET,
                )
                text, reasoning = growing.text[said:], growing.reasoning[thought:]
                ended = growing.state != "answering"
            if not ended or text or reasoning:
                yield Event(said, text, reasoning, "answering")
                said, thought, heard = said + len(text), thought + len(reasoning), time.monotonic()
