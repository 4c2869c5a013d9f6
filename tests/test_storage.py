"""Files that are whole or not there."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wordmill.errors import StorageError
from wordmill.storage import WholeFile, failure, write_whole

THEN = "All answers are kept; make room and go on."


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may pass `size` bytes: the system refuses as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "below" / "card.md"
    with WholeFile(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert [p.name for p in path.parent.iterdir()] == ["card.md"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_whole(path, "old")

    def write_half() -> None:
        with WholeFile(path) as file:
            file.write(b"new")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        write_half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_refused_write_says_what_is_safe_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with largest_file(1000), pytest.raises(StorageError) as caught:
        write_whole(path, b"x" * 5000, THEN)
    assert str(caught.value) == (
        f"{path} would pass the limit on the size of a file (`ulimit -f`). {THEN}"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError) as caught:
        write_whole(tmp_path / "out" / "data" / "x", b"")
    assert str(caught.value) == (
        f"{tmp_path}/out is a file, so {tmp_path}/out/data/x cannot be made below it."
    )


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EDQUOT, "The disk quota is used up: /no/file could not be written."),
        (errno.EROFS, "/no/file is on a file system that is mounted read-only."),
        (errno.EACCES, "/no/file: permission denied."),
        (errno.EISDIR, "/no/file is a folder, where a file is wanted."),
        (errno.ENOENT, "/no/file does not exist."),
        (errno.ENAMETOOLONG, "/no/file: the name is too long for the file system."),
        (errno.EIO, "/no/file: Input/output error."),
    ],
)
def test_each_refusal_has_its_sentence(number: int, sentence: str) -> None:
    assert str(failure(OSError(number, "Input/output error"), Path("/no/file"))) == sentence


def test_a_full_disk_says_how_much_is_free(tmp_path: Path) -> None:
    words = str(failure(OSError(errno.ENOSPC, "full"), tmp_path / "a" / "b", THEN))
    assert words.startswith(f"The disk is full: {tmp_path}/a/b could not be written (")
    assert words.endswith(f" MB free). {THEN}")
