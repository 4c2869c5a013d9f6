"""Draws that are functions of (seed, column, position), and of nothing else.

A run has no random state: row 7 of a column is the same whether it is made alone, last, twice or
by another process. So a draw is a hash. One BLAKE2b of 64 bytes serves eight neighbouring
positions, which makes a draw in a window of rows cost about a tenth of a microsecond.

A *word* is an int from 0 to 2**64 - 1, every value equally likely. A *position* is a row number,
or any other non-negative count (row and item, say). All arithmetic on words is on integers, so
the draws are the same on every machine.

    Stream     words by position
    Choice     one of several values, by weight, each draw for itself
    Deck       one of several values, dealt in blocks, so that any prefix is balanced
    Shuffle    a permutation of 0 .. n-1 for any n, without a list of n numbers
"""

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from math import gcd, lcm

WORD = 1 << 64
"""How many words there are."""

PLACES = 10_000
"""A block of a `Deck` has at most this many places, or one for each value where there are more."""

_EIGHT = struct.Struct("<8Q").unpack
_KEPT = 8  # bundles of blocks that a deck remembers: neighbours, and rows that come late
_TOGETHER = 64  # places of a bundle, about


class Stream:
    """Words by position, independent of every other (seed, column, purpose).

    purpose: tells apart the streams that one column uses.
    """

    __slots__ = ("_base",)

    def __init__(self, seed: int, column: str, purpose: str = "") -> None:
        name = f"{seed}\0{column}\0{purpose}".encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(name, digest_size=32, person=b"wordmill.draws").digest()
        self._base = hashlib.blake2b(key, digest_size=64)

    def words(self, positions: Sequence[int]) -> list[int]:
        """One word a position, in the order of `positions`."""
        words: list[int] = []
        append, base, block, eight = words.append, self._base, -1, ()
        for position in positions:
            if position >> 3 != block:
                block = position >> 3
                state = base.copy()
                state.update(block.to_bytes(8, "little"))
                eight = _EIGHT(state.digest())
            append(eight[position & 7])
        return words

    def word(self, position: int) -> int:
        """`words` for one position."""
        return self.words((position,))[0]

    def many(self, position: int, count: int) -> list[int]:
        """`count` words that belong to one position; a shorter list is a prefix of a longer one."""
        words: list[int] = []
        start = position.to_bytes(8, "little")
        for part in range((count + 7) >> 3):
            state = self._base.copy()
            state.update(start + part.to_bytes(4, "little"))
            words += _EIGHT(state.digest())
        return words[:count]


def fraction(word: int) -> float:
    """A word as a float in [0, 1), with 53 random bits."""
    return (word >> 11) * 2.0**-53


def below(word: int, count: int) -> int:
    """A word as an int from 0 to count - 1. The bias is below count / 2**64."""
    return word * count >> 64


def exact(weight: float) -> Fraction:
    """A weight as the number that was written: 0.1 is one tenth, not the nearest binary float."""
    return Fraction(weight if isinstance(weight, int) else str(weight))


class Choice:
    """One of `len(weights)` values by weight, each draw independent of the others.

    weights: at least one positive, none negative; only their proportions count.
    """

    __slots__ = ("_bounds", "_count", "_equal")

    def __init__(self, weights: Sequence[float]) -> None:
        self._count = len(weights)
        self._equal = len(set(weights)) == 1
        # The last bound of a value with weight is never reached, so bisect stays in range.
        self._bounds: list[int] = []
        if not self._equal:
            parts = [exact(weight) for weight in weights]
            total = sum(parts)
            self._bounds = [int(part * WORD / total) for part in accumulate(parts)]

    def index(self, word: int) -> int:
        """The index that a word stands for."""
        if self._equal:
            return word * self._count >> 64
        return bisect_right(self._bounds, word)

    def indexes(self, words: Sequence[int]) -> list[int]:
        """`index` for many words."""
        count, bounds = self._count, self._bounds
        if self._equal:
            return [word * count >> 64 for word in words]
        return [bisect_right(bounds, word) for word in words]


def block_counts(weights: Sequence[float]) -> tuple[int, ...]:
    """How often each value stands in one block: the smallest whole numbers in these proportions.

    [2, 1] -> (2, 1); [0.5, 0.25, 0.25] -> (2, 1, 1). Where the exact block would have more than
    `PLACES` places the proportions are rounded to that many, and no positive weight to nothing.
    """
    if len(set(weights)) == 1:
        return (1,) * len(weights)
    parts = [exact(weight) for weight in weights]
    scale = lcm(*(part.denominator for part in parts))
    whole = [int(part * scale) for part in parts]
    divisor = gcd(*whole)
    counts = [count // divisor for count in whole]
    if sum(counts) <= max(PLACES, sum(1 for count in counts if count)):
        return tuple(counts)
    return _rounded(counts, max(PLACES, len(counts)))


def _rounded(counts: Sequence[int], places: int) -> tuple[int, ...]:
    """The same proportions in `places` places, by largest remainders."""
    total = sum(counts)
    shares = [divmod(count * places, total) for count in counts]
    rounded = [
        max(share, 1) if count else 0 for (share, _), count in zip(shares, counts, strict=True)
    ]
    order = sorted(range(len(counts)), key=lambda index: (-shares[index][1], index))
    for index in order[: max(0, places - sum(rounded))]:
        rounded[index] += counts[index] > 0
    return tuple(rounded)


class Deck:
    """Indexes of values dealt in blocks: each block holds every value as often as its weight says.

    Within a block the copies of a value are spread: of c copies, each falls into its own c-th of
    the block. So not only whole blocks are balanced but, as nearly as whole numbers allow, every
    prefix. The deal of block b is a function of (seed, column, purpose, b).

    counts: how often each value stands in a block (`block_counts`).  size: places in a block.
    """

    __slots__ = ("_kept", "_places", "_stream", "counts", "size")

    def __init__(self, seed: int, column: str, counts: Sequence[int], purpose: str = "") -> None:
        self._stream = Stream(seed, column, "deck" + purpose)
        self.counts = tuple(counts)
        self.size = sum(counts)
        # Small blocks are dealt several at a time, to share hashes.
        self._places = self.size * max(1, _TOGETHER // self.size)
        self._kept: dict[int, list[int]] = {}

    def block(self, number: int) -> list[int]:
        """The indexes of one block, in the order of its positions."""
        start = number * self.size
        bundle, place = divmod(start, self._places)
        return self._dealt(bundle)[place : place + self.size]

    def indexes(self, positions: Sequence[int]) -> list[int]:
        """The index dealt to each position."""
        places, current, dealt = self._places, -1, [0]
        indexes: list[int] = []
        append = indexes.append
        for position in positions:
            bundle, place = divmod(position, places)
            if bundle != current:
                current, dealt = bundle, self._dealt(bundle)
            append(dealt[place])
        return indexes

    def _dealt(self, bundle: int) -> list[int]:
        """The indexes of some whole blocks, one after the other."""
        dealt = self._kept.get(bundle)
        if dealt is None:
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)), None)
            words = self._stream.words(range(bundle * self._places, (bundle + 1) * self._places))
            dealt = []
            for start in range(0, self._places, self.size):
                dealt += self._block(words[start : start + self.size])
            self._kept[bundle] = dealt
        return dealt

    def _block(self, words: list[int]) -> list[int]:
        if len(self.counts) == self.size and 0 not in self.counts:
            return sorted(range(self.size), key=words.__getitem__)
        keyed: list[tuple[int, int]] = []
        draw = iter(words)
        for index, count in enumerate(self.counts):
            keyed += [(((copy << 64) + next(draw)) // count, index) for copy in range(count)]
        keyed.sort()
        return [index for _, index in keyed]


class Shuffle:
    """A seeded permutation of 0 .. n-1 that needs no list: any index at once, in constant memory.

    A Feistel network of four rounds over the smallest even-bit range that holds n; what falls
    outside walks on until it falls inside (at most four steps on average).
    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains".
    """

    __slots__ = ("_half", "_keys", "_mask", "n")

    def __init__(self, n: int, seed: int, column: str, number: int = 0) -> None:
        self.n = n
        self._half = max(1, ((n - 1).bit_length() + 1) // 2)
        self._mask = (1 << self._half) - 1
        self._keys = tuple(Stream(seed, column, "shuffle").many(number, 4))

    def __getitem__(self, index: int) -> int:
        """Where `index` (from 0 to n - 1) goes."""
        half, mask = self._half, self._mask
        while True:
            left, right = index >> half, index & mask
            for key in self._keys:
                left, right = right, left ^ (_mixed(right ^ key) & mask)
            index = left << half | right
            if index < self.n:
                return index

    def __iter__(self) -> Iterator[int]:
        """The whole permutation, in order."""
        return (self[index] for index in range(self.n))


def _mixed(word: int) -> int:
    """A word whose every bit depends on all bits of another (the finaliser of SplitMix64)."""
    word &= WORD - 1
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & (WORD - 1)
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & (WORD - 1)
    return word ^ (word >> 31)
