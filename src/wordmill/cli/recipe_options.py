"""RECIPE and the options that change it, for every command that takes one.

Some of them the recipe brings along: its parameters, and the name of its main table for `--rows`.

    wordmill generate rlhi --scenarios 200 --actions 3 --compare

Which options there are is only known once the recipe is read, so what click does not know is
collected here and read by the recipe. `--param NAME=VALUE` says the same for a parameter whose
name is an option of the command.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

import click

from wordmill.errors import WordmillError, nearest
from wordmill.recipes import Recipe
from wordmill.runs.launch import MOST_PICKED, with_default_model
from wordmill.runs.plan import MAX_ROWS, SEVERAL
from wordmill.settings import Settings

TYPED = "wordmill.words"
"""Where a context keeps the words after the command, as they were typed."""

Pairs: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A recipe as the command line wants it.

    rows: how many, under whichever name they were given, or None.
    """

    recipe: Recipe
    rows: int | None


@dataclass(frozen=True, slots=True)
class Typed:
    """RECIPE and its options, as a person typed them."""

    words: tuple[str, ...]
    model: str | None
    seed: int | None
    sets: Pairs
    params: Pairs
    rows: int | None

    @property
    def recipe(self) -> str:
        """The recipe's name. Raises UsageError without one."""
        return _named(click.get_current_context(), self.words)

    def choose(self, settings: Settings) -> Chosen:
        """The recipe, changed as the options say.

        Raises UsageError for an option that neither the command nor the recipe has, RecipeError.
        """
        ctx = click.get_current_context()
        recipe = Recipe.load(self.recipe)
        rows, given = _read(ctx, recipe, self.words[1:])
        if None not in (rows, self.rows) and rows != self.rows:
            raise click.UsageError(
                f"--rows {self.rows} and --{_dashed(recipe.table)} {rows} mean the same and "
                "differ.",
                ctx,
            )
        values = {**dict(self.params), **given}
        changed = recipe.with_values(values, self.sets, self.seed, self.model)
        return Chosen(with_default_model(changed, settings), rows or self.rows)


class RecipeCommand(click.Command):
    """A command whose first word is a recipe; its help lists the recipe's options too."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's options, then those of a recipe that stands on the command line."""
        super().format_options(ctx, formatter)
        words = [word for word in ctx.meta.get(TYPED, ()) if not word.startswith("-")]
        if not words:
            return
        try:
            recipe = Recipe.load(words[0])
        except WordmillError:
            return
        rows = [] if recipe.table == "rows" else [(f"--{_dashed(recipe.table)} N", "As --rows.")]
        rows += [(f"--{_dashed(name)} {_value(recipe, name)}".rstrip(), _help(recipe, name))
                 for name in recipe.declared]  # fmt: skip
        if rows:
            with formatter.section(f"Options of the recipe {recipe.name}"):
                formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words: `--help` looks for a recipe among them, the summary repeats them."""
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)


def _named(ctx: click.Context, words: Sequence[str]) -> str:
    if not words:
        raise click.UsageError(
            "Name a recipe: a file, a folder with a recipe.yaml, or a built-in one such as rlhi.",
            ctx,
        )
    if words[0].startswith("-"):
        raise click.UsageError(
            f"Name the recipe before its options: wordmill {ctx.info_name} RECIPE {words[0]} ...",
            ctx,
        )
    return words[0]


def _read(
    ctx: click.Context, recipe: Recipe, words: Sequence[str]
) -> tuple[int | None, dict[str, str]]:
    """What click did not know: rows under the table's name, and parameters."""
    rows: int | None = None
    values: dict[str, str] = {}
    known = {_dashed(name): name for name in recipe.declared}
    for option, value in _pairs(ctx, recipe, words):
        name = option.removeprefix("--")
        if name in known:
            values[known[name]] = value
        elif name == _dashed(recipe.table):
            rows = _count(ctx, option, value)
        else:
            own = [opt for param in ctx.command.params for opt in param.opts if opt[:2] == "--"]
            every = [*own, *(f"--{one}" for one in (*known, _dashed(recipe.table)))]
            raise click.UsageError(
                f"Neither this command nor the recipe {recipe.name} has an option "
                f"{option}{nearest(option, set(every))}",
                ctx,
            )
    return rows, values


def _pairs(ctx: click.Context, recipe: Recipe, rest: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options and their values; a switch of the recipe may stand alone."""
    words = list(rest)
    while words:
        option, sign, value = words.pop(0).partition("=")
        if not option.startswith("--"):
            raise click.UsageError(
                f"{option!r} is one word too many: a command makes one recipe.", ctx
            )
        if not sign:
            name = option.removeprefix("--").replace("-", "_")
            declared = recipe.declared.get(name)
            if declared is not None and declared.type == "boolean":
                follows = bool(words) and words[0].lower() in ("true", "false", "yes", "no")
                value = words.pop(0) if follows else "true"
            elif words and not words[0].startswith("--"):
                value = words.pop(0)
            elif declared is not None or name == recipe.table:
                raise click.UsageError(f"{option} needs a value.", ctx)
        yield option.replace("_", "-"), value


def _count(ctx: click.Context, option: str, value: str) -> int:
    try:
        return Rows().convert(value, None, ctx)
    except click.BadParameter as error:
        error.param_hint = option
        raise


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _value(recipe: Recipe, name: str) -> str:
    declared = recipe.declared[name]
    switch = "true|false" if declared.default is True else ""
    return {"boolean": switch, "integer": "N", "number": "X"}.get(declared.type, "VALUE")


def _help(recipe: Recipe, name: str) -> str:
    parameter = recipe.declared[name]
    words = [parameter.help.rstrip(".") + "." if parameter.help else ""]
    if parameter.type != "boolean":
        words.append(f"{parameter.wanted().capitalize()}.")
    if parameter.default not in (None, False, ""):
        default = "true" if parameter.default is True else parameter.default
        words.append(f"[default: {default}]")
    return " ".join(filter(None, words))


class Rows(click.ParamType[int]):
    """A number of rows."""

    name = "N"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """From 1 to the most that a run can have."""
        text = str(value)
        if not (text.isascii() and text.isdecimal()) or len(text) > 20 or not int(text):
            self.fail(f"{text!r} is no number of rows: a whole one, from 1 on.", param, ctx)
        if int(text) > MAX_ROWS:
            self.fail(f"A run has at most {MAX_ROWS:,} rows, not {int(text):,}. {SEVERAL}", param,
                      ctx)  # fmt: skip
        return int(text)


class RowNumbers(click.ParamType[tuple[int, ...]]):
    """Numbers of rows of a run, and ranges of them: `3,7,10-20`."""

    name = "ROWS"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Each number once, as they were typed."""
        if isinstance(value, tuple):
            return value
        found: dict[int, None] = {}
        for part in str(value).split(","):
            match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part, re.ASCII)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                self.fail(f"{part!r} is no row and no range of rows, as 7 or 10-20.", param, ctx)
            if last - first >= MOST_PICKED:
                self.fail(f"{part!r} is more rows than can be picked, {MOST_PICKED:,}.", param, ctx)
            found.update(dict.fromkeys(range(first, last + 1)))
        return tuple(found)


class Assignment(click.ParamType[tuple[str, str]]):
    """`NAME=VALUE`."""

    name = "NAME=VALUE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Both sides of the sign."""
        if isinstance(value, tuple):
            return value
        name, sign, text = str(value).partition("=")
        if not sign or not name.strip():
            self.fail(f"{value!r} must be NAME=VALUE.", param, ctx)
        return name.strip(), text


P = ParamSpec("P")
R = TypeVar("R")

WORDS = {"ignore_unknown_options": True, "allow_interspersed_args": True}
"""The context of a command that takes a recipe: what click does not know, the recipe may."""

_OPTIONS = (
    click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE"),
    click.option("--model", help="For every language column that names none."),
    click.option("--seed", type=click.IntRange(0), help="Another seed gives other rows."),
    click.option("--set", "sets", type=Assignment(), multiple=True, metavar="COLUMN.OPTION=VALUE",
                 help="Change an option of a column."),
    click.option("--param", "params", type=Assignment(), multiple=True,
                 help="A parameter of the recipe, as --NAME VALUE says too."),
)  # fmt: skip


def takes_recipe(
    default_rows: int,
) -> Callable[[Callable[Concatenate[Typed, P], R]], Callable[..., R]]:
    """Give a command RECIPE and the options that change it, as its first argument.

    Stands above the command's own options, below `click.command(cls=RecipeCommand,
    context_settings=WORDS)`.
    """
    rows = click.option("-n", "--rows", type=Rows(), help=f"How many.  [default: {default_rows}]")

    def decorate(function: Callable[Concatenate[Typed, P], R]) -> Callable[..., R]:
        @wraps(function)
        def command(
            words: tuple[str, ...],
            model: str | None,
            seed: int | None,
            sets: Pairs,
            params: Pairs,
            rows: int | None,
            *args: P.args,
            **options: P.kwargs,
        ) -> R:
            return function(Typed(words, model, seed, sets, params, rows), *args, **options)

        for option in (rows, *reversed(_OPTIONS)):
            option(command)
        return command

    return decorate
