"""The engine for every architecture of transformers: torch, on a processor or a GPU.

Batching is our own: requests join and leave a running batch between steps (`torch_band`), and
each row chooses by its own way (`torch_choosing`). Why not the library's continuous batching:
docs/decisions/2026-11-21-slots-of-our-own.md.

A step reads a piece of the prompts that wait, at most `batch_tokens`, and then makes one token of
each answer. When the room for keys and values is short, the answer that came last steps aside and
is read again later; nothing of it is lost. Of a prompt nothing is kept when its answer is over.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wordmill.backends.base import (
    CACHE_TOKENS,
    Facts,
    Logprob,
    Options,
    Piece,
    Sampling,
    not_for,
)
from wordmill.backends.base import MODES as ALL_MODES
from wordmill.backends.folders import Folder, FolderWords
from wordmill.errors import ConfigError, ExtraMissing, InvalidInput

try:
    import torch

    from wordmill.backends import torch_models
    from wordmill.backends.torch_band import Band
    from wordmill.backends.torch_beams import Beams
    from wordmill.backends.torch_choosing import Row, choose
    from wordmill.backends.torch_forms import Forms
except ImportError as error:
    raise ExtraMissing("torch or transformers", "torch") from error

MODES: Final = frozenset(ALL_MODES) - {"num_beam_groups", "diversity_penalty"}
SPREAD: Final = 4
"""A row joins a band whose rows are at most so many times as long, or as short, as it."""
NOT_A_NUMBER: Final = (
    "The model computes no numbers (NaN): its weights are broken, or its form of numbers is too "
    "small for it. Fetch it again, or set dtype=float32."
)


@dataclass(slots=True)
class _Reading:
    """Rows whose prompts are being read. at: columns that have been."""

    band: Band
    rows: list[Row]
    tokens: Any
    at: int = 0


def load(folder: Path, options: Options) -> "Transformers":
    """Raises ConfigError for a folder that cannot be loaded, ExtraMissing, MemoryError where the
    graphics card has too little memory.
    """
    try:
        return Transformers(folder, options)
    except torch.OutOfMemoryError as error:
        first = str(error).strip().split(". ")[0].rstrip(".")
        raise MemoryError(f"The graphics card has too little memory ({first}).") from error


class Transformers:
    """A folder of Hugging Face's layout, answered in slots."""

    def __init__(self, path: Path, options: Options) -> None:
        folder = Folder(path)
        self._options = options
        self._words = FolderWords(folder)
        loaded = torch_models.load(folder, options)
        self._model: Any = loaded.model
        self._encoder: torch_models.Encoder | None = loaded.encoder
        window = folder.context or options.context or CACHE_TOKENS
        context = min(options.context or window, window)
        wanted = max(CACHE_TOKENS, min(options.context, window))
        self._room = max(options.cache_tokens or wanted, BAND_LEAST)
        self._facts = Facts(
            engine="transformers",
            context=min(context, self._room) if loaded.task == "chat" else context,
            slots=options.slots,
            device=loaded.device,
            dtype=loaded.dtype,
            modes=MODES if loaded.task == "chat" else frozenset(),
            tasks=frozenset({loaded.task}),
            ends=folder.ends,
            ways=folder.ways,
        )
        self._layers = loaded.layers
        self._forms: Forms | None = None
        self._waiting: deque[Row] = deque()
        self._reading: _Reading | None = None
        self._bands: list[tuple[Band, list[Row]]] = []
        self._beams: list[Beams] = []
        self._gone: set[int] = set()
        if loaded.task == "chat":
            self._prove(path)

    def _prove(self, path: Path) -> None:
        """One token made, so that broken weights are found before anybody asks."""
        first = next(iter(self._facts.ends), 0)
        self.submit(0, [first], Sampling(max_tokens=1, temperature=0))
        if any(piece.finish == "error" for piece in self.step()):
            raise ConfigError(f"The model in {path}: {NOT_A_NUMBER}")

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
        if "chat" not in self._facts.tasks:
            raise not_for(self._facts, "chat")
        size = self._model.config.get_text_config().vocab_size
        if any(not 0 <= token < size for token in prompt):
            raise InvalidInput(f"A token of the prompt is not below {size}.", "prompt")
        row = Row(request, sampling, list(prompt), len(prompt))
        if sampling.form is not None:
            if self._forms is None:
                self._forms = Forms(self._words.text(), size, self._facts.ends)
            row.allowed = self._forms.allowed(sampling.form)
        self._gone.discard(request)
        self._waiting.append(row)

    def cancel(self, request: int) -> None:
        """Stop answering: its row is taken out before the next step."""
        self._gone.add(request)

    def step(self) -> Sequence[Piece]:
        """A piece of the waiting prompts, and a token of each answer."""
        with torch.inference_mode():
            return self._step()

    def _step(self) -> Sequence[Piece]:
        self._sweep()
        pieces: list[Piece] = []
        self._read(pieces)
        self._make_room()
        for band, rows in self._bands:
            tokens = torch.tensor([[row.tokens[-1]] for row in rows])
            self._go_on(band, rows, band.feed(tokens), pieces)
        self._bands = [(band, rows) for band, rows in self._bands if rows]
        for beams in list(self._beams):
            tokens = torch.tensor([[row.tokens[-1]] for row in beams.rows])
            self._search(beams, beams.band.feed(tokens), pieces)
        return pieces

    # -- reading prompts ------------------------------------------------------------------

    def _read(self, pieces: list[Piece]) -> None:
        """A piece of the prompts."""
        if self._reading is None:
            self._reading = self._open()
        reading = self._reading
        if reading is None:
            return
        most = max(1, self._options.batch_tokens // len(reading.rows))
        part = reading.tokens[:, reading.at : reading.at + most]
        logits = reading.band.feed(part)
        reading.at += part.shape[1]
        if reading.at < reading.tokens.shape[1]:
            return
        self._reading = None
        first = reading.rows[0]
        if first.sampling.num_beams > 1:
            beams = Beams(first.request, first.sampling, reading.band, reading.rows)
            self._beams.append(beams)
            self._search(beams, logits, pieces)
            return
        rows = reading.rows
        self._go_on(reading.band, rows, logits, pieces)
        if rows:
            self._join(reading.band, rows)

    def _open(self) -> _Reading | None:
        """The next prompts that are read together, as many as a step takes."""
        chosen: list[Row] = []
        longest = 0
        room = self._room - self._area
        while self._waiting:
            row = self._waiting[0]
            length = max(longest, len(row.tokens))
            count = len(chosen) + 1
            alone = row.sampling.num_beams > 1
            if chosen and (
                alone
                or length * count > self._options.batch_tokens
                or length > SPREAD * min(len(one.tokens) for one in chosen)
            ):
                break
            if (length + 1) * max(count, row.sampling.num_beams) > room and (chosen or self._busy):
                break
            chosen.append(self._waiting.popleft())
            longest = length
            if alone:
                break
        if not chosen:
            return None
        band = Band(self._model, self._layers)
        band.open([len(row.tokens) for row in chosen])
        tokens = torch.zeros((len(chosen), longest), dtype=torch.long)
        for index, row in enumerate(chosen):
            tokens[index, longest - len(row.tokens) :] = torch.tensor(row.tokens)
        return _Reading(band, chosen, tokens)

    def _join(self, band: Band, rows: list[Row]) -> None:
        """Put rows that are read into a band of about their length."""
        for other, its in self._bands:
            short, long = sorted((other.length, band.length))
            if long <= max(BAND_LEAST, SPREAD * short):
                other.take(band)
                its += rows
                return
        self._bands.append((band, rows))

    # -- making tokens --------------------------------------------------------------------

    def _go_on(self, band: Band, rows: list[Row], logits: Any, pieces: list[Piece]) -> None:
        """Choose the next token of each row; rows that end leave the band."""
        ended = []
        for index, (row, told) in enumerate(zip(rows, choose(logits, rows), strict=True)):
            piece = self._told(row, told)
            pieces.append(piece)
            if piece.finish:
                ended.append(index)
        for index in reversed(ended):
            self._remove(band, rows, index)

    @staticmethod
    def _told(row: Row, told: Logprob | None) -> Piece:
        if told is None:
            return Piece(row.request, finish="error", detail=NOT_A_NUMBER)
        if told.token in row.sampling.ends:
            return Piece(row.request, finish="stop")
        row.took(told.token)
        full = row.made >= row.sampling.max_tokens
        return Piece(
            row.request,
            (told.token,),
            logprobs=() if row.sampling.logprobs is None else (told,),
            finish="length" if full else None,
        )

    @staticmethod
    def _remove(band: Band, rows: list[Row], index: int) -> None:
        band.remove(index)
        rows[index] = rows[-1]
        rows.pop()

    def _search(self, beams: Beams, logits: Any, pieces: list[Piece]) -> None:
        try:
            best = beams.step(logits)
        except ArithmeticError:
            pieces.append(Piece(beams.request, finish="error", detail=NOT_A_NUMBER))
        else:
            if best is None:
                return
            full = len(best) >= beams.sampling.max_tokens
            finish: Any = "length" if full else "stop"
            pieces.append(Piece(beams.request, tuple(best), finish=finish))
        self._beams.remove(beams)

    # -- room -----------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        return bool(self._bands or self._beams or self._reading)

    @property
    def _area(self) -> int:
        reading = self._reading
        bands = [band for band, _ in self._bands] + [one.band for one in self._beams]
        held = sum(band.area + len(band) for band in bands)
        return held + (0 if reading is None else reading.tokens.numel())

    def _make_room(self) -> None:
        """While there is too little, the answer that came last steps aside."""
        while self._area > self._room:
            held = [
                (row.request, band, rows, index)
                for band, rows in self._bands
                for index, row in enumerate(rows)
            ]
            if len(held) < 2:
                return
            _, band, rows, index = max(held, key=lambda one: one[0])
            row = rows[index]
            self._remove(band, rows, index)
            self._bands = [(one, its) for one, its in self._bands if its]
            self._waiting.appendleft(row)

    def _sweep(self) -> None:
        """Take out what nobody wants any more."""
        if not self._gone:
            return
        self._waiting = deque(row for row in self._waiting if row.request not in self._gone)
        self._beams = [one for one in self._beams if one.request not in self._gone]
        reading = self._reading
        if reading is not None:
            for index in reversed(range(len(reading.rows))):
                if reading.rows[index].request in self._gone:
                    reading.band.remove(index)
                    kept = list(range(len(reading.rows)))
                    kept[index] = kept[-1]
                    reading.tokens = reading.tokens[kept[:-1]]
                    reading.rows[index] = reading.rows[-1]
                    reading.rows.pop()
            if not reading.rows:
                self._reading = None
        for band, rows in self._bands:
            for index in reversed(range(len(rows))):
                if rows[index].request in self._gone:
                    self._remove(band, rows, index)
        self._bands = [(band, rows) for band, rows in self._bands if rows]
        self._gone.clear()

    def cache_use(self) -> float:
        """The part of the room that is taken."""
        return min(1.0, self._area / self._room)

    # -- the other tasks ------------------------------------------------------------------

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """A vector for each text."""
        if self._encoder is None or "embeddings" not in self._facts.tasks:
            raise not_for(self._facts, "embeddings")
        with torch.inference_mode():
            return self._encoder.embed(texts)

    def rank(self, query: str, documents: Sequence[str]) -> tuple[list[float], int]:
        """How well each document answers the query."""
        if self._encoder is None or "rerank" not in self._facts.tasks:
            raise not_for(self._facts, "rerank")
        with torch.inference_mode():
            return self._encoder.rank(query, documents)

    def close(self) -> None:
        """Let the model go."""
        self._bands.clear()
        self._beams.clear()
        self._model = self._encoder = None


BAND_LEAST: Final = 256
"""Bands up to so many columns take rows of any length; less room than that is not given."""
