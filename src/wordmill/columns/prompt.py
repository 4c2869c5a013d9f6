"""`prompt`: a model's answer as free text, as one of given choices, or as JSON by a schema."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, Field, field_validator, model_validator

from wordmill.columns.answers import AnswerForm, BySchema, FreeText, OneOf, told
from wordmill.columns.asking import (
    Asking,
    Exchange,
    ForEach,
    FormFor,
    each_schema,
    expression_of,
)
from wordmill.columns.base import Asker, Column, Context
from wordmill.columns.checks import Check
from wordmill.columns.templates import Expression
from wordmill.types import Answer, Ask, CellError, Reply, Row, Value

Choice: TypeAlias = str | int | float | bool


class Formed(Asking):
    """A column whose answers may be held to a form: `choices` or `schema`."""

    choices: tuple[Choice, ...] | str | None = None
    """The answers that are allowed, or `{{ an expression }}` for a list of them."""
    answer_schema: dict[str, Value] | None = Field(default=None, alias="schema")
    """A JSON schema; in Python also a pydantic model, of which the schema is taken."""
    checks: tuple[Check, ...] | None = None
    """Both for free text; only `refusal` with choices or a schema."""

    @field_validator("answer_schema", mode="before")
    @classmethod
    def _schema_of_model(cls, value: Value) -> Value:
        if isinstance(value, type) and issubclass(value, BaseModel):
            return value.model_json_schema()
        return value

    @field_validator("answer_schema")
    @classmethod
    def _compiles(cls, value: dict[str, Value] | None) -> dict[str, Value] | None:
        if value is not None:
            BySchema(value)
        return value

    @field_validator("choices")
    @classmethod
    def _differ(cls, value: tuple[Choice, ...] | str | None) -> tuple[Choice, ...] | str | None:
        if isinstance(value, tuple):
            if len(value) < 2:
                raise ValueError("there must be at least two choices.")
            written = [told(choice) for choice in value]
            for text in written:
                if written.count(text) > 1:
                    raise ValueError(f"two choices are written {text!r}.")
        return value

    @model_validator(mode="after")
    def _one_form(self) -> "Formed":
        if self.choices is not None and self.answer_schema is not None:
            raise ValueError("`choices` and `schema` exclude each other: an `enum` does both.")
        return self

    def needs(self) -> frozenset[str]:
        """Names in the templates and in an expression for the choices."""
        names = super().needs()
        if isinstance(self.choices, str):
            names |= expression_of(self.choices, "choices").names
        return names

    def identity(self) -> Value:
        """With the order of the keys in the schema, which the request keeps."""
        written = self.written()
        if self.answer_schema is not None:
            written["schema"] = BySchema(self.answer_schema).text
        return written

    def active_checks(self) -> tuple[Check, ...]:
        """The checks, by default those that suit the form."""
        if self.checks is not None:
            return self.checks
        formed = self.choices is not None or self.answer_schema is not None
        return ("refusal",) if formed else ("refusal", "as_an_ai")

    def form_for(self, context: Context) -> FormFor:
        """The form of the answers."""
        if isinstance(self.choices, str):
            return _ChoicesByRow(expression_of(self.choices, "choices", context.parameters))
        return FormFor(self.form())

    def form(self) -> AnswerForm:
        """The form where it is the same for all rows."""
        if self.answer_schema is not None:
            return BySchema(self.answer_schema)
        return OneOf(self.choices) if isinstance(self.choices, tuple) else FreeText()

    def answer(self) -> Mapping[str, Any]:
        """JSON schema of one answer."""
        if self.answer_schema is not None:
            return self.answer_schema
        if isinstance(self.choices, tuple):
            kinds = {type(choice) for choice in self.choices}
            named = {str: "string", int: "integer", float: "number", bool: "boolean"}
            (kind,) = kinds if len(kinds) == 1 else (None,)
            return {"type": named[kind]} if kind else {}
        return {"type": "string"} if self.choices is None else {}


class _ChoicesByRow(FormFor):
    """Choices that an expression gives."""

    def __init__(self, expression: Expression) -> None:
        super().__init__(FreeText())
        self._expression = expression
        self._last: tuple[Value, OneOf] = ([], OneOf(()))

    def of(self, row: Row) -> OneOf | CellError:
        """The choices of a row."""
        value = self._expression.evaluate(row)
        if isinstance(value, CellError):
            return value
        choices, form = self._last
        if value == choices and value:
            return form
        if not isinstance(value, list) or len(value) < 2 or not all(map(_simple, value)):
            return CellError("template", f"choices: {value!r} is no list of two or more values")
        form = OneOf(value)
        self._last = (value, form)
        return form

    def instruction(self, row: Row) -> str | CellError:
        """The choices of a row, for its prompt."""
        form = self.of(row)
        return form if isinstance(form, CellError) else f"\n\n{form.instruction()}"


def _simple(value: Value) -> bool:
    return isinstance(value, str | int | float | bool)


class Prompt(Formed):
    """A model's answer to a prompt.

    type: prompt
    prompt: "A {{ mood }} customer writes about a {{ product }}."
    """

    type: Literal["prompt"] = "prompt"
    prompt: str = Field(kw_only=False, min_length=1)
    each: str | None = None
    """A candidates column: asked once for each of its items, which templates see as `item`."""

    def texts(self) -> Mapping[str, str]:
        """The prompt too."""
        return {**super().texts(), "prompt": self.prompt}

    def needs(self) -> frozenset[str]:
        """What the templates name, and the column with the items."""
        return super().needs() | ({self.each} if self.each else frozenset())

    def prepare(self, context: Context) -> Asker:
        """An Asker with one question a row, or one an item."""
        form = self.form_for(context)
        fixed = self.form()
        exchange = Exchange(
            self,
            context,
            ("prompt", self.prompt),
            schema=fixed.text if isinstance(fixed, BySchema) else None,
            after=fixed.instruction() if isinstance(fixed, OneOf) else "",
            varies=isinstance(self.choices, str),
            checks=self.active_checks(),
        )
        return ForEach(exchange, self.each, form) if self.each else _Asker(exchange, form)

    def requests_per_row(
        self, parameters: Mapping[str, Value], columns: Mapping[str, Column]
    ) -> float:
        """One, or one an item."""
        return float(columns[self.each].items_per_row(parameters, columns)) if self.each else 1.0

    def value_schema(self) -> Mapping[str, Any]:
        """Text, the choices' type, or the schema; a list of these with `each`."""
        return each_schema(self.answer(), self.each)

    def joins(self) -> str | None:
        """The column with the items, if there is one."""
        return self.each


class _Asker(Asker):
    """One question a row."""

    def __init__(self, exchange: Exchange, form: FormFor) -> None:
        self._exchange, self._form = exchange, form

    def asks(self, row: Row) -> list[Ask] | CellError:
        after = self._form.instruction(row)
        if isinstance(after, CellError):
            return after
        ask = self._exchange.ask(row, after=after)
        return ask if isinstance(ask, CellError) else [ask]

    def take(self, row: Row, ask: Ask, reply: Reply) -> Answer | Ask | CellError:
        form = self._form.of(row)
        if isinstance(form, CellError):
            return form
        return self._exchange.read(row, ask, reply, form)
