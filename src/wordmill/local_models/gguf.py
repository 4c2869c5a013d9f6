"""The head of a GGUF file: what it says of its model, without the weights.

Source: the format's description at github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from wordmill.errors import InvalidInput
from wordmill.local_models.types import Facts
from wordmill.storage import said

_NUMBERS: Final = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_TEXT, _LIST = 8, 9
MOST: Final = 1 << 20
"""Keys and tensors of the largest head that is read."""
TEXT: Final = 16 << 20
"""Bytes of the longest text in a head."""
DIMENSIONS, WIDEST = 8, 1 << 48
"""How many dimensions a tensor has at most, and how many numbers."""
ENTRIES: Final = 1 << 22
"""Entries of the longest list: a vocabulary."""

# How many bits each type of tensor takes for a weight, for the name of what is kept.
_BITS: Final = {
    0: 32,
    1: 16,
    2: 4,
    3: 4,
    6: 5,
    7: 5,
    8: 8,
    10: 3,
    11: 3,
    12: 4,
    13: 5,
    14: 6,
    30: 16,
}


def read_gguf(path: Path) -> Facts:
    """What a GGUF file says of its model. Raises InvalidInput for no such file; StorageError."""
    with said(path), path.open("rb") as file:
        return read_head(file, path.name, path.stat().st_size)


def read_head(file: "BinaryIO | Pieces", name: str, size: int) -> Facts:
    """The same of a file that is read from its beginning. size: its bytes."""
    try:
        return _facts(_Head(file, size), name, size)
    except (struct.error, OverflowError, MemoryError) as error:
        raise InvalidInput(f"{name} is no GGUF file, or is damaged.") from error


class Pieces:
    """What comes in pieces, read as a file; at most so many bytes."""

    def __init__(self, pieces: Iterator[bytes], most: int) -> None:
        self._pieces, self._most, self._held = pieces, most, bytearray()

    def read(self, number: int) -> bytes:
        """So many bytes, or fewer at the end."""
        while len(self._held) < number:
            piece = next(self._pieces, b"")
            self._most -= len(piece)
            if not piece or self._most < 0:
                break
            self._held += piece
        found = bytes(self._held[:number])
        del self._held[:number]
        return found


class _Head:
    def __init__(self, file: BinaryIO | Pieces, size: int) -> None:
        self._file, self._left = file, size

    def bytes(self, number: int) -> bytes:
        if number > self._left:
            raise struct.error("the file ends before")
        self._left -= number
        found = self._file.read(number)
        if len(found) < number:
            raise struct.error("the file ends before")
        return found

    def number(self, form: str) -> int | float | bool:
        (found,) = struct.unpack(form, self.bytes(struct.calcsize(form)))
        return found  # type: ignore[no-any-return]  # a number, by its form

    def count(self, most: int) -> int:
        found = int(self.number("<Q"))
        if found > most:
            raise struct.error("a count beyond belief")
        return found

    def text(self) -> str:
        return self.bytes(self.count(TEXT)).decode("utf-8", "replace")

    def value(self, kind: int) -> int | float | bool | str:
        """A value; of a list, its length."""
        if kind == _TEXT:
            return self.text()
        if kind != _LIST:
            if kind not in _NUMBERS:
                raise struct.error("an unknown type")
            return self.number(_NUMBERS[kind])
        inner, length = int(self.number("<I")), self.count(ENTRIES)
        if inner in _NUMBERS:
            self.bytes(length * struct.calcsize(_NUMBERS[inner]))
        elif inner == _TEXT:
            for _ in range(length):
                self.bytes(self.count(TEXT))
        else:
            raise struct.error("a list of lists")
        return length


def _facts(head: _Head, name: str, size: int) -> Facts:
    if head.bytes(min(4, size)) != b"GGUF":
        raise InvalidInput(f"{name} is no GGUF file: it does not begin as one.")
    version = int(head.number("<I"))
    if version not in (2, 3):
        raise InvalidInput(f"{name} is GGUF version {version}; 2 and 3 are read.")
    number, keys = head.count(MOST), head.count(MOST)
    found: dict[str, int | float | bool | str] = {}
    for _ in range(keys):
        key = head.text()
        found[key] = head.value(int(head.number("<I")))
    family = str(found.get("general.architecture", ""))
    if not family:
        raise InvalidInput(f"{name} does not say which architecture it is.")
    if not number:
        raise InvalidInput(f"{name} holds no weights.")
    parameters, bits = 0, dict[int, int]()
    for _ in range(number):
        head.text()
        count = 1
        dimensions = int(head.number("<I"))
        if dimensions > DIMENSIONS:
            raise InvalidInput(f"{name} has a tensor of {dimensions} dimensions: it is damaged.")
        for _ in range(dimensions):
            count *= head.count(WIDEST)
        if count > WIDEST:
            raise InvalidInput(f"{name} has a tensor of {count} numbers: it is damaged.")
        kind, offset = int(head.number("<I")), int(head.number("<Q"))
        if offset > size:
            raise InvalidInput(f"{name} is shorter than its head says: it was cut off.")
        parameters += count
        bits[kind] = bits.get(kind, 0) + count
    most = max(bits, key=lambda kind: bits[kind])

    def of(key: str) -> int:
        value = found.get(f"{family}.{key}", 0)
        return value if isinstance(value, int) else 0

    heads, hidden = of("attention.head_count"), of("embedding_length")
    wide = _BITS.get(most, 16)
    dtype = {32: "float32", 16: "bfloat16" if most == 30 else "float16", 8: "int8"}.get(
        wide, "int4"
    )
    return Facts(
        architecture=family[:100], parameters=parameters, weights=size, dtype=dtype,
        context=of("context_length"), layers=of("block_count"), hidden=hidden,
        key_heads=of("attention.head_count_kv") or heads,
        head=of("attention.key_length") or (hidden // heads if heads else 0),
        vocabulary=int(found.get("tokenizer.ggml.tokens", 0) or 0),
        template="tokenizer.chat_template" in found,
    )  # fmt: skip
