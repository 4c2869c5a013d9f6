"""What is known of a model on this machine. Frozen values, no I/O."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

Source: TypeAlias = Literal["hub", "folder", "file", "made"]
"""Where it came from: the hub, a folder or a GGUF file of one's own, or made out of another."""

Form: TypeAlias = Literal["safetensors", "openvino", "gguf"]
"""How its weights are kept, which decides the engines that can read them."""

Task: TypeAlias = Literal["chat", "embeddings", "reranking"]

ENGINES: Final[dict[Form, tuple[str, ...]]] = {
    "safetensors": ("transformers",),
    "openvino": ("openvino",),
    "gguf": ("gguf",),
}
"""The engines that read each form, the best first."""

BYTES: Final[dict[str, float]] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "int8": 1.07,
    "int4": 0.6,
}
"""Bytes of a weight. Quantized ones have scales beside them, and embeddings stay at 8 bits."""


@dataclass(frozen=True)
class Facts:
    """What a model's own files say of it, as far as they do.

    parameters: how many numbers.  weights: bytes of the files that hold them.  dtype: as they are
    kept: float32, bfloat16, float16, int8 or int4.  context: tokens that the model was made for.
    layers, key_heads, head: what the memory of a token is made of; 0 where it is not said.
    """

    architecture: str = ""
    task: Task = "chat"
    parameters: int = 0
    weights: int = 0
    dtype: str = ""
    context: int = 0
    layers: int = 0
    hidden: int = 0
    key_heads: int = 0
    head: int = 0
    vocabulary: int = 0
    template: bool = False

    def token(self, width: float = 2.0) -> int:
        """Bytes that a token of a conversation takes while it is worked on.

        width: bytes of a number of the key-value cache.
        """
        return round(2 * self.layers * self.key_heads * self.head * width)


@dataclass(frozen=True)
class Earlier:
    """A revision that was used before, and can be again."""

    revision: str
    path: Path
    at: datetime


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine, whole and checked.

    name: in the catalog.  repository, revision: on the hub; "" for one's own.  follows: the branch
    or tag whose updates are looked for; "" when it stays at its revision.  path: a folder, or a
    GGUF file.
    engine, device, dtype, threads, context: how it is run; None is the best that there is.
    pinned: it stays in memory.  remote_code: the code of its repository may run, as an admin said.
    made_from: the model that it was quantized from.  quality: perplexities, as they were measured.
    """

    name: str
    source: Source
    form: Form
    path: Path
    owner: str
    created: datetime
    updated: datetime
    repository: str = ""
    revision: str = ""
    follows: str = ""
    license: str = ""
    engine: str | None = None
    device: str | None = None
    dtype: str | None = None
    threads: int | None = None
    context: int | None = None
    pinned: bool = False
    remote_code: bool = False
    made_from: str = ""
    size: int = 0
    facts: Facts = field(default_factory=Facts)
    quality: dict[str, float] = field(default_factory=dict)
    earlier: tuple[Earlier, ...] = ()

    @property
    def engines(self) -> tuple[str, ...]:
        """Those that can read its weights, the best first."""
        return ENGINES[self.form]


@dataclass(frozen=True)
class Remote:
    """A file in a repository. digest: its SHA-256 where it is large, else what git calls it."""

    name: str
    size: int
    digest: str

    @property
    def large(self) -> bool:
        """Whether the digest is a SHA-256."""
        return len(self.digest) == 64
