"""Row records as a run stores them, made from a seed: tickets, and scenarios with actions."""

import random
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import orjson

from wordmill.datasets import ColumnInfo, DatasetInfo, ModelFacts, Summary

VOCABULARY = (
    "the a screen keyboard battery order refund customer warranty charger morning because after "
    "still never support called arrived broken slowly again maybe window delivery box two days "
    "help please cannot start without light noise update store price returned waiting answer"
)
WORDS = VOCABULARY.split()

SCOPES = ["Personal", "Professional", "Local community", "City or Village", "National", "Global"]
SEVERITIES = ["Annoyance", "Disruptive", "Serious", "Critical"]
VARIANTS = ["balanced", "short-sighted", "inaction"]

TICKETS_RECIPE = """\
name: tickets
description: Customers write about what they bought.
seed: 7
model: mock
columns:
  product: {type: category, values: [laptop, phone], weights: [2, 1]}
  mood: {type: category, values: [calm, angry, sad], weights: [1, 1, 0]}
  ticket:
    type: prompt
    system: You write as customers do.
    prompt: A {{ mood }} customer writes about a {{ product }}.
  urgency:
    type: prompt
    prompt: "How urgent is this? {{ ticket }}"
    schema:
      type: object
      properties: {level: {type: integer, minimum: 1, maximum: 5}}
      required: [level]
  verdict:
    type: judge
    of: ticket
    scores: {realism: 0 to 4, clarity: 0 to 4}
keep: verdict.realism >= 2
"""

SCENARIOS_RECIPE = """\
name: rlhi
description: Situations, and what an agent with three aims would do.
table: scenarios
seed: 11
model: mock
columns:
  scope:
    type: category
    values: [Personal, Professional, Local community, City or Village, National, Global]
  severity: {type: category, values: [Annoyance, Disruptive, Serious, Critical]}
  scenario: {type: prompt, prompt: "{{ scope }}, {{ severity }}"}
  actions:
    type: candidates
    n: 3
    prompt: "{{ variant.instruction }} {{ scenario }}"
    variants:
      - {name: balanced, instruction: Weigh all three.}
      - {name: short-sighted, instruction: Make it go away.}
      - {name: inaction, instruction: Wait.}
    sections: [considerations, action]
  score: {type: judge, each: actions, scores: {suffering: 0 to 4}}
  comparison: {type: judge, pairwise: actions}
"""

SUMMARY = Summary(
    models=(ModelFacts("mock", "openai", "mock-1", "http://127.0.0.1:9000/v1", 0.15, 0.6),),
    started="2026-11-21T02:00:00+00:00",
    seconds=12.5,
    requests=400,
    cached=3,
    tokens_in=48_000,
    tokens_out=61_000,
    money=0.0438,
)

TICKETS = DatasetInfo(
    name="tickets",
    seed=7,
    digest="5f" * 16,
    recipe=TICKETS_RECIPE,
    description="Customers write about what they bought.",
    keep="verdict.realism >= 2",
    run="3f9a",
    columns=(
        ColumnInfo("product", "category", {"type": "string", "enum": ["laptop", "phone"]}),
        ColumnInfo("mood", "category", {"type": "string", "enum": ["calm", "angry", "sad"]}),
        ColumnInfo("ticket", "prompt", {"type": "string"}),
        ColumnInfo(
            "urgency",
            "prompt",
            {
                "type": "object",
                "properties": {"level": {"type": "integer", "minimum": 1, "maximum": 5}},
                "required": ["level"],
            },
        ),
        ColumnInfo(
            "verdict",
            "judge",
            {
                "type": "object",
                "properties": {
                    "realism": {"type": "integer", "minimum": 0, "maximum": 4},
                    "clarity": {"type": "integer", "minimum": 0, "maximum": 4},
                    "reason": {"type": "string"},
                },
                "additionalProperties": False,
            },
        ),
    ),
)

ACTION = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "item": {"type": "integer"},
        "variant": {"type": ["string", "null"]},
        "text": {"type": ["string", "null"]},
        "considerations": {"type": ["string", "null"]},
        "action": {"type": ["string", "null"]},
        "error": {"type": ["string", "null"]},
    },
}
PAIR = {
    "type": "object",
    "properties": {
        "first": {"type": "integer"},
        "second": {"type": "integer"},
        "winner": {"type": "string", "enum": ["first", "second", "tie"]},
        "agree": {"type": "boolean"},
        "reason": {"type": "string"},
    },
}
SCORE = {
    "type": "object",
    "properties": {
        "suffering": {"type": "integer", "minimum": 0, "maximum": 4},
        "reason": {"type": "string"},
    },
}

SCENARIOS = DatasetInfo(
    name="rlhi",
    table="scenarios",
    seed=11,
    digest="a0" * 16,
    recipe=SCENARIOS_RECIPE,
    description="Situations, and what an agent with three aims would do.",
    run="77c1",
    columns=(
        ColumnInfo("scope", "category", {"type": "string", "enum": SCOPES}),
        ColumnInfo("severity", "category", {"type": "string", "enum": SEVERITIES}),
        ColumnInfo("scenario", "prompt", {"type": "string"}),
        ColumnInfo("actions", "candidates", {"type": "array", "items": ACTION}, table=ACTION),
        ColumnInfo("score", "judge", {"type": "array", "items": SCORE}, joins="actions"),
        ColumnInfo("comparison", "judge", {"type": "array", "items": PAIR}, table=PAIR),
    ),
)


def text(rng: random.Random, size: int) -> str:
    """Words up to about `size` characters, as a sentence."""
    words = " ".join(rng.choices(WORDS, k=size // 5))[:size]
    return words.strip().capitalize() + "."


def lineage(rng: random.Random, asked: int = 1, model: str = "mock") -> dict[str, Any]:
    return {
        "model": model,
        "digest": blake2b(rng.randbytes(8), digest_size=16).hexdigest(),
        "attempts": asked,
        "input_tokens": 40 + rng.randrange(20),
        "output_tokens": 90 + rng.randrange(60),
        "cost": 0.0001,
        "cached": False,
        "joined": False,
        "fallback": False,
        "asked": asked,
    }


def ticket(row: int, size: int = 500, faults: bool = True, model: str = "mock") -> dict[str, Any]:
    """Row `row` of the tickets; with faults, one in 50 has a cell that failed."""
    rng = random.Random(f"ticket {row}")
    values: dict[str, Any] = {
        "product": rng.choices(["laptop", "phone"], [2, 1])[0],
        "mood": rng.choice(["calm", "angry"]),
        "ticket": text(rng, int(rng.gauss(size, size / 5))) if size else "",
        "urgency": {"level": min(5, max(1, round(rng.gauss(3, 1))))},
        "verdict": {
            "realism": min(4, max(0, round(rng.gauss(3, 1)))),
            "clarity": rng.randrange(5),
            "reason": text(rng, 80),
        },
    }
    errors, found = {}, {}
    if faults and row % 50 == 13:
        values["urgency"], errors["urgency"] = None, "schema: /level is not an integer"
        found["schema"] = 2
    if faults and row % 100 == 77:
        values["ticket"], errors["ticket"] = None, "refused: I'm sorry, but I can't help with that."
        values["urgency"], errors["urgency"] = None, "needs: ticket"
        values["verdict"], errors["verdict"] = None, "needs: ticket"
        found["refused"] = 1
    verdict = values["verdict"]
    return {
        "row": row,
        "values": values,
        "errors": errors,
        "kept": verdict is not None and verdict["realism"] >= 2,
        "lineage": {name: lineage(rng, model=model) for name in ("ticket", "urgency", "verdict")},
        "found": found,
    }


def scenario(row: int, actions: int = 3, model: str = "mock") -> dict[str, Any]:
    """Row `row` of the scenarios; the last item of every tenth row failed."""
    rng = random.Random(f"scenario {row}")
    items = []
    for item in range(actions):
        failed = row % 10 == 4 and item == actions - 1
        considerations, action = text(rng, 200), text(rng, 260)
        items.append(
            {
                "id": f"{row}-{item}",
                "item": item,
                "variant": VARIANTS[(row + item) % 3],
                "text": None if failed else f"CONSIDERATIONS\n{considerations}\n\nACTION\n{action}",
                "considerations": None if failed else considerations,
                "action": None if failed else action,
                "error": "section: no heading ACTION" if failed else None,
            }
        )
    scores = [
        None if item["error"] else {"suffering": rng.randrange(5), "reason": text(rng, 60)}
        for item in items
    ]
    pairs = [
        {
            "first": first,
            "second": second,
            "winner": (winner := rng.choice(["first", "second", "tie"])),
            "agree": winner != "tie" and rng.random() < 0.8,
            "reason": text(rng, 60),
        }
        for first in range(actions)
        for second in range(first + 1, actions)
        if not items[first]["error"] and not items[second]["error"]
    ]
    return {
        "row": row,
        "values": {
            "scope": SCOPES[row % len(SCOPES)],
            "severity": SEVERITIES[rng.choice([0, 1, 1, 2])],
            "scenario": text(rng, 700),
            "actions": items,
            "score": scores,
            "comparison": pairs,
        },
        "errors": {},
        "kept": None,
        "lineage": {
            "scenario": lineage(rng, model=model),
            "actions": [lineage(rng, 1 + (n == 1), model) for n in range(actions)],
            "score": [None if s is None else lineage(rng, model=model) for s in scores],
            "comparison": [lineage(rng, model=model) for _ in pairs for _ in range(2)],
        },
        "found": {"section": 1} if row % 10 == 4 else {},
    }


def as_bytes(records: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> list[bytes]:
    return [orjson.dumps(record) for record in records]
