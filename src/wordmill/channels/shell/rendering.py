"""What a terminal shows of an answer while it grows, and what a pipe gets.

A terminal gets rendered Markdown: blocks that are complete are printed for good, the one that
still grows is drawn anew below them, cut to the window's height. Parsing and drawing cost only
what is new, however long the answer is. A pipe gets the text as it comes, and nothing else.

What a model says can hold control characters that would move the cursor, retitle the window or
write to the clipboard: a terminal sees them as symbols. Links show where they lead.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import IO, Final, Protocol

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import CodeBlock, Heading, Markdown
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme

_EVERY: Final = 0.08
"""Seconds between two drawings, at least."""
_PATIENCE: Final = 1.0
"""Seconds without anything after which it is said that somebody waits."""
_SHARE: Final = 5
"""Drawing takes at most one part in so many of the time."""

# Controls as the symbols that Unicode has for them; C1 and the marks that turn the direction of
# what follows as a replacement character.
_SAFE: Final[Mapping[int, int | None]] = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t\r"}
    | {0x0D: None, 0x7F: 0x2421}
    | dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
)


_THEME: Final = Theme(
    {
        "markdown.code": "cyan",
        "markdown.h2": "bold",
        "markdown.h3": "bold",
        "markdown.block_quote": "none",
        "markdown.table.border": "dim",
        "markdown.table.header": "bold",
        "markdown.item.number": "none",
    }
)


def make_console(file: IO[str]) -> Console:
    """A terminal; colours as its environment says (NO_COLOR, TERM, COLORTERM)."""
    return Console(file=file, theme=_THEME, highlight=False, emoji=False, markup=False)


def safe(text: str) -> str:
    """A text of unknown origin as a terminal may see it: one that does nothing."""
    return text.translate(_SAFE)


class Page(Protocol):
    """Where an answer is shown."""

    def wait(self, place: str = "") -> None:
        """Nothing has come for a moment. place: in a queue, in words."""

    def thinking(self, text: str) -> None:
        """More of a model's reasoning."""

    def write(self, text: str) -> None:
        """More of the answer."""

    def end(self) -> None:
        """No more comes: show all of it. Harmless when repeated."""


class Plain:
    """For pipes, and for terminals that cannot move their cursor."""

    def __init__(self, file: IO[str], *, terminal: bool = False) -> None:
        self._file, self._terminal = file, terminal
        self._last = "\n"

    def wait(self, place: str = "") -> None:
        """Not shown."""

    def thinking(self, text: str) -> None:
        """Not shown: what reads a pipe wants the answer."""

    def write(self, text: str) -> None:
        """At once."""
        if text:
            self._file.write(safe(text) if self._terminal else text)
            self._file.flush()
            self._last = text[-1]

    def end(self) -> None:
        """With the end of the last line."""
        if self._last != "\n":
            self._file.write("\n")
            self._file.flush()
            self._last = "\n"


class Rendered:
    """Markdown on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._reasoning = self._place = ""
        self._began = time.monotonic()
        self._next = 0.0
        self._printed = False
        self._live: Live | None = None
        self._parser = MarkdownIt("commonmark").enable("table")

    def wait(self, place: str = "") -> None:
        """How long already, while there is nothing else to see."""
        self._place = place
        if not self._text and not self._printed and time.monotonic() - self._began > _PATIENCE:
            self._draw()

    def thinking(self, text: str) -> None:
        """Its last line, until the answer begins; then how long it took."""
        self._reasoning += text
        self._draw()

    def write(self, text: str) -> None:
        """Drawn at most every twelfth of a second."""
        if self._reasoning and text:
            self._fold()
        self._text += safe(text)
        self._draw()

    def end(self) -> None:
        """The rest of it, for good."""
        if self._reasoning:
            self._fold()
        if self._live is not None:
            self._live.stop()
            self._live = None
        for block in _blocks(self._parser, self._text):
            if block.strip():
                self._print(block)
        self._text = ""

    def _draw(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._settle()
        live = self._live
        if live is None:
            live = self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False,
                redirect_stderr=False,
            )  # fmt: skip
            live.start()
        most = max(1, self._console.size.height - 2)
        live.update(_Tidy(self._growing(), self._printed, most), refresh=True)
        self._next = time.monotonic() + max(_EVERY, _SHARE * (time.monotonic() - now))

    def _growing(self) -> Markdown | Text:
        if self._text:
            return Shown(self._text)
        line = safe(self._reasoning).strip().rpartition("\n")[2][-200:]
        seconds = time.monotonic() - self._began
        waits = f"waiting, {seconds:.0f} s" + (f": {self._place}" if self._place else "")
        what = f"thinking: {line}" if line else waits
        return Text(what, style="dim italic", overflow="ellipsis", no_wrap=True)

    def _settle(self) -> None:
        """Print the blocks after which another has begun."""
        *whole, self._text = _blocks(self._parser, self._text)
        for block in whole:
            self._print(block)

    def _print(self, text: str) -> None:
        self._console.print(_Tidy(Shown(text), self._printed), end="")
        self._printed = True

    def _fold(self) -> None:
        seconds, self._reasoning = time.monotonic() - self._began, ""
        if self._live is not None:
            self._live.update(Text(), refresh=True)
        self._console.print(Text(f"thought for {seconds:.0f} s", style="dim italic"))
        self._next = 0.0


def _blocks(parser: MarkdownIt, text: str) -> list[str]:
    """A text cut before each of its blocks; only the last can still change. Never empty."""
    begins = [
        token.map[0]
        for token in parser.parse(text)
        if token.level == 0 and token.map and token.nesting >= 0
    ]
    lines = text.split("\n")
    edges = [0, *begins[1:], len(lines)]
    parts = ["\n".join(lines[low:high]) for low, high in pairwise(edges)]
    return [*(part + "\n" for part in parts[:-1]), parts[-1]]


class _Tidy:
    """Something without empty lines around it and without spaces at the ends of its lines.

    gap: an empty line before it.  most: only the last lines, as many as the window holds.
    """

    def __init__(self, inner: Markdown | Text, gap: bool, most: int | None = None) -> None:
        self._inner, self._gap, self._most = inner, gap, most

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [_trimmed(line) for line in console.render_lines(self._inner, options, pad=False)]
        while lines and not lines[-1]:
            lines.pop()
        while lines and not lines[0]:
            lines.pop(0)
        if self._gap and lines:
            lines.insert(0, [])
        for line in lines if self._most is None else lines[-self._most :]:
            yield from line
            yield Segment.line()


def _trimmed(line: Sequence[Segment]) -> list[Segment]:
    kept = list(line)
    while kept and not kept[-1].text.rstrip():
        kept.pop()
    if kept:
        text, style, control = kept[-1]
        kept[-1] = Segment(text.rstrip(), style, control)
    return kept


class _Left(Heading):
    """A heading at the left, as bold as its level, without a box."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        self.text.stylize("bold underline" if self.tag == "h1" else "bold")
        yield self.text


class _Code(CodeBlock):
    """Code without a box, in the terminal's own colours, so that it can be copied as it is."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Syntax(
            str(self.text).rstrip("\n"), self.lexer_name, theme="ansi_dark",
            background_color="default", word_wrap=True,
        )  # fmt: skip


class Shown(Markdown):
    """Markdown as we show it."""

    elements = {  # noqa: RUF012  # as the base class has it
        **Markdown.elements,
        "heading_open": _Left,
        "fence": _Code,
        "code_block": _Code,
    }

    def __init__(self, text: str) -> None:
        super().__init__(text, hyperlinks=False)
