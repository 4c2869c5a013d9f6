"""From a recipe and what a person asked for to a run that works, and to its result.

`generate` begins a run or goes on with the one that its folder holds; `resume` goes on with a run
by its id. All that can be wrong with the input is found before anything is sent or written.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wordmill.accounts import catalog_of
from wordmill.database import open_database
from wordmill.errors import ConfigError, RecipeErrors, RunError, StorageError, WordmillError
from wordmill.models import Catalog
from wordmill.recipes import Recipe
from wordmill.recipes.estimates import estimate, shortages
from wordmill.runs.budget import Budget
from wordmill.runs.crew import Crew, Shared, open_crew
from wordmill.runs.files import Concurrency, RunFiles, Saved, reading
from wordmill.runs.heartbeat import Heartbeat
from wordmill.runs.interrupts import Interrupts
from wordmill.runs.lanes import open_lanes
from wordmill.runs.places import (
    Place,
    clear,
    find_place,
    free_folder,
    hold,
    make_writable,
    shown,
    taken_by,
)
from wordmill.runs.plan import MAX_ROWS, SEVERAL, make_plan
from wordmill.runs.progress import Reporter
from wordmill.runs.registry import Lease, Registry, Run
from wordmill.runs.result import Result
from wordmill.runs.shift import Leaving
from wordmill.runs.show import count, money, rounded
from wordmill.runs.sitting import Job, Sitting
from wordmill.settings import Settings

DEFAULT_ROWS: Final = 100
"""Rows of a run when nobody says how many."""
MOST_PICKED: Final = 10_000
"""Rows of an earlier run that are named one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person asked for besides the recipe.

    rows: None leaves it to the run that is gone on with, or to `rest_of`.
    out: the dataset's folder.  replace: write over a dataset that is there.
    rest_of: a run whose rows are completed.  picked: the numbers of those rows, () for all.
    rehearse: the rehearsal model answers everything.
    """

    rows: int | None = None
    out: Path | None = None
    replace: bool = False
    budget: Budget = field(default_factory=Budget)
    concurrency: Concurrency = None
    cache: bool = True
    rest_of: str | None = None
    picked: tuple[int, ...] = ()
    rehearse: bool = False


@dataclass(frozen=True, slots=True)
class House:
    """What every command opens: the settings, the catalog, the registry.

    crew: workers in other processes who share long runs.
    """

    settings: Settings
    catalog: Catalog
    registry: Registry
    crew: Crew | None = None


@contextmanager
def open_house(settings: Settings) -> Iterator[House]:
    """Open the database of the settings. Raises StorageError, ConfigError."""
    with open_database(settings) as database, open_crew(database, settings) as crew:
        yield House(settings, catalog_of(database, settings), Registry(database, settings), crew)


def with_default_model(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe with the model of the settings, where it needs one and names none."""
    needs = any(column.asks_model and not column.models() for column in recipe.columns.values())
    if settings.default_model is None or recipe.model is not None or not needs:
        return recipe
    return recipe.with_values(model=settings.default_model)


def generate(
    house: House, recipe: Recipe, options: Options, reporter: Reporter, interrupts: Interrupts
) -> Result:
    """Make a dataset. Raises WordmillError for what is wrong before it begins, and for a disk or
    an engine that gives up; a run that falls short is no error but a `Result` that says so.
    """
    if options.rows is not None and not 0 < options.rows <= MAX_ROWS:
        raise ConfigError(f"A run has 1 to {MAX_ROWS:,} rows, not {options.rows:,}. {SEVERAL}")
    if options.rehearse:
        return _rehearse(house, recipe, options, reporter, interrupts)
    place = _place(house, recipe, options)
    if place.goes_on is not None:
        return _go_on(house, recipe, place.goes_on, options, reporter, interrupts)
    job = prepare(house, recipe, options, rows_of(house, options), place.folder)
    job.lanes.check_keys()
    reporter.say(foretold(job, house.settings))
    _warn(job, reporter)
    make_writable(place.folder)
    with hold(place.folder, house.registry):
        if _place(house, recipe, options) != place:
            raise RunError(
                f"Another run has begun in {shown(place.folder)} meanwhile. The same command once "
                "more says what can be done."
            )
        if place.cleared:
            clear(place.folder)
        run = house.registry.create(
            name=recipe.name, recipe=recipe.source, digest=recipe.digest,
            folder=place.folder, rows=job.rows, write=saving(job, recipe.source),
        )  # fmt: skip
        with house.registry.begin(run.id, job.rows) as lease:
            return _run(house, job, lease, reporter, interrupts)


def _place(house: House, recipe: Recipe, options: Options) -> Place:
    return find_place(
        recipe, options.out, options.rows, replace=options.replace, registry=house.registry
    )


def resume(
    house: House, run: str, options: Options, reporter: Reporter, interrupts: Interrupts
) -> Result:
    """Go on with a run: unfinished rows are finished, cells that failed on the wire asked again.

    With `out` the dataset goes to another folder, which must be free; also that of a run that is
    finished, of which nothing is asked again.
    """
    found = house.registry.get(run)
    if not found.unfinished and options.out is None:
        raise RunError(
            f"The run {run} is finished: all of its {found.rows:,} rows are made. They are in "
            f"{shown(found.folder)}; `wordmill resume {run} --out FOLDER` writes them elsewhere."
        )
    recipe = _files(house, found).saved().load()
    if recipe.digest != found.digest:
        raise RunError(
            f"The run {run} cannot go on as it began: a file that its recipe reads, or a module "
            f"that it calls, has changed (below {recipe.folder.absolute()}). Put it back, or begin "
            "anew with "
            "`wordmill generate`; answers that are in the cache are not paid again."
        )
    return _go_on(house, recipe, found, options, reporter, interrupts)


def _go_on(
    house: House,
    recipe: Recipe,
    run: Run,
    options: Options,
    reporter: Reporter,
    interrupts: Interrupts,
) -> Result:
    if run.state == "running":
        raise run.busy()
    saved = _files(house, run).saved()
    if options.rest_of not in (None, saved.rest_of):
        began = f"with `--from {saved.rest_of}`" if saved.rest_of else "without `--from`"
        raise RunError(
            f"{shown(run.folder)} holds the unfinished run {run.id}, which was begun {began} and "
            f"goes on so: leave `--from {options.rest_of}` out, or name another folder with "
            "`--out OTHER`."
        )
    if options.picked not in ((), saved.picked):
        raise RunError(
            f"{shown(run.folder)} holds the unfinished run {run.id}, which was begun with other "
            "rows picked and goes on so: pick none, or name another folder with `--out OTHER`."
        )
    options = replace(
        options,
        budget=options.budget.or_else(saved.ceilings()),
        concurrency=options.concurrency or saved.concurrency,
        cache=options.cache and saved.cache,
        rest_of=options.rest_of or saved.rest_of,
        picked=saved.picked,
    )
    folder = run.folder
    if options.out is not None and options.out.absolute() != folder:
        folder = free_folder(options.out)
    else:
        _refuse_another(house, run)
    rows = options.rows or run.rows
    job = prepare(house, recipe, options, rows, folder, _files(house, run))
    job.lanes.check_keys()
    _warn(job, reporter)
    make_writable(folder)
    with hold(folder, house.registry), house.registry.begin(run.id, job.rows) as lease:
        if folder == run.folder:
            _refuse_another(house, run)
        else:
            house.registry.move(run.id, folder)
        saving(job, run.recipe)(house.registry.files(run.id))
        if run.fence:
            reporter.say(f"Continuing the run {run.id}: answers that it has are not paid again.")
        return _run(house, job, lease, reporter, interrupts)


def _refuse_another(house: House, run: Run) -> None:
    """Raise RunError when the folder of a run was given to a later one."""
    later = taken_by(run, house.registry)
    if later is not None:
        raise RunError(
            f"{shown(run.folder)}, where the dataset of the run {run.id} goes, holds that of "
            f"{later} now. `wordmill resume {run.id} --out OTHER` goes on with it elsewhere."
        )


def _rehearse(
    house: House, recipe: Recipe, options: Options, reporter: Reporter, interrupts: Interrupts
) -> Result:
    """All of it on the rehearsal model; without `--out` in a folder that goes when it is done."""
    rows = rows_of(house, options)
    with tempfile.TemporaryDirectory(prefix="wordmill-") as scratch:
        place = Path(scratch) / "dataset"
        found = Place(place)
        if options.out is not None:
            found = find_place(
                recipe, options.out, rows, replace=options.replace, registry=house.registry
            )
            place = found.folder
            if found.goes_on is not None:
                raise RunError(
                    f"{shown(place)} holds the unfinished run {found.goes_on.id}, and a dry run "
                    "goes on with none: name another folder with `--out OTHER`, or leave it out."
                )
        job = prepare(house, recipe, replace(options, cache=False), rows, place)
        prices = ", ".join(job.lanes.named) or "no model"
        reporter.say(f"A dry run: the rehearsal model answers, at the prices of {prices}.")
        reporter.say(foretold(job, house.settings))
        make_writable(place)
        files = RunFiles("dry-run", Path(scratch))
        with (
            hold(place, house.registry),
            Sitting(
                house.settings, job, files, reporter,
                started=datetime.now(UTC), earlier={}, beat=lambda _: None,
            ) as sitting,
        ):  # fmt: skip
            if found.cleared:
                clear(place)
            result = sitting.work(lambda: interrupts.asked)
        return replace(result, dry=True, files=result.files if options.out is not None else ())


def rows_of(house: House, options: Options) -> int:
    """How many rows a new run has. Raises NotFound for a run whose rest it is to be."""
    if options.rows is not None:
        return options.rows
    if options.picked:
        return len(options.picked)
    return house.registry.get(options.rest_of).rows if options.rest_of else DEFAULT_ROWS


def prepare(
    house: House,
    recipe: Recipe,
    options: Options,
    rows: int,
    folder: Path,
    own: RunFiles | None = None,
) -> Job:
    """A job, with everything found that is wrong with the input. Nothing is written or sent.

    own: the files of the run that is gone on with, if there is one; what it was given by an earlier
    run lies there, and that one may be gone.  Raises ConfigError, RecipeError, RunError.
    """
    rest_of = None
    if options.picked and options.rest_of is None:
        raise RunError("Rows are picked from an earlier run: name it with `--from RUN`.")
    if options.rest_of is not None and own is not None and own.given.folder.exists():
        rest_of = RunFiles(options.rest_of, house.registry.files(options.rest_of))
    elif options.rest_of is not None:
        earlier = house.registry.get(options.rest_of)
        if earlier.state == "running":
            raise RunError(
                f"The run {earlier.id} is still at work: its rows can be completed when it ended."
            )
        rest_of = _files(house, earlier)
        _check_picked(rest_of, options.picked)
    models = sorted(recipe.models())
    lanes = open_lanes(house.catalog, house.settings, models, rehearse=options.rehearse)
    plan = make_plan(recipe)
    if faults := shortages(recipe, plan.makers, rows):
        raise RecipeErrors([recipe.error(fault) for fault in faults])
    return Job(
        recipe=recipe,
        lanes=lanes,
        plan=plan,
        rows=rows,
        folder=folder,
        budget=options.budget,
        concurrency=options.concurrency,
        cache=options.cache,
        rest_of=rest_of,
        picked=options.picked,
        owner=house.registry.owner,
    )


def _check_picked(earlier: RunFiles, picked: Sequence[int]) -> None:
    """Raise RunError unless the run has each of the rows, and each is picked once."""
    if not picked:
        return
    if len(picked) > MOST_PICKED or len(set(picked)) < len(picked):
        raise RunError(
            f"{len(picked):,} rows are picked: at most {MOST_PICKED:,} can be, each once."
        )
    with reading(earlier) as engine:
        strange = set(picked).difference(engine.row_numbers())
    if strange:
        raise RunError(
            f"The run {earlier.run} has no row {min(strange)}; the page Explore, or its dataset, "
            "shows which it has."
        )


def foretold(job: Job, settings: Settings) -> str:
    """What a job will take, in one line; without faults and without the cache."""
    parts = estimate(job.recipe, job.plan.makers, job.rows, settings.default_max_tokens)
    requests = sum(part.requests for part in parts)
    if not requests:
        return "Estimate: no requests; no column asks a model."
    cost = 0.0
    for part in parts:
        model = job.lanes.models[part.model]
        cost += (part.tokens_in * model.price_in + part.tokens_out * model.price_out) / 1e6
    tokens_in, tokens_out = (
        rounded(sum(numbers))
        for numbers in zip(*((part.tokens_in, part.tokens_out) for part in parts), strict=True)
    )
    priced = f", about {money(cost)}" if cost else ""
    less = f" What the run {job.rest_of.run} has is not asked again." if job.rest_of else ""
    return (
        f"Estimate: {count(requests, 'request')}, about {tokens_in} tokens in and "
        f"{tokens_out} out{priced}.{less}"
    )


def _warn(job: Job, reporter: Reporter) -> None:
    if job.budget.money is not None and job.lanes.unpriced:
        names = ", ".join(job.lanes.unpriced)
        reporter.say(
            f"No price is known for {names}, so the budget in money does not bound it. "
            "`wordmill models add NAME --replace --price-in X --price-out Y` sets one, "
            "and a budget in tokens or requests bounds any model."
        )


def _files(house: House, run: Run) -> RunFiles:
    return RunFiles(run.id, house.registry.files(run.id))


def saving(job: Job, source: str) -> Callable[[Path], None]:
    """Writes down, in a run's own folder, what it needs to be worked on by another process too.

    source: what the recipe was read from.
    """
    saved = Saved(
        recipe=job.recipe.to_yaml(),
        source=source,
        folder=str(job.recipe.folder.absolute()),
        rest_of=job.rest_of.run if job.rest_of else None,
        picked=job.picked,
        budget=job.budget.ceilings(),
        concurrency=job.concurrency,
        cache=job.cache,
    )
    return lambda folder: RunFiles(folder.name, folder).save(saved)


def _run(
    house: House, job: Job, lease: Lease, reporter: Reporter, interrupts: Interrupts
) -> Result:
    """One sitting, between the registry's `running` and how it ended."""
    run, registry = lease.run, house.registry
    heart = Heartbeat(registry, lease)
    try:
        with heart, _sitting(house, job, run, reporter, heart, interrupts) as sitting:
            result = sitting.work(lambda: interrupts.asked or heart.asked)
    except KeyboardInterrupt:
        with suppress(StorageError):
            registry.end(lease, "cancelled", heart.counts)
        reporter.say(
            f"Stopped at once; every answer that had been noted is kept. Continue with "
            f"`wordmill resume {run.id}`."
        )
        raise
    except Leaving:
        raise  # the run is still at work
    except WordmillError:
        with suppress(StorageError):  # the same full disk, most likely
            registry.end(lease, "failed", heart.counts)
        raise
    registry.end(lease, result.state, result.counts())
    return result


def _sitting(
    house: House, job: Job, run: Run, reporter: Reporter, heart: Heartbeat, interrupts: Interrupts
) -> Sitting:
    """A sitting in this process, or one that workers share."""
    files, crew = _files(house, run), house.crew
    if crew is None or not crew.takes(job.rows, files.folder):
        return Sitting(
            house.settings, job, files, reporter,
            started=run.created, earlier=run.counts, beat=heart.tell,
        )  # fmt: skip
    return Shared(
        crew, job, files, reporter,
        started=run.created, earlier=run.counts, beat=heart.tell,
        leaving=lambda: interrupts.leaving,
    )  # fmt: skip
