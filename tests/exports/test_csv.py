"""CSV."""

import csv
from pathlib import Path
from types import ModuleType

import orjson
import pytest

from tests.datasets.made import scenario, ticket
from tests.exports.conftest import Make
from wordmill.datasets import Dataset, export

ONE = "{name: one, model: m, columns: {text: {type: prompt, prompt: say}}}"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_nested_values_are_json(tickets: Dataset, tmp_path: Path) -> None:
    export(tickets, "csv", tmp_path / "t.csv", {"all": "true"})
    rows = read(tmp_path / "t.csv")
    made = ticket(13, size=60)
    assert len(rows) == 2500
    assert rows[13]["ticket"] == made["values"]["ticket"]
    assert rows[13]["urgency"] == ""
    assert orjson.loads(rows[13]["verdict"]) == made["values"]["verdict"]
    assert orjson.loads(rows[13]["errors"]) == made["errors"]
    assert rows[13]["kept"] in ("true", "false")


def test_linked_tables_are_files_of_their_own(scenarios: Dataset, tmp_path: Path) -> None:
    export(scenarios, "csv", tmp_path / "s.csv")
    actions = read(tmp_path / "s.actions.csv")
    assert len(actions) == 180
    assert actions[3]["text"] == scenario(1)["values"]["actions"][0]["text"]
    assert orjson.loads(actions[3]["score"]) == scenario(1)["values"]["score"][0]


TEXTS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", 'a "b", c', "two\nlines\r\n", "", "x" * 200_000]


def test_any_text_survives(make: Make, tmp_path: Path) -> None:
    dataset = make(ONE, [{"text": text} for text in TEXTS])
    export(dataset, "csv", tmp_path / "t.csv", {"columns": "row,text"})
    limit = csv.field_size_limit(1_000_000)
    try:
        assert [row["text"] for row in read(tmp_path / "t.csv")] == TEXTS
    finally:
        csv.field_size_limit(limit)


def test_formulas_are_disarmed_when_asked(make: Make, tmp_path: Path) -> None:
    dataset = make(ONE, [{"text": text} for text in TEXTS[:6]])
    export(dataset, "csv", tmp_path / "t.csv", {"columns": "text", "safe": "true"})
    assert [row["text"] for row in read(tmp_path / "t.csv")] == [
        "'=1+1",
        "'+1",
        "'-1",
        "'@SUM(A1)",
        "'\tx",
        'a "b", c',
    ]


def test_negative_numbers_are_no_formulas(make: Make, tmp_path: Path) -> None:
    recipe = "{name: n, columns: {x: {type: number, min: -5, max: 5}}}"
    export(make(recipe, [{"x": -1}]), "csv", tmp_path / "t.csv", {"safe": "1", "columns": "x"})
    assert (tmp_path / "t.csv").read_bytes() == b"x\r\n-1\r\n"


@pytest.mark.parametrize("table", ["", ".actions", ".comparison"])
def test_the_library_reads_it(
    scenarios: Dataset, tmp_path: Path, hub: ModuleType, table: str
) -> None:
    export(scenarios, "csv", tmp_path / "s.csv")
    file = str(tmp_path / f"s{table}.csv")
    loaded = hub.load_dataset("csv", data_files=file, cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded.num_rows == {"": 60, ".actions": 180, ".comparison": 168}[table]
