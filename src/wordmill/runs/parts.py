"""A run in parts: what is ordered of a worker, what it tells, and where its rows lie.

A part is a job. Its rows, as they are finished, lie in the storage in **shards** of `SHARD` rows,
each written whole; when the job ends, the finished rows of shards that are not whole follow as its
**rest**. So whoever takes a part up again, and whoever puts the run together, needs no more than
the storage and the job's row.

    runs/<run>/parts/recipe.json                what is run
    runs/<run>/parts/<n>/given-<round>.jsonl    rows of the run that this one adds to
    runs/<run>/parts/<n>/<job>-<k>.jsonl        shard k of the rows that the job was given
    runs/<run>/parts/<n>/<job>-rest.jsonl       the others that are finished
    runs/<run>/parts/<n>/records.db             the engine's: replies, and rows
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from wordmill.runs.execute import Tally
from wordmill.runs.meter import ADDED, Lane, Reading
from wordmill.runs.session import Kind
from wordmill.types import Value

PART: Final = "part"
"""The kind of job."""
SHARD: Final = 512
"""Rows of a shard."""
UNITS: Final = ("requests", "tokens", "money")
"""What a budget bounds."""


class Order(BaseModel):
    """What a worker is to make: the payload of a job.

    rows: their numbers, as [first, after the last] each, ascending.  of: rows of the whole run.
    digest: of the recipe.  budget: what this part may use of the run's.
    given: rows of an earlier run lie beside it.  charge: whether to write down what is used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    round: str
    part: int
    rows: list[tuple[int, int]]
    of: int
    digest: str
    budget: dict[str, float]
    given: bool
    charge: bool

    def numbers(self) -> list[int]:
        """The numbers of its rows."""
        return list(chain.from_iterable(range(low, high) for low, high in self.rows))


class Told(BaseModel):
    """How far a part is: the progress of its job.

    ended: finished rows of it.  shards: those that lie in the storage.  rest: that one lies there.
    counts: as `Reading.counts`, of all who worked on this job.  used: of what a budget bounds, and
    `before`: what its records had used when the job began.  charged: of `counts`, what is written
    down in the ledger.  kind, sentence: how it ended, "" before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ended: int = 0
    part_done: int = 0
    shards: list[int] = []
    rest: bool = False
    counts: dict[str, Value] = {}
    used: dict[str, float] = Field(default_factory=lambda: dict.fromkeys(UNITS, 0.0))
    before: dict[str, float] | None = None
    charged: dict[str, float] = {}
    tally: dict[str, dict[str, int]] = {}
    latencies: dict[str, dict[str, int]] = {}
    lanes: list[dict[str, Value]] = []
    in_flight: int = 0
    resumed: int = 0
    degraded: int = 0
    first: str = ""
    said: list[str] = []
    kind: Kind | None = None
    sentence: str = ""


TALLIED: Final = ("done", "failed", "off", "failed_items")
"""What of a `Tally` is told."""


def tallied(tally: Tally) -> dict[str, dict[str, int]]:
    """The counts of cells, as `Told` has them."""
    return {name: dict(getattr(tally, name)) for name in TALLIED}


def add_tally(tally: Tally, told: Mapping[str, Mapping[str, int]]) -> None:
    """Count the cells of a part too."""
    for name, counts in told.items():
        into = getattr(tally, name)
        for column, number in counts.items():
            into[column] = into.get(column, 0) + number


def lanes_of(parts: Iterable[Told]) -> tuple[Lane, ...]:
    """The models just now, all parts together."""
    found: dict[str, Lane] = {}
    for told in parts:
        for values in told.lanes:
            one = Lane(**values)
            other = found.get(one.name)
            if other is not None:
                one = Lane(
                    one.name, one.in_flight + other.in_flight, one.limit + other.limit,
                    one.backed_off + other.backed_off,
                    max(one.p50 or 0.0, other.p50 or 0.0) or None,
                    one.stopped or other.stopped, one.fallback_used + other.fallback_used,
                )  # fmt: skip
            found[one.name] = one
    return tuple(found.values())


def sums(base: Mapping[str, Value], parts: Iterable[Told]) -> dict[str, Value]:
    """The counts of the run: what it had used before, and all its parts."""
    total: dict[str, Value] = {name: base.get(name, 0) for name in ADDED}
    by_cause: dict[str, dict[str, int]] = {
        name: dict(base.get(name, {})) for name in ("retried", "failed")
    }
    for told in parts:
        for name in ADDED:
            total[name] += told.counts.get(name, 0)
        for name, into in by_cause.items():
            for cause, number in told.counts.get(name, {}).items():
                into[cause] = into.get(cause, 0) + number
    return {**total, **by_cause}


def spent(counts: Mapping[str, Value]) -> dict[str, float]:
    """Of the counts of a run, what a budget bounds."""
    tokens = counts.get("tokens_in", 0) + counts.get("tokens_out", 0)
    money = counts.get("money", 0.0)
    return {"requests": counts.get("requests", 0), "tokens": tokens, "money": money}


def reading_of(
    counts: Mapping[str, Value], parts: Sequence[Told], resumed: int, seconds: float, sitting: float
) -> Reading:
    """The counts as a reading of the meter.

    parts: those at work.  resumed: answers that the others had.  seconds: of the run; sitting: of
    this one.
    """
    added = {name: counts[name] for name in ADDED if name != "seconds"}
    return Reading(
        **added,
        seconds=seconds,
        resumed=resumed + sum(told.resumed for told in parts),
        retried=counts["retried"],
        failed=counts["failed"],
        spent=spent(counts),
        ceiling=None,
        lanes=lanes_of(parts),
        in_flight=sum(told.in_flight for told in parts),
        sitting=sitting,
    )


def place_of(run: str, part: int | None = None) -> str:
    """Where a part, or all of a run's parts, lies in the storage."""
    above = f"runs/{run}/parts"
    return above if part is None else f"{above}/{part}"


def recipe_place(run: str) -> str:
    """Where the storage has what is run."""
    return f"{place_of(run)}/recipe.json"


def given_place(order: Order) -> str:
    """Where the rows of an earlier run lie."""
    return f"{place_of(order.run, order.part)}/given-{order.round}.jsonl"


def rows_place(order: Order, job: str, shard: int | None) -> str:
    """Where rows that a job has made lie. shard: None for the rest."""
    return f"{place_of(order.run, order.part)}/{job}-{'rest' if shard is None else shard}.jsonl"


def written(records: Iterable[bytes]) -> bytes:
    """Row records as the file of a shard. Records are JSON without line ends."""
    return b"".join(record + b"\n" for record in records)


def read(data: bytes) -> tuple[list[int], list[bytes]]:
    """Numbers and records of a shard's file."""
    records = data.splitlines()
    return [int(orjson.loads(record)["row"]) for record in records], records


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending numbers as [first, after the last] each."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
