import json
from pathlib import Path

import pytest

from wordmill.errors import ConfigError, KeyMissing
from wordmill.models import checked
from wordmill.providers.base import Model
from wordmill.providers.dialect import Dialect
from wordmill.providers.openai import OpenAI
from wordmill.settings import Settings
from wordmill.types import Message, RequestShape

SCHEMA = '{"properties":{"a":{"type":"string"}},"required":["a"],"type":"object"}'
WORDS = (
    "Answer with one JSON value that follows this JSON schema, and with nothing else:\n" + SCHEMA
)
USER = (Message("user", None),)


def provider(**options: object) -> OpenAI:
    fields = {"name": "mock", "base_url": "http://127.0.0.1:9000/v1", "model": "mock-1"}
    return OpenAI(checked({**fields, **options}), Settings(home=Path("/nowhere")))


def shape(*messages: Message, schema: str | None = None, **parameters: object) -> RequestShape:
    return RequestShape("mock", messages or USER, tuple(parameters.items()), schema)


def test_paths() -> None:
    kinds = ("chat", "completions", "embeddings", "rerank", "responses", "/classify")
    assert [provider().path(kind) for kind in kinds] == [
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/rerank",
        "/responses",
        "/classify",
    ]


@pytest.mark.parametrize("kind", ["", "chatty", "/../admin", "//host/x", "/a?key=1", "http://h/x"])
def test_what_is_no_path(kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        provider().path(kind)
    assert str(caught.value) == (
        f"{kind!r} is no path of an API: it is one of chat, completions, embeddings, rerank, "
        'responses, or begins with "/" and goes below the base URL.'
    )


def test_a_plain_request_has_a_bound() -> None:
    assert provider().body(shape()) == {
        "messages": [{"role": "user", "content": "\0"}],
        "max_tokens": 2048,
    }
    assert provider(context=1000).body(shape())["max_tokens"] == 500
    assert provider(context=1).body(shape())["max_tokens"] == 1


def test_parameters_are_sent_as_given() -> None:
    body = provider().body(shape(temperature=0.5, max_completion_tokens=9, stop=["x"]))
    assert body == {
        "messages": [{"role": "user", "content": "\0"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "stop": ["x"],
    }


def test_tools_are_sent() -> None:
    tools = '[{"type": "function", "function": {"name": "f"}}]'
    asked = RequestShape("mock", USER, tools=tools)
    assert provider().body(asked)["tools"] == json.loads(tools)


def test_a_schema_in_every_form() -> None:
    asked = shape(Message("system", "Be kind."), Message("user", None), schema=SCHEMA)
    parsed = json.loads(SCHEMA)
    openai = provider(provider="openai", base_url="", key_env="K")
    assert openai.body(asked)["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "schema": {**parsed, "additionalProperties": False},
            "strict": True,
        },
    }
    assert provider().body(asked)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": parsed},
    }
    body = provider(without=["json_schema"]).body(asked)
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"] == [
        {"role": "system", "content": "Be kind.\n\n" + WORDS},
        {"role": "user", "content": "\0"},
    ]
    body = provider(without=["json_schema", "json_object"]).body(asked)
    assert "response_format" not in body
    assert body["messages"][0]["content"] == "Be kind.\n\n" + WORDS


def test_a_schema_in_words_without_a_system_message() -> None:
    asked = shape(schema=SCHEMA)
    assert provider(without=["json_schema"]).body(asked)["messages"] == [
        {"role": "system", "content": WORDS},
        {"role": "user", "content": "\0"},
    ]
    assert provider(without=["json_schema", "system"]).body(asked)["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": WORDS}, {"type": "text", "text": "\0"}],
        },
    ]
    without = ["json_schema", "system", "parts"]
    assert provider(without=without).body(asked)["messages"] == [
        {"role": "user", "content": WORDS},
        {"role": "user", "content": "\0"},
    ]


def test_slots_keep_their_order() -> None:
    asked = shape(
        Message("system", None),
        Message("user", "2 + 2?"),
        Message("assistant", "4"),
        Message("user", None),
        schema=SCHEMA,
    )
    assert provider(without=["json_schema", "system"]).body(asked)["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "\0"},
                {"type": "text", "text": WORDS + "\n\n2 + 2?"},
            ],
        },
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "\0"},
    ]


def test_a_preset_counts_for_its_own_address_only() -> None:
    openai = provider(provider="openai", base_url="https://api.openai.com/v1/")
    assert openai.model.key_env == "OPENAI_API_KEY"
    assert openai.dialect == Dialect(form="strict", bound="max_completion_tokens")
    elsewhere = provider(provider="openai")
    assert (elsewhere.model.key_env, elsewhere.dialect) == (None, Dialect())


def test_a_lane_is_all_that_the_engine_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "k-1234")
    monkeypatch.setenv("A_TEAM", "blue")
    full = provider(
        key_env="A_KEY",
        headers={"X-Team": "${A_TEAM}", "X-Plain": "y"},
        concurrency=8,
        rpm=60,
        tpm=1000,
        price_in=0.15,
        price_out=0.6,
        context=8192,
        fallback="other",
        without=["seed"],
    )
    assert full.lane() == {
        "name": "mock",
        "base_url": "http://127.0.0.1:9000/v1",
        "identity": "http://127.0.0.1:9000/v1",
        "model": "mock-1",
        "key": "k-1234",
        "headers": {"X-Team": "blue", "X-Plain": "y"},
        "concurrency": 8,
        "max_concurrency": 2048,
        "requests_per_minute": 60,
        "tokens_per_minute": 1000,
        "price_input": 0.15,
        "price_output": 0.6,
        "context": 8192,
        "fallback": "other",
        "seed": False,
        "connect_seconds": 10.0,
        "first_byte_seconds": 120.0,
        "total_seconds": 600.0,
        "deadline_seconds": 1800.0,
        "attempts": 6,
        "max_reply_bytes": 16777216,
    }
    assert list(full.secrets()) == ["k-1234", "blue"]


def test_a_key_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    asked = provider(key_env="A_KEY")
    assert list(asked.secrets()) == []
    with pytest.raises(KeyMissing) as caught:
        asked.lane()
    assert str(caught.value) == (
        "No API key for the model 'mock': the variable A_KEY is not set. Set it, or store the key "
        "with `wordmill models key mock`."
    )
    with pytest.raises(KeyMissing):
        provider(headers={"api-key": "${A_KEY}"}).lane()
    monkeypatch.setenv("A_KEY", "k-1234")
    assert asked.lane()["key"] == "k-1234"


def test_a_key_with_a_line_break_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "k-1234\nHost: elsewhere")
    with pytest.raises(ConfigError) as caught:
        provider(key_env="A_KEY").lane()
    assert str(caught.value) == (
        "The value of A_KEY cannot be sent in a header: it holds a line break or a letter that is "
        "not ASCII. Was more copied than the key?"
    )


def test_a_refusal_is_said_once_and_remembered() -> None:
    mock = provider()
    asked, first = shape(schema=SCHEMA), mock.dialect
    words = "response_format type json_schema not supported"
    step = mock.degrade(asked, words, first)
    assert step is not None
    assert step.dialect == mock.dialect != first
    assert step.sentence == (
        "mock: the server refused `json_schema`, so the run goes on without it (its words: "
        "response_format type json_schema not supported)"
    )
    assert mock.body(asked)["response_format"] == {"type": "json_object"}
    # Others had been sent before the first refusal came back.
    late = mock.degrade(asked, words, first)
    assert late == (mock.dialect, "")
    # The same words again are about what is sent now.
    again = mock.degrade(asked, words, mock.dialect)
    assert again is not None
    assert again.sentence.startswith("mock: the server refused `json_object`")
    assert mock.degrade(asked, words, mock.dialect) is None
    assert mock.degrade(asked, words) == (mock.dialect, "")


def test_different_refusals_come_in_any_order() -> None:
    mock = provider()
    asked = shape(Message("system", "s"), Message("user", None), top_p=0.5)
    first = mock.dialect
    for words in (
        "Unrecognized request argument supplied: seed",
        "System role not supported",
        "Unrecognized request argument supplied: top_p",
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
    ):
        step = mock.degrade(asked, words, first)
        assert step is not None
        assert step.sentence
        assert mock.degrade(asked, words, first) == (mock.dialect, "")
    parts = [{"type": "text", "text": "s"}, {"type": "text", "text": "\0"}]
    assert mock.body(asked) == {
        "messages": [{"role": "user", "content": parts}],
        "max_completion_tokens": 2048,
        "seed": None,
    }
    assert mock.lane()["seed"] is False


def test_a_refusal_that_is_a_fault_of_the_request_stands() -> None:
    mock = provider()
    assert mock.degrade(shape(), "This model's maximum context length is 8192 tokens.") is None
    assert mock.degrade(shape(), "Unrecognized request argument supplied: top_p") is None
    assert mock.dialect == Dialect()


def test_a_sentence_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "my-little-secret")
    step = provider(key_env="A_KEY").degrade(
        shape(), "Unknown parameter: 'seed' (key my-little-secret) " + "x" * 300
    )
    assert step is not None
    assert "my-little-secret" not in step.sentence
    assert step.sentence.endswith("x...)")
    assert len(step.sentence) < 260


def test_a_catalog_entry_that_pydantic_did_not_check() -> None:
    """Rows of the database are taken as they are."""
    model = Model(name="m", base_url="http://h/v1", model="x")
    assert OpenAI(model, Settings(home=Path("/nowhere"))).body(shape())["max_tokens"] == 2048
