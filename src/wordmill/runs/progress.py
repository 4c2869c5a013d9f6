"""How far a run is, in lines that fit a terminal: one a column that asks, one for the lanes.

On a terminal the lines are redrawn in place (Rich, imported when the first are shown); elsewhere
they are printed every few seconds, so that a log stays readable.
"""

import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from wordmill.runs.budget import Budget
from wordmill.runs.meter import Reading
from wordmill.runs.session import Progress
from wordmill.runs.show import WIDTH, duration, money

if TYPE_CHECKING:
    from rich.live import Live

PAUSE: Final = 5.0
"""Seconds between the lines where there is no terminal."""

SPAN: Final = 10.0
"""Seconds that a rate looks back."""


class Reporter(Protocol):
    """Who is told what happens in a run."""

    def say(self, sentence: str) -> None:
        """Something a person should know."""

    def begin(self, run: str, columns: Sequence[str], earlier: int, budget: Budget) -> None:
        """A sitting begins. columns: those worth a line.  earlier: rows that had ended before."""

    def show(self, progress: Progress) -> None:
        """How far it is; called often."""

    def close(self) -> None:
        """No more is shown."""


class Silent:
    """A reporter for programs: it keeps the sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        """Keep it."""
        self.sentences.append(sentence)

    def begin(self, run: str, columns: Sequence[str], earlier: int, budget: Budget) -> None:
        """Nothing."""

    def show(self, progress: Progress) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Terminal:
    """A reporter for a person, on stderr."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live: Live | None = None
        self._lines: Lines | None = None
        self._next = time.monotonic() + PAUSE

    def say(self, sentence: str) -> None:
        """Print it, above the lines that are redrawn."""
        if self._live is not None:
            self._live.console.print(sentence, markup=False, highlight=False, soft_wrap=True)
        else:
            print(sentence, file=self._stream, flush=True)

    def begin(self, run: str, columns: Sequence[str], earlier: int, budget: Budget) -> None:
        """Get ready to show lines."""
        self._lines = Lines(run, columns, earlier, budget)

    def show(self, progress: Progress) -> None:
        """Redraw the lines, or print them when it is time."""
        if self._lines is None:
            return
        lines = self._lines.of(progress)
        if not self._stream.isatty():
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + PAUSE
                print("\n".join(lines), file=self._stream, flush=True)
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            console = Console(file=self._stream)
            self._live = Live(console=console, auto_refresh=False, redirect_stdout=False)
            self._live.start()
        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)

    def close(self) -> None:
        """Leave the last lines where they are."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class Lines:
    """Words and numbers for snapshots of one sitting; remembers them to tell rates.

    The first line counts the rows of the run; those of columns, the cells of this sitting. Cells
    that `when` switches off are neither done nor left.
    """

    def __init__(self, run: str, columns: Sequence[str], earlier: int, budget: Budget) -> None:
        self._run, self._columns, self._earlier, self._budget = run, columns, earlier, budget
        self._past: deque[tuple[float, tuple[int, ...]]] = deque()
        self._label = min(24, max((len(name) for name in columns), default=0))

    def of(self, progress: Progress, now: float | None = None) -> list[str]:
        """The lines of a snapshot. now: seconds of any clock that only goes forward."""
        now = time.monotonic() if now is None else now
        tally = progress.tally
        made = (tally.done[name] + tally.failed[name] for name in self._columns)
        ended = (progress.ended, *made)
        self._past.append((now, ended))
        while now - self._past[0][0] > SPAN:
            self._past.popleft()
        then, before = self._past[0]
        rates = [(new - old) / (now - then) if now > then else 0.0
                 for new, old in zip(ended, before, strict=True)]  # fmt: skip
        return [line[:WIDTH] for line in self._all(progress, rates)]

    def _all(self, progress: Progress, rates: Sequence[float]) -> list[str]:
        left = _left(progress.rows - progress.ended, rates[0])
        share = 100 * progress.ended // max(1, progress.rows)
        before = f" ({self._earlier:,} from before)" if self._earlier else ""
        head = (
            f"{self._run}  {progress.ended:,} of {progress.rows:,} rows{before}  {share} %  "
            f"{duration(progress.reading.sitting)}  {left}"
        )
        lines = [head if not progress.ending else f"{self._run}  ending: {progress.ending}"]
        for name, rate in zip(self._columns, rates[1:], strict=True):
            done, failed, off = (
                counts[name]
                for counts in (progress.tally.done, progress.tally.failed, progress.tally.off)
            )
            left_here = progress.rows - self._earlier - done - failed - off
            lines.append(
                f"  {name[:24]:<{self._label}}  {done:>9,} done  {failed:>5,} failed  "
                f"{_rate(rate):>8}/s  {_left(left_here, rate)}"
            )
        lines.append(f"  {lanes_line(progress.reading, self._budget)}")
        return lines


def lanes_line(reading: Reading, budget: Budget) -> str:
    """What the lanes do just now, and what is spent of the budget."""
    parts = [f"in flight {reading.in_flight:,}"]
    times = [lane.p50 for lane in reading.lanes if lane.p50]
    if times:
        parts.append(f"p50 {max(times):.2f} s")
    parts.append(f"backed off {sum(lane.backed_off for lane in reading.lanes):,}")
    parts.append(spent(reading, budget))
    return "lanes  " + ", ".join(part for part in parts if part)


def spent(reading: Reading, budget: Budget) -> str:
    """`$0.21 of $5.00, 1,200 of 5,000 requests`; without a budget the money alone."""
    used = reading.spent
    parts = []
    if budget.money is not None:
        parts.append(f"{money(used['money'])} of {money(budget.money)}")
    elif used["money"]:
        parts.append(money(used["money"]))
    if budget.tokens is not None:
        parts.append(f"{used['tokens']:,.0f} of {budget.tokens:,} tokens")
    if budget.requests is not None:
        parts.append(f"{used['requests']:,.0f} of {budget.requests:,} requests")
    return ", ".join(parts)


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _left(rows: int, rate: float) -> str:
    if rows <= 0:
        return "done"
    return f"{duration(rows / rate)} left" if rate > 0 else "waiting"
