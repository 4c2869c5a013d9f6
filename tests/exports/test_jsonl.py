"""JSON Lines."""

from pathlib import Path
from types import ModuleType

import orjson

from tests.datasets.made import scenario, ticket
from wordmill.datasets import Dataset, export


def lines(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_only_kept_rows_leave(tickets: Dataset, tmp_path: Path) -> None:
    result = export(tickets, "jsonl", tmp_path / "t.jsonl")
    rows = lines(tmp_path / "t.jsonl")
    made = [ticket(row, size=60) for row in range(2500)]
    kept = [row for row in made if row["kept"]]
    assert [row["row"] for row in rows] == [row["row"] for row in kept]
    assert result.rows == len(kept)
    assert result.skipped == {"not kept by keep": 2500 - len(kept)}


def test_all_rows_leave_when_asked(tickets: Dataset, tmp_path: Path) -> None:
    result = export(tickets, "jsonl", tmp_path / "t.jsonl", {"all": "true"})
    assert (result.rows, result.skipped) == (2500, {})
    row = lines(tmp_path / "t.jsonl")[13]
    made = ticket(13, size=60)
    assert row["urgency"] is None
    assert row["verdict"] == made["values"]["verdict"]
    assert row["errors"] == {"urgency": "schema: /level is not an integer"}
    assert row["lineage"]["cells"] == made["lineage"]  # type: ignore[index]


def test_chosen_columns_only(tickets: Dataset, tmp_path: Path) -> None:
    export(tickets, "jsonl", tmp_path / "t.jsonl", {"columns": "ticket, mood"})
    assert list(lines(tmp_path / "t.jsonl")[0]) == ["ticket", "mood"]
    export(tickets, "jsonl", tmp_path / "t.jsonl", {"lineage": "no"})
    assert "lineage" not in lines(tmp_path / "t.jsonl")[0]


def test_linked_tables_are_files_of_their_own(scenarios: Dataset, tmp_path: Path) -> None:
    export(scenarios, "jsonl", tmp_path / "out")
    actions = lines(tmp_path / "out" / "actions.jsonl")
    assert [action["id"] for action in actions[:4]] == ["0-0", "0-1", "0-2", "1-0"]
    assert actions[4]["score"] == scenario(1)["values"]["score"][1]
    main = lines(tmp_path / "out" / "scenarios.jsonl")
    assert main[1]["actions"] == ["1-0", "1-1", "1-2"]


def test_the_library_reads_it(scenarios: Dataset, tmp_path: Path, hub: ModuleType) -> None:
    export(scenarios, "jsonl", tmp_path / "out", {"lineage": "no"})
    for table, rows in (("scenarios", 60), ("actions", 180), ("comparison", 168)):
        file = str(tmp_path / "out" / f"{table}.jsonl")
        cache = str(tmp_path / "cache")
        assert hub.load_dataset("json", data_files=file, cache_dir=cache)["train"].num_rows == rows
