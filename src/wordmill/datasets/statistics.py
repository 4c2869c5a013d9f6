"""What the columns of a table look like, gathered as batches go by.

Structs and lists are followed down to their scalar parts; each part is a `Leaf`. Everything here
is bounded (see `sketches`), whatever the number of rows; `report` draws it.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Final

from wordmill.datasets.info import ColumnInfo
from wordmill.datasets.kinds import JsonText, Kind, Many, Scalar, Struct
from wordmill.datasets.sketches import Frequent, Repeats, Sample, Tally
from wordmill.types import Value

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LEAVES: Final = 80
"""Parts of a table that are looked at; more are counted in `TableStatistics.passed_over`."""

NUMBERS: Final = 4096
"""Numbers and lengths of a leaf that are kept for its histogram."""

OPENING_WORDS: Final = 4

LONGEST_LABEL: Final = 200
"""Characters; a longer text is no label, and its column is not counted value by value."""

MOST_PAIRS: Final = 15
WIDEST: Final = 24
"""Values of a category that still make a readable heat map."""

NOT_PROSE: Final = frozenset({"category", "datetime", "number", "person", "uuid"})
"""Column types whose texts nobody reads for their openings."""


class Leaf:
    """One scalar part of a column.

    path: `ticket`, `urgency.level`, `tags[]`.  kind: Scalar, or JsonText.
    values, nulls: how many there were.  A sampled column has `values` of `kind` to cover.
    """

    def __init__(self, path: str, kind: Scalar | JsonText, prose: bool, seed: int) -> None:
        self.path, self.kind = path, kind
        self.name = kind.name if isinstance(kind, Scalar) else "json"
        self.allowed = kind.values if isinstance(kind, Scalar) else ()
        bounds = (kind.low, kind.high) if isinstance(kind, Scalar) else ()
        self.bounds = [bound for bound in bounds if bound is not None]
        self.values = self.nulls = 0
        self.low: float | None = None
        self.high: float | None = None
        self.total = 0.0
        self.prose = prose and self.name == "string" and not self.allowed
        # crc32 and not hash(): the same for every process
        salt = seed ^ zlib.crc32(path.encode())
        self.tally: Tally[Value] = Tally(max(5000, len(self.allowed)))
        self.numbers: Sample[float] = Sample(NUMBERS, salt)
        self.openings = Frequent()
        self.repeats = Repeats()

    @property
    def mean(self) -> float:
        """Of the numbers, or of the lengths in characters; 0 without any."""
        return self.total / self.values if self.values else 0.0

    def take(self, array: "pa.Array") -> None:
        """Look at the next values."""
        import pyarrow.compute as pc

        self.nulls += array.null_count
        present = array.drop_null() if array.null_count else array
        self.values += len(present)
        if not len(present):
            return
        if self.name in ("integer", "number"):
            self._measure(present)
        elif self.name in ("string", "json") and not self.allowed:
            self._measure(pc.utf8_length(present))
            if self.high is not None and self.high > LONGEST_LABEL:
                self.tally.give_up()
        if self.prose:
            texts: list[str] = present.to_pylist()
            self.repeats.extend(texts)
            self.openings.extend([opening(text) for text in texts])
        if self.tally.full and self.name != "number":
            counted = pc.value_counts(present)
            self.tally.extend(
                dict(
                    zip(
                        counted.field("values").to_pylist(),
                        counted.field("counts").to_pylist(),
                        strict=True,
                    )
                )
            )

    def _measure(self, numbers: "pa.Array") -> None:
        import pyarrow.compute as pc

        ends = pc.min_max(numbers).as_py()
        self.low = ends["min"] if self.low is None else min(self.low, ends["min"])
        self.high = ends["max"] if self.high is None else max(self.high, ends["max"])
        # Not safe: above 2^53 a double is next to an integer, which is near enough for a mean.
        self.total += float(pc.sum(pc.cast(numbers, "double", safe=False)).as_py())
        self.numbers.extend(numbers.to_pylist())


def opening(text: str) -> str:
    """The first words of a text, by which readers notice that texts are alike."""
    # the slice keeps one long text from being split whole
    return " ".join(text[:200].split(None, OPENING_WORDS)[:OPENING_WORDS])


class _Tree:
    """Leaves of a column in the shape of its kind, so that arrays can be handed down."""

    def __init__(self, path: str, kind: Kind, prose: bool, seed: int) -> None:
        self.leaf: Leaf | None = None
        self.parts: list[_Tree] = []
        self.kind = kind
        if isinstance(kind, Struct):
            self.parts = [_Tree(f"{path}.{name}", part, prose, seed) for name, part in kind.fields]
        elif isinstance(kind, Many):
            self.leaf = Leaf(f"{path} (items)", Scalar("integer"), False, seed)
            self.parts = [_Tree(f"{path}[]", kind.item, prose, seed)]
        elif isinstance(kind, Scalar | JsonText):
            self.leaf = Leaf(path, kind, prose, seed)

    def leaves(self) -> Iterator[Leaf]:
        if self.leaf:
            yield self.leaf
        for part in self.parts:
            yield from part.leaves()

    def take(self, array: "pa.Array") -> None:
        import pyarrow.compute as pc

        if isinstance(self.kind, Struct):
            for part, child in zip(self.parts, array.flatten(), strict=True):
                part.take(child)
        elif isinstance(self.kind, Many):
            if self.leaf:
                self.leaf.take(pc.cast(pc.list_value_length(array), "int64"))
            self.parts[0].take(array.flatten())
        elif self.leaf:
            self.leaf.take(array)


@dataclass
class Pair:
    """How often the values of two sampled columns met."""

    first: str
    second: str
    counts: Counter[tuple[Value, Value]] = field(default_factory=Counter)


class TableStatistics:
    """The columns of one table, and which pairs of sampled values met.

    A category whose values are objects with a `value` is looked at by that alone.
    """

    def __init__(self, columns: Sequence[tuple[ColumnInfo, Kind]], seed: int) -> None:
        self.columns = [column for column, _ in columns]
        self.passed_over = 0
        self._trees: dict[str, _Tree] = {}
        self._by_value: set[str] = set()
        sampled = []
        room = MOST_LEAVES
        for column, whole in columns:
            kind = _named_value(column, whole) or whole
            if kind is not whole:
                self._by_value.add(column.name)
            tree = _Tree(column.name, kind, column.type not in NOT_PROSE, seed)
            leaves = len(list(tree.leaves()))
            if leaves > room:
                self.passed_over += leaves
                continue
            room -= leaves
            self._trees[column.name] = tree
            if column.type == "category" and isinstance(kind, Scalar):
                sampled += [column.name] if len(kind.values) <= WIDEST else []
        self.pairs = [Pair(*names) for names in list(combinations(sampled, 2))[:MOST_PAIRS]]

    def leaves(self, column: str) -> list[Leaf]:
        """The leaves of a column, in order; empty where it was passed over."""
        return list(self._trees[column].leaves()) if column in self._trees else []

    def take(self, arrays: Mapping[str, "pa.Array"]) -> None:
        """Look at the next batch, column by column."""
        import pyarrow.compute as pc

        labels: dict[str, list[Value]] = {}
        paired = {name for pair in self.pairs for name in (pair.first, pair.second)}
        for name, tree in self._trees.items():
            array = arrays[name]
            if name in self._by_value:
                array = pc.struct_field(array, "value")
            tree.take(array)
            if name in paired:
                labels[name] = array.to_pylist()
        for pair in self.pairs:
            if len(pair.counts) <= WIDEST * WIDEST:
                met = zip(labels[pair.first], labels[pair.second], strict=True)
                pair.counts.update([(a, b) for a, b in met if a is not None and b is not None])


def _named_value(column: ColumnInfo, kind: Kind) -> Scalar | None:
    """The kind of the field `value` of a category's objects, if that is what they are."""
    if column.type != "category" or not isinstance(kind, Struct):
        return None
    value = dict(kind.fields).get("value")
    return value if isinstance(value, Scalar) else None
