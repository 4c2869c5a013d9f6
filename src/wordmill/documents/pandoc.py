"""Documents by pandoc: the tree as pandoc's own JSON, so that nothing is read a second time.

pandoc runs in its sandbox: it reads the standard input and the template, no file and no address
that a text names. Pictures go with the document as data.
"""

import base64
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from wordmill.documents import programs
from wordmill.documents.direction import is_right_to_left
from wordmill.documents.tree import (
    Block,
    Break,
    Code,
    CodeBlock,
    Document,
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
    Styled,
    Table,
    Text,
    plain,
)
from wordmill.errors import ExportError

Form: TypeAlias = Literal["docx", "odt"]
Json: TypeAlias = dict[str, Any]

SECONDS: Final = 60.0

log = logging.getLogger(__name__)

_STYLES: Final = {
    "strong": "Strong", "emphasis": "Emph", "strike": "Strikeout", "sub": "Subscript",
    "super": "Superscript",
}  # fmt: skip
_ALIGNS: Final = {
    "left": "AlignLeft", "right": "AlignRight", "center": "AlignCenter", "default": "AlignDefault",
}  # fmt: skip
_DEEPEST: Final = 9
"""Levels that a list of Word has; what is deeper stands at the last one without a bullet."""
_NONE: Final[list[Any]] = ["", [], []]
_PAGE_BREAK: Final = '<w:p><w:r><w:br w:type="page"/></w:r></w:p>'


def write(document: Document, form: Form, template: bytes | None = None) -> bytes:
    """The document as a file. template: a .docx whose styles and pages it takes.

    Raises ExportError.
    """
    program = programs.pandoc()
    if program is None:
        raise AssertionError("pandoc is not here: ask `works` first")
    with tempfile.TemporaryDirectory(prefix="wordmill-document-") as place:
        folder = Path(place)
        target = folder / f"document.{form}"
        arguments = ["--sandbox", "--from=json", f"--to={form}", f"--output={target.name}"]
        if template is not None and form == "docx":
            (folder / "template.docx").write_bytes(template)
            arguments.append("--reference-doc=template.docx")
        tree = json.dumps(_whole(document, form), ensure_ascii=False).encode()
        programs.run(program, arguments, folder, tree, seconds=SECONDS)
        return target.read_bytes()


def works() -> bool:
    """Whether there is a pandoc that can make documents.

    One that keeps its own data in files, as Debian's does, cannot read them in its sandbox.
    """
    program = programs.pandoc()
    return program is not None and _tried(program)


@cache
def _tried(program: str) -> bool:
    try:
        write(Document("", ()), "docx")
    except ExportError as error:
        log.warning("Documents are made without pandoc (%s): %s", program, error)
        return False
    return True


@cache
def _version(program: str) -> list[int]:
    """Of the JSON that this pandoc reads."""
    with tempfile.TemporaryDirectory(prefix="wordmill-document-") as place:
        told = programs.run(program, ["--from=markdown", "--to=json"], Path(place), seconds=SECONDS)
    found: list[int] = json.loads(told)["pandoc-api-version"]
    return found


def _whole(document: Document, form: Form) -> Json:
    front = {name: _text_meta(words) for name, words in document.front.items()}
    if "author" in front:
        front["author"] = {"t": "MetaList", "c": [front["author"]]}
    meta: Json = {"lang": _text_meta(document.language), **front}
    blocks = list(_Writing(document).blocks(document.blocks))
    if document.title_page and form == "docx":
        blocks.insert(0, {"t": "RawBlock", "c": ["openxml", _PAGE_BREAK]})
    version = _version(programs.pandoc() or "")
    return {"pandoc-api-version": version, "meta": meta, "blocks": blocks}


def _text_meta(text: str) -> Json:
    return {"t": "MetaInlines", "c": [{"t": "Str", "c": text}]}


class _Writing:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._deep = 0

    def blocks(self, blocks: Sequence[Block]) -> Iterator[Json]:
        for block in blocks:
            made = self._block(block)
            if isinstance(block, Paragraph | Heading) and is_right_to_left(plain(block.inside)):
                made = {"t": "Div", "c": [["", [], [["dir", "rtl"]]], [made]]}
            yield made

    def _block(self, block: Block) -> Json:
        match block:
            case Paragraph(inside):
                return {"t": "Para", "c": self._inlines(inside)}
            case Heading(level, inside):
                return {"t": "Header", "c": [level, _NONE, self._inlines(inside)]}
            case CodeBlock(text, language):
                return {"t": "CodeBlock", "c": [["", [language] if language else [], []], text]}
            case Quote(inside):
                return {"t": "BlockQuote", "c": list(self.blocks(inside))}
            case List(items, start):
                self._deep += 1
                made = [self._item(item) for item in items]
                self._deep -= 1
                if self._deep >= _DEEPEST:
                    return {"t": "Div", "c": [_NONE, [one for item in made for one in item]]}
                if start is None:
                    return {"t": "BulletList", "c": made}
                style = [start, {"t": "Decimal"}, {"t": "Period"}]
                return {"t": "OrderedList", "c": [style, made]}
            case Table():
                return self._table(block)
            case Rule():
                return {"t": "HorizontalRule"}

    def _item(self, item: tuple[Block, ...]) -> list[Json]:
        """Its first words close to those of the items around it."""
        made = list(self.blocks(item))
        if made and made[0]["t"] == "Para" and not any(one["t"] == "Para" for one in made[1:]):
            made[0] = {**made[0], "t": "Plain"}
        return made

    def _table(self, table: Table) -> Json:
        def row(cells: Sequence[Sequence[Inline]]) -> list[Any]:
            return [
                _NONE,
                [
                    [
                        _NONE, {"t": "AlignDefault"}, 1, 1,
                        [{"t": "Plain", "c": self._inlines(cell)}],
                    ]
                    for cell in cells
                ],
            ]  # fmt: skip

        columns = [[{"t": _ALIGNS[one]}, {"t": "ColWidthDefault"}] for one in table.aligns]
        head = [_NONE, [row(table.head)]]
        body = [_NONE, 0, [], [row(cells) for cells in table.rows]]
        return {"t": "Table", "c": [_NONE, [None, []], columns, head, [body], [_NONE, []]]}

    def _inlines(self, inside: Sequence[Inline]) -> list[Json]:
        return [made for one in inside for made in self._inline(one)]

    def _inline(self, one: Inline) -> Iterator[Json]:
        match one:
            case Text(text):
                for number, word in enumerate(text.split(" ")):
                    if number:
                        yield {"t": "Space"}
                    if word:
                        yield {"t": "Str", "c": word}
            case Break():
                yield {"t": "LineBreak"}
            case Code(text):
                yield {"t": "Code", "c": [_NONE, text]}
            case Formula(latex, display):
                kind = "DisplayMath" if display else "InlineMath"
                yield {"t": "Math", "c": [{"t": kind}, latex]}
            case Styled(style, inside):
                yield {"t": _STYLES[style], "c": self._inlines(inside)}
            case Link(url, inside):
                yield {"t": "Link", "c": [_NONE, self._inlines(inside), [url, ""]]}
            case Picture(name, alt):
                image = self._document.pictures[name]
                source = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
                size = [["width", f"{image.width_cm:.2f}cm"]]
                words = [{"t": "Str", "c": alt}] if alt else []
                yield {"t": "Image", "c": [["", [], size], words, [source, ""]]}
            case Footnote(inside):
                yield {"t": "Note", "c": list(self.blocks(inside))}
