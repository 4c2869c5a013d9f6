"""Datasets to export, and the library that trainers read with."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.datasets.conftest import scenarios, tickets
from tests.datasets.made import SUMMARY
from wordmill.datasets import Dataset, DatasetInfo, DatasetWriter, describe, open_dataset
from wordmill.recipes import Recipe

__all__ = ["scenarios", "tickets"]

Make = Callable[[str, list[dict[str, Any]]], Dataset]


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Hugging Face's `datasets`, told to stay off the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        import datasets  # reads them now, and other tests' servers must not

    datasets.disable_progress_bars()
    return datasets


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A dataset of a recipe's text and the values of its rows."""

    def made(recipe_text: str, values: list[dict[str, Any]]) -> Dataset:
        recipe = Recipe.from_yaml(recipe_text)
        info = DatasetInfo(
            name=recipe.name,
            columns=describe(recipe.columns),
            table=recipe.table,
            recipe=recipe.to_yaml(),
            parameters=recipe.parameters,
        )
        folder = tmp_path / "dataset"
        with DatasetWriter(folder, info) as writer:
            writer.add({"row": n, "values": row} for n, row in enumerate(values))
            writer.finish(SUMMARY)
        return open_dataset(folder)

    return made
