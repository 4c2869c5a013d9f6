"""What a run will take, said before anything is sent.

The prompts of the first rows are made as far as nobody has to be asked for them; where a prompt
reads an answer, a text of the usual length stands for it. Tokens are estimated from bytes. What
an answer will be long is not known: it is taken for `ANSWER` tokens, or the column's `max_tokens`
where that is less.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wordmill.columns.base import Filler
from wordmill.runs.lanes import Lanes
from wordmill.runs.plan import Plan, Step
from wordmill.runs.show import count, money
from wordmill.types import CellError, RequestShape, Row, Value

ROWS: Final = 4
"""Rows that are looked at."""

ANSWER: Final = 250
"""Tokens of an answer of which nothing is known."""

BYTES_A_TOKEN: Final = 4
MESSAGE_TOKENS: Final = 4
"""What a message costs besides its text."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a whole run. money is None where no model has a price.

    by_model: requests by the model that is asked.
    """

    requests: int
    tokens_in: int
    tokens_out: int
    money: float | None
    by_model: Mapping[str, int]

    def sentence(self) -> str:
        """One line for a person."""
        if not self.requests:
            return "Estimate: no requests; no column asks a model."
        cost = "" if self.money is None else f", about {money(self.money)}"
        return (
            f"Estimate: {count(self.requests, 'request')}, about {_round(self.tokens_in)} tokens "
            f"in and {_round(self.tokens_out)} out{cost}."
        )


def estimate(plan: Plan, lanes: Lanes, rows: int) -> Estimate:
    """What making that many rows takes, without faults and without a cache."""
    used: defaultdict[str, Counter[str]] = defaultdict(Counter)
    looked = min(rows, ROWS)
    samples: list[Row] = [{"row": number} for number in range(looked)]
    for step in plan.steps:
        if isinstance(step.maker, Filler) and step in plan.early:
            for row, value in zip(samples, step.maker.fill(samples), strict=True):
                row[step.name] = None if isinstance(value, CellError) else value
            continue
        for row in samples:
            for model, parts in _asked(step, plan, row).items():
                used[model].update(parts)
            row[step.name] = _stand_in(step, plan)
    scale = rows / looked
    total = sum(used.values(), Counter[str]())
    priced = {name: lanes.models[name] for name in used if _priced(lanes, name)}
    cost = sum(
        used[name]["in"] * model.price_in + used[name]["out"] * model.price_out
        for name, model in priced.items()
    )
    return Estimate(
        requests=round(total["requests"] * scale),
        tokens_in=round(total["in"] * scale),
        tokens_out=round(total["out"] * scale),
        money=cost * scale / 1e6 if priced else None,
        by_model={name: round(parts["requests"] * scale) for name, parts in used.items()},
    )


def _priced(lanes: Lanes, name: str) -> bool:
    model = lanes.models[name]
    return bool(model.price_in or model.price_out)


def _asked(step: Step, plan: Plan, row: Row) -> Mapping[str, Counter[str]]:
    """Requests and tokens of one cell, by model."""
    if isinstance(step.maker, Filler):
        return {}
    if step.when is not None and step.when.holds(row) is False:
        return {}
    asks = step.maker.asks(row)
    if isinstance(asks, CellError):  # the stand-ins did not do
        number = plan.recipe.requests_per_row(step.name)
        model = min(plan.recipe.columns[step.name].models(), default=plan.recipe.model or "")
        return {model: Counter({"requests": number, "in": 2 * number * ANSWER,
                                "out": number * ANSWER})} if model else {}  # fmt: skip
    used: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for ask in asks:
        used[ask.shape.model].update({
            "requests": 1,
            "in": _prompt_tokens(ask.shape, ask.texts),
            "out": min(ANSWER, dict(ask.shape.parameters).get("max_tokens", ANSWER)),
        })
    return used


def _prompt_tokens(shape: RequestShape, texts: Sequence[str]) -> int:
    written = [message.text for message in shape.messages if message.text is not None]
    size = sum(len(text.encode("utf-8", "replace")) for text in (*written, *texts))
    size += len(shape.schema or "")
    return size // BYTES_A_TOKEN + MESSAGE_TOKENS * len(shape.messages)


def _stand_in(step: Step, plan: Plan) -> Value:
    """A value for a column that is not asked yet."""
    columns, parameters = plan.recipe.columns, plan.recipe.parameters
    column = columns[step.name]
    items = columns[step.each] if step.each else column
    return _of_schema(column.value_schema(), items.items_per_row(parameters, columns))


def _of_schema(schema: Mapping[str, Value], items: int) -> Value:
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return _of_schema(options[0], items)
    if "enum" in schema:
        return schema["enum"][0]
    kinds = schema.get("type", "string")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    match kind:
        case "object":
            parts = schema.get("properties", {}).items()
            return {name: None if name == "error" else _of_schema(part, 1) for name, part in parts}
        case "array":
            return [_of_schema(schema.get("items", {}), 1) for _ in range(items)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
    return "word " * (ANSWER * BYTES_A_TOKEN // 5)


def _round(number: int) -> str:
    """Two digits that matter, the others zero: it is an estimate."""
    digits = max(0, len(str(number)) - 2)
    return f"{round(number, -digits):,}"
