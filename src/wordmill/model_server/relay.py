"""The way to a worker and back: one request over loopback, its answer handed on as it comes.

This is no client for servers elsewhere (that is `outbound`): it speaks to a process of our own that
was started a moment ago, and adds as little as it can. Closing the connection is what tells a
worker that nobody wants the answer any more.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

LOOPBACK: Final = "127.0.0.1"
ENDS: Final = b"x-wordmill-ends"
"""The header of a worker that cannot answer because it is about to end: another one may."""
PIECE: Final = 1 << 16
HEAD: Final = 1 << 16

_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")


class WorkerLost(Exception):
    """A worker's connection broke, or it spoke no HTTP.

    ends: it said itself that it is about to end.
    """

    def __init__(self, words: str, *, ends: bool = False) -> None:
        super().__init__(words)
        self.ends = ends


class Chunks:
    """What `Transfer-Encoding: chunked` wraps, taken out again. Feed it bytes of any length."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._left = 0
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """What of the body came with these bytes. Raises WorkerLost for what is no chunk."""
        held = self._held
        held += data
        body, at, size = [], 0, len(held)
        while at < size and not self.ended:
            if self._left > 2:  # the chunk and the line's end behind it
                end = min(size, at + self._left - 2)
                body.append(bytes(held[at:end]))
                self._left -= end - at
                at = end
                continue
            if self._left:
                skip = min(self._left, size - at)
                self._left -= skip
                at += skip
                continue
            line = held.find(b"\r\n", at)
            if line < 0:
                break
            number = bytes(held[at:line]).partition(b";")[0].strip()
            if not _SIZE.fullmatch(number):
                raise WorkerLost("a chunk without its size")
            at = line + 2
            self._left = int(number, 16) + 2
            self.ended = self._left == 2
        del held[:at]
        return b"".join(body)


@dataclass
class Answer:
    """A worker's answer, its head read. Iterate `pieces`, and close it."""

    status: int
    headers: dict[bytes, bytes]
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _begun: bytes

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its body as it comes. Raises WorkerLost when it ends too early."""
        chunks = Chunks() if b"chunked" in self.headers.get(b"transfer-encoding", b"") else None
        length = self.headers.get(b"content-length")
        left = int(length) if length is not None and length.isdigit() else None
        data = self._begun
        while True:
            if chunks is not None:
                body = chunks.feed(data)
                if body:
                    yield body
                if chunks.ended:
                    return
            elif left is not None:
                if data:
                    yield data[:left]
                left -= len(data)
                if left <= 0:
                    return
            elif data:
                yield data
            try:
                data = await self._reader.read(PIECE)
            except OSError as error:
                raise WorkerLost(str(error)) from error
            if not data:
                if chunks is None and left is None:
                    return
                raise WorkerLost("the answer ended early")

    async def whole(self) -> bytes:
        """All of its body. Raises WorkerLost."""
        return b"".join([piece async for piece in self.pieces()])

    def close(self) -> None:
        """Let it go: a worker that is still at it stops."""
        self._writer.close()


async def ask(
    port: int, token: str, method: str, path: str, body: bytes = b"", person: str = ""
) -> Answer:
    """Send a request to a worker on this machine; its answer's head. Raises WorkerLost.

    person: whose it is, already fit for a header.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=HEAD)
        whose = f"X-Wordmill-Person: {person}\r\n" if person else ""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n{whose}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode("latin-1") + body)
        await writer.drain()
        told = await reader.readuntil(b"\r\n\r\n")
        status, headers = _head(told)
        if ENDS in headers:
            raise WorkerLost("its engine failed", ends=True)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        if writer is not None:
            writer.close()
        raise WorkerLost(str(error)) from error
    except BaseException:
        if writer is not None:
            writer.close()
        raise
    return Answer(status, headers, reader, writer, b"")


def _head(told: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = told.split(b"\r\n")
    words = first.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise WorkerLost("no HTTP")
    pairs = (line.partition(b":") for line in lines if line)
    return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}
