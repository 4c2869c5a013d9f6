"""The dataset card: read by people, and by the Hugging Face hub."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.datasets.made import SCENARIOS, SUMMARY, TICKETS, as_bytes, scenario, ticket
from wordmill.datasets import Dataset, DatasetInfo, DatasetWriter
from wordmill.datasets.card import code, plain


def card_of(folder: Path, info: DatasetInfo, rows: int = 3, **summary: Any) -> tuple[Any, str]:
    """The header as values, and the rest."""
    with DatasetWriter(folder, info) as writer:
        writer.add(as_bytes([ticket(row, size=20) for row in range(rows)]))
        writer.finish(replace(SUMMARY, **summary))
    text = (folder / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_the_header_names_each_table(scenarios: Dataset) -> None:
    text = (scenarios.folder / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n", 2)[1])
    assert header == {
        "pretty_name": "rlhi",
        "license": "other",
        "size_categories": ["n<1K"],
        "tags": ["synthetic", "wordmill", "rehearsal"],
        "configs": [
            {
                "config_name": "scenarios",
                "data_files": [{"split": "train", "path": "data/scenarios-?????.parquet"}],
                "default": True,
            },
            {
                "config_name": "actions",
                "data_files": [{"split": "train", "path": "data/actions-?????.parquet"}],
            },
            {
                "config_name": "comparison",
                "data_files": [{"split": "train", "path": "data/comparison-?????.parquet"}],
            },
        ],
    }


def test_rehearsed_rows_are_said(scenarios: Dataset) -> None:
    text = (scenarios.folder / "README.md").read_text()
    assert (
        "> **Rehearsed.** 60 of 60 rows hold answers of the\n"
        "> rehearsal model: plausible filler, made to try a recipe out. "
        "They are no material for training.\n"
    ) in text


def test_what_the_body_says(tmp_path: Path) -> None:
    _, body = card_of(tmp_path, TICKETS, rows=14, ended="The ceiling of 5 USD was reached.")
    assert "\n# tickets\n\nCustomers write about what they bought.\n" in body
    assert "14 rows, made by Wordmill " in body
    assert "(seed 7, recipe `" + "5f" * 16 + "`)." in body
    assert "\n**Not complete.** The ceiling of 5 USD was reached.\n" in body
    assert "by `verdict.realism >= 2`; they are here too, with `kept` false." in body
    assert "In 1 row something failed." in body
    assert "| `urgency` | object | written by a model |" in body
    assert "| `mock` | `mock-1` | `openai` |" in body
    assert 'rows = load_dataset("path/to/this/folder", "rows", split="train")' in body
    assert "wordmill generate recipe.yaml --rows 14" in body
    assert "Rehearsed" not in body


def test_license_and_language_are_what_was_given(tmp_path: Path) -> None:
    header, _ = card_of(tmp_path, replace(TICKETS, license="cc0-1.0", language=("en", "it")))
    assert header["license"] == "cc0-1.0"
    assert header["language"] == ["en", "it"]


@pytest.mark.parametrize(("rows", "size"), [(999, "n<1K"), (1000, "1K<n<10K")])
def test_the_size(tmp_path: Path, rows: int, size: str) -> None:
    header, _ = card_of(tmp_path, TICKETS, rows)
    assert header["size_categories"] == [size]


def test_a_hostile_recipe_cannot_write_into_the_header(tmp_path: Path) -> None:
    evil = "x\n---\nlicense: mit\n<script>alert(1)</script> | [a](javascript:b) `c`"
    info = replace(TICKETS, name=evil, description=evil, keep=evil)
    header, body = card_of(tmp_path, info)
    assert header["pretty_name"] == " ".join(evil.split())
    assert header["license"] == "other"
    as_code = "`` x --- license: mit <script>alert(1)</script> \\| [a](javascript:b) `c` ``"
    assert as_code in body
    assert "<script>" not in body.replace(as_code, "")
    assert "\\<script\\>alert(1)\\</script\\> \\| \\[a\\](javascript:b) \\`c\\`" in body


def test_texts_are_shown_as_they_are() -> None:
    assert plain("a *b*\n_c_ <d> | `e`") == "a \\*b\\* \\_c\\_ \\<d\\> \\| \\`e\\`"
    assert code("a") == "`a`"
    assert code("a|b") == "`a\\|b`"
    assert code("a `b` c") == "`` a `b` c ``"
    assert code("") == ""


def test_empty_tables_are_not_in_the_card(tmp_path: Path) -> None:
    records = [scenario(0)]
    records[0]["values"]["comparison"] = []
    with DatasetWriter(tmp_path, SCENARIOS) as writer:
        writer.add(records)
        writer.finish(SUMMARY)
    text = (tmp_path / "README.md").read_text()
    assert "config_name: actions" in text
    assert "config_name: comparison" not in text
    assert "### comparison" not in text
