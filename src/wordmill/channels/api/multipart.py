"""A file of a form, taken piece by piece: never whole in memory, and on the disk once."""

from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from wordmill.errors import InvalidInput

FIELD_BYTES: Final = 64 * 1024
"""The most that a field which is no file may hold."""
FIELDS: Final = 20
GATHERED: Final = 1 << 20
"""Bytes that are written at once."""


class Sink(Protocol):
    """Where a file goes."""

    def write(self, data: bytes) -> None:
        """The next piece."""

    def abort(self) -> None:
        """It does not come whole."""


class Form:
    """The fields of a form; the file `file` goes where `begin` says, as it comes.

    begin: called with the file's name.
    """

    def __init__(self, begin: Callable[[str], Sink]) -> None:
        self._begin = begin
        self.fields: dict[str, str] = {}
        self.sink: Sink | None = None
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._name: str | None = None
        self._filed = False
        self._data = bytearray()

    async def read(self, request: Request) -> None:
        """Take the body. Raises InvalidInput for what is no form; the sink is aborted then."""
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidInput("Send the file as multipart/form-data.", "file")
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_data,
                "on_part_end": self._part_ends,
            },
        )
        try:
            async for piece in _gathered(request.stream()):
                await run_in_threadpool(parser.write, piece)
            await run_in_threadpool(parser.finalize)
        except MultipartParseError as error:
            self.abort()
            raise InvalidInput(f"The form cannot be read: {error}.", "file") from error
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Leave nothing of the file."""
        if self.sink is not None:
            self.sink.abort()

    def _part_begins(self) -> None:
        self._headers.clear()
        self._name, self._filed = None, False
        self._data.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file":
            if self.sink is not None:
                raise InvalidInput("The form holds more than one file.", "file")
            name = options.get(b"filename", b"").decode("utf-8", "replace")
            self.sink, self._filed = self._begin(name or "file"), True
        elif len(self.fields) >= FIELDS:
            raise InvalidInput(f"The form has more than {FIELDS} fields.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._filed and self.sink is not None:
            self.sink.write(data[start:end])
            return
        self._data += data[start:end]
        if len(self._data) > FIELD_BYTES:
            raise InvalidInput(f"The field {self._name} is longer than {FIELD_BYTES} bytes.")

    def _part_ends(self) -> None:
        if not self._filed and self._name:
            self.fields[self._name] = self._data.decode("utf-8", "replace")


async def _gathered(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces of a megabyte rather than of some kilobytes: fewer turns of a thread."""
    held = bytearray()
    async for piece in stream:
        held += piece
        if len(held) >= GATHERED:
            yield bytes(held)
            held.clear()
    yield bytes(held)
