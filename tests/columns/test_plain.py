"""What Python code may write as options: what YAML could say, and nothing else."""

import enum
from datetime import date
from pathlib import Path

import pytest

from wordmill import Category, Number, Parameter, Prompt, Recipe, RecipeError, Seed
from wordmill.types import Value

HINT = "write text, a number, true, false or null, or a list or an object of these."
SET = "is nothing that a recipe can hold: a set has no order, so write a list."
LONG = "a whole number has at most 64 bits, sign included; put others in quotes."
cyclic: list[Value] = []
cyclic.append(cyclic)


class Tone(enum.StrEnum):
    CALM = "calm"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Category([{1, 2}]), f"Category: values[0]: {{1, 2}} {SET}"),
        (lambda: Category({1, 2}), f"Category: values: {{1, 2}} {SET}"),
        (lambda: Prompt("x", schema={"enum": {1}}), f"Prompt: schema.enum: {{1}} {SET}"),
        (lambda: Prompt("x", choices={"a"}), f"Prompt: choices: {{'a'}} {SET}"),
        (lambda: Parameter("choice", choices=frozenset("a")),
         f"Parameter: choices: frozenset({{'a'}}) {SET}"),
        (lambda: Category([b"x"]),
         f"Category: values[0]: b'x' is nothing that a recipe can hold: {HINT}"),
        (lambda: Category([date(2024, 1, 31)]),
         ("Category: values[0]: datetime.date(2024, 1, 31) is nothing that a recipe can hold: "
          + HINT)),
        (lambda: Category([{(1, 2): "a"}]),
         "Category: values[0]: (1, 2) is no key: keys are texts."),
        (lambda: Category({"by": "n", 1: ["a"], "1": ["b"]}),
         "Category: values: the key '1' stands there twice."),
        (lambda: Category(cyclic), "Category: values: it is nested more than 50 deep."),
        (lambda: Category([1, 2**63]), f"Category: values[1]: {LONG}"),
        (lambda: Category([[-(2**63) - 1]]), f"Category: values[0][0]: {LONG}"),
        (lambda: Number(min=0, max=2**70), f"Number: max: {LONG}"),
        (lambda: Seed(Path("a.csv")), "Seed: file: must be text, not PosixPath('a.csv')."),
    ],
)  # fmt: skip
def test_what_no_recipe_can_hold_is_a_sentence(make: Value, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make()
    assert str(caught.value) == sentence


def test_yaml_gives_the_line() -> None:
    text = "name: a\ncolumns:\n  one: {type: category, values: [[18446744073709551616], 2]}\n"
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(text, "a.yaml")
    assert str(caught.value) == f"a.yaml:3:35: columns.one.values[0][0]: {LONG}"


def test_what_yaml_has_a_word_for_becomes_that() -> None:
    column = Category(
        {"by": "flag", True: [(1, 2), 3], None: [Tone.CALM], 7: [-(2**63), 2**63 - 1]}
    )
    assert column.values == {
        "by": "flag", "true": [[1, 2], 3], "null": ["calm"], "7": [-(2**63), 2**63 - 1],
    }  # fmt: skip
    recipe = Recipe("t", columns={"flag": Category([True, None, 7]), "x": column})
    again = Recipe.from_yaml(recipe.to_yaml())
    assert (again, again.digest) == (recipe, recipe.digest)
    makers = recipe.makers()
    for row in range(20):
        (flag,) = makers["flag"].fill([{"row": row}])  # type: ignore[union-attr]
        (value,) = makers["x"].fill([{"row": row, "flag": flag}])  # type: ignore[union-attr]
        assert value in {True: [[1, 2], 3], None: ["calm"]}.get(flag, [-(2**63), 2**63 - 1])


def test_nobody_changes_a_column_later() -> None:
    values = ["calm", "angry"]
    column = Category(values)
    values.append("sad")
    assert column.values == ["calm", "angry"]
