"""JSON by a schema; what comes back is validated by jsonschema-rs."""

import json
import random
import re
from collections import Counter
from contextlib import closing
from datetime import date, datetime
from http.client import HTTPConnection
from uuid import UUID

import pytest

from tests.rehearsal.asked import TICKET, Json, answered, ask, by_schema, chat, say, text_of, valid
from wordmill._engine import Rehearsal

SCHEMAS: list[Json] = [
    TICKET,
    {"type": "string", "minLength": 3, "maxLength": 8},
    {"type": "string", "minLength": 300, "maxLength": 310},
    {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
    {"type": "integer", "minimum": -10, "maximum": 1000, "multipleOf": 7},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "minimum": 0.001, "maximum": 0.002},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5, "multipleOf": 0.1},
    {"type": "number", "minimum": 1.5, "exclusiveMinimum": 2, "maximum": 4, "exclusiveMaximum": 3},
    {"type": ["string", "null"], "maxLength": 20},
    {"type": ["integer", "null", "array"], "minimum": 5},
    {"enum": ["a", 1, None, {"b": [2]}]},
    {"enum": ["a", 1, 2], "type": "integer"},
    {"const": {"x": "\u00e9\n"}},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": False},
    {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"},
     "minItems": 4},
    {"type": "array", "maxItems": 0},
    {"type": "object"},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 5},
    {"type": "object", "patternProperties": {"^x-[a-z]{8}$": {"type": "number"}},
     "minProperties": 2, "additionalProperties": False},
    {"type": "object", "properties": {"a": True, "b": True, "c": True}, "maxProperties": 1,
     "additionalProperties": False},
    {"type": "object", "required": ["b", "new"], "properties": {"a": False, "b": {"const": 1}},
     "additionalProperties": {"type": "boolean"}},
    {"properties": {"deep": {"properties": {"deeper": {"properties": {"deepest": {"type": "array",
     "items": {"type": "object", "required": ["x"], "properties": {"x": {"enum": [1]}}}}}}}}}},
    {"anyOf": [{"type": "integer"}, {"type": "object", "required": ["a"]}]},
    {"oneOf": [{"type": "string", "maxLength": 30}, {"type": "boolean"}]},
    {"type": "object", "required": ["kind"], "oneOf": [
        {"properties": {"kind": {"const": "cat"}, "lives": {"type": "integer", "maximum": 9}},
         "required": ["lives"], "additionalProperties": False},
        {"properties": {"kind": {"const": "dog"}, "tricks": {"type": "array"}},
         "required": ["tricks"], "additionalProperties": False}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}, {"$ref": "#/$defs/even"}],
     "$defs": {"even": {"multipleOf": 2}}},
    {"type": "object", "allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]},
     {"properties": {"b": {"type": "null"}, "a": {"maxLength": 4}}, "required": ["b"]}]},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "additionalProperties": False,
     "required": ["name", "children"], "properties": {"name": {"type": "string"}, "children": {
     "type": "array", "items": {"$ref": "#/$defs/tree"}}}}}},
    {"type": "object", "required": ["next"], "properties": {"next": {"anyOf": [{"$ref": "#"},
     {"type": "null"}]}}},
    {"definitions": {"a/b": {"type": "integer"}}, "type": "array", "minItems": 1,
     "items": {"$ref": "#/definitions/a~1b"}},
    {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {
     "a": {"type": "string", "format": "uuid"},
     "b": {"type": "array", "items": {"$ref": "#/$defs/a"}}}},
    True,
    {},
]  # fmt: skip
PATTERNS = [
    r"^[A-Z]{2}-[0-9]{6}$", r"^(red|green|blue)(-(light|dark))?$", r"^\d{4}-\d{2}$",
    r"^[^@\s]+@[a-z]+\.com$", r"^a*b+c?d{2,}e{3}f{1,4}$", r"\w+ \w+",
    r"^(?:[a-c]x|[d-f]y){2,3}$", r"^\+?[1-9]\d{1,14}$", r"^[\w.-]+$", r"^#[0-9a-fA-F]{6}$",
    r"^\$\d+\.\d{2}$", r"^(?<year>\d{4})\/W[0-5]\d$", r"^[ -~]{5,20}$", r"^$", r"^.{3,9}$",
    r"^[^a-zA-Z0-9]+$", r"^\S+\s\S+$", r"^[A-Z][a-z]*(?: [A-Z][a-z]*)*$", r"^\u0041\x42$",
    r"^x|y$", r"^[\]\[-]{3}$",
]  # fmt: skip
FORMATS = [
    "date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri",
    "uri-reference", "uuid", "json-pointer", "regex",
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_json_follows_its_schema(server: Rehearsal, schema: Json) -> None:
    found = [
        valid(schema, say(server, f"case {n}", response_format=by_schema(schema)))
        for n in range(40)
    ]
    small = isinstance(schema, dict) and ("const" in schema or schema.get("maxItems") == 0)
    single = schema in ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},)
    kinds = {json.dumps(value) for value in found}
    assert len(kinds) > 1 or small or single or "allOf" in schema


@pytest.mark.parametrize("pattern", PATTERNS)
def test_strings_match_their_pattern(server: Rehearsal, pattern: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    for n in range(40):
        valid(schema, say(server, f"case {n}", response_format=by_schema(schema)))


def test_a_pattern_and_a_length_hold_together(server: Rehearsal) -> None:
    schema = {"type": "string", "pattern": "^[a-z]+( [a-z]+)*$", "minLength": 12, "maxLength": 16}
    for n in range(100):
        valid(schema, say(server, f"case {n}", response_format=by_schema(schema)))


@pytest.mark.parametrize("name", FORMATS)
def test_strings_have_their_format(server: Rehearsal, name: str) -> None:
    schema = {"type": "string", "format": name}
    found = {
        valid(schema, say(server, f"case {n}", response_format=by_schema(schema)))
        for n in range(40)
    }
    assert len(found) > 10
    read = {"date": date.fromisoformat, "date-time": datetime.fromisoformat, "uuid": UUID}
    for text in found:
        read.get(name, str)(text)


def random_schema(draw: random.Random, depth: int = 0) -> Json:
    """Some schema that something follows."""
    kinds = ["string", "integer", "number", "boolean", "enum"]
    kind = draw.choice(
        kinds if depth > 3 else [*kinds, "object", "object", "array", "anyOf", "null?"]
    )
    low, span = draw.randint(-50, 50), draw.randint(0, 60)
    if kind == "string":
        least = draw.randint(0, 60)
        return draw.choice([
            {"type": "string"},
            {"type": "string", "minLength": least, "maxLength": least + span},
            {"type": "string", "pattern": draw.choice(PATTERNS)},
            {"type": "string", "format": draw.choice(FORMATS)},
        ])  # fmt: skip
    if kind == "integer":
        step = draw.randint(1, 9)
        return draw.choice([
            {"type": "integer"},
            {"type": "integer", "minimum": low, "maximum": low + span},
            {"type": "integer", "minimum": low, "maximum": low + span + 9, "multipleOf": step},
            {"type": "integer", "exclusiveMinimum": low},
        ])  # fmt: skip
    if kind == "number":
        return draw.choice([
            {"type": "number", "minimum": low / 10, "maximum": (low + span) / 10},
            {"type": "number", "exclusiveMaximum": low / 4},
            {"type": "number", "multipleOf": 0.25, "minimum": low},
        ])  # fmt: skip
    if kind == "enum":
        return {"enum": draw.sample([1, "a", None, True, 2.5, "b c", [1], {"d": "e"}], 3)}
    if kind == "object":
        names = draw.sample(["name", "email", "level", "why", "tags", "x1", "order_id", "city"], 4)
        return {
            "type": "object",
            "properties": {name: random_schema(draw, depth + 1) for name in names},
            "required": draw.sample(names, draw.randint(0, 4)),
            "additionalProperties": draw.choice([True, False, {"type": "integer"}]),
        }
    if kind == "array":
        least = draw.randint(0, 3)
        items = random_schema(draw, depth + 1)
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + span}
    if kind == "anyOf":
        return {"anyOf": [random_schema(draw, depth + 1) for _ in range(draw.randint(1, 3))]}
    return {"anyOf": [random_schema(draw, depth + 1), {"type": "null"}]}


def test_json_follows_any_schema(server: Rehearsal) -> None:
    draw = random.Random(20)
    with closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        for number in range(400):
            schema = random_schema(draw)
            body = chat(f"case {number}", response_format=by_schema(schema))
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            valid(schema, text_of(answered(connection.getresponse())))


def test_names_of_properties_tell_what_to_write(server: Rehearsal) -> None:
    names = ["customer_email", "firstName", "city", "reason", "order_id", "deadline"]
    schema = {
        "type": "object",
        "required": names,
        "properties": {n: {"type": "string"} for n in names},
    }
    value = valid(schema, say(server, "x", response_format=by_schema(schema)))
    assert re.fullmatch(r"[a-z.]+@example\.com", value["customer_email"])
    assert value["firstName"].isalpha()
    assert value["reason"].endswith(".")
    assert re.fullmatch(r"[a-z]+-\d{4}", value["order_id"])
    date.fromisoformat(value["deadline"])


def test_a_judge_scores_as_judges_do(server: Rehearsal) -> None:
    scale = {"type": "integer", "minimum": 0, "maximum": 4}
    schema = {"type": "object", "properties": {"realism": scale}, "required": ["realism"]}
    counts = Counter(
        json.loads(say(server, f"ticket {n}", response_format=by_schema(schema)))["realism"]
        for n in range(400)
    )
    assert set(counts) == {0, 1, 2, 3, 4}
    assert max(counts, key=lambda score: counts[score]) in {2, 3}
    assert counts[4] > counts[0]


CLOSED = json.dumps(
    {
        "type": "object",
        "properties": {"a": {"const": 1}},
        "required": ["a"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize(
    ("prompt", "keys"),
    [
        (f"Answer as JSON that follows this schema: {CLOSED}", {"a"}),
        ('JSON like {"level": 3, "mood": "calm|angry", "tags": ["x"]}', {"level", "mood", "tags"}),
        ("Answer with a JSON object with the keys name, age and town.", {"name", "age", "town"}),
        ("Answer.", {"summary", "points", "confidence"}),
    ],
)  # fmt: skip
def test_a_json_object_follows_the_prompt(server: Rehearsal, prompt: str, keys: set[str]) -> None:
    value = json.loads(say(server, prompt, response_format={"type": "json_object"}))
    assert set(value) == keys
    if "JSON" in prompt:  # the prompt alone is enough
        assert set(json.loads(say(server, prompt))) == keys
    if "mood" in value:
        assert value["mood"] in {"calm", "angry"}


def test_a_schema_that_nothing_follows_is_refused(server: Rehearsal) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 2}},
    }
    answer = ask(server, chat("x", response_format=by_schema(schema)))
    assert answer.status == 400
    assert answer.body["error"] == {
        "message": 'Invalid schema for response_format: no number can be valid at "n".',
        "type": "invalid_request_error",
        "param": "response_format",
        "code": None,
    }


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (
            {"type": "string", "format": "email", "maxLength": 8},
            "the rehearsal model writes no text of that format and length",
        ),
        (
            {"type": "number", "minimum": 1e30},
            "minimum is 1e+30, and the rehearsal model writes no number beyond 1e18",
        ),
        (
            {"type": "string", "pattern": "^(a{1000}){66}$"},
            (
                'the pattern "^(a{1000}){66}$" matches no text below 66000 characters, and the '
                "rehearsal model writes at most 65536"
            ),
        ),
    ],
)
def test_what_the_model_cannot_write_is_refused(
    server: Rehearsal, schema: Json, words: str
) -> None:
    answer = ask(server, chat("x", response_format=by_schema(schema)))
    assert answer.status == 400
    assert answer.body["error"]["message"] == f"Invalid schema for response_format: {words}."


def test_lengths_of_a_format_are_kept(server: Rehearsal) -> None:
    schema = {"type": "string", "format": "email", "maxLength": 22}
    for n in range(20):
        text = json.loads(say(server, f"Write {n}.", response_format=by_schema(schema)))
        assert len(text) <= 22
        assert "@" in text


def test_a_pattern_of_nothing_many_times_is_nothing(server: Rehearsal) -> None:
    schema = {"type": "string", "pattern": "^((((){1000}){1000}){1000}){1000}$"}
    assert json.loads(say(server, "x", response_format=by_schema(schema))) == ""
