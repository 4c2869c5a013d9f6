"""The shell's loop: a line in; a command's outcome, or an answer as it grows.

Everything that it says besides answers goes through `say`, rendered where there is a terminal. An
error is a sentence, and the line that caused it comes back to be mended.
"""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from rich.console import Console
from rich.text import Text

from wordmill.channels.shell.partner import Found, Partner, Place, Said
from wordmill.channels.shell.prompting import Prompt
from wordmill.channels.shell.rendering import Page, Plain, Rendered, safe
from wordmill.channels.shell.watching import Leave, keys, watch
from wordmill.commands import COMMANDS, Argument, File, Group, Outcome, Registry, Suggestion
from wordmill.commands.help import explanation, overview
from wordmill.commands.language import may_mean_a_command
from wordmill.commands.parsing import Line
from wordmill.commands.words import block, code, count
from wordmill.errors import InvalidInput, UnknownName, WordmillError
from wordmill.storage import said, write_whole

OWN: Final = Group("Shell")
"""Commands that only a shell has: they touch the terminal or this machine's files."""

_EARLIER: Final = 2
"""Messages that are shown of a conversation that is gone on with."""
_EARLIER_CHARACTERS: Final = 1500
_ECHOED: Final = 12
"""Lines of a message that stay on the screen."""


class Shell:
    """One sitting at a terminal.

    console: for answers and what commands say.  aside: for the rest; the same where both are one
    terminal, so that answers can go into a file.
    """

    def __init__(
        self,
        partner: Partner,
        place: Place,
        console: Console,
        aside: Console,
        prompt: Callable[["Shell"], Prompt],
    ) -> None:
        self.partner, self.place = partner, place
        self._console, self._aside = console, aside
        self._attachments: list[str] = []
        self._draft = ""
        self._last: Said | None = None
        self._leaving = False
        self._hint = "Enter sends, Alt-Enter begins a line, / shows the commands"
        self._prompt = prompt(self)

    def run(self, found: Found | None = None) -> None:
        """Until the person leaves. found: a conversation that is gone on with."""
        with keys(shown=False):
            self._greet(found)
            try:
                if found is not None and found.last and found.last[-1].open:
                    self._answer(found.last[-1].id)
                while self._turn():
                    pass
            except Leave:
                pass
            self.note("Bye.")

    def _turn(self) -> bool:
        """One line; whether there will be another."""
        draft, self._draft = self._draft, ""
        try:
            text = self._prompt.ask(draft)
        except EOFError:
            return False
        except KeyboardInterrupt:
            if self._leaving:
                return False
            self._leaving = True
            self.note("Ctrl-C again leaves, and so does Ctrl-D.")
            return True
        self._leaving = False
        self._hint = ""
        if not text.strip():
            return True
        if text.strip().lower() in ("exit", "quit"):
            return False
        self._echo(text)
        try:
            return self._take(text)
        except KeyboardInterrupt:
            self.note("Interrupted.")
            self._leaving = True
        except UnknownName as error:
            self._draft = text if error.kind == "command" else ""
            self.complain(error)
        except InvalidInput as error:
            self._draft = text
            self.complain(error)
        except WordmillError as error:
            self.complain(error)
        return True

    def _take(self, text: str) -> bool:
        line = LOCAL.parse(text)
        if line is None:
            return self._message(text)
        own = next((one for one in OWN.commands if line.name in (one.name, *one.aliases)), None)
        if own is not None:
            outcome = own.act(self, **own.values(line.rest))
            if outcome.data.get("leave"):
                return False
        else:
            outcome = self._command(text, line)
        self._follow(outcome)
        return True

    def _command(self, text: str, line: Line) -> Outcome:
        if LOCAL.find(line.name).name != "commands":
            return self.partner.run(self.place, text)
        if line.rest and LOCAL.find(line.rest.lstrip("-/")) in OWN.commands:
            return Outcome(explanation(LOCAL.find(line.rest.lstrip("-/")), line.mark))
        outcome = self.partner.run(self.place, text)
        own = "" if line.rest else f"\n\n{overview(Registry(OWN), line.mark)}"
        return replace(outcome, text=outcome.text + own)

    def _message(self, text: str) -> bool:
        proposal = None
        if may_mean_a_command(COMMANDS, text):
            with self._aside.status("[dim]a command?[/]", spinner="dots"):
                proposal = self.partner.propose(self.place, text)
        if proposal is not None:
            self.say(proposal.text)
            agreed = self._prompt.agree()
            if agreed is None:
                self._draft = text
                return True
            if agreed:
                self._follow(self.partner.run(self.place, proposal.command, proposal.arguments))
                return True
        if self.place.conversation is None:
            self.place = replace(self.place, conversation=self.partner.begin(self.place))
        answer = self.partner.send(self.place, text, self._attachments)
        self._attachments.clear()
        self._answer(answer)
        return True

    def _follow(self, outcome: Outcome) -> None:
        """Show what a command did, and do what it says."""
        if outcome.text:
            self.say(outcome.text)
            self._aside.print()
        if outcome.conversation is not None:
            if outcome.conversation != self.place.conversation:
                self._attachments.clear()
            self.place = replace(self.place, conversation=outcome.conversation)
        if outcome.file is not None:
            self.note(f"Saved as {_save(outcome.file)}.")
        self._attachments += outcome.attachments
        if outcome.answer is not None:
            self._answer(outcome.answer)

    def _answer(self, answer: str) -> None:
        page = self._page()
        self._aside.print()
        ended, stopped = watch(self.partner, self.place, answer, page, self._turned)
        while ended.tool and ended.state == "waiting" and not stopped:
            self._decide()
            ended, stopped = watch(self.partner, self.place, ended.id, page, self._turned)
        self._last = ended
        self._leaving = stopped
        for sentence in ended.notes:
            self.note(sentence)
        match ended.state:
            case "stopped":
                self.note("Stopped. /continue goes on with it, /retry asks again.")
            case "failed" | "interrupted":
                why = ended.error or "it was interrupted"
                self.complain(f"No answer, or not all of it: {why}. /retry asks again.")
            case "waiting" | "answering":
                self.note("Still being answered; /status shows how it stands.")
            case _ if ended.finish == "length":
                self.note("It reached its greatest length. /continue goes on with it.")
        self._aside.print()

    def _turned(self, message: Said) -> None:
        """An answer goes on: with a call of a tool, or after it."""
        if message.tool:
            self.note(f"tool: {message.tool}")

    def _decide(self) -> None:
        """Ask about each call of a tool that waits for it."""
        for call in self.partner.asked(self.place):
            self.say(
                f"The model wants to call {code(call.tool)} of {code(call.server)}:\n\n"
                f"{block(call.arguments, 'json')}"
            )
            self.partner.confirm(self.place, call.message, bool(self._prompt.agree()))

    def _page(self) -> Page:
        console = self._console
        if console.is_terminal and not console.is_dumb_terminal:
            return Rendered(console)
        return Plain(console.file, terminal=console.is_terminal)

    def _greet(self, found: Found | None) -> None:
        """Who talks to whom, and where a conversation was left."""
        where = f" at {self.partner.address}" if self.partner.address else ""
        kept = " Nothing is kept of it." if self.place.temporary else ""
        try:
            model = self.partner.run(self.place, "/model").data
        except WordmillError as error:  # it was removed since; another can be chosen here
            self.complain(error)
            model = {}
        with_ = f"with **{_plain(str(model['model']))}**" if model else "with no model"
        self.say(f"Talking {with_}{where} as {_plain(self.partner.name)}.{kept}")
        if model.get("provider") == "rehearsal":
            self.note(
                "This model makes up its words. `wordmill models add` adds a real one, and "
                "/swap-model changes to it."
            )
        self._aside.print()
        if found is None:
            return
        named = f" {code(found.title)}" if found.title else ""
        self.say(f"Going on with{named}:")
        for message in found.last[-_EARLIER:]:
            if message.open:
                continue
            text = message.text
            cut = len(text) > _EARLIER_CHARACTERS
            shown = "…" + text[-_EARLIER_CHARACTERS:] if cut else text
            if message.role == "user":
                self._echo(shown)
            else:
                self.say(shown)
            self._aside.print()

    def _echo(self, text: str) -> None:
        """What the person said: the prompt takes it away, since it may have been long."""
        first, *rest = safe(text).expandtabs(4).splitlines()
        lines = [f"> {first}", *(f"  {line}" for line in rest[: _ECHOED - 1])]
        if len(rest) >= _ECHOED:
            lines.append(f"  … {count(len(rest) - _ECHOED + 1, 'more line')}")
        self._aside.print(Text("\n".join(lines), style="bold"))

    # What the shell's own commands and its prompt use.

    def say(self, text: str) -> None:
        """Markdown, for the person."""
        page = self._page()
        page.write(safe(text))
        page.end()

    def note(self, text: str) -> None:
        """A line at the side."""
        self._aside.print(Text(safe(text), style="dim"))

    def complain(self, error: WordmillError | str) -> None:
        """What went wrong."""
        self._aside.print(Text(f"error: {safe(str(error))}", style="red"))

    def attach(self, name: str, data: bytes) -> None:
        """A file for the next message. Raises InvalidInput."""
        if self.place.conversation is None:
            self.place = replace(self.place, conversation=self.partner.begin(self.place))
        self._attachments.append(self.partner.attach(self.place, name, data))

    def write(self, draft: str) -> None:
        """What the next line begins with."""
        self._draft = draft

    @property
    def last(self) -> Said | None:
        """The answer that was watched last."""
        return self._last

    def complete(self, text: str) -> list[Suggestion]:
        """What could stand for the last word of a command; nothing where that cannot be known."""
        try:
            found = list(self.partner.complete(self.place, text))
        except WordmillError:
            found = []
        if " " not in text:
            written = text.lstrip("-/")
            mark = "/" if text.startswith("/") else "--"
            found += [
                Suggestion(mark + one.name, one.help)
                for one in OWN.commands
                if one.name.startswith(written)
            ]
        return found

    def toolbar(self) -> str:
        """The line below the prompt."""
        parts = []
        if self._attachments:
            parts.append(f"{count(len(self._attachments), 'file')} attached")
        if self._hint:
            parts.append(self._hint)
        elif self._last is not None:
            parts.append(_measured(self._last))
        return "  ".join(part for part in parts if part)


@OWN.command("Attach a file to the next message: a text or an image.")
def attach(
    context: Shell, path: Annotated[str, Argument("The file; several with spaces.", rest=True)]
) -> Outcome:
    """From this machine, also when a server is talked to."""
    try:
        words = shlex.split(path)
    except ValueError as error:
        raise InvalidInput(f"The path cannot be read: {error}.", "path") from error
    # A path with spaces that nobody quoted is meant as it stands.
    paths = [Path(path).expanduser()]
    if not paths[0].is_file():
        paths = [Path(word).expanduser() for word in words]
    files = []
    for one in paths:
        with said(one):
            files.append((one.name, one.read_bytes()))
    for name, data in files:
        context.attach(name, data)
    return Outcome(f"With the next message: {', '.join(code(name) for name, _ in files)}.")


@OWN.command("Write the next message in $EDITOR.")
def editor(
    context: Shell,
    text: Annotated[str | None, Argument("What it begins with.", rest=True)] = None,
) -> Outcome:
    """What was saved stands in the line, and Enter sends it."""
    import click

    try:
        with keys(shown=True):
            written = click.edit(text or "", extension=".md")
    except click.ClickException as error:
        raise InvalidInput(f"{error.message} Set EDITOR to one that works.") from error
    if written is None or not written.strip():
        return Outcome("Nothing was saved in the editor.")
    context.write(written.rstrip("\n"))
    return Outcome("")


@OWN.command("Show the reasoning behind the last answer.")
def thoughts(context: Shell) -> Outcome:
    """Folded while it is written."""
    last = context.last
    if last is None or not last.reasoning:
        return Outcome("The last answer came without reasoning.")
    return Outcome(last.reasoning)


@OWN.command("Leave the shell; Ctrl-D does too.", aliases=("exit", "bye"))
def quit_(context: Shell) -> Outcome:
    """The conversation stays."""
    return Outcome("", {"leave": True})


LOCAL: Final = Registry(*COMMANDS.groups, OWN)
"""What can be typed in a shell."""


def unfinished(text: str) -> bool:
    """Whether a line is a command that still needs an argument."""
    line = LOCAL.parse(text)
    if line is None or line.rest:
        return False
    try:
        return any(not one.optional for one in LOCAL.find(line.name).arguments)
    except UnknownName:
        return False


def _save(file: File) -> str:
    """Write a file into the current folder under a name that is free. Raises StorageError."""
    path = Path(file.name)
    number = 1
    while path.exists():
        number += 1
        path = Path(f"{Path(file.name).stem}-{number}{Path(file.name).suffix}")
    write_whole(path, file.data)
    return str(path)


def _measured(answer: Said) -> str:
    """Who answered, and what it took."""
    usage = answer.usage
    parts = [answer.model or ""]
    if usage.get("input") or usage.get("output"):
        parts.append(f"{usage.get('input', 0):,} tokens in, {usage.get('output', 0):,} out")
    if usage.get("cost"):
        parts.append(f"${usage['cost']:.4f}")
    return "  ".join(part for part in parts if part)


def _plain(text: str) -> str:
    """A name inside Markdown."""
    return safe(text).replace("*", "\\*").replace("_", "\\_").replace("`", "\\`")
