"""Row records as Arrow columns: the main table, and the linked tables that are joined to it.

The plan is fixed by the recipe's columns, and for columns that no schema describes by the first
records, before anything is written. A column with a linked table is
the list of its items' ids in the main table; a column that belongs to the items of another is a
column of that linked table and not of the main one. What does not fit its type becomes null with
its reason in `errors`; properties that no schema names are kept in `lineage`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Final

import orjson

from wordmill.columns.base import KEEP
from wordmill.datasets.info import KEYS, ColumnInfo, DatasetInfo
from wordmill.datasets.kinds import (
    JsonText,
    Kind,
    Many,
    Packed,
    Scalar,
    Struct,
    kind_of,
    kind_of_values,
    pack,
)
from wordmill.datasets.ledger import Record
from wordmill.datasets.pages import plural
from wordmill.types import Value

if TYPE_CHECKING:
    import pyarrow as pa

Arrays = dict[str, "pa.Array"]
Lists = dict[str, list[Value]]

NO_PICTURE: Final = frozenset({"error", "first", "second"})
"""Fields of items that only point at something, or are counted by cause."""

IDS: Final = Many(Scalar("string"))


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows, ready to be written: the columns of each table, in order.

    failures: for each row, everything that failed in it, items of linked tables included; that
    `keep` could not judge it is no failure.
    """

    main: Arrays
    linked: Mapping[str, Arrays]
    failures: list[dict[str, str]]


class _Notes:
    """What is noticed about the rows of a batch while its columns are packed.

    By row of the batch, then by place (`column` or `column[item]`).
    """

    def __init__(self) -> None:
        self.misfits: defaultdict[int, dict[str, str]] = defaultdict(dict)
        self.items: defaultdict[int, dict[str, str]] = defaultdict(dict)
        self.left: defaultdict[int, dict[str, dict[str, Value]]] = defaultdict(dict)

    def misfit(self, row: int, place: str, words: str, left: Mapping[str, Value]) -> None:
        """A value did not go in; the first reason of a place is told."""
        self.misfits[row].setdefault(place, words)
        self.leave(row, place, left)

    def leave(self, row: int, place: str, left: Mapping[str, Value]) -> None:
        """Something was left out of a value."""
        self.left[row].setdefault(place, {}).update(left)

    def take(
        self,
        packed: Packed,
        column: str,
        owner: Sequence[int] | None = None,
        place: Sequence[int] = (),
    ) -> None:
        """Note what did not go into a column; owner, place: of each item, its row and number."""

        def where(k: int) -> tuple[int, str]:
            return (k, column) if owner is None else (owner[k], f"{column}[{place[k]}]")

        for k, words in packed.misfits.items():
            row, name = where(k)
            self.misfits[row].setdefault(name, words)
        for k, left in packed.left.items():
            self.leave(*where(k), left)


class LinkedTable:
    """A column whose value is a list of objects, as a table with one row an item.

    fields: (name, kind) of the objects' properties, without the keys.
    joined: (column, kind of one item's value), for columns that belong to the items.
    """

    def __init__(self, column: ColumnInfo, joined: Sequence[ColumnInfo]) -> None:
        self.name = column.name
        kind = kind_of(column.table)
        fields = kind.fields if isinstance(kind, Struct) else (("value", JsonText()),)
        self.whole = not isinstance(kind, Struct)
        self.fields = [(name, part) for name, part in fields if name not in KEYS]
        self.joined = [(other, _item_kind(other)) for other in joined]

    def kinds(self) -> list[tuple[str, Kind]]:
        """All columns of the table, in order."""
        return [
            ("row", Scalar("integer")),
            ("item", Scalar("integer")),
            ("id", Scalar("string")),
            *self.fields,
            *((column.name, kind) for column, kind in self.joined),
        ]

    def pictured(self, column: ColumnInfo) -> list[tuple[ColumnInfo, Kind]]:
        """The columns that a report looks at."""
        own = [
            (ColumnInfo(name, column.type), kind)
            for name, kind in self.fields
            if name not in NO_PICTURE
        ]
        return own + list(self.joined)

    def assemble(self, records: Sequence[Record], notes: _Notes) -> tuple[Arrays, list[Value]]:
        """The table's rows for these records, and for each record the ids of its items."""
        cells = self._cells(records, notes)
        counts = [len(cell) for cell in cells]
        owner = [n for n, count in enumerate(counts) for _ in range(count)]
        place = [item for count in counts for item in range(count)]
        rows = [records[n]["row"] for n in owner]
        objects = self._objects(list(chain.from_iterable(cells)), owner, place, notes)
        ids = [
            str(item.get("id") or f"{row}-{number}")
            for item, row, number in zip(objects, rows, place, strict=True)
        ]
        lists: Lists = {"row": rows, "item": list(place), "id": ids}
        lists |= {name: [item.get(name) for item in objects] for name, _ in self.fields}
        for column, _ in self.joined:
            lists[column.name] = self._aligned(column.name, records, counts, notes)
        arrays: Arrays = {}
        owners = {column.name for column, _ in self.joined}
        for name, kind in self.kinds():
            column_name, path = (name, "") if name in owners else (self.name, f"/{name}")
            packed = pack(kind, lists[name], path)
            arrays[name] = packed.array
            notes.take(packed, column_name, owner, place)
        ends = list(accumulate(counts))
        return arrays, [
            ids[end - count : end] if type(record["values"].get(self.name)) is list else None
            for record, count, end in zip(records, counts, ends, strict=True)
        ]

    def _cells(self, records: Sequence[Record], notes: _Notes) -> list[list[Value]]:
        """The items of each record; none where its value is no list."""
        cells = [record["values"].get(self.name) for record in records]
        for n, cell in enumerate(cells):
            if type(cell) is not list:
                cells[n] = []
                if cell is not None:
                    notes.misfit(n, self.name, "type: it is not a list of objects", {"": cell})
        return cells

    def _objects(
        self, found: list[Value], owner: list[int], place: list[int], notes: _Notes
    ) -> list[dict[str, Value]]:
        """The items as objects; what they hold beyond their fields is noted."""
        if self.whole:
            return [{"value": item} for item in found]
        objects: list[dict[str, Value]] = found
        if {dict} != set(map(type, found)):
            objects = [item if type(item) is dict else {} for item in found]
            for k, item in enumerate(found):
                if item is not None and type(item) is not dict:
                    words = "type: it is not an object"
                    notes.misfit(owner[k], f"{self.name}[{place[k]}]", words, {"": item})
        known = {*KEYS, *(name for name, _ in self.fields)}
        beyond = set().union(*objects) - known
        for k, item in enumerate(objects):
            if item.get("error"):
                notes.items[owner[k]][f"{self.name}[{place[k]}]"] = str(item["error"])
            if beyond and not beyond.isdisjoint(item):
                left = {f"/{key}": value for key, value in item.items() if key in beyond}
                notes.leave(owner[k], f"{self.name}[{place[k]}]", left)
        return objects

    @staticmethod
    def _aligned(
        column: str, records: Sequence[Record], counts: Sequence[int], notes: _Notes
    ) -> list[Value]:
        """A joined column's values, one an item; null where there is none."""
        values: list[Value] = []
        for n, (record, count) in enumerate(zip(records, counts, strict=True)):
            cell = record["values"].get(column)
            if cell is not None and (type(cell) is not list or len(cell) > count):
                words = f"type: it is not a list of {plural(count, 'item')}"
                notes.misfit(n, column, words, {"": cell})
                cell = None
            values.extend(cell or ())
            values.extend([None] * (count - len(cell or ())))
        return values


class Assembly:
    """The tables of a dataset and how records become their rows.

    first: the first records, for the types of columns that no schema describes.
    """

    def __init__(self, info: DatasetInfo, first: Sequence[Record] = ()) -> None:
        self.seed = info.seed
        self.linked = [
            LinkedTable(column, [other for other in info.columns if other.joins == column.name])
            for column in info.columns
            if column.table is not None
        ]
        self.main: list[tuple[ColumnInfo, Kind]] = [
            (column, _main_kind(column, first)) for column in info.columns if column.joins is None
        ]

    def kinds(self) -> list[tuple[str, Kind]]:
        """All columns of the main table, in order."""
        return [
            ("row", Scalar("integer")),
            ("kept", Scalar("boolean")),
            *((column.name, kind) for column, kind in self.main),
            ("errors", JsonText()),
            ("lineage", JsonText()),
        ]

    def pictured(self) -> list[tuple[ColumnInfo, Kind]]:
        """The columns of the main table that a report looks at."""
        return [(column, kind) for column, kind in self.main if column.table is None]

    def batch(self, records: Sequence[Record]) -> Batch:
        """Pack consecutive rows. Raises nothing for any values that JSON can hold."""
        import pyarrow as pa

        notes = _Notes()
        linked: dict[str, Arrays] = {}
        ids: Lists = {}
        for table in self.linked:
            linked[table.name], ids[table.name] = table.assemble(records, notes)
        values = [record["values"] for record in records]
        arrays: Arrays = {
            "row": pa.array([record["row"] for record in records], pa.int64()),
            "kept": pa.array([record.get("kept") for record in records], pa.bool_()),
        }
        for column, kind in self.main:
            name = column.name
            packed = pack(kind, ids[name] if name in ids else [v.get(name) for v in values])
            arrays[name] = packed.array
            notes.take(packed, name)
        errors = [record.get("errors") or {} for record in records]
        for n, misfits in notes.misfits.items():
            errors[n] = errors[n] | misfits
        failures = list(errors)
        for n, items in notes.items.items():
            failures[n] = failures[n] | items
        for n, failure in enumerate(failures):
            if KEEP in failure:
                failures[n] = {name: words for name, words in failure.items() if name != KEEP}
        dumps = orjson.dumps
        arrays["errors"] = pa.array([dumps(e) if e else None for e in errors], pa.string())
        arrays["lineage"] = pa.array(self._lineage(records, notes), pa.string())
        return Batch(arrays, linked, failures)

    def _lineage(self, records: Sequence[Record], notes: _Notes) -> list[bytes]:
        dumps, head = orjson.dumps, b'{"seed":%d,"cells":' % self.seed
        texts = [head + dumps(record.get("lineage") or {}) + b"}" for record in records]
        for n, record in enumerate(records):
            more = {"found": record.get("found"), "left_out": notes.left.get(n)}
            if more["found"] or more["left_out"]:
                extra = dumps({key: value for key, value in more.items() if value})
                texts[n] = texts[n][:-1] + b"," + extra[1:]
        return texts


def schema_of(kinds: Sequence[tuple[str, Kind]]) -> "pa.Schema":
    """The Arrow schema of a table."""
    import pyarrow as pa

    return pa.schema([kind.column(name) for name, kind in kinds])


def _main_kind(column: ColumnInfo, first: Sequence[Record]) -> Kind:
    if column.table is not None:
        return IDS
    if column.schema:
        return kind_of(column.schema)
    return kind_of_values([record["values"].get(column.name) for record in first])


def _item_kind(column: ColumnInfo) -> Kind:
    kind = kind_of(column.schema)
    return kind.item if isinstance(kind, Many) else kind
