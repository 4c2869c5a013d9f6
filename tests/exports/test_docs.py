"""The pages about datasets and exports: tables are what the code says, examples run."""

import re
import shutil
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from wordmill import plugins
from wordmill.datasets import Dataset
from wordmill.exports.base import Export, Options

DOCS = Path(__file__).parents[2] / "docs"


def table_row(name: str, field: FieldInfo, note: str = "") -> str:
    default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"| `{name}`{note} | {default} | {field.description} |".replace("|  |", "| |")


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv", "docx", "sft", "dpo"])
def test_every_option_is_in_its_table(form: str) -> None:
    found: type[Export[Options]] = plugins.load("exports", form)
    heading = "## jsonl, csv, parquet" if form in ("jsonl", "csv", "parquet") else f"## {form}"
    part = (DOCS / "exports.md").read_text().split(f"{heading}\n")[1].split("\n## ")[0]
    for name, field in found.options.model_fields.items():
        if name != "everything":  # the command line's --all
            rows = (table_row(name, field), table_row(name, field, f" ({form})"))
            assert any(row in part for row in rows), rows


@pytest.mark.parametrize("page", ["datasets.md", "exports.md"])
def test_the_examples_run(
    page: str,
    tickets: Dataset,
    scenarios: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for dataset, name in ((tickets, "tickets"), (scenarios, "scenarios")):
        shutil.copytree(dataset.folder, tmp_path / "datasets" / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(block, names)
    assert capsys.readouterr().out
