"""How a model is run: what belongs to the model and not to a person, read from words."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from wordmill.errors import InvalidInput, UnknownName
from wordmill.local_models.rules import check_revision
from wordmill.local_models.types import LocalModel

NAMES: Final = ("engine", "device", "dtype", "threads", "context", "pinned", "follows")
AUTO: Final = ("", "auto")
"""Words that take a choice back: the best there is."""

_DEVICE: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*([:.][A-Za-z0-9]+)*")
_YES: Final[Mapping[str, bool]] = {
    "yes": True, "true": True, "on": True, "1": True,
    "no": False, "false": False, "off": False, "0": False,
}  # fmt: skip


def read(model: LocalModel, words: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a model that these words change.

    words: by name: engine, device (cpu, cuda:0, GPU), dtype, threads, context (tokens), pinned (yes
    or no), follows (a branch; "" stays at the revision of now). "auto" takes one back.
    Raises UnknownName for another name, InvalidInput for a value that is none.
    """
    changed: dict[str, Any] = {}
    for name, text in words.items():
        if name not in NAMES:
            raise UnknownName("option of a model", name, NAMES)
        changed[name] = _READ[name](model, text.strip())
    return changed


def _engine(model: LocalModel, text: str) -> str | None:
    if text in AUTO:
        return None
    if text not in model.engines:
        by = " and ".join(model.engines)
        how = (
            f" `wordmill models quantize {model.name} --to int8` makes one for openvino."
            if model.form == "safetensors"
            else ""
        )
        raise InvalidInput(
            f"{model.name} is kept as {model.form}, which {by} reads, not {text[:40]!r}.{how}",
            "engine",
        )
    return text


def _device(model: LocalModel, text: str) -> str | None:
    if text in AUTO:
        return None
    if not _DEVICE.fullmatch(text) or len(text) > 40:
        raise InvalidInput(f"{text[:40]!r} is no device, as cpu, cuda:0 or GPU.", "device")
    return text


def _dtype(model: LocalModel, text: str) -> str | None:
    if text in AUTO:
        return None
    short = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "f16": "float16"}
    named = short.get(text, text)
    if named in ("int8", "int4"):
        raise InvalidInput(
            f"{model.name} is not quantized while it is loaded: `wordmill models quantize "
            f"{model.name} --to {named}` makes another model out of it.",
            "dtype",
        )
    if named not in ("float32", "bfloat16", "float16"):
        raise InvalidInput(f"dtype is float32, bfloat16 or float16, not {text[:40]!r}.", "dtype")
    return named


def _threads(model: LocalModel, text: str) -> int | None:
    return None if text in AUTO else _whole(text, "threads", 1, 1024)


def _context(model: LocalModel, text: str) -> int | None:
    most = model.facts.context or 1 << 24
    return None if text in AUTO else _whole(text, "context", 16, most)


def _pinned(model: LocalModel, text: str) -> bool:
    if text.lower() not in _YES:
        raise InvalidInput(f"pinned is yes or no, not {text[:40]!r}.", "pinned")
    return _YES[text.lower()]


def _follows(model: LocalModel, text: str) -> str:
    if model.source != "hub":
        raise InvalidInput(f"{model.name} is not from the hub, so it follows no branch.", "follows")
    return "" if text in ("", "no", "none") else check_revision(text)


def _whole(text: str, name: str, least: int, most: int) -> int:
    number = int(text) if text.isdecimal() and len(text) < 12 else -1
    if not least <= number <= most:
        raise InvalidInput(
            f"{name} is a whole number from {least:,} to {most:,}, not {text[:40]!r}.", name
        )
    return number


_READ: Final[Mapping[str, Callable[[LocalModel, str], Any]]] = {
    "engine": _engine,
    "device": _device,
    "dtype": _dtype,
    "threads": _threads,
    "context": _context,
    "pinned": _pinned,
    "follows": _follows,
}
