"""What kind of image some bytes are and how large, from their header; nothing is decoded.

So a picture that would unpack to gigabytes costs nothing here, and can be refused by its own words.
"""

import struct
from typing import NamedTuple


class Picture(NamedTuple):
    """`width` and `height` in pixels."""

    media_type: str
    width: int
    height: int


def picture(data: bytes) -> Picture | None:
    """The picture that these bytes begin with; None where they are no PNG, JPEG, GIF or WebP.

    Raises ValueError for one whose header is cut off or damaged.
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            if data[12:16] != b"IHDR":
                raise ValueError("a PNG without its header")
            return _sized("image/png", *struct.unpack_from(">II", data, 16))
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _sized("image/gif", *struct.unpack_from("<HH", data, 6))
        if data.startswith(b"\xff\xd8\xff"):
            return _sized("image/jpeg", *_jpeg(data))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _sized("image/webp", *_webp(data))
    except struct.error as error:
        raise ValueError("its header is cut off") from error
    return None


def _sized(media_type: str, width: int, height: int) -> Picture:
    if not width or not height:
        raise ValueError("it has no pixels")
    return Picture(media_type, width, height)


def _jpeg(data: bytes) -> tuple[int, int]:
    """Width and height from the first frame header (ITU T.81, B.1.1)."""
    place = 2
    for _ in range(10_000):
        mark, kind, length = struct.unpack_from(">BBH", data, place)
        if mark != 0xFF:
            raise ValueError("its segments are damaged")
        if kind == 0xFF:  # fill bytes before a marker
            place += 1
            continue
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        if kind in (0xD9, 0xDA):
            raise ValueError("it has no frame header")
        place += 2 + max(length, 2)
    raise ValueError("its header does not end")


def _webp(data: bytes) -> tuple[int, int]:
    """Width and height of the three kinds of WebP (RFC 9649)."""
    kind = data[12:16]
    if kind == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise ValueError("a WebP without its frame header")
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        a, b, c, d, e, f = struct.unpack_from("<6B", data, 24)
        return (a | b << 8 | c << 16) + 1, (d | e << 8 | f << 16) + 1
    raise ValueError("a WebP of an unknown kind")
