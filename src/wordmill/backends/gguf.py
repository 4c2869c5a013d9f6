"""The engine for one file: llama.cpp by way of xllamacpp, for small machines and ARM.

llama.cpp brings a server with slots, and that server schedules: here each request has a thread
that hands its pieces over. It tokenizes and detokenizes itself, and answers questions about that
on a loopback port behind a key that nobody else has.

The slots share the room for keys and values, and where it is full llama.cpp ends all that are under
way. So a request begins when there is room for its prompt and its answer, of a long answer for a
slot's share; where the long ones have taken all there is, the one that came last ends there
(`length`).

Its ways of sampling are asked for in the order that the other engines have: temperature first,
then what narrows the choice. It has no beam search. Of a character that takes several tokens it
tells the probability of the last token alone.
"""

import http.client
import json
import queue
import secrets
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
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
from wordmill.backends.grammar import grammar
from wordmill.errors import ConfigError, ExtraMissing, InvalidInput

MODES: Final = frozenset(
    {
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "json",
        "json_schema",
        "choices",
        "regex",
    }
)
SLOTS: Final = 8
"""More streams than that share a processor badly in llama.cpp (measured)."""
SAMPLERS: Final = ("penalties", "temperature", "top_k", "typ_p", "top_p", "min_p")
TEMPLATE: Final = b"tokenizer.chat_template"
HEAD: Final = 64 << 20
"""Bytes that the head of a file has at most; a vocabulary is most of it."""
KEPT: Final = 256 << 20
"""Bytes for earlier prompts that no slot holds any more, where nobody says how many."""
ERRORS: Final = 1
"""The verbosity at which llama.cpp says why it cannot load a file, and no more."""
PATIENCE: Final = 0.02
"""Seconds that a step waits for a piece."""
SLACK: Final = 16
"""Tokens that a request may make before its last one is seen."""


def load(folder: Path, options: Options) -> "Gguf":
    """folder: a file, or a folder that holds one. Raises ConfigError, ExtraMissing."""
    return Gguf(_file(folder), options)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    first = [one for one in files if "-00001-of-" in one.name] or files
    if len(first) != 1:
        found = f"{len(files)} of them" if files else "none"
        raise ConfigError(f"The engine gguf needs one *.gguf file; {path} holds {found}.")
    return first[0]


def _has_template(file: Path) -> bool:
    """Whether the file brings a chat template; llama.cpp has one of its own for those without."""
    with file.open("rb") as held:
        return TEMPLATE in held.read(HEAD)


class Gguf:
    """A GGUF file, answered by llama.cpp's slots."""

    def __init__(self, file: Path, options: Options) -> None:
        try:
            import xllamacpp
        except ImportError as error:
            raise ExtraMissing("The package xllamacpp", "gguf") from error
        slots = min(options.slots, SLOTS)
        key = secrets.token_urlsafe(24)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(file)
        parameters.n_parallel = slots
        self._room = options.cache_tokens or max(CACHE_TOKENS, options.context)
        """Tokens whose keys and values are kept, for all requests together."""
        parameters.n_ctx = self._room
        parameters.kv_unified = True
        # Tokens of a step, of which each answer under way gets one: the rest is read of prompts.
        parameters.n_batch = max(options.batch_tokens, 2 * slots)
        parameters.n_ubatch = min(parameters.n_ubatch, parameters.n_batch)
        # It would keep up to 8 GiB of earlier prompts, of which no estimate knows.
        parameters.cache_ram_mib = -(
            -(KEPT if options.kept_bytes is None else options.kept_bytes) >> 20
        )
        # An idle slot stays as it is until its room is wanted: it may be too large to be kept.
        parameters.cache_idle_slots = False
        parameters.warmup = False
        parameters.verbosity = ERRORS
        parameters.api_keys = [key]
        parameters.ui = parameters.endpoint_slots = parameters.endpoint_props = False
        parameters.n_gpu_layers = 999 if (options.device or "cpu") != "cpu" else 0
        if options.dtype == "float32":
            # Else they are kept in half precision, whatever the file has.
            parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        if options.threads:
            parameters.cpuparams.n_threads = options.threads
            parameters.cpuparams_batch.n_threads = options.threads
        try:
            self._server = xllamacpp.Server(parameters)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"llama.cpp cannot load {file}: {str(error).rstrip('.')}. The file may be cut "
                "short or too new; fetch it again."
            ) from error
        self._words = GgufWords(self._server.listening_address, key, _has_template(file))
        self._pieces: queue.SimpleQueue[tuple[int, Mapping[str, Any]]] = queue.SimpleQueue()
        self._live: dict[int, _Request] = {}
        self._held: deque[_Request] = deque()
        """What waits for room."""
        self._going: list[_Request] = []
        """What llama.cpp is at, with what it has not yet heard that nobody wants."""
        window = self._words.window
        self._share = max(1, self._room // slots)
        self._facts = Facts(
            engine="gguf",
            context=min(options.context or window, window),
            slots=slots,
            device=options.device or "cpu",
            dtype=self._words.dtype,
            modes=MODES,
            ends=self._words.ends,
        )
        self._prove(file)

    def _prove(self, file: Path) -> None:
        """One token made and looked at: broken weights answer with nonsense, and say nothing."""
        first = next(iter(self._facts.ends), 0)
        self.submit(0, [first], Sampling(max_tokens=1, temperature=0, logprobs=0))
        while self._live:
            for piece in self.step():
                if piece.finish == "error":
                    raise ConfigError(f"The model in {file} does not answer. {piece.detail}")
                if any(one.value is None or one.value != one.value for one in piece.logprobs):
                    raise ConfigError(
                        f"The model in {file} computes no numbers (NaN): its weights are broken. "
                        "Fetch it again."
                    )

    @property
    def facts(self) -> Facts:
        """What was loaded."""
        return self._facts

    @property
    def words(self) -> "GgufWords":
        """Its tokenizer."""
        return self._words

    def submit(self, request: int, prompt: Sequence[int], sampling: Sampling) -> None:
        """Begin to answer, in a thread of its own, when there is room."""
        asked = body(prompt, sampling)
        made = _Request(request, sampling, asked, self._share, self._pieces)
        self._live[request] = made
        self._held.append(made)
        self._begin()

    def _begin(self) -> None:
        """Start what waits, in its order, as long as there is room."""
        self._going = [one for one in self._going if one.thread.is_alive()]
        while self._held:
            one = self._held[0]
            if self._going and self._taken(self._going) + one.room > self._room:
                return
            self._held.popleft()
            self._going.append(one)
            one.start(self._server)

    @staticmethod
    def _taken(going: "Sequence[_Request]") -> int:
        """Tokens of the room that are taken or promised."""
        return sum(max(one.room, one.size) + SLACK for one in going)

    def _relieve(self) -> Piece | None:
        """Where the room is full, the end of the newest that has more than was promised."""
        going = [one for one in self._going if not one.gone]
        if len(going) < 2 or self._taken(going) <= self._room:
            return None
        for one in reversed(going):
            if one.size > one.room and self._live.pop(one.number, None) is not None:
                one.gone = True
                return Piece(one.number, finish="length")
        return None

    def cancel(self, request: int) -> None:
        """Stop answering: its next piece says so to llama.cpp."""
        one = self._live.pop(request, None)
        if one is not None:
            one.gone = True
            if one in self._held:
                self._held.remove(one)

    def step(self) -> Sequence[Piece]:
        """What has come by now; waits a little for the first."""
        pieces: list[Piece] = []
        wait = True
        self._begin()
        while True:
            try:
                number, told = self._pieces.get(block=wait, timeout=PATIENCE)
            except queue.Empty:
                if (ended := self._relieve()) is not None:
                    pieces.append(ended)
                return pieces
            wait = False
            request = self._live.get(number)
            if request is None:
                continue
            piece = request.read(told)
            pieces.append(piece)
            if piece.finish:
                del self._live[number]

    def cache_use(self) -> float:
        """The part of the room that the requests under way have taken."""
        taken = sum(one.size for one in self._going)
        return min(1.0, taken / self._room)

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """A GGUF file is for chat here."""
        raise not_for(self._facts, "embeddings")

    def rank(self, query: str, documents: Sequence[str]) -> tuple[list[float], int]:
        """A GGUF file is for chat here."""
        raise not_for(self._facts, "rerank")

    def close(self) -> None:
        """Let the model go."""
        for number in list(self._live):
            self.cancel(number)
        for one in self._going:
            one.thread.join(timeout=5)
        self._server = None


class _Request:
    """One request and its thread. share: tokens of a long answer that are promised to it."""

    def __init__(
        self, number: int, sampling: Sampling, asked: Mapping[str, Any], share: int, pieces: Any
    ) -> None:
        self.number, self._sampling, self._asked, self._pieces = number, sampling, asked, pieces
        self.gone = False
        self.tokens = 0
        self._prompt = len(asked["prompt"])
        self.room = self._prompt + min(sampling.max_tokens, share)
        """Tokens that are promised to it."""
        self._server: Any = None
        self.thread = threading.Thread(target=self._run, name=f"slot-{number}", daemon=True)

    @property
    def size(self) -> int:
        """Tokens that it has."""
        return self._prompt + self.tokens

    def start(self, server: Any) -> None:
        """Ask llama.cpp, in a thread."""
        self._server = server
        self.thread.start()

    def _run(self) -> None:
        """Each piece comes to `_came` in this thread."""
        try:
            self._server.handle_completions(dict(self._asked), self._came)
        except BaseException as error:  # whatever it is: else the request would never end
            short = isinstance(error, MemoryError)
            self._pieces.put((self.number, {"short": short, "error": {"message": str(error)}}))
            if not short and not isinstance(error, RuntimeError | ValueError):
                raise

    def _came(self, told: Mapping[str, Any]) -> bool:
        """Whether to stop."""
        self._pieces.put((self.number, told))
        return self.gone

    def read(self, told: Mapping[str, Any]) -> Piece:
        """A piece in our words."""
        if told.get("short"):
            raise MemoryError("llama.cpp got no more memory")
        if "error" in told:
            words = str(told["error"].get("message", "no reason was given")).rstrip(".")
            detail = f"llama.cpp refuses the request: {words}."
            return Piece(self.number, finish="error", detail=detail)
        choice = told["choices"][0]
        timings = told.get("timings", {})
        made = timings.get("predicted_n", self.tokens)
        new, self.tokens = max(0, made - self.tokens), made
        finish: Finish | None = choice.get("finish_reason")
        logprobs: tuple[Logprob, ...] = ()
        tokens: tuple[int, ...] = ()
        held = choice.get("logprobs")
        if held and self._sampling.logprobs is not None:
            most = self._sampling.logprobs
            logprobs = tuple(
                Logprob(
                    one["id"],
                    one["logprob"],
                    tuple((each["id"], each["logprob"]) for each in one["top_logprobs"][:most]),
                )
                for one in held["content"]
            )
            tokens = tuple(one["id"] for one in held["content"])
        return Piece(
            self.number,
            tokens,
            choice["text"],
            logprobs=logprobs,
            finish=finish,
            made=new,
            cached=timings.get("cache_n"),
        )


def body(prompt: Sequence[int], sampling: Sampling) -> dict[str, Any]:
    """A request in llama.cpp's words."""
    asked: dict[str, Any] = {
        "prompt": list(prompt),
        "stream": True,
        "timings_per_token": True,
        # What is kept of an earlier prompt was added up in another order; a seed asks for the same.
        "cache_prompt": sampling.seed is None,
        "samplers": list(SAMPLERS),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_k": 1 if sampling.greedy else sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": len(prompt) + sampling.max_tokens,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": secrets.randbits(31) if sampling.seed is None else sampling.seed % 2**31,
        "ignore_eos": not sampling.ends,
    }
    if sampling.logprobs is not None:
        asked["logprobs"] = max(1, sampling.logprobs)
    if sampling.logit_bias:
        asked["logit_bias"] = [[token, value] for token, value in sampling.logit_bias.items()]
    if sampling.form is not None:
        asked["grammar"] = grammar(sampling.form)
    return asked


class GgufWords:
    """The tokenizer of a loaded GGUF file, asked of llama.cpp."""

    def __init__(self, address: str, key: str, template: bool) -> None:
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port, self._key = int(port), key
        props = self.ask("GET", "/props")
        self.window: int = props["default_generation_settings"]["n_ctx"]
        self.dtype = str(props.get("model_ftype", ""))
        self.template: str | None = props.get("chat_template") if template else None
        names = ("bos_token", "eos_token")
        self.special = {name: str(props[name]) for name in names if props.get(name)}
        end = self.special.get("eos_token")
        self.ends = frozenset(self.encode(end, special=False) if end else [])
        self.word = lru_cache(maxsize=65536)(self._word)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One of llama.cpp's own routes."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            value = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ConfigError(f"llama.cpp does not answer: {error}.") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise InvalidInput(f"llama.cpp refuses: {value}.")
        return value

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text."""
        body = {"content": text, "add_special": special, "parse_special": True}
        tokens: list[int] = self.ask("POST", "/tokenize", body)["tokens"]
        return tokens

    def decoding(self, *, special: bool) -> "GgufDecoding":
        """For one answer: llama.cpp makes the text itself."""
        return GgufDecoding()

    def _word(self, token: int) -> str:
        return str(self.ask("POST", "/detokenize", {"tokens": [token]})["content"])


class GgufDecoding:
    """Nothing is left to decode."""

    def add(self, tokens: Sequence[int]) -> str:
        """Nothing."""
        return ""

    def end(self) -> str:
        """Nothing."""
        return ""
