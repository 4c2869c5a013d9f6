"""Keys and values of answers that grow side by side, for any decoder of transformers.

The rows of a `Band` share a time axis: each new token of every row is written into the same column,
and a row that came later begins at a later column. What is before a row's beginning is masked, as
padding is; so a model sees what it sees in a batch of `generate`, and needs no code of its own.
Rows come and go between steps; nothing is copied but the rows that move.

Tensors are (rows, heads, columns, head size), allocated in whole blocks of columns.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

BLOCK: Final = 128
"""Columns that are allocated at a time."""


class _Span:
    """What all layers of a band share: how many rows, the first column in use, and the next one."""

    def __init__(self) -> None:
        self.rows = self.low = self.width = 0
        self.heights = self.columns = 0


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values."""

    is_sliding = False
    is_croppable = False

    def __init__(self, span: _Span) -> None:
        super().__init__()
        self.span = span

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        """Allocate for keys and values of this kind."""
        span = self.span
        size = (span.heights, key_states.shape[1], span.columns)
        self.keys = key_states.new_zeros((*size, key_states.shape[-1]))
        self.values = value_states.new_zeros((*size, value_states.shape[-1]))
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        """Write the new columns, and return all that the rows attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        span, end = self.span, self.span.width + key_states.shape[-2]
        self.keys[: span.rows, :, span.width : end] = key_states
        self.values[: span.rows, :, span.width : end] = value_states
        return (
            self.keys[: span.rows, :, span.low : end],
            self.values[: span.rows, :, span.low : end],
        )

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that are attended to, and the first one's number."""
        return self.span.width - self.span.low + query_length, 0

    def get_seq_length(self) -> int:
        """Columns before the new ones."""
        return self.span.width - self.span.low

    def get_max_length(self) -> int:
        """No bound."""
        return -1

    def resize(self, height: int, columns: int, low: int) -> None:
        """New room; what is from column `low` on stays, and moves to column 0."""
        if not self.is_initialized:
            return
        span = self.span
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros((height, old.shape[1], columns, old.shape[3]))
            new[: span.rows, :, : span.width - low] = old[: span.rows, :, low : span.width]
            setattr(self, name, new)


class Band:
    """Rows that are fed together. starts: the column at which each row begins."""

    def __init__(self, model: Any, layers: int) -> None:
        self._model = model
        self._span = _Span()
        self._layers = [_Layer(self._span) for _ in range(layers)]
        self._cache = Cache(layers=self._layers)
        self._device = model.device
        self.starts: list[int] = []

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def length(self) -> int:
        """Tokens of its longest row."""
        return self._span.width - min(self.starts, default=self._span.width)

    @property
    def area(self) -> int:
        """Tokens that its rows take, what is masked included."""
        return len(self.starts) * self.length

    def open(self, lengths: Sequence[int]) -> None:
        """Rows for prompts of these lengths, which are about to be fed; only in an empty band."""
        longest = max(lengths)
        self._span.width = 0
        self.starts = [longest - length for length in lengths]
        self._span.rows = len(lengths)

    def feed(self, tokens: Any) -> Any:
        """Read tokens (rows, columns); the logits after the last one (rows, vocabulary)."""
        span, new = self._span, tokens.shape[1]
        self._reserve(new)
        span.low = min(min(self.starts), span.width)
        columns = torch.arange(span.low, span.width + new)
        starts = torch.tensor(self.starts)[:, None]
        mask = (columns[None] >= starts).long()
        positions = (columns[None, -new:] - starts).clamp(min=0)
        told = self._model(
            input_ids=tokens.to(self._device),
            attention_mask=mask.to(self._device),
            position_ids=positions.to(self._device),
            past_key_values=self._cache,
            use_cache=True,
            **self._keep,
        )
        span.width += new
        return told.logits[:, -1]

    @property
    def _keep(self) -> dict[str, int]:
        return {"logits_to_keep": 1} if self._model.wordmill_keeps else {}

    def _reserve(self, new: int) -> None:
        """Room for so many more columns: by moving to the left, or by more of it."""
        span = self._span
        if span.width + new <= span.columns and span.rows <= span.heights:
            return
        low = min(min(self.starts), span.width)
        columns = -(-(span.width - low + new) // BLOCK) * BLOCK + BLOCK
        height = max(span.heights, span.rows)
        self._resize(height, columns, low)

    def _resize(self, height: int, columns: int, low: int) -> None:
        span = self._span
        for layer in self._layers:
            layer.resize(height, columns, low)
        self.starts = [start - low for start in self.starts]
        span.width -= low
        span.low = 0
        span.heights, span.columns = height, columns

    def take(self, other: "Band") -> None:
        """The rows of another band, behind our own; it is empty afterwards."""
        span, came = self._span, other._span
        if not self.starts:
            self._span.__dict__.update(came.__dict__)
            for mine, its in zip(self._layers, other._layers, strict=True):
                mine.keys, mine.values = its.keys, its.values
                mine.is_initialized = its.is_initialized
            self.starts = other.starts
            other.drop()
            return
        low = min(self.starts)
        shift = max(0, other.length - (span.width - low))
        rows = span.rows + came.rows
        needed = span.width - low + shift
        if rows > span.heights or span.width + shift >= span.columns:
            height = max(span.heights, 2 ** (rows - 1).bit_length())
            self._resize(height, -(-(needed + 1) // BLOCK) * BLOCK + BLOCK, low)
        if shift:
            for layer in self._layers:
                for held in (layer.keys, layer.values):
                    end = span.width
                    held[: span.rows, :, shift : end + shift] = held[: span.rows, :, :end].clone()
            self.starts = [start + shift for start in self.starts]
            span.width += shift
        begin = min(other.starts)
        length = came.width - begin
        for mine, its in zip(self._layers, other._layers, strict=True):
            for held, new in ((mine.keys, its.keys), (mine.values, its.values)):
                held[span.rows : rows, :, span.width - length : span.width] = new[
                    : came.rows, :, begin : came.width
                ]
        self.starts += [start - begin + span.width - length for start in other.starts]
        span.rows = rows
        other.drop()

    def remove(self, index: int) -> None:
        """A row ends: the last one takes its place."""
        last = len(self.starts) - 1
        if index != last:
            end = self._span.width
            for layer in self._layers:
                layer.keys[index, :, :end] = layer.keys[last, :, :end]
                layer.values[index, :, :end] = layer.values[last, :, :end]
        self.starts[index] = self.starts[last]
        self.starts.pop()
        self._span.rows = last
        if not self.starts:
            self.drop()

    def pick(self, rows: Sequence[int]) -> None:
        """Row by row, what it becomes: a copy of that row. There may be more or fewer of them."""
        end, count = self._span.width, len(rows)
        if count > self._span.heights:
            self._resize(count, self._span.columns, min(self.starts))
            end = self._span.width
        chosen = torch.tensor(rows, device=self._device)
        for layer in self._layers:
            for held in (layer.keys, layer.values):
                held[:count, :, :end] = held.index_select(0, chosen)[:, :, :end]
        self.starts = [self.starts[row] for row in rows]
        self._span.rows = count

    def drop(self) -> None:
        """Let go of all rows and their room."""
        self.starts = []
        for layer in self._layers:
            layer.keys = layer.values = None
            layer.is_initialized = False
        span = self._span
        span.rows = span.low = span.width = span.heights = span.columns = 0
