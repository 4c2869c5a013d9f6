"""Recipes over HTTP: the built-in ones, and what one would give before it is run."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from wordmill.channels.api.auth import Reads, Works, house_of
from wordmill.channels.api.shared import Json, Sent
from wordmill.errors import InvalidInput
from wordmill.recipes import Recipe
from wordmill.runs.desk import Wish
from wordmill.runs.launch import MOST_PICKED
from wordmill.types import Value

router = APIRouter(prefix="/api", tags=["Recipes"])

MOST_PREVIEWED = 10
"""Rows of a preview: whoever asks waits for them."""


class NewRun(Sent):
    """A run to be begun.

    recipe: a built-in recipe's name, or the YAML of one.  rows: without them 100.
    parameters: of the recipe.  budget: a ceiling, as `5usd,1000requests`.
    rest_of: an earlier run of the recipe, whose rows are completed.
    picked: the numbers of those rows; without them all.
    """

    recipe: str
    rows: int | None = Field(default=None, ge=1)
    parameters: dict[str, Value] = Field(default_factory=dict)
    model: str | None = None
    seed: int | None = None
    budget: str = ""
    rest_of: str | None = None
    picked: tuple[int, ...] = Field(default=(), max_length=MOST_PICKED)
    cache: bool = True

    def wish(self) -> Wish:
        """For the desk."""
        return Wish(**self.model_dump())


@router.get("/recipes")
def recipes(caller: Reads, request: Request) -> list[str]:
    """The built-in recipes."""
    return house_of(request).desk(caller.person).recipes()


@router.get("/recipes/{recipe}")
def recipe(recipe: str, caller: Reads, request: Request) -> Json:
    """A built-in recipe: its YAML, its columns and parameters."""
    desk = house_of(request).desk(caller.person)
    if recipe not in desk.recipes():
        raise InvalidInput(
            f"There is no built-in recipe {recipe[:80]!r}: it is one of "
            f"{', '.join(desk.recipes())}.",
            "recipe",
        )
    return _shown(desk.read(Wish(recipe=recipe)))


@router.post("/recipes/check")
def check(wish: NewRun, caller: Works, request: Request) -> Json:
    """What a recipe is, or what is wrong with it; nothing is asked."""
    return _shown(house_of(request).desk(caller.person).read(wish.wish()))


@router.post("/recipes/estimate")
def estimate(wish: NewRun, caller: Works, request: Request) -> Json:
    """What a run would take; nothing is asked."""
    return {"estimate": house_of(request).desk(caller.person).estimate(wish.wish())}


@router.post("/recipes/preview")
def preview(
    wish: NewRun,
    caller: Works,
    request: Request,
    rows: Annotated[int, Query(ge=1, le=MOST_PREVIEWED)] = 2,
) -> Json:
    """The first rows in full, at one's own expense; nothing is kept."""
    house = house_of(request)
    seen = house.preview(caller.person, wish.wish(), rows)
    return {"items": seen.records, "ended": seen.end.sentence}


def _shown(recipe: Recipe) -> Json:
    return {
        "name": recipe.name,
        "description": recipe.description,
        "model": recipe.model,
        "seed": recipe.seed,
        "table": recipe.table,
        "columns": [
            {"name": name, "type": column.written()["type"], "asks_model": column.asks_model}
            for name, column in recipe.columns.items()
        ],
        "parameters": {
            name: parameter.model_dump(mode="json", exclude_none=True)
            for name, parameter in recipe.declared.items()
        },
        "yaml": recipe.to_yaml(),
    }
