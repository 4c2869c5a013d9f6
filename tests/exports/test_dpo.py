"""Preference pairs."""

from collections import Counter
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from tests.datasets.made import scenario
from tests.exports.conftest import Make
from wordmill.datasets import Dataset, export
from wordmill.errors import ExportError
from wordmill.exports.examples import check_file, check_preference

SCORED = """\
name: scored
model: mock
columns:
  question: {type: prompt, prompt: ask}
  answers: {type: candidates, n: 3, prompt: "{{ question }}"}
  score: {type: judge, each: answers, scores: {help: 0 to 4, tone: 0 to 4}}
"""


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def items(row: int, *texts: str | None) -> list[dict[str, Any]]:
    return [
        {"id": f"{row}-{n}", "item": n, "variant": None, "text": text, "error": None}
        for n, text in enumerate(texts)
    ]


def scored(row: int, *pairs: tuple[str, int, int]) -> dict[str, Any]:
    return {
        "question": f"Question {row}?",
        "answers": items(row, *(text for text, _, _ in pairs)),
        "score": [{"help": a, "tone": b, "reason": "so"} for _, a, b in pairs],
    }


def test_pairs_on_which_both_orders_agree(scenarios: Dataset, tmp_path: Path) -> None:
    result = export(scenarios, "dpo", tmp_path / "a.jsonl")
    expected, skipped = [], Counter[str]()
    for row in range(60):
        values = scenario(row)["values"]
        texts = [item["text"] for item in values["actions"]]
        for pair in values["comparison"]:
            if not pair["agree"]:
                skipped["judged otherwise when turned around"] += 1
                continue
            first, second = texts[pair["first"]], texts[pair["second"]]
            chosen, rejected = (first, second) if pair["winner"] == "first" else (second, first)
            expected.append(
                {
                    "prompt": user(values["scenario"]),
                    "chosen": assistant(chosen),
                    "rejected": assistant(rejected),
                }
            )
    assert lines(tmp_path / "a.jsonl") == expected
    assert result.rows == len(expected) > 0
    assert result.skipped == skipped


def test_a_tie_an_unjudged_pair_and_equal_answers_are_left_out(make: Make, tmp_path: Path) -> None:
    recipe = SCORED.replace(
        "score: {type: judge, each: answers, scores: {help: 0 to 4, tone: 0 to 4}}",
        "better: {type: judge, pairwise: answers}",
    )

    def pair(first: int, second: int, winner: str | None, agree: bool | None) -> dict[str, Any]:
        return {
            "first": first, "second": second, "winner": winner, "agree": agree,
            "reason": None, "error": None,
        }  # fmt: skip

    row = {
        "question": "Why?",
        "answers": items(0, "yes", "no", "yes", None),
        "better": [
            pair(0, 1, "second", True),
            pair(0, 2, "first", True),
            pair(1, 2, "tie", True),
            pair(1, 2, "tie", False),
            pair(1, 2, None, None),
            pair(0, 3, "first", True),
        ],
    }
    result = export(make(recipe, [row]), "dpo", tmp_path / "a.jsonl")
    assert lines(tmp_path / "a.jsonl") == [
        {"prompt": user("Why?"), "chosen": assistant("no"), "rejected": assistant("yes")}
    ]
    assert result.skipped == {
        "with equal answers": 1,
        "tied": 1,
        "judged otherwise when turned around": 1,
        "not judged in both orders": 1,
        "without an answer": 1,
    }


def test_the_best_and_the_worst_by_the_mean_of_the_scores(make: Make, tmp_path: Path) -> None:
    dataset = make(
        SCORED,
        [
            scored(0, ("poor", 1, 0), ("good", 4, 3), ("fair", 2, 2)),
            scored(1, ("same", 2, 2), ("other", 2, 3)),
            scored(2, ("alone", 4, 4)),
        ],
    )
    result = export(dataset, "dpo", tmp_path / "a.jsonl", {"system": "Be brief."})
    assert lines(tmp_path / "a.jsonl") == [
        {
            "prompt": [{"role": "system", "content": "Be brief."}, *user("Question 0?")],
            "chosen": assistant("good"),
            "rejected": assistant("poor"),
        }
    ]
    assert result.skipped == {"with scores too near": 1, "with fewer than two scored items": 1}


def test_every_pair_by_one_score_with_a_margin(make: Make, tmp_path: Path) -> None:
    dataset = make(SCORED, [scored(0, ("a", 0, 4), ("b", 2, 0), ("c", 4, 0), ("d", 4, 1))])
    options = {"score": "help", "pairs": "all", "margin": "2"}
    result = export(dataset, "dpo", tmp_path / "a.jsonl", options)
    found = [
        (line["chosen"][0]["content"], line["rejected"][0]["content"])
        for line in lines(tmp_path / "a.jsonl")
    ]
    assert found == [("c", "b"), ("c", "a"), ("d", "b"), ("d", "a"), ("b", "a")]
    assert result.skipped == {"with scores too near": 1}
    assert len(found) + 1 == len(list(combinations("abcd", 2)))


def test_a_score_called_overall_counts_alone(make: Make, tmp_path: Path) -> None:
    recipe = SCORED.replace("{help: 0 to 4, tone: 0 to 4}", "{help: 0 to 4, overall: 0 to 4}")
    row = scored(0, ("liked", 0, 0), ("helpful", 4, 0))
    row["score"][0] = {"help": 0, "overall": 4, "reason": "so"}
    row["score"][1] = {"help": 4, "overall": 1, "reason": "so"}
    export(make(recipe, [row]), "dpo", tmp_path / "a.jsonl")
    assert lines(tmp_path / "a.jsonl")[0]["chosen"] == assistant("liked")


def test_two_columns_that_a_judge_compared(make: Make, tmp_path: Path) -> None:
    recipe = """\
name: two
model: mock
columns:
  left: {type: prompt, prompt: "Say it, {{ row }}."}
  right: {type: prompt, prompt: "Say it well, {{ row }}."}
  better: {type: judge, pairwise: [left, right]}
"""
    pair = {"first": "left", "second": "right", "winner": "second", "agree": True}
    row = {"left": "L", "right": "R", "better": [pair | {"reason": "so", "error": None}]}
    export(make(recipe, [row]), "dpo", tmp_path / "a.jsonl", {"prompt": "Say it, {{ row }}!"})
    assert lines(tmp_path / "a.jsonl") == [
        {"prompt": user("Say it, 0!"), "chosen": assistant("R"), "rejected": assistant("L")}
    ]
    same = make(recipe.replace("Say it well", "Say it"), [row])
    export(same, "dpo", tmp_path / "b.jsonl")
    assert lines(tmp_path / "b.jsonl")[0]["prompt"] == user("Say it, 0.")
    with pytest.raises(ExportError, match=r"\(1 asked for in different words\)"):
        export(make(recipe, [row]), "dpo", tmp_path / "c.jsonl")


def test_the_judge_with_scores_when_named(scenarios: Dataset, tmp_path: Path) -> None:
    result = export(scenarios, "dpo", tmp_path / "a.jsonl", {"by": "score", "margin": "2"})
    assert result.rows + result.skipped["with scores too near"] == 60


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"by": "scenario"}, "The column 'scenario' prefers nothing. Judges of pairs and of items"),
        ({"score": "joy", "by": "score"}, "'score' gives no score 'joy'. There are: suffering."),
        ({"field": "txt"}, "The items have no field 'txt'; they have variant, text, "),
    ],
    ids=["by", "score", "field"],
)
def test_what_cannot_be_done_is_said(
    scenarios: Dataset, tmp_path: Path, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ExportError) as caught:
        export(scenarios, "dpo", tmp_path / "a.jsonl", options)
    assert str(caught.value).startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_preferences(tickets: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export(tickets, "dpo", tmp_path / "a.jsonl")
    assert str(caught.value) == (
        "'tickets' holds no preferences: DPO needs a judge with `pairwise`, or one with `each` and "
        "scores over candidates. Was the run made with its comparisons?"
    )


def test_comparisons_that_were_not_made_are_no_preferences(make: Make, tmp_path: Path) -> None:
    recipe = SCORED.replace(
        "score: {type: judge, each: answers, scores: {help: 0 to 4, tone: 0 to 4}}",
        "better: {type: judge, pairwise: answers, when: 'false'}",
    )
    row = {"question": "Why?", "answers": items(0, "yes", "no"), "better": None}
    with pytest.raises(ExportError, match="holds no preferences"):
        export(make(recipe, [row]), "dpo", tmp_path / "a.jsonl")


def test_only_ties_is_nothing_and_says_so(make: Make, tmp_path: Path) -> None:
    dataset = make(SCORED, [scored(0, ("a", 1, 1), ("b", 1, 1))])
    with pytest.raises(ExportError) as caught:
        export(dataset, "dpo", tmp_path / "a.jsonl")
    assert str(caught.value) == (
        "Nothing of 'scored' can be exported in this form (1 with scores too near). "
        "No file was written."
    )


def test_the_library_reads_it(scenarios: Dataset, tmp_path: Path, hub: ModuleType) -> None:
    result = export(scenarios, "dpo", tmp_path / "a.jsonl")
    cache = str(tmp_path / "cache")
    file = str(tmp_path / "a.jsonl")
    loaded = hub.load_dataset("json", data_files=file, cache_dir=cache)["train"]
    assert loaded.column_names == ["prompt", "chosen", "rejected"]
    assert loaded.num_rows == result.rows
    for example in loaded:
        assert [turn["role"] for turn in example["prompt"]] == ["user"]
        assert [turn["role"] for turn in example["chosen"]] == ["assistant"]
        assert example["chosen"] != example["rejected"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"row": 1}, "its columns are prompt, chosen, rejected, row, not prompt, chosen, rejected"),
        ({"rejected": assistant("a")}, "chosen and rejected are equal"),
        ({"chosen": assistant("")}, "an answer is empty"),
        ({"chosen": user("a")}, "an answer is not one message of the assistant"),
        ({"prompt": assistant("a")}, "the roles are assistant, and user must be the last"),
        ({"prompt": "a"}, "a list of messages is missing"),
    ],
)
def test_the_rules_that_are_read_back(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    good = {"prompt": user("q"), "chosen": assistant("a"), "rejected": assistant("b")}
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps(good) + b"\n" + orjson.dumps(good | change))
    with pytest.raises(ExportError) as caught:
        check_file(tmp_path / "a.jsonl", check_preference, 2)
    assert str(caught.value).startswith(f"Example 2 breaks a rule of the trainer: {words}. ")
