"""`wordmill index`: where the results of batches are found."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Final

import click

from wordmill.batches import Batches, Far, Files, Index, open_store
from wordmill.cli.settings import warn
from wordmill.cli.table import table
from wordmill.database import open_database
from wordmill.errors import ConfigError
from wordmill.runs.interrupts import Interrupts
from wordmill.settings import Settings, load
from wordmill.storage import open_storage

TELL: Final = 0.2
"""Seconds between words on how far it is; 5 where nobody watches."""


@click.group()
def index() -> None:
    """The index in which results of batches are found."""


@index.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the parts of the index, and what is wrong with it.

    Exit code 3 when something is.
    """
    with _index(_settings()) as found:
        standing = found.standing()
    if as_json:
        click.echo(json.dumps(asdict(standing), indent=2))
    else:
        rows = [
            (
                one.name,
                f"{one.documents:,}",
                f"{one.bytes / 1e6:,.1f} MB",
                "yes" if one.open else "",
            )
            for one in standing.parts
        ]
        if rows:
            click.echo(table(("part", "documents", "size", "open"), rows, {"open": ""}))
        else:
            click.echo(f"The index ({standing.kind}) holds nothing yet.")
        if standing.trouble:
            click.echo(standing.trouble, err=True)
    if standing.trouble:
        ctx.exit(3)


@index.command()
@click.argument("batches", metavar="[BATCH]...", nargs=-1)
@click.pass_context
def rebuild(ctx: click.Context, batches: tuple[str, ...]) -> None:
    """Take in results that the index lacks, of all batches or of these.

    For an index that was lost, and for batches that were let go. Ctrl-C stops it; the same command
    goes on where it was.
    """
    told = _Told()
    with _index(_settings()) as found, Interrupts() as interrupts:
        far = found.rebuild(batches, told, lambda: interrupts.count > 0)
        stopped = interrupts.count > 0
    told.end()
    here = f"{far.there:,} of {far.lines:,} results of {_batches(far.batches)} are in the index."
    click.echo(here)
    if stopped:
        click.echo("Stopped. Continue with: wordmill index rebuild", err=True)
        ctx.exit(130)


@index.command()
@click.option("--days", type=click.FloatRange(0, min_open=True), help="Older ones go.")
@click.option("--documents", type=click.IntRange(1), help="The oldest beyond so many go.")
def retain(days: float | None, documents: int | None) -> None:
    """Let go of old results: found no more, kept in the files.

    Without an option the settings index_days and index_documents say how much is kept. A server
    does the same by itself. `wordmill index rebuild BATCH` brings a batch back.
    """
    settings = _settings()
    if days is not None or documents is not None:
        settings = replace(settings, index_days=days, index_documents=documents)
    if settings.index_days is None and settings.index_documents is None:
        raise ConfigError(
            "Nothing says how much of the index to keep: give --days or --documents, or set "
            "index_days or index_documents."
        )
    with _index(settings) as found:
        new, gone = found.roll(), found.retain()
    for name in new:
        click.echo(f"{name} begins.")
    for name in gone:
        click.echo(f"{name} is gone.")
    if not new and not gone:
        click.echo("Nothing is too large or too old.")


class _Told:
    """Says how far it is, on one line of a terminal."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = time.monotonic()
        self._said = False

    def __call__(self, far: Far) -> None:
        if time.monotonic() - self._last < (TELL if self._live else 5.0):
            return
        self._last, self._said = time.monotonic(), True
        words = f"{_batches(far.batches)}: {far.there:,} of {far.lines:,} results"
        click.echo(f"\r\x1b[K{words}" if self._live else words, nl=not self._live, err=True)

    def end(self) -> None:
        """No more comes."""
        if self._live and self._said:
            click.echo(err=True)


def _settings() -> Settings:
    settings = load()
    warn(settings)
    return settings


@contextmanager
def _index(settings: Settings) -> Iterator[Index]:
    with open_database(settings) as database:
        files = Files(database, open_storage(settings), settings.batch_file_bytes)
        found = Index(
            Batches(database, files), open_store(settings), settings.index_days,
            settings.index_documents,
        )  # fmt: skip
        try:
            yield found
        finally:
            found.close()


def _batches(number: int) -> str:
    return "1 batch" if number == 1 else f"{number:,} batches"
