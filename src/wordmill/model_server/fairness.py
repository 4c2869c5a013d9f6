"""Who is next when a slot is free.

The next one is of the person who has the fewest answers under way, and among those the one who was
served longest ago; a person's own requests keep their order. A request for several answers counts
as so many. So whoever has queued a hundred keeps
all slots busy while nobody else is there, and the first request of somebody else has the very next
slot.

No clock, no I/O.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

Item = TypeVar("Item")


class QueueFull(Exception):
    """No further request is taken. whose: whether the person's share is full, or the queue."""

    def __init__(self, whose: Literal["person", "queue"], waiting: int) -> None:
        super().__init__(whose, waiting)
        self.whose, self.waiting = whose, waiting


@dataclass
class _Person(Generic[Item]):
    waiting: deque[Item] = field(default_factory=deque)
    running: int = 0
    served: int = 0
    """When the last one was taken, as a number that grows."""


class FairQueue(Generic[Item]):
    """Requests by person. Items are told apart by identity.

    most: that may wait.  most_each: of one person.  at_once_each: answers of one person under way,
    None for as many as there are slots.  weigh: how many answers an item asks for, at least 1.
    """

    def __init__(
        self,
        most: int,
        most_each: int,
        at_once_each: int | None = None,
        weigh: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self._most, self._most_each, self._at_once_each = most, most_each, at_once_each
        self._weigh = weigh
        self._people: dict[str, _Person[Item]] = {}
        self._taken = self._waiting = 0
        self._places: dict[int, int] | None = None

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    def add(self, person: str, item: Item) -> None:
        """Take one in. Raises QueueFull."""
        if self._waiting >= self._most:
            raise QueueFull("queue", self._waiting)
        queue = self._people.setdefault(person, _Person(served=self._taken)).waiting
        if len(queue) >= self._most_each:
            raise QueueFull("person", len(queue))
        queue.append(item)
        self._changed(1)

    def again(self, person: str, item: Item) -> None:
        """Put one back that was taken: it is the person's next. Its slot is free again."""
        self.release(person, item)
        self._people.setdefault(person, _Person(served=self._taken)).waiting.appendleft(item)
        self._changed(1)

    def take(self) -> Item | None:
        """The next one, under way from now on; None where nobody waits who may have a slot."""
        able = [
            (one.running, one.served, name)
            for name, one in self._people.items()
            if one.waiting and self._may(one.running)
        ]
        if not able:
            return None
        one = self._people[min(able)[2]]
        self._taken += 1
        one.served = self._taken
        item = one.waiting.popleft()
        one.running += self._weigh(item)
        self._changed(-1)
        return item

    def release(self, person: str, item: Item) -> None:
        """One of the person's is not under way any more."""
        one = self._people[person]
        one.running -= self._weigh(item)
        if not one.running and not one.waiting:
            del self._people[person]
        self._places = None

    def remove(self, person: str, item: Item) -> bool:
        """Nobody waits for it any more; whether it was there."""
        one = self._people.get(person)
        for index, other in enumerate(one.waiting if one else ()):
            if one is not None and other is item:
                del one.waiting[index]
                if not one.running and not one.waiting:
                    del self._people[person]
                self._changed(-1)
                return True
        return False

    def place(self, item: Item) -> int | None:
        """Its place among all that wait, from 1; None where it is not here.

        If all that are under way went on, and nobody came. Who has as many under way as one may
        have comes behind all others.
        """
        if self._places is None:
            self._places = self._foreseen()
        return self._places.get(id(item))

    def all(self) -> list[Item]:
        """All that wait, person by person."""
        return [item for one in self._people.values() for item in one.waiting]

    def _may(self, running: int) -> bool:
        return self._at_once_each is None or running < self._at_once_each

    def _changed(self, by: int) -> None:
        self._waiting += by
        self._places = None

    def _foreseen(self) -> dict[int, int]:
        """The order in which they would be taken, by the identity of the items."""
        heap = [
            (not self._may(one.running), one.running, one.served, name, 0)
            for name, one in self._people.items()
            if one.waiting
        ]
        heapq.heapify(heap)
        places: dict[int, int] = {}
        while heap:
            _, running, _, name, index = heapq.heappop(heap)
            waiting = self._people[name].waiting
            places[id(waiting[index])] = len(places) + 1
            running += self._weigh(waiting[index])
            if index + 1 < len(waiting):
                late = not self._may(running)
                heapq.heappush(heap, (late, running, self._taken + len(places), name, index + 1))
        return places
