"""Pictures, and both ways of making a document."""

import struct
import zlib
from functools import partial

import pytest

from tests.documents.reading import Structure, read
from wordmill.documents import look, pandoc, programs, word
from wordmill.documents.parsing import parse
from wordmill.documents.tree import Document, Image


def png(width: int = 300, height: int = 120) -> bytes:
    """A picture in which every corner has a colour of its own."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    lines = b"".join(
        b"\0" + bytes(v for x in range(width) for v in (x * 255 // width, y * 255 // height, 128))
        for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )  # fmt: skip


def document(text: str, **more: object) -> Document:
    pictures = {"chart.png": Image(png(), "image/png", 300, 120)}
    return Document("A title", parse(text, pictures=pictures), pictures=pictures, **more)  # type: ignore[arg-type]


class Maker:
    """Makes a .docx in one of the two ways, and reads it back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.write = partial(pandoc.write, form="docx") if name == "pandoc" else word.write

    def bytes(self, made: Document, template: bytes | None = None) -> bytes:
        return self.write(made, template=template or look.own())

    def read(self, text: str, **more: object) -> Structure:
        return read(self.bytes(document(text, **more)))


@pytest.fixture(params=["pandoc", "own"])
def maker(request: pytest.FixtureRequest) -> Maker:
    """Each of the two; the extra `documents` brings both."""
    assert programs.pandoc() is not None
    return Maker(str(request.param))
