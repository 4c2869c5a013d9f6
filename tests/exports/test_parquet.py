"""Parquet."""

from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq

from tests.datasets.made import ticket
from wordmill.datasets import Dataset, export


def test_kept_rows_in_one_file(tickets: Dataset, tmp_path: Path) -> None:
    result = export(tickets, "parquet", tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    kept = [row for row in range(2500) if ticket(row, size=60)["kept"]]
    assert table["row"].to_pylist() == kept
    assert table.schema.equals(tickets.table().schema())
    assert (result.rows, result.skipped) == (len(kept), {"not kept by keep": 2500 - len(kept)})


def test_items_of_dropped_rows_are_dropped_too(
    tickets: Dataset, scenarios: Dataset, tmp_path: Path
) -> None:
    export(scenarios, "parquet", tmp_path / "out")
    assert pq.read_metadata(tmp_path / "out" / "actions.parquet").num_rows == 180
    result = export(tickets, "parquet", tmp_path / "all.parquet", {"all": "1"})
    assert (result.rows, result.skipped) == (2500, {})


def test_chosen_columns_only(tickets: Dataset, tmp_path: Path) -> None:
    export(tickets, "parquet", tmp_path / "t.parquet", {"columns": "ticket,urgency"})
    assert pq.read_schema(tmp_path / "t.parquet").names == ["ticket", "urgency"]


def test_the_library_reads_the_export_and_the_dataset_itself(
    scenarios: Dataset, tmp_path: Path, hub: ModuleType
) -> None:
    export(scenarios, "parquet", tmp_path / "out")
    cache = str(tmp_path / "cache")
    file = str(tmp_path / "out" / "actions.parquet")
    actions = hub.load_dataset("parquet", data_files=file, cache_dir=cache)["train"]
    assert actions[4]["score"]["suffering"] in range(5)
    for table, rows in (("scenarios", 60), ("actions", 180), ("comparison", 168)):
        loaded = hub.load_dataset(str(scenarios.folder), table, split="train", cache_dir=cache)
        assert loaded.num_rows == rows
    assert hub.load_dataset(str(scenarios.folder), split="train", cache_dir=cache)[1][
        "actions"
    ] == [
        "1-0",
        "1-1",
        "1-2",
    ]
