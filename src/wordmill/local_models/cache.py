"""Where fetched models lie: the layout of the hub's own cache, so that its tools read it too.

A repository is a folder `models--owner--name`: the content of files lies in `blobs` under their
checksums, a commit is a folder of links in `snapshots`, and `refs` says which commit a branch was.
A file that two commits share is there once, and goes with the last of them. What is under way ends
in `.incomplete`, and no commit points to it.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wordmill.errors import InvalidInput, StorageError
from wordmill.local_models.rules import COMMIT, check_repository
from wordmill.local_models.types import Remote
from wordmill.storage import said, write_whole

log = logging.getLogger(__name__)

UNDER_WAY: Final = ".incomplete"


@dataclass(frozen=True)
class Used:
    """A commit on the disk. size: bytes of its files.  alone: of these, those that it shares with
    no other commit: what its removal frees.
    """

    repository: str
    commit: str
    path: Path
    size: int
    alone: int


class Cache:
    """A folder of fetched models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def at(self, repository: str) -> Path:
        """The folder of a repository."""
        return self.folder / f"models--{check_repository(repository).replace('/', '--')}"

    def snapshot(self, repository: str, commit: str) -> Path:
        """The folder of a commit. Raises ValueError for what is none."""
        if not COMMIT.fullmatch(commit):
            raise ValueError(commit)
        return self.at(repository) / "snapshots" / commit

    def blob(self, repository: str, file: Remote) -> Path:
        """Where the content of a file lies when it is whole."""
        return self.at(repository) / "blobs" / file.digest

    def missing(self, repository: str, files: Sequence[Remote]) -> int:
        """Bytes that are still to be fetched."""
        left = 0
        for file in files:
            blob = self.blob(repository, file)
            if not blob.is_file():
                part = under_way(blob)
                left += file.size - (part.stat().st_size if part.is_file() else 0)
        return max(0, left)

    def finish(self, repository: str, commit: str, files: Sequence[Remote], ref: str = "") -> Path:
        """Make a commit of files that are all there; its folder, which is whole at once.

        ref: the branch that it is the newest of. Raises StorageError.
        """
        path = self.snapshot(repository, commit)
        for file in files:
            if not self.blob(repository, file).is_file():
                raise StorageError(
                    f"{file.name} of {repository} was removed while the rest was fetched. Fetch "
                    "again: what is there is kept."
                )
        making = path.with_name(f".{commit}.{os.getpid()}.part")
        with said(path):
            if not path.is_dir():
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir(parents=True)
                self._link(repository, making, files)
                making.rename(path)
            else:  # the hub's own client, or an earlier choice of files, was here
                self._link(repository, path, files)
        if ref:
            try:
                write_whole(self.at(repository) / "refs" / ref, commit)
            except StorageError as error:  # as `main/new` beside `main`: the model is whole without
                log.warning("%s", error)
        return path

    def _link(self, repository: str, folder: Path, files: Sequence[Remote]) -> None:
        for file in files:
            link = folder / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            up = "../" * (2 + file.name.count("/"))
            with suppress(FileExistsError):
                link.symlink_to(f"{up}blobs/{file.digest}")
            if not link.exists():  # it pointed to a blob that is gone
                link.unlink()
                link.symlink_to(f"{up}blobs/{file.digest}")

    def used(self) -> list[Used]:
        """Every commit on the disk, by repository; raises StorageError."""
        found: list[Used] = []
        with said(self.folder):
            if not self.folder.is_dir():
                return []
            for place in sorted(self.folder.glob("models--*--*")):
                found += _used(_repository(place), place)
        return found

    def leftovers(self) -> dict[str, int]:
        """By repository, bytes of what was begun and not ended, and of files of no commit."""
        found: dict[str, int] = {}
        with said(self.folder):
            for place in sorted(self.folder.glob("models--*--*")):
                held = {blob.name for _, blobs in _snapshots(place) for blob in blobs}
                blobs = [one for one in (place / "blobs").glob("*") if one.name not in held]
                if number := sum(blob.stat().st_size for blob in blobs):
                    found[_repository(place)] = number
        return found

    def sweep(self, repository: str, digests: Collection[str] | None = None) -> int:
        """Forget what was begun (of these digests, or all) and whole files of no commit; bytes.

        What a fetch is writing now stays, and where no digests are named also the whole files of no
        commit beside it: they may be that fetch's.
        """
        place, freed = self.at(repository), 0
        with said(place):
            if not place.is_dir():
                return 0
            held = {blob.name for _, blobs in _snapshots(place) for blob in blobs}
            begun = set((place / "blobs").glob(f"*{UNDER_WAY}"))
            written = {file for file in begun if _written(file)}
            for file in list((place / "blobs").glob("*")):
                digest = file.name.removesuffix(UNDER_WAY)
                if file in begun:
                    old = file not in written
                else:
                    old = digest not in held and not (written and digests is None)
                if old and (digests is None or digest in digests):
                    freed += file.stat().st_size
                    file.unlink()
            if not held and not written:
                shutil.rmtree(place)
        return freed

    def remove(self, repository: str, commit: str) -> int:
        """Forget a commit, and what no other one shares with it; the bytes that this frees."""
        path = self.snapshot(repository, commit)
        place, before = self.at(repository), 0
        with said(path):
            if not path.is_dir():
                return 0
            before = sum(file.stat().st_size for file in (place / "blobs").glob("*"))
            own = {file.resolve().name for file in path.rglob("*") if file.is_file()}
            gone = path.with_name(f".{commit}.{os.getpid()}.gone")
            path.rename(gone)
            shutil.rmtree(gone)
            refs = [ref for ref in (place / "refs").rglob("*") if ref.is_file()]
            for ref in refs:
                if ref.read_text(errors="replace").strip() == commit:
                    ref.unlink()
            self.sweep(repository, own)
            left = sum(file.stat().st_size for file in (place / "blobs").glob("*"))
        return before - left


def under_way(blob: Path) -> Path:
    """Where a file is written before it is whole."""
    return blob.with_name(blob.name + UNDER_WAY)


def check_links(folder: Path, inside: Path) -> None:
    """Refuse a folder with a link that leads out of another folder, or nowhere.

    Raises InvalidInput, StorageError.
    """
    root = inside.resolve()
    with said(folder):
        for path in folder.rglob("*"):
            if not path.is_symlink():
                continue
            goal = path.resolve()
            if not goal.is_relative_to(root):
                raise InvalidInput(
                    f"{path.relative_to(folder)} in {folder} is a link to {goal}, outside of it: "
                    "such a model is not taken. Put the file itself there."
                )
            if not goal.exists():
                raise InvalidInput(
                    f"{path.relative_to(folder)} in {folder} is a link to {goal}, which is not "
                    "there."
                )


def _repository(place: Path) -> str:
    return place.name.removeprefix("models--").replace("--", "/")


def _written(part: Path) -> bool:
    """Whether a fetch holds what is under way."""
    with part.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _snapshots(place: Path) -> Iterator[tuple[Path, set[Path]]]:
    for path in sorted((place / "snapshots").glob("*")):
        if COMMIT.fullmatch(path.name):
            files = [file for file in path.rglob("*") if file.is_file()]
            yield path, {file.resolve() for file in files}


def _used(name: str, place: Path) -> list[Used]:
    found = list(_snapshots(place))
    times: dict[Path, int] = {}
    for _, blobs in found:
        for blob in blobs:
            times[blob] = times.get(blob, 0) + 1
    used = []
    for path, blobs in found:
        sizes = {blob: blob.stat().st_size for blob in blobs}
        alone = sum(size for blob, size in sizes.items() if times[blob] == 1)
        used.append(Used(name, path.name, path, sum(sizes.values()), alone))
    return used
