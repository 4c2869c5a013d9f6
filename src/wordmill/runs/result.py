"""What came of a run, for people and for programs."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from wordmill.errors import RunError
from wordmill.recipes import Recipe
from wordmill.runs.meter import Reading
from wordmill.runs.session import End, Kind, Progress
from wordmill.types import Row, Value

if TYPE_CHECKING:
    from wordmill.datasets import DatasetResult, Timings

Outcome: TypeAlias = Literal["finished", "short", "cancelled"]

EXIT: Mapping[Outcome, int] = {"finished": 0, "short": 3, "cancelled": 130}


@dataclass(frozen=True, slots=True)
class Result:
    """A run's end, for now or for good.

    run: its id.  name: the recipe's.  columns: its columns, in order.
    folder: of the dataset.  state: `finished` only if every row that was asked for is made and no
    cell failed; rows that `keep` turned down are made.  why, ended: the kind of end, and the
    sentence why it came early.  wanted, made, kept, turned_down: rows asked for, made, and judged
    by `keep`; unsure: rows that `keep` could not judge and therefore did not keep.
    part_done: rows with some answers; a resumed run finishes them.
    failed: cells and items; failed_rows: rows with one.  causes: by column, then cause.
    found: faults that checks saw, those repaired by asking again included.
    reading: requests, tokens, money and times of all sittings.
    tables: rows of each table.  files: of the dataset.  samples: records of two rows, to show.
    timings: when it was worked on, and how long answers took.
    dry: the rehearsal model answered for all others, and no run is kept; files are with `out`.
    charged: workers made it, and have written down what they used.
    """

    run: str
    name: str
    columns: tuple[str, ...]
    folder: Path
    state: Outcome
    why: Kind
    ended: str
    wanted: int
    made: int
    kept: int
    turned_down: int
    unsure: int
    part_done: int
    failed: int
    failed_rows: int
    causes: Mapping[str, Mapping[str, int]]
    found: Mapping[str, int]
    reading: Reading
    rehearsed: int = 0
    degraded: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    samples: tuple[Mapping[str, Value], ...] = ()
    timings: "Timings | None" = None
    dry: bool = False
    charged: bool = False

    @property
    def exit_code(self) -> int:
        """0 finished, 3 short, 130 cancelled."""
        return EXIT[self.state]

    def rows(self, table: str = "") -> Iterator[Row]:
        """The rows of the main table, or of a linked one, read from the dataset in order.

        Raises UnknownName for a table that there is not, StorageError when it cannot be read,
        RunError for a dry run that kept nothing.
        """
        if self.dry and not self.files:
            raise RunError("A dry run without `out` keeps no rows.")
        from wordmill.datasets import open_dataset

        return open_dataset(self.folder).table(table).rows()

    def counts(self) -> dict[str, Value]:
        """What the registry keeps."""
        return {
            **self.reading.counts(),
            "ended": self.made,
            "kept": self.kept,
            "turned_down": self.turned_down,
            "part_done": self.part_done,
            "failed_cells": self.failed,
            "failed_rows": self.failed_rows,
            "causes": {column: dict(causes) for column, causes in self.causes.items()},
            "why": self.ended,
            "first_request": self.timings.first_request if self.timings else "",
        }

    def as_json(self) -> dict[str, Value]:
        """The summary for programs: `wordmill generate --json`."""
        reading = self.reading
        return {
            "run": self.run,
            "state": self.state,
            "why": self.why,
            "ended": self.ended,
            "dry_run": self.dry,
            "folder": None if self.dry and not self.files else str(self.folder),
            "rows": {
                "wanted": self.wanted, "made": self.made, "kept": self.kept,
                "turned_down": self.turned_down, "unsure": self.unsure,
                "part_done": self.part_done, "failed": self.failed_rows,
            },
            "failed_cells": self.failed,
            "causes": {column: dict(causes) for column, causes in self.causes.items()},
            "found": dict(self.found),
            "requests": {
                "sent": reading.requests, "cached": reading.cached, "joined": reading.joined,
                "resumed": reading.resumed, "degraded": self.degraded,
                "retried": dict(reading.retried), "failed": dict(reading.failed),
            },
            "tokens": {"input": reading.tokens_in, "output": reading.tokens_out},
            "money": reading.money,
            "spent": dict(reading.spent),
            "seconds": round(reading.seconds, 3),
            "timings": asdict(self.timings) if self.timings else {},
            "rehearsed": self.rehearsed,
            "tables": dict(self.tables),
            "files": [str(path) for path in self.files],
        }  # fmt: skip


def result_of(
    run: str,
    recipe: Recipe,
    end: End,
    dataset: "DatasetResult",
    progress: Progress,
    *,
    degraded: int,
    timings: "Timings",
    samples: tuple[Mapping[str, Value], ...],
) -> Result:
    """Put together what the session, the dataset's writer and the meter say."""
    state: Outcome = "finished"
    if end.kind == "cancelled":
        state = "cancelled"
    elif end.kind != "made" or dataset.failed or dataset.rows < progress.rows:
        state = "short"
    return Result(
        run=run,
        name=recipe.name,
        columns=tuple(recipe.columns),
        folder=dataset.folder,
        state=state,
        why=end.kind,
        ended=end.sentence,
        wanted=progress.rows,
        made=dataset.rows,
        kept=dataset.kept,
        turned_down=dataset.turned_down,
        unsure=dataset.unsure,
        part_done=progress.part_done,
        failed=dataset.failed,
        failed_rows=dataset.failed_rows,
        causes=dataset.causes,
        found=dataset.found,
        reading=progress.reading,
        rehearsed=dataset.rehearsed,
        degraded=degraded,
        tables=dataset.tables,
        files=dataset.files,
        timings=timings,
        samples=samples,
    )
