"""Examples for supervised fine-tuning."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from tests.datasets.made import scenario
from tests.exports.conftest import Make
from wordmill.datasets import Dataset, export
from wordmill.errors import ExportError
from wordmill.exports.examples import check_file, check_messages, check_prompt_completion

QUESTIONS = """\
name: questions
model: mock
parameters: {tone: {type: string, default: kind}}
columns:
  topic: {type: category, values: [sea, sky]}
  answer:
    type: prompt
    system: Be {{ parameters.tone }}.
    prompt: "Tell me about the {{ topic }}, row {{ row }}."
    examples:
      - {user: About rain?, assistant: It is wet.}
"""
VALUES = [{"topic": "sea", "answer": "It is salt."}, {"topic": "sky", "answer": "It is high."}]


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def test_the_only_prompt_column_with_its_messages_as_sent(make: Make, tmp_path: Path) -> None:
    result = export(make(QUESTIONS, VALUES), "sft", tmp_path / "out")
    assert result.files == (tmp_path / "out" / "sft.jsonl",)
    assert lines(tmp_path / "out" / "sft.jsonl")[1] == {
        "messages": turns(
            ("system", "Be kind."),
            ("user", "About rain?"),
            ("assistant", "It is wet."),
            ("user", "Tell me about the sky, row 1."),
            ("assistant", "It is high."),
        )
    }


def test_a_prompt_and_a_system_message_of_ones_own(make: Make, tmp_path: Path) -> None:
    dataset = make(QUESTIONS, VALUES)
    options = {"prompt": "{{ topic }}?", "system": "Be {{ parameters.tone }} and brief."}
    export(dataset, "sft", tmp_path / "a.jsonl", options)
    assert lines(tmp_path / "a.jsonl")[0] == {
        "messages": turns(
            ("system", "Be kind and brief."), ("user", "sea?"), ("assistant", "It is salt.")
        )
    }
    export(dataset, "sft", tmp_path / "b.jsonl", {"prompt": "topic"})
    assert lines(tmp_path / "b.jsonl")[0] == {
        "messages": turns(("user", "sea"), ("assistant", "It is salt."))
    }
    export(dataset, "sft", tmp_path / "c.jsonl", {"system": "Other."})
    assert lines(tmp_path / "c.jsonl")[0]["messages"][0] == {"role": "system", "content": "Other."}
    assert len(lines(tmp_path / "c.jsonl")[0]["messages"]) == 5


def test_prompt_and_completion_apart(make: Make, tmp_path: Path) -> None:
    dataset = make(QUESTIONS, VALUES)
    options = {"form": "prompt-completion", "prompt": "topic"}
    export(dataset, "sft", tmp_path / "a.jsonl", options)
    assert lines(tmp_path / "a.jsonl")[0] == {
        "prompt": turns(("user", "sea")),
        "completion": turns(("assistant", "It is salt.")),
    }
    export(dataset, "sft", tmp_path / "b.jsonl", options | {"plain": "true", "system": "Be kind."})
    assert lines(tmp_path / "b.jsonl")[0] == {
        "prompt": "Be kind.\n\nsea",
        "completion": "It is salt.",
    }


def test_an_object_is_learnt_as_json(make: Make, tmp_path: Path) -> None:
    recipe = """\
name: o
model: m
columns:
  level:
    type: prompt
    prompt: How bad is row {{ row }}?
    schema: {type: object, properties: {level: {type: integer}}, required: [level]}
"""
    export(make(recipe, [{"level": {"level": 3}}]), "sft", tmp_path / "a.jsonl")
    messages = lines(tmp_path / "a.jsonl")[0]["messages"]
    assert messages[-1]["content"] == '{"level":3}'
    assert messages[0]["content"].startswith("How bad is row 0?")


def test_rows_without_an_answer_are_skipped_and_counted(make: Make, tmp_path: Path) -> None:
    values = [*VALUES, {"topic": "sea", "answer": None}, {"topic": None, "answer": "x"}]
    result = export(make(QUESTIONS, values), "sft", tmp_path / "a.jsonl", {"prompt": "topic"})
    assert (result.rows, result.skipped) == (2, {"without an answer": 1, "without a prompt": 1})


def test_of_items_the_first_variant_is_learnt(scenarios: Dataset, tmp_path: Path) -> None:
    result = export(scenarios, "sft", tmp_path / "a.jsonl")
    assert (result.rows, result.skipped) == (
        58,
        {"of another variant": 120, "without an answer": 2},
    )
    expected = [
        turns(("user", values["scenario"]), ("assistant", item["text"]))
        for row in range(60)
        for values in [scenario(row)["values"]]
        for item in values["actions"]
        if item["variant"] == "balanced" and item["text"]
    ]
    assert [line["messages"] for line in lines(tmp_path / "a.jsonl")] == expected


def test_another_variant_or_any_and_another_field(scenarios: Dataset, tmp_path: Path) -> None:
    options = {"variant": "inaction", "field": "action"}
    export(scenarios, "sft", tmp_path / "a.jsonl", options)
    item = next(i for i in scenario(0)["values"]["actions"] if i["variant"] == "inaction")
    assert lines(tmp_path / "a.jsonl")[0]["messages"][1]["content"] == item["action"]
    assert export(scenarios, "sft", tmp_path / "b.jsonl", {"variant": "any"}).rows == 174
    options = {"variant": "any", "field": "score"}
    export(scenarios, "sft", tmp_path / "c.jsonl", options)
    score = scenario(0)["values"]["score"][0]
    assert orjson.loads(lines(tmp_path / "c.jsonl")[0]["messages"][1]["content"]) == score


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "balance"}, "'actions' has no variant 'balance'. Did you mean 'balanced'?"),
        (
            {"completion": "acts"},
            "There is no column 'acts'; there are scope, severity, scenario, actions, score, ",
        ),
        (
            {"completion": "score"},
            "The column 'score' belongs to the items of 'actions': learn it with ",
        ),
        ({"field": "tekst"}, "The items have no field 'tekst'; they have variant, text, "),
        ({"prompt": "scene"}, "There is no column 'scene'; there are actions, comparison, "),
        (
            {"prompt": "{{ scenario"},
            "the option prompt:1:1: it ends after '{{ scenario', where '}}' is missing",
        ),
        ({"prompt": "{{ nothing }}"}, "Nothing of 'rlhi' can be exported in this form (120 of "),
    ],
)
def test_what_cannot_be_done_is_said(
    scenarios: Dataset, tmp_path: Path, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ExportError) as caught:
        export(scenarios, "sft", tmp_path / "a.jsonl", options)
    assert str(caught.value).startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_which_of_two_columns(tickets: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export(tickets, "sft", tmp_path / "a.jsonl")
    assert str(caught.value) == (
        "Which column is to be learnt? There is ticket, urgency. Name one with the option "
        "completion, as --option completion=ticket."
    )
    export(tickets, "sft", tmp_path / "a.jsonl", {"completion": "ticket"})
    messages = lines(tmp_path / "a.jsonl")[0]["messages"]
    assert messages[0] == {"role": "system", "content": "You write as customers do."}
    assert messages[1]["content"].startswith("A ")


def test_a_recipe_without_any_answers(make: Make, tmp_path: Path) -> None:
    recipe = "{name: n, columns: {x: {type: category, values: [a, b]}}}"
    with pytest.raises(ExportError) as caught:
        export(make(recipe, [{"x": "a"}]), "sft", tmp_path / "a.jsonl")
    assert str(caught.value) == (
        "Which column is to be learnt? There is none that a model wrote. Name one with the option "
        "completion, as --option completion=COLUMN."
    )
    with pytest.raises(ExportError) as caught:
        export(make(recipe, [{"x": "a"}]), "sft", tmp_path / "a.jsonl", {"completion": "x"})
    assert str(caught.value).startswith("The prompts of 'x' cannot be made again here (")


def test_nothing_to_export_says_why(make: Make, tmp_path: Path) -> None:
    dataset = make(QUESTIONS, [{"topic": "sea", "answer": None}])
    with pytest.raises(ExportError) as caught:
        export(dataset, "sft", tmp_path / "a.jsonl")
    assert str(caught.value) == (
        "Nothing of 'questions' can be exported in this form (1 without an answer). "
        "No file was written."
    )


@pytest.mark.parametrize(
    ("form", "columns"),
    [("messages", ["messages"]), ("prompt-completion", ["prompt", "completion"])],
)
def test_the_library_reads_it(
    scenarios: Dataset, tmp_path: Path, hub: ModuleType, form: str, columns: list[str]
) -> None:
    file = tmp_path / "a.jsonl"
    export(scenarios, "sft", file, {"form": form})
    cache = str(tmp_path / "cache")
    loaded = hub.load_dataset("json", data_files=str(file), cache_dir=cache)["train"]
    assert loaded.column_names == columns
    assert loaded.num_rows == 58
    last = loaded[0][columns[-1]][-1]
    assert last["role"] == "assistant"
    assert last["content"].startswith("CONSIDERATIONS")


USER, ASSISTANT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ({"messages": [USER, ASSISTANT], "row": 1}, "its columns are messages, row, not messages"),
        ({"messages": []}, "a list of messages is missing"),
        ({"messages": [USER]}, "the roles are user, and assistant must be the last"),
        ({"messages": [ASSISTANT]}, "the roles are assistant, and assistant must be the last"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "the assistant says nothing"),
        ({"messages": [USER, {"role": "assistant"}]}, "a message has other fields than"),
        ({"messages": [USER, USER, ASSISTANT]}, "the roles are user, user, assistant, and"),
    ],
)
def test_the_rules_that_are_read_back(
    tmp_path: Path, example: Mapping[str, Any], words: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps(example) + b"\n")
    with pytest.raises(ExportError) as caught:
        check_file(tmp_path / "a.jsonl", check_messages, 1)
    assert str(caught.value).startswith(f"Example 1 breaks a rule of the trainer: {words}")


@pytest.mark.parametrize(
    "example",
    [
        {"prompt": "a", "completion": ""},
        {"prompt": "a", "completion": [ASSISTANT]},
        {"prompt": [USER], "completion": [USER]},
        {"prompt": [USER, ASSISTANT], "completion": [ASSISTANT]},
        {"completion": [ASSISTANT], "prompt": [USER]},
    ],
)
def test_the_rules_of_prompt_and_completion(tmp_path: Path, example: Mapping[str, Any]) -> None:
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps(example) + b"\n")
    with pytest.raises(ExportError, match="Example 1 breaks a rule of the trainer"):
        check_file(tmp_path / "a.jsonl", check_prompt_completion, 1)


def test_a_file_that_lost_lines_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps({"messages": [USER, ASSISTANT]}) + b"\n")
    with pytest.raises(ExportError, match="2 examples were written, and 1 read back"):
        check_file(tmp_path / "a.jsonl", check_messages, 2)
