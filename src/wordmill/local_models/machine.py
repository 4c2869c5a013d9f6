"""This machine: memory, processors, graphics cards, room on a disk."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from wordmill.processes import environment, found

_GROUP = Path("/sys/fs/cgroup")


SECONDS: Final = 5.0
"""The time that the driver of a graphics card has to say what it has."""


PACKAGES: Final = {
    "openvino": ("openvino_genai", "cpu"),
    "gguf": ("xllamacpp", "gguf"),
    "transformers": ("transformers", "torch"),
}
"""What must be installed for an engine, and the extra of wordmill that brings it."""


def installed(engine: str) -> bool:
    """Whether an engine can run in this Python."""
    return find_spec(PACKAGES[engine][0]) is not None


@dataclass(frozen=True)
class Gpu:
    """A graphics card. memory, free: bytes."""

    name: str
    memory: int
    free: int


@dataclass(frozen=True)
class Machine:
    """memory: bytes in all.  free: of these, what could be had now.  cores: that may be used.
    flags: what the processor calls its abilities, as `amx_bf16`; empty where it is not known.
    """

    memory: int
    free: int
    cores: int
    flags: frozenset[str] = frozenset()
    gpus: tuple[Gpu, ...] = ()

    @property
    def bfloat16(self) -> bool:
        """Whether it computes in bfloat16, and not only stores it."""
        return bool(self.flags & {"amx_bf16", "avx512_bf16", "bf16"})


def this_machine() -> Machine:
    """As it is now. In a container, the container's share of it."""
    memory, free = main_memory()
    return Machine(memory, free, cores(), _flags(), cards())


def main_memory() -> tuple[int, int]:
    """Bytes of memory in all, and those that could be had now; of a container, its share."""
    memory, free = _system()
    with suppress(OSError, ValueError):
        most = int((_GROUP / "memory.max").read_text())  # ValueError: "max", which is no bound
        used = int((_GROUP / "memory.current").read_text()) - _reclaimable()
        memory, free = min(memory, most), min(free, max(0, most - used))
    return memory, free


def room(folder: Path) -> int:
    """Free bytes where a folder is or would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _system() -> tuple[int, int]:
    with suppress(OSError, KeyError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return found["MemTotal"], found["MemAvailable"]
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return whole, whole * 3 // 4  # not said here: a desktop in use leaves about that


def _reclaimable() -> int:
    """Bytes of the group that only remember files, and are given up when needed."""
    lines = (_GROUP / "memory.stat").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _flags() -> frozenset[str]:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def cards() -> tuple[Gpu, ...]:
    """The graphics cards of NVIDIA's that processes may use, as their driver says and in the order
    of `CUDA_VISIBLE_DEVICES`; none where there is no driver.
    """
    program = found("nvidia-smi")
    if program is None:
        return ()
    asked = "--query-gpu=name,memory.total,memory.free"
    try:
        done = subprocess.run(  # noqa: S603 (a program of the system, no shell)
            [program, asked, "--format=csv,noheader,nounits"], capture_output=True, text=True,
            timeout=SECONDS, check=False, env=environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found_cards = tuple(_read_gpus(done.stdout)) if done.returncode == 0 else ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if all(one.strip().isdecimal() for one in visible):
        return tuple(found_cards[int(one)] for one in visible if int(one) < len(found_cards))
    return found_cards


def _read_gpus(text: str) -> Iterator[Gpu]:
    for line in text.splitlines():
        name, *numbers = (part.strip() for part in line.rsplit(",", 2))
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            memory, free = (int(number) << 20 for number in numbers)
            yield Gpu(name[:100], memory, free)
