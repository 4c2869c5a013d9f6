import os
import sys
from collections.abc import Callable

import pytest

from wordmill.cli.table import table

HEAD = ("name", "address", "note")
ROWS = [("a", "http://127.0.0.1:9000/v1", "cuts long prompts"), ("longer", "-", "")]


def test_a_row_is_a_line_where_there_is_no_terminal() -> None:
    assert table(HEAD, ROWS).splitlines() == [
        "name    address                   note",
        "a       http://127.0.0.1:9000/v1  cuts long prompts",
        "longer  -",
    ]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A terminal of so many columns."""

    def wide(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, 24)))

    return wide


def test_a_narrow_terminal_wraps_the_widest_columns(terminal: Callable[[int], None]) -> None:
    terminal(40)
    assert table(HEAD, ROWS).splitlines() == [
        "name    address          note",
        "a       http://127.0.0.  cuts long",
        "        1:9000/v1        prompts",
        "longer  -",
    ]
    terminal(12)  # too narrow for anything: no column has fewer than eight
    assert table(HEAD, ROWS).splitlines() == [
        "name    address   note",
        "a       http://1  cuts",
        "        27.0.0.1  long",
        "        :9000/v1  prompts",
        "longer  -",
    ]


def test_columns_that_say_nothing_are_left_out() -> None:
    rows = [("a", "-", "0"), ("b", "-", "1")]
    assert table(HEAD, rows, {"address": "-", "note": "0"}).splitlines() == [
        "name  note",
        "a     0",
        "b     1",
    ]


def test_a_wide_terminal_changes_nothing(terminal: Callable[[int], None]) -> None:
    plain = table(HEAD, ROWS)
    terminal(80)
    assert table(HEAD, ROWS) == plain
