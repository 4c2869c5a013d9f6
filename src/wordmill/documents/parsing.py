"""Markdown as people and models write it, read into the tree of a document.

CommonMark with tables, task lists, strikethrough, footnotes and formulas (`$...$`, `$$...$$`,
`\\(...\\)`, `\\[...\\]` and `\\begin{align}`). HTML is no Markdown here: it stays as it was
written, but for `<br>`, `<sub>` and `<sup>`, which models use for want of others. A line break
stays one, because that is how people write in a chat.

A picture is taken from `pictures` alone; every other one becomes its words and its address. Links
lead to http, https and mailto.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from wordmill.documents.formulas import LONGEST
from wordmill.documents.tree import (
    Align,
    Block,
    Break,
    Code,
    CodeBlock,
    Footnote,
    Formula,
    Heading,
    Inline,
    Link,
    List,
    Paragraph,
    Picture,
    Quote,
    Rule,
    Style,
    Styled,
    Table,
    Text,
)
from wordmill.errors import ExtraMissing

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.tree import SyntaxTreeNode

_IMPOSSIBLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML may hold (XML 1.0, production 2)."""
_TAG: Final = re.compile(r"<(br)\s*/?>|<(/?)(sub|sup)>", re.IGNORECASE)
_TASK: Final = re.compile(r"\[([ xX])\]\s+")
_SCHEMES: Final = ("http", "https", "mailto")
_STYLES: Final[dict[str, Style]] = {"strong": "strong", "em": "emphasis", "s": "strike"}
_ALIGNS: Final[dict[str, Align]] = {"left": "left", "center": "center", "right": "right"}
_NESTED: Final = 100
"""Lists and quotations in each other; what is deeper is left out."""
_DEEPEST: Final = 9
"""The lowest heading that Word has."""


def clean(text: str) -> str:
    """The text without what no file of XML may hold."""
    return _IMPOSSIBLE.sub("", text)


def parse(text: str, *, pictures: Collection[str] = (), lower: int = 0) -> tuple[Block, ...]:
    """The blocks of a text.

    pictures: the names that `![...](name)` may show.  lower: by how much each heading is put down,
    so that the text can stand under one.  Raises ExtraMissing.
    """
    from markdown_it.tree import SyntaxTreeNode

    root = SyntaxTreeNode(_reader().parse(clean(text)))
    return _Reading(pictures, lower).document(root)


@cache
def _reader() -> "MarkdownIt":
    try:
        from markdown_it import MarkdownIt
        from mdit_py_plugins.amsmath import amsmath_plugin
        from mdit_py_plugins.dollarmath import dollarmath_plugin
        from mdit_py_plugins.footnote import footnote_plugin
        from mdit_py_plugins.texmath import texmath_plugin

        options = {"linkify": True, "html": False, "breaks": True, "maxNesting": _NESTED}
        reader = MarkdownIt("commonmark", options)
        reader.enable(["table", "strikethrough", "linkify"])
    except ModuleNotFoundError as error:
        raise ExtraMissing("What reads Markdown for documents", "documents") from error
    reader.use(footnote_plugin, inline=False).use(texmath_plugin, delimiters="brackets")
    # What costs $5 here and $10 there is no formula.
    reader.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True)
    reader.use(amsmath_plugin)
    reader.inline.ruler.before("escape", "bracket_math", _bracketed)
    if reader.linkify is not None:
        reader.linkify.set({"fuzzy_link": False, "fuzzy_email": False})
    return reader


def _bracketed(state: "StateInline", silent: bool) -> bool:
    r"""A formula between `\[` and `\]` within a line."""
    if not state.src.startswith("\\[", state.pos):
        return False
    # No further than formulas are long: a text of many beginnings would be searched for each.
    end = state.src.find("\\]", state.pos + 2, min(state.posMax, state.pos + 4 + LONGEST))
    if end < 0 or not state.src[state.pos + 2 : end].strip():
        return False
    if not silent:
        token = state.push("math_inline_double", "math", 0)
        token.content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


class _Reading:
    def __init__(self, pictures: Collection[str], lower: int) -> None:
        self._pictures, self._lower = pictures, lower
        self._notes: dict[int, SyntaxTreeNode] = {}
        self._inside_note = False

    def document(self, root: "SyntaxTreeNode") -> tuple[Block, ...]:
        for node in root.children:
            if node.type == "footnote_block":
                self._notes = {int(one.meta["id"]): one for one in node.children}
        return self.blocks(root.children)

    def blocks(self, nodes: "Sequence[SyntaxTreeNode]") -> tuple[Block, ...]:
        return tuple(block for node in nodes for block in self._block(node))

    def _block(self, node: "SyntaxTreeNode") -> Iterator[Block]:
        match node.type:
            case "paragraph":
                if inside := self._inlines(node):
                    yield Paragraph(inside)
            case "heading":
                level = min(int(node.tag[1:]) + self._lower, _DEEPEST)
                yield Heading(level, self._inlines(node))
            case "fence" | "code_block":
                words = node.info.split() if node.type == "fence" else []
                yield CodeBlock(node.content.rstrip("\n"), words[0] if words else "")
            case "blockquote":
                yield Quote(self.blocks(node.children))
            case "bullet_list":
                yield List(tuple(self._item(one) for one in node.children))
            case "ordered_list":
                start = int(node.attrs.get("start", 1))
                yield List(tuple(self._item(one) for one in node.children), start)
            case "table":
                yield self._table(node)
            case "hr":
                yield Rule()
            case "math_block" | "math_block_label" | "math_block_eqno" | "amsmath":
                yield Paragraph((Formula(node.content.strip(), display=True),))
            case "footnote_block" | "footnote_anchor":
                return
            case _ if node.children:
                yield from self.blocks(node.children)
            case _ if node.content.strip():
                yield Paragraph((Text(node.content.strip()),))

    def _item(self, node: "SyntaxTreeNode") -> tuple[Block, ...]:
        """An item; of a task, its box comes first."""
        blocks = self.blocks(node.children)
        match blocks:
            case (Paragraph((Text(text), *more)), *others) if task := _TASK.match(text):
                box = "☐ " if task[1] == " " else "☒ "
                return (Paragraph((Text(box + text[task.end() :]), *more)), *others)
        return blocks

    def _table(self, node: "SyntaxTreeNode") -> Table:
        lines = [row for part in node.children for row in part.children]
        head = lines[0].children
        aligns = tuple(_align(str(cell.attrs.get("style", ""))) for cell in head)
        cells = [tuple(self._inlines(cell) for cell in line.children) for line in lines]
        return Table(aligns, cells[0], tuple(cells[1:]))

    def _inlines(self, node: "SyntaxTreeNode") -> tuple[Inline, ...]:
        """What the inline child of a paragraph, a heading or a cell says."""
        found: list[Inline] = []
        for child in node.children:
            if child.type == "inline":
                found += self._words(child.children)
        return _trimmed(found)

    def _words(self, nodes: "Sequence[SyntaxTreeNode]") -> list[Inline]:
        stack: list[tuple[Style | None, list[Inline]]] = [(None, [])]
        for node in nodes:
            if node.type == "text":
                _tagged(node.content, stack)
            elif (one := self._word(node)) is not None:
                stack[-1][1].append(one)
        while len(stack) > 1:  # opened, and not closed here
            _, inside = stack.pop()
            stack[-1][1].extend(inside)
        return _joined(stack[0][1])

    def _word(self, node: "SyntaxTreeNode") -> Inline | None:
        match node.type:
            case "softbreak" | "hardbreak":
                return Break()
            case "code_inline":
                return Code(node.content)
            case "math_inline":
                return Formula(node.content.strip())
            case "math_inline_double":
                return Formula(node.content.strip(), display=True)
            case "strong" | "em" | "s":
                return Styled(_STYLES[node.type], tuple(self._words(node.children)))
            case "link":
                return self._link(node)
            case "image":
                return self._picture(node)
            case "footnote_ref":
                return self._note(int(node.meta["id"]))
            case "footnote_anchor":
                return None
        return Text(node.content) if node.content else None

    def _link(self, node: "SyntaxTreeNode") -> Inline:
        url, inside = str(node.attrs.get("href", "")), tuple(self._words(node.children))
        if allowed(url):
            return Link(url, inside or (Text(url),))
        return inside[0] if len(inside) == 1 else Text("".join(_said(inside)))

    def _picture(self, node: "SyntaxTreeNode") -> Inline:
        source = str(node.attrs.get("src", ""))
        alt = "".join(child.content for child in node.children)
        if source in self._pictures:
            return Picture(source, alt)
        if allowed(source):
            return Link(source, (Text(alt or source),))
        return Text(alt or "picture")

    def _note(self, number: int) -> Inline | None:
        node = self._notes.get(number)
        if node is None or self._inside_note:  # a note on a note is none
            return None
        self._inside_note = True
        blocks = self.blocks(node.children)
        self._inside_note = False
        return Footnote(blocks)


def allowed(url: str) -> bool:
    """Whether a document may lead there."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and bool(parts.netloc or parts.scheme == "mailto")


def _align(style: str) -> Align:
    return _ALIGNS.get(style.removeprefix("text-align:"), "default")


def _tagged(text: str, stack: list[tuple[Style | None, list[Inline]]]) -> None:
    """Put words where they belong, with what the few tags among them mean."""
    at = 0
    for tag in _TAG.finditer(text):
        stack[-1][1].append(Text(text[at : tag.start()]))
        at = tag.end()
        style: Style = "sub" if (tag[3] or "").lower() == "sub" else "super"
        if tag[1]:
            stack[-1][1].append(Break())
        elif not tag[2]:
            stack.append((style, []))
        elif stack[-1][0] == style:
            _, inside = stack.pop()
            stack[-1][1].append(Styled(style, tuple(_joined(inside))))
        else:
            stack[-1][1].append(Text(tag[0]))
    stack[-1][1].append(Text(text[at:]))


def _joined(words: Sequence[Inline]) -> list[Inline]:
    """Texts that follow each other as one, and none that is empty."""
    found: list[Inline] = []
    for word in words:
        match found, word:
            case _, Text(""):
                continue
            case [*_, Text(before)], Text(text):
                found[-1] = Text(before + text)
            case _:
                found.append(word)
    return found


def _trimmed(words: Sequence[Inline]) -> tuple[Inline, ...]:
    """Without breaks at both ends."""
    start, end = 0, len(words)
    while start < end and isinstance(words[start], Break):
        start += 1
    while end > start and isinstance(words[end - 1], Break):
        end -= 1
    return tuple(words[start:end])


def _said(words: Sequence[Inline]) -> Iterator[str]:
    from wordmill.documents.tree import plain

    yield plain(words)
