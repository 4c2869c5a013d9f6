"""What a terminal shows of Markdown that comes in pieces."""

import io
import random

import pytest
from rich.console import Console

from wordmill.channels.shell.rendering import Plain, Rendered, make_console, safe

TEXT = """\
# One

A *paragraph* that is
two lines long, with `code` and [a link](https://example.org/a?b=c).

1. first
2. second
   - nested

3. third

```python
def f():

    return 1
```

| a | b |
|---|---|
| 1 | 2 |

> quoted
> twice

Setext
------
- [ ] task

The end.
"""


def drawn(pieces, columns=60, rows=30):
    """What is on the screen after all pieces, cursor movements done."""
    from tests.shell.terminal import Screen

    file = io.StringIO()
    console = Console(
        file=file, force_terminal=True, width=columns, height=rows, color_system=None,
        legacy_windows=False,
    )  # fmt: skip
    page = Rendered(console)
    for piece in pieces:
        page._next = 0.0  # as if there had been time to draw each
        page.write(piece)
    page.end()
    page.end()
    screen = Screen(columns, rows)
    screen.feed(file.getvalue().replace("\n", "\r\n"))
    return screen.lines()


@pytest.mark.parametrize("seed", range(5))
def test_pieces_give_what_the_whole_gives(seed):
    chance = random.Random(seed)
    pieces, place = [], 0
    while place < len(TEXT):
        size = chance.choice([1, 2, 3, 7, 20, 60])
        pieces.append(TEXT[place : place + size])
        place += size
    assert drawn(pieces) == drawn([TEXT])


def test_what_is_seen():
    assert drawn([TEXT]) == [
        "One",
        "",
        "A paragraph that is two lines long, with code and a link",
        "(https://example.org/a?b=c).",
        "",
        " 1 first",
        " 2 second",
        "    • nested",
        " 3 third",
        "",
        "def f():",
        "",
        "    return 1",
        "",
        " a  b",
        " ────",
        " 1  2",
        "",
        "▌ quoted twice",
        "",
        "Setext",
        "",
        " • [ ] task",
        "",
        "The end.",
    ]


def test_a_block_that_is_higher_than_the_window_is_whole_in_the_end():
    text = "```\n" + "".join(f"line {number}\n" for number in range(50)) + "```\n"
    pieces = [text[place : place + 5] for place in range(0, len(text), 5)]
    assert drawn(pieces, rows=8) == [f"line {number}" for number in range(50)]


def test_wide_letters_and_a_narrow_window():
    lines = drawn(["漢字" * 20, "\n\n", "é" * 30], columns=11)
    assert "".join(lines).replace(" ", "") == "漢字" * 20 + "é" * 30


def test_controls_are_shown_and_do_nothing():
    assert safe("a\x1b[2Jb\x07c\x9bd\u202ee\x7f\r\n\tf") == "a␛[2Jb␇c\ufffdd\ufffde␡\n\tf"


def test_plain_ends_its_last_line_once():
    file = io.StringIO()
    page = Plain(file)
    page.wait()
    page.thinking("Hm.")
    page.write("one")
    page.write("")
    page.end()
    page.end()
    assert file.getvalue() == "one\n"
    terminal = io.StringIO()
    Plain(terminal, terminal=True).write("\x1b[2J")
    assert terminal.getvalue() == "␛[2J"


def test_nothing_is_drawn_of_an_empty_answer():
    assert drawn([]) == []
    assert drawn(["", "\n", " "]) == []


def test_a_file_gets_no_escapes():
    file = io.StringIO()
    make_console(file).print("x")
    assert file.getvalue() == "x\n"
