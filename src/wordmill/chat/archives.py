"""The files that exports of conversations come in, read without trusting them.

Either JSON or a zip that holds `conversations.json` (or its pieces `conversations-001.json`, ...).
A list of conversations is cut into its elements as it streams by, so that the memory holds one
conversation at a time. Nothing is unpacked to a disk, no member's name becomes a path, and what is
read is counted: neither a zip's promises nor its ratio matter.
"""

import codecs
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

import orjson

from wordmill.errors import InvalidInput

PIECE = 1024 * 1024
MOST_OF_ONE = 256 * 1024 * 1024
"""Bytes of a single conversation."""
MOST_MEMBERS = 200_000

_OUTSIDE = re.compile(rb'["{}\[\]]')
_INSIDE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_FILE_ID = re.compile(r"file[-_][0-9A-Za-z]+")
_MEMBER = re.compile(r"(?:.*/)?conversations(?:[-_]?\d+)?\.json", re.DOTALL)


class Archive:
    """An opened export. `most`: bytes that may be read of it, unpacked."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        """Raises InvalidInput for what is neither JSON nor a zip with conversations."""
        self.file, self.left = file, most
        self.most = most
        self.zip = _opened_zip(file)
        self._members: dict[str, zipfile.ZipInfo] = {}

    def conversations(self) -> Iterator[Any]:
        """The elements, parsed; an InvalidInput in the place of one that cannot be.

        Raises InvalidInput where it cannot go on.
        """
        if self.zip is None:
            self.file.seek(0)
            yield from self._elements(self.file)
            return
        names = sorted(
            info.filename
            for info in self.zip.infolist()
            if _MEMBER.fullmatch(info.filename) and not info.filename.startswith("__MACOSX")
        )
        if not names:
            raise InvalidInput("The zip holds no conversations.json, so it is no export.")
        for name in names:
            with self._member(name) as member:
                yield from self._elements(member)

    def asset(self, name: str, most: int) -> bytes | None:
        """A file of the zip by its own name or its id, as `file-abc`; None where there is none.

        Raises InvalidInput for one of more than `most` bytes, or damaged.
        """
        if self.zip is None or not name:
            return None
        if not self._members:
            for info in self.zip.infolist():
                last = info.filename.rpartition("/")[2]
                self._members.setdefault(last, info)
                if named := _FILE_ID.match(last):
                    self._members.setdefault(named[0], info)
        found = self._members.get(name)
        if found is None:
            return None
        with self._member(found.filename) as member:
            data = member.read(most + 1)
        if len(data) > most:
            raise InvalidInput(f"{name!r} is too large.")
        return data

    @contextmanager
    def _member(self, name: str) -> Iterator[IO[bytes]]:
        assert self.zip is not None
        try:
            with self.zip.open(name) as member:
                yield member
        except RuntimeError as error:  # the one that zipfile raises for a password
            raise InvalidInput("The zip has a password. Unpack it, and import the JSON.") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise InvalidInput(f"The zip is damaged at {name!r}: {error}.") from error

    def _elements(self, file: IO[bytes]) -> Iterator[Any]:
        for number, element in enumerate(_cut(self._pieces(file)), 1):
            try:
                yield _parsed(element)
            except (ValueError, RecursionError) as error:
                words = "nested too deep" if isinstance(error, RecursionError) else str(error)
                yield InvalidInput(f"Conversation {number} of the file is no JSON: {words}.")

    def _pieces(self, file: IO[bytes]) -> Iterator[bytes]:
        while piece := file.read(PIECE):
            self.left -= len(piece)
            if self.left < 0:
                raise InvalidInput(
                    f"The file holds more than {self.most // 2**20:,} MiB once it is unpacked. "
                    "An admin can raise the setting import_bytes."
                )
            yield piece


def _opened_zip(file: BinaryIO) -> zipfile.ZipFile | None:
    file.seek(0)
    if file.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
        return None
    try:
        opened = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise InvalidInput(f"The zip is damaged: {error}.") from error
    if len(opened.infolist()) > MOST_MEMBERS:
        raise InvalidInput(f"The zip holds more than {MOST_MEMBERS:,} files.")
    return opened


def _parsed(element: bytes) -> Any:
    try:
        return orjson.loads(element)
    except orjson.JSONDecodeError:
        return json.loads(element)  # takes lone surrogates and NaN, which are cleaned later


def _cut(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The elements of a JSON list of objects, or the one JSON object, as their bytes.

    Raises InvalidInput for what is neither, and for what does not end.
    """
    buffer = bytearray()
    begun = listed = in_text = False
    place = depth = 0
    for piece in pieces:
        buffer += piece
        while True:
            if depth == 0:
                between = b" \t\r\n," if begun else b" \t\r\n" + codecs.BOM_UTF8
                del buffer[: len(buffer) - len(buffer.lstrip(between))]
                if not buffer:
                    break
                if not begun and buffer[:1] == b"[":
                    begun = listed = True
                    del buffer[:1]
                    continue
                if listed and buffer[:1] == b"]":
                    return
                if buffer[:1] != b"{":
                    raise InvalidInput("The file is no JSON list of conversations.")
                begun, place, depth = True, 1, 1
            if in_text:
                found = _INSIDE.match(buffer, place)
                place = found.end() if found else place
                if buffer[place : place + 1] != b'"':
                    break  # the text goes on in the next piece
                in_text, place = False, place + 1
            token = _OUTSIDE.search(buffer, place)
            if token is None:
                place = len(buffer)
                break
            place = token.end()
            in_text = token[0] == b'"'
            depth += (token[0] in b"{[") - (token[0] in b"}]")
            if depth == 0:
                yield bytes(buffer[:place])
                del buffer[:place]
                if not listed:
                    return
        if len(buffer) > MOST_OF_ONE:
            raise InvalidInput(f"One conversation has more than {MOST_OF_ONE // 2**20} MiB.")
    if not begun:
        raise InvalidInput("The file is empty.")
    raise InvalidInput("The file ends too early. Is it whole?")
