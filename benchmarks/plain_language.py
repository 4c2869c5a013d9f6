"""How well a real model tells commands in plain language from ordinary messages.

    .venv/bin/python benchmarks/plain_language.py --model NAME

NAME is a model of `wordmill models list`. Asked are the sentences of tests/commands/sentences.yaml;
each costs a small request. The tests answer the same sentences from a script, so their figure says
nothing about models; this one does.
"""

import argparse
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wordmill.channels.house import open_house
from wordmill.commands import COMMANDS, Context
from wordmill.commands.language import may_mean_a_command, propose, why_not
from wordmill.settings import load

SENTENCES = Path(__file__).parents[1] / "tests" / "commands" / "sentences.yaml"


@dataclass(frozen=True)
class Tried:
    """A sentence and what the model made of it. `seconds` 0: it was not asked."""

    says: str
    wanted: tuple[str, dict[str, Any]]
    given: tuple[str, dict[str, Any]]
    seconds: float


def try_all(context: Context) -> list[Tried]:
    """Each sentence, one after another."""
    tried = []
    for one in yaml.safe_load(SENTENCES.read_text(encoding="utf-8")):
        begun = time.monotonic()
        proposal = propose(COMMANDS, context, one["says"])
        took = time.monotonic() - begun if may_mean_a_command(COMMANDS, one["says"]) else 0.0
        given = ("none", {}) if proposal is None else (proposal.command, dict(proposal.arguments))
        tried.append(Tried(one["says"], (one["means"], one.get("with", {})), given, took))
    return tried


def report(tried: list[Tried]) -> str:
    """The figures, and every sentence that was misunderstood."""
    counts: Counter[str] = Counter()
    lines = []
    for one in tried:
        kind = "ordinary" if one.wanted[0] == "none" else "command"
        counts[kind] += 1
        counts[f"{kind} right"] += one.wanted == one.given
        counts[f"{kind} named"] += one.wanted[0] == one.given[0]
        if one.wanted != one.given:
            lines.append(f"  {one.says!r}: {one.wanted} was taken for {one.given}")
    asked = [one.seconds for one in tried if one.seconds]
    head = [
        (
            f"commands   {counts['command right']} of {counts['command']} with their arguments, "
            f"{counts['command named']} by name"
        ),
        f"ordinary   {counts['ordinary right']} of {counts['ordinary']} left alone",
        f"seconds    {statistics.median(asked):.2f} (median of {len(asked)} asked)"
        if asked
        else "seconds    none asked",
    ]
    return "\n".join([*head, *(["misunderstood", *lines] if lines else [])])


def main() -> None:
    """Ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    name = parser.parse_args().model
    with open_house(load()) as house:
        context = Context(house.accounts.people.local(), house, "benchmark", model=name)
        reason = why_not(context)
        if reason is not None:
            raise SystemExit(f"{name} cannot be asked: {reason}.")
        print(report(try_all(context)))


if __name__ == "__main__":
    main()
