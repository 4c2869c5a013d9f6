"""How many tokens messages have, by the model's own tokenizer or as an estimate.

A model's tokenizer is `tokenizers/NAME.json` in the data folder: the `tokenizer.json` that its
makers publish, read with the package `tokenizers` (the extra of that name). Without it the bytes
are counted; how far that is from what a model's server counts is learnt from its answers, and said
with each of them.
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from wordmill.chat.context import Wire
from wordmill.settings import Settings

BYTES_PER_TOKEN: Final = 4.0
PER_MESSAGE: Final = 4
"""Tokens that the form of a message takes."""
PER_PICTURE: Final = 1000
FOLDER: Final = "tokenizers"

log = logging.getLogger(__name__)


class Tokens:
    """Counts for every model. Safe from any thread; one object a process, since it learns."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.home / FOLDER
        self._lock = threading.Lock()
        self._ratio: dict[str, float] = {}
        self._tokenizers: dict[Path, tuple[float, Callable[[str], int] | None]] = {}

    def file(self, model: str) -> Path:
        """Where a model's tokenizer lies, if it is there."""
        return self._folder / f"{quote(model, safe=' ')}.json"

    def exact(self, model: str) -> bool:
        """Whether the model's own tokenizer counts."""
        return self._tokenizer(model) is not None

    def count(self, model: str, messages: Sequence[Wire]) -> int:
        """The tokens that a server will count, or about as many."""
        raw = self._raw(model, messages)
        with self._lock:
            return round(self._ratio.get(model, 1.0) * raw)

    def learn(self, model: str, messages: Sequence[Wire], counted: int) -> float:
        """What a server counted; the error of our count, as a part of it (0.1: a tenth more)."""
        raw = self._raw(model, messages)
        if raw <= 0 or counted <= 0:
            return 0.0
        error = (self.count(model, messages) - counted) / counted
        with self._lock:
            now = counted / raw
            before = self._ratio.get(model, now)
            self._ratio[model] = min(4.0, max(0.25, 0.7 * before + 0.3 * now))
        return error

    def _raw(self, model: str, messages: Sequence[Wire]) -> float:
        count = self._tokenizer(model) or _estimate
        return sum(_of(message, count) for message in messages)

    def _tokenizer(self, model: str) -> Callable[[str], int] | None:
        file = self.file(model)
        try:
            changed = file.stat().st_mtime
        except OSError:
            return None
        with self._lock:
            known = self._tokenizers.get(file)
            if known is None or known[0] != changed:
                known = self._tokenizers[file] = (changed, _opened(file))
        return known[1]


def _opened(file: Path) -> Callable[[str], int] | None:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        log.warning("%s is not read: pip install 'wordmill[tokenizers]'", file)
        return None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 (the library raises nothing narrower)
        log.warning("%s is no tokenizer: %s", file, error)
        return None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _estimate(text: str) -> float:
    return len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN


def _of(message: Wire, count: Callable[[str], float]) -> float:
    content: Any = message.get("content")
    size = float(PER_MESSAGE)
    if isinstance(content, str):
        size += count(content)
    else:
        for part in content or ():
            size += count(str(part.get("text", ""))) if part.get("type") == "text" else PER_PICTURE
    for call in message.get("tool_calls") or ():
        size += count(json.dumps(call))
    return size
