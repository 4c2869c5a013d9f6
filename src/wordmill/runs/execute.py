"""Making the rows: cell by cell, many rows open at once, none waiting for another.

The executor owns the open rows and nothing else. It opens rows in windows and fills their early
columns, turns ready cells into questions (`outbox`), gives replies back to the columns, frees
what waited for a finished cell, and hands finished rows to its sink as JSON, after which they
take no memory. It neither sleeps nor does I/O: `session` polls the engine and calls

    open_rows -> outbox.send -> (poll) -> receive -> advance -> ...

The loops here run once a cell; they are written with plain lists and local names, and what costs
a microsecond was measured (docs/runs.md).
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

from wordmill._engine import Batch
from wordmill.columns.base import KEEP, Asker, Filler
from wordmill.errors import EngineError, RecipeError
from wordmill.runs.given import merge_items, note_computed, place_of, take_items, take_whole
from wordmill.runs.latencies import Latencies
from wordmill.runs.outbox import Outbox
from wordmill.runs.plan import (
    COLUMN_MASK,
    COLUMN_SHIFT,
    MAX_ITEMS,
    MAX_TRIES,
    ROW_SHIFT,
    TRIES_MASK,
    Plan,
    Step,
    request_id,
)
from wordmill.runs.row import Cell, OpenRow, traced
from wordmill.types import Answer, Ask, CellError, Reply, Usage, Value

FIRST_WINDOW, WINDOW = 64, 512
"""Rows opened at once: few the first time, so that the first request leaves early."""

UNSENT = frozenset({"stopped", "budget", "cancelled"})
"""Engine errors of requests that were never sent, or not known to be answered."""

LANE_FAULTS = frozenset({"unauthorized", "payment", "unknown_model"})
"""Engine errors that stop a lane when they repeat."""

_CACHED, _JOINED, _ESTIMATED, _REFUSAL = 1, 2, 8, 16


class Sink(Protocol):
    """Where finished rows go."""

    def keep(self, numbers: list[int], records: list[bytes]) -> None:
        """Store row records; each row comes once."""


class Given(Protocol):
    """Rows of an earlier run that this one adds to."""

    def rows(self, numbers: Sequence[int]) -> Mapping[int, Mapping[str, Value]]:
        """Row records of those numbers, as far as there are any."""


class Tally:
    """Cells that ended in this sitting, by column, and how long their answers took.

    done: with a value.  failed: without one.  off: not wanted, since their `when` is false.
    failed_items: of cells that have others.  tokens: read and written for them.
    spans: seconds of a clock that only goes forward, when the first was begun and the last ended.
    """

    def __init__(self, plan: Plan) -> None:
        self.done, self.failed, self.off, self.failed_items = (
            dict.fromkeys((step.name for step in plan.steps), 0) for _ in range(4)
        )
        self.latencies = {name: Latencies() for name in plan.asking}
        self.tokens: dict[str, tuple[int, int]] = {}
        self.spans: dict[str, tuple[float, float]] = {}

    def worked(
        self, name: str, began: float, arrived: Iterable[tuple[object, int, Ask, Reply]]
    ) -> None:
        """A step was gone on with, from `began` until now."""
        first, _ = self.spans.get(name, (began, began))
        self.spans[name] = first, time.monotonic()
        read, written = self.tokens.get(name, (0, 0))
        for _, _, _, reply in arrived:
            read += reply.usage.input
            written += reply.usage.output
        self.tokens[name] = read, written


class Executor:
    """Makes rows. One thread only.

    numbers: the rows to make, ascending.  window: most rows open at once.
    backlog: no new rows while so many questions wait for the engine.

    doubtful: replies that may be the end of a lane; they wait for `settle`.
    refused: the engine has given a question back unasked (a ceiling, a stopped lane, a cancel).
    """

    def __init__(
        self,
        plan: Plan,
        outbox: Outbox,
        sink: Sink,
        numbers: Iterator[int],
        *,
        window: int,
        backlog: int,
        given: Given | None = None,
    ) -> None:
        self._plan, self._outbox, self._sink, self._numbers = plan, outbox, sink, numbers
        self._window, self._backlog, self._given = window, backlog, given
        self.tally = Tally(plan)
        self.rows: dict[int, OpenRow] = {}
        self.asked: dict[int, Ask] = {}
        self.doubtful: list[tuple[OpenRow, int, Ask, Reply]] = []
        self.all_open = self.stopped = False
        self.refused = False
        self._ready: list[list[OpenRow]] = [[] for _ in plan.steps]
        self._arrived: list[list[tuple[OpenRow, int, Ask, Reply]]] = [[] for _ in plan.steps]
        self._waits = [step.waits for step in plan.steps]
        self._first = [step.index for step in plan.late if not step.waits]
        self._step_size = FIRST_WINDOW
        self._ended: list[OpenRow] = []

    @property
    def done(self) -> bool:
        """All is answered that was asked, and nothing more will be; see also `doubtful`."""
        return (self.all_open or self.stopped) and not self.asked

    @property
    def part_done(self) -> int:
        """Open rows that have an answer already."""
        return sum(row.begun for row in self.rows.values())

    def stop(self) -> None:
        """Open no more rows and ask nothing more; what is out may still be answered."""
        self.stopped = True
        for number in self._outbox.clear():
            self.asked.pop(number, None)

    def open_rows(self) -> None:
        """Begin new rows, as many as there is room for, and ask their first questions."""
        while not (self.stopped or self.all_open):
            room = min(self._window - len(self.rows), self._step_size)
            if room <= 0 or self._outbox.waiting >= self._backlog:
                return
            numbers = list(islice(self._numbers, room))
            self.all_open = len(numbers) < room
            if numbers:
                self._open(numbers)
                self.advance()
            if self._step_size == FIRST_WINDOW:
                self._step_size = WINDOW
                return

    def _open(self, numbers: list[int]) -> None:
        waits, left, rows = self._waits, len(self._plan.late), []
        for number in numbers:
            row = OpenRow(number, waits[:], left)
            self.rows[number] = row
            rows.append(row)
        if self._given is not None:
            given = self._given.rows(numbers)
            for row in rows:
                row.given = given.get(row.number)
        for step in self._plan.early:
            began = time.monotonic()
            self._fill(step, rows)
            self.tally.worked(step.name, began, ())
        for index in self._first:
            self._ready[index].extend(rows)
        if not self._plan.late:
            self._ended.extend(rows)

    def receive(self, batch: Batch) -> None:
        """Sort what came back by column; `advance` goes on with it."""
        rows, asked, arrived = self.rows, self.asked, self._arrived
        answered = self._outbox.answered
        for (
            number, text, error, detail, finish, model,
            input_tokens, output_tokens, cost, attempts, seconds, flags, digest,
        ) in zip(
            batch.ids, batch.texts, batch.errors, batch.details, batch.finishes, batch.models,
            batch.input_tokens, batch.output_tokens, batch.costs, batch.attempts, batch.seconds,
            batch.flags, batch.digests, strict=True,
        ):  # fmt: skip
            ask = asked.pop(number)
            answered(number, ask, error is None)
            if error is not None and error in UNSENT:
                self.refused = True
                continue
            row = rows[number >> ROW_SHIFT]
            row.begun = True
            reply = Reply(
                text, error, detail, finish, model,
                Usage(input_tokens, output_tokens, flags & _ESTIMATED != 0), cost, attempts,
                seconds, flags & _CACHED != 0, flags & _JOINED != 0, flags & _REFUSAL != 0, digest,
            )  # fmt: skip
            if error is not None:
                if error in LANE_FAULTS:
                    self.doubtful.append((row, number, ask, reply))
                    continue
                if error == "rejected" and self._retried(number, ask, detail):
                    continue
            arrived[number >> COLUMN_SHIFT & COLUMN_MASK].append((row, number, ask, reply))

    def _retried(self, number: int, ask: Ask, detail: str) -> bool:
        if self.stopped:
            return False
        again = self._outbox.retry(number, ask, detail, self.asked)
        if again is None:
            return False
        self.asked[again] = ask
        return True

    def settle(self) -> None:
        """The lanes go on: what looked like the end of one is an ordinary failure after all."""
        for row, number, ask, reply in self.doubtful:
            self._arrived[number >> COLUMN_SHIFT & COLUMN_MASK].append((row, number, ask, reply))
        self.doubtful.clear()

    def advance(self) -> None:
        """Take what arrived, make what is ready, hand over what has ended."""
        # A step frees only later ones, so one pass in order meets everything.
        for step in self._plan.late:
            index = step.index
            if not (self._arrived[index] or self._ready[index]):
                continue
            began = time.monotonic()
            arrived, self._arrived[index] = self._arrived[index], []
            self._take(step, arrived)
            if self._ready[index]:
                ready, self._ready[index] = self._ready[index], []
                if isinstance(step.maker, Filler):
                    for row in self._fill(step, ready):
                        self._free(step, row)
                else:
                    self._ask(step, step.maker, ready)
            self.tally.worked(step.name, began, arrived)
        if self._ended:
            self._hand_over()

    # One step for many rows.

    def _fill(self, step: Step, rows: list[OpenRow]) -> list[OpenRow]:
        """Compute a column for rows that are ready for it; the same rows."""
        maker, name = step.maker, step.name
        if not isinstance(maker, Filler):
            raise TypeError(f"the column {name!r} is asked for, not filled")
        todo = rows
        if step.when is not None or self._given is not None or any(row.errors for row in rows):
            todo = [row for row in rows if self._wanted(step, row)]
        filled = maker.fill([row.values for row in todo])
        failed = 0
        for row, value in zip(todo, filled, strict=True):
            if value.__class__ is CellError:
                self._fail(step, row, value)
                failed += 1
            else:
                row.values[name] = value
        self.tally.done[name] += len(todo) - failed
        if self._given is not None:
            note_computed(step, todo)
        return rows

    def _wanted(self, step: Step, row: OpenRow) -> bool:
        """Whether a cell has to be made; if not, it is given its value or its error here."""
        for need in step.needs:
            if need in row.errors:
                self._fail(step, row, CellError("needs", need))
                return False
        if step.when is not None:
            verdict = step.when.holds(row.values)
            if isinstance(verdict, CellError):
                self._fail(step, row, verdict)
                return False
            if not verdict:
                row.values[step.name] = None
                self.tally.off[step.name] += 1
                return False
        if row.given is not None and take_whole(step, row):
            self.tally.done[step.name] += 1
            return False
        return True

    def _ask(self, step: Step, maker: Asker, rows: list[OpenRow]) -> None:
        """Ask the first questions of ready cells."""
        # With one question and nothing to put together a cell needs no list of items.
        plain = type(maker).finish is Asker.finish
        careful = step.when is not None or self._given is not None
        asks_of = maker.asks
        for row in rows:
            if (careful or row.errors) and not self._wanted(step, row):
                self._free(step, row)
                continue
            asks = asks_of(row.values)
            if isinstance(asks, CellError):
                self._fail(step, row, asks)
                self._free(step, row)
            elif plain and len(asks) == 1:
                self._send(step, row, asks[0])
            else:
                self._ask_items(step, maker, row, asks)

    def _ask_items(self, step: Step, maker: Asker, row: OpenRow, asks: list[Ask]) -> None:
        if len(asks) > MAX_ITEMS:
            raise RecipeError(
                f"The column {step.name!r} asks {len(asks)} questions for row {row.number}; "
                f"a cell can have {MAX_ITEMS}. Make fewer candidates a row."
            )
        cell = row.cells[step.index] = Cell(len(asks))
        if row.given is not None:
            asks = take_items(step, row, cell, asks)
        for ask in asks:
            self._send(step, row, ask)
        if not asks:
            self._finish_items(step, maker, row, cell)

    def _send(self, step: Step, row: OpenRow, ask: Ask) -> None:
        if self.stopped:
            return
        item = request_id(row.number, step.index, ask.item, 0)
        number = item | ask.tries + self._outbox.shift(item)
        self.asked[number] = ask
        self._outbox.add(number, ask)

    def _take(self, step: Step, arrived: list[tuple[OpenRow, int, Ask, Reply]]) -> None:
        """Give replies to their column."""
        if not arrived:
            return
        maker, name = step.maker, step.name
        if not isinstance(maker, Asker):
            raise EngineError(f"The engine answered for {name!r}, which asks nothing.")
        if latencies := self.tally.latencies.get(name):
            latencies.add(
                reply.seconds
                for _, _, _, reply in arrived
                if reply.error is None and not (reply.cached or reply.joined)
            )
        take, done = maker.take, self.tally.done
        for row, number, ask, reply in arrived:
            cell = row.cells.get(step.index) if row.cells else None
            if cell is None:
                row.lineage[name] = traced(row.lineage.get(name), ask, reply)
            else:
                cell.lineage[ask.item] = traced(cell.lineage[ask.item], ask, reply)
            result = take(row.values, ask, reply)
            if isinstance(result, Ask):
                if self._again(row, number, result, reply):
                    self._send(step, row, result)
                    continue
                result = result.because or CellError("tries", "asked too often")
            elif isinstance(result, CellError) and reply.error is None:
                row.find(result.cause)
            if cell is not None:
                cell.items[ask.item] = result
                cell.left -= 1
                if not cell.left:
                    self._finish_items(step, maker, row, cell)
                continue
            if isinstance(result, Answer):
                row.values[name] = result.value
                done[name] += 1
            else:
                self._fail(step, row, result)
            self._free(step, row)

    def _again(self, row: OpenRow, number: int, ask: Ask, reply: Reply) -> bool:
        """Count a question that is asked again; False when its id has no room for another try."""
        if ask.because is not None and reply.error is None:
            row.find(ask.because.cause)
        item = number & ~TRIES_MASK
        return ask.tries + self._outbox.shift(item) < MAX_TRIES

    def _finish_items(self, step: Step, maker: Asker, row: OpenRow, cell: Cell) -> None:
        items = [item for item in cell.items if item is not None]
        value = merge_items(step, row, cell, maker.finish(row.values, items))
        row.lineage[step.name] = cell.lineage
        row.cells.pop(step.index, None)
        if isinstance(value, CellError):
            self._fail(step, row, value)
        else:
            row.values[step.name] = value
            self.tally.done[step.name] += 1
            for number, item in enumerate(items):
                if isinstance(item, CellError) and number not in cell.known:
                    self._fail_item(step, row, number, item)
        self._free(step, row)

    # The end of a cell, and of a row.

    def _fail(self, step: Step, row: OpenRow, error: CellError) -> None:
        row.values[step.name] = None
        row.errors[step.name] = error
        self.tally.failed[step.name] += 1

    def _fail_item(self, step: Step, row: OpenRow, item: int, error: CellError) -> None:
        """An item failed in a cell that has others: noted beside, the cell stands."""
        row.errors[f"{step.name}[{place_of(step, row, item)}]"] = error
        self.tally.failed_items[step.name] += 1

    def _free(self, step: Step, row: OpenRow) -> None:
        """A late cell has ended, well or not: what waited for it may go on."""
        waits = row.waits
        for index in step.frees:
            waits[index] -= 1
            if not waits[index]:
                self._ready[index].append(row)
        row.left -= 1
        if not row.left:
            self._ended.append(row)

    def _hand_over(self) -> None:
        numbers, records = [], []
        for row in self._ended:
            kept = self._judged(row)
            numbers.append(row.number)
            records.append(row.record(kept))
            del self.rows[row.number]
        self._ended.clear()
        self._sink.keep(numbers, records)

    def _judged(self, row: OpenRow) -> bool | None:
        """Whether `keep` keeps a row; where that cannot be said it is not kept, with the words."""
        keep = self._plan.keep
        if keep is None:
            return None
        lost = keep.expression.names & row.errors.keys()
        verdict = CellError("", f"needs {min(lost)}") if lost else keep.holds(row.values)
        if isinstance(verdict, CellError):
            row.errors[KEEP] = CellError("keep", verdict.detail)
            return False
        return verdict
