"""Files that are whole or not there, and words for what a disk refuses.

A `WholeFile` is written beside its place under a hidden name, forced to the disk and renamed; a
reader never meets half a file, and after a crash nothing but hidden `*.part` files is left over.

`Storage` is where files of any size lie: a folder so far; S3 comes with the scaled-out size. A
place in it is a path of plain names, such as `files/file-1a2b`.
"""

import errno
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol

from wordmill.errors import StorageError

PIECE: Final = 1 << 20
"""Bytes of a file that are in memory at once."""

_PLACE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class WholeFile:
    """A file in the making: write to `file`, then `commit` or `abort`.

    part: its hidden name until then, to read back what was written and flushed.

    As a context manager it commits, and aborts on any exception; an OSError inside becomes a
    StorageError.  then: what is safe and how to go on, the end of that error's sentence.
    """

    def __init__(self, path: Path, then: str = "") -> None:
        """Create the hidden file, and the folders above it. Raises StorageError."""
        self.path, self.then = path, then
        self.part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file: BinaryIO = self.part.open("wb")
        except OSError as error:
            raise failure(error, path, then) from error

    def commit(self) -> None:
        """Force the bytes to the disk and give the file its name. Raises StorageError."""
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self.part.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            self.abort()
            raise failure(error, self.path, self.then) from error

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `commit`, and when repeated."""
        with suppress(OSError):  # closing flushes, which fails again on a full disk
            self.file.close()
        with suppress(OSError):
            self.part.unlink(missing_ok=True)

    def __enter__(self) -> BinaryIO:
        return self.file

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.commit()
            return
        self.abort()
        if isinstance(error, OSError):
            raise failure(error, self.path, self.then) from error


def write_whole(path: Path, content: str | bytes, then: str = "") -> None:
    """Write a file whole or not at all. Raises StorageError."""
    data = content.encode() if isinstance(content, str) else content
    with WholeFile(path, then) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system has a way to ask for it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Writer(Protocol):
    """A file of a storage in the making: there, whole, after `commit`, and not before."""

    def write(self, data: bytes) -> None:
        """The next piece. Raises StorageError."""

    def commit(self) -> None:
        """It is whole, and durable. Raises StorageError."""

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `commit`, and when repeated."""


class Storage(ABC):
    """Files of any size, by place. All methods raise StorageError, and ValueError for a place that
    is no path of plain names.
    """

    @abstractmethod
    def create(self, place: str) -> Writer:
        """Begin a file; one that is there stays as it is until the commit."""

    @abstractmethod
    def read(self, place: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """A file or a part of it, in pieces of at most PIECE bytes."""

    @abstractmethod
    def size(self, place: str) -> int | None:
        """Bytes of a file; None where there is none."""

    @abstractmethod
    def remove(self, place: str) -> None:
        """Remove a file, or all below a place. Harmless where nothing is."""

    def whole(self, place: str, offset: int = 0, size: int | None = None) -> bytes:
        """As `read`, in one piece."""
        return b"".join(self.read(place, offset, size))

    def write(self, place: str, data: bytes) -> None:
        """A small file, whole."""
        writer = self.create(place)
        try:
            writer.write(data)
            writer.commit()
        finally:
            writer.abort()


class Folder(Storage):
    """A storage in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, place: str) -> Path:
        """Where a place is."""
        if not _PLACE.fullmatch(place):
            raise ValueError(f"{place!r} is no place in a storage")
        return self.root / place

    def create(self, place: str) -> Writer:
        """See Storage."""
        return _FolderWriter(self.path(place))

    def read(self, place: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """See Storage."""
        path = self.path(place)
        with said(path), path.open("rb") as file:
            file.seek(offset)
            left = size
            while left is None or left > 0:
                piece = file.read(PIECE if left is None else min(PIECE, left))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece

    def size(self, place: str) -> int | None:
        """See Storage."""
        path = self.path(place)
        with said(path):
            return path.stat().st_size if path.exists() else None

    def remove(self, place: str) -> None:
        """See Storage."""
        path = self.path(place)
        with said(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


class _FolderWriter:
    def __init__(self, path: Path) -> None:
        self._file = WholeFile(path)

    def write(self, data: bytes) -> None:
        with said(self._file.path):
            self._file.file.write(data)

    def commit(self) -> None:
        self._file.commit()

    def abort(self) -> None:
        self._file.abort()


@contextmanager
def said(path: Path, then: str = "") -> Iterator[None]:
    """Turn an OSError about `path` into a StorageError."""
    try:
        yield
    except OSError as error:
        raise failure(error, path, then) from error


def failure(error: OSError, path: Path, then: str = "") -> StorageError:
    """The StorageError that says what the system refused, in a sentence, followed by `then`."""
    match error.errno:
        case errno.ENOSPC:
            words = f"The disk is full: {path} could not be written{_free(path)}."
        case errno.EDQUOT:
            words = f"The disk quota is used up: {path} could not be written."
        case errno.EFBIG:
            words = f"{path} would pass the limit on the size of a file (`ulimit -f`)."
        case errno.EROFS:
            words = f"{path} is on a file system that is mounted read-only."
        case errno.EACCES | errno.EPERM:
            words = f"{path}: permission denied."
        case errno.ENOTDIR | errno.EEXIST:
            words = f"{_file_above(path)} is a file, so {path} cannot be made below it."
        case errno.EISDIR:
            words = f"{path} is a folder, where a file is wanted."
        case errno.ENOENT:
            words = f"{path} does not exist."
        case errno.ENAMETOOLONG:
            words = f"{path}: the name is too long for the file system."
        case _:
            words = f"{path}: {error.strerror or error}."
    return StorageError(f"{words} {then}".rstrip())


def _free(path: Path) -> str:
    above = next((folder for folder in path.parents if folder.exists()), None)
    if above is None:
        return ""
    return f" ({shutil.disk_usage(above).free / 1e6:.1f} MB free)"


def _file_above(path: Path) -> Path:
    return next((folder for folder in path.parents if folder.is_file()), path.parent)
