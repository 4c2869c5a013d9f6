"""Preference pairs for DPO and its kin, as TRL, axolotl and LLaMA-Factory read them.

One JSON object a line, `{"prompt": [...], "chosen": [...], "rejected": [...]}`, each a list of
messages, and nothing else: other columns make trainers fail. Pairs come from a pairwise judge,
where both orders agreed on a winner; or from the scores of a judge over the items of a row. A tie
is no preference and is left out.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Literal, TypeAlias

from pydantic import Field

from wordmill.errors import ExportError, nearest
from wordmill.exports.base import Counted, Source, SourceColumn
from wordmill.exports.examples import (
    NO_ANSWER,
    NO_PROMPT,
    Example,
    ExampleOptions,
    Examples,
    Linked,
    Rule,
    as_text,
    check_preference,
    column_of,
    field_of,
    items_columns,
    pairwise_of,
    prompter,
    seen,
    turn,
)
from wordmill.types import Row, Value

Pair: TypeAlias = tuple[Value, Value]
"""What was chosen and what was rejected, as values."""

OVERALL = "overall"
"""The score that counts where a judge gives one of this name."""


class DpoOptions(ExampleOptions):
    """Options of DPO."""

    by: str = Field("", description="the judge that decides: a pairwise one, or one with scores")
    score: str = Field("", description="the score that counts; `overall`, or the mean of all")
    margin: float = Field(1.0, gt=0, description="least difference between the scores of a pair")
    pairs: Literal["best-worst", "all"] = Field(
        "best-worst", description="with scores: the two ends of a row, or every pair"
    )


class Dpo(Examples[DpoOptions]):
    """DPO."""

    name = "dpo"
    options = DpoOptions

    def rule(self, options: DpoOptions) -> Rule:
        """TRL's preference rule."""
        return check_preference

    def begin(
        self, dataset: Source, options: DpoOptions, counted: Counted
    ) -> Callable[[Row, Linked], Iterator[Example]]:
        """An example a pair."""
        judge = _judge(dataset, options)
        source = _Compared(dataset, judge) if judge.table is not None else _Scored(judge, options)
        before = [prompter(dataset, options, column) for column in source.answers(dataset)]

        def examples(row: Row, linked: Linked) -> Iterator[Example]:
            prompt, *others = [turns(seen(row, linked)) for turns in before]
            for chosen, rejected in source.pairs(row, linked, options, counted):
                better, worse = as_text(chosen), as_text(rejected)
                if better is None or worse is None:
                    counted.skip(NO_ANSWER)
                elif better == worse:
                    counted.skip("with equal answers")
                elif prompt is None:
                    counted.skip(NO_PROMPT)
                elif any(other != prompt for other in others):
                    counted.skip("asked for in different words")
                else:
                    yield {
                        "prompt": prompt,
                        "chosen": [turn("assistant", better)],
                        "rejected": [turn("assistant", worse)],
                    }

        return examples


def _judge(dataset: Source, options: DpoOptions) -> SourceColumn:
    """Who decides: as named, else the only pairwise judge, else the only one with scores."""
    compared = pairwise_of(dataset)
    items = {column.name for column in items_columns(dataset)}
    scored = [c for c in dataset.columns if c.type == "judge" and c.joins in items]
    if options.by:
        column = column_of(dataset, options.by)
        if column not in compared and column not in scored:
            known = ", ".join(c.name for c in (*compared, *scored)) or "none here"
            raise ExportError(
                f"The column {column.name!r} prefers nothing. Judges of pairs and of items are: "
                f"{known}."
            )
        return column
    found = compared or scored
    if len(found) == 1:
        return found[0]
    if not found:
        raise ExportError(
            f"{dataset.name!r} holds no preferences: DPO needs a judge with `pairwise`, or one "
            "with `each` and scores over candidates. Was the run made with its comparisons?"
        )
    names = ", ".join(column.name for column in found)
    raise ExportError(f"Which judge decides? There is {names}. Name it with the option by.")


class _Compared:
    """Pairs that a judge compared in both orders."""

    def __init__(self, dataset: Source, judge: SourceColumn) -> None:
        self.judge = judge
        pairwise = dataset.option(judge.name, "pairwise")
        of = pairwise["of"] if isinstance(pairwise, dict) else pairwise
        self.items = of if isinstance(of, str) else None
        self.columns = [] if isinstance(of, str) else list(of)

    def answers(self, dataset: Source) -> list[SourceColumn]:
        """The columns that the answers of a pair come from."""
        return [column_of(dataset, name) for name in ([self.items] if self.items else self.columns)]

    def pairs(
        self, row: Row, linked: Linked, options: DpoOptions, counted: Counted
    ) -> Iterator[Pair]:
        """Winner and loser of each pair on which both orders agreed."""
        for verdict in linked.get(self.judge.name, []):
            if verdict["winner"] is None:
                counted.skip("not judged in both orders")
            elif not verdict["agree"]:
                counted.skip("judged otherwise when turned around")
            elif verdict["winner"] == "tie":
                counted.skip("tied")
            else:
                sides = [self._side(verdict[side], row, linked, options) for side in _SIDES]
                yield (sides[0], sides[1]) if verdict["winner"] == "first" else (sides[1], sides[0])

    def _side(self, which: Value, row: Row, linked: Linked, options: DpoOptions) -> Value:
        if self.items is None:
            return row[which]
        return field_of(linked[self.items][which], options.field)


_SIDES = ("first", "second")


class _Scored:
    """Items of a row whose scores differ enough."""

    def __init__(self, judge: SourceColumn, options: DpoOptions) -> None:
        self.judge, self.items = judge, judge.joins or ""
        self.names = _scores(judge)
        if options.score and options.score not in self.names:
            raise ExportError(
                f"{judge.name!r} gives no score {options.score!r}"
                f"{nearest(options.score, self.names)}"
            )
        wanted = options.score or (OVERALL if OVERALL in self.names else "")
        self.counting = [wanted] if wanted else self.names

    def answers(self, dataset: Source) -> list[SourceColumn]:
        """The column that the answers of a pair come from."""
        return [column_of(dataset, self.items)]

    def pairs(
        self, row: Row, linked: Linked, options: DpoOptions, counted: Counted
    ) -> Iterator[Pair]:
        """The best and the worst of a row, or all pairs; the higher score is chosen."""
        scored = [
            (self._score(item[self.judge.name]), field_of(item, options.field))
            for item in linked.get(self.items, [])
            if item[self.judge.name] is not None
        ]
        ranked = sorted(scored, key=lambda pair: -pair[0])  # stable: the earlier item first
        if len(ranked) < 2:
            counted.skip("with fewer than two scored items")
            return
        ends = [(ranked[0], ranked[-1])]
        for better, worse in ends if options.pairs == "best-worst" else combinations(ranked, 2):
            if better[0] - worse[0] < options.margin:
                counted.skip("with scores too near")
            else:
                yield better[1], worse[1]

    def _score(self, verdict: Row) -> float:
        scores: list[float] = [verdict[name] for name in self.counting]
        return sum(scores) / len(scores)


def _scores(judge: SourceColumn) -> list[str]:
    """Names of the scores in the schema of a judge's verdicts."""
    schema = judge.schema.get("items", judge.schema)
    for branch in schema.get("anyOf", []):
        schema = branch if branch.get("type") == "object" else schema
    return [
        name for name, part in schema.get("properties", {}).items() if part.get("type") == "integer"
    ]
