"""Bodies of requests, checked, and what they ask of an engine.

OpenAI's fields, and the ways of decoding beyond them by the names that transformers gives. A field
that a worker does not know is refused by its name: what is ignored in silence is believed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wordmill.backends.base import Facts, Form, Sampling, refuse
from wordmill.backends.calls import called
from wordmill.errors import InvalidInput
from wordmill.model_server.types import ANSWERS

Json: TypeAlias = dict[str, Any]
Probability = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Token = Annotated[int, Field(ge=0, lt=2**31)]

COLDEST: Final = 1e-5
"""Temperatures below it are 0: the logits divided by them are no numbers any more."""

_FREE: Final = Form("json")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)

    model: str = ""
    user: str | None = None


Body = TypeVar("Body", bound=_Body)


class Ways(_Body):
    """What chat and completions have in common."""

    stream: bool = False
    stream_options: dict[str, bool] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Probability | None = None
    typical_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=64)] | None = None
    num_beams: Annotated[int, Field(ge=1, le=16)] | None = None
    num_beam_groups: Annotated[int, Field(ge=1, le=16)] | None = None
    diversity_penalty: Annotated[float, Field(ge=0, le=100)] | None = None
    length_penalty: Annotated[float, Field(ge=-10, le=10)] | None = None
    n: Annotated[int, Field(ge=1, le=ANSWERS)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    response_format: dict[str, Any] | None = None
    ignore_eos: bool = False

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(one for one in stops if one)


class Chat(Ways):
    """`/v1/chat/completions`."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None


class Completion(Ways):
    """`/v1/completions`."""

    prompt: str | list[Token] | list[str]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Literal[False] = False
    suffix: None = None
    best_of: Literal[1] | None = None


class Embeddings(_Body):
    """`/v1/embeddings`."""

    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None

    @property
    def texts(self) -> list[str]:
        """What is to be embedded."""
        return [self.input] if isinstance(self.input, str) else self.input


def _text(given: Any) -> Any:
    """Of a document that is an object, its text."""
    return given.get("text", given) if isinstance(given, Mapping) else given


class Rerank(_Body):
    """`/v1/rerank`."""

    query: str
    documents: Annotated[list[Annotated[str, BeforeValidator(_text)]], Field(min_length=1)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool = False


class Tokenize(_Body):
    """`/tokenize`: of messages, or of a text."""

    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    text: str | None = None


def read(kind: type[Body], raw: bytes) -> Body:
    """A body. Raises InvalidInput with a sentence for the first thing wrong with it."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            raise InvalidInput(
                f"This model server does not know the field `{name}`. Leave it out.", name
            ) from error
        if fault["type"] == "json_invalid":
            raise InvalidInput("The body is not JSON.") from error
        raise InvalidInput(f"The field `{name}` is wrong: {fault['msg']}.", name) from error


def sampling(facts: Facts, body: Ways, prompt: int, forced: Form | None = None) -> Sampling:
    """How an answer is made. prompt: its tokens.  forced: a form that `tool_choice` sets.

    Raises InvalidInput for what the engine cannot do and for what does not fit the window.
    """
    most = body.max_tokens
    if isinstance(body, Chat) and body.max_completion_tokens is not None:
        most = body.max_completion_tokens
    # What its makers say holds where the request says nothing, and where the engine can do it.
    beams = (body.num_beams or 1) > 1
    ways = {name: value for name, value in facts.ways.items() if name in facts.modes and not beams}

    def chosen(name: str, neutral: float) -> float:
        value = getattr(body, name)
        return float(ways.get(name, neutral) if value is None else value)

    heat = chosen("temperature", 1.0)
    made = Sampling(
        max_tokens=_room(facts.context, prompt, most),
        temperature=0.0 if heat < COLDEST else heat,
        top_k=max(0, int(chosen("top_k", 0))),
        top_p=chosen("top_p", 1.0) or 1e-6,
        min_p=chosen("min_p", 0.0),
        typical_p=chosen("typical_p", 1.0) or 1e-6,
        repetition_penalty=chosen("repetition_penalty", 1.0),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        no_repeat_ngram_size=body.no_repeat_ngram_size or 0,
        num_beams=body.num_beams or 1,
        num_beam_groups=body.num_beam_groups or 1,
        diversity_penalty=body.diversity_penalty or 0.0,
        length_penalty=1.0 if body.length_penalty is None else body.length_penalty,
        seed=body.seed,
        logprobs=_logprobs(body),
        logit_bias=_bias(body.logit_bias),
        form=forced or form(body.response_format),
        ends=frozenset() if body.ignore_eos else facts.ends,
    )
    refuse(facts, made)
    if made.num_beams > 1:
        beside = {
            "temperature": bool(body.temperature),
            "top_k": made.top_k > 0,
            "top_p": made.top_p < 1,
            "min_p": made.min_p > 0,
            "typical_p": made.typical_p < 1,
            "logprobs": made.logprobs is not None,
            "response_format": made.form is not None,
        }
        for name, given in beside.items():
            if given:
                raise InvalidInput(f"Beam search draws nothing: it goes without `{name}`.", name)
        made = replace(made, temperature=0.0)
    return made


def each(way: Sampling, count: int) -> list[Sampling]:
    """A way for each of several answers to one request: with seeds that follow one another."""
    if count == 1:
        return [way]
    if way.greedy or way.num_beams > 1:
        raise InvalidInput("`n` above 1 needs sampling: every answer would be the same.", "n")
    if way.seed is None:
        return [way] * count
    return [replace(way, seed=way.seed + number) for number in range(count)]


def _room(context: int, prompt: int, most: int | None) -> int:
    left = context - prompt
    if left < 1:
        raise InvalidInput(
            f"The prompt has {prompt} tokens, and the model's context window is {context}: nothing "
            "is left for an answer. Shorten the conversation.",
            "messages",
        )
    if most is not None and most > left:
        raise InvalidInput(
            f"The prompt has {prompt} tokens and the answer may have {most}: together more than "
            f"the model's window of {context}. Ask for at most {left}, or shorten the prompt.",
            "max_tokens",
        )
    return left if most is None else most


def _logprobs(body: Ways) -> int | None:
    if isinstance(body, Chat):
        if body.top_logprobs is not None and not body.logprobs:
            raise InvalidInput("`top_logprobs` needs `logprobs`: true.", "top_logprobs")
        return (body.top_logprobs or 0) if body.logprobs else None
    return body.logprobs if isinstance(body, Completion) else None


def _bias(asked: Mapping[str, float] | None) -> dict[int, float]:
    try:
        made = {int(token): value for token, value in (asked or {}).items()}
    except ValueError as error:
        raise InvalidInput(
            "The names in `logit_bias` are numbers of tokens.", "logit_bias"
        ) from error
    if any(not 0 <= token < 2**31 for token in made):
        raise InvalidInput("A token of `logit_bias` is below 0 or too large.", "logit_bias")
    return made


def form(asked: Mapping[str, Any] | None) -> Form | None:
    """What `response_format` asks for: OpenAI's, and `choices` and `regex` beside them."""
    if not asked:
        return None
    kind = asked.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return _FREE
    if kind == "json_schema":
        held = asked.get("json_schema")
        schema = held.get("schema") if isinstance(held, Mapping) else None
        if isinstance(schema, Mapping | bool):
            return Form("json_schema", json.dumps(schema))
    choices = asked.get("choices")
    texts = isinstance(choices, list) and all(isinstance(one, str) and one for one in choices)
    if kind == "choices" and choices and texts:
        return Form("choices", json.dumps(choices))
    if kind == "regex" and isinstance(asked.get("pattern"), str):
        return Form("regex", str(asked["pattern"]))
    raise InvalidInput(
        '`response_format` is {"type": "text"}, {"type": "json_object"}, {"type": "json_schema", '
        '"json_schema": {"schema": ...}}, {"type": "choices", "choices": [...]} or {"type": '
        '"regex", "pattern": "..."}.',
        "response_format",
    )


def messages(asked: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Messages as chat templates want them. Raises InvalidInput for what a model cannot read."""
    return [_message(one, f"messages.{number}") for number, one in enumerate(asked)]


def _message(one: Mapping[str, Any], name: str) -> Json:
    role = one.get("role")
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise InvalidInput(f"The role of `{name}` is {role!r}.", name)
    made: Json = {"role": "system" if role == "developer" else role, "content": ""}
    content = one.get("content")
    if isinstance(content, str):
        made["content"] = content
    elif isinstance(content, list):
        for part in content:
            if not isinstance(part, Mapping) or part.get("type") != "text":
                kind = part.get("type") if isinstance(part, Mapping) else part
                raise InvalidInput(
                    f"`{name}` has a part of the type {kind!r}; this model reads text alone.", name
                )
            made["content"] += str(part.get("text", ""))
    elif content is not None:
        raise InvalidInput(f"The content of `{name}` is no text.", name)
    if one.get("tool_calls"):
        made["tool_calls"] = called(one["tool_calls"], name)
    for key in ("name", "tool_call_id"):
        if isinstance(one.get(key), str):
            made[key] = one[key]
    return made


def forced(body: Chat) -> Form | None:
    """The form of an answer that must call a tool; None where it may choose.

    Raises InvalidInput for a tool that is not among those given.
    """
    choice = body.tool_choice
    if choice in (None, "auto", "none"):
        return None
    tools = {str(one.get("function", {}).get("name")): one for one in body.tools or []}
    if isinstance(choice, Mapping):
        name = str(choice.get("function", {}).get("name"))
        if name not in tools:
            raise InvalidInput(f"`tool_choice` names {name!r}, which is no tool.", "tool_choice")
        tools = {name: tools[name]}
    elif choice != "required" or not tools:
        raise InvalidInput(
            f"`tool_choice` is {choice!r}; with tools it is auto, none, required "
            "or a tool by name.",
            "tool_choice",
        )
    each = [
        {
            "type": "object",
            "properties": {
                "name": {"const": name},
                "arguments": one.get("function", {}).get("parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, one in tools.items()
    ]
    return Form("json_schema", json.dumps(each[0] if len(each) == 1 else {"anyOf": each}))
