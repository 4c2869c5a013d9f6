"""`wordmill backup` and `wordmill restore`: the data folder in one file, and back."""

import sys
from pathlib import Path

import click

from wordmill import backups
from wordmill.cli.settings import warn
from wordmill.secrets import KEY_FILE
from wordmill.settings import load


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--with-key",
    is_flag=True,
    help="Also the key that opens stored secrets: then guard the backup as you guard them.",
)
def backup(path: Path, with_key: bool) -> None:
    """Write the data folder and the database into one file.

    Others may go on working. Datasets that lie outside the data folder are files already, and are
    not in it.
    """
    settings = load()
    warn(settings)
    summary = backups.back_up(settings, path, with_key=with_key, tell=_tell)
    _tell("")
    click.echo(f"{path} holds {_words(summary)}.")
    if not summary.with_key and (settings.home / KEY_FILE).exists():
        click.echo(
            "The key that opens stored API keys is not in it (--with-key): keep "
            f"{settings.home / KEY_FILE} somewhere else, or enter those keys again."
        )
    click.echo(f"Check it: wordmill restore {path} --verify")


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--verify", is_flag=True, help="Only try it, in a folder of its own that is removed again."
)
def restore(path: Path, verify: bool) -> None:
    """Fill an empty data folder from a backup.

    Every part is checked before anything is written.
    """
    if verify:
        summary = backups.verify(path, tell=_tell)
        _tell("")
        click.echo(f"{path} is whole and restores: {_words(summary)}.")
        return
    settings = load()
    warn(settings)
    summary = backups.restore(settings, path, tell=_tell)
    _tell("")
    click.echo(f"{settings.home} now holds {_words(summary)}.")


def _tell(words: str) -> None:
    """One line that is written over, where somebody looks; "" wipes it."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{words[:78]}", nl=False, err=True)


def _words(summary: backups.Summary) -> str:
    shown = {name: rows for name, rows in summary.rows.items() if rows}
    rows = ", ".join(f"{count} {name}" for name, count in shown.items()) or "no rows"
    return (
        f"{rows} and {summary.files} files, {summary.size / 1e6:.1f} MB, "
        f"of {summary.created:%Y-%m-%d %H:%M} UTC"
    )
