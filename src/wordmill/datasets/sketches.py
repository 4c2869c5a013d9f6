"""Pictures of a stream in bounded memory: a sample, repeats, frequent things, exact counts.

A dataset of a million rows is pictured as it is written and never held. Each sketch is exact for
short streams and says when it began to estimate. None uses the process's hash seed, so the same
rows give the same picture.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

T = TypeVar("T")


class Sample(Generic[T]):
    """A uniform sample of `size` things from a stream of any length, the same for a seed.

    Source: Li 1994, "Reservoir-sampling algorithms of time complexity O(n(1+log(N/n)))",
    algorithm L. Depends on the order of the stream, not on how it is cut into batches.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seen = size, 0
        self.items: list[T] = []
        self._random = random.Random(seed)  # noqa: S311  (a picture, no secret)
        self._weight = 1.0
        self._next = size

    def extend(self, values: Sequence[T]) -> None:
        """Go over the next part of the stream."""
        if len(self.items) < self.size:
            self.items.extend(values[: self.size - len(self.items)])
            if len(self.items) == self.size:
                self._skip()
        end = self.seen + len(values)
        while self._next < end and len(self.items) == self.size:
            self.items[self._random.randrange(self.size)] = values[self._next - self.seen]
            self._next += 1
            self._skip()
        self.seen = end

    def _skip(self) -> None:
        draw = 1.0 - self._random.random()
        self._weight *= math.exp(math.log(draw) / self.size)
        draw = 1.0 - self._random.random()
        self._next += math.floor(math.log(draw) / math.log1p(-self._weight))


class Repeats:
    """How much of a stream of texts is an exact repeat.

    Keeps the hashes that fall into a share of all hashes; the share is halved whenever more than
    `limit` different ones are held. Exact below that many different texts.
    """

    def __init__(self, limit: int = 8192) -> None:
        self._limit, self._mask = limit, 0
        self._counts: Counter[int] = Counter()

    def extend(self, texts: Iterable[str]) -> None:
        """Go over the next part of the stream."""
        hashes = [int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) for text in texts]
        mask = self._mask
        self._counts.update(hashes if not mask else [h for h in hashes if not h & mask])
        while len(self._counts) > self._limit:
            mask = self._mask = self._mask << 1 | 1
            self._counts = Counter({h: n for h, n in self._counts.items() if not h & mask})

    @property
    def exact(self) -> bool:
        """Nothing was estimated yet."""
        return not self._mask

    @property
    def distinct(self) -> int:
        """How many different texts went by."""
        return len(self._counts) * (self._mask + 1)

    @property
    def share(self) -> float:
        """The fraction of the texts that had been there before; 0 for none at all."""
        total = self._counts.total()
        return 1.0 - len(self._counts) / total if total else 0.0


class Frequent:
    """The most frequent things of a stream, with counts that are never too high.

    Source: Misra and Gries 1982. `slack` bounds by how much a count may be too low; it is at
    most the stream's length divided by half of `limit`, and 0 below `limit` different things.
    """

    def __init__(self, limit: int = 4096) -> None:
        self._limit, self.slack = limit, 0
        self._counts: Counter[str] = Counter()

    def extend(self, things: Iterable[str]) -> None:
        """Go over the next part of the stream."""
        self._counts.update(things)
        if len(self._counts) > self._limit:
            ranked = sorted(self._counts.values(), reverse=True)
            less = ranked[self._limit // 2]
            self.slack += less
            self._counts = Counter({k: n - less for k, n in self._counts.items() if n > less})

    def top(self, n: int, least: int = 2) -> list[tuple[str, int]]:
        """The `n` most frequent that came at least `least` times, ties by name."""
        ranked = sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(thing, count) for thing, count in ranked[:n] if count >= least]


class Tally(Generic[T]):
    """Exact counts of a stream of few different values; beyond `limit` it gives up and forgets."""

    def __init__(self, limit: int = 5000) -> None:
        self._limit, self.full = limit, True
        self.counts: Counter[T] = Counter()

    def extend(self, counts: Mapping[T, int]) -> None:
        """Go over the next part of the stream, counted already."""
        if not self.full:
            return
        self.counts.update(counts)
        if len(self.counts) > self._limit:
            self.give_up()

    def give_up(self) -> None:
        """Count no more."""
        self.full = False
        self.counts.clear()
