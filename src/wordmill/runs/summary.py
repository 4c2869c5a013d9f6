"""The end of a run in words: what was made, what it took, what failed, where it is, what next."""

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from wordmill.runs.places import shown
from wordmill.runs.result import Result
from wordmill.runs.row import WIRE
from wordmill.runs.show import by_cause, count, money, row_lines, width

_CAUSES: Final = 8
"""Lines of causes; the others are in `run.json`."""


_FLAGS: Final = frozenset({"--dry-run", "--json", "--no-cache", "--replace", "--yes"})
"""Options of `generate` that stand alone."""

_ONCE: Final = _FLAGS | {"--from", "--out"}
"""Options of `generate` that said something of one run, and not of what it makes."""


def summary(result: Result, command: Sequence[str] = ()) -> str:
    """The whole text, as wide as the terminal; what can be typed or opened is never broken.

    command: the words after `wordmill generate` that would make the same rows again.
    """
    columns = width()
    lines = [*_wrapped(headline(result), columns, 0), ""]
    for fact in _facts(result):
        lines += _wrapped(fact, columns, 12)
    for record in result.samples:
        lines += ["", *row_lines(record, result.columns, columns)]
    if result.files:
        lines += ["", "files", *_files(result)]
    lines += ["", "next", *(f"  wordmill {words}" for words in _next(result, command))]
    return "\n".join(lines)


def again(command: Sequence[str], without: frozenset[str], *more: str) -> str:
    """A command with options left out and others added, as it can be typed.

    without: names of options; one that is none of the flags takes its value along.
    """
    words, kept = list(command), []
    while words:
        word = words.pop(0)
        name, sign, _ = word.partition("=")
        if name not in without:
            kept.append(word)
        elif name not in _FLAGS and not sign and words:
            del words[0]
    return f"generate {shlex.join([*kept, *more])}"


def headline(result: Result) -> str:
    """The first line; a short result is never called done."""
    made = f"{result.made:,} of {count(result.wanted, 'row')}"
    if result.dry:
        cost = money(result.reading.money)
        return f"Dry run: {made} made by the rehearsal model; at these prices it cost {cost}."
    match result.state:
        case "finished":
            return f"{result.run} is done: all {count(result.wanted, 'row')} are made."
        case "cancelled":
            return (
                f"{result.run} was cancelled: {result.made:,} complete, {result.part_done:,} "
                f"part-done, of {count(result.wanted, 'row')}; continue with "
                f"`wordmill resume {result.run}`."
            )
    if result.ended:
        return f"{result.run} is short: {made} are made. {_capital(result.ended)}"
    return (
        f"{result.run} is short: {made} are made, and "
        f"{count(result.failed, 'cell')} failed in {count(result.failed_rows, 'row')}."
    )


def _wrapped(text: str, columns: int, indent: int) -> list[str]:
    """Lines of a text; those after the first are indented. Names and commands stay whole."""
    return textwrap.wrap(
        text, columns, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _facts(result: Result) -> Iterator[str]:
    reading = result.reading
    rows = [f"{result.made:,} made"]
    if result.turned_down or result.unsure or result.kept != result.made:
        rows += [f"{result.kept:,} kept", f"{result.turned_down:,} turned down"]
        if result.unsure:
            rows.append(f"{result.unsure:,} that `keep` cannot judge")
    yield _fact("rows", ", ".join(rows))
    asked = [
        f"{reading.requests:,} sent",
        f"{reading.cached:,} from the cache",
        f"{reading.joined:,} joined",
        f"{sum(reading.retried.values()):,} retried",
    ]
    if reading.resumed:
        asked.append(f"{reading.resumed:,} answered before")
    if result.degraded:
        asked.append(f"{result.degraded:,} asked again in simpler form")
    yield _fact("requests", ", ".join(asked))
    if reading.retried:
        yield _fact("retried", by_cause(reading.retried))
    yield _fact("tokens", f"{reading.tokens_in:,} in, {reading.tokens_out:,} out")
    yield _fact("money", money(reading.money))
    rate = reading.requests / reading.seconds if reading.seconds else 0
    yield _fact("seconds", f"{reading.seconds:,.1f} ({rate:,.0f} requests a second)")
    if result.found:
        yield _fact("found", f"{by_cause(result.found)} (repaired ones included)")
    if result.failed:
        yield _fact(
            "failed", f"{count(result.failed, 'cell')} in {count(result.failed_rows, 'row')}"
        )
        causes = Counter(
            {
                f"{column}: {cause}": number
                for column, by in result.causes.items()
                for cause, number in by.items()
            }
        )
        for cause, number in causes.most_common(_CAUSES):
            yield _fact(f"{number:>8,}", cause)
        if len(causes) > _CAUSES:
            yield _fact("", f"and {len(causes) - _CAUSES} more causes, in run.json")


def _fact(name: str, words: str) -> str:
    return f"  {name:<10}{words}"


def _files(result: Result) -> Iterator[str]:
    folder = result.folder
    tables = ", ".join(f"{name} ({count(rows, 'row')})" for name, rows in result.tables.items())
    data = f"  {shown(folder / 'data')}/"
    yield from [f"{data}  {tables}"] if len(data + tables) + 2 <= width() else [
        data, *textwrap.wrap(tables, width(), initial_indent=" " * 4, subsequent_indent=" " * 4),
    ]  # fmt: skip
    for name in ("report.html", "README.md", "run.json"):
        yield f"  {shown(folder / name)}"
    if result.failed_rows:
        yield f"  {shown(folder / 'failed.jsonl')}"


def _next(result: Result, command: Sequence[str]) -> list[str]:
    run, folder = result.run, str(shown(result.folder))
    command = command or (folder, "--rows", str(result.wanted))
    if result.dry:
        return [again(command, frozenset({"--dry-run", "--json"}))]
    read = f"runs rows {run}"
    export = f"export {run} --format jsonl --to {shlex.quote(f'{result.name}.jsonl')}"
    if result.state == "finished":
        if not result.rehearsed:
            return [read, export, f"runs show {run}"]
        wanted = ("--rows", str(result.wanted)) if "--from" in command else ()
        less = _ONCE | {"--model"} | ({"--rows", "-n"} if wanted else set())
        return [read, export, again(
            command, less, *wanted, "--model", "NAME", "--out", f"{folder}-real",
        )]  # fmt: skip
    if result.why == "ceiling":
        return [f"resume {run} --budget HIGHER", read, f"runs show {run}"]
    failed = f"runs rows {run} --failed"
    curable = any(not WIRE.isdisjoint(causes) for causes in result.causes.values())
    if result.why == "made" and not curable:
        # Its answers are known and would be the same: only asking anew can help.
        anew = again(command, _ONCE, "--from", run, "--no-cache", "--out", f"{folder}-2")
        return [failed, anew, export]
    return [f"resume {run}", failed, export]


def _capital(sentence: str) -> str:
    text = sentence[:1].upper() + sentence[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
