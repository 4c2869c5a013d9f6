"""Runs the channels that are configured, each by itself: a thread with an event loop of its own.

One that fails is started again after a pause that grows; one whose account is no longer good stops
alone and says why, until somebody changes it. What each says of itself is written down, so that
every process can show it.
"""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from secrets import token_hex
from types import TracebackType
from typing import Any, Final

from wordmill.channels.house import House
from wordmill.channels.rooms.accounts import LEASE, ChannelAccounts, Configured, load
from wordmill.channels.rooms.base import Channel, Standing
from wordmill.channels.rooms.door import Door
from wordmill.database import now
from wordmill.errors import ChannelClosed, ConfigError, WordmillError
from wordmill.secrets import scrub

LOOK: Final = 1.0
"""Seconds between looks at what is configured."""
TELL: Final = 2.0
"""Seconds between writings of how a channel is."""
SHORTEST: Final = 2.0
LONGEST: Final = 60.0
"""Seconds of the pause before a channel is started again: doubled each time, between these."""
STEADY: Final = 120.0
"""A channel that ran for so long begins with the shortest pause again."""
THREADS: Final = 32
"""Of one channel, for what waits on the database."""

log = logging.getLogger(__name__)


class Manager:
    """The channels of a process. A context manager: they run inside the block."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._accounts = ChannelAccounts(house.database, house.settings)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
        self._running: dict[str, _Running] = {}
        self._ending: dict[str, _Running] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="wordmill-channels", daemon=True)

    def __enter__(self) -> "Manager":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        running = [*self._running.values(), *self._ending.values()]
        for one in running:
            one.ask_to_stop()
        for one in running:
            one.join()
            self._release(one.configured.name)

    def _watch(self) -> None:
        """Start what is configured and free, stop what is not any more."""
        while not self._stop.is_set():
            try:
                self._look()
            except WordmillError as error:
                log.error("the channels cannot be looked at: %s", error)
            self._stop.wait(LOOK)

    def _look(self) -> None:
        for name, ending in list(self._ending.items()):
            if ending.ended:
                del self._ending[name]
                self._release(name)
        wanted = {one.name: one for one in self._accounts.listed() if one.enabled}
        for name, running in list(self._running.items()):
            configured = wanted.get(name)
            if configured is None or configured.updated != running.configured.updated:
                self._end(name)
            elif time.monotonic() - running.held > LEASE / 3:
                if self._accounts.hold(name, self._holder):
                    running.held = time.monotonic()
                else:
                    log.warning("the channel %s is another process's now, and stops here", name)
                    self._end(name)
        for name, configured in wanted.items():
            busy = name in self._running or name in self._ending
            if not busy and self._accounts.hold(name, self._holder):
                running = _Running(self._house, self._accounts, configured)
                self._running[name] = running
                self._house.channels[name] = running.trouble
                running.start()

    def _end(self, name: str) -> None:
        """Have a channel end, which may take a while, in which the others are seen to."""
        ending = self._running.pop(name)
        self._house.channels.pop(name, None)
        self._ending[name] = ending
        ending.ask_to_stop()

    def _release(self, name: str) -> None:
        self._house.channels.pop(name, None)
        try:
            self._accounts.let_go(name, self._holder)
        except WordmillError as error:
            log.warning("the channel %s is free in %.0f s only: %s", name, LEASE, error)


class _Running:
    """One channel in its thread."""

    def __init__(self, house: House, accounts: ChannelAccounts, configured: Configured) -> None:
        self.configured = configured
        self.held = time.monotonic()
        self._house, self._accounts = house, accounts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = threading.Event()
        self._words = ""
        self._connected = False
        self._door: Door | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"wordmill-{configured.name}", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """End soon; from any thread."""
        self._stopping.set()
        if self._loop is not None and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                return  # it has ended by itself

    @property
    def ended(self) -> bool:
        """Whether nothing of it goes on."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join(LEASE)

    def trouble(self) -> str | None:
        """What is wrong with it, in a sentence."""
        return self._words or None

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except WordmillError as error:  # the database, at the very end
            log.error("the channel %s: %s", self.configured.name, error)

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS, self.configured.name))
        telling = asyncio.create_task(self._tell())
        pause = SHORTEST
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                error = await self._ended(asyncio.create_task(self._once()))
                if isinstance(error, ChannelClosed | ConfigError):
                    self._fault(f"{error} The channel has stopped; it starts when it is changed.")
                    log.error("the channel %s has stopped: %s", self.configured.name, self._words)
                    await asyncio.Event().wait()
                elif isinstance(error, WordmillError):
                    self._fault(str(error))
                else:  # a fault of one channel ends no other
                    self._fault(f"A fault of Wordmill ({type(error).__name__}); its log says more.")
                    log.error("the channel %s met a fault", self.configured.name, exc_info=error)
                if time.monotonic() - began > STEADY:
                    pause = SHORTEST
                log.warning(
                    "the channel %s starts again in %.0f s: %s",
                    self.configured.name, pause, self._words,
                )  # fmt: skip
                await asyncio.sleep(pause)
                pause = min(LONGEST, pause * 2)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await asyncio.to_thread(self._write, Standing(False, self._words), 0)

    async def _ended(self, once: asyncio.Task[None]) -> BaseException | None:
        """Why it ended."""
        try:
            await asyncio.wait({once})
        except asyncio.CancelledError:
            once.cancel()
            await asyncio.gather(once, return_exceptions=True)
            raise
        return once.exception()

    async def _once(self) -> None:
        """From its start to its end."""
        configured = self.configured
        channel = await asyncio.to_thread(self._made)
        self._door = door = Door(self._house, configured.name, channel.surface, configured.policy)
        try:
            await channel.run(door, self._ready)
        finally:
            self._connected = False
            await door.close()
            self._door = None

    def _made(self) -> Channel:
        configured, name = self.configured, self.configured.name
        hidden = self._accounts.secrets_of(name)
        return load(configured.kind)(configured.options, hidden, self._accounts.memory(name))

    def _ready(self) -> None:
        self._connected, self._words = True, ""
        log.info("the channel %s is connected", self.configured.name)

    def _fault(self, words: str) -> None:
        self._connected, self._words = False, scrub(words)

    async def _tell(self) -> None:
        """Write down how it is, now and then."""
        while True:
            door = self._door
            standing, waiting = Standing(False, self._words), 0
            if door is not None:
                standing = door.surface.standing()
                if (
                    not standing.connected and not self._words and self._connected
                ) or standing.connected:
                    self._words = standing.words
            try:
                if door is not None:
                    waiting = await asyncio.to_thread(door.records.waiting)
                await asyncio.to_thread(self._write, standing, waiting)
            except WordmillError as error:
                log.info("how %s is cannot be written down: %s", self.configured.name, error)
            await asyncio.sleep(TELL)

    def _write(self, standing: Standing, waiting: int) -> None:
        heard = self._door.heard if self._door is not None else None
        status: dict[str, Any] = {
            **asdict(standing),
            "words": self._words or standing.words,
            "last_event": (heard.isoformat() if heard else self._last_event()),
            "waiting": waiting,
            "at": now().isoformat(),
        }
        self._accounts.tell(self.configured.name, status)
        self._status: Mapping[str, Any] = status

    def _last_event(self) -> str | None:
        before = getattr(self, "_status", None) or self.configured.status
        found = before.get("last_event")
        return str(found) if found else None
