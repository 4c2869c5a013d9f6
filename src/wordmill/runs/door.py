"""The door for Python: a recipe in, a dataset out.

    import wordmill

    result = wordmill.generate("recipe.yaml", rows=200, out="datasets/tickets")
    for row in result.rows():
        ...

`generate` may be called in any thread. In the main thread Ctrl-C ends the run in good order, and
the result says so. Inside asyncio, `await agenerate(...)`: cancelling the task does the same.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from wordmill.recipes import Recipe
from wordmill.runs.budget import Budget, parse_budget
from wordmill.runs.interrupts import Interrupts
from wordmill.runs.launch import Options, open_house, with_default_model
from wordmill.runs.launch import generate as _generate
from wordmill.runs.progress import Reporter, Silent
from wordmill.runs.result import Result
from wordmill.settings import load
from wordmill.types import Value


def generate(
    recipe: Recipe | str | Path,
    *,
    rows: int | None = None,
    out: str | Path | None = None,
    model: str | None = None,
    seed: int | None = None,
    parameters: Mapping[str, Value] | None = None,
    sets: Sequence[tuple[str, str]] = (),
    budget: str | Budget | None = None,
    concurrency: int | Literal["auto"] | None = None,
    cache: bool = True,
    replace: bool = False,
    rest_of: str | None = None,
    picked: Sequence[int] = (),
    rehearse: bool = False,
    reporter: Reporter | None = None,
    interrupts: Interrupts | None = None,
) -> Result:
    """Make a dataset, or go on with the one that `out` holds; the options of the command line.

    recipe: one made in Python, a path, or the name of a built-in.  rest_of: as `--from`.
    picked: as `--pick`, in numbers.  rehearse: as `--dry-run`.
    reporter: told what happens; nothing is printed without one.
    A run that falls short raises nothing: `Result.state` says so. Raises WordmillError for what is
    wrong before it begins, and when a disk or the engine gives up.
    """
    made = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    options = Options(
        rows=rows,
        out=Path(out) if out is not None else None,
        replace=replace,
        budget=parse_budget(budget) if isinstance(budget, str) else budget or Budget(),
        concurrency=concurrency,
        cache=cache,
        rest_of=rest_of,
        picked=tuple(picked),
        rehearse=rehearse,
    )
    settings = load()
    chosen = made.with_values(parameters, sets, seed, model)
    with open_house(settings) as house, interrupts or Interrupts() as stop:
        return _generate(
            house, with_default_model(chosen, settings), options, reporter or Silent(), stop
        )


async def agenerate(recipe: Recipe | str | Path, **options: object) -> Result:
    """`generate` for asyncio, in a thread: a cancelled task ends the run in good order."""
    stop = Interrupts()
    work = asyncio.ensure_future(
        asyncio.to_thread(partial(generate, recipe, interrupts=stop, **options))  # type: ignore[arg-type]  # the options of `generate`
    )
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.ask()
        await asyncio.wait([work])
        raise
