"""What a document is made of: blocks and the words in them, frozen and without I/O.

Between Markdown, which is read once (`parsing`), and those who write files (`word`, `pandoc`): they
all see the same document, so none of them has an opinion on what a text means.

Texts hold no character that a file of XML could not. A picture names bytes that the document
brings; an address of a link is http, https or mailto.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal, TypeAlias

Align: TypeAlias = Literal["left", "center", "right", "default"]
Style: TypeAlias = Literal["strong", "emphasis", "strike", "sub", "super"]


@dataclass(frozen=True, slots=True)
class Text:
    """Some words."""

    text: str


@dataclass(frozen=True, slots=True)
class Break:
    """A new line in the same paragraph."""


@dataclass(frozen=True, slots=True)
class Code:
    """Code among words."""

    text: str


@dataclass(frozen=True, slots=True)
class Formula:
    """LaTeX. display: on a line of its own."""

    latex: str
    display: bool = False


@dataclass(frozen=True, slots=True)
class Styled:
    """Words set in a way of their own."""

    style: Style
    inside: "tuple[Inline, ...]"


@dataclass(frozen=True, slots=True)
class Link:
    """Words that lead somewhere."""

    url: str
    inside: "tuple[Inline, ...]"


@dataclass(frozen=True, slots=True)
class Picture:
    """`name`: of `Document.pictures`.  alt: what it shows, in words."""

    name: str
    alt: str = ""


@dataclass(frozen=True, slots=True)
class Footnote:
    """A note at the foot of the page."""

    inside: "tuple[Block, ...]"


Inline: TypeAlias = Text | Break | Code | Formula | Styled | Link | Picture | Footnote


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Words."""

    inside: tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading. level: from 1 to 9."""

    level: int
    inside: tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """Code on lines of its own. language: as its fence named it, or ""."""

    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """What somebody else said."""

    inside: "tuple[Block, ...]"


@dataclass(frozen=True, slots=True)
class List:
    """Items, each of blocks. start: the first number, None for bullets."""

    items: "tuple[tuple[Block, ...], ...]"
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, as many in each as there are alignments."""

    aligns: tuple[Align, ...]
    head: tuple[tuple[Inline, ...], ...]
    rows: tuple[tuple[tuple[Inline, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A line across the page."""


Block: TypeAlias = Paragraph | Heading | CodeBlock | Quote | List | Table | Rule


@dataclass(frozen=True, slots=True)
class Image:
    """The bytes of a picture. width, height: pixels."""

    data: bytes
    media_type: str
    width: int
    height: int

    @property
    def width_cm(self) -> float:
        """As wide as on a screen, if the page has room for that."""
        wide, tall = self.width / _PIXELS, self.height / _PIXELS
        return wide * min(1.0, WIDEST / wide, TALLEST / tall)


WIDEST: Final = 15.0
TALLEST: Final = 20.0
"""Centimetres that a picture may have."""
_PIXELS: Final = 96 / 2.54
"""To a centimetre of a screen."""
SHOWN: Final = ("image/png", "image/jpeg", "image/gif")
"""What every reader of such files can show; a WebP is not among it."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document.

    title: on one line; "" for none.  author, made: on the title page and in the file's properties.
    title_page: whether the title stands on a page of its own.
    language: as `de`, for spelling.  pictures: by name, each of a kind that is `SHOWN`.
    """

    title: str
    blocks: Sequence[Block]
    author: str = ""
    made: date | None = None
    title_page: bool = False
    language: str = "en"
    pictures: Mapping[str, Image] = field(default_factory=dict)

    @property
    def front(self) -> Mapping[str, str]:
        """What stands before the blocks, in its order: title, and on a page of its own author and
        date.
        """
        found = {"title": self.title}
        if self.title_page:
            found |= {"author": self.author, "date": f"{self.made:%Y-%m-%d}" if self.made else ""}
        return {name: words for name, words in found.items() if words}


def plain(inside: Sequence[Inline]) -> str:
    """The words alone; what is no word is left out."""
    words = []
    for one in inside:
        match one:
            case Text(text) | Code(text):
                words.append(text)
            case Formula(latex):
                words.append(latex)
            case Break():
                words.append("\n")
            case Styled(_, more) | Link(_, more):
                words.append(plain(more))
            case Picture(_, alt):
                words.append(alt)
    return "".join(words)
