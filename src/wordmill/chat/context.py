"""The part of a conversation that a model can read.

`fit` drops whole turns, oldest first, and never the system prompt nor the last question. It takes
the turns newest first and no more of them than it needs, so that a long past costs nothing.

No I/O: the store keeps conversations, `tokens` counts, the turn runner sends.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

ANSWER: Final = 1024
"""Tokens that are kept free for an answer that nobody bounds; in a small window a quarter of it."""

Wire: TypeAlias = Mapping[str, Any]
"""A message as it is sent."""
Count: TypeAlias = Callable[[Sequence[Wire]], int]
"""Tokens of messages."""


class Turn(NamedTuple):
    """A question with all that followed it, up to the next one. ids: of the stored messages."""

    ids: tuple[str, ...]
    messages: tuple[Wire, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is sent. dropped: how many messages were left out.  tokens: as they were counted."""

    ids: tuple[str, ...]
    messages: tuple[Wire, ...]
    dropped: int
    tokens: int


def fit(
    turns: Iterable[Turn],
    total: int,
    system: str,
    *,
    count: Count,
    window: int | None,
    answer: int | None,
    buffer: int | None,
    beside: Sequence[Wire] = (),
) -> Fitted:
    """The last turns that fit.

    turns: newest first; each is asked for only while there is room.  total: their messages.
    window: the model's, in tokens; None for as many as there are.
    answer: room for the answer, in tokens; None where nobody bounds it.
    buffer: at most so many messages; the last turn stays whatever it says.
    beside: what is sent after them in any case.
    """
    head: tuple[Wire, ...] = ({"role": "system", "content": system},) if system else ()
    fixed = count((*head, *beside)) if head or beside else 0
    room = None
    if window is not None:
        kept_free = min(ANSWER, window // 4) if answer is None else answer
        room = max(1, window - kept_free) - fixed
    kept: list[Turn] = []
    used = messages = 0
    for turn in turns:
        if kept and buffer is not None and messages + len(turn.messages) > buffer:
            break
        size = count(turn.messages)
        if kept and room is not None and used + size > room:
            break
        kept.append(turn)
        used, messages = used + size, messages + len(turn.messages)
    kept.reverse()
    return Fitted(
        ids=tuple(name for turn in kept for name in turn.ids),
        messages=(*head, *(message for turn in kept for message in turn.messages)),
        dropped=max(0, total - messages),
        tokens=used + fixed,
    )
