"""Any server that speaks OpenAI's API, also those that speak only most of it.

Requests are made in a `Dialect` that starts from the preset and what the catalog says the server
lacks, and grows simpler with each refusal. What a server cannot be told in a field (a schema, a
system message) goes into the messages, so that a recipe means the same everywhere.
"""

import json
from threading import Lock

from wordmill.errors import ConfigError
from wordmill.providers.base import (
    Degraded,
    KeySource,
    Model,
    Probe,
    Provider,
    Trial,
    no_keys,
)
from wordmill.providers.dialect import BOUNDS, FORMS, Dialect, closed
from wordmill.providers.presets import preset_of
from wordmill.secrets import scrub
from wordmill.settings import Settings
from wordmill.types import Message, RequestShape, Value

PATHS = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
    "rerank": "/rerank",
    "responses": "/responses",
}

SLOT = "\0"
"""A text that each request fills, as the engine marks it."""

SCHEMA_PROMPT = (
    "Answer with one JSON value that follows this JSON schema, and with nothing else:\n{schema}"
)


class OpenAI(Provider):
    """Chat, embeddings, reranking and other JSON paths of an OpenAI-compatible server."""

    def __init__(self, model: Model, settings: Settings, keys: KeySource = no_keys) -> None:
        super().__init__(model, settings, keys)
        preset = preset_of(model.provider, model.base_url)
        self._first = (preset.dialect if preset else Dialect()).lacking(model.without)
        self._dialect = self._first
        self._lock = Lock()

    @property
    def dialect(self) -> Dialect:
        """What is asked for now."""
        return self._dialect

    def path(self, kind: str) -> str:
        """Below the base URL, e.g. "/chat/completions" for `chat`."""
        if kind in PATHS:
            return PATHS[kind]
        if not kind.startswith("/") or ".." in kind or set(kind) & set("?#\\ ") or "//" in kind:
            raise ConfigError(
                f"{kind!r} is no path of an API: it is one of {', '.join(PATHS)}, "
                'or begins with "/" and goes below the base URL.'
            )
        return kind

    def body(self, shape: RequestShape) -> dict[str, Value]:
        """The request as JSON, in the dialect of now."""
        return self._body(shape, self._dialect)

    def degrade(
        self, shape: RequestShape, detail: str, sent: Dialect | None = None
    ) -> Degraded | None:
        """What to ask instead of what was refused."""
        with self._lock:
            now = self._dialect
            asked = sent or now
            step = self._simpler(shape, detail, asked)
            if step is None and sent is None:
                # The caller does not say in which dialect it was asked: perhaps in the first one.
                asked = self._first
                step = self._simpler(shape, detail, asked)
            if step is None:
                return None
            if asked != now:
                if _learnt(now, asked, step[0], shape.schema):
                    return Degraded(now, "")
                step = self._simpler(shape, detail, now)
                if step is None:
                    return Degraded(now, "")
            self._dialect, what = step
            return Degraded(self._dialect, self._sentence(what, detail))

    def probe(self) -> Probe:
        """Ask for the list of models."""
        from wordmill.providers import trial

        return trial.probe(self)

    def test(self) -> Trial:
        """Ask one small question, and explain what went wrong."""
        from wordmill.providers import trial

        return trial.test(self)

    def _simpler(
        self, shape: RequestShape, detail: str, dialect: Dialect
    ) -> tuple[Dialect, str] | None:
        from wordmill.providers.refusals import simpler

        body = {"seed": 0, **self._body(shape, dialect)}
        if not dialect.seed:
            del body["seed"]
        return simpler(dialect, body, shape.schema, detail)

    def _sentence(self, what: str, detail: str) -> str:
        from wordmill.providers.refusals import spoken

        words = scrub(" ".join(spoken(detail).split()), self.secrets())
        shown = words if len(words) <= 160 else words[:160] + "..."
        return (
            f"{self.model.name}: the server refused {what}, so the run goes on without it "
            f"(its words: {shown})"
        )

    def _body(self, shape: RequestShape, dialect: Dialect) -> dict[str, Value]:
        fields = dict(shape.parameters)
        given = [fields.pop(name) for name in BOUNDS if name in fields]
        bound = next((value for value in given if value is not None), self._default_bound())
        body: dict[str, Value] = {dialect.bound: bound, **fields}
        messages = shape.messages
        if shape.schema is not None:
            form = dialect.form_of(shape.schema)
            if form in ("json_object", "prompt"):
                messages = _with_schema(messages, shape.schema)
            if form == "json_object":
                body["response_format"] = {"type": "json_object"}
            elif form != "prompt":
                body["response_format"] = _response_format(shape.schema, form == "strict")
        if shape.tools is not None:
            body["tools"] = json.loads(shape.tools)
        body = {name: value for name, value in body.items() if name not in dialect.without}
        if self._first.seed and not dialect.seed:
            body["seed"] = None  # the lane was told to send one; null tells the engine not to
        return {"messages": _written(messages, dialect), **body}

    def _default_bound(self) -> int:
        bound = self.settings.default_max_tokens
        # Half a small window is left to the prompt.
        return min(bound, max(1, self.model.context // 2)) if self.model.context else bound


def _learnt(now: Dialect, asked: Dialect, after: Dialect, schema: str | None) -> bool:
    """Whether `now` already goes without what a refusal took from `asked` to make `after`."""
    if schema is not None and after.form_of(schema) != asked.form_of(schema):
        return FORMS.index(now.form_of(schema)) > FORMS.index(asked.form_of(schema))
    return (
        now.without >= after.without
        and now.seed <= after.seed
        and now.system <= after.system
        and now.parts <= after.parts
    )


def _response_format(schema: str, strict: bool) -> Value:
    parsed = json.loads(schema)
    described: dict[str, Value] = {"name": "answer", "schema": parsed}
    if strict:
        described |= {"schema": closed(parsed), "strict": True}
    return {"type": "json_schema", "json_schema": described}


def _with_schema(messages: tuple[Message, ...], schema: str) -> tuple[Message, ...]:
    """The schema in words, after the system messages and before the conversation."""
    words = Message("system", SCHEMA_PROMPT.format(schema=schema))
    at = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    return (*messages[:at], words, *messages[at:])


def _written(messages: tuple[Message, ...], dialect: Dialect) -> list[Value]:
    """The messages as JSON: neighbours of one role are one message, in parts where they must be.

    Many servers take only one system message, at the start, and want users and assistants to take
    turns. A slot must stay a string of its own, so what joins it stands in a part beside it.
    """
    groups: list[tuple[str, list[str]]] = []
    for role, text in messages:
        written = "user" if role == "system" and not dialect.system else role
        content = SLOT if text is None else text
        if groups and groups[-1][0] == written:
            texts = groups[-1][1]
            if SLOT in (texts[-1], content):
                texts.append(content)
            else:
                texts[-1] += "\n\n" + content
        else:
            groups.append((written, [content]))
    result: list[Value] = []
    for speaker, texts in groups:
        if len(texts) > 1 and dialect.parts:
            parts = [{"type": "text", "text": text} for text in texts]
            result.append({"role": speaker, "content": parts})
        else:
            result += [{"role": speaker, "content": text} for text in texts]
    return result
