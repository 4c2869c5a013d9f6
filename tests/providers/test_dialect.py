import json

import pytest

from wordmill.providers.dialect import Dialect, closed
from wordmill.types import Value

OBJECT = '{"properties":{"a":{"type":"string"}},"required":["a"],"type":"object"}'
OPEN = '{"properties":{"a":{"type":"string"}},"type":"object"}'
WORD = '{"enum":["yes","no"]}'


def test_a_closed_schema_closes_every_object() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}
    schema = {
        "type": "object",
        "properties": {"list": {"type": "array", "items": inner}, "one": {"anyOf": [inner]}},
        "required": ["one", "list"],
        "$defs": {"inner": inner},
    }
    shut = {**inner, "additionalProperties": False}
    assert closed(schema) == {
        "type": "object",
        "properties": {"list": {"type": "array", "items": shut}, "one": {"anyOf": [shut]}},
        "required": ["one", "list"],
        "$defs": {"inner": shut},
        "additionalProperties": False,
    }
    assert "additionalProperties" not in schema


@pytest.mark.parametrize(
    "schema",
    [
        json.loads(OPEN),
        {"type": "object"},
        {"type": "object", "properties": {}},
        {**json.loads(OBJECT), "additionalProperties": True},
        {**json.loads(OBJECT), "additionalProperties": {"type": "string"}},
        {"type": "array", "items": {"type": "object"}},
        {"anyOf": [json.loads(OPEN)]},
    ],
)
def test_a_schema_that_closing_would_change(schema: Value) -> None:
    assert closed(schema) is None


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "string", "default": None},
        {"enum": [None, {"type": "object"}]},
        {"const": {}},
    ],
)
def test_a_schema_without_objects_stays(schema: Value) -> None:
    assert closed(schema) == schema


def test_a_schema_is_asked_for_in_the_strongest_form_it_can_have() -> None:
    strict = Dialect(form="strict")
    assert [strict.form_of(schema) for schema in (OBJECT, OPEN, WORD)] == [
        "strict",
        "json_schema",
        "strict",
    ]
    plain = Dialect(form="json_object")
    assert [plain.form_of(schema) for schema in (OBJECT, WORD, "true")] == [
        "json_object",
        "prompt",
        "prompt",
    ]
    assert Dialect(form="json_object", json_object=False).form_of(OBJECT) == "prompt"


def test_one_schema_may_be_weaker_than_the_rest() -> None:
    dialect = Dialect(form="strict")
    forms = []
    weaker: Dialect | None = dialect
    while weaker is not None:
        forms.append((weaker.form_of(OBJECT), weaker.form_of(OPEN)))
        weaker = weaker.weaken(OBJECT)
    assert forms == [
        ("strict", "json_schema"),
        ("json_schema", "json_schema"),
        ("json_object", "json_schema"),
        ("prompt", "json_schema"),
    ]


def test_what_a_person_knows_the_server_lacks() -> None:
    dialect = Dialect(form="strict").lacking(
        ("json_schema", "json_object", "seed", "system", "parts", "max_tokens", "top_p")
    )
    assert dialect == Dialect(
        form="json_object",
        json_object=False,
        bound="max_completion_tokens",
        seed=False,
        system=False,
        parts=False,
        without=frozenset({"seed", "max_tokens", "top_p"}),
    )
    assert Dialect(form="prompt").lacking(("json_schema",)).form == "prompt"
    assert Dialect().lacking(()) == Dialect()
