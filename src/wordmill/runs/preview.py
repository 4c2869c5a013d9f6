"""A few rows in full, before a run. Nothing is kept, and nothing is asked that a run was told."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from wordmill._engine import Engine, EngineFault
from wordmill.errors import ConfigError, EngineError
from wordmill.providers.base import Provider
from wordmill.runs.execute import Executor
from wordmill.runs.meter import Meter, Reading
from wordmill.runs.outbox import Outbox
from wordmill.runs.plan import COLUMN_MASK, COLUMN_SHIFT, ITEM_MASK, ITEM_SHIFT, ROW_SHIFT
from wordmill.runs.session import End, Session, Terms
from wordmill.runs.sitting import Job, start_engine
from wordmill.settings import Settings
from wordmill.types import Ask, Value

LIMIT: Final = 1000
"""Rows of a preview, at most: they are held in memory."""

SLOT: Final = "\0"


@dataclass(frozen=True, slots=True)
class Sent:
    """One question as it was asked. body: the JSON that is sent."""

    row: int
    column: str
    item: int
    model: str
    because: str
    body: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Preview:
    """records: the rows that were made, by number.  sent: every question, in order.

    end: why it ended.
    """

    records: list[Mapping[str, Value]]
    sent: list[Sent]
    end: End
    reading: Reading


@dataclass(slots=True)
class _Shelf:
    """Keeps rows in memory."""

    records: dict[int, Mapping[str, Value]] = field(default_factory=dict)
    ended: int = 0

    def keep(self, numbers: list[int], records: list[bytes]) -> None:
        self.ended += len(numbers)
        self.records.update(zip(numbers, map(orjson.loads, records), strict=True))

    def write_ready(self) -> None:
        """Nothing: they stay."""


class _Listening(Outbox):
    """An outbox that remembers what went through it."""

    def __init__(
        self, engine: Engine, providers: Mapping[str, Provider], say: Callable[[str], None]
    ) -> None:
        super().__init__(engine, providers, say, {})
        self.heard: list[tuple[int, Ask, Mapping[str, Value]]] = []
        self._asked = providers

    def add(self, number: int, ask: Ask) -> None:
        super().add(number, ask)
        provider = self._asked[ask.shape.model]
        body = {"model": provider.model.model, **provider.body(ask.shape)}
        # As the engine does it: the salt goes as a seed where the server takes one.
        if body.setdefault("seed", ask.salt if provider.dialect.seed else None) is None:
            del body["seed"]
        self.heard.append((number, ask, body))


def preview(
    job: Job, settings: Settings, say: Callable[[str], None], wanted: Callable[[], bool]
) -> Preview:
    """Make the first rows of a job. Raises as `Sitting.work`, ConfigError for too many rows."""
    if not 0 < job.rows <= LIMIT:
        raise ConfigError(f"A preview shows 1 to {LIMIT:,} rows, not {job.rows:,}.")
    engine = start_engine(job, settings, None)
    try:
        shelf = _Shelf()
        outbox = _Listening(engine, job.lanes.providers, say)
        executor = Executor(
            job.plan, outbox, shelf, iter(range(job.rows)), window=job.rows, backlog=LIMIT
        )
        meter = Meter(engine)
        terms = Terms(rows=job.rows, grace=settings.grace_seconds, wanted=wanted)
        session = Session(engine, executor, outbox, shelf, meter, terms)
        end = session.run()
        return Preview(
            records=[shelf.records[number] for number in sorted(shelf.records)],
            sent=list(_sent(outbox.heard, tuple(step.name for step in job.plan.steps))),
            end=end,
            reading=meter.read(),
        )
    except EngineFault as fault:
        raise EngineError(f"The engine ended: {fault}") from fault
    finally:
        engine.close()


def _sent(
    heard: list[tuple[int, Ask, Mapping[str, Value]]], columns: tuple[str, ...]
) -> Iterator[Sent]:
    for number, ask, body in sorted(heard, key=lambda one: one[0]):
        yield Sent(
            row=number >> ROW_SHIFT,
            column=columns[number >> COLUMN_SHIFT & COLUMN_MASK],
            item=number >> ITEM_SHIFT & ITEM_MASK,
            model=ask.shape.model,
            because=str(ask.because) if ask.because else "",
            body=_filled(body, iter(ask.texts)),
        )


def _filled(value: Value, texts: Iterator[str]) -> Value:
    """The body with its slots filled, in order."""
    if value == SLOT:
        return next(texts)
    if isinstance(value, dict):
        return {name: _filled(part, texts) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, texts) for part in value]
    return value
