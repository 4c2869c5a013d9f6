"""Rows, numbers and times as a person reads them on a terminal.

What models and files say is not trusted: characters that steer a terminal are shown, not sent.
"""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from wordmill.columns.base import KEEP
from wordmill.types import Value

WIDTH = 80
"""Columns of a terminal that are used, at most."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and marks that change the direction of writing."""


def safe(text: str) -> str:
    """The text with what would steer a terminal made visible; tabs and line ends stay."""
    text = text.replace("\r\n", "\n").encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def width() -> int:
    """Columns to fill: those of the terminal (or of COLUMNS), from 40 to `WIDTH`."""
    return max(40, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def duration(seconds: float) -> str:
    """`0:05`, `12:30`, `3:05:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def money(amount: float) -> str:
    """`$0.31`; below a cent as many digits as say something."""
    if 0 < amount < 0.01:
        return f"${amount:.2g}" if amount >= 0.0001 else f"${amount:.8f}".rstrip("0").rstrip(".")
    return f"${amount:,.2f}"


def count(number: float, noun: str, plural: str | None = None) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def rounded(number: int) -> str:
    """An estimate with the two digits that matter: `410,000`."""
    return f"{round(number, 2 - len(str(number))):,}" if number >= 100 else str(number)


def by_cause(causes: Mapping[str, int]) -> str:
    """`12 throttled, 3 dropped`, the most frequent first."""
    ordered = sorted(causes.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number:,} {cause}" for cause, number in ordered if number)


def row_lines(
    record: Mapping[str, Value], columns: Sequence[str], width: int = WIDTH
) -> Iterator[str]:
    """One row in full: its number, then each column with its value or its error.

    record: a row record (`values`, `errors`, `kept`, `lineage`).  columns: in order.
    """
    values, errors = record.get("values", {}), record.get("errors", {})
    kept = {True: "kept", False: "turned down", None: ""}[record.get("kept")]
    kept = "not kept: `keep` cannot judge it" if KEEP in errors else kept
    yield f"row {record['row']}" + (f"  ({kept})" if kept else "")
    label = min(24, max((len(name) for name in columns), default=0))
    for name in columns:
        if name in errors:
            yield from _labelled(name, f"[failed] {errors[name]}", label, width, 2)
        else:
            note = _note(record.get("lineage", {}).get(name))
            yield from _labelled(name, values.get(name), label, width, 2, note)


def _note(lineage: Value) -> str:
    """Where a model's answer comes from: `(mock, 181 tokens)`; nothing for other cells."""
    if not isinstance(lineage, dict):
        return ""
    words = [str(lineage["model"]), count(lineage["output_tokens"], "token")]
    if lineage.get("cached"):
        words.append("from cache")
    if lineage.get("asked", 1) > 1:
        words.append(f"asked {lineage['asked']} times")
    return f"({', '.join(words)})"


def _labelled(
    name: str, value: Value, label: int, width: int, indent: int, note: str = ""
) -> Iterator[str]:
    """`name   value`, wrapped below its first letter; lists and objects nested below."""
    head = " " * indent + f"{safe(name):<{label}}  "
    if isinstance(value, dict) and value:
        yield (head + note).rstrip()
        inner = min(24, max(len(key) for key in value))
        for key, item in value.items():
            yield from _labelled(key, item, inner, width, indent + 4)
        return
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        yield (head + note).rstrip()
        for number, item in enumerate(value):
            yield from _labelled(str(number), item, 2, width, indent + 4)
        return
    text = _scalar(value)
    if note:
        text = f"{text}  {note}" if "\n" not in text else f"{text}\n{note}"
    room = max(20, width - len(head))
    first = True
    for paragraph in text.split("\n"):
        for line in textwrap.wrap(paragraph, room) or [""]:
            yield (head if first else " " * len(head)) + line
            first = False


def paragraph(text: str, indent: int, width: int = WIDTH) -> Iterator[str]:
    """A text wrapped and indented, its own line ends kept."""
    for part in text.split("\n"):
        for line in textwrap.wrap(part, width - indent) or [""]:
            yield " " * indent + line


def _scalar(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(_scalar(item) for item in value) or "(none)"
    if isinstance(value, dict):
        return "(empty)"
    return safe(str(value))
