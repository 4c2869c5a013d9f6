"""The part of a conversation that a model can read.

`fit` drops whole turns, oldest first, and never the system prompt nor the last question. Tokens are
estimated from the bytes; how far that is from what the server counts is learnt from its answers.

No I/O: the store keeps conversations, the turn runner sends them.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

BYTES_PER_TOKEN: Final = 4.0
PER_MESSAGE: Final = 4
"""Tokens that the form of a message takes."""
PER_PICTURE: Final = 1000

Wire = Mapping[str, Any]
"""A message as it is sent."""


class Turn(NamedTuple):
    """A question with all that followed it, up to the next one. ids: of the stored messages."""

    ids: tuple[str, ...]
    messages: tuple[Wire, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is sent. dropped: how many messages were left out.  tokens: estimated."""

    ids: tuple[str, ...]
    messages: tuple[Wire, ...]
    dropped: int
    tokens: int


class Estimator:
    """Bytes to tokens, corrected by what servers counted. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ratio: dict[str, float] = {}

    def tokens(self, model: str, messages: Sequence[Wire]) -> int:
        """About how many tokens a server will count."""
        with self._lock:
            ratio = self._ratio.get(model, 1.0)
        return round(ratio * sum(map(_raw, messages)))

    def learn(self, model: str, messages: Sequence[Wire], counted: int) -> float:
        """What a server counted; the error of the estimate, as a part of it (0.1: a tenth)."""
        raw = sum(map(_raw, messages))
        if not raw or not counted:
            return 0.0
        error = (self.tokens(model, messages) - counted) / counted
        with self._lock:
            before = self._ratio.get(model, counted / raw)
            self._ratio[model] = min(4.0, max(0.25, 0.7 * before + 0.3 * counted / raw))
        return error


def fit(
    turns: Sequence[Turn],
    system: str,
    *,
    model: str,
    estimator: Estimator,
    window: int | None,
    answer: int,
    buffer: int | None,
) -> Fitted:
    """The last turns that fit.

    window: the model's, in tokens; None for as many as there are.  answer: room for the answer.
    buffer: at most so many messages; the last turn stays whatever it says.
    """
    head: tuple[Wire, ...] = ({"role": "system", "content": system},) if system else ()
    room = None if window is None else max(1, window - answer) - estimator.tokens(model, head)
    kept: list[Turn] = []
    used = count = 0
    for turn in reversed(turns):
        size = estimator.tokens(model, turn.messages)
        full = room is not None and used + size > room
        many = buffer is not None and count + len(turn.messages) > buffer
        if kept and (full or many):
            break
        kept.insert(0, turn)
        used, count = used + size, count + len(turn.messages)
    total = sum(len(turn.messages) for turn in turns)
    return Fitted(
        ids=tuple(name for turn in kept for name in turn.ids),
        messages=(*head, *(message for turn in kept for message in turn.messages)),
        dropped=total - count,
        tokens=used + estimator.tokens(model, head),
    )


def _raw(message: Wire) -> float:
    content = message.get("content")
    if isinstance(content, str):
        size = len(content.encode("utf-8", "replace")) / BYTES_PER_TOKEN
    else:
        size = 0.0
        for part in content or ():
            if part.get("type") == "text":
                size += len(str(part.get("text", "")).encode("utf-8", "replace")) / BYTES_PER_TOKEN
            else:
                size += PER_PICTURE
    for call in message.get("tool_calls") or ():
        size += len(str(call)) / BYTES_PER_TOKEN
    return size + PER_MESSAGE
