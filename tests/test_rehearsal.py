"""The rehearsal model, over real sockets: through the official client, and through plain HTTP."""

import base64
import json
import math
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, NamedTuple
from uuid import UUID

import jsonschema_rs
import openai
import pytest

from wordmill._engine import Rehearsal
from wordmill.columns.checks import as_an_ai, refused

Rehearse = Callable[..., Rehearsal]
Json = Any

FAULTS = [
    "429", "401", "500", "503", "drop", "truncate", "malformed", "empty", "slow", "refuse", "schema",
    "as-an-ai",
]  # fmt: skip
TICKET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["summary", "level"],
    "properties": {
        "summary": {"type": "string"},
        "level": {"type": "integer", "minimum": 1, "maximum": 5},
    },
}


class Answered(NamedTuple):
    """What came back over plain HTTP."""

    status: int
    headers: dict[str, str]
    body: Json


def ask(
    server: Rehearsal, body: Json, path: str = "/v1/chat/completions", method: str = "POST"
) -> Answered:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, raw if method == "POST" else None)
        return answered(connection.getresponse())


def answered(response: HTTPResponse) -> Answered:
    raw = response.read()
    is_json = response.headers["content-type"] == "application/json"
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answered(response.status, headers, json.loads(raw) if is_json else raw.decode())


def chat(prompt: str, **fields: Json) -> dict[str, Json]:
    return {"model": "mock-1", "messages": [{"role": "user", "content": prompt}], **fields}


def by_schema(schema: Json) -> dict[str, Json]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def text_of(answer: Answered, choice: int = 0) -> str:
    assert answer.status == 200, answer
    content = answer.body["choices"][choice]["message"]["content"]
    assert isinstance(content, str)
    return content


def say(server: Rehearsal, prompt: str, **fields: Json) -> str:
    return text_of(ask(server, chat(prompt, **fields)))


def stats(server: Rehearsal) -> dict[str, Json]:
    found: dict[str, Json] = json.loads(server.stats())
    assert found == ask(server, None, "/stats", "GET").body
    return found


@pytest.fixture
def server(rehearse: Rehearse) -> Rehearsal:
    return rehearse()


@pytest.fixture
def client(server: Rehearsal) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client


def client_of(server: Rehearsal) -> openai.OpenAI:
    base_url = f"http://127.0.0.1:{server.port}/v1"
    return openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)


# Text ----------------------------------------------------------------------------------------


def test_a_text_is_english_and_differs_row_by_row(server: Rehearsal) -> None:
    texts = [say(server, f"Customer {n} writes about a laptop and its charger.") for n in range(50)]
    assert len(set(texts)) == 50
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=\.)\s+", text)]
    assert len(set(sentences)) > len(sentences) * 0.97
    for sentence in sentences:
        assert re.fullmatch(r"[A-Z][A-Za-z',: ’-]+\.", sentence), sentence
    assert all(60 <= len(text.split()) <= 140 for text in texts)
    assert sum("laptop" in text or "charger" in text for text in texts) > 40


def test_the_same_request_gets_the_same_text(rehearse: Rehearse) -> None:
    first, same, other = rehearse(seed=1), rehearse(seed=1), rehearse(seed=2)
    text = say(first, "hello")
    assert say(first, "hello") == text
    assert say(same, "hello") == text
    assert say(other, "hello") != text
    # Of two ways to write a request both are the same; of two seeds or models they are not.
    loose = json.dumps(chat("hello"), indent=3).replace('"hello"', '"h\\u0065llo"')
    assert text_of(ask(first, loose.encode())) == text
    assert say(first, "hello", seed=1) != text
    assert text_of(ask(first, {**chat("hello"), "model": "other"})) != text
    assert say(first, "hello", temperature=0.5, user="x") == text


def test_content_may_be_parts(server: Rehearsal) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "hello"}, picture]
    body = {**chat(""), "messages": [{"role": "user", "content": parts}]}
    assert text_of(ask(server, body)) == say(server, "hello")


def test_several_choices_differ(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(**chat("hello", n=5))
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3, 4]
    texts = [choice.message.content or "" for choice in reply.choices]
    assert len(set(texts)) == 5
    assert reply.usage is not None
    assert reply.usage.completion_tokens == sum(math.ceil(len(text) / 4) for text in texts)


def test_usage_is_plausible_and_stable(server: Rehearsal) -> None:
    usage = ask(server, chat("x" * 400)).body["usage"]
    assert usage["prompt_tokens"] == 100 + 4 + 3
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert ask(server, chat("x" * 400)).body["usage"] == usage


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_an_answer_ends_with_its_tokens(server: Rehearsal, field: str) -> None:
    whole = say(server, "hello")
    reply = ask(server, chat("hello", **{field: 12}))
    (choice,) = reply.body["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == whole[:48]
    assert reply.body["usage"]["completion_tokens"] == 12
    enough = ask(server, chat("hello", **{field: 4096})).body["choices"][0]
    assert (enough["finish_reason"], enough["message"]["content"]) == ("stop", whole)


def test_an_answer_ends_at_a_stop_word(server: Rehearsal) -> None:
    whole = say(server, "hello")
    assert say(server, "hello", stop=[". ", "never"]) == whole.partition(". ")[0]
    assert say(server, "hello", stop="the ") == whole.partition("the ")[0]


def test_choices_are_answered_with_one_of_them(server: Rehearsal) -> None:
    prompt = "How does it sound? {}\nAnswer with exactly one of: calm, very angry, sad"
    counts = Counter(say(server, prompt.format(n)) for n in range(300))
    assert set(counts) == {"calm", "very angry", "sad"}
    assert min(counts.values()) > 60


def test_headings_lists_scores_and_lengths_are_kept(server: Rehearsal) -> None:
    text = say(server, "What to do? Use the headings CONSIDERATIONS and ACTION.")
    assert re.fullmatch(r"CONSIDERATIONS\n[^\n]{80,}\n\nACTION\n[^\n]{80,}", text)
    text = say(server, "Give me a numbered list of three ideas.")
    assert re.fullmatch(r"1\. [^\n]+\n2\. [^\n]+\n3\. [^\n]+", text)
    text = say(server, "Rate it on a scale from 0 to 4. Answer with a single number.")
    assert text in "01234"
    assert say(server, "Say it in one sentence.").count(".") == 1
    assert len(say(server, "Answer with one word.").split()) == 1
    assert 240 < len(say(server, "Tell it in 300 words.").split()) < 360
    assert len(say(server, "Give it a title.").split()) < 9


# JSON ----------------------------------------------------------------------------------------


def valid(schema: Json, text: str) -> Json:
    value = json.loads(text)
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    assert validator.is_valid(value), (schema, text, [str(e) for e in validator.iter_errors(value)])
    return value


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
    {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}, "minItems": 4},
    {"type": "array", "maxItems": 0},
    {"type": "object"},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 5},
    {"type": "object", "patternProperties": {"^x-[a-z]{8}$": {"type": "number"}}, "minProperties": 2,
     "additionalProperties": False},
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
     "a": {"type": "string", "format": "uuid"}, "b": {"type": "array", "items": {"$ref": "#/$defs/a"}}}},
    True,
    {},
]  # fmt: skip
PATTERNS = [
    r"^[A-Z]{2}-[0-9]{6}$", r"^(red|green|blue)(-(light|dark))?$", r"^\d{4}-\d{2}$", r"^[^@\s]+@[a-z]+\.com$",
    r"^a*b+c?d{2,}e{3}f{1,4}$", r"\w+ \w+", r"^(?:[a-c]x|[d-f]y){2,3}$", r"^\+?[1-9]\d{1,14}$", r"^[\w.-]+$",
    r"^#[0-9a-fA-F]{6}$", r"^\$\d+\.\d{2}$", r"^(?<year>\d{4})\/W[0-5]\d$", r"^[ -~]{5,20}$", r"^$", r"^.{3,9}$",
    r"^[^a-zA-Z0-9]+$", r"^\S+\s\S+$", r"^[A-Z][a-z]*(?: [A-Z][a-z]*)*$", r"^\u0041\x42$", r"^x|y$", r"^[\]\[-]{3}$",
]  # fmt: skip
FORMATS = [
    "date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference",
    "uuid", "json-pointer", "regex",
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_json_follows_its_schema(server: Rehearsal, schema: Json) -> None:
    found = [
        valid(schema, say(server, f"case {n}", response_format=by_schema(schema))) for n in range(40)
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
        valid(schema, say(server, f"case {n}", response_format=by_schema(schema))) for n in range(40)
    }
    assert len(found) > 10
    read = {"date": date.fromisoformat, "date-time": datetime.fromisoformat, "uuid": UUID}
    for text in found:
        read.get(name, str)(text)


def random_schema(draw: random.Random, depth: int = 0) -> Json:
    """Some schema that something follows."""
    kinds = ["string", "integer", "number", "boolean", "enum"]
    kind = draw.choice(kinds if depth > 3 else [*kinds, "object", "object", "array", "anyOf", "null?"])
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
    schema = {"type": "object", "required": names, "properties": {n: {"type": "string"} for n in names}}
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


@pytest.mark.parametrize(
    ("prompt", "keys"),
    [
        ('Answer as JSON that follows this schema: {"type": "object", "properties": '
         '{"a": {"const": 1}}, "required": ["a"], "additionalProperties": false}', {"a"}),
        ('Answer with JSON like {"level": 3, "mood": "calm|angry", "tags": ["x"]}', {"level", "mood", "tags"}),
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
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 2}}}
    answer = ask(server, chat("x", response_format=by_schema(schema)))
    assert answer.status == 400
    assert answer.body["error"] == {
        "message": 'Invalid schema for response_format: no number can be valid at "n".',
        "type": "invalid_request_error",
        "param": "response_format",
        "code": None,
    }


# Tools, streams, embeddings, models --------------------------------------------------------------

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


@pytest.mark.parametrize(
    ("prompt", "choice", "called"),
    [
        ("What is the weather in Oslo?", "auto", "get_weather"),
        ("Please call get_weather.", None, "get_weather"),
        ("Tell me a story.", "auto", None),
        ("What is the weather in Oslo?", "none", None),
        ("What is the weather in Oslo?", "required", "get_weather"),
        ("Hello.", {"type": "function", "function": {"name": "clock"}}, "clock"),
    ],
)
def test_a_tool_is_called_when_it_is_wanted(
    client: openai.OpenAI, prompt: str, choice: Json, called: str | None
) -> None:
    extra = {} if choice is None else {"tool_choice": choice}
    reply = client.chat.completions.create(**chat(prompt, tools=[CLOCK, WEATHER], **extra))
    message = reply.choices[0].message
    if called is None:
        assert message.tool_calls is None
        assert message.content
        return
    (call,) = message.tool_calls or []
    assert call.type == "function"
    assert (message.content, call.function.name) == (None, called)
    assert reply.choices[0].finish_reason == "tool_calls"
    arguments = json.loads(call.function.arguments)
    if called == "clock":
        assert arguments == {}
    else:
        valid(WEATHER["function"]["parameters"], call.function.arguments)  # type: ignore[index]


def test_the_result_of_a_tool_is_answered_in_words(server: Rehearsal) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    body = {
        "model": "m",
        "tools": [WEATHER],
        "messages": [
            {"role": "user", "content": "What is the weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ],
    }
    assert len(text_of(ask(server, body))) > 100


def test_tools_that_cannot_be_read_are_refused(server: Rehearsal) -> None:
    choice = {"type": "function", "function": {"name": "nothing"}}
    answer = ask(server, chat("x", tools=[CLOCK], tool_choice=choice))
    message = "Invalid 'tools': there is no tool \"nothing\" among those given."
    assert (answer.status, answer.body["error"]["message"]) == (400, message)
    answer = ask(server, chat("x", tools=[{"type": "function"}]))
    assert answer.status == 400
    assert answer.body["error"]["message"].startswith("Invalid 'tools': the tools cannot be read: ")


def test_a_stream_adds_up_to_the_whole_answer(client: openai.OpenAI, server: Rehearsal) -> None:
    whole = ask(server, chat("hello", n=2))
    pieces: dict[int, list[str]] = {0: [], 1: []}
    finished = {}
    usage = None
    for event in client.chat.completions.create(
        **chat("hello", n=2), stream=True, stream_options={"include_usage": True}
    ):
        for choice in event.choices:
            pieces[choice.index].append(choice.delta.content or "")
            finished[choice.index] = choice.finish_reason
        usage = event.usage or usage
    assert ["".join(pieces[n]) for n in (0, 1)] == [text_of(whole, n) for n in (0, 1)]
    assert len(pieces[0]) > 30
    assert finished == {0: "stop", 1: "stop"}
    assert usage is not None
    assert usage.model_dump(include=set(whole.body["usage"])) == whole.body["usage"]


def test_a_stream_is_server_sent_events(server: Rehearsal) -> None:
    answer = ask(server, chat("Answer with one word.", stream=True))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = answer.body.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])
    last = json.loads(events[-3].removeprefix("data: "))
    assert last["object"] == "chat.completion.chunk"
    assert last["choices"][0]["finish_reason"] == "stop"
    assert "usage" not in last


def test_a_tool_call_streams(client: openai.OpenAI) -> None:
    arguments = ""
    for event in client.chat.completions.create(
        **chat("x", tools=[WEATHER], tool_choice="required"), stream=True
    ):
        for call in event.choices[0].delta.tool_calls or []:
            assert call.function is not None
            arguments += call.function.arguments or ""
    valid(WEATHER["function"]["parameters"], arguments)  # type: ignore[index]


def test_a_stream_takes_as_long_as_a_whole_answer(rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=400)
    begin = time.monotonic()
    with client_of(server) as client:
        times = [
            time.monotonic() - begin for _ in client.chat.completions.create(**chat("x"), stream=True)
        ]
    assert 0.09 < times[0] < 0.3
    assert 0.38 < times[-1] < 0.7
    assert max(late - early for early, late in zip(times, times[1:], strict=False)) < 0.2


def test_embeddings_are_unit_vectors_and_near_for_near_texts(client: openai.OpenAI) -> None:
    texts = ["The laptop is broken", "the laptop was broken", "Rivers rise in April"]
    reply = client.embeddings.create(model="m", input=texts)
    first, near, far = (item.embedding for item in reply.data)
    assert [len(first), [item.index for item in reply.data]] == [256, [0, 1, 2]]
    assert math.isclose(math.hypot(*first), 1, rel_tol=1e-5)
    assert math.sumprod(first, near) > 0.4 if hasattr(math, "sumprod") else True
    cosine = [sum(a * b for a, b in zip(first, other, strict=True)) for other in (first, near, far)]
    assert cosine[0] > cosine[1] > 0.4 > cosine[2]
    assert reply.usage.prompt_tokens == sum(math.ceil(len(text) / 4) for text in texts)
    (again,) = client.embeddings.create(model="m", input=texts[0]).data
    assert again.embedding == first


def test_embeddings_in_floats_in_base64_and_short(server: Rehearsal) -> None:
    fields = {"model": "m", "input": "hello", "dimensions": 5}
    floats = ask(server, fields, "/v1/embeddings").body["data"][0]["embedding"]
    coded = ask(server, {**fields, "encoding_format": "base64"}, "/v1/embeddings").body["data"][0]
    assert struct.unpack("<5f", base64.b64decode(coded["embedding"])) == pytest.approx(floats)
    for wrong in ({"dimensions": 0}, {"input": []}, {"encoding_format": "hex"}, {"input": ""}):
        assert ask(server, {**fields, **wrong}, "/v1/embeddings").status == 400


def test_models_are_listed_and_shown(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["rehearsal", "rehearsal-small", "mock-1"]
    assert client.models.retrieve("anything").id == "anything"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("missing-1")
    assert missing.value.code == "model_not_found"


def test_a_missing_model_is_not_found(client: openai.OpenAI, server: Rehearsal) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**{**chat("x"), "model": "missing-large"})
    assert missing.value.code == "model_not_found"
    assert missing.value.body == {
        "message": "The model `missing-large` does not exist or you do not have access to it.",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }
    assert stats(server)["rejected"] == 1


# What is wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "The JSON body of your request cannot be read: EOF while parsing an object at line 1 column 1."),
        (b"\xff{}", "The JSON body of your request cannot be read: expected value at line 1 column 1."),
        ({"model": "m"}, "The JSON body of your request cannot be read: missing field `messages` at line 1 column 14."),
        ({"messages": [{"role": "user", "content": "x"}]}, "you must provide a model parameter"),
        ({"model": "m", "messages": []}, "Invalid 'messages': empty array. Expected an array with minimum length 1."),
        (chat("x", n=0), "Invalid 'n': expected a value from 1 to 128, but got 0 instead."),
        (chat("x", max_tokens=0), "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead."),
        (chat("x", response_format={"type": "xml"}), 'Invalid schema for response_format: there is no response format "xml".'),
        (b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
         "The JSON body of your request cannot be read: unexpected end of hex escape at line 1 column 64."),
    ],
)  # fmt: skip
def test_bad_requests_are_told_in_openais_shape(server: Rehearsal, body: Json, says: str) -> None:
    answer = ask(server, body)
    assert (answer.status, set(answer.body["error"])) == (400, {"message", "type", "param", "code"})
    assert answer.body["error"]["message"] == says


def test_unknown_addresses_and_methods(server: Rehearsal) -> None:
    answer = ask(server, {}, "/v1/nothing")
    assert answer.status == 404
    assert answer.body["error"]["message"] == (
        "Unknown request URL: /v1/nothing. The rehearsal model answers POST /v1/chat/completions, "
        "POST /v1/embeddings, GET /v1/models and GET /stats."
    )
    answer = ask(server, None, "/v1/chat/completions", "GET")
    assert (answer.status, answer.body["error"]["code"]) == (405, "method_not_supported")
    assert ask(server, {}, "/v1/models").status == 405
    assert ask(server, chat("x"), "/any/prefix/chat/completions?a=b").status == 200


def raw(server: Rehearsal, sent: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_requests_may_be_pipelined_chunked_and_announced(server: Rehearsal) -> None:
    body = json.dumps(chat("hello")).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    counted = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    chunked += b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 9]), body[i : i + 9]) for i in range(0, len(body), 9))
    chunked += b"0\r\n\r\n"
    closing_ = counted.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
    answers = raw(server, counted + chunked + closing_ + counted).split(b"HTTP/1.1 200 OK")[1:]
    assert len(answers) == 3
    texts = {json.loads(answer.split(b"\r\n\r\n", 1)[1])["choices"][0]["message"]["content"] for answer in answers}
    assert len(texts) == 1
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused(server: Rehearsal, sent: bytes, status: int) -> None:
    answer = raw(server, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert set(json.loads(answer.split(b"\r\n\r\n", 1)[1])) == {"error"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"latency_ms": -1}, "a latency of -1 ms is not from 0 to one hour"),
        ({"limit": 0}, "a limit of 0 would answer nothing; the smallest is 1"),
        ({"errors": {"drop": 2}}, 'the fault "drop" has the fraction 2; it must be from 0 to 1'),
        ({"errors": {"drop": 0.6, "500": 0.6}}, "the fractions of the faults add up to 1.2, which is more than 1"),
    ],
)  # fmt: skip
def test_wrong_options_are_said(options: Json, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Rehearsal(json.dumps(options))


def test_a_port_that_is_taken_is_said(server: Rehearsal) -> None:
    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{server.port}: "):
        Rehearsal(json.dumps({"port": server.port}))


# Faults ------------------------------------------------------------------------------------------


def kind_of(server: Rehearsal, body: Json) -> str:
    """The name of what happened to a request, as a client sees it."""
    structured = "response_format" in body
    begin = time.monotonic()
    try:
        answer = ask(server, body)
    except json.JSONDecodeError:
        return "malformed"
    except HTTPException as error:
        return "truncate" if type(error).__name__ == "IncompleteRead" else "drop"
    except ConnectionError:
        return "drop"
    if answer.status != 200:
        if answer.status == 429:
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["retry-after-ms"] == "20"
        assert answer.body["error"]["message"]
        return str(answer.status)
    if time.monotonic() - begin > 0.9:
        return "slow"
    message = answer.body["choices"][0]["message"]
    if message["refusal"]:
        assert structured
        assert refused(message["refusal"])
        return "refuse"
    text = message["content"]
    if text == "":
        return "empty"
    if structured:
        validator = jsonschema_rs.validator_for(TICKET)
        return "answered" if validator.is_valid(json.loads(text)) else "schema"
    if refused(text):
        return "refuse"
    return "as-an-ai" if as_an_ai(text) else "answered"


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_what_it_is_called(rehearse: Rehearse, fault: str) -> None:
    server = rehearse(errors={fault: 1.0})
    body = chat("hello", response_format=by_schema(TICKET)) if fault == "schema" else chat("hello")
    assert kind_of(server, body) == fault
    counted = stats(server)
    assert counted["faults"] == {name: int(name == fault) for name in FAULTS}
    answers = fault in {"empty", "slow", "refuse", "schema", "as-an-ai"}
    assert (counted["requests"], counted["answered"]) == (1, int(answers))


def test_the_faults_that_clients_see_are_those_counted(rehearse: Rehearse) -> None:
    chances = {name: 0.04 for name in FAULTS if name != "slow"}
    server = rehearse(errors={**chances, "slow": 0.004}, seed=3)
    bodies: list[Json] = [chat(f"free {n}") for n in range(500)]
    bodies += [chat(f"formed {n}", response_format=by_schema(TICKET)) for n in range(500)]
    with ThreadPoolExecutor(16) as pool:
        seen = Counter(pool.map(lambda body: kind_of(server, body), bodies))
    counted = stats(server)
    assert {name: seen[name] for name in FAULTS} == counted["faults"]
    assert all(seen[name] > 8 for name in chances)
    assert counted["requests"] == 1000
    lost = {"429", "401", "500", "503", "drop", "truncate", "malformed"}
    assert counted["answered"] == 1000 - sum(seen[name] for name in lost)


def test_a_fault_is_a_matter_of_the_request_and_not_of_the_hour(rehearse: Rehearse) -> None:
    bodies = [chat(f"number {n}") for n in range(60)]
    options = {"errors": {"500": 0.5}, "seed": 9}
    first, second, third = rehearse(**options), rehearse(**options), rehearse(**{**options, "seed": 8})
    forth = [ask(first, body).status for body in bodies]
    back = [ask(second, body).status for body in reversed(bodies)]
    assert forth == back[::-1]
    assert 15 < forth.count(500) < 45
    assert forth != [ask(third, body).status for body in bodies]
    # Asked again, a request draws again.
    failed = bodies[forth.index(500)]
    assert {ask(first, failed).status for _ in range(20)} == {200, 500}


@pytest.mark.parametrize("fault", ["drop", "truncate", "malformed", "empty", "refuse"])
def test_streams_have_faults_too(rehearse: Rehearse, fault: str) -> None:
    server = rehearse(errors={fault: 1.0})
    with client_of(server) as client:
        texts = []
        try:
            for event in client.chat.completions.create(**chat("hello"), stream=True):
                texts.append(event.choices[0].delta.content or "")
        except openai.APIConnectionError:
            seen = "drop"
        except json.JSONDecodeError:
            seen = "malformed"
        except Exception as error:  # noqa: BLE001 - the transport's own, unwrapped by the client
            assert "incomplete" in str(error) or "closed" in str(error), error
            seen = "truncate"
        else:
            seen = "empty" if "".join(texts) == "" else "refuse"
            assert seen == "empty" or refused("".join(texts))
    assert seen == fault


def test_choices_are_missed_on_purpose(rehearse: Rehearse) -> None:
    server = rehearse(errors={"schema": 1.0})
    prompt = "Answer with exactly one of these choices and nothing else:\n- calm\n- none of these"
    assert say(server, prompt) == "none of these at all"
    assert stats(server)["faults"]["schema"] == 1
    assert as_an_ai(say(server, "Tell me more.")) is None
    assert stats(server)["faults"]["schema"] == 1, "free text has no schema to break"


def test_an_ai_speaks_only_where_text_is_free(rehearse: Rehearse) -> None:
    server = rehearse(errors={"as-an-ai": 1.0})
    text = say(server, "Use the headings CAUSE and CURE.")
    assert text.startswith("CAUSE\nAs an AI language model, ")
    assert "\n\nCURE\n" in text
    valid(TICKET, say(server, "x", response_format=by_schema(TICKET)))
    assert stats(server)["faults"]["as-an-ai"] == 1


@pytest.mark.parametrize("number", range(30))
def test_refusals_are_those_that_checks_find(rehearse: Rehearse, number: int) -> None:
    server = rehearse(errors={"refuse": 1.0}, seed=number)
    assert refused(say(server, "hello"))


def test_ordinary_texts_pass_the_checks(server: Rehearsal) -> None:
    for n in range(300):
        text = say(server, f"hello {n}")
        assert (refused(text), as_an_ai(text)) == (None, None)


# Load --------------------------------------------------------------------------------------------


def test_more_than_the_limit_at_once_is_too_many(rehearse: Rehearse) -> None:
    server = rehearse(limit=8, latency_ms=300)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: ask(server, chat(f"x {n}")), range(20)))
    refusals = [answer for answer in answers if answer.status == 429]
    assert len(refusals) == 12
    assert refusals[0].headers["retry-after-ms"] == "300"
    assert refusals[0].body["error"] == {
        "message": "Rate limit reached: too many requests at once. Please try again in 300ms.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    counted = stats(server)
    assert (counted["highest_concurrency"], counted["over_limit"]) == (8, 12)
    assert (counted["requests"], counted["answered"], counted["in_flight"]) == (20, 8, 0)
    assert counted["connections"] == 21, "one more for these statistics"


def test_an_answer_takes_its_latency(rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=200)
    begin = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(lambda n: say(server, f"x {n}"), range(10)))) == 10
    assert 0.2 <= time.monotonic() - begin < 0.5
    assert stats(server)["highest_concurrency"] == 10


def test_a_client_that_leaves_is_noticed(rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=60_000)
    body = json.dumps(chat("x")).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + body)
        until = time.monotonic() + 5
        while stats(server)["in_flight"] == 0 and time.monotonic() < until:
            time.sleep(0.01)
    while stats(server)["in_flight"] == 1 and time.monotonic() < until:
        time.sleep(0.01)
    counted = stats(server)
    assert (counted["in_flight"], counted["abandoned"], counted["answered"]) == (0, 1, 0)


def test_requests_that_come_again_are_counted(server: Rehearsal) -> None:
    for prompt in ["a", "b", "a", "c", "a"]:
        say(server, prompt)
    counted = stats(server)
    assert (counted["requests"], counted["distinct"], counted["repeated"]) == (5, 3, 2)


def test_a_stopped_server_keeps_its_statistics(server: Rehearsal) -> None:
    say(server, "a")
    server.stop()
    server.stop()
    assert json.loads(server.stats())["answered"] == 1
    with pytest.raises(ConnectionRefusedError):
        ask(server, chat("a"))


def test_the_faults_have_their_names() -> None:
    assert Rehearsal.faults() == FAULTS
