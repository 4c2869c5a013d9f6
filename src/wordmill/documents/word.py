"""Documents as Word files without any other program: the tree, written with python-docx.

What python-docx has no words for is made as the format has it (ECMA-376 part 1): numbering that
nests and begins anew, footnotes, links, formulas. The styles have the names that pandoc gives them,
so a template serves both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from wordmill.documents import look
from wordmill.documents.coloring import colored
from wordmill.documents.direction import is_right_to_left
from wordmill.documents.formulas import office_math
from wordmill.documents.tree import (
    Block,
    Break,
    Code,
    CodeBlock,
    Document,
    Footnote,
    Formula,
    Heading,
    Image,
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

if TYPE_CHECKING:
    from docx.opc.part import Part

_EMU: Final = 360_000
"""To a centimetre."""
_STEP: Final = 0.75
"""Centimetres by which a list is deeper than the one around it."""
_BULLETS: Final = "•◦▪"
_BOXES: Final = ("☐ ", "☒ ")
_DEEPEST: Final = 8
"""The last level that a numbering of Word has, from 0."""
_NUMBERS: Final = ("decimal", "lowerLetter", "lowerRoman")
_ENDINGS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif"}
_NOTES: Final = (
    '<w:footnotes {w}><w:footnote w:type="separator" w:id="-1"><w:p><w:r><w:separator/></w:r></w:p>'
    '</w:footnote><w:footnote w:type="continuationSeparator" w:id="0"><w:p><w:r>'
    "<w:continuationSeparator/></w:r></w:p></w:footnote></w:footnotes>"
)


def write(document: Document, template: bytes | None = None) -> bytes:
    """The document as a .docx. template: one that was `look.completed`; our own without it.

    Raises ExtraMissing.
    """
    return _Writing(document, template or look.own()).whole()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where blocks go. deep: lists around it.  number: of the numbering, on the item's first block.

    quoted: within a quotation.
    """

    parent: Any
    part: "Part"
    style: str = "Body Text"
    deep: int = -1
    number: int | None = None
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    """How a run looks."""

    styles: frozenset[str] = frozenset()
    character: str = ""
    color: str = ""
    right_to_left: bool = False


class _Writing:
    def __init__(self, document: Document, template: bytes) -> None:
        self._document = document
        self._word = look.opened(template)
        self._styles = {(one.name or "").lower(): one.style_id for one in self._word.styles}
        self._notes: Any = None
        self._note_count = 0
        self._pictures: dict[tuple[str, str], str] = {}
        self._drawn = 0
        body = self._word.element.body
        for child in list(body):
            if not child.tag.endswith("}sectPr"):
                body.remove(child)
        self._numbering = self._own_numbering()

    def whole(self) -> bytes:
        place = _Place(self._word.element.body, self._word.part)
        about = self._word.core_properties
        document = self._document
        about.title, about.author, about.comments = document.title[:250], document.author[:250], ""
        about.language = document.language
        about.created = about.modified = datetime.now(UTC).replace(tzinfo=None)
        about.last_modified_by, about.revision = document.author[:250], 1
        for name, words in document.front.items():
            self._paragraph(place, name.title(), (Text(words),))
        if document.title_page:
            self._append(place, _xml('<w:p {w}><w:r><w:br w:type="page"/></w:r></w:p>'))
        self._blocks(place, document.blocks)
        return look.saved(self._word)

    # Blocks

    def _blocks(self, place: _Place, blocks: Sequence[Block]) -> None:
        for block in blocks:
            self._block(place, block)

    def _block(self, place: _Place, block: Block) -> None:
        match block:
            case Paragraph(inside):
                style = "Block Text" if place.quoted else place.style
                self._paragraph(place, style, inside)
            case Heading(level, inside):
                self._paragraph(place, f"Heading {level}", inside)
            case CodeBlock(text, language):
                self._code(place, text, language)
            case Quote(inside):
                self._blocks(replace(place, quoted=True), inside)
            case List(items, start):
                self._list(place, items, start)
            case Table():
                self._table(place, block)
            case Rule():
                self._append(place, _xml(
                    '<w:p {w}><w:pPr><w:pBdr><w:bottom w:val="single" w:sz="6" w:space="1" '
                    'w:color="C9D1D9"/></w:pBdr></w:pPr></w:p>'
                ))  # fmt: skip

    def _append(self, place: _Place, element: Any) -> None:
        """At the end; in the body of the document, before what its last page is like."""
        last = place.parent[-1] if len(place.parent) else None
        if last is not None and last.tag.endswith("}sectPr"):
            last.addprevious(element)
        else:
            place.parent.append(element)

    def _begun(self, place: _Place, style: str, words: str) -> Any:
        """A paragraph without words, where it belongs."""
        number = ""
        if place.number is not None:
            level = min(place.deep, _DEEPEST)
            number = (
                f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{place.number}"/></w:numPr>'
            )
        bidi = "<w:bidi/>" if is_right_to_left(words) else ""
        indent = ""
        if place.number is None and place.deep >= 0:
            indent = f'<w:ind w:left="{_twips(_STEP * (place.deep + 1))}" w:firstLine="0"/>'
        made = _xml(
            f'<w:p {{w}}><w:pPr><w:pStyle w:val="{self._style(style)}"/>{number}{bidi}{indent}'
            "</w:pPr></w:p>"
        )
        self._append(place, made)
        return made

    def _paragraph(self, place: _Place, style: str, inside: Sequence[Inline]) -> None:
        words = plain(inside)
        self._inlines(
            self._begun(place, style, words), inside, place.part,
            _Look(right_to_left=is_right_to_left(words)),
        )  # fmt: skip

    def _code(self, place: _Place, text: str, language: str) -> None:
        made = self._begun(place, "Source Code", "")
        for words, styles, color in colored(text, language):
            self._run(made, words, _Look(styles, "Verbatim Char", color))

    def _list(self, place: _Place, items: Sequence[tuple[Block, ...]], start: int | None) -> None:
        deep = place.deep + 1
        level = min(deep, _DEEPEST)
        own = self._numbering.begin(level, start)
        for item in items:
            number = own
            match item:  # a task's box stands where its bullet would
                case (Paragraph((Text(text), *more)), *others) if text[:2] in _BOXES:
                    number = self._numbering.begin(level, None, text[0])
                    item = (Paragraph((Text(text[2:]), *more)), *others)
            several = sum(isinstance(block, Paragraph) for block in item) > 1
            style = "Body Text" if several else "Compact"
            inside = replace(place, deep=deep, style=style, number=number)
            if not item or isinstance(item[0], List | Table | Rule):
                self._paragraph(inside, style, ())  # a place for the bullet
                inside = replace(inside, number=None)
            for block in item:
                self._block(inside, block)
                inside = replace(inside, number=None)

    def _table(self, place: _Place, table: Table) -> None:
        widths = "".join("<w:gridCol/>" for _ in table.aligns)
        made = _xml(
            f'<w:tbl {{w}}><w:tblPr><w:tblStyle w:val="{self._style("Table")}"/>'
            '<w:tblW w:type="auto" w:w="0"/><w:tblLook w:firstRow="1" w:lastRow="0" '
            'w:firstColumn="0" w:lastColumn="0" w:noHBand="1" w:noVBand="1" w:val="0620"/>'
            f"</w:tblPr><w:tblGrid>{widths}</w:tblGrid></w:tbl>"
        )
        for number, cells in enumerate((table.head, *table.rows)):
            row = _xml("<w:tr {w}/>")
            if not number:
                row.append(_xml("<w:trPr {w}><w:tblHeader/></w:trPr>"))
            made.append(row)
            for cell, align in zip(cells, table.aligns, strict=True):
                self._cell(place, row, cell, align)
        self._append(place, made)
        self._append(place, _xml("<w:p {w}/>"))  # or two tables in a row would be one

    def _cell(self, place: _Place, row: Any, inside: Sequence[Inline], align: str) -> None:
        cell = _xml("<w:tc {w}/>")
        row.append(cell)
        own = _Place(cell, place.part)
        words = plain(inside)
        paragraph = self._begun(own, "Compact", words)
        if align != "default":
            paragraph.pPr.append(_xml(f'<w:jc {{w}} w:val="{align}"/>'))
        look_ = _Look(right_to_left=is_right_to_left(words))
        self._inlines(paragraph, inside, place.part, look_)

    # Words

    def _inlines(self, parent: Any, inside: Sequence[Inline], part: "Part", how: _Look) -> None:
        for one in inside:
            self._inline(parent, one, part, how)

    def _inline(self, parent: Any, one: Inline, part: "Part", how: _Look) -> None:
        match one:
            case Text(text):
                self._run(parent, text, how)
            case Code(text):
                self._run(parent, text, replace(how, character="Verbatim Char"))
            case Break():
                parent.append(_xml("<w:r {w}><w:br/></w:r>"))
            case Formula(latex, display):
                parent.append(office_math(latex, display))
            case Styled(style, inside):
                styled = replace(how, styles=how.styles | {style})
                self._inlines(parent, inside, part, styled)
            case Link(url, inside):
                made = _xml(f'<w:hyperlink {{w}} {{r}} r:id="{self._leads(part, url)}"/>')
                parent.append(made)
                self._inlines(made, inside, part, replace(how, character="Hyperlink"))
            case Picture(name, alt):
                self._picture(parent, self._document.pictures[name], alt, name, part)
            case Footnote(inside):
                self._footnote(parent, inside)

    def _run(self, parent: Any, text: str, how: _Look) -> None:
        from docx.oxml.ns import qn

        about = [f'<w:rStyle w:val="{self._style(how.character)}"/>'] if how.character else []
        for style, element in (
            ("strong", "<w:b/><w:bCs/>"), ("emphasis", "<w:i/><w:iCs/>"), ("strike", "<w:strike/>"),
        ):  # fmt: skip
            if style in how.styles:
                about.append(element)
        if how.color:
            about.append(f'<w:color w:val="{how.color}"/>')
        for style, value in (("sub", "subscript"), ("super", "superscript")):
            if style in how.styles:
                about.append(f'<w:vertAlign w:val="{value}"/>')
        if how.right_to_left:
            about.append("<w:rtl/>")
        run = _xml(f"<w:r {{w}}><w:rPr>{''.join(about)}</w:rPr></w:r>")
        for number, line in enumerate(text.split("\n")):
            if number:
                run.append(_xml("<w:br {w}/>"))
            for place, words in enumerate(line.split("\t")):
                if place:
                    run.append(_xml("<w:tab {w}/>"))
                if words:
                    element = _xml("<w:t {w}/>")
                    element.text = words
                    element.set(qn("xml:space"), "preserve")
                    run.append(element)
        parent.append(run)

    def _leads(self, part: "Part", url: str) -> str:
        from docx.opc.constants import RELATIONSHIP_TYPE

        return part.relate_to(url, RELATIONSHIP_TYPE.HYPERLINK, is_external=True)

    def _picture(self, parent: Any, image: Image, alt: str, name: str, part: "Part") -> None:
        from docx.opc.constants import RELATIONSHIP_TYPE
        from docx.opc.packuri import PackURI
        from docx.oxml.shape import CT_Inline
        from docx.parts.image import ImagePart
        from docx.shared import Emu

        self._drawn += 1
        key = (str(part.partname), name)
        if key not in self._pictures:
            place = PackURI(f"/word/media/said{self._drawn}.{_ENDINGS[image.media_type]}")
            held = ImagePart(place, image.media_type, image.data)
            self._pictures[key] = part.relate_to(held, RELATIONSHIP_TYPE.IMAGE)
        wide = round(image.width_cm * _EMU)
        tall = max(1, round(wide * image.height / image.width))
        inline = CT_Inline.new_pic_inline(
            self._drawn, self._pictures[key], f"picture {self._drawn}", Emu(wide), Emu(tall)
        )
        inline.docPr.set("descr", alt)
        run = _xml("<w:r {w}><w:drawing/></w:r>")
        run[0].append(inline)
        parent.append(run)

    def _footnote(self, parent: Any, inside: Sequence[Block]) -> None:
        if self._notes is None:
            self._notes = self._new_notes()
        self._note_count += 1
        reference = self._style("Footnote Reference")
        note = _xml(f'<w:footnote {{w}} w:id="{self._note_count}"/>')
        self._notes.element.append(note)
        self._blocks(_Place(note, self._notes, "Footnote Text"), inside)
        mark = _xml(
            f'<w:r {{w}}><w:rPr><w:rStyle w:val="{reference}"/></w:rPr><w:footnoteRef/>'
            '<w:t xml:space="preserve"> </w:t></w:r>'
        )
        first = next(iter(note), None)
        if first is not None and first.tag.endswith("}p"):
            first.insert(1, mark)  # after its properties
        parent.append(_xml(
            f'<w:r {{w}}><w:rPr><w:rStyle w:val="{reference}"/></w:rPr>'
            f'<w:footnoteReference w:id="{self._note_count}"/></w:r>'
        ))  # fmt: skip

    # Parts of the file

    def _new_notes(self) -> Any:
        """The part with the footnotes; those of the template are its text, and go with it."""
        from docx.opc.constants import CONTENT_TYPE, RELATIONSHIP_TYPE

        return self._new_part(
            "footnotes", CONTENT_TYPE.WML_FOOTNOTES, RELATIONSHIP_TYPE.FOOTNOTES, _NOTES
        )

    def _own_numbering(self) -> "_Numbering":
        from docx.opc.constants import CONTENT_TYPE, RELATIONSHIP_TYPE

        found = [
            one.target_part
            for one in self._word.part.rels.values()
            if one.reltype == RELATIONSHIP_TYPE.NUMBERING
        ]
        part: Any = found[0] if found else self._new_part(
            "numbering", CONTENT_TYPE.WML_NUMBERING, RELATIONSHIP_TYPE.NUMBERING,
            "<w:numbering {w}/>",
        )  # fmt: skip
        return _Numbering(part.element)

    def _new_part(self, name: str, content_type: str, relation: str, text: str) -> Any:
        from docx.opc.packuri import PackURI
        from docx.opc.part import XmlPart

        document = self._word.part
        for key in [key for key, one in document.rels.items() if one.reltype == relation]:
            del document.rels[key]
        part = XmlPart(PackURI(f"/word/{name}.xml"), content_type, _xml(text), document.package)
        document.relate_to(part, relation)
        return part

    def _style(self, name: str) -> str:
        """The id of a style, which a template in another language calls otherwise."""
        return self._styles.get(name.lower()) or name.replace(" ", "")


class _Numbering:
    """The numberings of a document: one a list, so that each begins where it should."""

    def __init__(self, element: Any) -> None:
        self._element = element
        self._kinds: dict[str, int] = {}

    def begin(self, level: int, start: int | None, sign: str = "") -> int:
        """A new numbering for a list at a level. start: its first number; None for bullets.

        sign: what stands for its bullets.
        """
        name = sign or ("bullets" if start is None else "numbers")
        if name not in self._kinds:
            made = _ordered if start is not None else _bullet
            levels = "".join(made(one, sign) for one in range(_DEEPEST + 1))
            self._kinds[name] = self._abstract(levels)
        kind = self._kinds[name]
        number = 1 + max([int(one) for one in self._element.xpath("w:num/@w:numId")], default=0)
        begins = "" if start is None else (
            f'<w:lvlOverride w:ilvl="{level}"><w:startOverride w:val="{start}"/></w:lvlOverride>'
        )  # fmt: skip
        self._element.append(_xml(
            f'<w:num {{w}} w:numId="{number}"><w:abstractNumId w:val="{kind}"/>{begins}</w:num>'
        ))  # fmt: skip
        return number

    def _abstract(self, levels: str) -> int:
        known = self._element.xpath("w:abstractNum/@w:abstractNumId")
        number = 1 + max([int(one) for one in known], default=0)
        made = _xml(
            f'<w:abstractNum {{w}} w:abstractNumId="{number}">'
            f'<w:multiLevelType w:val="multilevel"/>{levels}</w:abstractNum>'
        )
        before = self._element.xpath("w:num")
        if before:
            before[0].addprevious(made)
        else:
            self._element.append(made)
        return number


def _bullet(level: int, sign: str) -> str:
    return _level(level, "bullet", sign or _BULLETS[level % len(_BULLETS)])


def _ordered(level: int, _: str) -> str:
    return _level(level, _NUMBERS[level % len(_NUMBERS)], f"%{level + 1}.")


def _level(level: int, form: str, text: str) -> str:
    left, hanging = _twips(_STEP * (level + 1)), _twips(_STEP)
    return (
        f'<w:lvl w:ilvl="{level}"><w:start w:val="1"/><w:numFmt w:val="{form}"/>'
        f'<w:lvlText w:val="{text}"/><w:lvlJc w:val="left"/>'
        f'<w:pPr><w:ind w:left="{left}" w:hanging="{hanging}"/></w:pPr></w:lvl>'
    )


def _twips(cm: float) -> int:
    return round(cm * 567)


def _xml(text: str) -> Any:
    """An element. text: ours alone; `{w}` and `{r}` stand for what the names in it mean."""
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    return parse_xml(text.replace("{w}", nsdecls("w")).replace("{r}", nsdecls("r")))
