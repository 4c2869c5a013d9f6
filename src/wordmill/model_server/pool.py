"""Which models have a worker: loaded when they are asked for, within a ceiling of memory.

One model is loaded at a time, and all that wait for it share the loading. Where memory is short the
model that was used longest ago goes first, and never one with answers under way; one that is in
use makes room after a while, when its answers have ended, so that no model starves another. A
worker that ends by itself is started again, with pauses that grow. One whose model has other files
by now is replaced, and one whose model is gone ends, whoever changed it and from where.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from wordmill.errors import WordmillError
from wordmill.local_models.fit import size
from wordmill.local_models.machine import Gpu, cards
from wordmill.model_server import memory
from wordmill.model_server.metrics import EVERY, Metrics
from wordmill.model_server.process import Command, Process, WorkerFailed, start
from wordmill.model_server.relay import WorkerLost
from wordmill.model_server.served import Limits, Refused, Served, ending
from wordmill.model_server.types import Described, Library

log = logging.getLogger(__name__)

LOADS: Final = 3
"""How often loading is tried before those who wait are told no."""
SHUT: Final = 5.0
"""Seconds for which requests are told the reason at once, after a model could not be loaded."""
LONGEST: Final = 60.0
"""Seconds, the longest pause between two starts."""
HEALTHY: Final = 60.0
"""Seconds after which a worker's earlier failures do not count any more."""
LOOK: Final = 0.5
"""Seconds between looks at what goes on."""
ASKING: Final = 10.0
"""Seconds that a worker has to give its figures."""
FOLLOW: Final = 1.0
"""Seconds between looks at what the names of loaded models mean now."""
RESERVE: Final = 0.03
"""Of the machine's memory and of a card's, that stays free for others."""


class _Unwanted(Exception):
    """Nobody waits for it any more."""


class Pool:
    """All models. Lives in one event loop; `run` is its work, `close` its end."""

    def __init__(
        self,
        library: Library,
        command: Command,
        limits: Limits,
    ) -> None:
        self.library, self.limits = library, limits
        self.metrics = Metrics()
        self._cards: tuple[Gpu, ...] = ()
        """The graphics cards, as they were last seen."""
        self.models: dict[str, Served] = {}
        self._command = command
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[str, float] = {}
        self._following: set[str] = set()
        """Names that are being looked up."""
        self.closing = False

    async def model(self, name: str) -> Served:
        """The model of that name. Raises Refused for one that is not on this machine."""
        served = self.models.get(name)
        if served is not None and served.worker is not None:
            return served
        if await self._find(name) is None:
            raise Refused(f"The model {name!r} does not exist on this machine.", 404, None)
        if self.closing:
            raise ending()
        return self.models.setdefault(name, Served(name, self.limits, self.want))

    def want(self, served: Served) -> None:
        """Have it loaded, unless it is or will be."""
        if served.worker is None and served.loading is None and not self.closing:
            served.loading = self._begin(self._bring_up(served))

    async def _find(self, name: str) -> Described | None:
        """What a name means now. Raises Refused where that cannot be looked up."""
        try:
            return await asyncio.to_thread(self.library.find, name)
        except WordmillError as error:
            raise Refused(str(error)) from error

    async def load(self, name: str) -> Served:
        """Load it, and wait until it is. Raises Refused with the reason when it cannot be."""
        served = await self.model(name)
        served.asked = True
        try:
            self.want(served)
            if served.loading is not None:
                await asyncio.shield(served.loading)
        finally:
            served.asked = False
        if served.worker is None:
            raise Refused(served.trouble or f"The model {name!r} was not loaded.", 503, None)
        return served

    async def unload(self, name: str) -> bool:
        """End its worker when the answers under way have ended; whether there was one.

        Those who wait bring it back; one that is still loading is given up, and they are told.
        """
        served = self.models.get(name)
        if served is not None and served.loading is not None and served.worker is None:
            served.loading.cancel()
            return True
        if served is None or served.worker is None:
            return False
        async with self._turn:
            await self._let_go(served)
        if len(served.queue):
            self.want(served)
        return True

    async def swap(self, name: str) -> Served:
        """Replace its worker by one of what its name means now: another revision, other options.

        The new one loads while the old one answers; where memory does not hold both, those who
        come meanwhile wait. No request is lost. Raises Refused when the new one does not come up:
        the old one answers on.
        """
        served = await self.model(name)
        if served.worker is None:
            return await self.load(name)
        async with self._turn:
            old = served.worker
            model = await self._find(name)
            if model is None:
                raise Refused(f"The model {name!r} does not exist on this machine.", 404, None)
            if old is None:
                pass
            elif await self._short(await self._needed(model)) is None:
                await self._start_beside(served, model)
            else:
                await self._start_instead(served, model)
        if served.worker is None:
            return await self.load(name)
        return served

    async def run(self) -> None:
        """Look after the workers until cancelled."""
        sampled, followed, looked = 0.0, 0.0, time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            stood, looked = time.monotonic() - looked - LOOK, time.monotonic()
            if stood > LOOK:
                self._excuse(stood)
            for served in list(self.models.values()):
                self._look_after(served)
            if time.monotonic() - sampled >= EVERY:
                sampled = time.monotonic()
                self._relieve()
                for served in list(self.models.values()):
                    self._sample(served)
            if time.monotonic() - followed >= FOLLOW:
                followed = time.monotonic()
                for served in list(self.models.values()):
                    self._begin(self._follow(served))

    async def close(self, grace: float) -> None:
        """End all workers; those who wait are told. grace: seconds for answers under way."""
        self.closing = True
        for served in self.models.values():
            served.held = served.closed = True
            served.refuse(ending())
        until = time.monotonic() + grace
        while time.monotonic() < until and any(one.running for one in self.models.values()):
            await asyncio.sleep(0.05)
        for task in list(self._tasks):
            task.cancel()
        every = [one for served in self.models.values() for one in served.processes]
        await asyncio.gather(*self._tasks, *(one.stop() for one in every), return_exceptions=True)

    def used(self) -> int:
        """Bytes that all workers have or had, each at its most."""
        every = (one for served in self.models.values() for one in served.processes)
        return sum(max(one.resident(), one.peak) for one in every if not one.ended)

    # Loading.

    async def _bring_up(self, served: Served) -> None:
        """Load it, with pauses between tries, until it is there or hopeless."""
        try:
            if served.trouble is not None and time.monotonic() < served.shut and not served.asked:
                raise Refused(served.trouble, 503, served.shut - time.monotonic())
            while served.worker is None:
                pause = max(0.0, served.again - time.monotonic())
                if served.trouble is not None and pause > SHUT and not served.asked:
                    raise Refused(served.trouble, 503, pause)
                await asyncio.sleep(pause)
                async with self._turn:
                    if served.worker is None:
                        await self._try(served)
                if served.worker is None and not (served.asked or len(served.queue)):
                    return
        except _Unwanted:
            return
        except Refused as why:
            if time.monotonic() >= served.shut:
                served.shut = time.monotonic() + SHUT
                log.warning("%s", why.message)
            served.trouble = why.message
            served.refuse(why)
        except asyncio.CancelledError:
            served.refuse(Refused(f"The model {served.name!r} was unloaded."))
            raise
        except BaseException as fault:
            # Else those who wait would do so until somebody else asks.
            words = f"The model {served.name!r} could not be loaded: {type(fault).__name__}."
            served.trouble = f"{words} The log of the model server says more."
            served.refuse(Refused(served.trouble))
            raise
        finally:
            served.loading, served.started = None, 0.0

    async def _try(self, served: Served) -> None:
        """One try to load it. Raises Refused when that is the end of it."""
        model = await self._find(served.name)
        if model is None:
            raise Refused(f"The model {served.name!r} does not exist on this machine.", 404, None)
        await self._make_room(served, model)
        try:
            try:
                await self._start(served, model)
            except WorkerFailed as error:
                # It takes more than was reckoned: room is made once.
                if not (error.memory and await self._relieved(served, model)):
                    raise
                await self._start(served, model)
        except WorkerFailed as error:
            self._failed(served)
            words = f"The model {served.name!r} could not be loaded: {_sentence(str(error))}"
            served.trouble = words
            if error.lasting or served.failures >= LOADS:
                raise Refused(words, 503, LONGEST) from error
            log.warning("%s", words)

    async def _start(self, served: Served, model: Described) -> None:
        """Start a worker and put it in its place. Raises WorkerFailed."""
        served.started = time.monotonic()
        log.info("the model %s is being loaded", served.name)
        try:
            worker = await start(model, self._command, self.limits.load)
            seconds = time.monotonic() - served.started
        finally:
            served.started = 0.0
        old = served.worker
        served.ready(worker, seconds)
        log.info("the model %s is loaded, after %.1f s", served.name, seconds)
        self._begin(self._watch(served, worker))
        if old is not None:
            self._begin(self._drain(served, old))

    async def _start_beside(self, served: Served, model: Described) -> None:
        try:
            await self._start(served, model)
        except WorkerFailed as error:
            words = (
                f"The model {served.name!r} could not be replaced, and answers as before: "
                f"{_sentence(str(error))}"
            )
            raise Refused(words, 503, None) from error

    async def _start_instead(self, served: Served, model: Described) -> None:
        """The old one ends first; where the new one does not come up, the old one comes back."""
        before = served.described
        await self._let_go(served)
        try:
            await self._make_room(served, model, needed=True)
            await self._start(served, model)
        except (WorkerFailed, Refused) as error:
            words = (
                f"The model {served.name!r} could not be replaced: {_sentence(str(error))} "
                "The one before is loaded again."
            )
            if before is not None:
                try:
                    await self._start(served, before)
                except WorkerFailed as again:
                    self._failed(served)
                    served.trouble = words = f"{words} That failed too: {_sentence(str(again))}"
                    if len(served.queue):
                        self.want(served)
            raise Refused(words, 503, None) from error

    async def _make_room(self, served: Served, model: Described, *, needed: bool = False) -> None:
        """Wait until the model fits, and unload others for it.

        Raises Refused when it never will, _Unwanted when nobody waits for it any more.
        """
        need, began = await self._needed(model), time.monotonic()
        self._refuse_too_large(served, need)
        while (short := await self._short(need)) is not None:
            if not (needed or served.asked or len(served.queue)):
                raise _Unwanted
            late = time.monotonic() - began > self.limits.patience
            card = need.card if short == "card" else None
            victim = self._victim(served, late, card)
            if victim is not None:
                await self._push_out(victim, served)
                continue
            if not self._movable(served, card):
                raise Refused(self._too_large(served.name, need), 503, 60.0)
            self._changed.clear()
            try:
                async with asyncio.timeout(0.2):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _push_out(self, victim: Served, served: Served) -> None:
        """Unload one for another; those who wait for it bring it back."""
        log.info("the model %s makes room for %s", victim.name, served.name)
        await self._let_go(victim)
        if len(victim.queue):
            self.want(victim)

    async def _relieved(self, served: Served, model: Described) -> bool:
        """Unload an idle model of the same memory, where there is one."""
        victim = self._victim(served, False, memory.card_of(model, self._cards))
        if victim is None:
            return False
        await self._push_out(victim, served)
        return True

    def _refuse_too_large(self, served: Served, need: memory.Need) -> None:
        if need.memory > self.limits.memory:
            raise Refused(
                f"The model {served.name!r} needs about {size(need.memory)} of memory, "
                f"and all models together may have {size(self.limits.memory)} (setting "
                "local_memory). Take a smaller one, or one with fewer bits.",
                507,
                None,
            )
        card = None if need.card is None else self._cards[need.card]
        if card is not None and need.on_card > card.memory:
            raise Refused(
                f"The model {served.name!r} needs about {size(need.on_card)} of a "
                f"graphics card's memory, and the {card.name} has {size(card.memory)}. "
                "Take a smaller one, or run it on the processor (device=cpu).",
                507,
                None,
            )

    def _too_large(self, name: str, need: memory.Need) -> str:
        pinned = [one.name for one in self.models.values() if one.worker is not None and one.pin]
        words = f"The model {name!r} needs about {size(need.memory)} of memory; "
        words += f"the loaded models have {size(self.used())} of "
        words += size(self.limits.memory)
        words += f", and the machine has {size(memory.free())} left"
        if need.card is not None and need.card < len(self._cards):
            card = self._cards[need.card]
            words += f". Of the {card.name} it needs about {size(need.on_card)}, and "
            words += f"{size(card.free)} are free"
        if pinned:
            words += f". Pinned and not unloaded: {', '.join(pinned)}"
        return words + "."

    async def _needed(self, model: Described) -> memory.Need:
        """What a model will take, after a look at the cards."""
        self._cards = await asyncio.to_thread(cards)
        return await asyncio.to_thread(memory.needed, model, self._cards)

    async def _short(self, need: memory.Need) -> Literal["memory", "card"] | None:
        """Of which memory there is too little now; None where it fits."""
        if self.used() + need.memory > self.limits.memory:
            return "memory"
        if need.memory > memory.free() - RESERVE * memory.total():
            return "memory"
        if need.card is None:
            return None
        self._cards = await asyncio.to_thread(cards)
        if need.card >= len(self._cards):
            return None  # the driver says nothing any more
        card = self._cards[need.card]
        return "card" if need.on_card > card.free - RESERVE * card.memory else None

    def _movable(self, served: Served, card: int | None) -> bool:
        """Whether anything may ever make room. card: on that one; None for the machine's memory."""
        return any(
            other.draining or (other.worker is not None and not other.pin)
            for other in self.models.values()
            if other is not served and self._is_on(other, card)
        )

    def _is_on(self, other: Served, card: int | None) -> bool:
        every = (one.model for one in other.processes)
        return card is None or any(memory.card_of(one, self._cards) == card for one in every)

    def _victim(self, served: Served, late: bool, card: int | None) -> Served | None:
        """What is unloaded next: the idle one that was used longest ago; late, one in use.

        card: only what is on it helps; None for the machine's memory.
        """
        able = [
            other
            for other in self.models.values()
            if other is not served and other.worker is not None and not other.pin
            if self._is_on(other, card)
        ]
        idle = [other for other in able if not other.busy]
        if idle:
            return min(idle, key=lambda one: one.used)
        if late and able:
            return min(able, key=lambda one: 0.0 if one.worker is None else one.worker.since)
        return None

    # Ending.

    async def _let_go(self, served: Served) -> None:
        """End a model's worker once its answers have ended."""
        worker = served.worker
        if worker is None:
            return
        served.held = True
        try:
            await self._drained(served, worker)
        finally:
            served.held = False
            if served.worker is worker:
                served.worker = None
            await worker.stop()
            self._changed.set()
        log.info("the model %s is unloaded", served.name)

    async def _drain(self, served: Served, old: Process) -> None:
        """End a worker that was replaced."""
        try:
            await self._drained(served, old)
        finally:
            await old.stop()
            served.draining.discard(old)
            self._changed.set()

    async def _drained(self, served: Served, worker: Process) -> None:
        """Wait until it has no answer under way, or has had its time."""
        until = time.monotonic() + self.limits.drain
        while worker.running and not worker.ended and time.monotonic() < until:
            served.changed.clear()
            try:
                async with asyncio.timeout(0.2):
                    await served.changed.wait()
            except TimeoutError:
                continue

    async def _watch(self, served: Served, worker: Process) -> None:
        """Wait for its end; one that was not meant is told, and what waits brings it back."""
        await worker.wait()
        self._changed.set()
        if worker.meant:
            return
        await worker.stop(0.0)  # what it may have left
        if time.time() - worker.since > HEALTHY:
            served.failures = 0
        self._failed(served)
        served.trouble = f"The process of the model {served.name!r} ended: {worker.why()}."
        log.error("%s", served.trouble)
        if served.worker is worker:
            pinned = served.pin  # a model that is not loaded says nothing of itself
            served.worker = None
            if len(served.queue) or pinned:
                self.want(served)

    def _failed(self, served: Served) -> None:
        served.failures += 1
        pause = min(LONGEST, self.limits.backoff * 2 ** (served.failures - 1))
        served.again = time.monotonic() + pause

    # Looking after them.

    def _excuse(self, seconds: float) -> None:
        """This process stood still, and could hear nobody: no worker's silence is counted."""
        for served in self.models.values():
            for worker in served.processes:
                if worker.asked is not None:
                    worker.asked += seconds

    def _look_after(self, served: Served) -> None:
        worker, now = served.worker, time.monotonic()
        if worker is None or worker.ended:
            return
        worker.resident()
        if now - self._asked.get(served.name, 0.0) >= min(EVERY, self.limits.hang):
            self._asked[served.name] = now
            self._begin(self._ask(worker))
        silent = 0.0 if worker.asked is None else now - worker.asked
        if max(silent, _number(worker.shown, "still") or 0.0) > self.limits.hang:
            log.error("the process of the model %s does nothing any more: it is ended", served.name)
            worker.kill(f"it did nothing for {self.limits.hang:g} s, and was ended")
            return
        if served.failures and time.time() - worker.since > HEALTHY:
            served.failures = 0
        idle = self.limits.idle
        if idle is None or served.pin or served.busy or served.held:
            return
        if now - served.used > idle and not self._turn.locked():
            self._begin(self._let_go_if_idle(served))

    def _relieve(self) -> None:
        """Models have grown beyond the ceiling: the idle one that was used longest ago goes."""
        idle = [one for one in self.models.values() if one.worker and not (one.busy or one.pin)]
        if self.used() > self.limits.memory and len(idle) and not self._turn.locked():
            self._begin(self._let_go_if_idle(min(idle, key=lambda one: one.used)))

    async def _follow(self, served: Served) -> None:
        """Take what its name means now: other files, whether it is pinned, or that it is gone."""
        if self._turn.locked() or served.name in self._following:
            return
        self._following.add(served.name)
        try:
            model = await self._find(served.name)
        except Refused:
            return  # for the next look
        finally:
            self._following.discard(served.name)
        worker = served.worker
        if model is None:
            await self.unload(served.name)
            served.refuse(Refused(f"The model {served.name!r} was removed.", 404, None))
            if not served.processes and served.loading is None:
                self.models.pop(served.name, None)
        elif worker is not None and not served.started:
            before, worker.model = worker.model, replace(worker.model, pinned=model.pinned)
            if model.path != before.path and model.path != served.followed:
                served.followed = model.path
                try:
                    await self.swap(served.name)
                except Refused as why:
                    log.error("%s", why.message)

    async def _let_go_if_idle(self, served: Served) -> None:
        async with self._turn:
            if not served.busy:
                await self._let_go(served)

    async def _ask(self, worker: Process) -> None:
        try:
            worker.shown = await worker.get("/stats", ASKING)
        except (WorkerLost, TimeoutError):
            return  # it is looked at since when nothing has come

    def _sample(self, served: Served) -> None:
        worker = served.worker
        if worker is None and not served.busy:
            return
        shown: Mapping[str, Any] = {} if worker is None else worker.shown
        now = {
            "running": float(served.running),
            "waiting": float(len(served.queue)),
            "memory": float(sum(one.resident() for one in served.processes)),
            "batch": _number(shown, "batch", "batch_size"),
            "cache": _number(shown, "cache", "cache_use"),
            "first": _number(shown, "first_token_p50"),
            "between": _number(shown, "between_tokens_p50"),
        }
        self.metrics.sample(served.name, **now)

    def _begin(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a fault of Wordmill", exc_info=error)


def _number(shown: Mapping[str, Any], *names: str) -> float | None:
    for name in names:
        value = shown.get(name)
        if isinstance(value, int | float):
            return float(value)
    return None


def _sentence(words: str) -> str:
    words = words.strip()
    return words if words.endswith((".", "!", "?")) else words + "."
