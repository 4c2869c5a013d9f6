"""What a worker counts: tokens, times, batch sizes. Written by the engine's thread alone."""

import os
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Final

from wordmill.model_server import memory

KEPT: Final = 1024
"""Times that are remembered, for the quantiles."""
SPAN: Final = 10.0
"""Seconds over which a rate is taken."""


class Stats:
    """Figures since the start; rates over the last seconds."""

    def __init__(self) -> None:
        self.since = time.time()
        self.tokens_in = self.tokens_out = self.steps = self.cancelled = 0
        self.endings: Counter[str] = Counter()
        self._firsts: deque[float] = deque(maxlen=KEPT)
        self._betweens: deque[float] = deque(maxlen=KEPT)
        self._batches: deque[int] = deque(maxlen=KEPT)
        self._in: deque[tuple[float, int]] = deque()
        self._out: deque[tuple[float, int]] = deque()

    def first(self, seconds: float, prompt: int) -> None:
        """A request has its first token. prompt: tokens read for it."""
        self._firsts.append(seconds)
        self.read(prompt)

    def read(self, tokens: int) -> None:
        """Tokens were read."""
        self.tokens_in += tokens
        _note(self._in, tokens)

    def wrote(self, tokens: int) -> None:
        """Tokens were written."""
        if tokens:
            self.tokens_out += tokens
            _note(self._out, tokens)

    def between(self, seconds: float, tokens: int) -> None:
        """A request has its next tokens."""
        self._betweens.append(seconds / tokens)

    def stepped(self, requests: int) -> None:
        """The engine has done a step for so many."""
        self.steps += 1
        self._batches.append(requests)

    def ended(self, how: str) -> None:
        """An answer is over."""
        self.endings[how] += 1

    def figures(self) -> dict[str, Any]:
        """As JSON has them. Seconds, tokens, tokens a second, bytes."""
        return {
            "since": self.since,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "tokens_in_second": _rate(self._in),
            "tokens_out_second": _rate(self._out),
            "first_token_p50": _quantile(self._firsts.copy(), 0.5),
            "first_token_p95": _quantile(self._firsts.copy(), 0.95),
            "between_tokens_p50": _quantile(self._betweens.copy(), 0.5),
            "between_tokens_p95": _quantile(self._betweens.copy(), 0.95),
            "batch": sum(self._batches) / len(self._batches) if self._batches else 0.0,
            "steps": self.steps,
            "cancelled": self.cancelled,
            "ended": dict(self.endings),
            "memory": memory.resident(os.getpid()),
        }


def _note(held: deque[tuple[float, int]], tokens: int) -> None:
    now = time.monotonic()
    held.append((now, tokens))
    while held and held[0][0] < now - SPAN:
        held.popleft()


def _rate(held: deque[tuple[float, int]]) -> float:
    since = time.monotonic() - SPAN
    return round(sum(tokens for at, tokens in held.copy() if at >= since) / SPAN, 2)


def _quantile(values: Iterable[float], q: float) -> float | None:
    """The value within which a fraction `q` lies (no interpolation); None where there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
