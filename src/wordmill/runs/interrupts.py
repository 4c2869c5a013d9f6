"""Ctrl-C and SIGTERM: once to end in good order, twice to end at once."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], object]


class Interrupts:
    """While it is entered, the first signal is only noted and the second raises KeyboardInterrupt.

    Outside the main thread, where Python hands out no signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Handler | int | None] = {}

    @property
    def asked(self) -> bool:
        """Whether somebody wants the run to end."""
        return self.count > 0

    @property
    def leaving(self) -> bool:
        """Whether this process ends, and what others work on shall go on."""
        return False

    def ask(self) -> None:
        """Want the run to end, from another thread."""
        self.count = max(self.count, 1)

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            if before is not None:  # not one that was set outside Python
                signal.signal(number, before)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
