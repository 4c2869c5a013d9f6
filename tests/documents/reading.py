"""What a .docx holds, read back with python-docx: the structures, whoever wrote them."""

import io
from dataclasses import dataclass, field
from typing import Any

import docx
from docx.oxml import parse_xml
from docx.oxml.ns import qn
from docx.text.paragraph import Paragraph

OFFICE_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}"
PICTURE = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


@dataclass
class Structure:
    """items: (level, how it is numbered, text).  code: (text, how many looks it has)."""

    title: str = ""
    front: list[str] = field(default_factory=list)
    page_breaks: int = 0
    headings: list[tuple[int, str]] = field(default_factory=list)
    paragraphs: list[str] = field(default_factory=list)
    items: list[tuple[int, str, str]] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    aligns: list[list[str]] = field(default_factory=list)
    code: list[tuple[str, int]] = field(default_factory=list)
    quotes: list[str] = field(default_factory=list)
    styled: dict[str, list[str]] = field(default_factory=dict)
    links: list[tuple[str, str]] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pictures: list[tuple[str, bytes, float]] = field(default_factory=list)
    right_to_left: list[str] = field(default_factory=list)
    author: str = ""
    external: list[str] = field(default_factory=list)


def read(data: bytes) -> Structure:
    word = docx.Document(io.BytesIO(data))
    found = Structure(author=word.core_properties.author)
    numbering = _numbering(word)
    found.external = sorted(rel.target_ref for rel in word.part.rels.values() if rel.is_external)
    for element in word.element.body:
        if element.tag == qn("w:tbl"):
            rows = element.findall(qn("w:tr"))
            found.tables.append([[_text(cell) for cell in row.findall(qn("w:tc"))] for row in rows])
            found.aligns.append([
                next(iter(cell.xpath(".//w:jc/@w:val")), "default")
                for cell in rows[min(1, len(rows) - 1)].findall(qn("w:tc"))
            ])  # fmt: skip
        elif element.tag == qn("w:p"):
            _paragraph(word, element, numbering, found)
    for link in word.element.body.iter(qn("w:hyperlink")):
        target = word.part.rels[link.get(qn("r:id"))].target_ref
        found.links.append((_text(link), target))
    for formula in word.element.body.iter(OFFICE_MATH + "oMath"):
        names = [one.tag.removeprefix(OFFICE_MATH) for one in formula.iter()]
        shapes = [name for name in names if name in ("f", "rad", "nary", "sSup", "sSub", "m", "d")]
        text = "".join(t.text or "" for t in formula.iter(OFFICE_MATH + "t"))
        found.formulas.append(f"{' '.join(shapes)}: {''.join(text.split())}")
    for drawing in word.element.body.iter(DRAWING + "inline"):
        about = drawing.find(DRAWING + "docPr")
        blip = next(drawing.iter(PICTURE + "blip"))
        extent = drawing.find(DRAWING + "extent")
        blob = word.part.related_parts[blip.get(qn("r:embed"))].blob
        wide = int(extent.get("cx")) / 360_000
        found.pictures.append((about.get("descr", ""), blob, round(wide, 1)))
    _notes(word, found)
    return found


def _paragraph(word: Any, element: Any, numbering: dict[str, Any], found: Structure) -> None:
    paragraph = Paragraph(element, word._body)
    style, text = paragraph.style.name, _text(element)
    found.page_breaks += len(element.xpath('.//w:br[@w:type="page"]'))
    number = element.find(f"{qn('w:pPr')}/{qn('w:numPr')}")
    if element.xpath("./w:pPr/w:bidi[not(@w:val) or @w:val!='0']"):
        found.right_to_left.append(text)
    for name, path in {
        "strong": "w:b", "emphasis": "w:i", "strike": "w:strike",
        "sub": "w:vertAlign[@w:val='subscript']", "super": "w:vertAlign[@w:val='superscript']",
    }.items():  # fmt: skip
        if style != "Source Code":
            words = [_text(run) for run in element.xpath(f"./w:r[w:rPr/{path}]")]
            found.styled.setdefault(name, []).extend(filter(None, words))
    if style == "Title":
        found.title = text
    elif style in ("Author", "Date"):
        found.front.append(text)
    elif style.startswith("Heading"):
        found.headings.append((int(style.split()[1]), text))
    elif style == "Source Code":
        looks = {
            (
                run.find(f"{qn('w:rPr')}/{qn('w:color')}") is not None
                and run.find(f"{qn('w:rPr')}/{qn('w:color')}").get(qn("w:val")),
                next(iter(run.xpath("w:rPr/w:rStyle/@w:val")), ""),
            )
            for run in element.findall(qn("w:r"))
        }
        found.code.append((text, len(looks)))
    elif style == "Block Text":
        found.quotes.append(text)
    elif number is not None and text:
        kinds = numbering.get(number.find(qn("w:numId")).get(qn("w:val")), [])
        level = int(number.find(qn("w:ilvl")).get(qn("w:val")))
        kind = kinds[level] if level < len(kinds) else None
        if kind is None:  # goes on with the item before
            found.paragraphs.append(text)
        else:
            found.items.append((level, kind, text))
    elif text:
        found.paragraphs.append(text)


def _numbering(word: Any) -> dict[str, list[str | None]]:
    """By id of a numbering, what stands before an item of each level."""
    element = next(
        (rel.target_part.element for rel in word.part.rels.values()
         if rel.reltype.endswith("/numbering")), None,
    )  # fmt: skip
    if element is None:
        return {}
    kinds = {}
    for abstract in element.findall(qn("w:abstractNum")):
        levels: list[str | None] = []
        for level in abstract.findall(qn("w:lvl")):
            form = level.find(qn("w:numFmt")).get(qn("w:val"))
            sign = level.find(qn("w:lvlText")).get(qn("w:val")).strip()
            box = sign in ("☐", "☒")
            levels.append(None if form == "bullet" and not sign else sign if box else
                          "bullet" if form == "bullet" else "number")  # fmt: skip
        kinds[abstract.get(qn("w:abstractNumId"))] = levels
    return {
        num.get(qn("w:numId")): kinds[num.find(qn("w:abstractNumId")).get(qn("w:val"))]
        for num in element.findall(qn("w:num"))
    }


def _notes(word: Any, found: Structure) -> None:
    part = next(
        (rel.target_part for rel in word.part.rels.values() if rel.reltype.endswith("/footnotes")),
        None,
    )
    if part is None:
        return
    element = getattr(part, "element", None)
    element = parse_xml(part.blob) if element is None else element
    used = word.element.body.xpath(".//w:footnoteReference/@w:id")
    for note in element.findall(qn("w:footnote")):
        if note.get(qn("w:id")) in used:
            found.notes.append(_text(note).strip())


def _text(element: Any) -> str:
    words = []
    for one in element.iter():
        if one.tag == qn("w:t"):
            words.append(one.text or "")
        elif one.tag == qn("w:br") and one.get(qn("w:type")) != "page":
            words.append("\n")
        elif one.tag == qn("w:tab"):
            words.append("\t")
    return "".join(words)
