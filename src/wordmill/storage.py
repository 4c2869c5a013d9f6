"""Files that are whole or not there, and words for what a disk refuses.

A `WholeFile` is written beside its place under a hidden name, forced to the disk and renamed; a
reader never meets half a file, and after a crash nothing but hidden `*.part` files is left over.

`Storage` is where files of any size lie: a folder, or a bucket of an S3-compatible server. A place
in it is a path of plain names, such as `files/file-1a2b`; in a bucket it stands behind the path of
the setting `storage_url`, so that every program which reads one storage means the same.
"""

import errno
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Protocol
from urllib.parse import urlsplit

from wordmill.errors import ConfigError, ExtraMissing, StorageError
from wordmill.settings import Settings

PIECE: Final = 1 << 20
"""Bytes of a file that are in memory at once."""
PART: Final = 16 << 20
"""Bytes of a part of an upload to S3, which takes ten thousand of them: 160 GB."""
SPAN: Final = 8 << 20
"""Bytes that are asked of S3 at once."""
PAGE: Final = 1000
"""Files that S3 lists, and removes, at once."""

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
        return self.root / _checked(place)

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


class S3(Storage):
    """A storage in a bucket of a server that speaks S3.

    The address, the region and the keys come from the usual variables: AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL (without one it is Amazon's), AWS_REGION, AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; without keys, from wherever botocore finds some.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is asked yet. Raises ConfigError for a bad `storage_url`, ExtraMissing."""
        parts = urlsplit(settings.storage_url)
        path = parts.path.strip("/")
        if not parts.hostname or parts.username is not None or "@" in parts.netloc:
            raise ConfigError(
                "storage_url is a place as s3://bucket/path; keys go into AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY."
            )
        if parts.query or parts.fragment or (path and not _PLACE.fullmatch(path)):
            raise ConfigError("The path of storage_url is made of plain names, as s3://bucket/a/b.")
        self.bucket, self.prefix = parts.netloc, f"{path}/" if path else ""
        try:
            from s3fs import S3FileSystem
        except ImportError as error:
            raise ExtraMissing("s3fs", "scale") from error

        def variable(*names: str) -> str | None:
            return next(filter(None, map(settings.secret, names)), None)

        self._address = variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        region = variable("AWS_REGION", "AWS_DEFAULT_REGION")
        self._files: Any = S3FileSystem(
            key=variable("AWS_ACCESS_KEY_ID"),
            secret=variable("AWS_SECRET_ACCESS_KEY"),
            token=variable("AWS_SESSION_TOKEN"),
            endpoint_url=self._address,
            client_kwargs={"region_name": region} if region else {},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def create(self, place: str) -> Writer:
        """See Storage. An upload that a dead process left behind is no file; a bucket's rule on
        incomplete uploads removes it.
        """
        return _S3Writer(self, self._key(place))

    def read(self, place: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """See Storage."""
        key = self._key(place)
        left = self._length(key) - offset if size is None else size
        while left > 0:
            data = self._span(key, offset, min(left, SPAN))
            for start in range(0, len(data), PIECE):
                yield data[start : start + PIECE]
            if len(data) < min(left, SPAN):
                return
            offset, left = offset + len(data), left - len(data)

    def size(self, place: str) -> int | None:
        """See Storage."""
        key = self._key(place)
        try:
            with self._said(key):
                return self._head(key)
        except _NotThere:
            return None

    def remove(self, place: str) -> None:
        """See Storage."""
        key, more = self._key(place), ""
        self.ask("delete_object", key)
        while True:
            follows = {"ContinuationToken": more} if more else {}
            with self._said(key):
                page = self._files.call_s3(
                    "list_objects_v2", Bucket=self.bucket, Prefix=f"{key}/", MaxKeys=PAGE, **follows
                )
                found = [{"Key": one["Key"]} for one in page.get("Contents", ())]
                if found:
                    gone = self._files.call_s3(
                        "delete_objects",
                        Bucket=self.bucket,
                        Delete={"Objects": found, "Quiet": True},
                    )
                    if left := gone.get("Errors"):
                        raise OSError(left[0].get("Code", "an error"))
            more = page.get("NextContinuationToken", "")
            if not more:
                return

    def ask(self, what: str, key: str, **fields: object) -> Mapping[str, Any]:
        """One call about a key. Raises StorageError."""
        with self._said(key):
            answer: Mapping[str, Any] = self._files.call_s3(
                what, Bucket=self.bucket, Key=key, **fields
            )
            return answer

    def _key(self, place: str) -> str:
        return self.prefix + _checked(place)

    def _head(self, key: str) -> int:
        try:
            length: int = self._files.call_s3("head_object", Bucket=self.bucket, Key=key)[
                "ContentLength"
            ]
        except FileNotFoundError:
            # Without a body, the answer does not say whether there is a bucket.
            self._files.call_s3("list_objects_v2", Bucket=self.bucket, Prefix=key, MaxKeys=1)
            raise
        return length

    def _length(self, key: str) -> int:
        with self._said(key):
            return self._head(key)

    def _span(self, key: str, offset: int, size: int) -> bytes:
        with self._said(key):
            try:
                data: bytes = self._files.cat_file(
                    f"{self.bucket}/{key}", start=offset, end=offset + size
                )
            except OSError as error:
                if _code(error) in ("InvalidRange", "416"):  # it ends before
                    return b""
                raise
            return data

    @contextmanager
    def _said(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (OSError, BotoCoreError, ClientError) as error:
            raise self._failure(error, key) from error

    def _failure(self, error: Exception, key: str) -> StorageError:
        """In words. What the server says is left out: it may repeat what it was sent."""
        from botocore import exceptions as boto

        place, code = f"s3://{self.bucket}/{key}", _code(error)
        parts = urlsplit(self._address or "https://s3.amazonaws.com")
        server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        if code == "NoSuchBucket":
            return StorageError(
                f"There is no bucket {self.bucket!r} at {server}: make it, or set storage_url to "
                "another."
            )
        match error:
            case FileNotFoundError():
                return _NotThere(f"{place} does not exist.")
            case PermissionError():
                return StorageError(
                    f"{place}: permission denied ({code}). AWS_ACCESS_KEY_ID, "
                    "AWS_SECRET_ACCESS_KEY and what they may do decide that."
                )
            case boto.NoCredentialsError() | boto.PartialCredentialsError():
                return StorageError(
                    f"{place}: there are no keys for it. Set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY."
                )
            case boto.HTTPClientError() | TimeoutError() | boto.ConnectionError():
                return StorageError(
                    f"The storage {server} cannot be reached ({type(error).__name__}): is the "
                    "address in AWS_ENDPOINT_URL right, and does it run?"
                )
        return StorageError(f"{place}: the storage answered {code or type(error).__name__}.")


class _NotThere(StorageError):
    """A file that is none."""


class _S3Writer:
    """An upload in parts, one of which is in memory; a small file is one call at its end."""

    def __init__(self, storage: S3, key: str) -> None:
        self._storage, self._key = storage, key
        self._held = bytearray()
        self._upload = ""
        self._parts: list[Mapping[str, object]] = []

    def write(self, data: bytes) -> None:
        self._held += data
        while len(self._held) >= PART:
            piece = bytes(memoryview(self._held)[:PART])
            del self._held[:PART]
            self._send(piece)

    def commit(self) -> None:
        if not self._upload:
            self._storage.ask("put_object", self._key, Body=bytes(self._held))
        else:
            if self._held:
                self._send(bytes(self._held))
            self._storage.ask(
                "complete_multipart_upload",
                self._key,
                UploadId=self._upload,
                MultipartUpload={"Parts": self._parts},
            )
        self._upload = ""
        self._held.clear()

    def abort(self) -> None:
        self._held.clear()
        if self._upload:
            upload, self._upload = self._upload, ""
            with suppress(StorageError):  # what is left of it is no file
                self._storage.ask("abort_multipart_upload", self._key, UploadId=upload)

    def _send(self, piece: bytes) -> None:
        if not self._upload:
            begun = self._storage.ask("create_multipart_upload", self._key)
            self._upload = begun["UploadId"]
        number = len(self._parts) + 1
        sent = self._storage.ask(
            "upload_part", self._key, UploadId=self._upload, PartNumber=number, Body=piece
        )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})


def open_storage(settings: Settings) -> Storage:
    """Where files and results of batches lie, by the setting `storage_url`.

    Raises ConfigError, ExtraMissing.
    """
    return S3(settings) if settings.storage_url else Folder(settings.home)


def _checked(place: str) -> str:
    if not _PLACE.fullmatch(place):
        raise ValueError(f"{place!r} is no place in a storage")
    return place


def _code(error: BaseException) -> str:
    """What a server that speaks S3 calls an error; "" for what is none of its."""
    answer = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str(answer["Error"].get("Code", "")) if isinstance(answer, dict) else ""


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
