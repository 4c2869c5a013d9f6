"""JSON schemas as column types, and values packed into them a batch at a time.

A `Kind` is fixed before the first row is written, so every file of a table has the same schema.
Objects with named properties become structs, arrays become lists; where a schema allows several
types or any further property, the value is kept as JSON text (marked so in the field's metadata,
so that `reading` gives the value back). Where it says nothing, the first values decide.

Packing is columnar: a whole batch is transposed once and Arrow does the work. Only a batch that
holds a misfit is gone through value by value, to say which one and why.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Final

import orjson

from wordmill.types import Value

if TYPE_CHECKING:
    import pyarrow as pa

DEEPEST: Final = 32
"""Nesting below this is kept as JSON text."""

JSON_TEXT: Final = {b"wordmill": b"json"}
"""Metadata of an Arrow field whose text is JSON."""


class Misfit(ValueError):
    """A value is not of its column's type; the message says where and how."""

    def __init__(self, path: str, value: Value, wanted: str) -> None:
        super().__init__(path, value, wanted)
        self.path, self.value, self.wanted = path, value, wanted

    def __str__(self) -> str:
        shown = orjson.dumps(self.value).decode()
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return f"{self.path or 'the value'} is {shown}, not {self.wanted}"


class Kind(ABC):
    """The type of a column or of a part of one."""

    @abstractmethod
    def arrow(self) -> "pa.DataType":
        """The Arrow type."""

    @abstractmethod
    def pack(self, values: list[Value]) -> "pa.Array":
        """An Arrow array of all values; None is null. Raises Misfit if any does not fit."""

    @abstractmethod
    def fit(self, value: Value, path: str, left: dict[str, Value]) -> Value:
        """The value as `pack` takes it; properties that no schema names go to `left`, by path.

        Raises Misfit.
        """

    def column(self, name: str) -> "pa.Field":
        """The Arrow field of that name and this type."""
        import pyarrow as pa

        return pa.field(name, self.arrow())


@dataclass(frozen=True, slots=True)
class Scalar(Kind):
    """A string, an integer of 64 bits, a number (double) or a boolean.

    values: all that the schema allows, where it lists them.  low, high: its range, where it has
    one. They change no type: they are for pictures.
    """

    name: str
    values: tuple[Value, ...] = field(default=(), compare=False)
    low: float | None = field(default=None, compare=False)
    high: float | None = field(default=None, compare=False)

    def arrow(self) -> "pa.DataType":
        """The Arrow type."""
        import pyarrow as pa

        types = {
            "string": pa.string(),
            "integer": pa.int64(),
            "number": pa.float64(),
            "boolean": pa.bool_(),
        }
        return types[self.name]

    def pack(self, values: list[Value]) -> "pa.Array":
        """All values at once, if their Python types are the very ones."""
        import pyarrow as pa

        if not _EXACT[self.name].issuperset(map(type, values)):
            raise Misfit("", None, self.name)
        try:
            return pa.array(values, self.arrow())
        except (OverflowError, pa.ArrowInvalid) as error:
            raise Misfit("", None, self.name) from error

    def fit(self, value: Value, path: str, left: dict[str, Value]) -> Value:
        """3.0 is an integer to JSON, and any integer is a number."""
        if value is None:
            return None
        found = type(value)
        if self.name == "integer" and (found is int or (found is float and value.is_integer())):
            if not -(2**63) <= value < 2**63:
                raise Misfit(path, value, "an integer of 64 bits")
            return int(value)
        if self.name == "number" and found is int:
            return float(value)
        if found not in _EXACT[self.name]:
            raise Misfit(path, value, _ARTICLE[self.name])
        return value


_EXACT: Final[Mapping[str, frozenset[type]]] = {
    "string": frozenset({str, type(None)}),
    "integer": frozenset({int, type(None)}),
    "number": frozenset({float, int, type(None)}),
    "boolean": frozenset({bool, type(None)}),
}
_ARTICLE: Final = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
}


@dataclass(frozen=True, slots=True)
class JsonText(Kind):
    """Any value, as its JSON text; null stays null."""

    def arrow(self) -> "pa.DataType":
        """The Arrow type."""
        import pyarrow as pa

        return pa.string()

    def column(self, name: str) -> "pa.Field":
        """The Arrow field, marked as JSON."""
        import pyarrow as pa

        return pa.field(name, pa.string(), metadata=JSON_TEXT)

    def pack(self, values: list[Value]) -> "pa.Array":
        """Everything fits."""
        import pyarrow as pa

        dumps = orjson.dumps
        return pa.array([None if v is None else dumps(v) for v in values], pa.string())

    def fit(self, value: Value, path: str, left: dict[str, Value]) -> Value:
        """Everything fits."""
        return value


@dataclass(frozen=True, slots=True)
class Struct(Kind):
    """An object with named properties, each of its own kind; an absent one is null."""

    fields: tuple[tuple[str, Kind], ...]

    def arrow(self) -> "pa.DataType":
        """The Arrow type."""
        import pyarrow as pa

        return pa.struct([kind.column(name) for name, kind in self.fields])

    def pack(self, values: list[Value]) -> "pa.Array":
        """Transpose, and pack each property."""
        import pyarrow as pa

        if not {dict, type(None)}.issuperset(map(type, values)):
            raise Misfit("", None, "an object")
        present = list(filter(None, values))
        if set().union(*present) - {name for name, _ in self.fields}:
            raise Misfit("", None, "an object of the named properties")
        absent = None in values
        rows = [{} if v is None else v for v in values] if absent else values
        return pa.StructArray.from_arrays(
            [kind.pack([row.get(name) for row in rows]) for name, kind in self.fields],
            fields=[kind.column(name) for name, kind in self.fields],
            mask=pa.array([v is None for v in values], pa.bool_()) if absent else None,
        )

    def fit(self, value: Value, path: str, left: dict[str, Value]) -> Value:
        """Properties that no schema names are left out, and told."""
        if value is None:
            return None
        if type(value) is not dict:
            raise Misfit(path, value, "an object")
        names = {name for name, _ in self.fields}
        left.update({f"{path}/{key}": found for key, found in value.items() if key not in names})
        return {
            name: kind.fit(value.get(name), f"{path}/{name}", left) for name, kind in self.fields
        }


@dataclass(frozen=True, slots=True)
class Many(Kind):
    """An array whose items are all of one kind."""

    item: Kind

    def arrow(self) -> "pa.DataType":
        """The Arrow type."""
        import pyarrow as pa

        return pa.list_(self.item.column("item"))

    def pack(self, values: list[Value]) -> "pa.Array":
        """Chain all items, pack them once, and cut by length."""
        import pyarrow as pa

        if not {list, type(None)}.issuperset(map(type, values)):
            raise Misfit("", None, "an array")
        rows = [v or () for v in values]
        items = self.item.pack(list(chain.from_iterable(rows)))
        offsets = pa.array(accumulate(map(len, rows), initial=0), pa.int32())
        mask = pa.array([v is None for v in values], pa.bool_()) if None in values else None
        return pa.ListArray.from_arrays(offsets, items, type=self.arrow(), mask=mask)

    def fit(self, value: Value, path: str, left: dict[str, Value]) -> Value:
        """Each item must fit."""
        if value is None:
            return None
        if type(value) is not list:
            raise Misfit(path, value, "an array")
        return [self.item.fit(item, f"{path}/{n}", left) for n, item in enumerate(value)]


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch of a column: the array, and what did not go in, by position in the batch.

    misfits: why the value is null instead, in words.
    left: what was left out, by path: properties that no schema names, or the whole value that
    did not fit, under the path of the values.
    """

    array: "pa.Array"
    misfits: Mapping[int, str]
    left: Mapping[int, Mapping[str, Value]]


def pack(kind: Kind, values: list[Value], path: str = "") -> Packed:
    """Pack a batch; what does not fit is null and told, never an exception.

    path: of the values within something larger, as `/text`.
    """
    try:
        return Packed(kind.pack(values), {}, {})
    except Misfit:
        pass
    fitting: list[Value] = []
    misfits: dict[int, str] = {}
    left: dict[int, Mapping[str, Value]] = {}
    for n, value in enumerate(values):
        extra: dict[str, Value] = {}
        try:
            fitting.append(kind.fit(value, path, extra))
        except Misfit as misfit:
            fitting.append(None)
            misfits[n], left[n] = f"type: {misfit}", {path: value}
        else:
            if extra:
                left[n] = extra
    return Packed(kind.pack(fitting), misfits, left)


def scalars(path: str, kind: Kind) -> Iterator[tuple[str, Scalar]]:
    """The scalar parts of a kind outside lists, with their Parquet paths: `severity.value`."""
    if isinstance(kind, Scalar):
        yield path, kind
    elif isinstance(kind, Struct):
        for name, part in kind.fields:
            yield from scalars(f"{path}.{name}", part)


def kind_of(schema: Any) -> Kind:
    """The kind of the values that a JSON schema allows; JsonText where it is not one kind.

    Local references (`#/$defs/...`) are followed, recursive ones kept as JSON text.
    """
    return _kind(schema, schema, ())


def _kind(schema: Any, root: Any, way: tuple[str, ...]) -> Kind:
    """way: what was gone through to come here; a reference met again is a recursion."""
    if not isinstance(schema, Mapping) or len(way) > DEEPEST:
        return JsonText()
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if reference in way:
            return JsonText()
        return _kind(_follow(reference, root), root, (*way, reference))
    if "const" in schema:
        return _of_values([schema["const"]])
    if isinstance(schema.get("enum"), Sequence):
        return _of_values(schema["enum"])
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), Sequence):
            branches = [branch for branch in schema[word] if branch != {"type": "null"}]
            return _same([_kind(branch, root, (*way, word)) for branch in branches])
    if isinstance(schema.get("allOf"), Sequence) and "type" not in schema:
        parts = schema["allOf"]
        return _kind(parts[0], root, (*way, "allOf")) if len(parts) == 1 else JsonText()
    types = schema.get("type")
    names = {types} if isinstance(types, str) else set(types or ())
    names.discard("null")
    if names == {"integer", "number"}:
        return Scalar("number")
    if len(names) != 1:
        return JsonText()
    (name,) = names
    if name in _EXACT:
        return Scalar(name, low=_bound(schema, "minimum"), high=_bound(schema, "maximum"))
    if name == "object":
        return _object(schema, root, way)
    items = schema.get("items")
    if name == "array" and isinstance(items, Mapping) and items and "prefixItems" not in schema:
        return Many(_kind(items, root, (*way, "items")))
    return JsonText()


def _object(schema: Mapping[str, Any], root: Any, way: tuple[str, ...]) -> Kind:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return JsonText()  # Parquet has no struct without fields
    if schema.get("additionalProperties") or schema.get("patternProperties"):
        return JsonText()
    return Struct(
        tuple((name, _kind(part, root, (*way, "properties"))) for name, part in properties.items())
    )


def _bound(schema: Mapping[str, Any], word: str) -> float | None:
    bound = schema.get(word)
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        return None
    return float(bound)


def _of_values(values: Sequence[Value]) -> Kind:
    present = tuple(value for value in values if value is not None)
    found = {_JSON_NAME.get(type(value), "") for value in present}
    if found == {"integer", "number"}:
        return Scalar("number", present)
    if len(found) == 1 and (name := found.pop()):
        return Scalar(name, present)
    return JsonText()


_JSON_NAME: Final[Mapping[type, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
}


def _same(kinds: list[Kind]) -> Kind:
    if len(kinds) == 1:
        return kinds[0]
    distinct = set(kinds)
    if distinct == {Scalar("integer"), Scalar("number")}:
        return Scalar("number")
    if len(distinct) != 1:
        return JsonText()
    (kind,) = distinct
    return Scalar(kind.name) if isinstance(kind, Scalar) else kind


def _follow(reference: str, root: Any) -> Any:
    found = root
    if not reference.startswith("#"):
        return None
    for step in reference.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def kind_of_values(values: Sequence[Value], depth: int = 0) -> Kind:
    """The kind that all of the values have; JsonText where they differ, or there are none.

    Objects are a struct only if all have the same keys.
    """
    present = [value for value in values if value is not None]
    types = set(map(type, present))
    if types == {dict} and depth < DEEPEST:
        names = list(present[0])
        if names and all(value.keys() == present[0].keys() for value in present):
            fields = [[value[name] for value in present] for name in names]
            kinds = [kind_of_values(field, depth + 1) for field in fields]
            return Struct(tuple(zip(names, kinds, strict=True)))
    if types == {list} and depth < DEEPEST:
        item = kind_of_values(list(chain.from_iterable(present)), depth + 1)
        return JsonText() if isinstance(item, JsonText) else Many(item)
    kind = _of_values(present)
    return Scalar(kind.name) if isinstance(kind, Scalar) else kind


def schema_of_values(values: Sequence[Value]) -> dict[str, Value]:
    """A JSON schema that lists the values: an enum, or for objects an enum for each property."""
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, dict) for value in present):
        names = dict.fromkeys(name for value in present for name in value)
        return {
            "type": "object",
            "properties": {
                name: schema_of_values([value.get(name) for value in present]) for name in names
            },
        }
    if any(isinstance(value, dict | list) for value in present):
        return {}
    return {"enum": list(dict.fromkeys(present))}


Decoder = Callable[[Value], Value]


def decoder(field: "pa.Field") -> Decoder | None:
    """What turns a value read from an Arrow field back into the value that was packed.

    None where nothing is to do: no part of the field is JSON text.
    """
    import pyarrow as pa

    if field.metadata and field.metadata.get(b"wordmill") == b"json":
        return _load
    if pa.types.is_list(field.type):
        item = decoder(field.type.value_field)
        return None if item is None else lambda v: None if v is None else [item(x) for x in v]
    if pa.types.is_struct(field.type):
        parts = {part.name: d for part in field.type if (d := decoder(part)) is not None}
        if parts:
            return lambda v: None if v is None else _decode_struct(v, parts)
    return None


def _load(text: str | None) -> Value:
    return None if text is None else orjson.loads(text)


def _decode_struct(value: dict[str, Value], parts: Mapping[str, Decoder]) -> dict[str, Value]:
    return {key: parts[key](item) if key in parts else item for key, item in value.items()}
