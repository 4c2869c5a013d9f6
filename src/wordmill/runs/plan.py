"""What a run does for every row: the recipe's columns as numbered steps, worked out once.

Columns that depend on no model are **early**: they are filled for whole windows of rows, in
order. The others are **late**: each row counts, for each late column, how many late columns it
still waits for, so that a finished cell frees exactly what waited for it, and rows never wait
for each other.

A request is known by its number: row, column, item and try, packed by `request_id`. It is the
same in every sitting of a run, which is how the engine recognises what it has answered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wordmill.columns.base import Asker, Column, Filler
from wordmill.columns.templates import Expression, compile_expression
from wordmill.errors import RecipeError
from wordmill.recipes import Recipe
from wordmill.types import CellError, Row

ROW_SHIFT, COLUMN_SHIFT, ITEM_SHIFT = 28, 18, 6
COLUMN_MASK, ITEM_MASK, TRIES_MASK = (1 << 10) - 1, (1 << 12) - 1, (1 << 6) - 1
MAX_ROWS = 100_000_000
"""Rows of a run, at most: each takes a byte of memory, and more make several datasets anyway."""

SEVERAL = "For more, make several runs, each with a seed of its own."
MAX_COLUMNS = COLUMN_MASK + 1
MAX_ITEMS = ITEM_MASK + 1
MAX_TRIES = TRIES_MASK


def request_id(row: int, column: int, item: int, tries: int) -> int:
    """The number of a request; its parts are below 2^34, `MAX_COLUMNS` and so on."""
    return row << ROW_SHIFT | column << COLUMN_SHIFT | item << ITEM_SHIFT | tries


@dataclass(frozen=True, slots=True)
class Condition:
    """A sandboxed expression of the recipe (`when`, `keep`), asked for yes or no."""

    expression: Expression

    def holds(self, row: Row) -> bool | CellError:
        """Whether it is true for a row (as Python takes truth), or why that cannot be said."""
        value = self.expression.evaluate(row)
        return value if isinstance(value, CellError) else bool(value)

    def never_holds(self) -> bool:
        """Whether it is false for all rows, since it reads none (`parameters.compare`)."""
        return not self.expression.names and self.holds({}) is False


@dataclass(frozen=True, slots=True)
class Step:
    """One column, ready to be made.

    index: its place in the plan, and in request ids.
    needs: the columns it reads, `when` included.
    waits: how many late columns it waits for.
    frees: indexes of the late columns that wait for it.
    items: its value is a list that can be completed item by item.
    each: the column with the items that it is asked for, if there is one.
    """

    index: int
    name: str
    maker: Filler | Asker
    when: Condition | None
    needs: tuple[str, ...]
    waits: int
    frees: tuple[int, ...]
    items: bool
    each: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a recipe.

    early: fillers that no model's answer reaches, in order.
    late: the others, by index; a step comes after all that it waits for.
    keep: decides on a finished row, or None to keep all.
    asking: columns that ask a model, but for those that a parameter switches off.
    """

    recipe: Recipe
    steps: tuple[Step, ...]
    early: tuple[Step, ...]
    late: tuple[Step, ...]
    keep: Condition | None
    asking: tuple[str, ...]

    @property
    def makers(self) -> Mapping[str, Filler | Asker]:
        """Every column's maker, in the order of making."""
        return {step.name: step.maker for step in self.steps}


def make_plan(recipe: Recipe) -> Plan:
    """Prepare every column of a recipe. Files that columns read are read here.

    Raises RecipeError for what a column refuses, and for more columns than a plan can number.
    """
    order = recipe.order
    if len(order) > MAX_COLUMNS:
        raise RecipeError(
            f"The recipe {recipe.name!r} has {len(order)} columns; a run can number {MAX_COLUMNS}. "
            "Make two recipes of it."
        )
    needs = {name: tuple(other for other in order if other in recipe.needs(name)) for name in order}
    makers = recipe.makers()
    late = _late(order, makers, needs)
    index = {name: number for number, name in enumerate(order)}
    steps = tuple(
        Step(
            index=index[name],
            name=name,
            maker=makers[name],
            when=_condition(recipe, recipe.columns[name].when, f"columns.{name}.when"),
            needs=needs[name],
            waits=sum(need in late for need in needs[name]),
            frees=tuple(index[other] for other in order if name in needs[other])
            if name in late
            else (),
            items=_items(recipe.columns[name]),
            each=recipe.columns[name].joins(),
        )
        for name in order
    )
    return Plan(
        recipe=recipe,
        steps=steps,
        early=tuple(step for step in steps if step.name not in late),
        late=tuple(step for step in steps if step.name in late),
        keep=_condition(recipe, recipe.keep, "keep"),
        asking=tuple(
            step.name
            for step in steps
            if isinstance(step.maker, Asker)
            and not (step.when is not None and step.when.never_holds())
        ),
    )


def _late(
    order: Sequence[str],
    makers: Mapping[str, Filler | Asker],
    needs: Mapping[str, Sequence[str]],
) -> set[str]:
    """Names of the columns that are a model's or read, at any distance, one that is."""
    late: set[str] = set()
    for name in order:
        if isinstance(makers[name], Asker) or not late.isdisjoint(needs[name]):
            late.add(name)
    return late


def _items(column: Column) -> bool:
    """Candidates, and what is asked for each of them."""
    return column.joins() is not None or getattr(column, "type", "") == "candidates"


def _condition(recipe: Recipe, text: str | None, where: str) -> Condition | None:
    if text is None:
        return None
    return Condition(compile_expression(text, where, recipe.parameters))
