"""YAML in, plain values with their places out.

The text becomes a tree of `Node`, so that a fault found much later can still name its line. Scalars
follow the core schema of YAML 1.2: `true`, `false`, `null`, `~`, numbers, and all else is text. So
`no`, `on`, `yes`, `2024-01-31` and `12:30` are the texts that they look like. Refused are duplicate
keys, tags for Python objects, merge keys, more than one document, and anchors that unfold to more
than `LIMIT` values.

libyaml's events are read one by one, without recursion: a hostile text costs neither stack nor
time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import yaml
from yaml.error import Mark

from wordmill.columns.answers import encodable
from wordmill.columns.faults import Path
from wordmill.errors import RecipeError
from wordmill.types import Value

LIMIT = 200_000
"""So many values may stand in one text, those that anchors repeat included."""

DEPTH = 50
BYTES = 8_000_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
"""The core schema of YAML 1.2 (section 10.3.2); tried in this order, and the rest is text."""

_TAG = "tag:yaml.org,2002:"
_DIGITS = 4_000  # of an integer: Python refuses to read more than 4,300
_NO_TEXT = re.compile(
    "[^\\t\\n\\r\\x20-\\x7e\\x85\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]"
)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A value with its place. Lines and columns count from 1; `start` and `end` are offsets.

    keys: of a mapping, where each key stands.  children: of a mapping by key, of a list by number.
    size: how many values it holds, itself included.
    """

    value: Value
    line: int
    column: int
    start: int
    end: int
    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    children: Mapping[str | int, "Node"] = field(default_factory=dict)
    size: int = 1


class Document:
    """A text that was read: its values, and where each of them stands."""

    def __init__(self, text: str, source: str, root: Node) -> None:
        self.text, self.source, self.root = text, source, root

    def place(
        self, path: Path, key: bool = False, word: str = "", line: int = 0, at: int = 0
    ) -> tuple[int, int]:
        """Line and column of the value at a path, or of the nearest thing above it.

        key: of the path's last key instead.  word: of its first use within the value, inside
        template braces if it is used there.  line, at: of that line of the value's own text and
        that letter of it, from 1, where the text stands as it is.
        """
        node, where = self.root, (self.root.line, self.root.column)
        for depth, part in enumerate(path):
            if key and depth == len(path) - 1 and isinstance(part, str) and part in node.keys:
                return node.keys[part]
            child = node.children.get(part)
            if child is None:
                return where
            # A mapping is best found by its key: it may begin a line below.
            under_key = isinstance(part, str) and bool(child.children)
            where = node.keys[str(part)] if under_key else (child.line, child.column)
            node = child
        if word:
            return self._word(node, word) or where
        if line and self.text.startswith("|", node.start):
            return node.line + line, 1
        if at > 1 and line <= 1 and isinstance(node.value, str):
            inside = self.text.find(node.value, node.start, node.end)
            if inside >= 0 and "\n" not in node.value:
                return node.line, node.column + inside - node.start + at - 1
        return where

    def _word(self, node: Node, word: str) -> tuple[int, int] | None:
        """Where a name stands in a value's source text."""
        source = self.text[node.start : node.end]
        pattern = rf"(?<![\w.]){re.escape(word)}(?!\w)"
        found = re.search(r"\{[{%](?:(?![}%]\}).)*?" + pattern, source, re.DOTALL)
        end = found.end() if found else 0
        if not found:
            found = re.search(pattern, source)
            end = found.end() if found else 0
        if not end:
            return None
        at = node.start + end - len(word)
        before = self.text.rfind("\n", 0, at)
        return self.text.count("\n", 0, at) + 1, at - before


@dataclass(slots=True)
class _Open:
    """A mapping or a list whose end has not come yet."""

    mark: Mark
    anchor: str | None
    values: Value
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    children: dict[str | int, Node] = field(default_factory=dict)
    key: str | None = None
    size: int = 1


def read(text: str | bytes, source: str = "") -> Document:
    """The one document of a YAML text.

    source: what messages call it, a path say. Raises RecipeError at the first fault.
    """
    if isinstance(text, bytes):
        text = _decoded(text, source)
    if len(text) > BYTES:
        raise RecipeError(f"it has {len(text):,} characters; at most {BYTES:,} are read.", source)
    text = text.removeprefix("\ufeff")
    if found := _NO_TEXT.search(text):
        at = found.start()
        what = "a NUL character" if found[0] == "\0" else f"the character U+{ord(found[0]):04X}"
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        raise RecipeError(f"{what} cannot stand in a text.", source, line, column)
    return _Reader(text, source).document()


def _decoded(raw: bytes, source: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        message = f"the byte {raw[error.start]:#04x} is not UTF-8. Save the file as UTF-8."
        raise RecipeError(message, source, line, column) from error


class _Reader:
    """Builds the tree from events."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.open: list[_Open] = []
        self.anchors: dict[str, Node] = {}
        self.root: Node | None = None

    def document(self) -> Document:
        loader = _LOADER(self.text)
        try:
            while (event := loader.get_event()) is not None:
                self._take(event)
        except yaml.YAMLError as error:
            raise self._syntax(error) from error
        finally:
            loader.dispose()
        if self.root is None:
            raise RecipeError("the text is empty. A recipe needs at least `columns:`.", self.source)
        return Document(self.text, self.source, self.root)

    def _fault(self, message: str, mark: Mark) -> RecipeError:
        return RecipeError(message, self.source, mark.line + 1, mark.column + 1)

    def _take(self, event: yaml.Event) -> None:
        mark = cast(Mark, event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            node = self.anchors.get(event.anchor or "")
            if node is None:
                raise self._fault(f"nothing before this line is anchored as &{event.anchor}.", mark)
            self._add(node, mark)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = self.open.pop()
            end = cast(Mark, event.end_mark).index
            value = done.values
            node = Node(
                value, done.mark.line + 1, done.mark.column + 1, done.mark.index, end,
                done.keys, done.children, done.size,
            )  # fmt: skip
            if done.anchor:
                self.anchors[done.anchor] = node
            self._add(node, done.mark)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self._fault("a second document begins here. A recipe is one document.", mark)

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        mark = cast(Mark, event.start_mark)
        is_map = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if is_map else "seq")):
            raise self._fault(f"the tag {_tag(event.tag)} is not for recipes.", mark)
        if len(self.open) >= DEPTH:
            raise self._fault(f"it is nested more than {DEPTH} deep.", mark)
        if self.open and isinstance(self.open[-1].values, dict) and self.open[-1].key is None:
            if self.text.startswith("{{", mark.index - 1):
                raise RecipeError(
                    "a text that begins with {{ must be in quotes: \"{{ name }}\".",
                    self.source, mark.line + 1, mark.column,
                )  # fmt: skip
            raise self._fault("a key must be a name, not a mapping or a list.", mark)
        self.open.append(_Open(mark, event.anchor, {} if is_map else []))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        mark, value = cast(Mark, event.start_mark), event.value
        if "\0" in value or not (value.isascii() or encodable(value)):
            raise self._fault("a text cannot hold a NUL character or half a surrogate pair.", mark)
        if self.open and isinstance(self.open[-1].values, dict) and self.open[-1].key is None:
            self._key(value, event)
            return
        tag = event.tag if event.tag not in (None, "!") else None
        if tag is not None or event.implicit[0]:
            value = self._resolved(value, tag, mark)
        node = Node(
            value, mark.line + 1, mark.column + 1, mark.index, cast(Mark, event.end_mark).index
        )
        if event.anchor:
            self.anchors[event.anchor] = node
        self._add(node, mark)

    def _key(self, key: str, event: yaml.ScalarEvent) -> None:
        """A key is text as it is written: `1:` and `true:` are names."""
        mark, parent = cast(Mark, event.start_mark), self.open[-1]
        if key == "<<" and event.implicit[0]:
            raise self._fault("`<<` is no part of YAML 1.2: write the options out.", mark)
        if key in parent.keys:
            line = parent.keys[key][0]
            raise self._fault(f"{key!r} stands here a second time; first in line {line}.", mark)
        parent.key, parent.keys[key] = key, (mark.line + 1, mark.column + 1)

    def _add(self, node: Node, mark: Mark) -> None:
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        parent.size += node.size
        if parent.size > LIMIT:
            raise self._fault(f"with its anchors it unfolds to more than {LIMIT:,} values.", mark)
        if isinstance(parent.values, dict):
            if parent.key is None:
                raise self._fault("a key must be a name, not an alias.", mark)
            parent.values[parent.key] = node.value
            parent.children[parent.key] = node
            parent.key = None
        else:
            parent.children[len(parent.values)] = node
            parent.values.append(node.value)

    def _resolved(self, text: str, tag: str | None, mark: Mark) -> Value:
        """What a plain scalar stands for, by its tag or by how it looks."""
        kind = tag.removeprefix(_TAG) if tag else _kind(text)
        if kind == "str":
            return text
        if kind == "null" and NULL.match(text):
            return None
        if kind == "bool" and BOOL.match(text):
            return text[0] in "tT"
        if kind == "int" and INT.match(text) and len(text) <= _DIGITS:
            return int(text, 0 if text.startswith(("0x", "0o")) else 10)
        if kind in ("int", "float") and FLOAT.match(text):
            value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            if value - value == 0:
                return value
            raise self._fault(
                f"{_short(text)} is no number that JSON knows. Put text in quotes.", mark
            )
        if kind in ("null", "bool", "int", "float"):
            raise self._fault(f"{_short(text)} is no {_tag(tag)}.", mark)
        raise self._fault(f"the tag {_tag(tag)} is not for recipes.", mark)

    def _syntax(self, error: yaml.YAMLError) -> RecipeError:
        """libyaml's words as a sentence."""
        if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
            return RecipeError(f"it is not YAML: {error}", self.source)
        mark, problem = error.problem_mark, str(error.problem)
        lines = self.text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        if "\t" in line[: mark.column + 1] and not line[: mark.column].strip():
            return self._fault("a tab cannot indent a line in YAML. Use spaces.", mark)
        context = error.context or ""
        start = error.context_mark
        if "character that cannot start" in problem:
            what = line[mark.column : mark.column + 1]
            return self._fault(f"a text cannot begin with {what!r}. Put it in quotes.", mark)
        if "mapping values are not allowed" in problem:
            return self._fault(
                "a colon is not expected here. Put a text that holds `: ` in quotes, or check "
                "the indentation.",
                mark,
            )
        if "{{" in line[: mark.column] and start is not None:
            return self._fault("a text that begins with {{ must be in quotes.", mark)
        if problem == "did not find expected key":
            return self._fault(
                "a name with a colon is expected here. Has a text above a quote too many or too "
                "few, or is this line indented otherwise?",
                mark,
            )
        opened = f" ({context} from line {start.line + 1})" if start is not None and context else ""
        return self._fault(f"it is not YAML: {problem}{opened}.", mark)


def _kind(text: str) -> str:
    for kind, pattern in (("null", NULL), ("bool", BOOL), ("int", INT), ("float", FLOAT)):
        if pattern.match(text):
            return kind
    return "str"


def _tag(tag: str | None) -> str:
    """A tag as it is written."""
    return _short((tag or "").replace(_TAG, "!!"))


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
