"""Options that a recipe brings along."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Type
from tests.runs.conftest import Project
from wordmill.datasets import open_dataset

STORIES = """\
name: stories
table: scenes
model: rehearsal
parameters:
  actions: {type: integer, default: 3, min: 1, max: 5, help: actions for each scene}
  loud: {type: boolean, default: false}
  kind: {type: boolean, default: true, help: kind words}
  name: {type: string, default: "", help: whose}
  tone: {type: choice, choices: [dry, warm], default: dry}
  rows_of_text: {type: integer, default: 2}
columns:
  said:
    type: template
    template: >-
      {{ parameters.actions }} {{ parameters.loud }} {{ parameters.tone }}
      {{ parameters.rows_of_text }}
"""


@pytest.fixture
def stories(project: Project) -> Project:
    project.recipe(STORIES)
    return project


def said() -> list[str]:
    return [row["said"] for row in open_dataset(Path("datasets/stories")).table("scenes").rows()]


def test_parameters_are_options_and_the_table_is_the_number_of_rows(
    stories: Project, wordmill: Type
) -> None:
    typed = wordmill(
        "generate", "recipe.yaml", "--scenes", 2, "--actions", 4, "--loud", "--tone=warm",
        "--rows-of-text", 7,
    )  # fmt: skip
    assert typed.code == 0, typed.err
    assert said() == ["4 true warm 7"] * 2


def test_defaults_hold_and_switches_can_be_turned_off(stories: Project, wordmill: Type) -> None:
    typed = wordmill(
        "generate", "recipe.yaml", "--rows", 1, "--loud", "false", "--param", "tone=warm"
    )
    assert typed.code == 0, typed.err
    assert said() == ["3 false warm 2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--actons", "4"), "has an option --actons. Did you mean '--actions'"),
        (("--actions", "9"), "--param actions=9: must be a whole number from 1 to 5, not "),
        (("--actions",), "--actions needs a value."),
        (("--scenes", "many"), "--scenes: 'many' is no number of rows: a whole one, from 1 on."),
        (("--rows", "0"), "--rows': '0' is no number of rows: a whole one, from 1 on."),
        (("--scenes", "2", "--rows", "3"), "--rows 3 and --scenes 2 mean the same and differ."),
        (("other.yaml",), "'other.yaml' is one word too many: a command makes one recipe."),
        (("--param", "nope=1"), "--param nope=1: the recipe has no parameter 'nope'."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(
    stories: Project, wordmill: Type, words: tuple[str, ...], sentence: str
) -> None:
    typed = wordmill("generate", "recipe.yaml", *words)
    assert typed.code == 2
    assert sentence in " ".join(typed.err.split())
    assert not Path("datasets").exists()


def test_the_recipe_comes_first(stories: Project, wordmill: Type) -> None:
    assert "Name a recipe: a file, a folder" in wordmill("generate").err
    assert wordmill("generate", "--actions", 3, "recipe.yaml").err.endswith(
        "Error: Name the recipe before its options: wordmill generate RECIPE --actions ...\n"
    )
    assert wordmill("generate", "--rows", 1, "recipe.yaml").code == 0


def test_help_lists_what_the_recipe_brings(stories: Project, wordmill: Type) -> None:
    typed = wordmill("generate", "recipe.yaml", "--help")
    text = " ".join(typed.out.split())
    assert "Options of the recipe stories: --scenes N As --rows." in text
    assert "--actions N actions for each scene. A whole number from 1 to 5. [default: 3]" in text
    assert "--kind true|false kind words. [default: true]" in text
    assert "--name VALUE whose. Text." in text
    assert "[default: ]" not in text
    assert "Options of the recipe" not in wordmill("preview", "--help").out


def test_the_same_for_a_preview(stories: Project, wordmill: Type) -> None:
    typed = wordmill("preview", "recipe.yaml", "--scenes", 1, "--actions", 5, "--json")
    assert json.loads(typed.out)["values"] == {"said": "5 false dry 2"}
