"""Where a dataset goes, and what is there already.

A folder that holds an unfinished run of the same recipe is gone on with; one that holds anything
else is refused, with the choices named. Nothing of a person's is ever written over silently.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from wordmill.errors import RunError, StorageError
from wordmill.recipes import Recipe
from wordmill.runs.registry import Registry, Run
from wordmill.storage import said

DATASETS = Path("datasets")
"""Folders of datasets are made below it, in the current folder, when none is named."""

_OURS = (
    "data",
    "failed.jsonl",
    "recipe.yaml",
    "run.json",
    "README.md",
    "report.html",
    "report.json",
)
"""What a dataset folder holds; `--replace` deletes no other file."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of a dataset, and the run to go on with, if there is one."""

    folder: Path
    goes_on: Run | None = None
    cleared: bool = False


def folder_of(recipe: Recipe, out: Path | None) -> Path:
    """The folder that a person named, or the one that a recipe has by itself; absolute."""
    return (out or DATASETS / recipe.name).absolute()


def find_place(
    recipe: Recipe, out: Path | None, rows: int | None, *, replace: bool, registry: Registry
) -> Place:
    """Decide what `generate` does with the folder that is named, or `datasets/<recipe>`.

    Raises RunError with the choices when the folder holds something else.
    """
    folder = folder_of(recipe, out)
    run = registry.of_folder(folder)
    with said(folder):
        filled = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if not folder.is_dir() and filled:
        raise RunError(f"{shown(folder)} is a file. Name a folder with `--out`.")
    if replace:
        return Place(folder, cleared=_may_replace(folder, filled, run))
    if run is not None and run.unfinished and run.digest == recipe.digest:
        if rows is not None and rows < run.rows:
            raise RunError(
                f"{shown(folder)} holds the unfinished run {run.id} of {run.rows:,} rows, and "
                f"{rows:,} are asked for. Choose: `wordmill resume {run.id}` makes all of them, "
                f"`--out OTHER` makes {rows:,} elsewhere, `--replace` starts anew here."
            )
        return Place(folder, goes_on=run)
    if not filled:
        return Place(folder)
    if run is None and not (folder / "run.json").is_file():
        raise RunError(
            f"{shown(folder)} holds files that are no dataset of Wordmill. "
            "Name another folder with `--out OTHER`."
        )
    raise RunError(_occupied(folder, run, recipe))


def _occupied(folder: Path, run: Run | None, recipe: Recipe) -> str:
    choices = [
        "`--out OTHER` makes the dataset elsewhere",
        "`--replace` makes it anew here (answers that are in the cache are not paid again)",
    ]
    if run is None:
        return f"{shown(folder)} holds a dataset already. Choose: {', '.join(choices)}."
    state = "finished" if not run.unfinished else f"unfinished ({run.state})"
    same = run.digest == recipe.digest
    what = "the same recipe" if same else "another recipe, or other options of it"
    if run.unfinished:
        choices.append(f"`wordmill resume {run.id}` goes on with the old one")
    return (
        f"{shown(folder)} holds the {state} run {run.id} of {what} ({run.rows:,} rows). "
        f"Choose: {', '.join(choices)}."
    )


def _may_replace(folder: Path, filled: bool, run: Run | None) -> bool:
    """Whether there is something to replace. Raises RunError when it is not ours."""
    if run is not None and run.state == "running":
        raise RunError(
            f"{shown(folder)} is where the run {run.id} writes just now: "
            f"`wordmill runs cancel {run.id}` stops it first."
        )
    if not filled:
        return False
    if run is None and not (folder / "run.json").is_file():
        raise RunError(
            f"{shown(folder)} holds files that are no dataset of Wordmill, so --replace does not "
            "touch it. Name another folder with `--out OTHER`, or delete it yourself."
        )
    return True


def clear(folder: Path) -> None:
    """Delete the dataset in a folder; files that are not a dataset's stay. Raises StorageError."""
    with said(folder):
        for name in _OURS:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def hold(folder: Path, registry: Registry) -> Iterator[None]:
    """The right to write a dataset into a folder that is there: one run's at a time.

    The lock is the system's, on the folder itself: it leaves no file, and ends with its process.
    A file system that knows no locks holds nobody off. Raises RunError when another run has it.
    """
    with said(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(_taken(folder, registry.of_folder(folder))) from error
        yield
    finally:
        os.close(descriptor)


def _taken(folder: Path, run: Run | None) -> str:
    if run is None or run.state != "running":
        return (
            f"{shown(folder)} is where another run writes just now. Wait until it has ended, or "
            "name another folder with `--out OTHER`."
        )
    return (
        f"{shown(folder)} is where the run {run.id} writes just now ({run.host}, pid {run.pid}). "
        f"`wordmill runs show {run.id}` shows how far it is, `wordmill runs cancel {run.id}` "
        "stops it, `--out OTHER` makes another dataset elsewhere."
    )


def free_folder(out: Path) -> Path:
    """An absolute path of a folder that is empty or not there. Raises RunError."""
    folder = out.absolute()
    with said(folder):
        filled = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if filled:
        raise RunError(f"{shown(folder)} is not empty. Name another folder with `--out OTHER`.")
    return folder


def taken_by(run: Run, registry: Registry) -> str | None:
    """What else a run's own folder holds now: a later run's dataset, or something not ours."""
    folder = run.folder
    newest = registry.of_folder(folder)
    with said(folder):
        filled = folder.is_dir() and any(folder.iterdir())
    if filled and newest is not None and newest.id != run.id:
        return f"the run {newest.id}"
    return None


def holds(folder: Path, run: str) -> bool:
    """Whether a folder holds the dataset of that run, as far as it got."""
    from wordmill.datasets import open_dataset

    try:
        return open_dataset(folder).run == run
    except StorageError:
        return False


def make_writable(folder: Path) -> None:
    """Make the folder and try to write in it. Raises StorageError in words."""
    with said(folder, "Name another folder with `--out OTHER`."):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def shown(path: Path) -> str:
    """A path as a person would type it: below the current folder without that."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
