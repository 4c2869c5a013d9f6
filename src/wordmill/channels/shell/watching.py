"""An answer as it grows, and Ctrl-C meanwhile.

The answer is read in a thread of its own, so that a key is heard at once whatever the network does.
The first Ctrl-C asks the partner to stop the answer and goes on showing it until it has ended, a
second one leaves the shell.
"""

import contextlib
import queue
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final, TypeAlias

from wordmill.channels.shell.partner import Partner, Piece, Place, Said
from wordmill.channels.shell.rendering import Page
from wordmill.errors import WordmillError

Item: TypeAlias = Piece | BaseException | None

_PATIENCE: Final = 10.0
"""Seconds in which a stopped answer must have ended."""


class Leave(Exception):  # no error: a person's wish
    """The person wants out of the shell."""


def watch(
    partner: Partner, place: Place, answer: str, page: Page, turned: Callable[[Said], None]
) -> tuple[Said, bool]:
    """Show an answer until it has ended or asks for a yes: its last message as it is then, and
    whether the person stopped it.

    turned: told of each further message in which the answer goes on.
    Raises Leave after a second Ctrl-C, and what the partner raises.
    """
    items: queue.Queue[Item] = queue.Queue()
    reader = threading.Thread(target=_read, args=(partner, answer, items), daemon=True)
    asked = stopped = 0
    waited, waiting = 0.0, ""

    def hear(_: int, __: FrameType | None) -> None:
        nonlocal asked
        asked += 1

    with _heard(hear):
        reader.start()
        try:
            while True:
                if asked > 1:
                    raise Leave
                if asked > stopped:
                    stopped = asked
                    with contextlib.suppress(WordmillError):  # it has just ended by itself
                        partner.stop(place, answer)
                try:
                    item = items.get(timeout=0.1)
                except queue.Empty:
                    page.wait(waiting)
                    waited += 0.1 if stopped else 0.0
                    if waited > _PATIENCE:
                        break
                    continue
                if item is None:
                    break
                if isinstance(item, BaseException):
                    raise item
                if item.message != answer:
                    page.end()
                    answer = item.message
                    turned(partner.message(answer))
                waiting = item.waiting
                if item.reasoning:
                    page.thinking(item.reasoning)
                page.write(item.text)
        finally:
            page.end()
    return partner.message(answer), bool(stopped)


def _read(partner: Partner, answer: str, items: "queue.Queue[Item]") -> None:
    try:
        for piece in partner.watch(answer):
            items.put(piece)
    except BaseException as error:  # noqa: BLE001  # raised again in the main thread
        items.put(error)
    else:
        items.put(None)


@contextlib.contextmanager
def _heard(hear: "signal._HANDLER") -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def keys(*, shown: bool) -> Iterator[None]:
    """Whether keys that are pressed while nobody asks for a line appear on the screen.

    Not shown, they wait for the next prompt, one by one; Ctrl-C works either way.
    """
    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        yield
        return
    modes = [*before]
    line = termios.ECHO | termios.ICANON
    modes[3] = modes[3] | line if shown else modes[3] & ~line
    termios.tcsetattr(descriptor, termios.TCSANOW, modes)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
