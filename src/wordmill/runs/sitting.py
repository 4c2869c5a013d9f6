"""One sitting of a run with all its parts: engine, outbox, rows, session, and the dataset."""

import gc
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias

import orjson

from wordmill import telemetry
from wordmill._engine import Engine, EngineFault
from wordmill.database import LOCAL
from wordmill.errors import EngineError, StorageError
from wordmill.recipes import Recipe
from wordmill.runs.budget import Budget
from wordmill.runs.execute import Executor, Tally
from wordmill.runs.files import Concurrency, RunFiles, reading
from wordmill.runs.given import EarlierRows
from wordmill.runs.lanes import Lanes
from wordmill.runs.meter import Meter
from wordmill.runs.outbox import Outbox
from wordmill.runs.plan import Plan
from wordmill.runs.progress import Reporter
from wordmill.runs.result import Result, result_of
from wordmill.runs.row import failed_on_the_wire
from wordmill.runs.rows import GROUP, RowStore
from wordmill.runs.session import End, Progress, Session, Terms
from wordmill.settings import Settings
from wordmill.types import Value

if TYPE_CHECKING:
    from wordmill.datasets import DatasetInfo, DatasetWriter, Summary, Timings

Beat: TypeAlias = Callable[[Mapping[str, Value]], None]

LEAST_WINDOW: Final = 2048
"""Rows that are open at once, at least; twice what may be in flight where that is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be made.

    folder: of the dataset.  rest_of: the files of a run whose rows are completed.
    picked: the numbers of those rows, () for all.
    owner: whose it is; answers in the cache are remembered for each person apart.
    """

    recipe: Recipe
    plan: Plan
    lanes: Lanes
    rows: int
    folder: Path
    budget: Budget = field(default_factory=Budget)
    concurrency: Concurrency = None
    cache: bool = True
    rest_of: RunFiles | None = None
    picked: tuple[int, ...] = ()
    owner: str = LOCAL

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns worth a line: those that are asked for; all of them where none is."""
        return self.plan.asking or self.recipe.order


class Working(Protocol):
    """What makes the rows of a sitting: the loop in this process, or workers elsewhere."""

    def run(self) -> End:
        """Until the end. Raises as `Session.run`."""

    def progress(self) -> Progress:
        """How far it is now."""


class Sitting:
    """Open it as a context manager, `work` once.

    files: of the run.  started: its first sitting.  earlier: the counts that the last one left in
    the registry.  beat: told the newest counts, five times a second.
    """

    def __init__(
        self,
        settings: Settings,
        job: Job,
        files: RunFiles,
        reporter: Reporter,
        *,
        started: datetime,
        earlier: Mapping[str, Value],
        beat: Beat,
    ) -> None:
        self._settings, self._job, self._files = settings, job, files
        self._earlier, self._reporter, self._beat = earlier, reporter, beat
        self._started = started

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._open(stack)
            stack.callback(gc.unfreeze)
            stack.callback(gc.set_threshold, *gc.get_threshold())
            self._stack = stack.pop_all()
        return self

    def _open(self, stack: ExitStack) -> None:
        job = self._job
        self._open_rows(stack, start_engine(job, self._settings, self._files.records))
        self._meter = Meter(self._engine, self._earlier)
        at_once = job.lanes.at_once(self._settings, job.concurrency)
        self._outbox = Outbox(self._engine, job.lanes.providers, self._refused, at_once)
        self._outbox.restore(self._files.refusals())
        given = self._given(stack)
        window = window_of(job, self._settings)
        self._executor = Executor(
            job.plan, self._outbox, self._store, self._store.missing(),
            window=window, backlog=window // 2,
            given=None if given is None else EarlierRows(given),
        )  # fmt: skip
        self._executor.tally.latencies |= self._files.latencies()

    def _open_rows(self, stack: ExitStack, engine: Engine) -> None:
        """The rows that there are, in the engine's records, and what takes more of them."""
        self._engine = engine
        stack.callback(engine.close)
        self._store = RowStore(engine, self._job.rows, self._writer)
        stack.callback(self._store.discard)
        self._mark_finished()

    def _given(self, stack: ExitStack) -> Engine | None:
        """The records of the run that this one adds to, if it does."""
        if self._job.rest_of is None:
            return None
        self._files.take_rows(self._job.rest_of, self._job.picked)
        return stack.enter_context(reading(self._files.given))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def work(self, wanted: Callable[[], bool]) -> Result:
        """Make the rows and the dataset. wanted: whether somebody asks to end.

        Raises StorageError and EngineError as `Session.run`; StorageError also when the dataset
        cannot be written. What was received is kept in all cases.
        """
        # What is alive now stays: the collector need not look at it again, and the loop makes
        # no cycles, so it may look rarely.
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        terms = Terms(
            rows=self._job.rows,
            grace=self._settings.grace_seconds,
            wanted=wanted,
            show=self._show,
            prepare=_import_writer,
        )
        session = self._session(terms)
        earlier = self._store.ended
        self._reporter.begin(self._files.run, self._job.shown, earlier, self._job.budget)
        told = telemetry.measured(
            "run", name=self._files.run, recipe=self._job.recipe.name, person=self._job.owner
        )
        try:
            with told as said:
                end = session.run()
                result = self._finish(end, session.progress())
                said |= self._told(end, session.progress())
                return result
        except EngineFault as fault:
            run = self._files.run
            raise EngineError(
                f"The engine ended: {fault} `wordmill resume {run}` goes on with what is kept."
            ) from fault
        finally:
            self._reporter.close()

    def _session(self, terms: Terms) -> Working:
        return Session(self._engine, self._executor, self._outbox, self._store, self._meter, terms)

    def _told(self, end: End, progress: Progress) -> dict[str, telemetry.Field]:
        """What is said of this sitting; of each of its steps it is said here."""
        tell_steps(self._job, self._files.run, progress.tally)
        reading = progress.reading
        return {
            "state": end.kind,
            "rows": progress.ended,
            "requests": reading.requests,
            "input_tokens": reading.tokens_in,
            "output_tokens": reading.tokens_out,
        }

    def _finish(self, end: End, progress: Progress) -> Result:
        summary = self._summary(progress, end.sentence)
        dataset = self._store.finish(summary)
        return result_of(
            self._files.run, self._job.recipe, end, dataset, progress,
            degraded=self._degraded(), timings=summary.timings,
            samples=self._samples(),
        )  # fmt: skip

    def _degraded(self) -> int:
        """Questions that were asked again in simpler form."""
        return self._outbox.degraded

    def _samples(self) -> tuple[Mapping[str, Value], ...]:
        """Two rows to show: the first that are kept and whole, or just the first."""
        records = [orjson.loads(text) for _, text in self._engine.rows(0, GROUP // 16)]
        records.sort(key=lambda one: (one["kept"] is False) + 2 * bool(one["errors"]))
        return tuple(sorted(records[:2], key=lambda one: int(one["row"])))

    def _mark_finished(self) -> None:
        """Rows of earlier sittings; those with a cell that failed on the wire are made again."""
        numbers = [n for n in self._engine.row_numbers() if n < self._job.rows]
        for number in numbers:
            self._store.mark(number)
        # Only a sitting that ended in good order has left this count; a killed one may have failed
        # cells that it never told of.
        if not numbers or self._earlier.get("failed_rows") == 0:
            return
        for low in range(numbers[0], numbers[-1] + 1, GROUP):
            for number, record in self._engine.rows(low, low + GROUP):
                if number < self._job.rows and failed_on_the_wire(record):
                    self._store.unmark(number)

    def _show(self, progress: Progress) -> None:
        tally = progress.tally
        self._beat({
            **progress.reading.counts(),
            "ended": progress.ended,
            "part_done": progress.part_done,
            "first_request": self._first(progress),
            "failed_cells": (
                sum(tally.failed.values()) + sum(tally.failed_items.values())
                + self._earlier.get("failed_cells", 0)
            ),
        })  # fmt: skip
        self._reporter.show(progress)

    def _refused(self, sentence: str) -> None:
        self._reporter.say(sentence)
        self._files.save_refusals(self._outbox.refusals)

    def _writer(self) -> "DatasetWriter":
        from wordmill.datasets import DatasetWriter

        then = f"Every answer is kept: make room, then `wordmill resume {self._files.run}` goes on."
        return DatasetWriter(self._job.folder, dataset_info(self._job, self._files.run), then=then)

    def _summary(self, progress: Progress, ended: str) -> "Summary":
        from wordmill.datasets import ModelFacts, Summary

        reading = progress.reading
        return Summary(
            models=tuple(
                ModelFacts(
                    model.name, model.provider, model.model,
                    self._job.lanes.providers[model.name].identity,
                    model.price_in, model.price_out,
                )
                for model in self._job.lanes.models.values()
            ),
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(reading.seconds, 3),
            wanted=self._job.rows,
            ended=ended,
            requests=reading.requests,
            cached=reading.cached,
            joined=reading.joined,
            resumed=reading.resumed,
            retried=reading.retried,
            failed=reading.failed,
            tokens_in=reading.tokens_in,
            tokens_out=reading.tokens_out,
            money=reading.money,
            budget=self._job.budget.ceilings(),
            timings=self._timings(progress),
        )  # fmt: skip

    def _timings(self, progress: Progress) -> "Timings":
        from wordmill.datasets import Latency, Timings

        self._files.save_latencies(progress.tally.latencies)
        quantiles = {
            name: (times.number, times.quantile(0.5), times.quantile(0.95))
            for name, times in progress.tally.latencies.items()
        }
        return Timings(
            started=self._started.isoformat(timespec="milliseconds"),
            first_request=self._first(progress),
            ended=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(progress.reading.seconds, 3),
            columns={
                name: Latency(number, round(p50, 4), round(p95, 4))
                for name, (number, p50, p95) in quantiles.items()
                if p50 is not None and p95 is not None
            },
        )

    def _first(self, progress: Progress) -> str:
        """When the run's first question went to a server, in whichever sitting that was."""
        earlier = str(self._earlier.get("first_request", ""))
        if earlier or progress.first is None or not progress.reading.requests:
            return earlier
        return progress.first.isoformat(timespec="milliseconds")


def window_of(job: Job, settings: Settings) -> int:
    """Rows that are open at once."""
    at_once = job.lanes.at_once(settings, job.concurrency)
    most = sum(at_once[name] or settings.max_concurrency for name in job.lanes.named)
    return max(LEAST_WINDOW, 2 * most)


def tell_steps(job: Job, run: str, tally: Tally) -> None:
    """Say of each step of a run what it took."""
    for name, (began, ended) in tally.spans.items():
        read, written = tally.tokens[name]
        column = job.recipe.columns[name]
        models = column.models() or {job.recipe.model or ""}
        telemetry.ended(
            "step", ended - began, name=name, run=run, person=job.owner,
            model=",".join(sorted(models)) if column.asks_model else None,
            done=tally.done[name], failed=tally.failed[name],
            input_tokens=read, output_tokens=written,
        )  # fmt: skip


def start_engine(job: Job, settings: Settings, records: Path | None) -> Engine:
    """The engine of a job; its files are named by absolute paths, since the cache remembers them.

    Raises StorageError when a file cannot be opened, KeyMissing.
    """
    cache = settings.cache_file.absolute() if job.cache else None
    config = job.lanes.config(
        settings, owner=job.owner, records=records, cache=cache,
        budget=job.budget, concurrency=job.concurrency,
    )  # fmt: skip
    try:
        return Engine(config)
    except EngineFault as fault:
        raise StorageError(f"The engine cannot start: {fault}") from fault


def dataset_info(job: Job, run: str) -> "DatasetInfo":
    """What the dataset's writer must know. Raises RecipeError for names it cannot hold."""
    from wordmill.datasets import DatasetInfo, describe

    recipe = job.recipe
    return DatasetInfo(
        name=recipe.name,
        columns=describe(recipe.columns, recipe.folder),
        table=recipe.table,
        seed=recipe.seed,
        digest=recipe.digest,
        recipe=recipe.to_yaml(beside=job.folder),
        description=recipe.description,
        keep=recipe.keep,
        parameters=recipe.parameters,
        run=run,
        rehearsal=job.lanes.rehearsal,
    )


def _import_writer() -> None:
    """What the end of a run needs, imported while its first requests are on their way."""
    import_module("wordmill.datasets").warm_up()
