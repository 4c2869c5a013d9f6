"""How a document looks: the styles and pages of our own template, and of somebody's.

A template is a .docx whose text does not matter. It may be one of Word's own or a letterhead of a
company; what it lacks of the styles that documents use is taken from ours. It is a file of a
stranger: one with macros, or that fetches something from elsewhere, is refused.
"""

import zipfile
from copy import deepcopy
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from wordmill.errors import ExtraMissing, InvalidInput

if TYPE_CHECKING:
    from docx.document import Document as Word

MOST: Final = 10 * 1024 * 1024
"""Bytes of a template."""
_UNPACKED: Final = 20 * 1024 * 1024
_READ: Final = 5 * 1024 * 1024
"""Bytes of a part that is read as XML, which takes fifty times as much memory."""
_SHOWN: Final = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".emf", ".wmf")
_PARTS: Final = 2_000

_INK, _BLUE, _GREY, _PALE = "1F2933", "1D5FA8", "5B6672", "F3F4F6"
_BODY, _MONO = "Calibri", "Consolas"
_HEADINGS: Final = (20, 16, 13.5, 12, 11.5, 11, 11, 11, 11)
"""Points, by level."""


@cache
def own() -> bytes:
    """Our own template. Raises ExtraMissing."""
    word = opened()
    section = word.sections[0]
    from docx.shared import Cm

    section.page_width, section.page_height = Cm(21), Cm(29.7)
    section.left_margin = section.right_margin = Cm(2.5)
    section.top_margin, section.bottom_margin = Cm(2.5), Cm(2.2)
    _restyle(word)
    return saved(word)


def opened(template: bytes | None = None) -> "Word":
    """A template as python-docx sees it; its own without one.

    Raises ExtraMissing, and InvalidInput for a file that is none.
    """
    try:
        import docx
        from docx.opc.exceptions import PackageNotFoundError
    except ModuleNotFoundError as error:
        raise ExtraMissing("What writes Word documents", "documents") from error
    try:
        return docx.Document(None if template is None else BytesIO(template))
    except (PackageNotFoundError, KeyError, ValueError, SyntaxError, zipfile.BadZipFile) as error:
        raise InvalidInput("The template is no Word document (.docx).", "template") from error


def saved(word: "Word") -> bytes:
    """It as a file."""
    sink = BytesIO()
    word.save(sink)
    return sink.getvalue()


def completed(template: bytes) -> bytes:
    """A template that was checked, with all styles that a document uses.

    Raises InvalidInput for a file that is no Word document, is too large, brings macros, or would
    fetch something from elsewhere when it is opened.
    """
    _check(template)
    word, ours = opened(template), opened(own())
    have = {str(name).lower() for name in (one.name for one in word.styles) if name}
    ids = {one.style_id for one in word.styles}
    for style in ours.styles:
        if (style.name or "").lower() not in have and style.style_id not in ids:
            word.styles.element.append(deepcopy(style.element))
    return saved(word)


def _check(template: bytes) -> None:
    if len(template) > MOST:
        raise InvalidInput(
            f"The template has {len(template):,} bytes; {MOST:,} are the most.", "template"
        )
    try:
        with zipfile.ZipFile(BytesIO(template)) as archive:
            parts = archive.infolist()
            if len(parts) > _PARTS or sum(part.file_size for part in parts) > _UNPACKED:
                raise InvalidInput(
                    f"The template unpacks to more than {_UNPACKED:,} bytes.", "template"
                )
            names = [part.filename.lower() for part in parts]
            if any(
                part.file_size > _READ and not name.endswith(_SHOWN)
                for part, name in zip(parts, names, strict=True)
            ):
                raise InvalidInput(
                    f"The template has a part of more than {_READ:,} bytes.", "template"
                )
            if "word/document.xml" not in names:
                raise InvalidInput("The template is no Word document (.docx).", "template")
            if any("vba" in name or "activex" in name or "embeddings" in name for name in names):
                raise InvalidInput(
                    "The template brings macros or embedded files. Save it as a plain .docx.",
                    "template",
                )
            for part in parts:
                if part.filename.endswith(".rels") and _fetches(archive.read(part)):
                    raise InvalidInput(
                        "The template would fetch something from elsewhere when it is opened (a "
                        "linked picture or template). Embed it, or take it out.",
                        "template",
                    )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InvalidInput("The template is no Word document (.docx).", "template") from error


def _fetches(relations: bytes) -> bool:
    """Whether a part leads outside by more than a link that one clicks."""
    from docx.oxml import parse_xml

    try:
        found = parse_xml(relations)
    except SyntaxError as error:
        raise InvalidInput("The template is a damaged Word document.", "template") from error
    return any(
        one.get("TargetMode") == "External" and not one.get("Type", "").endswith("/hyperlink")
        for one in found
    )


def _restyle(word: "Word") -> None:
    from docx.enum.style import WD_STYLE_TYPE
    from docx.shared import Cm, Pt

    normal = word.styles["Normal"]
    _font(normal, _BODY, 11, _INK)
    normal.paragraph_format.space_after = Pt(0)
    body = word.styles["Body Text"]
    body.paragraph_format.space_before, body.paragraph_format.space_after = Pt(0), Pt(8)
    body.paragraph_format.line_spacing = 1.15
    for level, size in enumerate(_HEADINGS, 1):
        style = word.styles[f"Heading {level}"]
        _font(style, _BODY, size, _INK, bold=True, italic=False)
        style.paragraph_format.space_before = Pt(18 if level == 1 else 14)
        style.paragraph_format.space_after = Pt(6)
        style.paragraph_format.keep_with_next = True
    title = word.styles["Title"]
    _font(title, _BODY, 28, _INK, bold=True)
    for border in title.element.xpath(".//w:pBdr"):
        border.getparent().remove(border)
    title.paragraph_format.space_after = Pt(12)

    def paragraph(name: str, base: str = "Body Text") -> Any:
        made = word.styles.add_style(name, WD_STYLE_TYPE.PARAGRAPH)
        made.base_style = word.styles[base]
        made.quick_style = True
        return made

    paragraph("First Paragraph")
    compact = paragraph("Compact")
    compact.paragraph_format.space_after = Pt(2)
    for name in ("Author", "Date"):
        _font(paragraph(name), _BODY, 12, _GREY)
    quote = paragraph("Block Text")
    _font(quote, _BODY, 11, _GREY)
    quote.paragraph_format.left_indent = Cm(0.8)
    _border(quote, "left", "C9D1D9", 18)
    source = paragraph("Source Code", "Normal")
    _font(source, _MONO, 9.5, _INK)
    source.paragraph_format.space_before, source.paragraph_format.space_after = Pt(4), Pt(10)
    _shade(source)
    note = paragraph("Footnote Text", "Normal")
    _font(note, _BODY, 9.5, _INK)
    caption = paragraph("Image Caption")
    _font(caption, _BODY, 9.5, _GREY, italic=True)
    paragraph("Captioned Figure")
    for name in ("Verbatim Char", "Footnote Reference", "Hyperlink"):
        word.styles.add_style(name, WD_STYLE_TYPE.CHARACTER)
    _font(word.styles["Verbatim Char"], _MONO, 9.5, _INK)
    word.styles["Footnote Reference"].font.superscript = True
    _font(word.styles["Hyperlink"], "", 0, _BLUE)
    word.styles["Hyperlink"].font.underline = True
    table = word.styles.add_style("Table", WD_STYLE_TYPE.TABLE)
    table.element.append(_xml(_TABLE_LOOK))
    table.element.append(_xml(_TABLE_HEAD))


_TABLE_LOOK: Final = (
    "<w:tblPr {w}><w:tblBorders>"
    '<w:top w:val="single" w:sz="8" w:space="0" w:color="5B6672"/>'
    '<w:bottom w:val="single" w:sz="8" w:space="0" w:color="5B6672"/>'
    '<w:insideH w:val="single" w:sz="4" w:space="0" w:color="D5DAE0"/>'
    "</w:tblBorders><w:tblCellMar>"
    '<w:top w:w="60" w:type="dxa"/><w:left w:w="108" w:type="dxa"/>'
    '<w:bottom w:w="60" w:type="dxa"/><w:right w:w="108" w:type="dxa"/>'
    "</w:tblCellMar></w:tblPr>"
)
_TABLE_HEAD: Final = (
    '<w:tblStylePr {w} w:type="firstRow"><w:rPr><w:b/></w:rPr><w:tcPr><w:tcBorders>'
    '<w:bottom w:val="single" w:sz="8" w:space="0" w:color="5B6672"/></w:tcBorders>'
    "</w:tcPr></w:tblStylePr>"
)


def _xml(text: str) -> Any:
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    return parse_xml(text.replace("{w}", nsdecls("w")))


def _font(
    style: Any, name: str, size: float, color: str, *, bold: bool | None = None,
    italic: bool | None = None,
) -> None:  # fmt: skip
    from docx.oxml.ns import qn
    from docx.shared import Pt, RGBColor

    if name:
        style.font.name = name
        fonts = style.element.rPr.rFonts
        for one in ("asciiTheme", "hAnsiTheme", "eastAsiaTheme", "cstheme"):
            fonts.attrib.pop(qn(f"w:{one}"), None)
        fonts.set(qn("w:cs"), name)
    if size:
        style.font.size = Pt(size)
    style.font.color.rgb = RGBColor.from_string(color)
    if bold is not None:
        style.font.bold = bold
    if italic is not None:
        style.font.italic = italic


def _border(style: Any, side: str, color: str, eighths: int) -> None:
    line = f'<w:{side} w:val="single" w:sz="{eighths}" w:space="8" w:color="{color}"/>'
    _put(style.element.get_or_add_pPr(), _xml(f"<w:pBdr {{w}}>{line}</w:pBdr>"))


def _shade(style: Any) -> None:
    _put(
        style.element.get_or_add_pPr(),
        _xml(f'<w:shd {{w}} w:val="clear" w:color="auto" w:fill="{_PALE}"/>'),
    )


def _put(about: Any, element: Any) -> None:
    """Into a w:pPr, before what has to follow (ECMA-376 part 1, 17.3.1.26)."""
    order = ("w:spacing", "w:ind", "w:contextualSpacing", "w:jc", "w:outlineLvl", "w:rPr")
    about.insert_element_before(element, *order)
