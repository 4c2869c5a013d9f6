"""The files of a run beside its records: the recipe as it is run, and what servers refused.

recipe.json     the recipe's text and what the command line added: enough to go on
refusals.json   fields that servers refused, so that the next sitting begins without them
records.db      the engine's: replies, finished rows
latencies.json  how long answers took, so that the dataset tells it of all sittings
given/          rows of the run that this one adds to, as they were when it began (`--from`)
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from wordmill._engine import Engine, EngineFault
from wordmill.errors import RunError, StorageError
from wordmill.recipes import Recipe
from wordmill.recipes.reading import read
from wordmill.runs.budget import Budget
from wordmill.runs.latencies import Latencies
from wordmill.runs.meter import NO_LANE
from wordmill.storage import said, write_whole
from wordmill.types import Message, RequestShape

_BLOCK: Final = 1024

Concurrency = int | Literal["auto"] | None


class Saved(BaseModel):
    """`recipe.json`.

    recipe: as YAML, with the values it runs with.  source: where it was read from.
    folder: relative paths in it start there; absolute, since a run can go on from anywhere.
    rest_of: the run whose rows this one adds to.  picked: those of its rows alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    recipe: str
    source: str
    folder: str
    rest_of: str | None
    picked: tuple[int, ...] = ()
    budget: dict[str, int | float]
    concurrency: Concurrency
    cache: bool

    def load(self) -> Recipe:
        """The recipe, checked again. Raises RecipeError.

        Without lines: the text is not the one that somebody wrote.
        """
        return Recipe.from_values(read(self.recipe).root.value, self.folder)

    def ceilings(self) -> Budget:
        """The budget that it was begun with."""
        return Budget(**self.budget)  # type: ignore[arg-type]  # the fields that Budget wrote


class _Refusal(BaseModel):
    model: str
    shape: dict[str, object]
    detail: str


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The folder `<home>/runs/<id>`."""

    run: str
    folder: Path

    @property
    def records(self) -> Path:
        """The engine's SQLite file."""
        return self.folder / "records.db"

    def of_parts(self) -> list[Path]:
        """The engine's files of parts that workers made (`part`), where they lie here too."""
        return sorted(self.folder.glob("parts/*/records.db"))

    @property
    def recipe(self) -> Path:
        """What is run, as `save` wrote it."""
        return self.folder / "recipe.json"

    @property
    def given(self) -> "RunFiles":
        """The copy of the rows that an earlier run gave; see `take_rows`."""
        return RunFiles(self.run, self.folder / "given")

    def take_rows(self, earlier: "RunFiles", picked: Sequence[int] = ()) -> None:
        """Copy the rows of an earlier run, so that the run needs it no more; once.

        picked: the numbers of those that are taken, as the rows 0, 1, ... of this run; () is all,
        each under its own number.  Raises StorageError when they cannot be read or written.
        """
        if self.given.folder.exists():
            return
        part = RunFiles(self.run, self.folder / "given.part")
        with said(part.folder):
            shutil.rmtree(part.folder, ignore_errors=True)
            part.folder.mkdir(mode=0o700, parents=True)
        with reading(earlier) as source, opened(part) as copy:
            numbers = source.row_numbers()
            places = {number: place for place, number in enumerate(picked)}
            for first in range(0, len(numbers), _BLOCK):
                block = numbers[first : first + _BLOCK]
                found = [
                    (places[number] if picked else number, text)
                    for number, text in source.rows(block[0], block[-1] + 1)
                    if not picked or number in places
                ]
                try:
                    copy.keep_rows([number for number, _ in found], [text for _, text in found])
                    copy.sync_rows()
                except EngineFault as fault:
                    raise StorageError(
                        f"The rows of the run {earlier.run} cannot be copied: {fault}"
                    ) from fault
        with said(part.folder):
            part.folder.rename(self.given.folder)

    def save(self, saved: Saved) -> None:
        """Write `recipe.json`. Raises StorageError."""
        write_whole(self.recipe, saved.model_dump_json(indent=2))

    def saved(self) -> Saved:
        """Read `recipe.json`. Raises RunError when it is gone or not ours."""
        path = self.recipe
        try:
            return Saved.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise RunError(
                f"The run {self.run} cannot go on: {path} is missing or damaged. `wordmill runs "
                f"remove {self.run}` forgets the run; what it has received is lost."
            ) from error

    def save_latencies(self, latencies: Mapping[str, Latencies]) -> None:
        """Write `latencies.json`, by column. Raises StorageError."""
        counts = {name: one.counts() for name, one in latencies.items()}
        write_whole(self.folder / "latencies.json", json.dumps(counts))

    def latencies(self) -> dict[str, Latencies]:
        """What earlier sittings wrote. Raises StorageError."""
        path = self.folder / "latencies.json"
        if not path.exists():
            return {}
        with said(path):
            return {name: Latencies(one) for name, one in json.loads(path.read_bytes()).items()}

    def save_refusals(self, refusals: Iterable[tuple[str, RequestShape, str]]) -> None:
        """Write `refusals.json`. Raises StorageError."""
        parts = [
            {"model": model, "shape": asdict(shape), "detail": detail}
            for model, shape, detail in refusals
        ]
        write_whole(self.folder / "refusals.json", json.dumps(parts))

    def refusals(self) -> Iterator[tuple[str, RequestShape, str]]:
        """What servers refused in earlier sittings."""
        path = self.folder / "refusals.json"
        if not path.exists():
            return
        with said(path):
            parts = json.loads(path.read_bytes())
        for part in parts:
            shape = part["shape"]
            yield (
                part["model"],
                RequestShape(
                    model=shape["model"],
                    messages=tuple(Message(role, text) for role, text in shape["messages"]),
                    parameters=tuple((name, value) for name, value in shape["parameters"]),
                    schema=shape["schema"],
                    tools=shape["tools"],
                ),
                part["detail"],
            )


@contextmanager
def reading(files: RunFiles) -> Iterator[Engine]:
    """The records of a run that nobody works on, to read rows from. Raises StorageError."""
    if not files.records.exists():
        raise StorageError(f"The run {files.run} has no records: nothing was made in it yet.")
    with opened(files) as engine:
        yield engine


@contextmanager
def opened(files: RunFiles) -> Iterator[Engine]:
    """An engine on the records of a run, which asks nobody."""
    config = {"records": str(files.records), "owner": "local", "lanes": [NO_LANE]}
    try:
        engine = Engine(json.dumps(config))
    except EngineFault as fault:
        raise StorageError(f"The records of the run {files.run}: {fault}") from fault
    try:
        yield engine
    finally:
        engine.close()
