"""What was measured of the answers, by model and by person, and how it went over time.

Counts are since the start. The history has one sample every few seconds for the last hour; both are
in memory, and lost with the process. People are ids here, never names.
"""

import bisect
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper ends, in seconds, of the histograms of waiting times."""
GAPS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""The same for the time between tokens."""
EVERY: Final = 5.0
"""Seconds between samples of the history."""
SAMPLES: Final = 720
PEOPLE: Final = 2000
"""Most pairs of a model and a person that are told apart; further people count as one."""
OTHERS: Final = "others"


class Histogram:
    """How often a time fell under each of some ends."""

    def __init__(self, ends: tuple[float, ...] = BUCKETS) -> None:
        self.ends, self.counts = ends, [0] * (len(ends) + 1)
        self.sum, self.count = 0.0, 0

    def add(self, seconds: float, times: int = 1) -> None:
        """`times` times, each so many seconds long."""
        self.counts[bisect.bisect_left(self.ends, seconds)] += times
        self.sum += seconds * times
        self.count += times

    @property
    def mean(self) -> float | None:
        """Seconds; None for no time at all."""
        return self.sum / self.count if self.count else None

    def quantile(self, q: float) -> float | None:
        """The upper end of the bucket in which the quantile lies, in seconds; None for no time, and
        the last end for what is above all.
        """
        wanted, seen = q * self.count, 0
        for end, count in zip(self.ends, self.counts, strict=False):
            seen += count
            if count and seen >= wanted:
                return end
        return self.ends[-1] if self.count else None


@dataclass
class Figures:
    """Of one model and one person. tokens: as the workers counted, or as pieces came where the
    worker was not asked to count.
    """

    requests: int = 0
    failed: int = 0
    cancelled: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    waited: Histogram = field(default_factory=Histogram)
    """Until a slot was free."""
    first: Histogram = field(default_factory=Histogram)
    """From the request's arrival to its first token."""
    between: Histogram = field(default_factory=lambda: Histogram(GAPS))
    """Between tokens, the mean of each answer counted as often as it had gaps."""


class Metrics:
    """All figures of the server."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._figures: dict[tuple[str, str], Figures] = {}
        self._history: dict[str, deque[Mapping[str, Any]]] = {}
        self._last: dict[str, tuple[float, int, int]] = {}

    def of(self, model: str, person: str) -> Figures:
        """The figures of a model and a person, to be added to."""
        key = (model, person)
        if key not in self._figures and len(self._figures) >= PEOPLE:
            key = (model, OTHERS)
        return self._figures.setdefault(key, Figures())

    def total(self, model: str) -> Figures:
        """A model's figures, all people together."""
        whole = Figures()
        for _, one in self._by_model(model):
            whole.requests += one.requests
            whole.failed += one.failed
            whole.cancelled += one.cancelled
            whole.tokens_in += one.tokens_in
            whole.tokens_out += one.tokens_out
            for name in ("waited", "first", "between"):
                mine, other = getattr(whole, name), getattr(one, name)
                mine.counts = [a + b for a, b in zip(mine.counts, other.counts, strict=True)]
                mine.sum, mine.count = mine.sum + other.sum, mine.count + other.count
        return whole

    def sample(self, model: str, **now: float | None) -> Mapping[str, Any]:
        """Add what is true now to a model's history, with tokens a second since the last sample."""
        at, whole = self._clock(), self.total(model)
        before = self._last.get(model, (at, whole.tokens_in, whole.tokens_out))
        self._last[model] = (at, whole.tokens_in, whole.tokens_out)
        seconds = max(at - before[0], 1e-3)
        sample = {
            "at": at,
            "tokens_in": (whole.tokens_in - before[1]) / seconds,
            "tokens_out": (whole.tokens_out - before[2]) / seconds,
            **now,
        }
        self._history.setdefault(model, deque(maxlen=SAMPLES)).append(sample)
        return sample

    def history(self, model: str, since: float = 0.0) -> list[Mapping[str, Any]]:
        """A model's samples after a moment (Unix seconds), oldest first."""
        return [one for one in self._history.get(model, ()) if one["at"] > since]

    def people(self, model: str) -> dict[str, dict[str, Any]]:
        """A model's figures by person, for people and programs."""
        return {person: shown(one) for person, one in self._by_model(model)}

    def prometheus(self, gauges: Mapping[str, Mapping[str, float]]) -> str:
        """All of it as Prometheus reads it. gauges: name -> model -> value."""
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _by_model(self, model: str) -> Iterator[tuple[str, Figures]]:
        return ((who, one) for (name, who), one in self._figures.items() if name == model)

    def _lines(self, gauges: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
        for name, by_model in gauges.items():
            yield f"# TYPE wordmill_model_{name} gauge"
            for model, value in by_model.items():
                yield f"wordmill_model_{name}{_labels(model=model)} {value:g}"
        for name in ("requests", "failed", "cancelled", "tokens_in", "tokens_out"):
            yield f"# TYPE wordmill_model_{name}_total counter"
            for (model, person), one in self._figures.items():
                labels = _labels(model=model, person=person)
                yield f"wordmill_model_{name}_total{labels} {getattr(one, name)}"
        for name, words in (
            ("waited", "queue"), ("first", "first_token"), ("between", "between_tokens"),
        ):  # fmt: skip
            yield f"# TYPE wordmill_model_{words}_seconds histogram"
            for model in dict.fromkeys(model for model, _ in self._figures):
                yield from _buckets(model, words, getattr(self.total(model), name))


def shown(one: Figures) -> dict[str, Any]:
    """Figures as JSON: counts, and of each time its mean and 95th percentile in seconds."""
    times: dict[str, Any] = {}
    for name in ("waited", "first", "between"):
        histogram: Histogram = getattr(one, name)
        times[name] = {"mean": histogram.mean, "p95": histogram.quantile(0.95)}
    return {
        "requests": one.requests,
        "failed": one.failed,
        "cancelled": one.cancelled,
        "tokens_in": one.tokens_in,
        "tokens_out": one.tokens_out,
        **times,
    }


def _buckets(model: str, name: str, one: Histogram) -> Iterable[str]:
    below = 0
    for end, count in zip((*one.ends, float("inf")), one.counts, strict=True):
        below += count
        labels = _labels(model=model, le="+Inf" if end == float("inf") else f"{end:g}")
        yield f"wordmill_model_{name}_seconds_bucket{labels} {below}"
    yield f"wordmill_model_{name}_seconds_sum{_labels(model=model)} {one.sum:g}"
    yield f"wordmill_model_{name}_seconds_count{_labels(model=model)} {one.count}"


def _labels(**labels: str) -> str:
    quoted = (
        '{}="{}"'.format(name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in labels.items()
    )
    return "{" + ",".join(quoted) + "}"
