"""What prompt, judge and candidates share: options, the conversation that is sent, asking again.

A column compiles its texts once into an `Exchange`. Messages without a template are the same for
all rows and go to the engine once, in the `RequestShape`; the others are slots. An answer that does
not fit is asked again as a conversation: the prompt, the answer (shortened), what is wrong with it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from wordmill.columns.answers import AnswerForm, Complaint, encodable
from wordmill.columns.base import Asker, Column, Context
from wordmill.columns.checks import Check, as_an_ai, refusal, refused
from wordmill.columns.sampling import Stream
from wordmill.columns.templates import (
    Expression,
    Template,
    compile_expression,
    compile_template,
)
from wordmill.errors import RecipeError
from wordmill.types import Answer, Ask, CellError, Message, Reply, RequestShape, Role, Row, Value

SHOWN_AGAIN = 2_000
"""So much of a bad answer is shown to the model when it is asked again, in characters."""

MOST_ITEMS = 64
"""So many answers one cell may have; a pairwise judge of them asks 64 * 63 times."""

_SALTS = 2**53 - 1


class Options(BaseModel):
    """Options inside the options of a column."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Turn(Options):
    """An example that comes before the prompt: what a user says and what is answered."""

    user: str
    assistant: str


class _Object(dict[str, Value]):
    """A JSON object that can be part of a dictionary key. Nobody changes it."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


class AnswerParameters(Options):
    """How a model answers, as OpenAI's API names it; a server may know fewer.

    extra: fields of a server's own, sent as they are (`chat_template_kwargs`, say).
    """

    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    stop: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=16)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    extra: dict[str, Value] = Field(default_factory=dict)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Value) -> Value:
        return (value,) if isinstance(value, str) else value

    @field_validator("extra")
    @classmethod
    def _nothing_of_ours(cls, extra: dict[str, Value]) -> dict[str, Value]:
        for name in extra:
            if name in _OURS or name in cls.model_fields:
                raise ValueError(
                    f"{name!r} is not for `extra`: {_OURS.get(name, 'write it above')}."
                )
        return extra

    def pairs(self) -> tuple[tuple[str, Value], ...]:
        """The given ones, hashable, in a fixed order."""
        given = self.model_dump(exclude={"extra"}, exclude_none=True)
        return tuple((name, _frozen(value)) for name, value in {**given, **self.extra}.items())


_OURS = {
    "model": "the column has the option `model`",
    "messages": "the column has `prompt`, `system` and `examples`",
    "response_format": "the column has the option `schema`",
    "stream": "a column takes whole answers",
    "n": "a column of type candidates has the option `n`",
    "seed": "it follows from the recipe's seed",
}


def _frozen(value: Value) -> Value:
    if isinstance(value, dict):
        return _Object({name: _frozen(part) for name, part in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


class Asking(Column):
    """A column that asks a model. Texts are templates, but for what is said to be none."""

    asks_model: ClassVar[bool] = True

    model: str | None = Field(default=None, min_length=1)
    """A name of the catalog; the recipe's where it is not given."""
    system: str | None = None
    examples: tuple[Turn, ...] = ()
    parameters: AnswerParameters = AnswerParameters()
    again: int = Field(default=2, ge=0, le=20)
    """How often an answer that does not fit is asked again."""
    reuse: bool = False
    """Rows with equal prompts share one answer."""

    def texts(self) -> Mapping[str, str]:
        """Every template of the column by the option that holds it."""
        return {where: text for _, where, text in _before(self, None)}

    def needs(self) -> frozenset[str]:
        """Names in any of the templates."""
        compiled = (compile_template(text, where) for where, text in self.texts().items())
        return frozenset[str]().union(*(template.names for template in compiled))

    def models(self) -> frozenset[str]:
        """The one that the column names, if any."""
        return frozenset((self.model,)) if self.model else frozenset()


# The conversation ----------------------------------------------------------------------------


class Exchange:
    """One question of a column: from a row to what is asked, from a reply to an answer.

    column, context: whose.  prompt: the template of the last message.  system: where the column
    names none.  schema: JSON text that the server is asked to follow.  after: said at the end of
    every prompt.  varies: `ask` adds something to single prompts.  checks: on what is answered.
    """

    def __init__(
        self,
        column: Asking,
        context: Context,
        prompt: tuple[str, str],
        *,
        system: str | None = None,
        schema: str | None = None,
        after: str = "",
        varies: bool = False,
        checks: Sequence[Check] = (),
    ) -> None:
        model = column.model or context.model
        if model is None:
            raise RecipeError(
                "it asks a model, and neither it nor the recipe names one. Write `model: NAME`, or "
                "run with --model NAME (`wordmill models list`).",
                f"columns.{context.name}",
            )
        self._after = f"\n\n{after}" if after else ""
        self._open = varies or _is_template(prompt[1])
        self._slots: list[Template] = []
        messages: list[Message] = []
        turns = list(_before(column, system))
        for role, where, text in (*turns, ("user", *prompt)):
            template = compile_template(text, where, context.parameters)
            last = len(messages) == len(turns)
            if self._open if last else _is_template(text):
                self._slots.append(template)
                messages.append(Message(role, None))
            else:
                messages.append(Message(role, str(template.render({})) + self._after * last))
        if not self._open and not prompt[1].strip():
            raise RecipeError("the prompt is empty.", f"columns.{context.name}.prompt")
        parameters = column.parameters.pairs()
        self.shape = RequestShape(model, tuple(messages), parameters, schema)
        self._repair = RequestShape(
            model,
            (*messages, Message("assistant", None), Message("user", None)),
            parameters,
            schema,
        )
        self._count = len(self._slots)
        self._again = column.again
        self._reuse = column.reuse
        self._salts = Stream(context.seed, context.name, "salt")
        self._most = column.parameters.max_tokens
        self._refusal = "refusal" in checks
        self._as_an_ai = "as_an_ai" in checks

    def ask(self, row: Row, item: int = 0, place: int = 0, after: str = "") -> Ask | CellError:
        """The first question about an item.

        item: as in `Ask`.  place: what tells the item apart from others of the row, for its salt.
        after: said at the end of this prompt.
        """
        texts: list[str] = []
        for template in self._slots:
            text = template.render(row)
            if isinstance(text, CellError):
                return text
            if not (text.isascii() or encodable(text)):
                return CellError("template", "the prompt holds half a surrogate pair")
            texts.append(text)
        if self._open:
            if not texts[-1] or texts[-1].isspace():
                return CellError("template", "the prompt is empty")
            texts[-1] += self._after + after
        return Ask(self.shape, tuple(texts), item, 0, self._salt(row["row"], place, 0))

    def read(
        self, row: Row, ask: Ask, reply: Reply, form: AnswerForm, place: int = 0
    ) -> Answer | Ask | CellError:
        """What a reply to one of our questions means; `place` as it was asked."""
        text = self._text(reply)
        if isinstance(text, CellError):
            return text
        if form.free and (fault := self._checked(text)):
            return fault
        value = form.read(text)
        if isinstance(value, Complaint):
            if self._refusal and not form.free and (fault := refused(text)):
                return fault
            return self._ask_again(row, ask, text, value, place)
        if self._as_an_ai and not form.free and (fault := as_an_ai(text)):
            return fault
        return Answer(value)

    def _text(self, reply: Reply) -> str | CellError:
        """The text of a reply, without reasoning and outer spaces."""
        if reply.error is not None:
            return CellError(reply.error, reply.detail)
        if reply.refusal:
            return refusal(reply.text)
        if reply.finish == "length":
            most = str(self._most) if self._most else "the default of the settings"
            return CellError("truncated", f"the answer reached max_tokens ({most})")
        if reply.finish == "content_filter":
            return CellError("refused", "the provider's content filter stopped the answer")
        text = reply.text
        if "think>" in text:
            text = without_reasoning(text)
        text = text.strip()
        if not text:
            return CellError("empty", "the answer holds no text")
        if "\0" in text:
            return CellError("invalid_text", "the answer holds a NUL character")
        if not (text.isascii() or encodable(text)):
            return CellError("invalid_text", "the answer holds half a surrogate pair")
        return text

    def _checked(self, text: str) -> CellError | None:
        """What free text says instead of answering.

        "As an AI, I cannot ..." is both, and goes by what it begins with.
        """
        fault = None
        if self._as_an_ai and text[:4].lower() == "as a":
            fault = as_an_ai(text)
        if fault is None and self._refusal:
            fault = refused(text)
        if fault is None and self._as_an_ai:
            fault = as_an_ai(text)
        return fault

    def _ask_again(
        self, row: Row, ask: Ask, text: str, complaint: Complaint, place: int
    ) -> Ask | CellError:
        if ask.tries >= self._again:
            return complaint.error
        shown = text if len(text) <= SHOWN_AGAIN else f"{text[:SHOWN_AGAIN]} [...]"
        tries = ask.tries + 1
        return Ask(
            self._repair,
            (*ask.texts[: self._count], shown, complaint.words),
            ask.item,
            tries,
            self._salt(row["row"], place, tries),
            complaint.error,
        )

    def _salt(self, row: int, place: int, tries: int) -> int:
        """Equal questions of different cells and tries get different answers, unless `reuse`."""
        if self._reuse:
            return tries
        return self._salts.word(row << 18 | place << 6 | tries) % _SALTS + 1


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text or "{#" in text


def _before(column: Asking, system: str | None) -> Iterator[tuple[Role, str, str]]:
    """What is said before the prompt: role, option, template."""
    if column.system is not None or system is not None:
        yield "system", "system", column.system if column.system is not None else system or ""
    for number, turn in enumerate(column.examples):
        yield "user", f"examples[{number}].user", turn.user
        yield "assistant", f"examples[{number}].assistant", turn.assistant


def without_reasoning(text: str) -> str:
    """A text without what stands between <think> and </think> at its beginning.

    Some servers leave out the opening tag; one that is never closed leaves nothing.
    """
    start = text.lstrip()
    if start.startswith("<think>"):
        return start.partition("</think>")[2]
    before, tag, after = text.partition("</think>")
    return after if tag and "<think>" not in before else text


# The form of an answer, which may differ by row ------------------------------------------------


class FormFor:
    """The form that answers must have: here, the same for all rows."""

    def __init__(self, form: AnswerForm) -> None:
        self._form = form

    def of(self, row: Row) -> AnswerForm | CellError:
        """The form for a row."""
        return self._form

    def instruction(self, row: Row) -> str | CellError:
        """What the prompt of this row says about it, if that differs by row."""
        return ""


# Items of another column ----------------------------------------------------------------------


def made_items(items: Value) -> list[int]:
    """The places of a linked table's items that were made: objects without an `error`."""
    if not isinstance(items, list):
        return []
    return [
        place
        for place, item in enumerate(items)
        if isinstance(item, dict) and item.get("error") is None
    ]


class ForEach(Asker):
    """Asks once for each item of another column, and lines the values up with the items."""

    def __init__(self, exchange: Exchange, each: str, form: FormFor) -> None:
        self._exchange, self._each, self._form = exchange, each, form

    def asks(self, row: Row) -> list[Ask] | CellError:
        """One question an item that was made; items are numbered among these."""
        items, asks = row[self._each], []
        for number, place in enumerate(made_items(items)):
            within = {**row, "item": items[place]}
            after = self._form.instruction(within)
            if isinstance(after, CellError):
                return after
            ask = self._exchange.ask(within, number, place, after)
            if isinstance(ask, CellError):
                return CellError(ask.cause, f"item {place}: {ask.detail}")
            asks.append(ask)
        return asks

    def take(self, row: Row, ask: Ask, reply: Reply) -> Answer | Ask | CellError:
        """As `Exchange.read`."""
        items = row[self._each]
        place = made_items(items)[ask.item]
        form = self._form.of({**row, "item": items[place]})
        if isinstance(form, CellError):
            return form
        return self._exchange.read(row, ask, reply, form, place)

    def finish(self, row: Row, items: Sequence[Answer | CellError]) -> Value | CellError:
        """A list as long as the other column's; null where nothing was made."""
        if items and all(isinstance(item, CellError) for item in items):
            return items[0]
        if not isinstance(row[self._each], list):
            return None
        values: list[Value] = [None] * len(row[self._each])
        for place, item in zip(made_items(row[self._each]), items, strict=True):
            values[place] = item.value if isinstance(item, Answer) else None
        return values


def each_schema(schema: Mapping[str, Any], each: str | None) -> Mapping[str, Any]:
    """The schema of a column's value from that of one answer."""
    if each is None:
        return schema
    return {"type": "array", "items": {"anyOf": [schema, {"type": "null"}]}}


_BRACES = re.compile(r"\s*\{\{(.*)\}\}\s*", re.DOTALL)


def expression_of(
    text: str, where: str, parameters: Mapping[str, Value] | None = None
) -> Expression:
    """The expression of a text that is one pair of braces: `{{ parameters.levels }}`.

    Raises RecipeError for any other text.
    """
    found = _BRACES.fullmatch(text)
    if not found or "}}" in found[1] or "{{" in found[1]:
        raise RecipeError(
            f"{text!r} must be one expression in braces, as in {{{{ parameters.name }}}}.", where
        )
    return compile_expression(found[1].strip(), where, parameters)
