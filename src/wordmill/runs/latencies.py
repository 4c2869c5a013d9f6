"""How long the answers of a column took, in memory that does not grow with their number.

Times are counted in steps of 2 %, so a quantile is at most 1 % off.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

STEPS: Final = 1 / math.log(1.02)
"""Steps in which a time grows by the factor e."""


class Latencies:
    """Times of answers. number: how many."""

    __slots__ = ("_counts", "number")

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        """Counts: what `counts` of others gave."""
        self._counts: Counter[int] = Counter()
        for step, number in (counts or {}).items():
            self._counts[int(step)] = number
        self.number = self._counts.total()

    def counts(self) -> dict[str, int]:
        """All that is known, as JSON takes it."""
        return {str(step): number for step, number in self._counts.items()}

    def merge(self, counts: Mapping[str, int]) -> None:
        """Count those too that others have counted, as `counts` gives them."""
        for step, number in counts.items():
            self._counts[int(step)] += number
            self.number += number

    def add(self, seconds: Iterable[float]) -> None:
        """Count more of them; what took no time at all was asked of nobody and does not count."""
        found = [math.floor(STEPS * math.log(one)) for one in seconds if one > 0]
        self._counts.update(found)
        self.number += len(found)

    def quantile(self, q: float) -> float | None:
        """Seconds within which a fraction `q` of them (0 to 1) had come; None for none at all."""
        wanted = max(1, math.ceil(q * self.number))
        for step in sorted(self._counts):
            wanted -= self._counts[step]
            if wanted <= 0:
                return math.exp((step + 0.5) / STEPS)
        return None
