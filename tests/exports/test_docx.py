"""Word documents of rows."""

from pathlib import Path

import pytest

from tests.documents.reading import read
from tests.exports.conftest import Make
from wordmill.datasets import Dataset, export
from wordmill.errors import ExportError

ONE = "{name: one, model: m, columns: {text: {type: prompt, prompt: say}}}"


def test_a_heading_a_row(make: Make, tmp_path: Path) -> None:
    texts = ["# Big\n\n**bold**", "<b>no tag</b>", "", "a \x00 b"]
    dataset = make(ONE, [{"text": text} for text in texts])
    result = export(dataset, "docx", tmp_path / "t.docx", {"columns": "text"})
    found = read((tmp_path / "t.docx").read_bytes())
    assert found.title == "one"
    assert found.headings[:3] == [(1, "Row 0"), (2, "text"), (4, "Big")]
    assert found.paragraphs == ["bold", "<b>no tag</b>", "a  b"]
    assert result.rows == 4


def test_no_more_rows_than_asked(make: Make, tmp_path: Path) -> None:
    dataset = make(ONE, [{"text": str(n)} for n in range(5)])
    result = export(dataset, "docx", tmp_path / "t.docx", {"most": "2"})
    assert (result.rows, result.skipped) == (2, {"beyond the most rows of a document": 3})
    with pytest.raises(ExportError, match="The option most of the format 'docx' cannot be '0'"):
        export(dataset, "docx", tmp_path / "u.docx", {"most": "0"})


def test_items_stand_below_their_row(scenarios: Dataset, tmp_path: Path) -> None:
    result = export(scenarios, "docx", tmp_path / "s.docx", {"most": "3"})
    found = read((tmp_path / "s.docx").read_bytes())
    assert result.rows == 3
    assert (2, "actions") in found.headings
    assert sum(level == 1 for level, _ in found.headings) == 3
