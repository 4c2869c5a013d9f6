"""Options that a recipe brings along: its parameters, and the name of its main table for `--rows`.

    wordmill generate rlhi --scenarios 200 --actions 3 --compare

Which options there are is only known once the recipe is read, so what click does not know is
collected here and read by the recipe. `--param NAME=VALUE` says the same for a parameter whose
name is an option of the command.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import click

from wordmill.errors import WordmillError, nearest
from wordmill.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Chosen:
    """A recipe as the command line wants it. rows: given under the table's name, or None."""

    recipe: Recipe
    rows: int | None
    parameters: dict[str, str] = field(default_factory=dict)


class RecipeCommand(click.Command):
    """A command whose first word is a recipe; its help lists the recipe's options too."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's options, then those of a recipe that stands on the command line."""
        super().format_options(ctx, formatter)
        words = [word for word in ctx.meta.get("wordmill.words", ()) if not word.startswith("-")]
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
        """Keep the words, so that `--help` can look for a recipe among them."""
        ctx.meta["wordmill.words"] = list(args)
        return super().parse_args(ctx, args)


def read_words(ctx: click.Context, words: Sequence[str]) -> tuple[str, list[str]]:
    """The recipe's name, and what click did not know. Raises UsageError without a recipe."""
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
    return words[0], list(words[1:])


def choose(
    ctx: click.Context, named: str, rest: Sequence[str], params: Sequence[tuple[str, str]]
) -> Chosen:
    """Load the recipe and read what was given for it.

    rest: what click did not know.  params: of `--param`.  Raises UsageError for an option that
    neither the command nor the recipe has, RecipeError.
    """
    recipe = Recipe.load(named)
    rows: int | None = None
    values = dict(params)
    known = {_dashed(name): name for name in recipe.declared}
    for option, value in _pairs(ctx, recipe, rest):
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
    return Chosen(recipe, rows, values)


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
    if not value.isdecimal():
        raise click.UsageError(f"{option} is a whole number, not {value!r}.", ctx)
    return int(value)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _value(recipe: Recipe, name: str) -> str:
    kind = recipe.declared[name].type
    return {"boolean": "", "integer": "N", "number": "X"}.get(kind, "VALUE")


def _help(recipe: Recipe, name: str) -> str:
    parameter = recipe.declared[name]
    words = [parameter.help.rstrip(".") + "." if parameter.help else ""]
    if parameter.type != "boolean":
        words.append(f"{parameter.wanted().capitalize()}.")
    if parameter.default not in (None, False):
        words.append(f"[default: {parameter.default}]")
    return " ".join(filter(None, words))


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
