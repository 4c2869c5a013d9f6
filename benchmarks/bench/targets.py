"""What must hold, as figures with a target each. A figure is computed from runs alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.contestants import BY_NAME
from bench.scenarios import AGAIN, LARGE, LATENCY, LIMITED, SMALL, SPEED, WIDE, Run

SERVER_RATE = 100_000
REHEARSAL_TEXT = 80_000
REHEARSAL_SCHEMA = 30_000
SETTLED = 10
"""Seconds after which a lane must have found what a server allows."""


@dataclass(frozen=True)
class Figure:
    """A measured value and what it must be. `better` tells which side of the target is right."""

    what: str
    value: float
    target: float
    better: str  # "more" or "less"
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it holds."""
        return self.value >= self.target if self.better == "more" else self.value <= self.target

    def __str__(self) -> str:
        bound = "at least" if self.better == "more" else "at most"
        value, target = number(self.value) + self.unit, number(self.target) + self.unit
        return f"{self.what}: {value}, {bound} {target}"


def number(value: float) -> str:
    """A number as people write it: three digits that count, thousands set apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class Runs:
    """All runs, asked by scenario and contestant."""

    all: Sequence[Run]

    def has(self, scenario: str, contestant: str) -> bool:
        """Whether there is one that went well."""
        return bool(self.of(scenario, contestant))

    def of(self, scenario: str, contestant: str) -> list[Run]:
        """Those that went well."""
        wanted = (scenario, contestant, "")
        return [run for run in self.all if (run.scenario, run.contestant, run.fault) == wanted]

    def median(self, scenario: str, contestant: str, read: Callable[[Run], float]) -> float:
        """The median of what `read` gives; not for a contestant that `has` denies."""
        return median(read(run) for run in self.of(scenario, contestant))


def speed(runs: Runs) -> Iterator[Figure]:
    """Throughput and start at no latency."""
    name = SPEED.name

    def rate(contestant: str) -> float:
        return runs.median(name, contestant, lambda run: run.rate)

    if runs.has(name, "engine"):
        if runs.has(name, "hyper"):
            share = 100 * rate("engine") / rate("hyper")
            yield Figure("engine, share of the hyper client's requests/s", share, 50, "more", " %")
        tools = [one for one in BY_NAME.values() if one.group == "data tool"]
        rates = [rate(one.name) for one in tools if runs.has(name, one.name)]
        if rates:
            times = rate("engine") / max(rates)
            yield Figure("engine against the best data tool's requests/s", times, 50, "more", " x")
    if runs.has(name, "recipe"):
        rows = runs.median(name, "recipe", lambda run: run.whole_rate)
        yield Figure("recipe, rows/s of the whole process", rows, 8_000, "more")
        if runs.has(name, "data-designer"):
            # Without its start and end, which weigh more in its fewer rows.
            theirs = rate("data-designer")
            yield Figure("recipe against data-designer's rows/s", rows / theirs, 20, "more", " x")
    for contestant in ("engine", "recipe"):
        if runs.has(name, contestant):
            first = runs.median(name, contestant, lambda run: run.first)
            yield Figure(f"{contestant}, process start to first request", first, 0.5, "less", " s")


def latency(runs: Runs) -> Iterator[Figure]:
    """How near to the ideal, where a server takes its time."""
    for scenario, target in ((LATENCY, 1.05), (WIDE, 1.10)):
        if runs.has(scenario.name, "engine"):
            times = runs.median(scenario.name, "engine", lambda run: run.over_ideal)
            yield Figure(f"engine, {scenario.name}, window over ideal", times, target, "less", " x")
    if runs.has(LATENCY.name, "recipe"):
        times = runs.median(LATENCY.name, "recipe", lambda run: run.whole_over_ideal)
        what = f"recipe, {LATENCY.name}, whole process over ideal"
        yield Figure(what, times, 1.08, "less", " x")


def processor(runs: Runs) -> Iterator[Figure]:
    """CPU seconds for 1,000 requests."""
    for contestant, target in (("engine", 0.1), ("recipe", 0.15)):
        for scenario in (SPEED, LATENCY, WIDE):
            if runs.has(scenario.name, contestant):
                used = runs.median(scenario.name, contestant, lambda run: run.cpu_per_1000)
                what = f"{contestant}, {scenario.name}, CPU seconds per 1,000"
                yield Figure(what, used, target, "less", " s")


def limits(runs: Runs) -> Iterator[Figure]:
    """What a lane makes of a server that allows 8 at once, once it has settled."""
    for run in runs.of(LIMITED.name, "engine"):
        settled = run.by_second[SETTLED:-2]  # the last seconds drain
        if not settled:
            continue
        answers = sum(second[0] for second in settled)
        throttled = sum(second[1] for second in settled)
        allowed = len(settled) * LIMITED.limit * 1000 / LIMITED.latency
        share = 100 * throttled / max(1, answers + throttled)
        yield Figure("limit of 8 at once: calls throttled after 10 s", share, 5, "less", " %")
        reached = 100 * answers / allowed
        yield Figure("limit of 8 at once: share of what is allowed", reached, 85, "more", " %")


def memory(runs: Runs) -> Iterator[Figure]:
    """Growth of the peak memory from ten thousand to a million."""
    for contestant in ("engine", "recipe"):
        if not (runs.has(SMALL.name, contestant) and runs.has(LARGE.name, contestant)):
            continue
        small = runs.median(SMALL.name, contestant, lambda run: run.rss)
        large = runs.median(LARGE.name, contestant, lambda run: run.rss)
        what = f"{contestant}, growth of peak memory from 10 thousand to 1 million"
        if contestant == "engine":
            yield Figure(what, 100 * (large / small - 1), 15, "less", " %")
        else:
            yield Figure(what, (large - small) / 1e6, 60, "less", " MB")


def again(runs: Runs) -> Iterator[Figure]:
    """Requests sent by a second run on the same records."""
    for run in runs.of(AGAIN, "engine"):
        yield Figure("engine on finished records, requests sent", run.sent, 0, "less")


def figures(runs: Runs) -> list[Figure]:
    """All that the runs tell."""
    parts = (speed, latency, processor, limits, memory, again)
    return [figure for part in parts for figure in part(runs)]
