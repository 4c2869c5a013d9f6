"""What the parts of the model server hand to each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

Json: TypeAlias = "dict[str, object]"

State: TypeAlias = Literal["unloaded", "waiting", "loading", "ready", "swapping", "failed"]
"""Of a model. waiting: it will be loaded when there is memory, or when a pause after a crash ends.
swapping: the next worker loads while the present one answers."""

PERSON = b"x-wordmill-person"
"""The header that says whose request it is, from a Wordmill that is trusted to know."""
ANSWERS: Final = 16
"""The most answers to one prompt."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A model on this machine, as the server needs it.

    path: its folder or file.  engine: None for the best one.  options: what a worker is told
    beside: device, threads, dtype, context.  memory: bytes that it will take, None where nobody
    has worked it out.  pinned: never unloaded for another.  why: why this engine, in words.
    """

    name: str
    path: Path
    engine: str | None = None
    options: Json = field(default_factory=dict)
    memory: int | None = None
    pinned: bool = False
    why: str = ""

    @property
    def device(self) -> str:
        """Where it is to run, in lower case: `cuda:1`, `gpu`; "" where the engine chooses."""
        return str(self.options.get("device") or "").lower()


class Library(Protocol):
    """Where models are known by name. Reads what is true now; called in a thread."""

    def find(self, name: str) -> Described | None:
        """The model of that name; None for no such one."""
        ...

    def names(self) -> Sequence[str]:
        """All names, sorted."""
        ...


class Place(NamedTuple):
    """Where a request stands that waits. place: from 1.  seconds: about how long it will be, None
    where nothing is known yet.  state: of its model.
    """

    place: int
    seconds: float | None
    state: State
