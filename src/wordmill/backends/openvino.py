"""The engine for processors: OpenVINO GenAI, which batches as it goes and keeps prefixes.

It takes a folder in OpenVINO's form (openvino_model.xml). `step` is its own scheduler's; what it
answers silently with nonsense (a prompt past the window, no logits) is caught here.

Its seed, penalties and grammar belong to each request. It has no typical sampling, no logit bias
and tells only the logarithm of the token that it chose.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from wordmill.backends.base import (
    CACHE_TOKENS,
    Facts,
    Finish,
    Logprob,
    Options,
    Piece,
    Sampling,
    not_for,
)
from wordmill.backends.folders import Folder, FolderWords
from wordmill.backends.grammar import grammar
from wordmill.errors import ConfigError, ExtraMissing, InvalidInput

MODEL: Final = "openvino_model.xml"
MODES: Final = frozenset(
    {
        "temperature",
        "top_k",
        "top_p",
        "min_p",
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
    }
)
FORMS: Final = frozenset({"json", "json_schema", "choices", "regex"})
NOT_A_NUMBER: Final = (
    "computes no numbers (NaN): its weights are broken, or its form of numbers is too small for "
    "it. Fetch it again, or set dtype=float32."
)
BLOCK: Final = 32


@dataclass(slots=True)
class _Request:
    handle: Any
    sampling: Sampling


def load(folder: Path, options: Options) -> "OpenVino":
    """Raises ConfigError for a folder that is not in OpenVINO's form, ExtraMissing."""
    return OpenVino(folder, options)


class OpenVino:
    """A folder of OpenVINO's, answered by its own continuous batching."""

    def __init__(self, path: Path, options: Options) -> None:
        _set_instructions(options)
        try:
            import openvino_genai as genai
        except ImportError as error:
            raise ExtraMissing("The package openvino-genai", "cpu") from error
        self._genai = genai
        folder = Folder(path)
        if not (path / MODEL).is_file():
            raise ConfigError(
                f"The folder {path} has no {MODEL}: it is not in OpenVINO's form. Convert it with "
                "`wordmill models quantize`, fetch a repository that has it, or use another engine."
            )
        self._words = FolderWords(folder)
        self._size = int(folder.config.get("vocab_size") or self._words.vocabulary)
        window = folder.context or options.context or CACHE_TOKENS
        context = min(options.context or window, window)
        wanted = max(CACHE_TOKENS, min(options.context, window))
        cache = max(options.cache_tokens or wanted, min(context, CACHE_TOKENS))
        context = min(context, cache)
        task = folder.task
        if task == "rerank":
            raise ConfigError(
                f"The model in {path} ranks documents, which this engine cannot. Run it on the "
                "engine transformers."
            )
        self._facts = Facts(
            engine="openvino",
            context=context,
            slots=options.slots,
            device=(options.device or "cpu").upper(),
            dtype=options.dtype or "",
            modes=MODES | FORMS if task == "chat" else frozenset(),
            tasks=frozenset({task}),
            ends=folder.ends,
            ways=folder.ways,
        )
        self._requests: dict[int, _Request] = {}
        self._pipeline: Any = None
        self._encoder: Any = None
        properties = _properties(options)
        try:
            if task == "embeddings":
                self._encoder = genai.TextEmbeddingPipeline(
                    str(path), self._facts.device, _reading(genai, folder), **properties
                )
            else:
                self._pipeline = genai.ContinuousBatchingPipeline(
                    str(path),
                    _scheduler(genai, options, cache),
                    self._facts.device,
                    properties,
                )
        except RuntimeError as error:
            raise ConfigError(f"OpenVINO cannot load {path}: {_first(error)}.") from error
        if self._pipeline is not None:
            self._prove(path)
            if not self._has_words():
                modes = self._facts.modes - FORMS
                self._facts = replace(self._facts, modes=modes)

    def _prove(self, path: Path) -> None:
        """One token made and looked at: broken weights answer with nonsense, and say nothing."""
        first = next(iter(self._facts.ends), 0)
        self.submit(0, [first], Sampling(max_tokens=1, temperature=0, logprobs=0))
        pieces: list[Piece] = []
        try:
            while not (pieces and pieces[-1].finish):
                pieces += self.step()
        except RuntimeError as error:
            if "isnan" in str(error):
                raise ConfigError(f"The model in {path} {NOT_A_NUMBER}") from error
            raise ConfigError(f"The model in {path} does not answer: {_first(error)}.") from error
        if any(one.value != one.value for piece in pieces for one in piece.logprobs):
            raise ConfigError(f"The model in {path} {NOT_A_NUMBER}")

    def _has_words(self) -> bool:
        """Whether a grammar can be followed: without a converted tokenizer it ends the engine."""
        try:
            return bool(self._pipeline.get_tokenizer().get_vocab())
        except RuntimeError:
            return False

    @property
    def facts(self) -> Facts:
        """What was loaded."""
        return self._facts

    @property
    def words(self) -> FolderWords:
        """Its tokenizer."""
        return self._words

    def submit(self, request: int, prompt: Sequence[int], sampling: Sampling) -> None:
        """Begin to answer."""
        import numpy as np
        import openvino

        if self._pipeline is None:
            raise not_for(self._facts, "chat")
        config = self._config(sampling)
        if any(not 0 <= token < self._size for token in prompt):
            raise InvalidInput(f"A token of the prompt is not below {self._size}.", "prompt")
        tokens = openvino.Tensor(np.array([list(prompt)], dtype=np.int64))
        try:
            handle = self._pipeline.add_request(request, tokens, config)
        except RuntimeError as error:
            raise InvalidInput(f"OpenVINO refuses the request: {_first(error)}.") from error
        self._requests[request] = _Request(handle, sampling)

    def _config(self, sampling: Sampling) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens = sampling.max_tokens
        config.eos_token_id = -1
        config.stop_token_ids = set(sampling.ends)
        config.ignore_eos = not sampling.ends
        config.repetition_penalty = sampling.repetition_penalty
        config.presence_penalty = sampling.presence_penalty
        config.frequency_penalty = sampling.frequency_penalty
        config.no_repeat_ngram_size = sampling.no_repeat_ngram_size or 2**62
        if sampling.logprobs is not None:
            config.logprobs = 1
        if sampling.num_beams > 1:
            config.num_beams = sampling.num_beams
            config.num_beam_groups = sampling.num_beam_groups
            config.diversity_penalty = sampling.diversity_penalty
            config.length_penalty = sampling.length_penalty
            config.num_return_sequences = 1
        elif not sampling.greedy:
            config.do_sample = True
            config.temperature = sampling.temperature
            config.top_p = sampling.top_p
            config.min_p = sampling.min_p
            if sampling.top_k:
                config.top_k = sampling.top_k
            config.rng_seed = _seed(sampling.seed)
        if sampling.form is not None:
            structured = self._genai.StructuredOutputConfig()
            structured.grammar = grammar(sampling.form)
            config.structured_output_config = structured
        return config

    def cancel(self, request: int) -> None:
        """Stop answering."""
        held = self._requests.pop(request, None)
        if held is not None:
            held.handle.cancel()

    def step(self) -> Sequence[Piece]:
        """One pass of the scheduler over all requests."""
        self._pipeline.step()
        pieces = []
        for number, request in list(self._requests.items()):
            piece = self._read(number, request)
            if piece is not None:
                pieces.append(piece)
                if piece.finish:
                    del self._requests[number]
        return pieces

    def _read(self, number: int, request: _Request) -> Piece | None:
        handle, sampling = request.handle, request.sampling
        tokens: list[int] = []
        values: list[float] = []
        finish: Finish | None = None
        reasons = self._genai.GenerationFinishReason
        while handle.can_read():
            outputs = list(handle.read().values())
            best = max(outputs, key=lambda one: one.score) if len(outputs) > 1 else outputs[0]
            tokens += best.generated_ids
            values += best.generated_log_probs
            if best.finish_reason != reasons.NONE:
                finish = "stop" if best.finish_reason == reasons.STOP else "length"
        if finish is None and handle.get_status() == self._genai.GenerationStatus.IGNORED:
            detail = "The room for keys and values is too small for this request alone."
            return Piece(number, finish="error", detail=detail)
        if not tokens and finish is None:
            return None
        if tokens and tokens[-1] in sampling.ends:
            tokens.pop()
            finish = "stop"
        told: tuple[Logprob, ...] = ()
        if sampling.logprobs is not None:
            told = tuple(map(Logprob, tokens, values))
        return Piece(number, tuple(tokens), logprobs=told, finish=finish)

    def cache_use(self) -> float:
        """The part of the blocks that is taken, of the last step."""
        if self._pipeline is None:
            return 0.0
        return float(self._pipeline.get_metrics().cache_usage) / 100

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """A vector for each text."""
        if "embeddings" not in self._facts.tasks:
            raise not_for(self._facts, "embeddings")
        try:
            vectors = self._encoder.embed_documents(list(texts))
        except RuntimeError as error:
            raise InvalidInput(f"OpenVINO cannot read the texts: {_first(error)}.") from error
        return [list(map(float, one)) for one in vectors], self._count(texts)

    def rank(self, query: str, documents: Sequence[str]) -> tuple[list[float], int]:
        """Not here: its pipeline for that fails on pairs of BERT's (2026.4)."""
        raise not_for(self._facts, "rerank")

    def _count(self, texts: Sequence[str]) -> int:
        return sum(len(self._words.encode(text, special=True)) for text in texts)

    def close(self) -> None:
        """Let the model go."""
        self._requests.clear()
        self._pipeline = self._encoder = None


_PRECISIONS: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def _set_instructions(options: Options) -> None:
    """On one thread, do without AMX: its products in bfloat16 divide by zero there, and end the
    process (github.com/openvinotoolkit/openvino/issues/33300). To be called before the library is
    loaded, which reads the variable once.
    """
    if options.threads == 1:
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")


def _properties(options: Options) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    if options.threads:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    if options.dtype:
        properties["INFERENCE_PRECISION_HINT"] = _PRECISIONS[options.dtype]
    if options.dtype == "float32":
        properties["KV_CACHE_PRECISION"] = "f32"
    return properties


def _reading(genai: Any, folder: Folder) -> Any:
    """How texts become one vector each, as the folder says it for sentence-transformers."""
    config = genai.TextEmbeddingPipeline.Config()
    kinds, reading = genai.TextEmbeddingPipeline.PoolingType, folder.reading
    known = {"mean": kinds.MEAN, "cls": kinds.CLS, "last": kinds.LAST_TOKEN}
    config.pooling_type, config.normalize = known[reading.pooling], reading.unit
    if folder.context:
        config.max_length = folder.context
    return config


def _scheduler(genai: Any, options: Options, cache: int) -> Any:
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = -(-cache // BLOCK)
    scheduler.max_num_batched_tokens = options.batch_tokens
    scheduler.max_num_seqs = options.slots
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    return scheduler


def _seed(seed: int | None) -> int:
    return secrets.randbits(32) if seed is None else seed % 2**32


def _first(error: RuntimeError) -> str:
    """The sentence of an error of OpenVINO's: without the paths of whoever built it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "/src/" not in line and not line.startswith("Check ")]
    return (told[-1] if told else lines[-1] if lines else "no reason was given").rstrip(".")
