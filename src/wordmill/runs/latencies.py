"""How long the answers of a column took, in memory that does not grow with their number.

Times are counted in steps of 2 %, so a quantile is at most 1 % off.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final

STEPS: Final = 1 / math.log(1.02)
"""Steps in which a time grows by the factor e."""


class Latencies:
    """Times of answers. number: how many."""

    __slots__ = ("_counts", "number")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.number = 0

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
