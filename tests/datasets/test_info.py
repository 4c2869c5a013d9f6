"""What a dataset is told of a recipe."""

from pathlib import Path

import pytest

from tests.datasets.made import SCENARIOS, TICKETS
from wordmill.datasets import DatasetInfo, describe
from wordmill.datasets.assembly import Assembly
from wordmill.recipes import Recipe


@pytest.mark.parametrize("info", [TICKETS, SCENARIOS], ids=lambda info: info.name)
def test_columns_of_a_recipe_are_described(info: DatasetInfo) -> None:
    recipe = Recipe.from_yaml(info.recipe)
    described = describe(recipe.columns)
    for made, expected in zip(described, info.columns, strict=True):
        assert (made.name, made.type, made.joins) == (expected.name, expected.type, expected.joins)
        assert (made.table is None) == (expected.table is None)
    found = Assembly(DatasetInfo(name=recipe.name, columns=described, table=recipe.table))
    assert found.kinds() == Assembly(info).kinds()


def test_values_in_a_file_are_known(tmp_path: Path) -> None:
    (tmp_path / "moods.txt").write_text("calm\nangry\n")
    (tmp_path / "levels.yaml").write_text("- {value: low, rank: 1}\n- {value: high, rank: 2}\n")
    text = "{name: x, columns: {mood: {type: category, file: moods.txt}, "
    text += "level: {type: category, file: levels.yaml}}}"
    mood, level = describe(Recipe.from_yaml(text, folder=tmp_path).columns, tmp_path)
    assert mood.schema == {"enum": ["calm", "angry"]}
    assert level.schema == {
        "type": "object",
        "properties": {"value": {"enum": ["low", "high"]}, "rank": {"enum": [1, 2]}},
    }


def test_a_file_that_cannot_be_read_leaves_it_to_the_rows(tmp_path: Path) -> None:
    text = "{name: x, columns: {mood: {type: category, file: moods.txt}}}"
    (mood,) = describe(Recipe.from_yaml(text, folder=tmp_path).columns, tmp_path)
    assert mood.schema == {}
