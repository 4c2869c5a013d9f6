"""How many tokens messages have, by the model's own tokenizer or as an estimate.

A model's tokenizer is a `tokenizer.json` as its makers publish it, read with the package
`tokenizers` (the extra of that name). It is looked for on this machine and never downloaded: as
`tokenizers/NAME.json` in the data folder, in the folder that the model is, and in the cache of
Hugging Face. Without it the bytes are counted; how far that is from what a model's server counts is
learnt from its answers, and said with each of them.
"""

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from wordmill.chat.context import Wire
from wordmill.providers.base import Model
from wordmill.settings import Settings

BYTES_PER_TOKEN: Final = 4.0
PER_MESSAGE: Final = 4
"""Tokens that the form of a message takes."""
PER_PICTURE: Final = 1000
FOLDER: Final = "tokenizers"
FILE: Final = "tokenizer.json"
LOOK: Final = 5.0
"""Seconds for which it is believed that a tokenizer is where it was, or is not there."""

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

log = logging.getLogger(__name__)

Counter = Callable[[str], int]


class _Found(NamedTuple):
    """What a look for a model's tokenizer found, and when (by the monotonic clock)."""

    at: float
    file: Path | None


class Tokens:
    """Counts for every model. Safe from any thread; one object a process, since it learns.

    variables: the environment, where Hugging Face's folders may be named.
    """

    def __init__(self, settings: Settings, variables: Mapping[str, str] = os.environ) -> None:
        self._folder = settings.home / FOLDER
        self._cache = _hub(variables)
        self._lock = threading.Lock()
        self._ratio: dict[str, float] = {}
        self._found: dict[tuple[str, str], _Found] = {}
        self._tokenizers: dict[Path, tuple[float, Counter | None]] = {}

    def file(self, model: Model) -> Path | None:
        """Where a model's tokenizer lies on this machine; None where it does not."""
        key = (model.name, model.model)
        with self._lock:
            known = self._found.get(key)
        if known is None or time.monotonic() - known.at > LOOK:
            file = next((one for one in self._places(model) if one.is_file()), None)
            known = _Found(time.monotonic(), file)
            with self._lock:
                self._found[key] = known
        return known.file

    def exact(self, model: Model) -> bool:
        """Whether the model's own tokenizer counts."""
        return self._tokenizer(model) is not None

    def count(self, model: Model, messages: Sequence[Wire]) -> int:
        """The tokens that a server will count, or about as many."""
        raw = self._raw(model, messages)
        with self._lock:
            return round(self._ratio.get(model.name, 1.0) * raw)

    def learn(self, model: Model, messages: Sequence[Wire], counted: int) -> float:
        """What a server counted; the error of our count, as a part of it (0.1: a tenth more)."""
        raw = self._raw(model, messages)
        if raw <= 0 or counted <= 0:
            return 0.0
        error = (self.count(model, messages) - counted) / counted
        with self._lock:
            now = counted / raw
            before = self._ratio.get(model.name, now)
            self._ratio[model.name] = min(4.0, max(0.25, 0.7 * before + 0.3 * now))
        return error

    def _places(self, model: Model) -> Iterator[Path]:
        """Where it may lie, the first one first."""
        yield self._folder / f"{quote(model.name, safe=' ')}.json"
        if Path(model.model).is_absolute():
            yield Path(model.model) / FILE
        if _REPOSITORY.fullmatch(model.model):
            repository = self._cache / f"models--{model.model.replace('/', '--')}"
            try:
                revision = (repository / "refs" / "main").read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                return
            if revision.isalnum():
                yield repository / "snapshots" / revision / FILE

    def _raw(self, model: Model, messages: Sequence[Wire]) -> float:
        count = self._tokenizer(model) or _estimate
        return sum(_of(message, count) for message in messages)

    def _tokenizer(self, model: Model) -> Counter | None:
        file = self.file(model)
        if file is None:
            return None
        try:
            changed = file.stat().st_mtime
        except OSError:
            return None
        with self._lock:
            known = self._tokenizers.get(file)
            if known is None or known[0] != changed:
                known = self._tokenizers[file] = (changed, _opened(file))
        return known[1]


def _hub(variables: Mapping[str, str]) -> Path:
    """Where Hugging Face's tools keep what they downloaded."""
    if cache := variables.get("HF_HUB_CACHE"):
        return Path(cache)
    if home := variables.get("HF_HOME"):
        return Path(home) / "hub"
    above = variables.get("XDG_CACHE_HOME")
    return (Path(above) if above else Path.home() / ".cache") / "huggingface" / "hub"


def _opened(file: Path) -> Counter | None:
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
