"""What a request in OpenAI's form may hold: each field with its type and range.

A model's server refuses bad values too, but what it refuses is also how Wordmill learns what that
server cannot do, and then goes without. So what is plainly wrong is said here, in words.

A name that nobody knows is refused with the nearest one. What only some servers know (`top_k`,
`guided_choice`) is handed on; for the rest there is `extra_body`, an object whose members are put
into the request as they are.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from wordmill.chat.parameters import PARAMETERS
from wordmill.errors import InvalidInput, nearest

Json: TypeAlias = Mapping[str, Any]

EXTRA: Final = "extra_body"
ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")


class Field(NamedTuple):
    """A field: what it must be, in words, and whether a value is that."""

    expects: str
    holds: Callable[[Any], bool]


def _number(low: float, high: float) -> Field:
    return Field(f"a number from {low:g} to {high:g}", lambda it: _is_number(it, low, high))


def _whole(low: int, high: int) -> Field:
    return Field(
        f"a whole number from {low:,} to {high:,}",
        lambda it: isinstance(it, int) and _is_number(it, low, high),
    )


def _is_number(it: Any, low: float, high: float) -> bool:
    return isinstance(it, int | float) and not isinstance(it, bool) and low <= it <= high


def _is_texts(it: Any) -> bool:
    return isinstance(it, list) and all(isinstance(one, str) for one in it)


FLAG: Final = Field("true or false", lambda it: isinstance(it, bool))
TEXT: Final = Field("a text", lambda it: isinstance(it, str))
OBJECT: Final = Field("an object", lambda it: isinstance(it, dict))
OBJECTS: Final = Field(
    "a list of objects", lambda it: isinstance(it, list) and all(isinstance(o, dict) for o in it)
)
LIST: Final = Field("a list", lambda it: isinstance(it, list))
CHOICE: Final = Field("a text or an object", lambda it: isinstance(it, str | dict))
STOP: Final = Field(
    "a text or a list of at most 4 texts",
    lambda it: isinstance(it, str) or (_is_texts(it) and len(it) <= 4),
)
FORM: Final = Field(
    "an object with a type of text, json_object or json_schema, and for the last a json_schema "
    "with a schema; for models of one's own also with a type of choices and a list of them, or of "
    "regex and a pattern",
    lambda it: (
        isinstance(it, dict)
        and (
            it.get("type") in ("text", "json_object")
            or (
                it.get("type") == "json_schema"
                and isinstance(it.get("json_schema"), dict)
                and isinstance(it["json_schema"].get("schema"), dict)
            )
            or (
                it.get("type") == "choices" and bool(it.get("choices")) and _is_texts(it["choices"])
            )
            or (it.get("type") == "regex" and isinstance(it.get("pattern"), str))
        )
    ),
)
ANYTHING: Final = Field("", lambda _: True)

_BOUND: Final = _whole(1, 10_000_000)
_RANGED: Final = {
    name: (
        _whole(int(one.low), int(one.high)) if one.kind == "integer" else _number(one.low, one.high)
    )
    for name, one in PARAMETERS.items()
    if one.sent and one.kind in ("integer", "number")
}
_SERVERS: Final = (
    "add_generation_prompt", "bad_words", "best_of", "cache_prompt", "chat_template",
    "chat_template_kwargs", "continue_final_message", "documents", "ebnf", "enable_thinking",
    "grammar", "guided_choice", "guided_grammar", "guided_json", "guided_regex", "ignore_eos",
    "include_reasoning", "json_schema", "keep_alive", "logits_processors", "min_tokens",
    "mirostat", "mirostat_eta", "mirostat_tau", "models", "n_predict", "options", "plugins",
    "priority", "provider", "reasoning", "regex", "repeat_last_n", "repeat_penalty", "safe_prompt",
    "separate_reasoning", "skip_special_tokens", "stop_token_ids", "structured_outputs", "think",
    "thinking", "top_a", "transforms", "typical_p", "usage", "use_beam_search",
)  # fmt: skip
"""What some servers take beside OpenAI's own fields."""

CHAT: Final[Mapping[str, Field]] = {
    **_RANGED,
    **dict.fromkeys(_SERVERS, ANYTHING),
    "audio": OBJECT,
    "conversation": TEXT,
    EXTRA: OBJECT,
    "function_call": CHOICE,
    "functions": OBJECTS,
    "logit_bias": OBJECT,
    "logprobs": FLAG,
    "max_completion_tokens": _BOUND,
    "max_tokens": _BOUND,
    "messages": ANYTHING,  # `messages` has words of its own
    "metadata": OBJECT,
    "modalities": LIST,
    "model": ANYTHING,
    "n": _whole(1, 128),
    "parallel_tool_calls": FLAG,
    "prediction": OBJECT,
    "prompt_cache_key": TEXT,
    "prompt_cache_retention": TEXT,
    "reasoning_effort": TEXT,
    "response_format": FORM,
    "safety_identifier": TEXT,
    "seed": _whole(-(2**63), 2**63 - 1),
    "service_tier": TEXT,
    "stop": STOP,
    "store": FLAG,
    "stream": FLAG,
    "stream_options": OBJECT,
    "tool_choice": CHOICE,
    "tools": OBJECTS,
    "top_logprobs": _whole(0, 20),
    "user": TEXT,
    "verbosity": TEXT,
    "web_search_options": OBJECT,
}

COMPLETIONS: Final[Mapping[str, Field]] = {
    **{name: field for name, field in CHAT.items() if name not in ("conversation", "messages")},
    "best_of": _whole(1, 128),
    "echo": FLAG,
    "logprobs": _whole(0, 20),
    "prompt": ANYTHING,
    "suffix": TEXT,
}

EMBEDDINGS: Final[Mapping[str, Field]] = {
    "dimensions": _whole(1, 100_000),
    "encoding_format": Field("float or base64", lambda it: it in ("float", "base64")),
    EXTRA: OBJECT,
    "input": ANYTHING,
    "input_type": TEXT,
    "model": ANYTHING,
    "priority": ANYTHING,
    "truncate_prompt_tokens": ANYTHING,
    "user": TEXT,
}

RERANK: Final[Mapping[str, Field]] = {
    "documents": ANYTHING,  # `reranking` has words of its own
    EXTRA: OBJECT,
    "max_chunks_per_doc": _BOUND,
    "max_tokens_per_doc": _BOUND,
    "model": ANYTHING,
    "priority": ANYTHING,
    "query": TEXT,
    "return_documents": FLAG,
    "top_n": _whole(1, 1_000_000),
    "truncate_prompt_tokens": ANYTHING,
    "truncation": ANYTHING,
    "user": TEXT,
}

RESPONSES: Final[Mapping[str, Field]] = {
    "background": FLAG,
    "conversation": ANYTHING,
    EXTRA: OBJECT,
    "include": LIST,
    "input": ANYTHING,
    "instructions": TEXT,
    "max_output_tokens": _BOUND,
    "max_tool_calls": _BOUND,
    "metadata": OBJECT,
    "model": ANYTHING,
    "parallel_tool_calls": FLAG,
    "previous_response_id": TEXT,
    "prompt": OBJECT,
    "prompt_cache_key": TEXT,
    "prompt_cache_retention": TEXT,
    "reasoning": OBJECT,
    "safety_identifier": TEXT,
    "service_tier": TEXT,
    "store": FLAG,
    "stream": FLAG,
    "stream_options": OBJECT,
    "temperature": CHAT["temperature"],
    "text": OBJECT,
    "tool_choice": CHOICE,
    "tools": OBJECTS,
    "top_logprobs": CHAT["top_logprobs"],
    "top_p": CHAT["top_p"],
    "truncation": TEXT,
    "user": TEXT,
}


def checked(body: Json, known: Mapping[str, Field]) -> dict[str, Any]:
    """The body without what is null, and with what `extra_body` adds. Raises InvalidInput."""
    made: dict[str, Any] = {}
    for name, value in body.items():
        field = known.get(name)
        if field is None:
            raise InvalidInput(_unknown(name, known), name[:80])
        if value is None:
            continue
        if not field.holds(value):
            raise InvalidInput(f"{name} is {field.expects}, not {_shown(value)}.", name)
        made[name] = value
    extra = made.pop(EXTRA, {})
    for name in extra:
        if name in ("model", "messages", "input", "prompt", "stream"):
            raise InvalidInput(f"{EXTRA}.{name}: this is no extra, it has its own place.", EXTRA)
    return {**made, **extra}


def model_of(body: Json) -> str:
    """The name of the model. Raises InvalidInput."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise InvalidInput("model is missing: the name of a model of the catalog.", "model")
    return name


def messages_of(body: Json) -> list[dict[str, Any]]:
    """The messages, each with a role and a content that can be read. Raises InvalidInput."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("messages must be a list with at least one message.", "messages")
    for number, message in enumerate(messages):
        _check_message(message, f"messages.{number}")
    return messages


def _check_message(message: Any, place: str) -> None:
    if not isinstance(message, dict):
        raise InvalidInput(f"{place} must be an object.", place)
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise InvalidInput(f"{place}.role is one of {', '.join(ROLES)}.", f"{place}.role")
    if content is None and role != "assistant":
        raise InvalidInput(f"{place}.content is missing.", f"{place}.content")
    if not isinstance(content, str | list | None):
        raise InvalidInput(f"{place}.content is a text or a list of parts.", f"{place}.content")
    for at, part in enumerate(content if isinstance(content, list) else ()):
        where = f"{place}.content.{at}"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidInput(f"{where}: a part is an object with a type.", where)
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise InvalidInput(f"{where}.text must be a text.", f"{where}.text")
    calls = message.get("tool_calls")
    if calls is not None and not OBJECTS.holds(calls):
        raise InvalidInput(f"{place}.tool_calls is a list of objects.", f"{place}.tool_calls")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise InvalidInput(f"{place}.tool_call_id is missing.", f"{place}.tool_call_id")


def _unknown(name: str, known: Iterable[str]) -> str:
    near = nearest(name[:80], known)
    if not near.startswith(". Did"):
        near = f". What only the model's server knows goes into {EXTRA}."
    return f"There is no field {_shown(name)}{near}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."
