"""`wordmill models`: the catalog of models."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from wordmill import models as catalog
from wordmill.accounts import ProviderKeys
from wordmill.cli import local_models
from wordmill.cli.settings import warn
from wordmill.cli.table import table
from wordmill.database import LOCAL, open_database
from wordmill.errors import ConfigError, UnknownName
from wordmill.models import Catalog, Model
from wordmill.providers.base import KeySource
from wordmill.providers.presets import PRESETS
from wordmill.settings import Settings, load, parse_concurrency


class Concurrency(click.ParamType[int | str]):
    """A number, or `auto`."""

    name = "N|auto"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """The number, or "auto"."""
        try:
            return parse_concurrency(str(value)) or "auto"
        except ValueError:
            self.fail(f"{value!r} is neither a whole number of 1 or more nor `auto`.", param, ctx)


@click.group()
def models() -> None:
    """The models that recipes can name."""


for _command in local_models.COMMANDS:
    models.add_command(_command)


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--presets", is_flag=True, help="The servers that are known by name instead.")
def list_(as_json: bool, presets: bool) -> None:
    """List the models."""
    if presets:
        _list_presets(as_json)
        return
    with _opened() as (models, key_of):
        found = models.all()
        if as_json:
            click.echo(json.dumps([_described(model, source) for model, source in found], indent=2))
            return
        rows = [
            (
                model.name,
                model.provider,
                model.model,
                model.base_url,
                "auto" if model.concurrency is None else str(model.concurrency),
                f"{model.price_in:g}/{model.price_out:g}",
                key_of(model),
                model.fallback or "-",
                source,
            )
            for model, source in found
        ]
    head = (
        "name", "provider", "model", "base URL", "at once", "price/M", "key", "fallback", "from",
    )  # fmt: skip
    click.echo(table(head, rows, {"at once": "auto", "price/M": "0/0", "fallback": "-"}))


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(name: str, as_json: bool) -> None:
    """Show one model whole."""
    with _opened() as (models, key_of):
        model = models.get(name)
        (source,) = (source for other, source in models.all() if other.name == name)
        described = _described(model, source)
        if as_json:
            click.echo(json.dumps(described, indent=2))
            return
        rows = [(field, _cell(field, value)) for field, value in described.items()]
        rows.append(("key", key_of(model)))
        if model.fallback:
            rows.append(("falls back to", _fallbacks(models, name)))
    if model.provider == "local":
        rows += local_models.described(name)
    click.echo(table(("field", "value"), rows))


@models.command()
@click.argument("name")
@click.option(
    "--provider",
    default="openai",
    show_default=True,
    help=f"Who answers: {', '.join(PRESETS)}, rehearsal. `openai` with a --base-url is any "
    "compatible server.",
)
@click.option("--base-url", default="", help="Where its API begins, as http://host:port/v1.")
@click.option("--model", "model_name", required=True, help="What the server calls the model.")
@click.option("--key-env", help="The environment variable that holds the API key.")
@click.option("--rpm", type=int, help="Requests a minute that it allows.")
@click.option("--tpm", type=int, help="Tokens a minute that it allows.")
@click.option(
    "--concurrency", type=Concurrency(), help="Requests at once; the setting decides without it."
)
@click.option("--price-in", type=float, default=0.0, help="Money per million tokens read.")
@click.option("--price-out", type=float, default=0.0, help="Money per million tokens written.")
@click.option("--context", type=int, help="Tokens that fit into its window.")
@click.option("--fallback", help="The model that takes over when this one's server is down.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    help="Sent with each request, as 'Name: value'; ${VARIABLE} is read from the environment.",
)
@click.option(
    "--without",
    multiple=True,
    help="What it lacks: json_schema, json_object, system, seed, vision, or a field of a request.",
)
@click.option("--replace", "replacing", is_flag=True, help="Overwrite a model of this name.")
def add(
    name: str,
    model_name: str,
    headers: tuple[str, ...],
    concurrency: int | str | None,
    replacing: bool,
    **options: object,
) -> None:
    """Add a model under a NAME of your choice.

    \b
    wordmill models add gpt --provider openai --model gpt-4.1-mini --price-in 0.4 --price-out 1.6
    wordmill models add local --provider ollama --model qwen3:8b
    wordmill models add mock --base-url http://127.0.0.1:9000/v1 --model mock-1
    """
    model = catalog.checked(
        {
            **options,
            "name": name,
            "model": model_name,
            "concurrency": None if concurrency == "auto" else concurrency,
            "headers": dict(_header(text) for text in headers),
        }
    )
    with _opened() as (models, key_of):
        models.add(model, replacing=replacing)
        missing = None
        try:
            models.chain(name)
        except UnknownName as error:
            missing = str(error)
        key = key_of(model)
    click.echo(f"Added {name}: {model.model} at {model.base_url}.")
    if missing:
        click.echo(f"note: {missing} Add it before a run.", err=True)
    if key == "missing":
        click.echo(
            f"note: {model.key_env} is not set yet; `wordmill models key {name}` stores a key.",
            err=True,
        )
    click.echo(f"Try it with: wordmill models test {name}", err=True)


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def test(name: str, as_json: bool) -> None:
    """Send one small request, and explain what goes wrong."""
    with _opened() as (models, _):
        provider = models.provider(name)
        trial = provider.test()
    for sentence in trial.degraded:
        click.echo(f"note: {sentence}", err=True)
    if as_json:
        click.echo(json.dumps(asdict(trial), indent=2))
        if not trial.passed:
            raise click.exceptions.Exit(2)
    elif trial.passed:
        click.echo(trial.sentence)
    else:
        raise ConfigError(trial.sentence)


@models.command()
@click.argument("name")
@click.option(
    "--everyone/--own",
    default=False,
    show_default="own",
    help="For the requests of all people, or only for yours and the command line's.",
)
@click.option("--remove", "removing", is_flag=True, help="Forget the stored key.")
def key(name: str, everyone: bool, removing: bool) -> None:
    """Store the API key of a model, encrypted.

    It is asked for, or the first line of what is piped in. One's own stored key comes first, then
    the variable that --key-env names, then everybody's stored key. It goes only to the address that
    the model has now.
    """
    from wordmill.cli.people import asked, opened

    whose = "everybody's" if everyone else "your"
    if not removing:
        with _opened() as (models, _):
            models.get(name)  # before anybody types a key
    with opened() as accounts:
        actor, keys = accounts.people.local(), accounts.provider_keys
        if removing:
            keys.remove(actor, name, everyone=everyone)
            click.echo(f"Removed {whose} key for {name}.")
            return
        keys.set(actor, name, asked(f"API key for {name}"), everyone=everyone)
    click.echo(f"Stored {whose} key for {name}, encrypted.")
    click.echo(f"Try it with: wordmill models test {name}", err=True)


@models.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget a model, and its files that were fetched or made."""
    with local_models.opened() as local:
        if name in local.registry.names():
            freed = local.remove(name)
            click.echo(f"Removed {name}; {freed:,} bytes are free again.")
            return
    with _opened() as (models, _):
        models.remove(name)
    click.echo(f"Removed {name}.")


@contextmanager
def _opened() -> Iterator[tuple[Catalog, Callable[[Model], str]]]:
    settings = load()
    warn(settings)
    with open_database(settings) as database:
        keys = ProviderKeys(database, settings).of(LOCAL)
        yield Catalog(database, settings, keys), lambda model: _key(model, settings, keys)


def _list_presets(as_json: bool) -> None:
    if as_json:
        known = {
            name: {"base_url": preset.base_url, "key_env": preset.key_env, "note": preset.note}
            for name, preset in PRESETS.items()
        }
        click.echo(json.dumps(known, indent=2))
        return
    rows = [
        (name, preset.base_url, preset.key_env or "none", preset.note)
        for name, preset in PRESETS.items()
    ]
    click.echo(table(("provider", "base URL", "key", "note"), rows))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ConfigError(f"--header {text.split()[0] if text.split() else ''!r} has no colon: "
                          "write it as 'Name: value'.")  # fmt: skip
    return name.strip(), value.strip()


def _described(model: Model, source: str) -> dict[str, object]:
    return {**asdict(model), "without": list(model.without), "from": source}


def _cell(field: str, value: object) -> str:
    if field == "concurrency" and value is None:
        return "auto"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {text}" for name, text in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def _fallbacks(models: Catalog, name: str) -> str:
    try:
        return ", then ".join(model.name for model in models.chain(name)[1:])
    except ConfigError as error:
        return str(error)


def _key(model: Model, settings: Settings, keys: KeySource) -> str:
    """Whether there is a key, and from where; never the key."""
    try:
        own, shared = keys(model)
    except ConfigError:
        return "cannot be opened"
    if own is not None:
        return "stored"
    if model.key_env is not None and settings.secret(model.key_env):
        return "set"
    if shared is not None:
        return "stored for everybody"
    return "none" if model.key_env is None else "missing"
