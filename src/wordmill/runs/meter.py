"""What a run has used, and how far it is: one snapshot for progress, registry and summary.

The engine counts a sitting; a run may have several. `Meter` adds what earlier sittings left in
the registry, so that the numbers a person sees are the run's.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from wordmill._engine import Engine
from wordmill.types import Value

ADDED: Final = ("requests", "cached", "joined", "tokens_in", "tokens_out", "money", "seconds")
"""Counts that are sums over sittings."""


NO_LANE: Final = {"name": "(none)", "base_url": "http://127.0.0.1:9", "model": "none"}
"""An engine has a lane, also one that only keeps and reads rows. No model can have this name."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A model just now. limit: requests at once that it allows itself.  p50: seconds, or None.

    stopped: the sentence why nothing more is sent to it, or None.
    """

    name: str
    in_flight: int
    limit: int
    backed_off: int
    p50: float | None
    stopped: str | None
    fallback_used: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the meter. Times in seconds, money in the catalog's currency.

    resumed: answers that earlier sittings of this run had got.  spent: all sittings, by the
    names of the ceilings.  ceiling: the sentence that one is reached, or None.
    """

    seconds: float
    requests: int
    cached: int
    joined: int
    resumed: int
    tokens_in: int
    tokens_out: int
    money: float
    retried: Mapping[str, int]
    failed: Mapping[str, int]
    spent: Mapping[str, float]
    ceiling: str | None
    lanes: tuple[Lane, ...]
    in_flight: int = 0
    sitting: float = 0.0
    """Seconds of this sitting alone."""

    def counts(self) -> dict[str, Value]:
        """What the registry keeps of it."""
        kept = {name: getattr(self, name) for name in ADDED}
        return {**kept, "retried": dict(self.retried), "failed": dict(self.failed)}


@dataclass(slots=True)
class Meter:
    """Reads the engine's metrics. earlier: the counts that the last sitting left behind."""

    engine: Engine
    earlier: Mapping[str, Value] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def read(self) -> Reading:
        """How things stand now."""
        now = orjson.loads(self.engine.metrics())
        sitting = time.monotonic() - self.started
        fresh = {
            "requests": now["sent"],
            "cached": now["cached"],
            "joined": now["joined"],
            "tokens_in": now["tokens_in"],
            "tokens_out": now["tokens_out"],
            "money": now["money"],
            "seconds": sitting,
        }
        sums = {name: self.earlier.get(name, 0) + fresh[name] for name in ADDED}
        # These the records themselves remember, also of a sitting that was killed.
        sums |= {name: now["spent"][name] for name in ("requests", "money")}
        return Reading(
            **sums,
            resumed=now["resumed"],
            retried=Counter(self.earlier.get("retried", {})) + Counter(now["retried"]),
            failed=Counter(self.earlier.get("failed", {})) + Counter(now["failed"]),
            spent=now["spent"],
            ceiling=now["budget_reached"],
            lanes=tuple(
                Lane(
                    name=name,
                    in_flight=lane["in_flight"],
                    limit=lane["limit"],
                    backed_off=lane["backed_off"],
                    p50=lane["p50"] or None,
                    stopped=lane["stopped"],
                    fallback_used=lane["fallback_used"],
                )
                for name, lane in now["lanes"].items()
                if name != NO_LANE["name"]
            ),
            in_flight=now["in_flight"],
            sitting=sitting,
        )
