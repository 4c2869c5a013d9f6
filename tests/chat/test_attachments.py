"""Files in conversations: what they are by their bytes, their limits, and whose they are."""

import os
import struct
import time
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.chat.conftest import Somebody
from wordmill.chat.attachments import Attachments, recognised, shown_name
from wordmill.chat.conversations import Conversations
from wordmill.chat.pictures import Picture, picture
from wordmill.database import Database, attachments, now
from wordmill.errors import InvalidInput, NotFound, StorageError


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + before + b"\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame


def webp(kind: bytes, data: bytes) -> bytes:
    return (
        b"RIFF"
        + struct.pack("<I", 4 + 8 + len(data))
        + b"WEBP"
        + kind
        + (struct.pack("<I", len(data)) + data)
    )


EXIF = b"\xff\xe1" + struct.pack(">H", 2 + 500) + b"x" * 500
LOSSLESS = b"\x2f" + struct.pack("<I", (20 - 1) | (10 - 1) << 14)
EXTENDED = b"\0\0\0\0" + (19).to_bytes(3, "little") + (9).to_bytes(3, "little")
LOSSY = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 20, 10)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (png(20, 10), "image/png"),
        (b"GIF89a" + struct.pack("<HH", 20, 10), "image/gif"),
        (jpeg(20, 10), "image/jpeg"),
        (jpeg(20, 10, EXIF + b"\xff\xff"), "image/jpeg"),
        (webp(b"VP8 ", LOSSY), "image/webp"),
        (webp(b"VP8L", LOSSLESS), "image/webp"),
        (webp(b"VP8X", EXTENDED), "image/webp"),
    ],
)
def test_a_picture_is_known_by_its_header(data: bytes, media_type: str) -> None:
    assert picture(data) == Picture(media_type, 20, 10)
    for cut in range(12, len(data) - 8):
        with suppress(ValueError):
            picture(data[:cut])


def test_other_bytes_are_no_picture() -> None:
    for data in (b"", b"BM", b"%PDF-1.7", b"RIFF\0\0\0\0WAVE", b"<svg/>"):
        assert picture(data) is None


@pytest.mark.parametrize(
    ("name", "data", "said", "expected"),
    [
        ("a.txt", b"words", "", ("text/plain", "words")),
        ("a.py", b"x = 1", "", ("text/x-python", "x = 1")),
        ("a.bin", "ünï".encode(), "text/markdown; charset=utf-8", ("text/markdown", "ünï")),
        ("a.json", b"{}", "", ("application/json", "{}")),
        ("a.txt", b"\xef\xbb\xbfwords", "", ("text/plain", "words")),
        ("a.txt", "wörds".encode("utf-16"), "", ("text/plain", "wörds")),
        ("a.txt", "wörds".encode("utf-32"), "", ("text/plain", "wörds")),
        ("a.txt", b"", "", ("text/plain", "")),
        # What a browser would run is text to us, whatever it is called.
        ("a.html", b"<script>alert(1)</script>", "text/html", ("text/plain",)),
        ("a.svg", b"<svg onload='x()'/>", "image/svg+xml", ("text/plain",)),
        ("a.png", b"<script>", "image/png", ("text/plain",)),
        ("a.txt", b"x", "text/x\r\nSet-Cookie: a", ("text/plain",)),
        ("a.txt", png(1, 1), "text/plain", ("image/png", None)),
    ],
)
def test_a_file_is_what_its_bytes_say(
    name: str, data: bytes, said: str, expected: tuple[str | None, ...]
) -> None:
    assert recognised(name, data, said)[: len(expected)] == expected


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"%PDF-1.7\x00\x01", "'f' is neither text (UTF-8) nor an image (PNG, JPEG, GIF, WebP)."),
        (b"\xff\xfe\x00\xd8", "'f' is neither text"),
        ("ü".encode("latin-1"), "'f' is neither text"),
        (b"PK\x03\x04\x00", "'f' is neither text"),
        (b"a\0b", "'f' is neither text"),
        (png(10, 10)[:20], "'f' looks like an image, but its header is cut off."),
        (png(0, 10), "'f' looks like an image, but it has no pixels."),
        (png(60_000, 60_000), "'f' has 60,000 x 60,000 pixels; 100 million are the most."),
        (b"\xff\xd8\xff\xff" + b"\xff" * 100_000, "'f' looks like an image, but its header does"),
        (b"\xff\xd8\xff\xda\0\0", "'f' looks like an image, but it has no frame header."),
    ],
)
def test_what_is_neither_is_refused_in_words(data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        recognised("f", data)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("a\0\n.txt", "a\ufffd.txt"),
        ("invoice\u202etxt.exe", "invoicetxt.exe"),
        ("x" * 300 + ".png", "x" * 196 + ".png"),
        ("x" * 300, "x" * 200),
        ("", "file"),
        ("/", "file"),
        ("\ud800.txt", "\ufffd.txt"),
    ],
)
def test_a_name_is_only_a_name(given: str, shown: str) -> None:
    assert shown_name(given) == shown


def test_a_file_lies_under_its_id_and_belongs_to_the_message(
    store: Conversations, ada: Somebody, ben: Somebody
) -> None:
    file = store.attachments.add(ada, "../evil.png", png(3, 2), "text/html")
    assert (file.name, file.media_type, file.text, file.image) == (
        "evil.png",
        "image/png",
        None,
        True,
    )
    assert [one.name for one in store.attachments.folder.iterdir()] == [file.id]
    of, other = store.create(ada), store.create(ada)
    said = store.add(ada, of.id, "user", "see", attachments=[file.id], door="web")
    part = {"type": "attachment", "id": file.id, "name": "evil.png"}
    assert said.parts == ({**part, "media_type": "image/png", "size": file.size},)
    assert said.attachments == (file.id,)
    assert store.attachments.all(ada, of.id)[0].conversation == of.id
    assert store.attachments.data(ada, file.id) == png(3, 2)
    # A second time in the same conversation, when its message is edited; never in another.
    again = store.add(ada, of.id, "user", "edit", parent=None, parts=said.parts, door="web")
    assert again.parts == said.parts
    for person, conversation in ((ada, other.id), (ben, store.create(ben).id)):
        with pytest.raises(NotFound):
            store.add(person, conversation, "user", "x", attachments=[file.id], door="web")
    with pytest.raises(NotFound, match="There is no unused attachment"):
        store.attachments.remove(ada, file.id)
    unused = store.attachments.add(ada, "a.txt", b"a")
    store.attachments.remove(ada, unused.id)
    assert [one.name for one in store.attachments.folder.iterdir()] == [file.id]


def test_limits_of_a_file_and_of_a_person(
    store: Conversations, ada: Somebody, ben: Somebody
) -> None:
    object.__setattr__(store.settings, "attachment_bytes", 2048)
    object.__setattr__(store.settings, "person_attachment_bytes", 3000)
    with pytest.raises(InvalidInput, match=r"'a' is too large: 2\.0 KiB, and 2\.0 KiB is the most"):
        store.attachments.add(ada, "a", b"x" * 2049)
    store.attachments.add(ada, "a", b"x" * 2048)
    with pytest.raises(InvalidInput, match=r"Your files fill 2\.0 KiB of the 2\.9 KiB"):
        store.attachments.add(ada, "b", b"x" * 1000)
    store.attachments.add(ben, "b", b"x" * 1000)
    assert len(list(store.attachments.folder.iterdir())) == 2


def test_what_no_message_got_is_swept_away_after_a_day(
    store: Conversations, database: Database, ada: Somebody
) -> None:
    of = store.create(ada)
    used, unused, fresh = (store.attachments.add(ada, "a", b"x") for _ in range(3))
    store.add(ada, of.id, "user", "x", attachments=[used.id], door="web")
    stray = store.attachments.folder / "stray"
    stray.write_bytes(b"left by a crash")
    yesterday = time.time() - 2 * 86_400
    os.utime(stray, (yesterday, yesterday))
    with database.begin() as connection:
        old = attachments.c.id.in_([used.id, unused.id])
        at = now().replace(year=2020)
        connection.execute(update(attachments).where(old).values(created=at))
    assert store.attachments.sweep() == 2
    kept = {one.name for one in store.attachments.folder.iterdir()}
    assert kept == {used.id, fresh.id}


def test_bytes_that_are_gone_are_said_to_be(store: Conversations, ada: Somebody) -> None:
    file = store.attachments.add(ada, "a", b"x")
    (store.attachments.folder / file.id).unlink()
    with pytest.raises(StorageError, match=r"attachments/\w+ does not exist"):
        store.attachments.data(ada, file.id)


def test_a_disk_that_refuses_leaves_no_row(
    store: Conversations, ada: Somebody, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(store.attachments, "folder", tmp_path / "file")
    with pytest.raises(StorageError):
        store.attachments.add(ada, "a", b"x")
    monkeypatch.undo()
    assert isinstance(store.attachments, Attachments)
    assert store.attachments.sweep() == 0
