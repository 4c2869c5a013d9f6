"""`wordmill new` and `wordmill check`: begin a recipe, and see that it will work."""

import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import click

from wordmill.accounts import catalog_of
from wordmill.cli.recipe_options import WORDS, RecipeCommand, Typed, takes_recipe
from wordmill.cli.settings import warn
from wordmill.columns import files
from wordmill.columns.faults import Fault
from wordmill.database import open_database
from wordmill.errors import ConfigError, RecipeError, StorageError, WordmillError
from wordmill.providers.base import Model, Probe
from wordmill.recipes import Recipe
from wordmill.recipes.estimates import ColumnEstimate, Speed, estimate, seconds, sure_faults
from wordmill.recipes.recipe import BUILT_IN, FILE, find
from wordmill.runs.launch import DEFAULT_ROWS
from wordmill.runs.show import count, duration, money, rounded
from wordmill.settings import Settings, load

_STARTER = Path(__file__).parent.parent / "recipes" / "starter.yaml"
_WIDTH = 10  # of the words at the beginning of a line
_GUESSED_CONCURRENCY = 64  # for models whose concurrency adapts


@click.command()
@click.argument("name")
@click.option("--recipe", "what", help="A built-in recipe to begin with, such as rlhi.")
def new(name: str, what: str | None) -> None:
    """Make a folder NAME with a recipe.yaml to begin with.

    \b
    wordmill new tickets
    wordmill new my-rlhi --recipe rlhi
    """
    folder = Path(name)
    if (folder / FILE).exists() or (folder.exists() and not folder.is_dir()):
        there = folder if not folder.is_dir() else folder / FILE
        raise ConfigError(f"{there} is there already, and is not overwritten. Choose another name.")
    if what is None:
        text = _STARTER.read_text(encoding="utf-8").replace("NAME", _plain(folder.name), 1)
        _write(folder / FILE, text)
    else:
        _copy(what, folder)
    recipe = Recipe.load(folder)
    click.echo(f"Made {folder / FILE}: {_columns(recipe)}. Nothing was sent anywhere.")
    click.echo("\nNext:")
    for command in ("check {0}", "preview {0} -n 2", "generate {0} --rows 100"):
        click.echo(f"  wordmill {command.format(shlex.quote(name))}")


@click.command(cls=RecipeCommand, context_settings=WORDS)
@takes_recipe(DEFAULT_ROWS)
def check(typed: Typed) -> int:
    """See whether a recipe will work and what it will cost.

    No completion is asked for. Shown are the order of its columns, whether each model can be
    reached, and an estimate of requests, tokens, money and time. RECIPE is a file, a folder, or the
    name of a built-in one.

    \b
    wordmill check tickets.yaml --rows 5000
    wordmill check rlhi --scenarios 200 --actions 3 --model gpt
    """
    settings = load()
    warn(settings)
    try:
        chosen = typed.choose(settings)
    except RecipeError as error:
        return _complain(error.each)
    recipe, rows = chosen.recipe, chosen.rows or DEFAULT_ROWS
    _say("recipe", f"{recipe.name}: {_columns(recipe)}, made in this order:")
    for step in _steps(recipe):
        _say("", f"  {', '.join(step)}")
    errors: list[WordmillError] = []
    models = _models(recipe, settings, errors)
    try:
        makers = recipe.makers()
    except RecipeError as refused:
        errors += refused.each
    else:
        faults = sure_faults(recipe, makers, rows)
        parts = estimate(recipe, makers, rows, settings.default_max_tokens)
        errors += map(recipe.error, faults)
        told = {fault.path[1] for fault in faults}
        _tell(parts, told, rows, models, settings)
    return _complain(errors)


def _complain(errors: Sequence[WordmillError]) -> int:
    """Say them all; the exit code."""
    for error in errors:
        click.echo(f"error: {error}", err=True)
    return 2 if errors else 0


def _say(word: str, text: str) -> None:
    click.echo(f"{word:<{_WIDTH}}{text}")


def _columns(recipe: Recipe) -> str:
    asking = sum(column.asks_model for column in recipe.columns.values())
    whose = {0: "none of them asks a model", 1: "1 of them asks a model"}.get(
        asking, f"{asking} of them ask a model"
    )
    return f"{count(len(recipe.columns), 'column')}, {whose}"


def _steps(recipe: Recipe) -> Iterator[Sequence[str]]:
    """Columns that can be made side by side, in the order of making."""
    depth: dict[str, int] = {}
    for name in recipe.order:
        depth[name] = max((depth[other] + 1 for other in recipe.needs(name)), default=0)
    for _, step in groupby(sorted(depth, key=depth.__getitem__), key=depth.__getitem__):
        yield list(step)


# Models ----------------------------------------------------------------------------------------


def _models(recipe: Recipe, settings: Settings, errors: list[WordmillError]) -> Mapping[str, Model]:
    """The models that the recipe asks, each looked for at its server, side by side."""
    found: dict[str, Model] = {}
    with open_database(settings) as database:
        catalog = catalog_of(database, settings)
        for name in sorted(recipe.models()):
            try:
                for model in catalog.chain(name):
                    found[model.name] = model
            except ConfigError as error:
                errors.append(recipe.error(Fault(_named(recipe, name), str(error))))
        providers = {name: catalog.provider(name) for name in found}
        with ThreadPoolExecutor(max_workers=8) as pool:
            probes = pool.map(lambda provider: provider.probe(), providers.values())
            for name, probe in zip(providers, probes, strict=True):
                _tell_probe(name, probe, errors)
    return found


def _named(recipe: Recipe, model: str) -> tuple[str, ...]:
    """Where a recipe names a model."""
    for name, column in recipe.columns.items():
        if model in column.models():
            return ("columns", name, "model")
    return ("model",)


def _tell_probe(name: str, probe: Probe, errors: list[WordmillError]) -> None:
    if probe.usable:
        _say("model", f"{name}: {probe.sentence}")
    else:
        errors.append(ConfigError(f"The model {name!r} cannot be used. {probe.sentence}"))


# The estimate ----------------------------------------------------------------------------------


def _tell(
    parts: Sequence[ColumnEstimate],
    told: Collection[object],
    rows: int,
    models: Mapping[str, Model],
    settings: Settings,
) -> None:
    """The estimate. told: columns whose faults are told elsewhere."""
    for part in parts:
        if part.fault and part.column not in told:
            _say("note", f"{part.column}, {part.fault} (in a trial with made-up answers)")
    requests = sum(part.requests for part in parts)
    if not requests:
        _say("estimate", f"{count(rows, 'row')}, no requests")
        return
    tokens_in, tokens_out, most_out = (
        rounded(sum(numbers))
        for numbers in zip(
            *((part.tokens_in, part.tokens_out, part.most_out) for part in parts), strict=True
        )
    )
    _say(
        "estimate",
        f"{count(rows, 'row')} = {count(requests, 'request')}, about {tokens_in} tokens in and "
        f"{tokens_out} out (at most {most_out})",
    )
    cost, most = _price(parts, models, most=False), _price(parts, models, most=True)
    unpriced = sorted(
        part.model
        for part in parts
        if part.model in models
        and models[part.model].provider != "rehearsal"
        and not (models[part.model].price_in or models[part.model].price_out)
    )
    if cost:
        _say("money", f"about {money(cost)}, at most {money(most)}")
    elif unpriced:
        _say(
            "money", f"not known: the catalog has no price for {', '.join(dict.fromkeys(unpriced))}"
        )
    else:
        _say("money", "none")
    speeds = {
        name: Speed(
            concurrency=model.concurrency or settings.concurrency or _GUESSED_CONCURRENCY,
            rpm=model.rpm,
            tpm=model.tpm,
        )
        for name, model in models.items()
        if model.provider != "rehearsal"
    }
    if time := seconds(parts, speeds):
        at_once = ", ".join(f"{name} {speed.concurrency}" for name, speed in speeds.items())
        _say("time", f"about {duration(max(1, time))} (guessed; at once: {at_once})")


def _price(parts: Sequence[ColumnEstimate], models: Mapping[str, Model], *, most: bool) -> float:
    return (
        sum(
            part.tokens_in * models[part.model].price_in
            + (part.most_out if most else part.tokens_out) * models[part.model].price_out
            for part in parts
            if part.model in models
        )
        / 1e6
    )


# A new recipe ----------------------------------------------------------------------------------


def _plain(name: str) -> str:
    """A folder's name as a recipe's name."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
    return kept.strip("-")[:100] or "recipe"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}.") from error


def _copy(what: str, folder: Path) -> None:
    """A built-in recipe with its files, which the copy then reads; or any recipe's one file."""
    path, _ = find(what)
    try:
        if path.is_relative_to(BUILT_IN):
            shutil.copytree(path.parent, folder, dirs_exist_ok=True)
            text = path.read_text(encoding="utf-8")
            _write(folder / FILE, text.replace(f"{files.BUILT_IN}{path.parent.name}/", ""))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / FILE)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}.") from error
