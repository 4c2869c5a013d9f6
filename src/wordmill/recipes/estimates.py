"""What a run will cost, foretold without asking any model.

The first rows are made for real, as far as no model is needed. Where one is, a stand-in of a usual
length takes the place of its answer, so that the prompts behind it can be rendered and measured.
Tokens are counted as bytes / 4, and answers guessed: good to a factor of two, which is enough to
notice a run that costs a hundred times what was meant.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from wordmill.columns.base import Asker, Column, Filler
from wordmill.columns.faults import Fault
from wordmill.columns.templates import compile_expression
from wordmill.recipes.recipe import Recipe
from wordmill.types import Ask, CellError, Row, Value

Makers: TypeAlias = Mapping[str, Filler | Asker]
"""Of all columns of a recipe, in the order of making (`Recipe.makers`)."""

SAMPLE = 20
"""So many rows are made."""

TEXT_TOKENS = 250
"""A free answer is taken to be so long."""

FIELD_TOKENS = 25
"""A text inside a JSON answer is taken to be so long."""

_WORDS = "the quiet harbour master repaired a long letter before the rain came "
_PER_MESSAGE = 4  # tokens that a server's own format adds


@dataclass(frozen=True, slots=True)
class ColumnEstimate:
    """What one column asks for all rows.

    requests: without asking again.  tokens_in, tokens_out: guessed.  most_out: tokens, if each
    answer is as long as it may be.  fault: why a prompt could not be rendered, or "".
    """

    column: str
    model: str
    requests: int
    tokens_in: int
    tokens_out: int
    most_out: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model is taken to be. concurrency: requests at once; rpm, tpm: limits or None."""

    concurrency: int
    rpm: int | None = None
    tpm: int | None = None
    first_seconds: float = 0.6
    tokens_per_second: float = 60.0


def estimate(
    recipe: Recipe, makers: Makers, rows: int, max_tokens: int
) -> tuple[ColumnEstimate, ...]:
    """An estimate for each column that asks a model, in the order of making.

    makers: of the recipe.  max_tokens: the bound on answers where a column names none.
    """
    return tuple(
        _estimated(recipe, cells, rows, max_tokens)
        for cells in _first_cells(recipe, makers, rows)
        if isinstance(cells.maker, Asker)
    )


def sure_faults(recipe: Recipe, makers: Makers, rows: int) -> list[Fault]:
    """What is sure to fail, whatever models may answer.

    Columns that fail in every one of the first rows, and those that are used up before the last.
    """
    hopeless = [
        Fault(("columns", cells.name), f"no row can be made; {cells.fault}")
        for cells in _first_cells(recipe, makers, rows)
        if cells.real and cells.wanted and cells.errors == len(cells.wanted)
    ]
    return hopeless + shortages(recipe, makers, rows)


def shortages(recipe: Recipe, makers: Makers, rows: int) -> list[Fault]:
    """Columns that cannot give so many rows; one with a `when` may not have to."""
    return [
        Fault(("columns", name), words)
        for name, maker in makers.items()
        if isinstance(maker, Filler)
        and recipe.columns[name].when is None
        and (words := maker.shortage(rows))
    ]


@dataclass(frozen=True, slots=True)
class _Cells:
    """What became of a column in the first rows.

    wanted: the rows in which `when` holds, of `rows` in all.  asks: for its first questions.
    real: no stand-in is among what the column reads.
    errors: how many cells cannot be made.  fault: the first of them, in words.
    """

    name: str
    maker: Filler | Asker
    rows: int
    wanted: Sequence[Row]
    asks: Sequence[Ask]
    real: bool
    errors: int
    fault: str


def _first_cells(recipe: Recipe, makers: Makers, count: int) -> Iterator[_Cells]:
    """Make the first rows, column by column, with stand-ins for what models answer."""
    rows: list[Row] = [{"row": number} for number in range(min(count, SAMPLE))]
    unreal: set[str] = set()
    for name, maker in makers.items():
        column = recipe.columns[name]
        real = unreal.isdisjoint(recipe.needs(name))
        wanted = _wanted(recipe, name, rows)
        asks: list[Ask] = []
        errors: list[tuple[Row, CellError]] = []
        values: list[Value] = []
        if isinstance(maker, Asker):
            for row in wanted:
                asked = maker.asks(row)
                if isinstance(asked, CellError):
                    errors.append((row, asked))
                else:
                    asks += asked
                values.append(_stand_in(column, recipe, row))
        else:
            values = list(maker.fill(wanted))
            errors = [
                (row, value)
                for row, value in zip(wanted, values, strict=True)
                if isinstance(value, CellError)
            ]
        if isinstance(maker, Asker) or not real:
            unreal.add(name)
        for row in rows:
            row[name] = None
        for row, value in zip(wanted, values, strict=True):
            row[name] = None if isinstance(value, CellError) else value
        fault = f"row {errors[0][0]['row']}: {errors[0][1]}" if errors else ""
        yield _Cells(name, maker, len(rows), wanted, asks, real, len(errors), fault)


def seconds(estimates: Sequence[ColumnEstimate], speeds: Mapping[str, Speed]) -> float:
    """How long a run takes: models work side by side, and the slowest one decides."""
    longest = 0.0
    for model, speed in speeds.items():
        asked = [each for each in estimates if each.model == model]
        requests = sum(each.requests for each in asked)
        tokens = sum(each.tokens_in + each.tokens_out for each in asked)
        busy = sum(
            each.requests * speed.first_seconds + each.tokens_out / speed.tokens_per_second
            for each in asked
        )
        limits = [busy / max(1, min(speed.concurrency, requests))]
        if speed.rpm:
            limits.append(60 * requests / speed.rpm)
        if speed.tpm:
            limits.append(60 * tokens / speed.tpm)
        longest = max(longest, *limits)
    return longest


def _wanted(recipe: Recipe, name: str, rows: Sequence[Row]) -> list[Row]:
    """The rows in which a column's `when` holds, as far as that can be said."""
    when = recipe.columns[name].when
    if when is None:
        return list(rows)
    expression = compile_expression(when, "when", recipe.parameters)
    values = [(row, expression.evaluate(row)) for row in rows]
    return [row for row, value in values if value and not isinstance(value, CellError)]


def _estimated(recipe: Recipe, cells: _Cells, rows: int, max_tokens: int) -> ColumnEstimate:
    column, asks = recipe.columns[cells.name], cells.asks
    model = next(iter(column.models()), recipe.model or "")
    # A cell that cannot be made now may be made when models have answered.
    asked = len(asks) + cells.errors * recipe.requests_per_row(cells.name)
    requests = math.ceil(asked / cells.rows * rows - 1e-9)
    most = max_tokens
    each_in = each_out = 0.0
    if asks:
        most = dict(asks[0].shape.parameters).get("max_tokens") or max_tokens
        each_in = sum(map(_prompt_tokens, asks)) / len(asks)
        each_out = min(most, _answer_tokens(column, asks[0]))
    return ColumnEstimate(
        column=cells.name,
        model=model,
        requests=requests,
        tokens_in=round(each_in * requests),
        tokens_out=round(each_out * requests),
        most_out=most * requests,
        fault=cells.fault,
    )


def _prompt_tokens(ask: Ask) -> float:
    """What a request's prompt is taken to cost, its schema included."""
    said = "".join(ask.texts) + "".join(message.text or "" for message in ask.shape.messages)
    size = len(said.encode()) + len(ask.shape.schema or "")
    return size / 4 + _PER_MESSAGE * len(ask.shape.messages)


def _answer_tokens(column: Column, ask: Ask) -> int:
    """What one answer is taken to cost."""
    if ask.shape.schema is not None:
        answer = instance(json.loads(ask.shape.schema))
        return len(json.dumps(answer)) // 4 + 5
    return 5 if getattr(column, "choices", None) is not None else TEXT_TOKENS


def _stand_in(column: Column, recipe: Recipe, row: Row) -> Value:
    """A value as a column's answers might give it."""
    schema, each = column.value_schema(), column.joins()
    if each is not None or column.table_schema("") is not None:
        items = row[each] if each is not None else None
        count = len(items) if items else column.items_per_row(recipe.parameters, recipe.columns)
        return [instance(schema["items"]) for _ in range(count)]
    return instance(schema, TEXT_TOKENS)


def instance(schema: Value, tokens: int = FIELD_TOKENS, depth: int = 0) -> Value:
    """A value of the shape that a schema asks for, near the middle of what it allows.

    tokens: how long a text is.  It need not pass the schema: patterns and references are not read.
    """
    if not isinstance(schema, Mapping) or depth > 20:
        return None
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("anyOf", "oneOf", "allOf"):
        if schema.get(word):
            return instance(schema[word][0], tokens, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {
            name: None if name == "error" else instance(part, FIELD_TOKENS, depth + 1)
            for name, part in schema.get("properties", {}).items()
        }
    if kind == "array":
        fewest, most = schema.get("minItems", 0), schema.get("maxItems")
        count = max(fewest, min(3, most if most is not None else 3))
        return [instance(schema.get("items", {}), FIELD_TOKENS, depth + 1) for _ in range(count)]
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("maximum", 1))
    if kind == "string":
        length = min(schema.get("maxLength", tokens * 4), tokens * 4)
        length = max(length, schema.get("minLength", 0))
        return (_WORDS * (length // len(_WORDS) + 1))[:length]
    return True if kind == "boolean" else None
