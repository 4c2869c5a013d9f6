"""The end of a run in words: what was made, what it took, what failed, where it is, what next."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from wordmill.runs.places import shown
from wordmill.runs.result import Result
from wordmill.runs.row import WIRE
from wordmill.runs.show import by_cause, count, money, row_lines

_CAUSES: Final = 8
"""Lines of causes; the others are in `run.json`."""


def summary(result: Result, recipe: str = "") -> str:
    """The whole text. recipe: as a person named it, for the commands that come next."""
    lines = [headline(result), ""]
    lines += _facts(result)
    for record in result.samples:
        lines += ["", *row_lines(record, result.columns)]
    if result.files:
        lines += ["", "files", *_files(result)]
    lines += ["", "next", *(f"  {command}" for command in _next(result, recipe or result.name))]
    return "\n".join(lines)


def headline(result: Result) -> str:
    """The first line; a short result is never called done."""
    made = f"{result.made:,} of {count(result.wanted, 'row')}"
    if result.dry:
        cost = money(result.reading.money) if result.reading.money else "$0"
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
    yield _fact("money", money(reading.money) if reading.money else "$0")
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
            yield f"    {number:>6,}  {cause}"
        if len(causes) > _CAUSES:
            yield f"    and {len(causes) - _CAUSES} more causes, in run.json"


def _fact(name: str, words: str) -> str:
    return f"  {name:<10}{words}"


def _files(result: Result) -> Iterator[str]:
    folder = result.folder
    yield f"  {shown(folder / 'data')}/  " + ", ".join(
        f"{name} ({count(rows, 'row')})" for name, rows in result.tables.items()
    )
    for name in ("report.html", "README.md", "run.json"):
        yield f"  {shown(folder / name)}"
    if result.failed_rows:
        yield f"  {shown(folder / 'failed.jsonl')}"


def _next(result: Result, recipe: str) -> list[str]:
    run = result.run
    if result.dry:
        return [f"wordmill generate {recipe} --rows {result.wanted}"]
    read = f"wordmill runs rows {run}"
    export = f"wordmill export {run} --format jsonl --to {result.name}.jsonl"
    if result.state == "finished":
        real = f"wordmill generate {recipe} --model NAME --out {shown(result.folder)}-real"
        return [read, export, real if result.rehearsed else f"wordmill runs show {run}"]
    if result.why == "ceiling":
        return [f"wordmill resume {run} --budget HIGHER", read, f"wordmill runs show {run}"]
    failed = f"wordmill runs rows {run} --failed"
    curable = any(not WIRE.isdisjoint(causes) for causes in result.causes.values())
    if result.why == "made" and not curable:
        # Its answers are known and would be the same: only asking anew can help.
        anew = f"wordmill generate {recipe} --from {run} --no-cache --out {shown(result.folder)}-2"
        return [failed, anew, export]
    return [f"wordmill resume {run}", failed, export]


def _capital(sentence: str) -> str:
    text = sentence[:1].upper() + sentence[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
