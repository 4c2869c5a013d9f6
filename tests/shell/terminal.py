"""A terminal for tests: a program in a pseudo-terminal, and the screen that a person would see.

Enough of a VT100 for what prompt_toolkit and rich send. A sequence that it does not know fails the
test, so that nothing is overlooked.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_TOKEN = re.compile(
    r"\x1b\[([?>=]?)([0-9;]*)([@-~])"  # control sequences
    r"|\x1b\]([^\x07\x1b]*)(?:\x07|\x1b\\)"  # window titles, links, the clipboard
    r"|\x1b([()][A-Z0-9]|[=>78DEHM])"
    r"|([\x00-\x1a\x1c-\x1f\x7f])"
    r"|([^\x00-\x1f\x7f]+)",
)
_UNFINISHED = re.compile(r"\x1b(\[[?>=]?[0-9;]*|\][^\x07\x1b]*|[()])?\Z")


class Screen:
    """Cells and a cursor; what scrolls out at the top is kept in `history`."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells: list[list[str]] = [[] for _ in range(rows)]
        self.history: list[str] = []
        self.row = self.column = 0
        self.styled = False
        self.titles: list[str] = []
        self.answers: list[bytes] = []
        self._rest = ""

    def feed(self, text: str) -> None:
        """What a program writes."""
        text = self._rest + text
        cut = _UNFINISHED.search(text)
        text, self._rest = (text[: cut.start()], cut[0]) if cut else (text, "")
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            assert match, (
                f"a sequence that this terminal does not know: {text[place : place + 20]!r}"
            )
            place = match.end()
            private, numbers, final, title, simple, control, plain = match.groups()
            if plain is not None:
                for letter in plain:
                    self._put(letter)
            elif control is not None:
                self._control(control)
            elif title is not None:
                self.titles.append(title)
            elif final is not None:
                self._sequence(private, [int(n or 0) for n in numbers.split(";")], final)
            else:
                assert simple in ("=", ">", "(B"), simple

    def lines(self) -> list[str]:
        """All lines from the first that scrolled out to the last that is not empty."""
        shown = [*self.history, *("".join(cells).rstrip() for cells in self.cells)]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def resize(self, columns: int, rows: int) -> None:
        """As a terminal that does not fold its lines anew."""
        self.columns = columns
        while len(self.cells) < rows:
            self.cells.append([])
        while len(self.cells) > rows:
            if self.row < len(self.cells) - 1:
                self.cells.pop()
            else:
                self._scroll()
                self.cells.pop()
                self.row -= 1
        self.rows = rows

    def _put(self, letter: str) -> None:
        if unicodedata.combining(letter):
            return
        width = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if self.column + width > self.columns:
            self.column = 0
            self._down()
        cells = self.cells[self.row]
        while len(cells) < self.column:
            cells.append(" ")
        cells[self.column : self.column + width] = [letter, *[""] * (width - 1)]
        self.column += width

    def _down(self) -> None:
        if self.row == self.rows - 1:
            self._scroll()
        else:
            self.row += 1

    def _scroll(self) -> None:
        self.history.append("".join(self.cells.pop(0)).rstrip())
        self.cells.append([])

    def _control(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self._down()
        elif letter == "\b":
            self.column = max(0, self.column - 1)
        elif letter == "\t":
            self.column = min(self.columns - 1, self.column // 8 * 8 + 8)
        else:
            assert letter == "\x07", repr(letter)

    def _sequence(self, private: str, numbers: Sequence[int], final: str) -> None:
        count = max(1, numbers[0])
        self.column = min(self.column, self.columns - 1) if final in "ABCDGHJKP" else self.column
        if private or final in "hlt":
            assert final in "hltcmu", (private, numbers, final)
            if (private, final) == (">", "c"):
                self.answers.append(b"\x1b[>0;0;0c")
        elif final == "m":
            self.styled = self.styled or any(30 <= n <= 49 or n >= 90 for n in numbers)
        elif final == "A":
            self.row = max(0, self.row - count)
        elif final == "B":
            self.row = min(self.rows - 1, self.row + count)
        elif final == "C":
            self.column = min(self.columns - 1, self.column + count)
        elif final == "D":
            self.column = max(0, self.column - count)
        elif final == "G":
            self.column = count - 1
        elif final == "H":
            below = [*numbers, 1][1] if len(numbers) > 1 else 1
            self.row, self.column = min(count, self.rows) - 1, max(1, below) - 1
        elif final == "J":
            self._erase_screen(numbers[0])
        elif final == "K":
            self._erase_line(numbers[0])
        elif final == "P":
            del self.cells[self.row][self.column : self.column + count]
        elif final == "n" and numbers[0] == 6:
            self.answers.append(f"\x1b[{self.row + 1};{self.column + 1}R".encode())
        else:
            raise AssertionError(f"a sequence that this terminal does not know: {numbers}{final}")

    def _erase_line(self, how: int) -> None:
        cells = self.cells[self.row]
        if how == 0:
            del cells[self.column :]
        elif how == 2:
            cells.clear()
        else:
            cells[: self.column] = [" "] * min(self.column, len(cells))

    def _erase_screen(self, how: int) -> None:
        if how == 0:
            self._erase_line(0)
        for number, cells in enumerate(self.cells):
            if how >= 2 or (how == 0 and number > self.row):
                cells.clear()


class Terminal:
    """A program that runs in a pseudo-terminal."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path,
        columns: int = 80, rows: int = 24, stdout: int | None = None,
    ) -> None:  # fmt: skip
        self.screen = Screen(columns, rows)
        self._main, other = pty.openpty()
        self._lock = threading.Lock()
        self.raw = ""
        _set_size(other, columns, rows)
        self.process = subprocess.Popen(
            command, stdin=other, stdout=other if stdout is None else stdout, stderr=other,
            env=dict(environment), cwd=folder, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(other)
        self._failed: Exception | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, text: str) -> None:
        """Keys as a person presses them: `\\r` is Enter, `\\x03` Ctrl-C."""
        data = text.encode()
        while data:
            _, writable, _ = select.select([], [self._main], [], 10)
            assert writable, "the program does not read what is typed"
            data = data[os.write(self._main, data[:512]) :]

    def paste(self, text: str) -> None:
        """As a terminal pastes: in brackets, line ends as Enter."""
        lines = text.replace("\n", "\r")
        self.type(f"\x1b[200~{lines}\x1b[201~")

    def resize(self, columns: int, rows: int) -> None:
        """The window gets another size."""
        with self._lock:
            self.screen.resize(columns, rows)
        _set_size(self._main, columns, rows)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def lines(self) -> list[str]:
        """What is on the screen, and what scrolled out of it."""
        with self._lock:
            if self._failed is not None:
                raise self._failed
            return self.screen.lines()

    @property
    def text(self) -> str:
        """As `lines`, in one."""
        return "\n".join(self.lines())

    def wait(self, wanted: str, seconds: float = 20.0, *, count: int = 1) -> str:
        """Wait until a text stands on the screen so many times; then all that is there."""
        return self.until(lambda text: text.count(wanted) >= count, repr(wanted), seconds)

    def until(self, holds, what: str = "what was wanted", seconds: float = 20.0) -> str:
        """Wait until something holds of the text on the screen."""
        end = time.monotonic() + seconds
        while not holds(self.text):
            if not self._reader.is_alive() and not holds(self.text):
                raise AssertionError(f"{what} did not come, and it ended. There is:\n{self.text}")
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come. There is:\n{self.text}")
            time.sleep(0.01)
        return self.text

    def ended(self, seconds: float = 20.0) -> int:
        """The exit code, once the program has ended by itself."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end. There is:\n{self.text}") from None
        self._reader.join(5)
        return code

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join(5)
        os.close(self._main)

    def _read(self) -> None:
        decode = _decoder()
        while True:
            try:
                data = os.read(self._main, 65536)
            except OSError:
                return
            if not data:
                return
            with self._lock:
                text = decode(data)
                self.raw += text
                try:
                    self.screen.feed(text)
                except (AssertionError, IndexError) as error:
                    self._failed = error
                    return
                answers, self.screen.answers = self.screen.answers, []
            for answer in answers:
                os.write(self._main, answer)


@contextmanager
def running(*command: str, **options) -> Iterator[Terminal]:
    """A program in a terminal, ended with the block."""
    terminal = Terminal(command, **options)
    try:
        yield terminal
    finally:
        terminal.close()


def _decoder():
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode


def _set_size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
