"""`wordmill cache`: the answers that are kept for later runs.

The cache is an index of what stands in the records of earlier runs, so runs are forgotten whole.
The records of unfinished runs stay, because they are what such a run goes on with.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from wordmill.cli.settings import warn
from wordmill.database import open_database
from wordmill.errors import ConfigError, StorageError
from wordmill.runs.files import RunFiles
from wordmill.runs.registry import Registry
from wordmill.settings import Settings, load, parse_bytes, parse_seconds

_DAY = 86400.0


@click.group()
def cache() -> None:
    """The answers that are kept for later runs."""


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(as_json: bool) -> None:
    """Show how many answers are kept, their size and age."""
    file = _settings().cache_file
    stats = _stats(file)
    if as_json:
        click.echo(json.dumps({"file": str(file), **stats}, indent=2))
    elif not stats["entries"]:
        click.echo(f"The cache {file} holds nothing.")
    else:
        click.echo(
            f"The cache {file} holds {_answers(stats['entries'])}, {_size(stats['bytes'])}, "
            f"of runs {_days(stats['oldest'], stats['newest'])}."
        )


@cache.command()
@click.option("--older-than", help="Forget the runs of this age, as 30d or 12h.")
@click.option("--larger-than", help="Forget the oldest runs until no more is kept, as 2GB.")
def prune(older_than: str | None, larger_than: str | None) -> None:
    """Forget the answers of old runs, by age and size.

    Without an option the settings cache_days and cache_bytes say how much is kept. Datasets stay,
    and so do the records of unfinished runs.
    """
    settings = _settings()
    seconds = settings.cache_days * _DAY if settings.cache_days else None
    size = settings.cache_bytes
    if older_than is not None or larger_than is not None:
        seconds = None if older_than is None else _age(older_than)
        size = None if larger_than is None else _bytes(larger_than)
    if seconds is None and size is None:
        raise ConfigError(
            "Nothing says how much of the cache to keep: give --older-than or --larger-than, "
            "or set cache_days or cache_bytes."
        )
    _forget(settings, seconds, size)


@cache.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Forget all answers, but those of unfinished runs. Datasets stay."""
    settings = _settings()
    entries = _stats(settings.cache_file)["entries"]
    if entries and not yes:
        click.confirm(
            f"Forget {_answers(entries)}? Asking the same again will cost again.",
            abort=True,
            err=True,
        )
    _forget(settings, None, 0)


def _settings() -> Settings:
    settings = load()
    warn(settings)
    return settings


def _stats(file: Path) -> dict[str, int]:
    if not file.exists():
        return {"entries": 0, "bytes": 0}
    from wordmill._engine import EngineFault, cache_stats

    try:
        found: dict[str, int] = json.loads(cache_stats(str(file)))
    except EngineFault as error:
        raise StorageError(f"The cache {file} cannot be read: {error}.") from error
    return found


def _forget(settings: Settings, seconds: float | None, size: int | None) -> None:
    file = settings.cache_file
    removed = {"entries": 0, "bytes": 0}
    if file.exists():
        from wordmill._engine import EngineFault, cache_prune

        try:
            removed = json.loads(cache_prune(str(file), seconds, size, _unfinished(settings)))
        except EngineFault as error:
            raise StorageError(f"The cache {file} cannot be pruned: {error}.") from error
    click.echo(f"Forgot {_answers(removed['entries'])}, {_size(removed['bytes'])}.")


def _unfinished(settings: Settings) -> list[str]:
    """The records that a run would go on with."""
    with open_database(settings) as database:
        registry = Registry(database, settings)
        runs = [run.id for run in registry.all() if run.unfinished]
        files = [RunFiles(run, registry.files(run)) for run in runs]
        return [str(path) for one in files for path in (one.records, *one.of_parts())]


def _age(text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise ConfigError(f"--older-than {text!r} is no age: write it as 30d or 12h.") from error


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise ConfigError(f"--larger-than {text!r} is no size: write it as 2GB.") from error


def _answers(number: int) -> str:
    return "1 answer" if number == 1 else f"{number:,} answers"


def _size(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _days(oldest: float, newest: float) -> str:
    first, last = (f"{datetime.fromtimestamp(one, UTC):%Y-%m-%d}" for one in (oldest, newest))
    return f"of {first}" if first == last else f"from {first} to {last}"
