"""`wordmill generate`, `preview` and `resume`: a recipe becomes a dataset."""

import gc
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import click

from wordmill.cli.models import Concurrency
from wordmill.cli.recipe_options import (
    TYPED,
    WORDS,
    RecipeCommand,
    RowNumbers,
    Typed,
    takes_recipe,
)
from wordmill.cli.settings import warn
from wordmill.runs import launch
from wordmill.runs.budget import Budget, parse_budget
from wordmill.runs.interrupts import Interrupts
from wordmill.runs.launch import Options, open_house
from wordmill.runs.places import folder_of, shown
from wordmill.runs.progress import Terminal
from wordmill.runs.result import Result
from wordmill.settings import Settings, load

PREVIEW_ROWS: Final = 2

_CONCURRENCY = click.option(
    "--concurrency", type=Concurrency(), help="Requests at once to each model."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
_NO_CACHE = click.option(
    "--no-cache", is_flag=True, help="Ask again what earlier runs know already."
)


@click.command(cls=RecipeCommand, context_settings=WORDS)
@takes_recipe(launch.DEFAULT_ROWS)
@click.option("--out", type=click.Path(path_type=Path), help="The dataset's folder. "
              "[default: datasets/NAME]")  # fmt: skip
@click.option("--replace", is_flag=True, help="Write over the dataset that the folder holds.")
@click.option("--yes", is_flag=True, help="Do not ask before replacing.")
@click.option("--budget", help="The most to spend: 5usd, 200000tokens, 1000requests, with commas.")
@_CONCURRENCY
@_NO_CACHE
@click.option("--from", "rest_of", metavar="RUN", help="Complete the rows of an earlier run.")
@click.option("--pick", metavar="ROWS", type=RowNumbers(), default=(),
              help="Of that run these rows alone, as 3,7,10-20.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="All of it on the rehearsal model, with the prices "
              "of the models named.")  # fmt: skip
@_JSON
def generate(
    typed: Typed,
    out: Path | None,
    replace: bool,
    yes: bool,
    budget: str | None,
    concurrency: int | Literal["auto"] | None,
    no_cache: bool,
    rest_of: str | None,
    pick: tuple[int, ...],
    dry_run: bool,
    as_json: bool,
) -> int:
    """Make a dataset by a recipe.

    RECIPE is a file, a folder, or the name of a built-in one such as rlhi. `--help` after it lists
    the options that it brings.

    The same command on a folder that holds an unfinished run of the same recipe goes on with it.

    Exit codes: 0 all rows are made; 3 short (cells failed, or a ceiling was reached); 2 bad input;
    130 cancelled.
    """
    settings = _settings()
    chosen = typed.choose(settings)
    options = Options(
        rows=chosen.rows,
        out=out,
        replace=replace,
        budget=parse_budget(budget) if budget else Budget(),
        concurrency=concurrency,
        cache=not no_cache and settings.cache,
        rest_of=rest_of,
        picked=pick,
        rehearse=dry_run,
    )
    if replace and not yes and not dry_run and sys.stdin.isatty():
        folder = folder_of(chosen.recipe, out)
        if folder.exists():
            click.confirm(f"Replace the dataset in {shown(folder)}?", abort=True, err=True)
    with open_house(settings) as house:
        return _work(
            lambda reporter, stop: launch.generate(house, chosen.recipe, options, reporter, stop),
            as_json,
            click.get_current_context().meta[TYPED],
        )


@click.command()
@click.argument("run")
@click.option("--budget", help="New ceilings, as for generate; the others stay.")
@_CONCURRENCY
@_NO_CACHE
@click.option(
    "--out", type=click.Path(path_type=Path), help="Another folder for the dataset, empty or new."
)
@_JSON
def resume(
    run: str,
    budget: str | None,
    concurrency: int | Literal["auto"] | None,
    no_cache: bool,
    out: Path | None,
    as_json: bool,
) -> int:
    """Go on with a run that did not finish.

    Its answers are not paid again; what failed on the wire is asked again. Exit codes as generate.
    """
    settings = _settings()
    options = Options(
        out=out,
        budget=parse_budget(budget) if budget else Budget(),
        concurrency=concurrency,
        cache=not no_cache and settings.cache,
    )
    with open_house(settings) as house:
        return _work(
            lambda reporter, stop: launch.resume(house, run, options, reporter, stop),
            as_json,
        )


@click.command(cls=RecipeCommand, context_settings=WORDS)
@takes_recipe(PREVIEW_ROWS)
@_NO_CACHE
@click.option("--prompts", is_flag=True, help="Show what is sent, word for word.")
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON lines.")
def preview(typed: Typed, no_cache: bool, prompts: bool, as_json: bool) -> int:
    """Make the first rows of a recipe and show them in full.

    Nothing is written.
    """
    from wordmill.cli.previews import show

    settings = _settings()
    chosen = typed.choose(settings)
    with open_house(settings) as house:
        return show(
            house, chosen.recipe, chosen.rows or PREVIEW_ROWS, prompts=prompts, as_json=as_json,
            cache=not no_cache and settings.cache,
        )  # fmt: skip


def _settings() -> Settings:
    settings = load()
    warn(settings)
    return settings


def _work(
    run: Callable[[Terminal, Interrupts], Result], as_json: bool, command: Sequence[str] = ()
) -> int:
    reporter = Terminal()
    with Interrupts() as stop:
        result = run(reporter, stop)
    if as_json:
        text = json.dumps(result.as_json(), indent=2)
    else:
        from wordmill.runs.summary import summary

        text = summary(result, command)
    with suppress(BrokenPipeError):  # how the run ended is said by the exit code too
        click.echo(text)
    # The process ends here: looking for cycles once more would cost a tenth of a second.
    gc.freeze()
    return result.exit_code
