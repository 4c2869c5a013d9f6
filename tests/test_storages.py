"""A folder and a bucket keep files in the same way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import s3
from wordmill import storage as storages
from wordmill.errors import ConfigError, StorageError
from wordmill.settings import load
from wordmill.storage import PIECE, S3, Folder, Storage, open_storage

BUCKETS = iter(range(1000))


@pytest.fixture
def bucket(s3_server: s3.Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The `storage_url` of an empty bucket, with a path of its own."""
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(storages, "PART", 5 << 20)
    return s3_server.bucket(f"files-{next(BUCKETS)}") + "/some/path"


def opened(url: str) -> Storage:
    return open_storage(load({"storage_url": url}))


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest) -> Storage:
    url = request.getfixturevalue("bucket") if request.param == "s3" else ""
    return opened(url)


def everything(storage: Storage, server: s3.Server) -> list[str]:
    """All that lies in it, what is hidden too."""
    if isinstance(storage, Folder):
        root = storage.root
        return sorted(str(one.relative_to(root)) for one in root.rglob("*") if one.is_file())
    assert isinstance(storage, S3)
    client = server.client()
    found = client.list_objects_v2(Bucket=storage.bucket).get("Contents", [])
    parts = client.list_multipart_uploads(Bucket=storage.bucket).get("Uploads", [])
    return sorted(
        [one["Key"].removeprefix("some/path/") for one in found]
        + [f"part of {one['Key']}" for one in parts]
    )


def test_a_file_is_there_whole_when_it_is_committed(storage: Storage) -> None:
    data = bytes(range(256)) * (6 << 12) + b"end"
    assert storage.size("files/one") is None
    writer = storage.create("files/one")
    for start in range(0, len(data), 700_000):
        writer.write(data[start : start + 700_000])
        assert storage.size("files/one") is None
    writer.commit()
    writer.abort()
    assert storage.size("files/one") == len(data)
    pieces = list(storage.read("files/one"))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= PIECE
    storage.write("files/one", b"other")
    assert storage.whole("files/one") == b"other"


def test_parts_of_a_file_are_read(storage: Storage) -> None:
    data = os.urandom(3 * PIECE)
    storage.write("a/b/c-1.2_3", data)
    for offset, size in ((0, 1), (5, 3), (PIECE - 1, 2), (PIECE, PIECE), (0, len(data))):
        assert storage.whole("a/b/c-1.2_3", offset, size) == data[offset : offset + size]
    assert storage.whole("a/b/c-1.2_3", 7) == data[7:]
    assert storage.whole("a/b/c-1.2_3", len(data) - 2, 100) == data[-2:]
    assert storage.whole("a/b/c-1.2_3", len(data), 9) == b""
    assert storage.whole("a/b/c-1.2_3", len(data) + 9) == b""
    assert storage.whole("a/b/c-1.2_3", 3, 0) == b""


def test_an_empty_file_is_a_file(storage: Storage) -> None:
    storage.write("empty", b"")
    assert storage.size("empty") == 0
    assert storage.whole("empty") == b""


def test_what_is_aborted_leaves_nothing(storage: Storage, s3_server: s3.Server) -> None:
    storage.write("files/old", b"old")
    writer = storage.create("files/old")
    writer.write(b"x" * (11 << 20))
    writer.abort()
    writer.abort()
    assert everything(storage, s3_server) == ["files/old"]
    assert storage.whole("files/old") == b"old"


def test_a_file_or_all_below_a_place_is_removed(storage: Storage, s3_server: s3.Server) -> None:
    for place in ("a/one", "a/b/two", "ab", "a-b/three"):
        storage.write(place, b"x")
    storage.remove("nothing")
    storage.remove("ab")
    storage.remove("a")
    assert everything(storage, s3_server) == ["a-b/three"]
    assert storage.size("a/one") is None


def test_more_is_removed_than_a_page_holds(
    bucket: str, s3_server: s3.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storages, "PAGE", 3)
    storage = opened(bucket)
    assert isinstance(storage, S3)
    for number in range(10):
        storage.write(f"a/{number}", b"")
    storage.remove("a")
    assert everything(storage, s3_server) == []


@pytest.mark.parametrize("place", ["", "/a", "a/", "../a", "a//b", "a/../b", "a b", "a\n", ".a"])
def test_a_place_is_a_path_of_plain_names(storage: Storage, place: str) -> None:
    for act in (storage.create, storage.size, storage.remove, storage.whole):
        with pytest.raises(ValueError, match="is no place in a storage"):
            act(place)


def test_a_file_that_is_not_there_is_said(storage: Storage) -> None:
    for size in (None, 5):
        with pytest.raises(StorageError, match=r"files/none does not exist\.$"):
            storage.whole("files/none", 0, size)


def test_many_threads_may_write_at_once(storage: Storage) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: storage.write(f"t/{n}", b"%d" % n), range(32)))
        found = list(pool.map(lambda n: storage.whole(f"t/{n}"), range(32)))
    assert found == [b"%d" % n for n in range(32)]


# What only a server can refuse -----------------------------------------------------------------


def test_a_bucket_that_is_not_there(bucket: str, s3_server: s3.Server) -> None:
    storage = opened("s3://no-such-bucket/x")
    words = (
        f"There is no bucket 'no-such-bucket' at {s3_server.endpoint}: make it, or set storage_url "
        "to another."
    )
    for act in (storage.size, storage.whole, storage.remove):
        with pytest.raises(StorageError) as caught:
            act("a")
        assert str(caught.value) == words
    with pytest.raises(StorageError) as caught:
        storage.write("a", b"x")
    assert str(caught.value) == words


def test_keys_that_are_refused(bucket: str, s3_server: s3.Server) -> None:
    storage = opened(bucket)
    s3_server.check_keys()
    try:
        with pytest.raises(StorageError) as caught:
            storage.write("a", b"x")
    finally:
        s3_server.trust()
    assert str(caught.value) == (
        f"{bucket}/a: permission denied (InvalidAccessKeyId). AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and what they may do decide that."
    )
    assert s3.SECRET not in str(caught.value)


def test_a_server_that_is_not_there(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hidden@127.0.0.1:9")
    with pytest.raises(StorageError) as caught:
        opened(bucket).whole("a")
    assert str(caught.value).startswith("The storage http://127.0.0.1:9 cannot be reached (")


def test_without_keys_there_are_words(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError) as caught:
        opened(bucket).whole("a")
    assert str(caught.value) == (
        f"{bucket}/a: there are no keys for it. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://key:hidden@bucket/x", "keys go into AWS_ACCESS_KEY_ID"),
        ("s3://bucket/a?x=1", "made of plain names"),
        ("s3://bucket/../a", "made of plain names"),
    ],
)
def test_what_is_no_place_for_a_storage(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        opened(url)
    assert "hidden" not in str(caught.value)


GROWS = """
import resource, sys
from wordmill.settings import load
from wordmill import storage as storages

storages.PART, storages.SPAN = 5 << 20, 5 << 20
storage = storages.open_storage(load({"storage_url": sys.argv[1]}))
def send(megabytes):
    writer = storage.create("files/large")
    for _ in range(megabytes):
        writer.write(bytes(1 << 20))
    writer.commit()
    for piece in storage.read("files/large"):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = send(16)
print(send(96) - before)
"""


def test_a_long_file_needs_no_more_memory_than_a_short_one(bucket: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWS, bucket], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 32 << 10  # KiB, of eighty more that were sent
