"""Formulas as Word has them: LaTeX over MathML to Office Math (ECMA-376 part 1, 22.1).

What nobody can read as LaTeX stays a formula, with its source as its text.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import Element

if TYPE_CHECKING:
    from docx.oxml.xmlchemy import BaseOxmlElement

SPACE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/math"
LONGEST: Final = 4_000
"""Characters of a formula that are read; a longer one is shown as its source."""

DEEPEST: Final = 200
"""Elements within each other; libxml2 reads 256, a document around them among them."""

_LARGE: Final = frozenset("∑∏∐∫∬∭∮⋃⋂⨁⨂⋁⋀")
_ACCENTS: Final = {
    "^": "\u0302", "ˆ": "\u0302", "~": "\u0303", "˜": "\u0303", "¯": "\u0304", "→": "\u20d7",
    "˙": "\u0307", ".": "\u0307", "¨": "\u0308", "ˇ": "\u030c", "´": "\u0301", "`": "\u0300",
    "‾": "\u0305", "―": "\u0305", "_": "\u0305",
}  # fmt: skip
_BRACES: Final = {"⏞": "top", "⏟": "bot"}


def office_math(latex: str, display: bool) -> "BaseOxmlElement":
    """`m:oMath`, within an `m:oMathPara` for one on a line of its own."""
    from docx.oxml import parse_xml

    made = _read(latex)
    if made is None:
        made = Element(_m("oMath"))
        _run(made, latex, plain=True)
    if display:
        outer = Element(_m("oMathPara"))
        outer.append(made)
        made = outer
    from xml.etree.ElementTree import tostring

    found: BaseOxmlElement = parse_xml(tostring(made, encoding="unicode"))
    return found


def _read(latex: str) -> "Element | None":
    """The formula; None where it cannot be read, or is deeper than readers of XML go."""
    tree = _mathml(latex)
    if tree is None:
        return None
    made = Element(_m("oMath"))
    try:
        _all(made, tree)
    except RecursionError:
        return None
    level, deep = [made], 0
    while level:
        level, deep = [child for one in level for child in one], deep + 1
    return made if deep <= DEEPEST else None


def _mathml(latex: str) -> "Element | None":
    """The formula as MathML; None where it cannot be read."""
    from xml.etree.ElementTree import ParseError, fromstring

    from latex2mathml import exceptions
    from latex2mathml.converter import convert

    own: list[type[Exception]] = [
        one
        for one in vars(exceptions).values()
        if isinstance(one, type) and issubclass(one, Exception)
    ]
    faults: tuple[type[Exception], ...] = (
        *own, ParseError, RecursionError, LookupError, ValueError, TypeError, StopIteration,
        AttributeError,
    )  # fmt: skip
    if len(latex) > LONGEST:
        return None
    try:
        tree = fromstring(convert(latex))  # noqa: S314 (what the library wrote, without a DOCTYPE)
    except faults:
        return None
    return tree


def _m(name: str) -> str:
    return f"{{{SPACE}}}{name}"


def _new(parent: Element, name: str, **values: str) -> Element:
    made = Element(_m(name), {_m(key): value for key, value in values.items()})
    parent.append(made)
    return made


def _run(parent: Element, text: str, *, plain: bool = False) -> None:
    run = _new(parent, "r")
    if plain:
        _new(_new(run, "rPr"), "sty", val="p")
    words = _new(run, "t")
    words.text = text
    words.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")


def _name(node: Element) -> str:
    return str(node.tag).rpartition("}")[2]


def _said(node: Element) -> str:
    return "".join(node.itertext()).strip()


def _all(parent: Element, node: Element) -> None:
    """The children of a row: large operators take what follows, fences what is between."""
    children = list(node)
    at = 0
    while at < len(children):
        child = children[at]
        at += 1
        if _is_fence(child, "prefix"):
            end = _closing(children, at)
            inside = children[at : end if end is not None else len(children)]
            closer = _said(children[end]) if end is not None else ""
            _fenced(parent, _said(child), closer, inside)
            at = len(children) if end is None else end + 1
        elif (operator := _large(child)) is not None:
            rest = children[at:]
            _operator(parent, child, operator, rest)
            return
        else:
            _one(parent, child)


def _one(parent: Element, node: Element) -> None:
    parts = list(node)
    match _name(node), parts:
        case (("mi" | "mn" | "mo"), _):
            if text := _said(node):
                _run(parent, text, plain=_name(node) == "mi" and len(text) > 1)
        case (("mtext" | "ms"), _):
            _run(parent, "".join(node.itertext()), plain=True)
        case "mspace", _:
            _run(parent, "\u2003" if node.get("width") in ("1em", "2em") else " ", plain=True)
        case "mfrac", [over, under]:
            made = _new(parent, "f")
            if node.get("linethickness", "").startswith("0"):
                _new(_new(made, "fPr"), "type", val="noBar")
            _within(made, "num", over)
            _within(made, "den", under)
        case "msqrt", _:
            made = _new(parent, "rad")
            _new(_new(made, "radPr"), "degHide", val="1")
            _new(made, "deg")
            _all(_new(made, "e"), node)
        case "mroot", [inside, degree]:
            made = _new(parent, "rad")
            _within(made, "deg", degree)
            _within(made, "e", inside)
        case "msub", [base, low] if _is_word(base):
            _limit(parent, "limLow", base, low)
        case "msub", [base, low]:
            _script(parent, "sSub", base, sub=low)
        case "msup", [base, high]:
            _script(parent, "sSup", base, sup=high)
        case "msubsup", [base, low, high]:
            _script(parent, "sSubSup", base, sub=low, sup=high)
        case "mover", [base, over] if _said(over) in _ACCENTS:
            made = _new(parent, "acc")
            _new(_new(made, "accPr"), "chr", val=_ACCENTS[_said(over)])
            _within(made, "e", base)
        case (("mover" | "munder"), [base, mark]) if _said(mark) in _BRACES:
            made = _new(parent, "groupChr")
            about = _new(made, "groupChrPr")
            _new(about, "chr", val=_said(mark))
            _new(about, "pos", val=_BRACES[_said(mark)])
            _new(about, "vertJc", val="bot" if _BRACES[_said(mark)] == "top" else "top")
            _within(made, "e", base)
        case "mover", [base, over]:
            _limit(parent, "limUpp", base, over)
        case "munder", [base, under]:
            _limit(parent, "limLow", base, under)
        case "munderover", [base, under, over]:
            made = _new(parent, "limUpp")
            _limit(_new(made, "e"), "limLow", base, under)
            _within(made, "lim", over)
        case "mtable", rows:
            _matrix(parent, rows)
        case _, _:
            _all(parent, node)


def _within(parent: Element, name: str, node: Element) -> None:
    made = _new(parent, name)
    if _name(node) == "mrow":
        _all(made, node)
    else:
        _one(made, node)


def _script(parent: Element, name: str, base: Element, *, sub: Any = None, sup: Any = None) -> None:
    made = _new(parent, name)
    _within(made, "e", base)
    if sub is not None:
        _within(made, "sub", sub)
    if sup is not None:
        _within(made, "sup", sup)


def _limit(parent: Element, name: str, base: Element, limit: Element) -> None:
    made = _new(parent, name)
    _within(made, "e", base)
    _within(made, "lim", limit)


def _matrix(parent: Element, rows: Sequence[Element]) -> None:
    made = _new(parent, "m")
    wide = max((len(row) for row in rows), default=1)
    about = _new(_new(_new(_new(made, "mPr"), "mcs"), "mc"), "mcPr")
    _new(about, "count", val=str(max(wide, 1)))
    _new(about, "mcJc", val="center")
    for row in rows:
        line = _new(made, "mr")
        for cell in row:
            _all(_new(line, "e"), cell)
        for _ in range(wide - len(row)):
            _new(line, "e")


def _is_fence(node: Element, form: str) -> bool:
    if _name(node) != "mo":
        return False
    return node.get("form") == form and node.get("fence") == "true"


def _closing(children: Sequence[Element], at: int) -> int | None:
    """Where the fence that was opened before `at` is closed."""
    deep = 0
    for place in range(at, len(children)):
        if _is_fence(children[place], "prefix"):
            deep += 1
        elif _is_fence(children[place], "postfix"):
            if not deep:
                return place
            deep -= 1
    return None


def _fenced(parent: Element, opener: str, closer: str, inside: Sequence[Element]) -> None:
    made = _new(parent, "d")
    about = _new(made, "dPr")
    _new(about, "begChr", val=opener)
    _new(about, "endChr", val=closer)
    row = Element("mrow")
    row.extend(inside)
    _all(_new(made, "e"), row)


def _is_word(node: Element) -> bool:
    """An operator that is a word, as `lim`, whose subscript stands below it."""
    return _name(node) == "mo" and _said(node) in ("lim", "max", "min", "sup", "inf", "argmax")


def _large(node: Element) -> str | None:
    """The large operator that a node is, with or without limits."""
    if _name(node) == "mo":
        base = node
    elif _name(node) in ("msub", "msup", "msubsup", "munder", "mover", "munderover") and len(node):
        base = node[0]
    else:
        return None
    text = _said(base)
    return text if _name(base) == "mo" and text in _LARGE else None


def _operator(parent: Element, node: Element, sign: str, rest: Sequence[Element]) -> None:
    made = _new(parent, "nary")
    about = _new(made, "naryPr")
    _new(about, "chr", val=sign)
    integral = sign in "∫∬∭∮"
    _new(about, "limLoc", val="subSup" if integral else "undOvr")
    limits = list(node)[1:]
    only_high = _name(node) in ("msup", "mover")
    low = None if only_high or not limits else limits[0]
    high = limits[-1] if only_high or len(limits) > 1 else None
    if low is None:
        _new(about, "subHide", val="1")
    if high is None:
        _new(about, "supHide", val="1")
    for name, limit in (("sub", low), ("sup", high)):
        if limit is None:
            _new(made, name)
        else:
            _within(made, name, limit)
    row = Element("mrow")
    row.extend(rest)
    _all(_new(made, "e"), row)
