"""A dataset folder, read again."""

import shutil
from pathlib import Path

import orjson
import pytest

from tests.datasets.made import scenario, ticket
from wordmill.datasets import Dataset, open_dataset
from wordmill.errors import StorageError, UnknownName


def test_all_rows_come_back_as_they_were(tickets: Dataset) -> None:
    rows = list(tickets.table().rows())
    assert [row["row"] for row in rows] == list(range(2500))
    for number in (0, 13, 77, 2499):
        made = ticket(number, size=60)
        assert {name: rows[number][name] for name in made["values"]} == made["values"]
        assert rows[number]["errors"] == (made["errors"] or None)
        assert rows[number]["kept"] == made["kept"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (995, 1005), (2499, 9999), (2500, 2600), (7, 7)])
def test_a_window_of_rows(tickets: Dataset, low: int, high: int) -> None:
    rows = [row["row"] for row in tickets.table().rows(low, high)]
    assert rows == list(range(low, min(high, 2500)))


def test_a_window_reads_no_other_files(tickets: Dataset, tmp_path: Path) -> None:
    shutil.copytree(tickets.folder, tmp_path / "copy")
    dataset = open_dataset(tmp_path / "copy")
    first, *_ = dataset.table().files
    groups = [row["row"] for row in dataset.table().rows(1200, 1203)]
    assert groups == [1200, 1201, 1202]
    first.write_bytes(b"PAR1 no more")
    with pytest.raises(StorageError) as caught:
        list(dataset.table().rows())
    assert str(caught.value).startswith(f"{first} is damaged (")
    assert str(caught.value).endswith(
        "Copy it again, or generate the dataset again: answers that are in the cache are not paid "
        "twice."
    )


def test_items_come_with_their_rows(scenarios: Dataset) -> None:
    for (row, items), number in zip(scenarios.walk(), range(60), strict=True):
        made = scenario(number)["values"]
        assert row["row"] == number
        assert [item["action"] for item in items["actions"]] == [
            item["action"] for item in made["actions"]
        ]
        assert [item["winner"] for item in items["comparison"]] == [
            pair["winner"] for pair in made["comparison"]
        ]


def test_a_walk_can_begin_in_the_middle(scenarios: Dataset) -> None:
    walked = list(scenarios.walk(30, 32))
    assert [row["row"] for row, _ in walked] == [30, 31]
    assert [item["id"] for item in walked[1][1]["actions"]] == ["31-0", "31-1", "31-2"]


def test_an_unknown_table_has_a_near_name(scenarios: Dataset) -> None:
    with pytest.raises(UnknownName) as caught:
        scenarios.table("acts")
    assert str(caught.value) == "There is no table 'acts'. Did you mean 'actions'?"


def test_a_missing_file_is_a_sentence(tickets: Dataset, tmp_path: Path) -> None:
    shutil.copytree(tickets.folder, tmp_path / "copy")
    dataset = open_dataset(tmp_path / "copy")
    dataset.table().files[1].unlink()
    with pytest.raises(StorageError) as caught:
        list(dataset.table().rows())
    assert str(caught.value) == f"{dataset.table().files[1]} does not exist."


def test_no_folder_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        open_dataset(tmp_path / "none")
    assert str(caught.value) == f"There is no folder {tmp_path}/none."


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"format": 9}, "format: Input should be 1"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"rows": {}}, "rows.wanted: Field required"),
    ],
)
def test_a_changed_run_json_is_refused(
    tickets: Dataset, tmp_path: Path, change: dict[str, object], place: str
) -> None:
    manifest = orjson.loads((tickets.folder / "run.json").read_bytes()) | change
    (tmp_path / "run.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(StorageError) as caught:
        open_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/run.json is not what this version of Wordmill writes ({place}). "
        "Was it changed by hand, or written by a newer version?"
    )


def test_a_run_json_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(StorageError, match="is not what this version of Wordmill writes"):
        open_dataset(tmp_path)


def test_the_columns_are_known_without_the_recipe(scenarios: Dataset) -> None:
    assert [(c.name, c.type, c.joins) for c in scenarios.columns] == [
        ("scope", "category", None),
        ("severity", "category", None),
        ("scenario", "prompt", None),
        ("actions", "candidates", None),
        ("score", "judge", "actions"),
        ("comparison", "judge", None),
    ]
    assert scenarios.rehearsed == 60
