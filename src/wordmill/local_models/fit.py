"""Whether a model fits this machine: the memory and the disk that it takes, beside what there is.

The figures are estimates, made before anything is fetched: the weights at the asked precision, the
key-value cache at the asked context, what an engine takes for itself, and a tenth for what is
computed meanwhile. The model server measures a loaded model and goes by that.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from wordmill.local_models.machine import Machine
from wordmill.local_models.types import BYTES, Facts

Verdict: TypeAlias = Literal["yes", "tight", "no"]

ENGINE: Final = {"openvino": 200 << 20, "gguf": 120 << 20, "transformers": 800 << 20}
"""Bytes that an engine's process takes without a model; measured."""
RESERVE: Final = 512 << 20
"""Bytes of memory that are left to the rest of the machine."""
EASE: Final = 0.8
"""Up to this share of what is free, it fits with ease."""
SPARE: Final = 256 << 20
"""Bytes of the disk that stay free."""
CONTEXT: Final = 4096
"""Tokens that are reckoned with where nobody says another number."""


@dataclass(frozen=True)
class Need:
    """Bytes of memory at one precision. context: tokens.  streams: conversations at once."""

    dtype: str
    engine: str
    context: int
    streams: int
    weights: int
    cache: int
    other: int

    @property
    def memory(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.other


@dataclass(frozen=True)
class Row:
    """A precision and whether it fits."""

    need: Need
    verdict: Verdict


@dataclass(frozen=True)
class Fit:
    """The answer. verdict: at the best precision that fits.  download: bytes still to fetch.
    free: bytes of memory now.  room: bytes of the disk.  sentence: all of it in words.
    """

    verdict: Verdict
    sentence: str
    rows: tuple[Row, ...]
    download: int
    free: int
    memory: int
    room: int
    disk: Verdict


def need(
    facts: Facts, dtype: str, *, engine: str, context: int | None = None, streams: int = 1
) -> Need:
    """The memory that a model takes.

    dtype: a key of BYTES; for weights that are kept so already, their files count.
    context: tokens; the model's own where it is shorter, 4096 without one.
    """
    tokens = min(context or CONTEXT, facts.context or context or CONTEXT)
    weights = facts.weights
    if facts.parameters and (dtype != facts.dtype or not weights):
        weights = round(facts.parameters * BYTES[dtype])
    cache = facts.token(4.0 if dtype == "float32" else 2.0) * tokens * streams
    other = ENGINE[engine] + weights // 10
    return Need(dtype, engine, tokens, streams, weights, cache, other)


def judged(memory: int, free: int) -> Verdict:
    """Whether so many bytes of memory are there."""
    usable = free - RESERVE
    if memory <= usable * EASE:
        return "yes"
    return "tight" if memory <= usable else "no"


def _best(wanted: Need, machine: Machine) -> Verdict:
    """Where it fits best: the machine's memory, or a graphics card's that the engine can use."""
    places = [machine.free]
    if wanted.engine == "transformers":
        places += [gpu.free for gpu in machine.gpus]
    found = [judged(wanted.memory, free) for free in places]
    return min(found, key=("yes", "tight", "no").index)


def fit(
    facts: Facts,
    machine: Machine,
    *,
    room: int,
    download: int,
    dtypes: tuple[str, ...],
    engine: str,
    context: int | None = None,
    streams: int = 1,
) -> Fit:
    """Whether a model fits at each of these precisions, the one as it comes first.

    room: free bytes of the disk.  download: bytes to fetch.
    """
    rows = []
    for dtype in dtypes:
        # What the converter makes is run by OpenVINO, whatever reads the original.
        by = engine if dtype == dtypes[0] or dtype not in ("int8", "int4") else "openvino"
        wanted = need(facts, dtype, engine=by, context=context, streams=streams)
        rows.append(Row(wanted, _best(wanted, machine)))
    left = room - download
    disk: Verdict = "no" if left < SPARE else "tight" if left < room // 10 else "yes"
    memory = rows[0].verdict
    verdict: Verdict = "no" if "no" in (memory, disk) else memory if disk == "yes" else "tight"
    sentence = _sentence(verdict, rows, machine, room, download, disk)
    return Fit(verdict, sentence, tuple(rows), download, machine.free, machine.memory, room, disk)


def _sentence(
    verdict: Verdict, rows: list[Row], machine: Machine, room: int, download: int, disk: Verdict
) -> str:
    first = rows[0].need
    takes = (
        f"{size(first.memory)} of memory ({size(first.weights)} of weights as {first.dtype}, "
        f"{size(first.cache)} for {first.context:,} tokens, {size(first.other)} for the engine)"
    )
    has = f"{size(machine.free)} of {size(machine.memory)} are free"
    begin = {"yes": "Yes: it takes", "tight": "Tight: it takes", "no": "No: it takes"}[verdict]
    if machine.gpus and first.engine == "transformers":
        card = max(machine.gpus, key=lambda one: one.free)
        has += f", and on the {card.name} {size(card.free)} of {size(card.memory)}"
    words = f"{begin} {takes}; {has}."
    if disk == "no":
        words += f" The download has {size(download)}, and the disk has room for {size(room)}."
    elif disk == "tight":
        words += f" The download has {size(download)}, which leaves little of {size(room)}."
    smaller = [row for row in rows[1:] if row.verdict == "yes" and rows[0].verdict != "yes"]
    if smaller:
        words += f" As {smaller[0].need.dtype} it takes {size(smaller[0].need.memory)} and fits."
    return words


def size(number: float) -> str:
    """Bytes for people: `1.4 GB`, with powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
