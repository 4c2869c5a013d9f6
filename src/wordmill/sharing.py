"""What processes share in Redis: the limits of models, and cached answers.

Sharing is the engine's (`engine/redis`); here is what an engine is told, and whether the server is
fit for it. Without `redis_url` the engines of one process share their limits with each other alone.
"""

import json
import threading
import time
from typing import Any, Final

from wordmill._engine import EngineFault, redis_check, redis_state
from wordmill.settings import Settings
from wordmill.types import Value

FRESH: Final = 5.0
"""Seconds for which what was found out is good."""
_UNTIL: Final = (
    "Until it is back each process keeps to its share of every limit, and no answer is looked up "
    "there."
)


def shared(settings: Settings, *, answers: bool) -> dict[str, Value] | None:
    """`shared` in an engine's config (see `_engine.pyi`).

    answers: look answers up there, and keep them there.
    """
    if not settings.redis_url:
        return None
    return {"redis": settings.redis_url, "answers": answers}


class Sharing:
    """Whether Redis is fit. Safe from any thread; asks the server at most every five seconds."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._trouble: str | None = None
        self._warnings: tuple[str, ...] = ()

    @property
    def configured(self) -> bool:
        """There is a server to share in."""
        return bool(self._url)

    def trouble(self) -> str | None:
        """Why nothing is shared at present, in a sentence. Takes up to two seconds."""
        return self._look()[0]

    def warnings(self) -> tuple[str, ...]:
        """What is to be said at the start: a server that is away, settings that do not suit."""
        trouble, warnings = self._look()
        return warnings if trouble is None else (trouble,)

    def counts(self) -> dict[str, float]:
        """For the metrics: `works`, 0 or 1, and what this process did since its first engine."""
        if not self._url:
            return {}
        found: dict[str, Any] = json.loads(redis_state(self._url))
        counts = {name: float(count) for name, count in found.items() if name != "words"}
        return {**counts, "works": float(self.trouble() is None)}

    def _look(self) -> tuple[str | None, tuple[str, ...]]:
        if not self._url:
            return None, ()
        with self._lock:
            if time.monotonic() - self._asked >= FRESH:
                self._trouble, self._warnings = _found(self._url)
                self._asked = time.monotonic()
            return self._trouble, self._warnings


def _found(url: str) -> tuple[str | None, tuple[str, ...]]:
    try:
        facts: dict[str, Any] = json.loads(redis_check(url))
    except EngineFault as fault:
        return f"{fault}. {_UNTIL}", ()
    return None, tuple(facts["warnings"])
