"""A sitting at a terminal, or one question: from what was asked for to its end."""

import contextlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import click
from prompt_toolkit.output import Output
from prompt_toolkit.output.defaults import create_output

from wordmill.channels.shell.partner import Found, Partner, Place, Said
from wordmill.channels.shell.prompting import Prompt, no_history, open_history
from wordmill.channels.shell.rendering import Page, Plain, Rendered, make_console
from wordmill.channels.shell.session import Shell, unfinished
from wordmill.channels.shell.watching import Leave, keys, watch
from wordmill.errors import InvalidInput, WordmillError
from wordmill.settings import Settings
from wordmill.storage import said


@dataclass(frozen=True, slots=True)
class Wish:
    """Where to talk. model: None is the default, or the conversation's own.

    newest: go on with the last conversation; `conversation`: with that one.
    """

    model: str | None = None
    temporary: bool = False
    newest: bool = False
    conversation: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One question. piped: what came in by a pipe."""

    text: str
    piped: str = ""
    system: str = ""
    files: tuple[Path, ...] = ()


def talk(partner: Partner, settings: Settings, wish: Wish) -> None:
    """Sit at the terminal until the person leaves. Raises WordmillError for what cannot begin."""
    found, place = _place(partner, wish)
    kept = settings.home / "history" / _file_name(partner)
    history = no_history() if wish.temporary else open_history(kept)

    def prompt(shell: Shell) -> Prompt:
        return Prompt(history, shell.complete, unfinished, shell.toolbar, sink=_sink())

    console = make_console(sys.stdout)
    aside = console if console.is_terminal else make_console(sys.stderr)
    Shell(partner, place, console, aside, prompt).run(found)


def answer(partner: Partner, wish: Wish, question: Question) -> int:
    """Ask, and print the answer; the exit code. Raises WordmillError for what cannot be asked."""
    parts = [part for part in (question.text.strip(), question.piped.strip("\n")) if part.strip()]
    if not parts and not question.files:
        raise InvalidInput("There is nothing to ask: give a TEXT, or pipe something in.")
    _, place = _place(partner, wish)
    if place.conversation is None:
        place = Place(partner.begin(place), place.model, place.temporary)
    if question.system:
        partner.run(place, "set-prompt", {"text": question.system})
    files = []
    for path in question.files:
        with said(path):
            data = path.read_bytes()
        files.append(partner.attach(place, path.name, data))
    asked = partner.send(place, "\n\n".join(parts), files)
    try:
        with keys(shown=False):
            ended, stopped = _watched(partner, place, asked)
    except Leave:
        return 130
    except BaseException:
        with contextlib.suppress(WordmillError):
            partner.stop(place, asked)
        raise
    for sentence in ended.notes:
        click.echo(f"note: {sentence}", err=True)
    if stopped:
        return 130
    if ended.state != "done":
        click.echo(f"error: {ended.error or 'The answer was interrupted.'}", err=True)
        return 2
    if ended.finish == "length":
        click.echo("note: The answer reached its greatest length.", err=True)
    return 0


def _watched(partner: Partner, place: Place, answer: str) -> tuple[Said, bool]:
    """Show an answer. Nobody can be asked about tools here, so their calls are declined."""
    page = _page()

    def turned(message: Said) -> None:
        if message.tool:
            click.echo(f"note: tool {message.tool}", err=True)

    ended, stopped = watch(partner, place, answer, page, turned)
    while ended.tool and ended.state == "waiting" and not stopped:
        for call in partner.asked(place):
            click.echo(f"note: {call.tool} needs a yes, in `wordmill chat`: declined.", err=True)
            partner.confirm(place, call.message, False)
        ended, stopped = watch(partner, place, ended.id, page, turned)
    return ended, stopped


def _place(partner: Partner, wish: Wish) -> tuple[Found | None, Place]:
    """Where to talk; the model is looked for before anything is said."""
    found = None
    if wish.conversation is not None:
        found = partner.find(wish.conversation)
    elif wish.newest:
        found = partner.newest()
        if found is None:
            raise InvalidInput("There is no conversation yet that could be gone on with.")
    place = Place(found.id if found else None, wish.model, wish.temporary)
    if wish.model is not None:
        if found is not None:
            partner.run(place, "swap-model", {"name": wish.model})
        else:
            partner.run(place, "/model")
    return found, place


def _page() -> Page:
    console = make_console(sys.stdout)
    if console.is_terminal and not console.is_dumb_terminal:
        return Rendered(console)
    return Plain(sys.stdout, terminal=console.is_terminal)


def _sink() -> Output | None:
    """Where the prompt is drawn: answers may go into a file while the person still types."""
    return None if sys.stdout.isatty() else create_output(stdout=sys.stderr)


def _file_name(partner: Partner) -> str:
    """Of the history: one for each person and place."""
    return re.sub(r"[^\w.-]", "_", "-".join(filter(None, (partner.address, partner.person))))
