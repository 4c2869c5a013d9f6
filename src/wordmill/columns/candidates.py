"""`candidates`: several answers to one prompt, on purpose different; each a row of a linked table.

`variants` make them differ: each answer is given one, dealt so that every variant comes equally
often, over the rows and over the places in a row, and no row has one twice before it has all.
Which variant an answer has does not depend on how many answers there are.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from wordmill.columns.answers import AnswerForm, BySchema, Complaint, OneOf, Sections
from wordmill.columns.asking import MOST_ITEMS, Exchange, FormFor, Options, expression_of
from wordmill.columns.base import Asker, Column, Context
from wordmill.columns.prompt import Formed
from wordmill.columns.sampling import Deck
from wordmill.errors import RecipeError
from wordmill.types import Answer, Ask, CellError, Reply, Row, Value

_TAKEN = frozenset({"id", "item", "row", "variant", "text", "value", "error"})
"""Fields that every item may have."""


class Variant(Options):
    """A way in which an answer differs: templates see `variant.name` and `variant.instruction`."""

    name: str = Field(min_length=1)
    instruction: str = ""


class Candidates(Formed):
    """Several answers to one prompt.

    type: candidates
    n: 3
    prompt: "What would you do? {{ scenario }}"
    """

    type: Literal["candidates"] = "candidates"
    prompt: str = Field(kw_only=False, min_length=1)
    n: int | str = 3
    """How many; a number, or `{{ an expression }}` of the recipe's parameters."""
    variants: tuple[Variant, ...] = ()
    sections: tuple[str, ...] = ()
    """Headings at which an answer is split; each becomes a field of the item."""

    @field_validator("n")
    @classmethod
    def _bounded(cls, n: int | str) -> int | str:
        if isinstance(n, int) and not 0 <= n <= MOST_ITEMS:
            raise ValueError(f"there can be 0 to {MOST_ITEMS} answers, not {n}.")
        return n

    @field_validator("variants")
    @classmethod
    def _named_once(cls, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        names = [variant.name for variant in variants]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two variants are called {name!r}.")
        return variants

    @field_validator("sections")
    @classmethod
    def _good_sections(cls, sections: tuple[str, ...]) -> tuple[str, ...]:
        for name in sections:
            if not re.fullmatch(r"[A-Za-z]\w{0,62}", name):
                raise ValueError(
                    f"a section cannot be called {name!r}: it becomes a field, so it has letters, "
                    "digits and _, and begins with a letter."
                )
            if name in _TAKEN:
                raise ValueError(f"every item has a field {name!r}: call the section otherwise.")
        if len({name.casefold() for name in sections}) < len(sections):
            raise ValueError("two sections have the same name.")
        return sections

    @model_validator(mode="after")
    def _fits(self) -> "Candidates":
        if self.sections and (self.choices is not None or self.answer_schema is not None):
            raise ValueError("`sections` are for free text, not for `choices` or `schema`.")
        told = " ".join(self.texts().values())
        if self.variants and "variant" not in told:
            raise ValueError(
                "there are `variants`, and no template names `variant.instruction` or "
                "`variant.name`: all answers would be asked for alike."
            )
        return self

    def texts(self) -> Mapping[str, str]:
        """The prompt too, and what variants say."""
        return {**super().texts(), "prompt": self.prompt}

    def needs(self) -> frozenset[str]:
        """What the templates name; `n` may name parameters only."""
        if isinstance(self.n, str):
            expression = expression_of(self.n, "n")
            if expression.names:
                raise RecipeError(
                    f"it can name parameters only, not {', '.join(sorted(expression.names))}.", "n"
                )
        return super().needs()

    def prepare(self, context: Context) -> Asker:
        """An Asker with `n` questions a row."""
        fixed: AnswerForm = Sections(self.sections) if self.sections else self.form()
        exchange = Exchange(
            self,
            context,
            ("prompt", self.prompt),
            schema=fixed.text if isinstance(fixed, BySchema) else None,
            after=fixed.instruction() if isinstance(fixed, OneOf | Sections) else "",
            varies=isinstance(self.choices, str),
            checks=self.active_checks(),
        )
        form = FormFor(fixed) if self.sections else self.form_for(context)
        count = self.items_per_row(context.parameters, context.columns)
        return _Asker(exchange, form, count, _Deal(self.variants, context), self._fields())

    def _fields(self) -> tuple[str, ...]:
        """Fields that hold what an answer says, next to its text."""
        formed = self.choices is not None or self.answer_schema is not None
        return ("value",) if formed else self.sections

    def requests_per_row(
        self, parameters: Mapping[str, Value], columns: Mapping[str, Column]
    ) -> float:
        """`n`."""
        return float(self.items_per_row(parameters, columns))

    def items_per_row(self, parameters: Mapping[str, Value], columns: Mapping[str, Column]) -> int:
        """`n`. Raises RecipeError where its expression gives no number from 0 to 64."""
        if isinstance(self.n, int):
            return self.n
        n = expression_of(self.n, "n", parameters).evaluate({})
        if isinstance(n, CellError):
            raise RecipeError(f"{self.n} cannot be worked out: {n.detail}.", "n")
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= MOST_ITEMS:
            raise RecipeError(f"{self.n} is {n}; there can be 0 to {MOST_ITEMS} answers.", "n")
        return n

    def value_schema(self) -> Mapping[str, Any]:
        """A list of items."""
        return {"type": "array", "items": self.table_schema("")}

    def table_schema(self, name: str) -> Mapping[str, Any] | None:
        """A row an answer."""
        optional = {"type": ["string", "null"]}
        answer = {"anyOf": [self.answer(), {"type": "null"}]}
        return {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "item": {"type": "integer"},
                "variant": optional,
                "text": optional,
                **{field: answer if field == "value" else optional for field in self._fields()},
                "error": optional,
            },
        }


class _Deal:
    """Which variant an answer is given."""

    def __init__(self, variants: Sequence[Variant], context: Context) -> None:
        self._variants = [variant.model_dump() for variant in variants]
        if not variants:
            return
        ones = [1] * len(variants)
        self._order = Deck(context.seed, context.name, ones, "variants")
        self._turn = Deck(context.seed, context.name, ones, "turns")

    def of(self, row: int, item: int) -> dict[str, str] | None:
        """The variant: in each block of rows a fresh order, begun elsewhere in each row."""
        if not self._variants:
            return None
        count = len(self._variants)
        block, place = divmod(row, count)
        turn = self._turn.block(block)[place]
        return self._variants[self._order.block(block)[(turn + item) % count]]


class _WithText(AnswerForm):
    """The fields of an item that an answer fills: its text, and what its form reads in it."""

    def __init__(self, form: AnswerForm, fields: Sequence[str]) -> None:
        self._form, self._fields = form, fields
        self.free = form.free

    def read(self, text: str) -> Value | Complaint:
        value = self._form.read(text)
        if isinstance(value, Complaint):
            return value
        if not self._fields:
            return {"text": text}
        return (
            {"text": text, "value": value} if "value" in self._fields else {"text": text, **value}
        )


class _Asker(Asker):
    """`count` questions a row."""

    def __init__(
        self, exchange: Exchange, form: FormFor, count: int, deal: _Deal, fields: Sequence[str]
    ) -> None:
        self._exchange, self._form, self._count = exchange, form, count
        self._deal, self._fields = deal, fields

    def _within(self, row: Row, item: int) -> Row:
        """What templates see."""
        variant = self._deal.of(row["row"], item)
        return {**row, "item": item} | ({"variant": variant} if variant else {})

    def asks(self, row: Row) -> list[Ask] | CellError:
        asks: list[Ask] = []
        for item in range(self._count):
            within = self._within(row, item)
            after = self._form.instruction(within)
            if isinstance(after, CellError):
                return after
            ask = self._exchange.ask(within, item, item, after)
            if isinstance(ask, CellError):
                return CellError(ask.cause, f"item {item}: {ask.detail}")
            asks.append(ask)
        return asks

    def take(self, row: Row, ask: Ask, reply: Reply) -> Answer | Ask | CellError:
        form = self._form.of(self._within(row, ask.item))
        if isinstance(form, CellError):
            return form
        return self._exchange.read(row, ask, reply, _WithText(form, self._fields), ask.item)

    def finish(self, row: Row, items: Sequence[Answer | CellError]) -> Value | CellError:
        """The items, failed ones with their error; a failed cell where all failed."""
        if items and all(isinstance(item, CellError) for item in items):
            return items[0]
        return [self._item(row["row"], place, item) for place, item in enumerate(items)]

    def _item(self, row: int, place: int, item: Answer | CellError) -> dict[str, Value]:
        variant = self._deal.of(row, place)
        return {
            "id": f"{row}-{place}",
            "item": place,
            "variant": variant["name"] if variant else None,
            **(item.value if isinstance(item, Answer) else dict.fromkeys(("text", *self._fields))),
            "error": str(item) if isinstance(item, CellError) else None,
        }
