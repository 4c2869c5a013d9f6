"""Row records become a dataset folder."""

import gc
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.datasets.made import (
    ACTION,
    SCENARIOS,
    SUMMARY,
    TICKETS,
    as_bytes,
    lineage,
    scenario,
    ticket,
)
from tests.test_storage import largest_file
from wordmill.datasets import ColumnInfo, DatasetInfo, DatasetResult, DatasetWriter, open_dataset
from wordmill.datasets.writer import GROUP_ROWS
from wordmill.errors import RecipeError, StorageError


def write(
    folder: Path, info: DatasetInfo, records: list[dict[str, Any]], **options: int
) -> DatasetResult:
    with DatasetWriter(folder, info, **options) as writer:  # type: ignore[arg-type]
        writer.add(as_bytes(records))
        return writer.finish(SUMMARY)


def one_column(schema: dict[str, Any], kind: str = "prompt") -> DatasetInfo:
    return DatasetInfo(name="one", columns=(ColumnInfo("value", kind, schema),))


def record(row: int, value: Any, **more: Any) -> dict[str, Any]:
    return {
        "row": row,
        "values": {"value": value},
        "errors": {},
        "kept": None,
        "lineage": {},
    } | more


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_what_a_run_leaves_behind(tmp_path: Path) -> None:
    result = write(tmp_path, TICKETS, [ticket(row) for row in range(200)])
    assert names(tmp_path) == [
        "README.md",
        "data/rows-00000.parquet",
        "failed.jsonl",
        "recipe.yaml",
        "report.html",
        "report.json",
        "run.json",
    ]
    table = pq.read_table(tmp_path / "data/rows-00000.parquet")
    assert table.schema.names == [
        "row", "kept", "product", "mood", "ticket", "urgency", "verdict", "errors", "lineage",
    ]  # fmt: skip
    assert str(table.schema.field("urgency").type) == "struct<level: int64>"
    assert table["row"].to_pylist() == list(range(200))
    expected = [ticket(row) for row in range(200)]
    assert table["ticket"].to_pylist() == [r["values"]["ticket"] for r in expected]
    assert table["kept"].to_pylist() == [r["kept"] for r in expected]
    errors = [None if e is None else orjson.loads(e) for e in table["errors"].to_pylist()]
    assert errors == [r["errors"] or None for r in expected]
    assert (tmp_path / "recipe.yaml").read_text() == TICKETS.recipe
    assert result.rows == 200
    assert result.kept + result.turned_down == 200
    assert (result.failed_rows, result.failed) == (6, 10)
    assert result.causes == {
        "urgency": {"schema": 4, "needs": 2},
        "ticket": {"refused": 2},
        "verdict": {"needs": 2},
    }
    assert result.found == {"schema": 8, "refused": 2}
    assert result.files == (tmp_path / "data/rows-00000.parquet",)


def test_each_row_has_its_lineage(tmp_path: Path) -> None:
    write(tmp_path, TICKETS, [ticket(row) for row in range(14)])
    (row,) = open_dataset(tmp_path).table().rows(13, 14)
    assert row["lineage"] == {
        "seed": 7,
        "cells": ticket(13)["lineage"],
        "found": {"schema": 2},
    }


def test_failed_rows_are_in_a_file_again(tmp_path: Path) -> None:
    write(tmp_path, TICKETS, [ticket(row) for row in range(100)])
    lines = [orjson.loads(line) for line in (tmp_path / "failed.jsonl").read_bytes().splitlines()]
    assert [line["row"] for line in lines] == [13, 63, 77]
    assert lines[2] == {
        "row": 77,
        "values": ticket(77)["values"],
        "errors": {
            "ticket": "refused: I'm sorry, but I can't help with that.",
            "urgency": "needs: ticket",
            "verdict": "needs: ticket",
        },
    }


def test_shards_are_cut_by_rows_and_have_one_schema(tmp_path: Path) -> None:
    write(tmp_path, SCENARIOS, [scenario(row) for row in range(25)], shard_rows=10)
    for table in ("scenarios", "actions", "comparison"):
        files = [tmp_path / f"data/{table}-{n:05d}.parquet" for n in range(3)]
        schemas = {str(pq.read_schema(file)) for file in files}
        assert len(schemas) == 1
        rows = [row for file in files for row in pq.read_table(file)["row"].to_pylist()]
        assert rows == sorted(rows)
        assert set(rows) == set(range(25))
    counts = [pq.read_metadata(tmp_path / f"data/scenarios-{n:05d}.parquet") for n in range(3)]
    assert [meta.num_rows for meta in counts] == [10, 10, 5]


def test_shards_are_cut_by_bytes(tmp_path: Path) -> None:
    records = [record(row, "x" * 1_000_000) for row in range(12)]
    result = write(tmp_path, one_column({"type": "string"}), records, shard_bytes=5_000_000)
    assert [pq.read_metadata(file).num_rows for file in result.files] == [5, 5, 2]


def test_two_tables_are_joined_by_id(tmp_path: Path) -> None:
    write(tmp_path, SCENARIOS, [scenario(row) for row in range(20)])
    main = pq.read_table(tmp_path / "data/scenarios-00000.parquet").to_pylist()
    actions = pq.read_table(tmp_path / "data/actions-00000.parquet")
    assert actions.schema.names == [
        "row", "item", "id", "variant", "text", "considerations", "action", "error", "score",
    ]  # fmt: skip
    assert "score" not in main[0]
    by_id = {item["id"]: item for item in actions.to_pylist()}
    assert len(by_id) == 60
    for row in range(20):
        values = scenario(row)["values"]
        assert main[row]["actions"] == [f"{row}-{item}" for item in range(3)]
        for item in range(3):
            found = by_id[f"{row}-{item}"]
            assert (found["row"], found["item"]) == (row, item)
            assert found["action"] == values["actions"][item]["action"]
            assert found["error"] == values["actions"][item]["error"]
            assert found["score"] == values["score"][item]


def test_items_without_an_id_get_one(tmp_path: Path) -> None:
    write(tmp_path, SCENARIOS, [scenario(row) for row in range(2)])
    table = pq.read_table(tmp_path / "data/comparison-00000.parquet")
    assert table["id"].to_pylist() == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]


def test_a_failed_item_is_counted_and_told(tmp_path: Path) -> None:
    result = write(tmp_path, SCENARIOS, [scenario(row) for row in range(10)])
    assert (result.failed_rows, result.failed) == (1, 1)
    assert result.causes == {"actions": {"section": 1}}
    (line,) = (tmp_path / "failed.jsonl").read_bytes().splitlines()
    assert orjson.loads(line)["errors"] == {"actions[2]": "section: no heading ACTION"}


def test_a_linked_table_without_items_has_no_file(tmp_path: Path) -> None:
    records = [scenario(row) for row in range(3)]
    for made in records:
        made["values"]["comparison"] = None
    result = write(tmp_path, SCENARIOS, records)
    assert result.tables == {"scenarios": 3, "actions": 9}
    assert not (tmp_path / "data/comparison-00000.parquet").exists()
    assert [row["comparison"] for row in open_dataset(tmp_path).table().rows()] == [None] * 3


def test_values_that_do_not_fit_are_null_with_their_reason(tmp_path: Path) -> None:
    records = [ticket(0, faults=False), ticket(1, faults=False), ticket(2, faults=False)]
    records[1]["values"]["urgency"] = {"level": "high"}
    records[2]["values"]["verdict"] = [1, 2]
    result = write(tmp_path, TICKETS, records)
    rows = list(open_dataset(tmp_path).table().rows())
    assert rows[0]["errors"] is None
    assert rows[1]["urgency"] is None
    assert rows[1]["errors"] == {"urgency": 'type: /level is "high", not an integer'}
    assert rows[1]["lineage"]["left_out"] == {"urgency": {"": {"level": "high"}}}
    assert rows[2]["errors"] == {"verdict": "type: the value is [1,2], not an object"}
    assert result.causes == {"urgency": {"type": 1}, "verdict": {"type": 1}}


def test_items_that_do_not_fit_are_told_by_their_place(tmp_path: Path) -> None:
    made = scenario(0)
    made["values"]["actions"][1] |= {"text": 5, "variant": 6}
    made["values"]["actions"][0]["mood"] = "odd"
    made["values"]["score"] = [{"suffering": "much"}]
    write(tmp_path, SCENARIOS, [made, scenario(1) | {"row": 1}])
    dataset = open_dataset(tmp_path)
    row = next(dataset.table().rows())
    assert row["errors"] == {
        "actions[1]": "type: /variant is 6, not a string",
        "score[0]": 'type: /suffering is "much", not an integer',
    }
    assert row["lineage"]["left_out"] == {
        "actions[0]": {"/mood": "odd"},
        "actions[1]": {"/text": 5, "/variant": 6},
        "score[0]": {"": {"suffering": "much"}},
    }
    items = list(dataset.table("actions").rows(0, 1))
    assert [item["text"] is None for item in items] == [False, True, False]
    assert [item["score"] for item in items] == [None, None, None]


@pytest.mark.parametrize("broken", ["text", {"a": 1}, 7])
def test_a_linked_value_that_is_no_list_is_told(tmp_path: Path, broken: Any) -> None:
    made = scenario(0)
    made["values"]["actions"] = broken
    made["values"]["score"] = [None] * 3
    write(tmp_path, SCENARIOS, [made])
    row = next(open_dataset(tmp_path).table().rows())
    assert row["actions"] is None
    assert row["errors"] == {
        "actions": "type: it is not a list of objects",
        "score": "type: it is not a list of 0 items",
    }
    assert row["lineage"]["left_out"] == {"actions": {"": broken}, "score": {"": [None] * 3}}


def test_an_item_that_is_no_object_is_told(tmp_path: Path) -> None:
    made = scenario(0)
    made["values"]["actions"][1] = "text alone"
    made["values"]["actions"][2] = None
    write(tmp_path, SCENARIOS, [made])
    row = next(open_dataset(tmp_path).table().rows())
    assert row["actions"] == ["0-0", "0-1", "0-2"]
    assert row["errors"] == {"actions[1]": "type: it is not an object"}
    assert row["lineage"]["left_out"] == {"actions[1]": {"": "text alone"}}


def test_items_that_are_no_objects_are_kept_as_values(tmp_path: Path) -> None:
    info = DatasetInfo(
        name="lists",
        columns=(ColumnInfo("tags", "candidates", {}, table={"type": "string"}),),
    )
    write(tmp_path, info, [{"row": 0, "values": {"tags": ["a", {"b": 1}]}}])
    items = list(open_dataset(tmp_path).table("tags").rows())
    assert [item["value"] for item in items] == ["a", {"b": 1}]


def test_any_text_survives(tmp_path: Path) -> None:
    texts = [
        "",
        "\0",
        "a\0b",
        "\u2028\u0085\r\n\t",
        "👩‍👩‍👧‍👦 é \U0010ffff",
        "שלום",
        '"}],\\',
        "\ufeff",
    ]
    write(tmp_path, one_column({"type": "string"}), [record(n, t) for n, t in enumerate(texts)])
    assert [row["value"] for row in open_dataset(tmp_path).table().rows()] == texts


def test_where_nothing_is_known_the_first_rows_decide(tmp_path: Path) -> None:
    records = [record(0, {"city": "Rome", "size": 2}), record(1, {"city": "Oslo", "size": 1})]
    write(tmp_path, one_column({}, "seed"), records)
    table = pq.read_table(tmp_path / "data/rows-00000.parquet")
    assert str(table.schema.field("value").type) == "struct<city: string, size: int64>"


def test_what_comes_later_and_differs_is_not_lost(tmp_path: Path) -> None:
    records = [record(row, f"text {row}") for row in range(GROUP_ROWS)]
    records.append(record(GROUP_ROWS, {"late": True}))
    write(tmp_path, one_column({}, "python"), records)
    (row,) = open_dataset(tmp_path).table().rows(GROUP_ROWS)
    assert row["value"] is None
    assert row["errors"] == {"value": 'type: the value is {"late":true}, not a string'}
    assert row["lineage"]["left_out"] == {"value": {"": {"late": True}}}


def test_mixed_values_are_json_text(tmp_path: Path) -> None:
    values = ["a", 1, None, [True], {"b": {}}]
    write(tmp_path, one_column({}), [record(n, v) for n, v in enumerate(values)])
    table = pq.read_table(tmp_path / "data/rows-00000.parquet")
    assert table["value"].to_pylist() == ['"a"', "1", None, "[true]", '{"b":{}}']
    assert [row["value"] for row in open_dataset(tmp_path).table().rows()] == values


def test_rows_that_were_not_made_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, TICKETS, [ticket(0), ticket(5), ticket(9)])
    assert [row["row"] for row in open_dataset(tmp_path).table().rows()] == [0, 5, 9]


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row records must come in row order, after row -1"):
        write(tmp_path, TICKETS, [ticket(1), ticket(0)])
    assert names(tmp_path) == []


def test_without_any_row_there_is_a_dataset_with_the_columns(tmp_path: Path) -> None:
    result = write(tmp_path, SCENARIOS, [])
    assert result.tables == {"scenarios": 0}
    table = pq.read_table(tmp_path / "data/scenarios-00000.parquet")
    assert table.num_rows == 0
    assert "scenario" in table.schema.names


def test_a_shorter_dataset_replaces_a_longer_one(tmp_path: Path) -> None:
    write(tmp_path, SCENARIOS, [scenario(row) for row in range(30)], shard_rows=10)
    (tmp_path / "data" / "mine.parquet").write_bytes(b"not yours")
    (tmp_path / "data" / ".scenarios-00007.parquet.99.part").write_bytes(b"of a killed process")
    write(tmp_path, SCENARIOS, [scenario(row) for row in range(5)], shard_rows=10)
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [
        "actions-00000.parquet",
        "comparison-00000.parquet",
        "mine.parquet",
        "scenarios-00000.parquet",
    ]


def test_a_folder_in_the_making_is_no_dataset(tmp_path: Path) -> None:
    write(tmp_path, TICKETS, [ticket(0)])
    with DatasetWriter(tmp_path, TICKETS) as writer:
        writer.add(as_bytes([ticket(0)]))
        with pytest.raises(StorageError) as caught:
            open_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds no finished dataset: it has no run.json. A run that was stopped writes "
        "it when it is done; `wordmill runs list` shows which runs can go on."
    )


def test_an_unfinished_writer_leaves_no_parts(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, TICKETS, shard_rows=50) as writer:
        writer.add(as_bytes([ticket(row) for row in range(75)]))
    assert names(tmp_path) == ["data/rows-00000.parquet"]


def test_run_json_says_what_came_of_it(tmp_path: Path) -> None:
    summary = replace(
        SUMMARY,
        models=(
            replace(SUMMARY.models[0], base_url="https://me:secret@api.example/v1?key=secret#x"),
        ),
        wanted=100,
        ended="The ceiling of 5 USD was reached.",
        budget={"money": 5.0},
        retried={"throttled": 4},
    )
    with DatasetWriter(tmp_path, TICKETS) as writer:
        writer.add([ticket(row) for row in range(80)])
        writer.finish(summary)
    text = (tmp_path / "run.json").read_text()
    assert "secret" not in text
    run = orjson.loads(text)
    assert run["recipe"]["digest"] == "5f" * 16
    assert run["models"] == [
        {
            "name": "mock",
            "provider": "openai",
            "model": "mock-1",
            "base_url": "https://api.example/v1",
            "price_in": 0.15,
            "price_out": 0.6,
        }
    ]
    assert run["rehearsal"] == {"rows": 0, "models": []}
    assert run["ended"] == "The ceiling of 5 USD was reached."
    assert run["rows"]["wanted"] == 100
    assert run["rows"]["made"] == 80
    assert run["budget"] == {"money": 5.0}
    assert run["requests"]["retried"] == {"throttled": 4}
    assert run["tables"] == {"rows": {"rows": 80, "files": ["data/rows-00000.parquet"]}}
    cost = next(cost for cost in run["costs"] if cost["column"] == "ticket")
    cells = [ticket(row)["lineage"]["ticket"] for row in range(80)]
    assert cost["model"] == "mock"
    assert cost["cells"] == 80
    assert cost["output_tokens"] == sum(cell["output_tokens"] for cell in cells)
    assert cost["money"] == pytest.approx(0.008)


def test_rehearsed_rows_are_counted(tmp_path: Path) -> None:
    records = [ticket(row, model="rehearsal" if row < 4 else "mock") for row in range(10)]
    assert write(tmp_path, TICKETS, records).rehearsed == 4
    dry = replace(TICKETS, rehearsal=frozenset({"mock", "rehearsal"}))
    assert write(tmp_path, dry, records).rehearsed == 10


def test_lineage_of_several_models_and_of_nothing(tmp_path: Path) -> None:
    info = one_column({"type": "string"})
    rng = random.Random(1)
    cells = [
        lineage(rng, asked=2, model="a"),
        [lineage(rng, model="b"), None, lineage(rng, model="a")],
        None,
        [],
    ]
    records = [record(n, "x", lineage={"value": cell}) for n, cell in enumerate(cells)]
    write(tmp_path, info, records)
    costs = orjson.loads((tmp_path / "run.json").read_bytes())["costs"]
    assert [(c["model"], c["cells"], c["asked"]) for c in costs] == [("a", 2, 3), ("b", 1, 1)]


ITEMS = ColumnInfo("actions", "candidates", table=ACTION)
PARTS = {
    "RESERVED": "(errors, kept, lineage, row). Rename it.",
    "A_NAME": "it may hold letters, digits, _ and -, and begins with a letter.",
    "AND_THE_MAIN": "and the main table has that name already",
    "TAKEN": "and these have a field of that name already (action, considerations, error, id, "
    "item, row, text, variant)",
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"columns": (ColumnInfo("lineage", "prompt"),)},
            "The column 'lineage' has the name of one that every dataset has {RESERVED}",
        ),
        (
            {"table": "../rows"},
            "The table '../rows' becomes the name of files: {A_NAME}",
        ),
        (
            {"columns": (replace(ITEMS, name="a/b"),)},
            "The column 'a/b' becomes a table and so the name of files: {A_NAME}",
        ),
        (
            {"columns": (replace(ITEMS, name="rows"),)},
            "The column 'rows' becomes a table of its own, {AND_THE_MAIN}. Rename one of them.",
        ),
        (
            {"columns": (ColumnInfo("score", "judge", joins="actions"),)},
            "The column 'score' belongs to the items of 'actions', which is no column with items.",
        ),
        (
            {"columns": (ITEMS, ColumnInfo("text", "judge", joins="actions"))},
            "The column 'text' belongs to the items of 'actions', {TAKEN}. Rename it.",
        ),
    ],
)
def test_names_that_no_dataset_can_hold(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        replace(TICKETS, **change)
    assert str(caught.value) == sentence.format(**PARTS)


THEN = "Every answer is kept: make room, then `wordmill resume 3f9a` goes on."


def test_a_full_disk_is_a_sentence_and_leaves_no_parts(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, TICKETS, then=THEN)
    records = as_bytes([ticket(row) for row in range(GROUP_ROWS)])
    with writer, largest_file(100_000), pytest.raises(StorageError) as caught:
        writer.add(records)
    assert str(caught.value) == (
        f"{tmp_path}/data/rows-00000.parquet would pass the limit on the size of a file "
        f"(`ulimit -f`). {THEN}"
    )
    gc.collect()  # a writer that is collected late must not write again
    assert names(tmp_path) == []
    assert write(tmp_path, TICKETS, [ticket(0)]).rows == 1


def test_a_disk_that_is_full_at_the_very_end(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, TICKETS, then=THEN)
    with writer:
        writer.add(as_bytes([ticket(row, size=20) for row in range(10)]))
        with largest_file(15_000), pytest.raises(StorageError) as caught:
            writer.finish(SUMMARY)
    assert str(caught.value) == (
        f"{tmp_path}/report.html would pass the limit on the size of a file (`ulimit -f`). {THEN}"
    )
    assert "run.json" not in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError) as caught:
        DatasetWriter(tmp_path / "out", TICKETS, then=THEN)
    assert str(caught.value) == (
        f"{tmp_path}/out is a file, so {tmp_path}/out/data cannot be made below it. {THEN}"
    )


def test_warming_up_leaves_little_for_the_first_dataset(tmp_path: Path) -> None:
    code = (
        "import sys, time, tests.datasets.made as made, wordmill.datasets as datasets\n"
        "from pathlib import Path\n"
        "loaded = 'pyarrow' in sys.modules\n"
        "datasets.warm_up()\n"
        "before = set(sys.modules)\n"
        "with datasets.DatasetWriter(Path(sys.argv[1]), made.TICKETS) as writer:\n"
        "    writer.add([made.ticket(0)])\n"
        "    writer.finish(made.SUMMARY)\n"
        "heavy = ('pyarrow', 'pandas', 'numpy', 'jinja2')\n"
        "print(loaded, [m for m in set(sys.modules) - before if m.startswith(heavy)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("False []\n", "")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    info = replace(TICKETS, columns=TICKETS.columns[:3])

    def held(rows: int) -> int:
        with DatasetWriter(tmp_path / str(rows), info, shard_rows=5000) as writer:
            made = as_bytes([ticket(row, size=30) for row in range(500)])
            heads = [text[text.index(b",") :] for text in made]
            tracemalloc.start()
            writer.add(b'{"row":%d%b' % (row, heads[row % 500]) for row in range(rows))
            gc.collect()
            size, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return size

    small, large = held(10_000), held(20_000)
    assert large < small * 1.1 + 100_000
    assert pa.total_allocated_bytes() < 4_000_000


def test_the_rows_shown_are_drawn_by_the_seed(tmp_path: Path) -> None:
    shown: Counter[str] = Counter()
    for folder in ("a", "b"):
        write(tmp_path / folder, TICKETS, [ticket(row) for row in range(300)])
        shown[(tmp_path / folder / "report.html").read_text()] += 1
    assert list(shown.values()) == [2]
