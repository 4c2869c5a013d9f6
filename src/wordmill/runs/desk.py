"""Runs for somebody who is not at this machine's command line: begun here, worked on elsewhere.

`begin` writes a run down and returns at once; `work` does it, in whatever worker has the job. Its
dataset lies in the data folder. A recipe from outside may not reach into this machine: columns that
call Python and paths of files are for admins.
"""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wordmill.columns.files import BUILT_IN as SHIPPED
from wordmill.database import Database
from wordmill.datasets.export import export
from wordmill.datasets.reading import Dataset, open_dataset
from wordmill.errors import Forbidden, InvalidInput, RunError
from wordmill.exports.base import ExportResult
from wordmill.models import Catalog
from wordmill.recipes import Recipe
from wordmill.recipes.recipe import BUILT_IN, FILE
from wordmill.runs.budget import Budget, parse_budget
from wordmill.runs.crew import Crew
from wordmill.runs.files import RunFiles, reading
from wordmill.runs.interrupts import Interrupts
from wordmill.runs.launch import (
    House,
    Options,
    foretold,
    prepare,
    resume,
    rows_of,
    saving,
    with_default_model,
)
from wordmill.runs.places import clear, holds
from wordmill.runs.plan import MAX_ROWS, SEVERAL
from wordmill.runs.preview import Preview, preview
from wordmill.runs.progress import Silent
from wordmill.runs.records import Page, following, page
from wordmill.runs.registry import Registry, Run
from wordmill.runs.result import Result
from wordmill.settings import Settings
from wordmill.storage import said
from wordmill.types import Value

LONGEST_RECIPE: Final = 1_000_000
"""Characters of a recipe that comes from outside."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody wants made.

    recipe: the name of a built-in one, or the YAML itself.  rows: None for the default.
    parameters: of the recipe, by name.  rest_of: a run whose rows are completed.
    picked: the numbers of those rows, () for all.  budget: as `5usd,1000requests`.
    """

    recipe: str
    rows: int | None = None
    parameters: Mapping[str, Value] | None = None
    model: str | None = None
    seed: int | None = None
    budget: str = ""
    rest_of: str | None = None
    picked: tuple[int, ...] = ()
    cache: bool = True


class Desk:
    """The runs of one person.

    trusted: an admin, whose recipes may call Python and read files.
    crew: workers elsewhere who share long runs.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        catalog: Catalog,
        owner: str,
        trusted: bool,
        crew: Crew | None = None,
    ) -> None:
        self._settings, self._trusted = settings, trusted
        self.registry = Registry(database, settings, owner)
        self._house = House(settings, catalog, self.registry, crew)

    @staticmethod
    def recipes() -> list[str]:
        """The names of the built-in recipes."""
        return sorted(folder.name for folder in BUILT_IN.iterdir() if (folder / FILE).is_file())

    def read(self, wish: Wish) -> Recipe:
        """The recipe of a wish, checked. Raises RecipeError, Forbidden, InvalidInput."""
        text = wish.recipe
        if len(text) > LONGEST_RECIPE:
            raise InvalidInput(f"A recipe has at most {LONGEST_RECIPE:,} characters.", "recipe")
        if text in self.recipes():
            recipe = Recipe.load(text)
        elif re.fullmatch(r"[\w./~-]{1,200}", text.strip()):
            raise InvalidInput(
                f"There is no built-in recipe {text.strip()!r}: it is one of "
                f"{', '.join(self.recipes())}, or the YAML of a recipe.",
                "recipe",
            )
        else:
            recipe = Recipe.from_yaml(text, source="recipe", folder=self._folder())
            self._refuse_reaching(recipe)
        if wish.parameters or wish.model or wish.seed is not None:
            recipe = recipe.with_values(
                parameters=wish.parameters or {}, model=wish.model, seed=wish.seed
            )
        return with_default_model(recipe, self._settings)

    def estimate(self, wish: Wish) -> str:
        """What it will take, in a sentence. Raises as `begin`."""
        recipe = self.read(wish)
        with tempfile.TemporaryDirectory() as folder:
            job = prepare(
                self._house, recipe, self._options(wish), self._rows(wish), Path(folder) / "x"
            )
        return foretold(job, self._settings)

    def preview(self, wish: Wish, rows: int, wanted: Callable[[], bool]) -> Preview:
        """The first rows in full; nothing is kept. wanted: whether to stop."""
        recipe = self.read(wish)
        with tempfile.TemporaryDirectory() as folder:
            job = prepare(self._house, recipe, self._options(wish), rows, Path(folder) / "x")
            return preview(job, self._settings, lambda _: None, wanted)

    def begin(self, wish: Wish) -> Run:
        """Write a run down, with all that is wrong with it found. `work` does it."""
        recipe, rows = self.read(wish), self._rows(wish)
        job = prepare(self._house, recipe, self._options(wish), rows, self._folder())
        job.lanes.check_keys()
        run = self.registry.create(
            name=recipe.name,
            recipe=recipe.source,
            digest=recipe.digest,
            folder=self._folder(),
            rows=rows,
            write=saving(job, recipe.source),
        )
        folder = self._settings.home.absolute() / "datasets" / run.id
        self.registry.move(run.id, folder)
        if job.rest_of is not None:
            RunFiles(run.id, self.registry.files(run.id)).take_rows(job.rest_of, job.picked)
        return self.registry.get(run.id)

    def work(
        self, run: str, wanted: Callable[[], bool], leaving: Callable[[], bool] = lambda: False
    ) -> Result:
        """Do a run, or go on with it, to its end. wanted: whether somebody wants it to stop.

        leaving: whether this process ends, so that workers elsewhere shall go on without it.
        Raises RunError for one that is finished or that another process works on.
        """
        return resume(self._house, run, Options(), Silent(), _Asked(wanted, leaving))

    def rows(
        self, run: str, number: int, size: int, *, row: int | None = None, failed: bool = False
    ) -> Page:
        """Rows of a run that nobody works on just now, with their provenance."""
        found = self._idle(run)
        with reading(RunFiles(found.id, self.registry.files(found.id))) as engine:
            return page(engine, number, size, row=row, failed=failed)

    def rows_after(self, run: str, after: int, size: int, *, failed: bool = False) -> Page:
        """The rows after one of that number (-1 for the first), with their provenance."""
        found = self._idle(run)
        with reading(RunFiles(found.id, self.registry.files(found.id))) as engine:
            return following(engine, after, size, failed=failed)

    def dataset(self, run: str) -> Dataset:
        """The dataset that a run has made. Raises StorageError where there is none yet."""
        return open_dataset(self._idle(run).folder)

    def export(
        self, run: str, form: str, to: Path, options: Mapping[str, str] | None = None
    ) -> ExportResult:
        """Write a run's rows in another form. Raises as `datasets.export`."""
        return export(self.dataset(run), form, to, options)

    def recipe_of(self, run: str) -> str:
        """The YAML that a run was begun with."""
        return RunFiles(run, self.registry.files(self.registry.get(run).id)).saved().recipe

    def remove(self, run: str) -> None:
        """Forget a run, with its dataset where that lies in the data folder."""
        found = self.registry.get(run)
        self.registry.remove(run)
        if self._house.crew is not None:
            self._house.crew.forget(run)
        if found.folder.is_relative_to(self._folder()) and holds(found.folder, run):
            clear(found.folder)
            with said(found.folder):
                found.folder.rmdir()

    def _idle(self, run: str) -> Run:
        found = self.registry.get(run)
        if found.state == "running":
            raise RunError(f"The run {run} is at work: its rows can be read when it ended.")
        return found

    def _folder(self) -> Path:
        return self._settings.home.absolute() / "datasets"

    def _rows(self, wish: Wish) -> int:
        if wish.rows is not None and not 0 < wish.rows <= MAX_ROWS:
            raise InvalidInput(
                f"A run has 1 to {MAX_ROWS:,} rows, not {wish.rows:,}. {SEVERAL}", "rows"
            )
        return rows_of(self._house, self._options(wish))

    def _options(self, wish: Wish) -> Options:
        budget = parse_budget(wish.budget) if wish.budget else Budget()
        return Options(
            rows=wish.rows, budget=budget, cache=wish.cache, rest_of=wish.rest_of,
            picked=tuple(wish.picked),
        )  # fmt: skip

    def _refuse_reaching(self, recipe: Recipe) -> None:
        if self._trusted:
            return
        for name, column in recipe.columns.items():
            if column.written()["type"] == "python":
                raise Forbidden(
                    f"columns.{name}: a column of the type `python` runs code on this server, "
                    "which only an admin's recipe may."
                )
            if not all(path.startswith(SHIPPED) for path in column.reads()):
                raise Forbidden(
                    f"columns.{name}: it reads a file of this server, which only an admin's "
                    "recipe may."
                )


class _Asked(Interrupts):
    """Whether to stop is asked of somebody, and no signal is taken."""

    def __init__(self, wanted: Callable[[], bool], leaving: Callable[[], bool]) -> None:
        super().__init__()
        self._wanted, self._leaving = wanted, leaving

    @property
    def asked(self) -> bool:
        return self._wanted()

    @property
    def leaving(self) -> bool:
        return self._leaving()
