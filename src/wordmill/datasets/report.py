"""`report.html` of a dataset folder: one page, no script, nothing fetched.

This module decides what is worth showing and hands it to the template as plain views; `charts`
has the shapes. Every text is escaped by the template's environment, and the page's own policy
forbids it to load or run anything, so a hostile reply stays text. What is drawn lies beside the
page as `report.json`, for those who draw it elsewhere or read the counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError

from wordmill.datasets import charts
from wordmill.datasets.charts import Bars, Columns, HeatMap, label
from wordmill.datasets.info import ColumnInfo, DatasetInfo
from wordmill.datasets.ledger import Ledger, Record, items_of
from wordmill.datasets.manifest import Manifest
from wordmill.datasets.pages import count, percent, plural, render
from wordmill.datasets.statistics import WIDEST, Leaf, Pair, TableStatistics
from wordmill.errors import StorageError
from wordmill.types import Value

FILE: Final = "report.json"
OPENINGS: Final = 6
NAMED: Final = 12
"""Values that a sentence lists by name."""

FEW: Final = 40
"""Different values that are drawn as bars even if no schema lists them."""

HIDDEN: Final = frozenset({"id", "item", "error"})
"""Fields of items that are said otherwise."""

SAMPLED: Final = frozenset({"category", "number", "person", "uuid", "datetime", "seed"})


@dataclass(frozen=True, slots=True)
class Picture:
    """One scalar part of a column: a chart at most, and sentences.

    title: empty where the part is the column itself.
    """

    title: str
    facts: tuple[str, ...]
    bars: Bars | None = None
    columns: Columns | None = None
    openings: Bars | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A column."""

    name: str
    type: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Columns that belong together; `empty` are those without any value."""

    title: str
    note: str
    cards: tuple[Card, ...]
    empty: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """All pictures of a report: `report.json`.

    rows: of the main table; whole, turned_down (or not judged) and failed make them up.
    """

    name: str
    rows: int
    whole: int
    turned_down: int
    failed: int
    sections: tuple[Section, ...]
    maps: tuple[HeatMap, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why cells of a column failed, and how often; `example` is one of its sentences."""

    column: str
    cause: str
    n: int
    width: float
    example: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A value of a sample row. form: `text`, `plain`, `pairs` (label, value), `json`, `none`."""

    name: str
    form: str
    text: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    error: str = ""
    made: str = ""


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A sample row in full; items: for each linked table, its rows."""

    number: int
    state: str
    peek: str
    values: tuple[Shown, ...]
    items: tuple[tuple[str, tuple[tuple[Shown, ...], ...]], ...]


def draw(
    info: DatasetInfo,
    manifest: Manifest,
    ledger: Ledger,
    statistics: Mapping[str, TableStatistics],
) -> Drawn:
    """The pictures."""
    main = statistics[info.table]
    sampled = [column for column in main.columns if column.type in SAMPLED]
    made = [column for column in main.columns if column.type not in SAMPLED]
    sections = [
        _section("Sampled values", "", main, sampled),
        _section("Columns", "", main, made),
    ]
    for name, table in statistics.items():
        if name != info.table and name in manifest.tables:
            items = plural(manifest.tables[name].rows, "item")
            each = manifest.tables[name].rows / max(ledger.rows, 1)
            note = f"{items}, {count(round(each, 2))} a row"
            sections.append(_section(name, note, table, table.columns))
    rows, turned_down = manifest.rows, ledger.turned_down_whole + ledger.unsure_whole
    return Drawn(
        info.name,
        rows.made,
        rows.made - turned_down - rows.failed,
        turned_down,
        rows.failed,
        tuple(section for section in sections if section.cards or section.empty),
        tuple(found for pair in main.pairs if (found := _heat_map(pair, main)) is not None),
    )


def report(
    info: DatasetInfo,
    manifest: Manifest,
    ledger: Ledger,
    statistics: Mapping[str, TableStatistics],
    drawn: Drawn,
) -> str:
    """The page."""
    return render(
        "report.html.jinja",
        info=info,
        manifest=manifest,
        ledger=ledger,
        drawn=drawn,
        causes=_causes(ledger),
        found=sorted(ledger.found.items(), key=lambda pair: (-pair[1], pair[0])),
        rows_shown=[_shown_row(record, info) for record in ledger.shown_rows()],
        passed_over=sum(table.passed_over for table in statistics.values()),
    )


def read_drawn(folder: Path) -> Drawn:
    """The pictures of a dataset folder. Raises StorageError where there are none."""
    path = folder / FILE
    try:
        return TypeAdapter(Drawn).validate_json(path.read_bytes())
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise StorageError(f"{path} is not what this version of Wordmill writes.") from error


def _causes(ledger: Ledger) -> list[Cause]:
    found = [
        (column, cause, n)
        for column, causes in ledger.causes.items()
        for cause, n in causes.items()
    ]
    top = max((n for _, _, n in found), default=1)
    return [
        Cause(column, cause, n, 100 * n / top, ledger.examples[column, cause])
        for column, cause, n in sorted(found, key=lambda one: (-one[2], one[0], one[1]))
    ]


def _section(
    title: str, note: str, table: TableStatistics, columns: Sequence[ColumnInfo]
) -> Section:
    cards, empty = [], []
    for column in columns:
        leaves = table.leaves(column.name)
        if any(leaf.values for leaf in leaves):
            pictures = tuple(_picture(leaf, column) for leaf in leaves)
            cards.append(Card(column.name, column.type, pictures))
        elif leaves:
            empty.append(column.name)
    return Section(title, note, tuple(cards), tuple(empty))


def _picture(leaf: Leaf, column: ColumnInfo) -> Picture:
    title = leaf.path.removeprefix(column.name).removeprefix(".").strip()
    null = (f"{count(leaf.nulls)} null",) if leaf.nulls else ()
    if not leaf.values:
        return Picture(title, ("no values",))
    if leaf.name in ("integer", "number"):
        return _number(leaf, title, null)
    if leaf.tally.full and (leaf.allowed or _few(leaf) or leaf.name == "boolean"):
        facts = (*filter(None, _covered(leaf, column)), *null)
        drawn = charts.bars(leaf.tally.counts, leaf.allowed)
        worth = not drawn.hidden or max(leaf.tally.counts.values(), default=0) > 1
        return Picture(title, facts, bars=drawn if worth else None)
    return _text(leaf, title, null)


def _few(leaf: Leaf) -> bool:
    """So few different values that they are labels and no texts."""
    return len(leaf.tally.counts) <= min(FEW, max(leaf.values // 2, 1))


def _covered(leaf: Leaf, column: ColumnInfo) -> Iterator[str]:
    """Which of the values that a schema lists came, and which hardly."""
    if not leaf.allowed:
        yield plural(len(leaf.tally.counts), "different value")
        return
    verb = "drawn" if column.type in SAMPLED else "given"
    counts = leaf.tally.counts
    missing = [value for value in leaf.allowed if not counts[value]]
    came = len(leaf.allowed) - len(missing)
    yield f"{count(came)} of {plural(len(leaf.allowed), 'value')} {verb}"
    if missing:
        yield f"never {verb}: {_named(missing)}" if len(missing) <= 2 * NAMED else ""
        return
    low, high = (least(leaf.allowed, key=counts.__getitem__) for least in (min, max))
    if counts[low] == counts[high]:
        yield f"each {plural(counts[low], 'time')}"
    else:
        yield f"thinnest: {label(low)} ({count(counts[low])})"


def _named(values: Sequence[Value]) -> str:
    names = ", ".join(label(value) for value in values[:NAMED])
    return f"{names} and {count(len(values) - NAMED)} more" if len(values) > NAMED else names


def _number(leaf: Leaf, title: str, null: tuple[str, ...]) -> Picture:
    ordered = sorted(leaf.numbers.items)
    low, high = leaf.low or 0, leaf.high or 0
    facts = (
        f"mean {count(round(leaf.mean, 3))}",
        f"median {count(charts.quantile(ordered, 0.5))}",
        f"from {count(low)} to {count(high)}",
        *null,
    )
    if leaf.name == "integer" and leaf.tally.full:
        first, last = min([low, *leaf.bounds]), max([high, *leaf.bounds])
        if last - first < charts.MOST_COLUMNS:
            return Picture(
                title, facts, columns=charts.steps(leaf.tally.counts, int(first), int(last))
            )
    whole = leaf.name == "integer"
    return Picture(title, facts, columns=charts.histogram(leaf.numbers, low, high, whole))


def _text(leaf: Leaf, title: str, null: tuple[str, ...]) -> Picture:
    ordered = sorted(leaf.numbers.items)
    low, high = leaf.low or 0, leaf.high or 0
    between = f"{count(charts.quantile(ordered, 0.05))} and {count(charts.quantile(ordered, 0.95))}"
    median = count(charts.quantile(ordered, 0.5))
    facts = [f"median {median} characters, 90 % between {between}, longest {count(high)}"]
    openings = None
    if leaf.prose:
        about = "" if leaf.repeats.exact else "about "
        facts.append(f"exact repeats: {about}{percent(leaf.repeats.share)}")
        top = leaf.openings.top(OPENINGS)
        if top:
            openings = charts.bars(dict(top), [words for words, _ in top])
    elif leaf.tally.full:
        facts.append(plural(len(leaf.tally.counts), "different value"))
    return Picture(
        title,
        (*facts, *null),
        columns=charts.histogram(leaf.numbers, low, high, True),
        openings=openings,
    )


def _heat_map(pair: Pair, table: TableStatistics) -> HeatMap | None:
    values = tuple(
        leaf.allowed or tuple(sorted(leaf.tally.counts, key=str))
        for name in (pair.first, pair.second)
        for leaf in table.leaves(name)
    )
    if len(values) != 2 or not all(1 < len(some) <= WIDEST for some in values):
        return None
    first, second = values
    return charts.heat_map((pair.first, pair.second), pair.counts, (first, second))


def _shown_row(record: Record, info: DatasetInfo) -> ShownRow:
    values, errors, lineage = record["values"], record["errors"], record.get("lineage") or {}
    linked = [column.name for column in info.columns if column.table is not None]
    state = "failed" if errors else "turned down" if record.get("kept") is False else "kept"
    shown = tuple(
        _shown(column.name, values.get(column.name), errors, lineage)
        for column in info.columns
        if column.name in errors
        or (column.joins is None and (column.name not in linked or not values.get(column.name)))
    )
    items = []
    for name in linked:
        joined = [column.name for column in info.columns if column.joins == name]
        found = values.get(name)
        if isinstance(found, list) and found:
            items.append((name, tuple(_shown_items(name, joined, record))))
    peek = next((value.text for value in shown if value.form == "text"), "")
    return ShownRow(record["row"], state, " ".join(peek[:300].split()), shown, tuple(items))


def _shown_items(name: str, joined: Sequence[str], record: Record) -> Iterator[tuple[Shown, ...]]:
    """Each item of a linked column: its fields, then the values that belong to it."""
    values, lineage = record["values"], record.get("lineage") or {}
    for n, item in enumerate(values[name]):
        fields = item if isinstance(item, dict) else {"value": item}
        parts = _parts(fields)
        shown = [
            _shown(key, value, {}, {})
            for key, value in fields.items()
            if key not in HIDDEN and value is not None and not (key == "text" and parts)
        ]
        place = f"{name}[{n}]"
        if fields.get("error") or place in record["errors"]:
            words = record["errors"].get(place) or str(fields["error"])
            shown.append(Shown("error", "none", error=words))
        for column in joined:
            cell = values.get(column)
            value = cell[n] if isinstance(cell, list) and n < len(cell) else None
            trace = list(items_of(lineage.get(column)))
            made = {column: trace[n]} if n < len(trace) else {}
            if value is not None:
                shown.append(_shown(column, value, {}, made))
        yield tuple(shown)


def _parts(fields: Mapping[str, Value]) -> bool:
    """Whether an item's `text` is shown by other fields already: it was split into sections."""
    text = fields.get("text")
    if not isinstance(text, str):
        return False
    within = [v for k, v in fields.items() if k != "text" and isinstance(v, str) and v in text]
    return 2 * sum(map(len, within)) > len(text)


def _shown(
    name: str, value: Value, errors: Mapping[str, str], lineage: Mapping[str, Value]
) -> Shown:
    made, error = _made(lineage.get(name)), errors.get(name, "")
    if value is None:
        return Shown(name, "none", error=error, made=made)
    if isinstance(value, str):
        long = len(value) > 60 or "\n" in value
        return Shown(name, "text" if long else "plain", value, error=error, made=made)
    if isinstance(value, bool | int | float):
        return Shown(name, "plain", _json(value), error=error, made=made)
    if isinstance(value, dict) and not any(isinstance(v, dict | list) for v in value.values()):
        pairs = tuple((k, v if isinstance(v, str) else _json(v)) for k, v in value.items())
        return Shown(name, "pairs", pairs=pairs, error=error, made=made)
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return Shown(name, "json", text, error=error, made=made)


def _json(value: Value) -> str:
    return orjson.dumps(value).decode()


def _made(cell: Value) -> str:
    """Who made a value, and with how much: `writer, 120 tokens, 2 requests`."""
    parts = [part for part in items_of(cell) if part]
    if not parts:
        return ""
    tokens = sum(part.get("output_tokens", 0) for part in parts)
    asked = sum(part.get("asked", 1) for part in parts)
    words = [", ".join(sorted({part["model"] for part in parts})), plural(tokens, "token")]
    if asked > 1:
        words.append(plural(asked, "request"))
    if all(part.get("cached") for part in parts):
        words.append("from the cache")
    return ", ".join(words)
