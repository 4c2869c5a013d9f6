"""What the words of a refusal mean: which part of a request a server did not take.

Servers refuse in their own words. Those matched here were collected from the servers and from
their issue trackers: OpenAI, Mistral, Gemini, Groq, DeepSeek, vLLM, llama.cpp, LM Studio, servers
on pydantic, serde and Go. Whatever is not understood stands as an error with the server's words.

Imported when the first request of a run is refused, and not before.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from wordmill.providers.dialect import BOUNDS, Dialect
from wordmill.types import Value

_KEPT = frozenset({"model", "messages", "tools", "tool_choice", "n", "stream", "input", "prompt"})
"""Without these it would be another request."""


def simpler(
    dialect: Dialect, body: Mapping[str, Value], schema: str | None, detail: str
) -> tuple[Dialect, str] | None:
    """The dialect without what the server refused, and what was refused, in words.

    body: as it was sent in `dialect`, `seed` included.  schema: the request's, canonical.
    detail: the server's words, or the JSON of its answer, possibly cut off.
    Returns None when the words refuse nothing that can be left out.
    """
    words = " ".join(_words(detail))
    found = _schema(dialect, body, schema, words)
    if found is None:
        found = _bound(dialect, body, words)
    if found is None:
        found = _messages(dialect, body, words)
    if found is None:
        found = _fields(dialect, body, detail, words)
    return found


_REFUSES = re.compile(
    r"""(?ix) unrecogni[sz]ed | unknown | unsupported | (?:not|n't|never)\ (?:\w+\ )?support
    | unexpected | not\ permitted | not\ allowed | forbid | cannot\ find | not\ enabled
    | unavailable | not\ available | not\ recogni[sz]ed | not\ implemented | invalid\ name
    """
)
_SUGGESTS = re.compile(
    r"(?i)(?:expected one of|supported (?:parameters|fields|values) are|did you mean|use ['`\"]).*"
)


def _refuses(words: str) -> bool:
    return _REFUSES.search(words) is not None


def _names(words: str, name: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", words) is not None


def _schema(
    dialect: Dialect, body: Mapping[str, Value], schema: str | None, words: str
) -> tuple[Dialect, str] | None:
    if "response_format" not in body or schema is None:
        return None
    about = re.search(
        r"(?i)response[_ ]format|json[_ ]schema|json[_ ]object|json[_ ]mode|structured[_ ]output"
        r"|guided|grammar|schema",
        words,
    )
    if about is None:
        return None
    form = dialect.form_of(schema)
    this_one = re.search(
        r"(?i)invalid schema|in context|schema must|invalid json schema|failed to parse|grammar"
        r"|is not (?:supported|permitted) in|keyword|\$ref|additionalProperties|minItems|strict",
        words,
    )
    if this_one is not None and form in ("strict", "json_schema"):
        after = dialect.weaken(schema)
        if after is not None:
            return after, f"this schema as `{form}`"
    if form == "json_object":
        return replace(dialect, json_object=False), "`json_object`"
    return replace(dialect, form="json_object"), "`json_schema`"


def _bound(dialect: Dialect, body: Mapping[str, Value], words: str) -> tuple[Dialect, str] | None:
    """max_tokens <-> max_completion_tokens, once: a bound is always sent."""
    other = BOUNDS[1 - BOUNDS.index(dialect.bound)]
    if dialect.bound not in body or other in dialect.without or not _refuses(words):
        return None
    if not _names(_SUGGESTS.sub("", words), dialect.bound):
        return None
    return (
        replace(dialect, bound=other, without=dialect.without | {dialect.bound}),
        f"`{dialect.bound}`",
    )


def _messages(
    dialect: Dialect, body: Mapping[str, Value], words: str
) -> tuple[Dialect, str] | None:
    messages = body.get("messages", [])
    in_parts = any(isinstance(message.get("content"), list) for message in messages)
    if in_parts and re.search(
        r"(?i)content.{0,80}(?:must be a string|valid string|expected (?:a )?string)"
        r"|(?:expected|invalid type).{0,40}(?:string|sequence|array).{0,60}content"
        r"|(?:list|array|parts|multi-?modal|image).{0,60}(?:not support|unsupported)",
        words,
    ):
        return replace(dialect, parts=False), "content as parts"
    if any(message.get("role") == "system" for message in messages) and re.search(
        r"(?i)(?:system|developer)\W{0,3} (?:role|message|prompt|instruction)s?.{0,40}"
        r"(?:n[o']t |un)(?:support|enabled|allowed|permitted)"
        r"|role.{0,60}does not support.{0,12}system"
        r"|(?:un(?:known|supported|expected)|invalid) role\W{1,4}system"
        r"|only user(?:,| and) assistant roles|roles must alternate",
        words,
    ):
        return replace(dialect, system=False), "the system role"
    return None


def _fields(
    dialect: Dialect, body: Mapping[str, Value], detail: str, words: str
) -> tuple[Dialect, str] | None:
    """Top-level fields that the server does not know, or not with another value than its own."""
    droppable = [name for name in body if name not in _KEPT and name not in BOUNDS]
    named = set(_located(detail))
    if _refuses(words):
        told = _SUGGESTS.sub("", words)
        named |= {name for name in droppable if _names(told, name)}
    refused = sorted(named.intersection(droppable))
    if not refused:
        return None
    after = replace(
        dialect,
        seed=dialect.seed and "seed" not in refused,
        without=dialect.without | frozenset(refused),
    )
    return after, ", ".join(f"`{name}`" for name in refused)


def _parsed(detail: str) -> Value:
    """The JSON of an error, where there is some: the engine writes `HTTP 422: {...} (type)`."""
    text = _STATUS.sub("", detail)
    if text[:1] not in ("{", "["):
        return text
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return text
    return value


def spoken(detail: str) -> str:
    """What a server said to people, out of the JSON that its words may be."""
    parsed = _parsed(detail)
    found = [text for key, text in _texts(parsed) if key in ("message", "msg")]
    return "; ".join(found) or (parsed if isinstance(parsed, str) else detail)


def _words(detail: str) -> Iterator[str]:
    return (text for _, text in _texts(_parsed(detail)))


def _texts(value: Value, under: str = "") -> Iterator[tuple[str, str]]:
    """All texts of an error, each with the key it stands under, in order."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("input", "ctx", "url"):  # they give back what was sent
                yield from _texts(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, under)
    elif isinstance(value, str):
        inner = _parsed(value)
        if isinstance(inner, str):
            yield under, inner
        else:
            yield from _texts(inner, under)


_STATUS = re.compile(r"^HTTP \d{3}: ")
_LOCATION = re.compile(r"""["']loc["']\s*:\s*[\[(]\s*["']body["']\s*,\s*["'](\w+)["']\s*[\])]""")
_FORBIDDEN = re.compile(r"(?i)extra_forbidden|extra (?:inputs|fields) (?:are )?not permitted")


def _located(detail: str) -> Iterator[str]:
    """Fields that pydantic's way of saying it names: {"type": "extra_forbidden", "loc": [...]}."""
    if _FORBIDDEN.search(detail):
        yield from _LOCATION.findall(detail.replace('\\"', '"'))
