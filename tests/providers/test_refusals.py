"""The words are those of real servers, as people reported them."""

import json
from pathlib import Path
from typing import Any

import pytest

from wordmill.providers.dialect import Dialect
from wordmill.providers.refusals import simpler, spoken

SCHEMA = '{"properties":{"a":{"type":"string"}},"required":["a"],"type":"object"}'
PLAIN: dict[str, Any] = {
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "\0"}],
    "max_tokens": 100,
    "temperature": 0.7,
    "top_p": 0.9,
    "frequency_penalty": 0.1,
    "seed": 0,
}
WITH_SCHEMA = {**PLAIN, "response_format": {"type": "json_schema"}}
IN_PARTS = {**PLAIN, "messages": [{"role": "user", "content": [{"type": "text", "text": "\0"}]}]}


CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "refused_fields.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("form", ["{}", "HTTP 400: {}", "HTTP 422: {} (invalid_request_error)"])
@pytest.mark.parametrize("case", CASES, ids=[case["words"][:40] for case in CASES])
def test_fields_that_are_refused(case: dict[str, Any], form: str) -> None:
    """As the server says it, and as the engine hands it on."""
    fields = set(case["fields"])
    found = simpler(Dialect(), PLAIN, None, form.format(case["words"]))
    assert found is not None
    dialect, what = found
    assert dialect.without == fields
    assert dialect.seed == ("seed" not in fields)
    assert what == ", ".join(f"`{field}`" for field in sorted(fields))


def test_what_a_server_said_to_people() -> None:
    said = [
        'HTTP 422: {"detail":[{"loc":["body","a"],"msg":"one"},{"msg":"two"}]} (invalid)',
        '[{"error":{"code":400,"message":"Cannot find field."}}]',
        "HTTP 400: plain",
        '{"error": "cut off',
    ]
    assert [spoken(detail) for detail in said] == [
        "one; two",
        "Cannot find field.",
        "plain",
        '{"error": "cut off',
    ]


@pytest.mark.parametrize(
    "detail",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "max_tokens is too large: 100. This model supports at most 64 completion tokens.",
        "'temperature' must be less than or equal to 2",
        "The prompt is not allowed by our safety system.",
        "Unsupported image type",
        "Unrecognized request argument supplied: messages",
        "Unknown model 'mock-2'",
        "",
        "{",
        '{"error": null}',
    ],
)
def test_words_that_refuse_nothing_we_could_leave_out(detail: str) -> None:
    assert simpler(Dialect(), PLAIN, None, detail) is None


def test_the_bound_has_two_names_and_one_is_always_sent() -> None:
    openai = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead."
    )
    found = simpler(Dialect(), PLAIN, None, openai)
    assert found is not None
    dialect, what = found
    assert (dialect.bound, what) == ("max_completion_tokens", "`max_tokens`")
    body = {**PLAIN, "max_completion_tokens": 100}
    del body["max_tokens"]
    mistral = (
        '{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body",'
        '"max_completion_tokens"],"msg":"Extra inputs are not permitted","input":100}]}}'
    )
    assert simpler(dialect, body, None, mistral) is None
    back = simpler(Dialect(bound="max_completion_tokens"), body, None, mistral)
    assert back is not None
    assert back[0].bound == "max_tokens"


@pytest.mark.parametrize(
    "detail",
    [
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported.",
        "This response_format type is unavailable now",
        "response_format.type `json_schema` is unavailable now at line 1 column 12440",
        "This model does not support response format `json_schema`. See supported models at ...",
        "response_format type json_schema not supported",
        "{\"error\":\"'response_format.type' must be 'json_object' or 'text'\"}",
        '{"detail":[{"type":"extra_forbidden","loc":["body","response_format"]}]}',
    ],
)
def test_a_server_without_schemas_gets_them_in_words(detail: str) -> None:
    found = simpler(Dialect(), WITH_SCHEMA, SCHEMA, detail)
    assert found is not None
    dialect, what = found
    assert (dialect.form_of(SCHEMA), what) == ("json_object", "`json_schema`")
    assert dialect.without == frozenset()
    again = simpler(dialect, WITH_SCHEMA, SCHEMA, detail)
    assert again is not None
    assert (again[0].form_of(SCHEMA), again[1]) == ("prompt", "`json_object`")


def test_a_server_with_schemas_and_without_objects() -> None:
    """LM Studio's way."""
    detail = "'response_format.type' must be 'json_schema' or 'text'"
    found = simpler(Dialect(form="json_object"), WITH_SCHEMA, SCHEMA, detail)
    assert found is not None
    assert found[0].form_of(SCHEMA) == "prompt"


@pytest.mark.parametrize(
    "detail",
    [
        "Invalid schema for response_format 'answer': In context=(), 'required' is required.",
        "invalid schema for response format: response_format/json_schema/a: minItems is not here",
        "Failed to parse grammar: unsupported pattern",
        "response_format.json_schema.strict: Extra inputs are not permitted",
    ],
)
def test_a_schema_that_is_refused_for_itself(detail: str) -> None:
    other = SCHEMA.replace('"a"', '"b"')
    found = simpler(Dialect(form="strict"), WITH_SCHEMA, SCHEMA, detail)
    assert found is not None
    dialect, what = found
    assert what == "this schema as `strict`"
    assert (dialect.form_of(SCHEMA), dialect.form_of(other)) == ("json_schema", "strict")
    found = simpler(dialect, WITH_SCHEMA, SCHEMA, detail)
    assert found is not None
    assert found[0].form_of(SCHEMA) == "json_object"


@pytest.mark.parametrize(
    "detail",
    [
        "System role not supported",
        "Developer instruction is not enabled for models/gemma-3-27b-it",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user and assistant roles are supported!",
        'unexpected role "system"',
    ],
)
def test_a_server_without_the_system_role(detail: str) -> None:
    found = simpler(Dialect(), PLAIN, None, detail)
    assert found == (Dialect(system=False), "the system role")
    without = {**PLAIN, "messages": [{"role": "user", "content": "\0"}]}
    assert simpler(Dialect(system=False), without, None, detail) is None


@pytest.mark.parametrize(
    "detail",
    [
        "messages[0].content must be a string",
        '{"detail":[{"loc":["body","messages",0,"content"],"msg":"should be a valid string"}]}',
        "messages: invalid type: sequence, expected a string for content at line 1",
        "A list of content parts is not supported by this model",
    ],
)
def test_a_server_that_takes_no_parts(detail: str) -> None:
    assert simpler(Dialect(), IN_PARTS, None, detail) == (Dialect(parts=False), "content as parts")
    assert simpler(Dialect(), PLAIN, None, detail) is None
