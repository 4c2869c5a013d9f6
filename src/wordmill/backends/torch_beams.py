"""Beam search for one request: its beams are the rows of a band of their own.

As transformers' `generate` does it: the best of all continuations of all beams go on, an ended one
is kept with its score, the sum of logarithms over its length to the power of `length_penalty`.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from wordmill.backends.base import Sampling
from wordmill.backends.torch_band import Band
from wordmill.backends.torch_choosing import Row, weighed


@dataclass(slots=True)
class Beams:
    """A request that follows several ways. ended: (score, tokens) of those that are over."""

    request: int
    sampling: Sampling
    band: Band
    rows: list[Row]
    scores: list[float] = field(default_factory=list)
    ended: list[tuple[float, list[int]]] = field(default_factory=list)
    made: int = 0

    def step(self, logits: Any) -> "list[int] | None":
        """Go on by one token; the tokens of the best answer when it is found.

        logits: (rows, vocabulary), where the first step has one row.
        Raises ArithmeticError for logits that are not numbers.
        """
        width, way = self.sampling.num_beams, self.sampling
        if not self.scores:
            self.scores = [0.0] * len(self.rows)
        logs = logits.float().log_softmax(dim=-1)
        if not bool(torch.isfinite(logs.max())):
            raise ArithmeticError
        for index, row in enumerate(self.rows):
            if not row.plain:
                logs[index] = weighed(logs[index], row)
        sums = logs + torch.tensor(self.scores, device=logs.device)[:, None]
        size = sums.shape[-1]
        count = min(2 * width, sums.numel())
        values, places = sums.flatten().topk(count)
        self.made += 1
        on: list[tuple[float, int, int]] = []
        for rank, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            source, token = divmod(place, size)
            if token in way.ends:
                if rank < width:
                    self._end(value, self.rows[source].tokens)
            elif len(on) < width:
                on.append((value, source, token))
        if self.made >= way.max_tokens:
            for value, source, token in on:
                self._end(value, [*self.rows[source].tokens, token])
            return self._best()
        if len(self.ended) >= width:
            worst = sorted(score for score, _ in self.ended)[-width]
            if not on or worst >= on[0][0] / self.made**way.length_penalty:
                return self._best()
        self._go_on(on)
        return None

    def _go_on(self, on: list[tuple[float, int, int]]) -> None:
        self.band.pick([source for _, source, _ in on])
        old = self.rows
        self.scores = [value for value, _, _ in on]
        self.rows = []
        for _, source, token in on:
            row = Row(self.request, self.sampling, list(old[source].tokens), old[source].prompt)
            row.counts = old[source].counts.copy()
            row.took(token)
            self.rows.append(row)

    def _end(self, value: float, tokens: list[int]) -> None:
        answer = tokens[self.rows[0].prompt :]
        self.ended.append((value / self.made**self.sampling.length_penalty, answer))

    def _best(self) -> list[int]:
        return max(self.ended, key=lambda one: one[0])[1]
