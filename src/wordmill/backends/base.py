"""What an engine promises to the worker that drives it.

An engine holds one model and answers many requests at once. It is driven by one thread: `submit`
and `cancel` say what is wanted, `step` does a piece of the work and returns what came of it. An
engine gets tokens and gives tokens; templates, stop strings and tool calls are the worker's, so
that they are the same on every engine. What an engine cannot do it leaves out of `Facts.modes`,
and `refused` says so by name before anything is started.

Source of the names of parameters: OpenAI's API where it has them, transformers' elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

from wordmill.errors import InvalidInput

Task: TypeAlias = Literal["chat", "embeddings", "rerank"]
Finish: TypeAlias = Literal["stop", "length", "error"]
FormKind: TypeAlias = Literal["json", "json_schema", "choices", "regex"]

CACHE_TOKENS: Final = 16384
"""Tokens whose keys and values an engine keeps, where no longer context is asked for. A context
that nobody chose is no longer than that.
"""


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer must look like. text: the JSON schema, a JSON list of choices, or the regular
    expression; empty for any JSON object.
    """

    kind: FormKind
    text: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request is answered; every field belongs to this request alone.

    max_tokens: at most so many are made.  temperature: 0 is greedy.  top_k: 0 is all.
    seed: None lets the engine draw one.  logprobs: how many likeliest tokens beside the chosen
        one are told; None is none at all.
    num_beams: more than 1 is beam search; then `num_beam_groups` and `diversity_penalty` may apply.
    logit_bias: added to the logits of tokens, by id.
    ends: tokens after which an answer is over; none is empty, and it runs to `max_tokens`.
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    length_penalty: float = 1.0
    seed: int | None = None
    logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    form: Form | None = None
    ends: frozenset[int] = frozenset()

    @property
    def greedy(self) -> bool:
        """The likeliest token is taken each time: nothing is drawn."""
        return self.temperature == 0 or self.top_k == 1


MODES: Final = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "no_repeat_ngram_size",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "length_penalty",
    "seed",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "json",
    "json_schema",
    "choices",
    "regex",
)
"""All that an engine may be able to do, in the order of the table in the documentation."""


@dataclass(frozen=True, slots=True)
class Options:
    """What belongs to a model and not to a person. Zero and None leave it to the engine.

    device: `cpu`, `cuda`, `mps`, `GPU` (OpenVINO's word).  threads: of the processor.
    dtype: `float32`, `bfloat16` or `float16`.  context: tokens of prompt and answer together.
    slots: requests answered at once.  cache_tokens: tokens whose keys and values are kept.
    batch_tokens: tokens of prompts read in one step.
    kept_bytes: of memory for earlier prompts beside `cache_tokens`, where an engine keeps such.
    """

    device: str | None = None
    threads: int = 0
    dtype: str | None = None
    context: int = 0
    slots: int = 32
    cache_tokens: int = 0
    batch_tokens: int = 512
    kept_bytes: int | None = None
    remote_code: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What was loaded. context: tokens.  modes: of `MODES`, those that it can do.  tasks: what it
    is for.  ends: its end tokens.  ways: how its makers have it choose, by the names of `Sampling`,
    where a request says nothing else.
    """

    engine: str
    context: int
    slots: int
    device: str
    dtype: str
    modes: frozenset[str]
    tasks: frozenset[Task] = frozenset({"chat"})
    ends: frozenset[int] = frozenset()
    ways: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Logprob:
    """Of one token: its natural logarithm of probability, and the likeliest others."""

    token: int
    value: float
    others: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What a step brought for a request.

    tokens: since the last piece; an end token is not among them.
    text: the same as text where the engine itself makes it, else None.
    made: how many tokens were made, where the engine tells no more than that.
    cached: how many tokens of the prompt were not read again, because an earlier prompt began with
        them; None where the engine does not tell.
    finish: set in the last piece of a request; `error` carries `detail`.
    """

    request: int
    tokens: tuple[int, ...] = ()
    text: str | None = None
    logprobs: tuple[Logprob, ...] = ()
    finish: Finish | None = None
    detail: str = ""
    made: int = 0
    cached: int | None = None

    @property
    def count(self) -> int:
        """How many tokens it brings."""
        return self.made or len(self.tokens)


class Decoding(Protocol):
    """Turns tokens of one answer into text, as they come."""

    def add(self, tokens: Sequence[int]) -> str:
        """The text that is certain now; half a character is kept back."""
        ...

    def end(self) -> str:
        """What was kept back."""
        ...


class Words(Protocol):
    """The tokenizer of a model."""

    @property
    def template(self) -> str | None:
        """Its chat template (Jinja), where it has one."""
        ...

    @property
    def special(self) -> Mapping[str, str]:
        """Its special tokens by name: `bos_token`, `eos_token`, ..."""
        ...

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text. special: with what the tokenizer puts around a text by itself."""
        ...

    def decoding(self, *, special: bool) -> Decoding:
        """For one answer. special: with the special tokens in its text."""
        ...

    def word(self, token: int) -> str:
        """The text of one token alone."""
        ...


class Backend(Protocol):
    """One loaded model. All of it is called by one thread."""

    @property
    def facts(self) -> Facts:
        """What was loaded."""
        ...

    @property
    def words(self) -> Words:
        """Its tokenizer."""
        ...

    def submit(self, request: int, prompt: Sequence[int], sampling: Sampling) -> None:
        """Begin to answer. The number is not in use; the prompt and the answer fit the context.

        Raises InvalidInput for a form that cannot be followed.
        """
        ...

    def cancel(self, request: int) -> None:
        """Stop answering; no further piece comes of it. Harmless for one that is over."""
        ...

    def step(self) -> Sequence[Piece]:
        """Do a piece of the work: about one token of each request."""
        ...

    def cache_use(self) -> float:
        """The part of the room for keys and values that is taken, from 0 to 1."""
        ...

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """A vector for each text, and how many tokens were read.

        Raises InvalidInput when the model is not for that.
        """
        ...

    def rank(self, query: str, documents: Sequence[str]) -> tuple[list[float], int]:
        """How well each document answers the query, and how many tokens were read.

        Raises InvalidInput when the model is not for that.
        """
        ...

    def close(self) -> None:
        """Let the model go."""
        ...


Load: TypeAlias = Callable[[Path, Options], Backend]
"""What the file of each engine has as `load`; raises ConfigError for a folder that it cannot."""

_NEUTRAL: Final = Sampling(max_tokens=1)
_NAMED: Final = [one.name for one in fields(Sampling) if one.name in MODES]


def asked(sampling: Sampling) -> list[str]:
    """The modes that a request needs: those that differ from doing nothing."""
    names = [name for name in _NAMED if getattr(sampling, name) != getattr(_NEUTRAL, name)]
    if sampling.logprobs:
        names.append("top_logprobs")
    if sampling.form is not None:
        names.append(sampling.form.kind)
    return names


def refuse(facts: Facts, sampling: Sampling) -> None:
    """Raise InvalidInput when a request asks for what the engine cannot do, with its name."""
    for name in asked(sampling):
        if name not in facts.modes:
            can = ", ".join(mode for mode in MODES if mode in facts.modes)
            raise InvalidInput(
                f"The engine {facts.engine} cannot do `{name}`. It can do: {can}. "
                "Leave it out, or run the model on another engine.",
                name,
            )


def not_for(facts: Facts, task: Task) -> InvalidInput:
    """The error of a model that is asked for another task than its own."""
    its = " and ".join(sorted(facts.tasks))
    return InvalidInput(f"This model is for {its}, not for {task}.", "model")
