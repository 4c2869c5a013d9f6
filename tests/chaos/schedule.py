"""Which blow falls when: a function of the seed and the length alone."""

import random
from dataclasses import dataclass
from typing import Final

BLOWS: Final = {
    "kill consumer 1": 5,
    "kill consumer 2": 5,
    "kill api": 3,
    "kill worker": 2,
    "kill broker": 2,
    "kill elasticsearch": 2,
    "kill redis": 2,
    "empty redis": 1,
    "alarm": 1,
    "read-only": 1,
    "full disk": 1,
}
"""What may happen, and how often beside the others."""
FIRST: Final = 2.0
"""Seconds before the first blow."""


@dataclass(frozen=True, slots=True)
class Blow:
    """at: seconds from the start.  lasts: until what was struck is put right again."""

    at: float
    what: str
    lasts: float


def schedule(seed: int, seconds: float, every: float = 4.0) -> list[Blow]:
    """Blows within so many seconds, one each `every` on average; each kind at least once if there
    is room for all.
    """
    draw = random.Random(seed)
    count = max(1, round((seconds - FIRST) / every))
    names = list(BLOWS)
    draw.shuffle(names)
    names = names[:count]
    names += draw.choices(list(BLOWS), list(BLOWS.values()), k=count - len(names))
    draw.shuffle(names)
    moments = sorted(draw.uniform(FIRST, max(FIRST, seconds)) for _ in names)
    return [
        Blow(round(at, 2), what, round(draw.uniform(0.0, 4.0), 2))
        for at, what in zip(moments, names, strict=True)
    ]
