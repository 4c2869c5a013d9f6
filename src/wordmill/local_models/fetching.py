"""Fetches a commit, in a process of its own: `python -m wordmill.local_models.fetching`.

Reads a `Wish` as a line of JSON from its standard input, says how far it is in lines of JSON on its
standard output, and ends when its input ends: its parent has gone.

A file is written beside its place and goes on where it stopped, in this process or the next, by a
range of bytes. It gets its name only when it has the right length and checksum.
"""

import fcntl
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from wordmill.errors import Conflict, HubError, StorageError, WordmillError
from wordmill.local_models.cache import Cache, under_way
from wordmill.local_models.fit import SPARE, size
from wordmill.local_models.hub import Hub
from wordmill.local_models.machine import room
from wordmill.local_models.types import Remote
from wordmill.storage import said

TRIES: Final = 5
"""How often in a row a file may break off without a byte more."""
PAUSES: Final = (0.2, 1.0, 3.0, 10.0)
"""Seconds between these."""
SAID: Final = 0.25
"""Seconds between two words on how far it is."""

Tell = Callable[[int], None]


@dataclass(frozen=True)
class Wish:
    """What to fetch, and with which token."""

    url: str
    token: str | None
    folder: str
    repository: str
    commit: str
    files: tuple[Remote, ...]
    ref: str = ""

    def line(self) -> str:
        """As the process reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> "Wish":
        """Of such a line."""
        given = json.loads(line)
        files = tuple(Remote(**one) for one in given.pop("files"))
        return cls(files=files, **given)


def fetch(wish: Wish, tell: Tell, stop: Callable[[], bool] = lambda: False) -> Path:
    """Fetch all files and make the commit; its folder.

    tell: hears how many bytes of all are there.  stop: asked between pieces; what has come stays.
    Raises HubError, StorageError, Conflict where another process fetches the same file, and
    InterruptedError after a `stop`. When the disk is full, what was begun is given back.
    """
    cache, hub = Cache(Path(wish.folder)), Hub(wish.url, wish.token)
    left = cache.missing(wish.repository, wish.files)
    free = room(cache.folder)
    if left > free - SPARE:
        raise StorageError(
            f"{wish.repository} needs {size(left)} more, and the disk of {cache.folder} has room "
            f"for {size(max(0, free - SPARE))}. Nothing was fetched."
        )
    there = sum(file.size for file in wish.files) - left
    tell(there)
    for file in wish.files:
        blob = cache.blob(wish.repository, file)
        if blob.is_file():
            continue
        try:
            there = _File(hub, wish, file, blob).fetch(there, tell, stop)
        except OSError as error:
            if isinstance(error, InterruptedError):
                raise
            cache.sweep(wish.repository, {one.digest for one in wish.files})
            with said(blob, "What had come of the model was removed again."):
                raise
    return cache.finish(wish.repository, wish.commit, wish.files, wish.ref)


class _File:
    """One file under way."""

    def __init__(self, hub: Hub, wish: Wish, file: Remote, blob: Path) -> None:
        self._hub, self._wish, self._file, self._blob = hub, wish, file, blob
        self._part = under_way(blob)
        self._digest, self._have = self._empty(), 0

    def fetch(self, there: int, tell: Tell, stop: Callable[[], bool]) -> int:
        """Fetch what is missing of it; the bytes of all files that are there then.

        there: the bytes of all files, with what had come of this one before.
        """
        self._part.parent.mkdir(parents=True, exist_ok=True)
        with self._part.open("ab+") as out:
            try:
                fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(
                    f"{self._wish.repository} is being fetched by another process."
                ) from error
            self._read_again(out)
            there -= self._have
            tries = 0
            while self._have < self._file.size:
                before = self._have
                failed = self._go_on(out, lambda: tell(there + self._have), stop)
                if self._have >= self._file.size:
                    break
                tries = 0 if self._have > before else tries + 1
                if tries >= TRIES:
                    raise HubError(
                        f"{self._file.name} of {self._wish.repository} broke off {TRIES} times: "
                        f"{failed}. {size(self._have)} of {size(self._file.size)} are kept; fetch "
                        "again to go on."
                    )
                if tries:
                    _sleep(PAUSES[min(tries, len(PAUSES)) - 1], stop)
            self._check()
            out.flush()
            os.fsync(out.fileno())
            self._part.rename(self._blob)
        return there + self._have

    def _empty(self) -> "hashlib._Hash":
        if self._file.large:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self._file.size, usedforsecurity=False)

    def _read_again(self, out: BinaryIO) -> None:
        """The checksum of what an earlier process left."""
        out.seek(0)
        while piece := out.read(1 << 20):
            self._digest.update(piece)
            self._have += len(piece)
        if self._have > self._file.size:
            self._anew(out)

    def _anew(self, out: BinaryIO) -> None:
        out.seek(0)
        out.truncate()
        self._digest, self._have = self._empty(), 0

    def _go_on(self, out: BinaryIO, tell: Callable[[], None], stop: Callable[[], bool]) -> str:
        """Write what comes until it ends or breaks off; why it did."""
        wish, file = self._wish, self._file
        url = self._hub.place(wish.repository, wish.commit, file.name)
        try:
            opened = self._hub.open(url, wish.repository, wish.commit, self._have)
        except HubError as error:
            if "cannot be reached" not in str(error) and "answers 5" not in str(error):
                raise
            return str(error).rstrip(".")
        if opened is None:
            return "it is not there any more"
        span = opened.headers.get("content-range", "")
        if self._have and not (opened.status == 206 and span.startswith(f"bytes {self._have}-")):
            opened.close()  # it knows no ranges, or has another file by now
            self._anew(out)
            return "what had come does not go on there"
        try:
            for piece in opened.pieces():
                if self._have + len(piece) > file.size:
                    self._anew(out)
                    return "more came than the hub had said"
                out.write(piece)
                self._digest.update(piece)
                self._have += len(piece)
                tell()
                if stop():
                    raise InterruptedError
        finally:
            opened.close()
        return "it ended too early" if opened.failure is None else opened.failure.detail

    def _check(self) -> None:
        if self._digest.hexdigest() == self._file.digest:
            return
        self._part.unlink(missing_ok=True)
        raise HubError(
            f"{self._file.name} of {self._wish.repository} came with another checksum than the "
            "hub names, so it was thrown away. Fetch again; if it stays so, the hub or something "
            "on the way to it changes files."
        )


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if stop():
            raise InterruptedError
        time.sleep(0.05)


def main() -> int:
    """The process."""
    wish = Wish.read(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    whole, last = sum(file.size for file in wish.files), 0.0

    def tell(there: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SAID or there == whole:
            last = now
            _say(bytes=there, of=whole)

    try:
        path = fetch(wish, tell)
    except WordmillError as error:
        _say(error=str(error), kind=type(error).__name__)
        return 2
    _say(path=str(path))
    return 0


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(130)


def _say(**words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
