"""`wordmill import`: conversations out of other people's exports, and out of our own."""

import sys
from pathlib import Path

import click

from wordmill.channels.house import open_house
from wordmill.chat.types import Imported
from wordmill.cli.people import find
from wordmill.cli.settings import warn
from wordmill.settings import load


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--person", metavar="EMAIL", help="Whose they become; yours without it.")
def import_(path: Path, person: str | None) -> None:
    """Bring in the conversations of a file.

    PATH is an export of ChatGPT or Claude, the zip as it came or its conversations.json, or one of
    Wordmill. The same file twice makes nothing twice, so an import that was interrupted is simply
    run again.

    \b
    wordmill import chatgpt-export.zip
    """
    settings = load()
    warn(settings)
    with open_house(settings) as house:
        people = house.accounts.people
        whose = find(house.accounts, person) if person is not None else people.local()
        job = house.chat.imports.begin(whose, path)
        try:
            done = house.chat.imports.wait(whose, job, _tell)
        except KeyboardInterrupt:
            house.jobs.cancel(whose.id, job)
            raise
        finally:
            _wipe()
    for problem in done.problems:
        click.echo(click.unstyle(problem), err=True)
    click.echo(f"{path}: {_words(done)}.")


def _words(done: Imported) -> str:
    return (
        f"{done.made:,} new, {done.grown:,} grown, {done.known:,} known already; "
        f"{done.messages:,} messages"
    )


def _tell(done: Imported) -> None:
    """One line that is written over, where somebody looks."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{_words(done)}", nl=False, err=True)


def _wipe() -> None:
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
