"""A long Markdown text in messages of a limited size.

A part ends, where it can, between paragraphs, else between lines, sentences, words, and only then
inside of a word, never inside of what a reader sees as one character. A fence of code that is open
at the end of a part is closed there and opened again in the next one, with its language; both
lines count.

What a text that still grows is split into stays as it is: only the last part changes.

No I/O, and no channel: a limit and how it is counted are given.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Measure: TypeAlias = Callable[[str], int]
"""How large a text is; that of two texts together is the sum, and no character counts nothing."""

SMALLEST: Final = 40
"""The least limit."""


def characters(text: str) -> int:
    """Code points."""
    return len(text)


def utf8_bytes(text: str) -> int:
    """Bytes on the wire."""
    return len(text.encode())


def utf16_units(text: str) -> int:
    """Characters as JavaScript counts them: one outside the basic plane counts twice."""
    return len(text.encode("utf-16-le")) // 2


@dataclass(frozen=True, slots=True)
class Part:
    """A message's worth.

    text: what is sent: `body`, with the fences that were opened again before and closed after it.
    gap: white space between this part and the next that is not sent. The bodies and gaps in their
    order are the whole text.
    """

    text: str
    body: str
    gap: str


def split(text: str, limit: int, measure: Measure = characters) -> list[str]:
    """The messages that a text goes in, none larger than `limit`; [] for one that is blank."""
    return [part.text for part in parts(text, limit, measure) if part.text.strip()]


def growing(text: str, limit: int, measure: Measure = characters) -> list[str]:
    """The same of a text that has not ended: all but the last stay as they are while it grows.

    A last line that may become a fence waits.
    """
    text = text.rstrip("".join(_MARKS))
    head, end, last = text.rpartition("\n")
    return split(head + end if _UNDECIDED.fullmatch(last) else text, limit, measure)


def parts(text: str, limit: int, measure: Measure = characters) -> Iterator[Part]:
    """The same, with what each is made of. Raises ValueError for a limit below SMALLEST."""
    if limit < SMALLEST:
        raise ValueError(f"a limit of {limit} is too small: {SMALLEST} is the least")
    end = len(text.rstrip())
    start = _after_blank(text, 0, limit) if end else 0
    if start or not end:
        yield Part("", "", text[: start or None])
    fence: _Fence | None = None
    while start < end:
        window = _Window(text, start, end, fence, limit, measure)
        cut = max(window.cuts(), key=window.worth)
        opening = "" if fence is None else f"{fence.opening}\n"
        closing = "" if cut.fence is None else cut.fence.closing
        body = text[start : cut.at]
        yield Part(opening + body + closing, body, text[cut.at : cut.next])
        start, fence = cut.next, cut.fence


# Fences of code.

_MARKS: Final = ("`", "~")
_FENCES: Final = ("```", "~~~")
_LEAD: Final = r"(?:[ \t>]|(?:[-*+]|\d{1,9}[.)])[ \t])*"
_FENCE: Final = re.compile(rf"(?P<lead>{_LEAD})(?P<marks>`{{3,}}|~{{3,}})(?P<info>[^\n]*)")
_UNDECIDED: Final = re.compile(
    rf"{_LEAD}(?:[-*+]|\d{{1,9}}[.)]?|`{{1,2}}|~{{1,2}}|(?:`{{3,}}|~{{3,}})[^\n]*)?"
)
_LIST_MARK: Final = re.compile(r"[-*+]|\d{1,9}[.)]")


@dataclass(frozen=True, slots=True)
class _Fence:
    """One that is open. opening: the line that opens it again.  closing: what closes it."""

    opening: str
    closing: str
    marks: str


def _opened(line: str) -> _Fence | None:
    """The fence that a line opens; None where it opens none."""
    found = _FENCE.fullmatch(line)
    if found is None or (found["marks"][0] == "`" and "`" in found["info"]):
        return None
    lead = _LIST_MARK.sub(lambda mark: " " * len(mark[0]), found["lead"])
    marks = found["marks"]
    return _Fence(f"{lead}{marks}{found['info'].rstrip()}", f"\n{lead}{marks}", marks)


def _closes(line: str, fence: _Fence) -> bool:
    found = _FENCE.fullmatch(line)
    return (
        found is not None
        and found["marks"].startswith(fence.marks)
        and not found["info"].strip()
        and not _LIST_MARK.search(found["lead"])
    )


# Where a part may end.

_END, _PARAGRAPH, _LINE, _CODE_LINE, _SENTENCE, _WORD, _ANYWHERE = 6, 5, 4, 3, 2, 1, 0
_SENTENCE_END: Final = re.compile(r"[.!?…]['\"”’»)\]]*(?=\s)|[。！？｡．]['\"”’」』）]*")
_SPACES: Final = re.compile(r"[^\S\n]+")
_BLANK: Final = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class _Cut:
    """A place to end a part. next: where the next begins.  fence: what is open there."""

    at: int
    next: int
    rank: int
    fence: _Fence | None
    size: int


@dataclass(slots=True)
class _Window:
    """What may become one part, from `start` on. fence: what is open at its beginning."""

    text: str
    start: int
    end: int
    fence: _Fence | None
    limit: int
    measure: Measure
    room: int = field(init=False)
    reach: int = field(init=False)
    _at: int = field(init=False)
    _size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        opening = 0 if self.fence is None else self.measure(self.fence.opening) + 1
        self.room = self.limit - opening
        self._at = self.start
        self.reach = min(self._reach(self.start, self.room), self.end)

    def worth(self, cut: _Cut) -> tuple[bool, int, int]:
        """How good a place is: what uses too little of the room is the last choice."""
        far = cut.rank == _END or cut.size >= min(self.room // 2, self.room - self.limit // 4 - 1)
        if cut.rank == _ANYWHERE:
            return False, -1, cut.at
        return far, cut.rank if far else 0, cut.at

    def cuts(self) -> Iterator[_Cut]:
        """The places, in their order, at which all is still within the limit."""
        fence, at, least = self.fence, self.start, 0
        while at < self.end:
            stop = self.text.find("\n", at, self.end)
            stop = self.end if stop < 0 else stop
            line = self.text[at : min(stop, at + self.limit)]
            after = self._after(line, fence)
            if after is fence:
                if not self._like_fence(line):
                    yield from self._in_line(at, stop, fence)
            elif fence is not None:  # it closes: as if it were as long as what closes here
                least = max(least, self._sized(at) - 1 + self.measure(fence.closing))
            closing = 0 if after is None else self.measure(after.closing)
            if stop > self.reach or max(least, self._sized(stop) + closing) > self.room:
                return
            if stop == self.end:
                yield _Cut(stop, len(self.text), _END, after, self._sized(stop))
                return
            if after is None:
                yield self._line_end(at, stop, fence)
            elif after is fence:
                yield _Cut(stop, stop + 1, _CODE_LINE, fence, self._sized(stop))
            fence, at = after, stop + 1

    def _after(self, line: str, fence: _Fence | None) -> _Fence | None:
        """The fence that is open after a line. One that would fill a message is none."""
        if self.measure(line) * 4 > self.limit:
            return fence
        if fence is None:
            return _opened(line)
        return None if _closes(line, fence) else fence

    def _like_fence(self, line: str) -> bool:
        """Whether a piece of a line could be taken for a fence, though it is none."""
        return self.measure(line) * 4 <= self.limit and _FENCE.fullmatch(line) is not None

    def _line_end(self, at: int, stop: int, before: _Fence | None) -> _Cut:
        """The cut at the end of a line, outside of code."""
        next_ = _after_blank(self.text, stop, self.limit)
        apart = before is not None or "\n" in self.text[stop + 1 : next_]
        if not apart:
            line_end = self.text.find("\n", next_, next_ + self.limit)
            line = self.text[next_ : line_end if line_end >= 0 else next_ + self.limit]
            apart = self._after(line, None) is not None
        kept = at + len(self.text[at:stop].rstrip())
        return _Cut(kept, next_, _PARAGRAPH if apart else _LINE, None, self._sized(kept))

    def _in_line(self, at: int, stop: int, fence: _Fence | None) -> Iterator[_Cut]:
        """Between sentences and words of a line, and the last place there is room for."""
        closing = 0 if fence is None else self.measure(fence.closing)
        left = self.room - closing - self._sized(at)
        reach = min(self._reach(at, left), stop - 1) if left > 0 else at
        text, begun = self.text, at + len(self.text[at:reach]) - len(self.text[at:reach].lstrip())
        for run in _SPACES.finditer(text, begun, reach + 1):
            place = run.start()
            if fence is None:
                yield from self._between(place, _WORD)
            elif run.end() <= reach:
                yield _Cut(run.end(), run.end(), _WORD, fence, self._sized(run.end()))
        if fence is None:
            for found in _SENTENCE_END.finditer(text, begun, reach + 1):
                if found.end() <= reach:
                    yield from self._between(found.end(), _SENTENCE)
        if reach > at:
            place = _whole_character(text, at, reach)
            yield _Cut(place, place, _ANYWHERE, fence, self._sized(place))

    def _between(self, place: int, rank: int) -> Iterator[_Cut]:
        """The cut at a place, unless what follows would begin like a fence there."""
        next_ = _after_blank(self.text, place, self.limit)
        if not self.text.startswith(_FENCES, next_):
            yield _Cut(place, next_, rank, None, self._sized(place))

    def _reach(self, start: int, room: int) -> int:
        """The last place to which the text from `start` on fits into `room`."""
        low, high = start, min(len(self.text), start + room)
        while low < high:
            middle = (low + high + 1) // 2
            if self.measure(self.text[start:middle]) <= room:
                low = middle
            else:
                high = middle - 1
        return low

    def _sized(self, place: int) -> int:
        """How large the part is that ends at a place, without what closes it."""
        if place >= self._at:
            self._size += self.measure(self.text[self._at : place])
        else:
            self._size -= self.measure(self.text[place : self._at])
        self._at = place
        return self._size


def _after_blank(text: str, place: int, limit: int) -> int:
    """Where something stands again: the beginning of its line, if it is not indented too far."""
    blank = _BLANK.match(text, place)
    end = place if blank is None else blank.end()
    line = text.rfind("\n", place, end) + 1
    if (line == 0 and place > 0) or (end - line) * 4 > limit:
        return end
    return line


# What a reader sees as one character.

_JOINER: Final = "\u200d"
_FARTHEST: Final = 64
"""Code points of one character that are kept together; there is no end to what can be piled up."""


def _whole_character(text: str, least: int, place: int) -> int:
    """The last place up to `place`, behind `least`, that is not inside of a character."""
    for back in range(place, max(least, place - _FARTHEST), -1):
        if not _joined(text, back):
            return back
    return place


def _joined(text: str, place: int) -> bool:
    """Whether what is before and after a place belongs together."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if after in _EXTENDING or unicodedata.category(after) in ("Mn", "Me", "Mc"):
        return True
    if (before == after and after in _MARKS) or text.startswith(_FENCES, place):
        return True  # a row of marks is a fence as a whole, and is none before its line
    if before == _JOINER or (before, after) == ("\r", "\n"):
        return True
    if _is_flag(before) and _is_flag(after):
        begin = place
        while begin > 0 and place - begin < _FARTHEST and _is_flag(text[begin - 1]):
            begin -= 1
        return (place - begin) % 2 == 1
    return _is_jamo(before) and "\u1160" <= after <= "\u11ff"


_EXTENDING: Final = frozenset(
    [_JOINER, "\u200c", "\ufe0e", "\ufe0f"]
    + [chr(code) for code in range(0x1F3FB, 0x1F400)]  # skin tones
    + [chr(code) for code in range(0xE0020, 0xE0080)]  # tags
)


def _is_flag(character: str) -> bool:
    """Whether it is half of a flag."""
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_jamo(character: str) -> bool:
    """Whether a Korean vowel or final consonant may follow it in the same syllable."""
    return "\u1100" <= character <= "\u11ff" or "\uac00" <= character <= "\ud7a3"
