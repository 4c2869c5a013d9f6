"""The line that a person types: keys, history, completion, search.

Enter sends, Alt-Enter begins a line; what is pasted comes in whole, however many lines it has.
Ctrl-R searches the history, Ctrl-X Ctrl-E opens the line in an editor. Ctrl-C empties the line, and
on an empty one says that the person may want to leave. A menu opens below a command as it is typed.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from wordmill.commands import Suggestion
from wordmill.storage import said

Complete = Callable[[str], Iterable[Suggestion]]

_STYLE: Final = Style.from_dict(
    {
        "prompt": "bold",
        "bottom-toolbar": "noreverse",
        "bottom-toolbar.text": "noreverse ansibrightblack",
    }
)
_LONGEST: Final = 100_000
"""Characters of a message that the history still keeps."""


class Prompt:
    """Asks for lines.

    unfinished: whether a command still needs something; asked of one that was chosen in the menu.
    toolbar: read each time that the line is drawn.
    """

    def __init__(
        self,
        history: History,
        complete: Complete,
        unfinished: Callable[[str], bool],
        toolbar: Callable[[], str],
        *,
        source: Input | None = None,
        sink: Output | None = None,
    ) -> None:
        self._toolbar = toolbar
        self._io = {"input": source, "output": sink}
        self._session: PromptSession[str] = PromptSession(
            message=[("class:prompt", "> ")],
            prompt_continuation="  ",
            multiline=True,
            history=history,
            completer=_Commands(complete),
            complete_while_typing=True,
            complete_in_thread=True,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            key_bindings=_keys(unfinished),
            input_processors=[TabsProcessor(char1=" ", char2=" ")],
            bottom_toolbar=self._line,
            style=_STYLE,
            reserve_space_for_menu=6,
            erase_when_done=True,
            **self._io,  # type: ignore[arg-type]  # each is what its name says
        )

    def ask(self, default: str = "") -> str:
        """A message or a command. Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C.

        default: what the line begins with.
        """
        return self._session.prompt(default=default)

    def agree(self) -> bool | None:
        """Yes or no; None when the person wants neither."""
        session: PromptSession[str] = PromptSession(
            message="[y/N] ",
            style=_STYLE,
            **self._io,  # type: ignore[arg-type]
        )
        try:
            return session.prompt().strip().casefold() in ("y", "yes", "j", "ja")
        except (KeyboardInterrupt, EOFError):
            return None

    def _line(self) -> StyleAndTextTuples:
        return [("class:bottom-toolbar.text", self._toolbar())]


def open_history(path: Path) -> History:
    """What was typed before, in a file that only its owner can read. Raises StorageError."""
    with said(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND, stat.S_IRUSR | stat.S_IWUSR))
    return _Kept(str(path))


def no_history() -> History:
    """For a conversation of which nothing is kept."""
    return InMemoryHistory()


class _Kept(FileHistory):
    """Without what is too long to be typed again, and without repetitions."""

    def append_string(self, string: str) -> None:
        last = self._loaded_strings[0] if self._loaded_strings else None
        if string.strip() and len(string) <= _LONGEST and string != last:
            super().append_string(string)


class _Commands(Completer):
    """Of a line that begins a command: its name, its values, or files."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete
        self._files = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        text = document.text_before_cursor
        if not text.startswith(("/", "-")) or "\n" in document.text:
            return
        for mark in ("/attach ", "--attach "):
            if text.startswith(mark):
                path = Document(text[len(mark) :].lstrip())
                yield from self._files.get_completions(path, complete_event)
                return
        begun = len(text) - (text.rfind(" ") + 1)
        for suggestion in self._complete(text):
            yield Completion(
                suggestion.value,
                start_position=-begun,
                display_meta=suggestion.note,
            )


def _keys(unfinished: Callable[[str], bool]) -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~is_searching)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and unfinished(buffer.text):
            buffer.insert_text(" ")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=~is_searching)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c", filter=~is_searching)
    def _(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return keys
