"""What a model takes of this machine's memory, and what the machine has.

An estimate decides before a model is loaded; once it is, what its process really has is counted.
"""

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wordmill.local_models.machine import Gpu, main_memory
from wordmill.model_server.types import Described

SHARE: Final = 0.8
"""Of the machine's memory that models may take together, where nobody says another ceiling."""
ROOM: Final = 0.1
"""Of a model's weights, for what an engine keeps beside them."""
BASE: Final = {"gguf": 200 << 20, "openvino": 300 << 20, "transformers": 900 << 20}
"""Bytes of a process before it has a model, by engine."""
ON_GPU: Final = 1536 << 20
"""Bytes of the machine's own memory that a model on a GPU takes."""
_WEIGHTS: Final = (".safetensors", ".gguf", ".bin")

_SHORT: Final = re.compile(
    r"bad_alloc|MemoryError|out of memory|(not enough|insufficient|too little) memory"
    r"|more memory than available"
    r"|(cannot|can't|could not|unable to|failed to) (allocate|map segment)"
    r"|memory allocation of \d+ bytes failed"
    r"|m_ptr != nullptr",  # as OpenVINO says it
    re.IGNORECASE,
)
"""How libraries say that there is too little memory."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Need:
    """What a model will take. memory: bytes of the machine's.  card: the number of the graphics
    card that it is on, None for none.  on_card: bytes of that.
    """

    memory: int
    card: int | None = None
    on_card: int = 0


def needed(model: Described, cards: Sequence[Gpu]) -> Need:
    """What is known of a model, or the size of its files and a little. cards: of this machine."""
    whole = model.memory
    if whole is None:
        weights = sum(_size(file) for file in _files(model.path))
        whole = int(weights * (1 + ROOM)) + BASE.get(model.engine or "", 400 << 20)
    card = card_of(model, cards)
    if card is not None:
        return Need(ON_GPU, card, whole)
    return Need(ON_GPU if model.device.startswith(("cuda", "gpu")) else whole)


def card_of(model: Described, cards: Sequence[Gpu]) -> int | None:
    """The number of the card that a model runs on; None for none, and for one that is not known."""
    name, _, number = model.device.partition(":")
    # Where nobody says a device, torch takes the first card that there is.
    if name != "cuda" and not (name == "" and model.engine == "transformers"):
        return None
    card = int(number) if number.isdecimal() else 0
    return card if card < len(cards) else None


def total() -> int:
    """Bytes of memory that this machine has, or that this container may have."""
    return main_memory()[0]


def free() -> int:
    """Bytes that the system would give now."""
    return main_memory()[1]


def resident(pid: int) -> int:
    """Bytes that a process has in memory now; 0 where it is gone or the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def is_short(fault: BaseException | str) -> bool:
    """Whether a fault, or what led to it, is a lack of memory; of a line, whether it says so."""
    if isinstance(fault, str):
        return _SHORT.search(fault) is not None
    if isinstance(fault, MemoryError) or is_short(str(fault)):
        return True
    if isinstance(fault, OSError) and fault.errno == errno.ENOMEM:
        return True
    before = fault.__cause__ or fault.__context__
    return before is not None and is_short(before)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    try:
        return [file for file in path.iterdir() if file.suffix in _WEIGHTS]
    except OSError:
        return []


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
