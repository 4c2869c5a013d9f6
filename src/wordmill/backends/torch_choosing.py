"""The next token of each row, by that row's own way of choosing.

The order is that of transformers' `generate`: penalties and biases, what a form allows,
temperature, then top-k, top-p, min-p and typical. What the rows have in common is done for all of
them at once; a row that does something unusual is done alone. Random numbers come from a generator
of the row's own, so a seed gives the same answer whoever else is answered.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import torch

from wordmill.backends.base import Logprob, Sampling

NARROW: Final = 256
"""Likeliest tokens among which top-p is first looked for."""


class Allowed(Protocol):
    """What a form allows next."""

    def mask(self) -> Any:
        """Booleans (vocabulary): True for each token that may come."""
        ...

    def took(self, token: int) -> None:
        """That token came."""
        ...


@dataclass(slots=True)
class Row:
    """One answer that is being made.

    tokens: of the prompt and of the answer.  prompt: how many are of the prompt.
    made: how many of the answer were told.
    """

    request: int
    sampling: Sampling
    tokens: list[int]
    prompt: int
    allowed: Allowed | None = None
    generator: Any = None
    counts: Counter[int] = field(default_factory=Counter)
    made: int = 0

    def __post_init__(self) -> None:
        if not self.sampling.greedy:
            self.generator = torch.Generator()
            if self.sampling.seed is None:
                self.generator.seed()
            else:
                self.generator.manual_seed(self.sampling.seed % 2**63)

    @property
    def plain(self) -> bool:
        """Its logits are taken as they come."""
        way = self.sampling
        return not (
            self.allowed
            or way.logit_bias
            or way.repetition_penalty != 1
            or way.presence_penalty
            or way.frequency_penalty
            or way.no_repeat_ngram_size
        )

    def took(self, token: int) -> None:
        """That token is the next one."""
        self.tokens.append(token)
        self.counts[token] += 1
        self.made += 1
        if self.allowed is not None:
            self.allowed.took(token)


def choose(logits: Any, rows: Sequence[Row]) -> list[Logprob | None]:
    """A token for each row of logits (rows, vocabulary); None for a row that is not a number.

    The logarithm of its probability, and the likeliest others, are told where they were asked for.
    """
    whole = logits.float()
    raw = whole
    if not all(row.plain for row in rows):
        whole = whole.clone()
        for index, row in enumerate(rows):
            if not row.plain:
                whole[index] = weighed(whole[index], row)
    best, tokens = whole.max(dim=-1)
    sound = torch.isfinite(best).tolist()
    chosen: list[int] = tokens.tolist()
    drawing = [index for index, row in enumerate(rows) if not row.sampling.greedy and sound[index]]
    for index, token in zip(drawing, _draw(whole, rows, drawing), strict=True):
        chosen[index] = token
    told: list[Logprob | None] = []
    for index, row in enumerate(rows):
        if not sound[index]:
            told.append(None)
        elif row.sampling.logprobs is None:
            told.append(Logprob(chosen[index], 0.0))
        else:
            told.append(_told(raw[index], chosen[index], row.sampling.logprobs))
    return told


def _told(logits: Any, token: int, most: int) -> Logprob:
    logs = torch.log_softmax(logits, dim=-1)
    others: tuple[tuple[int, float], ...] = ()
    if most:
        values, places = logs.topk(most)
        others = tuple(zip(places.tolist(), values.tolist(), strict=True))
    return Logprob(token, float(logs[token]), others)


def weighed(logits: Any, row: Row) -> Any:
    """The logits of one row (vocabulary) after penalties, biases and the form."""
    way = row.sampling
    if way.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(row.tokens)), device=logits.device)
        held = logits[seen]
        held = torch.where(held < 0, held * way.repetition_penalty, held / way.repetition_penalty)
        logits[seen] = held
    if row.counts and (way.presence_penalty or way.frequency_penalty):
        seen = torch.tensor(list(row.counts), device=logits.device)
        often = torch.tensor(list(row.counts.values()), device=logits.device)
        logits[seen] -= way.presence_penalty + way.frequency_penalty * often
    if way.no_repeat_ngram_size:
        for token in _repeated(row.tokens, way.no_repeat_ngram_size):
            logits[token] = -torch.inf
    for token, value in way.logit_bias.items():
        if 0 <= token < logits.shape[0]:
            logits[token] += value
    if row.allowed is not None:
        mask = row.allowed.mask().to(logits.device)
        logits[: mask.shape[0]].masked_fill_(~mask, -torch.inf)
        logits[mask.shape[0] :] = -torch.inf
    return logits


def _repeated(tokens: Sequence[int], size: int) -> list[int]:
    """Tokens that would repeat a run of `size` tokens."""
    tail = tuple(tokens[len(tokens) - size + 1 :])
    return [
        tokens[at + size - 1]
        for at in range(len(tokens) - size + 1)
        if tuple(tokens[at : at + size - 1]) == tail
    ]


def _draw(logits: Any, rows: Sequence[Row], drawing: Sequence[int]) -> list[int]:
    """Tokens for the rows that draw. Those with a top-k are drawn together."""
    drawn: dict[int, int] = {}
    together = [one for one in drawing if rows[one].sampling.top_k > 0 and _common(rows[one])]
    if together:
        most = min(max(rows[one].sampling.top_k for one in together), logits.shape[-1])
        values, places = logits[together].topk(most)
        ways = [rows[one].sampling for one in together]
        kept = torch.tensor([way.top_k for way in ways], device=values.device)[:, None]
        order = torch.arange(most, device=values.device)[None]
        heat = torch.tensor([way.temperature for way in ways], device=values.device)[:, None]
        values = (values / heat).masked_fill(order >= kept, -torch.inf)
        values = _narrowed(values, ways)
        points = torch.tensor([[_point(rows[one])] for one in together], device=values.device)
        found = _found(values.softmax(dim=-1), points)
        picked = places.gather(1, found)[:, 0].tolist()
        drawn.update(zip(together, picked, strict=True))
    for one in drawing:
        if one not in drawn:
            drawn[one] = _alone(logits[one], rows[one])
    return [drawn[one] for one in drawing]


def _common(row: Row) -> bool:
    return row.sampling.typical_p >= 1


def _point(row: Row) -> float:
    """A number from 0 up to 1, the row's next."""
    return float(torch.rand((), generator=row.generator))


def _found(probabilities: Any, points: Any) -> Any:
    """Where the points (rows, 1) fall in the sums of probabilities (rows, tokens)."""
    sums = probabilities.cumsum(dim=-1)
    found = torch.searchsorted(sums, points * sums[:, -1:], right=True)
    last = (probabilities > 0).sum(dim=-1, keepdim=True) - 1
    return torch.minimum(found, last)


def _narrowed(values: Any, ways: Sequence[Sampling]) -> Any:
    """Top-p and min-p of logits (rows, tokens) that are sorted, the likeliest first."""
    top = torch.tensor([way.top_p for way in ways], device=values.device)[:, None]
    least = torch.tensor([way.min_p for way in ways], device=values.device)[:, None]
    probabilities = values.softmax(dim=-1)
    if any(way.top_p < 1 for way in ways):
        before = probabilities.cumsum(dim=-1) - probabilities
        values = values.masked_fill(before >= top.clamp(min=1e-9), -torch.inf)
        probabilities = values.softmax(dim=-1)
    if any(way.min_p for way in ways):
        values = values.masked_fill(probabilities < least * probabilities[:, :1], -torch.inf)
    return values


def _alone(logits: Any, row: Row) -> int:
    """A token for one row (vocabulary): without top-k, or with typical sampling."""
    way = row.sampling
    logits = logits / way.temperature
    point = torch.tensor([[_point(row)]], device=logits.device)
    if way.top_k == 0 and way.top_p >= 1 and way.min_p == 0 and way.typical_p >= 1:
        probabilities = logits.softmax(dim=-1)[None]
        sums = probabilities.cumsum(dim=-1)
        found = torch.searchsorted(sums, point * sums[:, -1:], right=True)
        return int(found.clamp(max=logits.shape[0] - 1))
    count = way.top_k or (NARROW if way.typical_p >= 1 and way.top_p < 1 else logits.shape[0])
    while True:
        values, places = logits.topk(min(count, logits.shape[0]))
        total = logits.logsumexp(dim=-1)
        # All that top-p keeps is among them when their share reaches it.
        enough = way.top_k or count >= logits.shape[0]
        if enough or float((values - total).exp().sum()) >= way.top_p:
            break
        count *= 8
    if not way.top_k and count < logits.shape[0]:
        before = (values - total).exp().cumsum(dim=-1) - (values - total).exp()
        values = values.masked_fill(before >= max(way.top_p, 1e-9), -torch.inf)
        values = _narrowed(values[None], [_only_min(way)])[0]
    else:
        values = _narrowed(values[None], [way])[0]
    if way.typical_p < 1:
        values, order = _typical(values, way.typical_p)
        places = places[order]
    return int(places[_found(values.softmax(dim=-1)[None], point)[0, 0]])


def _only_min(way: Sampling) -> Sampling:
    return Sampling(max_tokens=1, min_p=way.min_p)


def _typical(values: Any, share: float) -> tuple[Any, Any]:
    """Logits in the order of how near each is to the expected surprise, cut at `share`."""
    logs = values.log_softmax(dim=-1)
    probabilities = logs.exp()
    entropy = -(probabilities * logs.nan_to_num(neginf=0.0)).sum()
    order = (-logs - entropy).abs().nan_to_num(posinf=torch.inf).argsort()
    sums = probabilities[order].cumsum(dim=-1)
    last = min(int((sums < share).sum()), values.shape[0] - 1)
    kept = values[order].clone()
    kept[last + 1 :] = -torch.inf
    return kept, order
