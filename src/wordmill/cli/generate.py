"""`wordmill generate`, `preview` and `resume`: a recipe becomes a dataset."""

import gc
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import click

from wordmill.cli.models import Concurrency
from wordmill.cli.recipe_options import Assignment, Chosen, RecipeCommand, choose, read_words
from wordmill.cli.settings import warn
from wordmill.runs import launch
from wordmill.runs.budget import Budget, parse_budget
from wordmill.runs.interrupts import Interrupts
from wordmill.runs.launch import Options, open_house, with_default_model
from wordmill.runs.places import folder_of, shown
from wordmill.runs.progress import Terminal
from wordmill.runs.result import Result
from wordmill.settings import Settings, load

_WORDS = {"ignore_unknown_options": True, "allow_interspersed_args": True}

_Command = TypeVar("_Command", bound=Callable[..., object])


def _recipe_options(command: _Command) -> _Command:
    """The options that change a recipe."""
    for option in (
        click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE"),
        click.option("--model", help="For every language column that names none."),
        click.option("--seed", type=click.IntRange(0), help="Another seed gives other rows."),
        click.option(
            "--set", "sets", type=Assignment(), multiple=True, metavar="COLUMN.OPTION=VALUE",
            help="Change an option of a column.",
        ),
        click.option(
            "--param", "params", type=Assignment(), multiple=True,
            help="A parameter of the recipe, as --NAME VALUE says too.",
        ),
        click.option("--no-cache", is_flag=True, help="Ask again what is known already."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(cls=RecipeCommand, context_settings=_WORDS)
@_recipe_options
@click.option("--rows", type=int, help=f"How many. [default: {launch.DEFAULT_ROWS}]")
@click.option("--out", type=click.Path(path_type=Path), help="The dataset's folder. "
              "[default: datasets/NAME]")  # fmt: skip
@click.option("--replace", is_flag=True, help="Write over the dataset that the folder holds.")
@click.option("--yes", is_flag=True, help="Do not ask before replacing.")
@click.option("--budget", help="The most to spend: 5usd, 200000tokens, 1000requests, with commas.")
@click.option("--concurrency", type=Concurrency(), help="Requests at once to each model.")
@click.option("--from", "rest_of", metavar="RUN", help="Complete the rows of an earlier run.")
@click.option("--dry-run", is_flag=True, help="All of it on the rehearsal model, with the prices "
              "of the models named.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
@click.pass_context
def generate(
    ctx: click.Context,
    words: tuple[str, ...],
    model: str | None,
    seed: int | None,
    sets: tuple[tuple[str, str], ...],
    params: tuple[tuple[str, str], ...],
    no_cache: bool,
    rows: int | None,
    out: Path | None,
    replace: bool,
    yes: bool,
    budget: str | None,
    concurrency: int | Literal["auto"] | None,
    rest_of: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Make a dataset by a recipe: a file, a folder, or a built-in one such as rlhi.

    The same command on a folder that holds an unfinished run of the same recipe goes on with it.

    Exit codes: 0 all rows are made; 3 short (cells failed, or a ceiling was reached); 2 bad input;
    130 cancelled.
    """
    named, rest = read_words(ctx, words)
    settings = _settings()
    chosen = _chosen(ctx, named, rest, params, sets, seed, model, settings)
    options = Options(
        rows=_rows(ctx, chosen, rows),
        out=out,
        replace=replace,
        budget=parse_budget(budget) if budget else Budget(),
        concurrency=concurrency,
        cache=not no_cache and settings.cache,
        rest_of=rest_of,
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
            named,
        )


@click.command()
@click.argument("run")
@click.option("--budget", help="New ceilings, as for generate; the others stay.")
@click.option("--concurrency", type=Concurrency(), help="Requests at once to each model.")
@click.option("--no-cache", is_flag=True, help="Ask again what other runs know already.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Another folder for the dataset, empty or new."
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
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
            lambda reporter, stop: launch.resume(house, run, options, reporter, stop), as_json, ""
        )


@click.command(cls=RecipeCommand, context_settings=_WORDS)
@_recipe_options
@click.option("-n", "--rows", type=int, default=2, show_default=True, help="How many.")
@click.option("--prompts", is_flag=True, help="Show what is sent, word for word.")
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON lines.")
@click.pass_context
def preview(
    ctx: click.Context,
    words: tuple[str, ...],
    model: str | None,
    seed: int | None,
    sets: tuple[tuple[str, str], ...],
    params: tuple[tuple[str, str], ...],
    no_cache: bool,
    rows: int,
    prompts: bool,
    as_json: bool,
) -> int:
    """Make the first rows of a recipe and show them in full; nothing is written."""
    from wordmill.cli.previews import show

    named, rest = read_words(ctx, words)
    settings = _settings()
    chosen = _chosen(ctx, named, rest, params, sets, seed, model, settings)
    with open_house(settings) as house:
        return show(
            house, chosen.recipe, chosen.rows or rows, prompts=prompts, as_json=as_json,
            cache=not no_cache and settings.cache,
        )  # fmt: skip


def _settings() -> Settings:
    settings = load()
    warn(settings)
    return settings


def _chosen(
    ctx: click.Context,
    named: str,
    rest: Sequence[str],
    params: Sequence[tuple[str, str]],
    sets: Sequence[tuple[str, str]],
    seed: int | None,
    model: str | None,
    settings: Settings,
) -> Chosen:
    chosen = choose(ctx, named, rest, params)
    recipe = chosen.recipe.with_values(chosen.parameters, sets, seed, model)
    return Chosen(with_default_model(recipe, settings), chosen.rows)


def _rows(ctx: click.Context, chosen: Chosen, rows: int | None) -> int | None:
    if rows is not None and chosen.rows is not None and rows != chosen.rows:
        raise click.UsageError(
            f"--rows {rows} and --{chosen.recipe.table} {chosen.rows} mean the same and differ.",
            ctx,
        )
    return chosen.rows if rows is None else rows


def _work(run: Callable[[Terminal, Interrupts], Result], as_json: bool, named: str) -> int:
    reporter = Terminal()
    with Interrupts() as stop:
        result = run(reporter, stop)
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=2))
    else:
        from wordmill.runs.summary import summary

        click.echo(summary(result, named))
    # The process ends here: looking for cycles once more would cost a tenth of a second.
    gc.freeze()
    return result.exit_code
