"""`wordmill chat` and `wordmill ask`: talk in a terminal, ask in a pipe."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wordmill.cli.settings import warn
from wordmill.errors import ConfigError, InvalidInput
from wordmill.settings import Settings, load

if TYPE_CHECKING:
    from wordmill.channels.shell.partner import Partner

_URL = click.option("--url", help="The address of a Wordmill elsewhere; this machine without it.")
_KEY = click.option("--key", help="The API key for it; better in WORDMILL_SERVER_KEY.")


@click.command()
@click.argument("model", required=False)
@click.option("-c", "--continue", "goes_on", is_flag=True, help="Go on with the last conversation.")
@click.option("--conversation", help="Go on with this one, by its id.")
@click.option("--temporary", is_flag=True, help="Keep nothing of it.")
@_URL
@_KEY
def chat(
    model: str | None,
    goes_on: bool,
    conversation: str | None,
    temporary: bool,
    url: str | None,
    key: str | None,
) -> None:
    """Talk to a MODEL in this terminal.

    `/commands` in it lists what can be done.

    \b
    wordmill chat                  the default model
    wordmill chat gpt              another one of `wordmill models list`
    wordmill chat -c               the last conversation, where it was left
    wordmill chat --url https://wordmill.example.org
    """
    from wordmill.channels.shell.begin import Wish, talk

    if not sys.stdin.isatty():
        raise InvalidInput(
            "`wordmill chat` reads from a terminal. In a pipe use `wordmill ask`, as in "
            "`cat notes.txt | wordmill ask 'Summarise this.'`"
        )
    if temporary and (goes_on or conversation):
        raise InvalidInput("--temporary begins a conversation; it cannot go on with one.")
    settings = _settings(url, key)
    with _partner(settings) as partner:
        talk(partner, settings, Wish(model, temporary, goes_on, conversation))


@click.command()
@click.argument("text", nargs=-1)
@click.option("-m", "--model", help="The model that answers; the default one without it.")
@click.option("-c", "--continue", "goes_on", is_flag=True, help="Go on with the last conversation.")
@click.option("--keep", is_flag=True, help="Keep it as a conversation.")
@click.option("-s", "--system", default="", help="The system prompt.")
@click.option(
    "-a", "--attach", "files", multiple=True, type=click.Path(path_type=Path),
    help="A file that goes with it.",
)  # fmt: skip
@_URL
@_KEY
def ask(
    text: tuple[str, ...],
    model: str | None,
    goes_on: bool,
    keep: bool,
    system: str,
    files: tuple[Path, ...],
    url: str | None,
    key: str | None,
) -> int:
    """Ask one question and print the answer.

    What is piped in comes after the TEXT.

    Nothing is kept of it without --keep or -c. In a pipe the answer is plain text.

    \b
    wordmill ask "What is a fencing number?"
    cat notes.txt | wordmill ask "Summarise this."
    git diff | wordmill ask -m gpt "A message for this commit, please." > message.txt

    Exit codes: 0 answered; 2 no answer; 130 stopped by Ctrl-C.
    """
    from wordmill.channels.shell.begin import Question, Wish, answer

    settings = _settings(url, key)
    question = Question(" ".join(text), _piped(), system, files)
    with _partner(settings) as partner:
        return answer(partner, Wish(model, not keep and not goes_on, goes_on), question)


def _piped() -> str:
    """What comes in by a pipe or from a file."""
    if sys.stdin.isatty():
        return ""
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"What is piped in is no text: byte {error.start + 1} is not UTF-8. A picture goes "
            "with --attach."
        ) from error


def _settings(url: str | None, key: str | None) -> Settings:
    settings = load({"server": url, "server_key": key})
    warn(settings)
    return settings


@contextmanager
def _partner(settings: Settings) -> Iterator["Partner"]:
    """The server that the settings name, or this machine's house."""
    if settings.server:
        from wordmill.channels.shell.remote import Remote

        if not settings.server_key:
            raise ConfigError(
                f"The server {settings.server} wants an API key: make one there on the page "
                "Settings, and set WORDMILL_SERVER_KEY."
            )
        remote = Remote(settings.server, settings.server_key)
        try:
            yield remote
        finally:
            remote.close()
        return
    from wordmill.channels.house import open_house
    from wordmill.channels.shell.local import Local

    with open_house(settings) as house:
        yield Local(house)
