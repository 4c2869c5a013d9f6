"""Questions on their way to the engine.

Each `RequestShape` is registered with the engine once; what follows are batches of ids, texts and
salts. The engine sends in the order in which it is given, so it is given only what it will send
soon; the rest waits here, and the columns furthest down the recipe go first. So open rows are
finished before new ones are begun, and a run that ends early has whole rows to show.

When a server refuses a field (`rejected`), the model's provider may know how to ask without it:
then every shape of that model is registered anew and the refused questions are asked again. What
was learnt is kept by the run (`refusals`), so that the next sitting begins with it.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Final

from wordmill._engine import Engine
from wordmill.errors import RecipeError
from wordmill.providers.base import Provider
from wordmill.providers.dialect import Dialect
from wordmill.runs.plan import COLUMN_MASK, COLUMN_SHIFT, MAX_TRIES, TRIES_MASK
from wordmill.types import Ask, RequestShape

CHUNK: Final = 256
"""Requests offered to the engine at once."""

SPARE: Final = 8
"""Requests that a lane is given beyond what it sends at once and what it has just answered."""

OPENING: Final = 64
"""What a lane that finds its own limit is taken to send at once, before it was looked at."""


class _Queue:
    """The requests of one shape and column that the engine has not taken yet, oldest first."""

    __slots__ = (
        "depth", "dialect", "ids", "number", "pace", "proved", "salts", "shape", "slots", "texts",
        "untried",
    )  # fmt: skip

    def __init__(
        self, shape: RequestShape, number: int, dialect: Dialect, depth: int, pace: "Pace"
    ) -> None:
        self.shape, self.number, self.dialect, self.depth = shape, number, dialect, depth
        self.pace, self.slots = pace, shape.slots
        # Until one is answered, half of the lane: a server that refuses the shape refuses them all.
        self.proved, self.untried = False, max(SPARE, pace.limit // 2)
        self.ids: list[int] = []
        self.texts: list[str] = []
        self.salts: list[int] = []


class Pace:
    """How much a lane is given. limit: what it sends at once.  out: given and not answered.

    answered: since shortly; it fades.  room: how much more it may be given now.
    """

    __slots__ = ("answered", "limit", "out", "room")

    def __init__(self, limit: int) -> None:
        self.limit, self.out, self.answered, self.room = limit, 0, 0, 0

    def look(self) -> None:
        """Work out the room."""
        self.room = 2 * self.limit + SPARE + self.answered - self.out
        self.answered //= 2


class Outbox:
    """Takes asks from columns and offers them to the engine.

    providers: by the name of the model.  say: told each sentence on what a server refuses, once.
    at_once: requests that each model's lane sends at once; None where it finds out itself.

    paces: by the name of the model.
    waiting: questions that the engine has not been given.
    """

    def __init__(
        self,
        engine: Engine,
        providers: Mapping[str, Provider],
        say: Callable[[str], None],
        at_once: Mapping[str, int | None],
    ) -> None:
        self._engine, self._providers, self._say = engine, providers, say
        self._queues: list[_Queue] = []
        self._by_shape: dict[tuple[int, RequestShape], _Queue] = {}
        # Columns hand out the same shape object row after row; its identity is faster to look up
        # than its value. Only shapes that `_by_shape` keeps alive are in here.
        self._by_identity: dict[int, _Queue] = {}
        self._sent: dict[int, Dialect] = {}
        self._again: dict[int, int] = {}
        self.paces = {name: Pace(at_once.get(name) or OPENING) for name in providers}
        self.waiting = 0
        self.refusals: list[tuple[str, RequestShape, str]] = []
        self.degraded = 0

    def add(self, number: int, ask: Ask) -> None:
        """Put a question at the end of its queue. number: see `plan.request_id`."""
        queue = self._by_identity.get(id(ask.shape)) or self._queue(number, ask.shape)
        queue.ids.append(number)
        queue.texts.extend(ask.texts)
        queue.salts.append(ask.salt)
        self.waiting += 1

    def send(self) -> None:
        """Offer what waits, as far as the engine takes it now."""
        if not self.waiting:
            return
        submit = self._engine.submit
        for pace in self.paces.values():
            pace.look()
        for queue in self._queues:
            ids, texts, salts, slots = queue.ids, queue.texts, queue.salts, queue.slots
            pace = queue.pace
            while ids:
                count = min(len(ids), CHUNK, pace.room)
                if not queue.proved:
                    count = min(count, queue.untried)
                if count <= 0:
                    break
                taken = submit(
                    queue.number, ids[:count], texts[: count * slots], salts[:count], 0.0
                )
                del ids[:taken], texts[: taken * slots], salts[:taken]
                pace.room -= taken
                pace.out += taken
                queue.untried -= taken
                self.waiting -= taken
                if taken < count:
                    break

    def answered(self, number: int, ask: Ask, well: bool) -> None:
        """An outcome has come for a question. well: it is an answer, no error."""
        queue = self._by_identity.get(id(ask.shape)) or self._queue(number, ask.shape)
        pace = queue.pace
        pace.out -= 1
        pace.answered += 1
        if not queue.proved:
            queue.untried += 1
            queue.proved = well

    def clear(self) -> list[int]:
        """Forget what the engine has not taken; the ids of it."""
        dropped = [number for queue in self._queues for number in queue.ids]
        for queue in self._queues:
            queue.ids.clear()
            queue.texts.clear()
            queue.salts.clear()
        self.waiting = 0
        return dropped

    def retry(self, number: int, ask: Ask, detail: str, asked: Mapping[int, Ask]) -> int | None:
        """Ask again what a server refused with `detail`, without what it refuses.

        asked: all questions without an answer.  Returns the number under which it waits now,
        or None when the refusal stands.
        """
        sent = self._sent.pop(number, self._queue(number, ask.shape).dialect)
        provider = self._providers[ask.shape.model]
        changed = provider.degrade(ask.shape, detail, sent)
        if changed is None or number & TRIES_MASK == MAX_TRIES - 1:
            return None
        if changed.sentence:
            self.refusals.append((ask.shape.model, ask.shape, detail))
            self._renew(provider, asked)
            self._say(changed.sentence)
        self.degraded += 1
        item = number & ~TRIES_MASK
        self._again[item] = self._again.get(item, 0) + 1
        self.add(number + 1, ask)
        return number + 1

    def shift(self, item: int) -> int:
        """How many tries of an item (an id with tries 0) a server's refusals have used up."""
        return self._again.get(item, 0) if self._again else 0

    def restore(self, refusals: Iterable[tuple[str, RequestShape, str]]) -> None:
        """Learn again, silently, what an earlier sitting was refused."""
        for model, shape, detail in refusals:
            if model in self._providers:
                self._providers[model].degrade(shape, detail)
                self.refusals.append((model, shape, detail))

    def _queue(self, number: int, shape: RequestShape) -> _Queue:
        """The queue of a shape in the column that a request id names."""
        depth = number >> COLUMN_SHIFT & COLUMN_MASK
        queue = self._by_shape.get((depth, shape))
        if queue is None:
            provider = self._providers[shape.model]
            registered = self._register(shape, provider)
            pace = self.paces[shape.model]
            queue = _Queue(shape, registered, provider.dialect, depth, pace)
            self._by_shape[depth, shape] = queue
            self._by_identity[id(shape)] = queue
            self._queues.append(queue)
            self._queues.sort(key=attrgetter("depth"), reverse=True)
        return queue

    def _register(self, shape: RequestShape, provider: Provider) -> int:
        try:
            text = json.dumps(provider.body(shape), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"A request to {shape.model!r} cannot be written as JSON: {error}."
            ) from error
        return self._engine.shape(shape.model, provider.path("chat"), text)

    def _renew(self, provider: Provider, asked: Mapping[int, Ask]) -> None:
        """Register the provider's shapes in its new dialect; note what is out in the old one."""
        dialect = provider.dialect
        waiting = {number for queue in self._queues for number in queue.ids}
        name = provider.model.name
        for number, ask in asked.items():
            if ask.shape.model == name and number not in waiting:
                self._sent.setdefault(number, self._queue(number, ask.shape).dialect)
        for queue in self._queues:
            if queue.shape.model == name:
                queue.number = self._register(queue.shape, provider)
                queue.dialect = dialect
