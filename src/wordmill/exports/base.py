"""What every export promises.

An export writes the rows of a dataset in the form that somebody else reads. It takes kept rows
only (unless `all` is asked for), writes nothing that is half done, and reads back what it wrote by
the rules of its readers before the file gets its name. What was left out is counted by reason.
Beside the files stands an `export.json` that says where they come from.

An export knows a dataset only as the protocols here say; `datasets` brings the real one.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Final, Generic, Protocol, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wordmill.errors import ExportError, nearest
from wordmill.storage import WholeFile, said, write_whole
from wordmill.types import CellError, Message, Row, Value

if TYPE_CHECKING:
    import pyarrow as pa

NOTE: Final = "export.json"

THEN: Final = "The dataset is unharmed: export again when there is room, or elsewhere with --to."


class SourceColumn(Protocol):
    """A column of the recipe; see `datasets.info.ColumnInfo`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def type(self) -> str:
        """Its type in the recipe: `prompt`, `judge`, ..."""

    @property
    def schema(self) -> Mapping[str, Value]:
        """JSON schema of its values."""

    @property
    def table(self) -> Mapping[str, Value] | None:
        """JSON schema of a row of its linked table, or None."""

    @property
    def joins(self) -> str | None:
        """The column whose items its values belong to, or None."""


class SourceTable(Protocol):
    """A table, in row order."""

    def schema(self) -> "pa.Schema":
        """Its Arrow schema."""

    def arrow(
        self, columns: Sequence[str] | None = None, size: int = 1024
    ) -> "Iterator[pa.RecordBatch]":
        """Its rows, at most `size` at a time; those columns or all."""


class Source(Protocol):
    """A dataset to export."""

    @property
    def name(self) -> str:
        """The recipe's."""

    @property
    def main(self) -> str:
        """Name of the main table."""

    @property
    def columns(self) -> Sequence[SourceColumn]:
        """Of the recipe, in order."""

    @property
    def tables(self) -> Mapping[str, SourceTable]:
        """By name, the main one first; linked tables without any row are not among them."""

    @property
    def rehearsed(self) -> int:
        """Rows that hold an answer of a rehearsal model."""

    @property
    def about(self) -> Mapping[str, Value]:
        """Where the dataset comes from, for `export.json`."""

    def walk(self) -> Iterator[tuple[Row, Mapping[str, list[Row]]]]:
        """Each row of the main table, with its items by linked table."""

    def option(self, column: str, name: str) -> Value:
        """What the recipe says for an option of a column; None where it says nothing."""

    def template(self, text: str, where: str) -> Callable[[Row], str | CellError]:
        """A template over rows, as the recipe's own are. Raises RecipeError."""

    def asked(self, column: str) -> Callable[[Row], Sequence[Message] | CellError]:
        """The messages that the column's model was first sent for a row. Raises RecipeError."""


class Options(BaseModel):
    """What every export can be told; each adds its own. Values may come as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    everything: bool = Field(False, alias="all", description="also rows that `keep` turned down")


O = TypeVar("O", bound=Options)  # noqa: E741


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What left.

    rows: examples written, or rows of the main table.  skipped: what did not leave, by reason.
    rehearsed: rows of the dataset with rehearsed answers.  note: the `export.json`.
    """

    format: str
    rows: int
    skipped: Mapping[str, int]
    files: tuple[Path, ...]
    note: Path
    rehearsed: int = 0

    def sentence(self) -> str:
        """What was written where, and what was not, for a person."""
        names = ", ".join(str(path) for path in self.files)
        said = (
            f"Wrote {self.rows:,} {'row' if self.rows == 1 else 'rows'} as {self.format}: {names}."
        )
        if self.skipped:
            ranked = sorted(self.skipped.items(), key=lambda pair: (-pair[1], pair[0]))
            said += " Left out: " + ", ".join(f"{n:,} {reason}" for reason, n in ranked) + "."
        if self.rehearsed:
            said += (
                f" {self.rehearsed:,} of the dataset's rows "
                f"{'holds' if self.rehearsed == 1 else 'hold'} answers of the rehearsal model: "
                "filler, not to train on."
            )
        return said


@dataclass(frozen=True, slots=True)
class Written:
    """What an export's own part reports: files are whole and read back."""

    rows: int
    skipped: Mapping[str, int]
    files: tuple[Path, ...]


class Export(ABC, Generic[O]):
    """One form. Subclasses say its name, the ending of its files, their options."""

    name: ClassVar[str]
    ending: ClassVar[str]
    options: type[O]

    def write(self, dataset: Source, to: Path, options: Mapping[str, str]) -> ExportResult:
        """Write the dataset to a file or a folder.

        Raises ExportError for options that do not fit and where nothing is left to write,
        StorageError when a file cannot be written.
        """
        chosen = self._chosen(options)
        target = Target(dataset.main, to, self.ending)
        written = self.fill(dataset, target, chosen)
        note = {
            "format": self.name,
            "wordmill": version("wordmill"),
            "files": [path.name for path in written.files],
            "rows": written.rows,
            "skipped": dict(written.skipped),
            "options": chosen.model_dump(by_alias=True, exclude_defaults=True),
            "rehearsal": dataset.rehearsed > 0,
            "rehearsed_rows": dataset.rehearsed,
            "source": dict(dataset.about),
        }
        text = orjson.dumps(note, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        write_whole(target.note, text, THEN)
        return ExportResult(
            self.name,
            written.rows,
            dict(written.skipped),
            written.files,
            target.note,
            dataset.rehearsed,
        )

    @abstractmethod
    def fill(self, dataset: Source, target: "Target", options: O) -> Written:
        """Write and read back the files."""

    def _chosen(self, options: Mapping[str, str]) -> O:
        known = [field.alias or name for name, field in self.options.model_fields.items()]
        for name in options:
            if name not in known:
                raise ExportError(
                    f"The format {self.name!r} has no option {name!r}{nearest(name, known)}"
                )
        try:
            return self.options.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            words = first["msg"].removeprefix("Value error, ")
            if not first["loc"]:
                raise ExportError(
                    f"The options of the format {self.name!r} do not fit: {words}."
                ) from error
            name = str(first["loc"][0])
            raise ExportError(
                f"The option {name} of the format {self.name!r} cannot be "
                f"{options.get(name)!r}: {words}."
            ) from error


class Target:
    """Where an export goes.

    A path with an ending is the file of the main table; linked tables stand beside it as
    `<stem>.<table><ending>`. A path without an ending, or a folder that exists, is a folder with
    one file a table.

    Exports of ours, which a note lists, are written over; anything else never is: asking for such
    a place raises ExportError.
    """

    def __init__(self, main: str, to: Path, ending: str) -> None:
        self._main, self._to, self._ending = main, to, ending
        with said(to):
            self._is_folder = to.is_dir() or not to.suffix
            self.note = to / NOTE if self._is_folder else to.with_name(f"{to.stem}.{NOTE}")
            self._ours = self._noted() if self.note.is_file() else frozenset()

    def file(self, table: str) -> Path:
        """The file of a table."""
        if self._is_folder:
            return self._claimed(self._to / f"{table}{self._ending}")
        if table == self._main:
            return self._claimed(self._to)
        return self._claimed(self._to.with_name(f"{self._to.stem}.{table}{self._to.suffix}"))

    def examples(self, name: str) -> Path:
        """The only file of a format that has one, `<name><ending>` in a folder."""
        return self._claimed(self._to / f"{name}{self._ending}" if self._is_folder else self._to)

    def _claimed(self, path: Path) -> Path:
        with said(path):
            if path.exists() and path.name not in self._ours:
                raise _foreign(path)
        return path

    def _noted(self) -> frozenset[str]:
        """Names of the files that an earlier export of ours wrote here."""
        try:
            note = orjson.loads(self.note.read_bytes())
        except orjson.JSONDecodeError as error:
            raise _foreign(self.note) from error
        if not isinstance(note, dict) or "wordmill" not in note:
            raise _foreign(self.note)
        return frozenset(map(str, note.get("files", ())))


def _foreign(path: Path) -> ExportError:
    return ExportError(
        f"{path} exists and is no export of Wordmill's. Remove it, or name another place with --to."
    )


@contextmanager
def checked_file(path: Path, check: Callable[[Path], None]) -> Iterator[BinaryIO]:
    """A file that gets its name only when `check` has read it back without raising.

    Raises StorageError when it cannot be written.
    """
    whole = WholeFile(path, THEN)
    try:
        with said(path, THEN):
            yield whole.file
            whole.file.flush()
        check(whole.part)
        whole.commit()
    except BaseException:
        whole.abort()
        raise


class Counted:
    """Lines written and what was skipped, while a file is made."""

    def __init__(self) -> None:
        self.rows = 0
        self.skipped: Counter[str] = Counter()

    def skip(self, reason: str) -> None:
        """One more that does not leave."""
        self.skipped[reason] += 1


def kept(
    dataset: Source, options: Options, counted: Counted
) -> Iterator[tuple[Row, Mapping[str, list[Row]]]]:
    """The rows to export, with their items; those turned down are counted and left out."""
    for row, items in dataset.walk():
        if row["kept"] is False and not options.everything:
            counted.skip(TURNED_DOWN)
        else:
            yield row, items


TURNED_DOWN: Final = "not kept by keep"
