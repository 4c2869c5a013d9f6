"""JSON schemas as column types, and values packed into them."""

import random
from typing import Any

import pyarrow as pa
import pytest

from wordmill.datasets.kinds import (
    JsonText,
    Kind,
    Many,
    Scalar,
    Struct,
    decoder,
    kind_of,
    kind_of_values,
    pack,
    schema_of_values,
)

TEXT, WHOLE, NUMBER, FLAG, JSON = (
    Scalar("string"),
    Scalar("integer"),
    Scalar("number"),
    Scalar("boolean"),
    JsonText(),
)
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, TEXT),
        ({"type": "integer"}, WHOLE),
        ({"type": ["integer", "null"]}, WHOLE),
        ({"type": ["integer", "number"]}, NUMBER),
        ({"type": ["string", "integer"]}, JSON),
        ({"type": "null"}, JSON),
        ({}, JSON),
        (True, JSON),
        ({"enum": ["a", "b", None]}, TEXT),
        ({"enum": [1, 2.5]}, NUMBER),
        ({"enum": [True, 1]}, JSON),
        ({"const": 4}, WHOLE),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, FLAG),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, NUMBER),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, JSON),
        ({"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"type": "string"}}}, TEXT),
        ({"type": "array", "items": {"type": "string"}}, Many(TEXT)),
        ({"type": "array"}, JSON),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": {}}, JSON),
        ({"type": "object"}, JSON),
        ({"type": "object", "properties": {}}, JSON),
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}},
            Struct((("a", TEXT), ("b", JSON))),
        ),
        (
            {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}},
            JSON,
        ),
        ({"$ref": "#/nowhere"}, JSON),
        ({"$ref": "https://example.org/schema"}, JSON),
        (TREE, Struct((("name", TEXT), ("children", Many(JSON))))),
    ],
)
def test_a_schema_becomes_a_kind(schema: Any, kind: Kind) -> None:
    assert kind_of(schema) == kind


def test_a_scalar_knows_its_values_and_its_range() -> None:
    level = kind_of({"type": "integer", "minimum": 1, "maximum": 5})
    assert isinstance(level, Scalar)
    assert (level.low, level.high) == (1.0, 5.0)
    mood = kind_of({"enum": ["calm", "angry", None]})
    assert isinstance(mood, Scalar)
    assert mood.values == ("calm", "angry")


def test_very_deep_schemas_end_as_json_text() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    kind, depth = kind_of(schema), 0
    while isinstance(kind, Many):
        kind, depth = kind.item, depth + 1
    assert kind == JSON
    assert depth == 33


LEVEL = kind_of(
    {
        "type": "object",
        "properties": {
            "level": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    }
)


def test_values_are_packed_as_they_are() -> None:
    values = [{"level": 3, "tags": ["a", "b"]}, None, {"level": None, "tags": []}, {"tags": None}]
    packed = pack(LEVEL, values)
    assert not packed.misfits
    assert packed.array.type.equals(LEVEL.arrow())
    assert packed.array.to_pylist() == [
        {"level": 3, "tags": ["a", "b"]},
        None,
        {"level": None, "tags": []},
        {"level": None, "tags": None},
    ]


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (LEVEL, {"level": "high"}, 'type: /level is "high", not an integer'),
        (LEVEL, {"level": True}, "type: /level is true, not an integer"),
        (LEVEL, {"level": 2.5}, "type: /level is 2.5, not an integer"),
        (LEVEL, {"level": 2**63}, "type: /level is 9223372036854775808, not an integer of 64 bits"),
        (LEVEL, {"level": 1e300}, "type: /level is 1e+300, not an integer of 64 bits"),
        (LEVEL, {"tags": ["a", 1]}, "type: /tags/1 is 1, not a string"),
        (LEVEL, {"tags": "a"}, 'type: /tags is "a", not an array'),
        (LEVEL, [1], "type: the value is [1], not an object"),
        (TEXT, 5, "type: the value is 5, not a string"),
        (NUMBER, "1", 'type: the value is "1", not a number'),
        (FLAG, 1, "type: the value is 1, not true or false"),
        (TEXT, ["x" * 90], 'type: the value is ["' + "x" * 55 + "..., not a string"),
    ],
)
def test_a_misfit_is_null_told_and_kept_aside(kind: Kind, value: Any, words: str) -> None:
    packed = pack(kind, [None, value])
    assert packed.array.to_pylist() == [None, None]
    assert packed.misfits == {1: words}
    assert packed.left == {1: {"": value}}


def test_a_misfit_harms_no_other_value() -> None:
    packed = pack(WHOLE, [1, "two", 3.0, None, 4])
    assert packed.array.to_pylist() == [1, None, 3, None, 4]
    assert packed.misfits == {1: 'type: the value is "two", not an integer'}


def test_big_integers_are_numbers_where_a_number_is_wanted() -> None:
    packed = pack(NUMBER, [2**60 + 1, 0.5])
    assert not packed.misfits
    assert packed.array.to_pylist() == [float(2**60), 0.5]


def test_properties_that_no_schema_names_are_left_out_and_told() -> None:
    packed = pack(LEVEL, [{"level": 1, "why": "it is on fire"}, {"level": 2}])
    assert not packed.misfits
    assert packed.left == {0: {"/why": "it is on fire"}}
    assert packed.array.to_pylist() == [{"level": 1, "tags": None}, {"level": 2, "tags": None}]


def test_json_text_is_marked_and_read_back() -> None:
    kind = Struct((("any", JSON), ("list", Many(JSON)), ("plain", TEXT)))
    values = [{"any": {"a": [1, None]}, "list": [1, "x", None], "plain": "{}"}, None]
    field = kind.column("c")
    array = pack(kind, values).array
    assert array.to_pylist()[0] == {
        "any": '{"a":[1,null]}',
        "list": ["1", '"x"', None],
        "plain": "{}",
    }
    decode = decoder(field)
    assert decode is not None
    assert [decode(value) for value in array.to_pylist()] == values
    assert decoder(LEVEL.column("c")) is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], TEXT),
        ([1, 2], WHOLE),
        ([1, 2.5], NUMBER),
        ([True], FLAG),
        ([1, "a"], JSON),
        ([True, 1], JSON),
        ([None], JSON),
        ([], JSON),
        ([["a"], []], Many(TEXT)),
        ([["a"], [1]], JSON),
        ([{"a": 1, "b": "x"}, {"b": "y", "a": 2}], Struct((("a", WHOLE), ("b", TEXT)))),
        ([{"a": 1}, {"b": 1}], JSON),
        ([{}], JSON),
    ],
)
def test_where_no_schema_is_the_values_decide(values: list[Any], kind: Kind) -> None:
    assert kind_of_values(values) == kind


def test_a_list_of_values_as_a_schema() -> None:
    assert schema_of_values(["a", "b", "a"]) == {"enum": ["a", "b"]}
    assert schema_of_values([{"value": "Serious", "rank": 6}, {"value": "Minor", "rank": 1}]) == {
        "type": "object",
        "properties": {"value": {"enum": ["Serious", "Minor"]}, "rank": {"enum": [6, 1]}},
    }
    assert schema_of_values([["a"], "b"]) == {}


def anything(rng: random.Random, depth: int) -> Any:
    """Any JSON value."""
    choices: list[Any] = [None, True, rng.randrange(-9, 9), rng.random(), "", "é\0\u2028👩‍🚀"]
    if depth:
        choices += [
            [anything(rng, depth - 1) for _ in range(rng.randrange(3))],
            {rng.choice("abc"): anything(rng, depth - 1) for _ in range(rng.randrange(3))},
        ]
    return rng.choice(choices)


KINDS: list[Kind] = [TEXT, WHOLE, NUMBER, FLAG, JSON, LEVEL, Many(TEXT), Many(LEVEL), Many(JSON)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.arrow()))
def test_no_json_value_breaks_any_kind(kind: Kind) -> None:
    rng = random.Random(11)
    for _ in range(200):
        values = [anything(rng, 3) for _ in range(rng.randrange(1, 6))]
        packed = pack(kind, values)
        packed.array.validate(full=True)
        assert packed.array.type.equals(kind.arrow())
        assert len(packed.array) == len(values)
        for n, value in enumerate(packed.array.to_pylist()):
            assert (value is None) == (values[n] is None or n in packed.misfits)


def test_the_arrow_types() -> None:
    assert LEVEL.arrow() == pa.struct(
        [pa.field("level", pa.int64()), pa.field("tags", pa.list_(pa.field("item", pa.string())))]
    )
