"""Seed rows: files of all kinds, orders, what happens at their end, and what is wrong in them."""

import os
import resource
import time
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.columns.filled import cells, filled, maker
from wordmill.columns.category import Category
from wordmill.columns.seed import Seed
from wordmill.errors import RecipeError, RecipeErrors
from wordmill.types import CellError, Value

PEOPLE = [
    {"name": "Ann", "city": "Rome"},
    {"name": "Bo", "city": "Oslo"},
    {"name": "Cé", "city": ""},
]


@pytest.fixture(params=["people.csv", "people.tsv", "people.jsonl", "people.parquet", "semi.csv"])
def people(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file of three people, in each format."""
    texts = {
        "people.csv": "name,city\nAnn,Rome\nBo,Oslo\nCé,\n",
        "semi.csv": "name;city\r\nAnn;Rome\r\nBo;Oslo\r\nCé;",
        "people.tsv": "name\tcity\nAnn\tRome\nBo\tOslo\nCé\t\n",
        "people.jsonl": '{"name":"Ann","city":"Rome"}\n{"name":"Bo","city":"Oslo"}\n'
        '{"name":"C\\u00e9","city":""}',
    }
    path = tmp_path / request.param
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(PEOPLE), path, row_group_size=2)
    else:
        path.write_text(texts[path.name])
    return path.name


def test_rows_in_order(people: str, tmp_path: Path) -> None:
    assert cells(Seed(people), range(3), tmp_path) == PEOPLE
    assert cells(Seed(people), [2, 0], tmp_path) == [PEOPLE[2], PEOPLE[0]]


def test_the_end_of_the_file(people: str, tmp_path: Path) -> None:
    used_up = CellError(
        "seed", f"{people} is used up after 3 rows; ask for fewer rows, or write `repeat: cycle`"
    )
    assert cells(Seed(people), [1, 3, 4], tmp_path) == [PEOPLE[1], used_up, used_up]
    assert cells(Seed(people, order="sampled"), [3], tmp_path) == [used_up]
    assert cells(Seed(people, repeat="cycle"), range(7), tmp_path) == [*PEOPLE, *PEOPLE, PEOPLE[0]]


def test_columns_picked_and_renamed(people: str, tmp_path: Path) -> None:
    assert cells(Seed(people, columns=["city"]), [0], tmp_path) == [{"city": "Rome"}]
    renamed = Seed(people, columns={"who": "name", "again": "name"})
    assert cells(renamed, [1], tmp_path) == [{"who": "Bo", "again": "Bo"}]
    with pytest.raises(RecipeError, match="'nme'"):
        maker({"x": Seed(people, columns=["nme"])}, "x", tmp_path)


def test_sampled_takes_each_row_once_before_any_again(people: str, tmp_path: Path) -> None:
    column = Seed(people, order="sampled", repeat="cycle", columns=["name"])
    names = [value["name"] for value in cells(column, range(60), tmp_path)]
    rounds = [tuple(names[start : start + 3]) for start in range(0, 60, 3)]
    assert all(sorted(one) == ["Ann", "Bo", "Cé"] for one in rounds)
    assert len(set(rounds)) > 3


def test_crossed_files_go_through_every_pair(people: str, tmp_path: Path) -> None:
    (tmp_path / "tones.csv").write_text("tone\ncalm\nangry\n")
    columns = {
        "tone": Seed("tones.csv", order="crossed", repeat="cycle"),
        "person": Seed(people, order="crossed"),
        "size": Category([1, 2], draw="crossed"),
    }
    rows = filled(columns, range(13), tmp_path)
    found = [(row["person"]["name"], row["size"], row["tone"]["tone"]) for row in rows[:12]]
    assert found == [
        (name, size, tone)
        for name in ("Ann", "Bo", "Cé")
        for size in (1, 2)
        for tone in ("calm", "angry")
    ]
    assert rows[12]["tone"] == {"tone": "calm"}
    assert str(rows[12]["person"]) == (
        f"seed: {people} is used up after 12 rows; ask for fewer rows, or write `repeat: cycle`"
    )


@pytest.mark.parametrize("order", ["in_order", "sampled", "crossed"])
@pytest.mark.parametrize("window", [1, 7, 512])
def test_a_row_is_the_same_in_any_window_and_order(
    people: str, tmp_path: Path, order: str, window: int
) -> None:
    columns = {"x": Seed(people, order=order, repeat="cycle")}
    rows = filled(columns, range(50), tmp_path)
    assert filled(columns, range(50), tmp_path, window=window) == rows
    assert filled(columns, range(49, -1, -1), tmp_path, window=window)[::-1] == rows


def test_csv_with_line_breaks_quotes_and_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b'\xef\xbb\xbfname,text\r\n\r\nAnn,"one\r\ntwo\nthree"\r\n\r\n\r\n'
        b'Bo,"a ""q"", b"\r\n"C",""\r\n\r\n'
    )
    assert cells(Seed("a.csv"), range(3), tmp_path) == [
        {"name": "Ann", "text": "one\r\ntwo\nthree"},
        {"name": "Bo", "text": 'a "q", b'},
        {"name": "C", "text": ""},
    ]


def test_jsonl_with_blank_lines_and_a_mark(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf\n{"a": 1}\n\n  \n{"a": [null, "x"]}\n\n')
    assert cells(Seed("a.jsonl"), [1, 0], tmp_path) == [{"a": [None, "x"]}, {"a": 1}]


def test_parquet_types_become_json(tmp_path: Path) -> None:
    table = pa.table({
        "day": [date(2024, 1, 2)],
        "at": [datetime(2024, 1, 2, 3, 4, tzinfo=UTC)],
        "price": [Decimal("1.50")],
        "tags": [[{"a": 1.5}]],
        "none": pa.array([None], pa.float64()),
        "big": [2**60],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    assert cells(Seed("a.parquet"), [0], tmp_path) == [
        {"day": "2024-01-02", "at": "2024-01-02T03:04:00+00:00", "price": "1.50",
         "tags": [{"a": 1.5}], "none": None, "big": 2**60}
    ]  # fmt: skip


def test_many_row_groups(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": list(range(1000))}), tmp_path / "a.parquet", row_group_size=37)
    order = Seed("a.parquet", order="sampled")
    drawn = [value["n"] for value in cells(order, range(1000), tmp_path)]
    assert sorted(drawn) == list(range(1000))
    assert drawn != list(range(1000))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", "'a.csv' has no rows; give it at least one."),
        ("a.csv", b"name,city\n", "'a.csv' has no rows; give it at least one."),
        ("a.jsonl", b"\n\n", "'a.jsonl' has no rows; give it at least one."),
        ("a.csv", b"name,city\nAnn,Rome\n\nBo\n",
         "'a.csv', line 4: it has 1 fields, and the header has 2."),
        ("a.csv", b'name,city\n"A\nnn",Rome\nBo,Oslo,3\n',
         "'a.csv', line 4: it has 3 fields, and the header has 2."),
        ("a.csv", b"name,city\nAnn,Rome\nB\xff,Oslo\n",
         "'a.csv', line 3: the byte 0xff is not UTF-8. Save the file as UTF-8."),
        ("a.csv", b'name,city\nAnn,"Rome\nBo,Oslo\n',
         "'a.csv', line 2: it is no CSV: unexpected end of data."),
        ("a.csv", b"name,name\n1,2\n", "'a.csv', line 1: the column 'name' stands there twice."),
        ("a.csv", b"name,\n1,2\n",
         "'a.csv', line 1: a column has no name; the first line names the columns."),
        ("a.jsonl", b'{"a": 1}\n{"a": NaN}\n',
         ("'a.jsonl', line 2: it is no JSON that we read: NaN is no JSON number; write null, or "
         "leave it out.")),
        ("a.jsonl", b'{"a": "\\ud83d"}\n',
         ("'a.jsonl', line 1: it is no JSON that we read: a lone surrogate (half of a "
         "\\ud83d\\ude00 pair) stands for no character.")),
        ("a.jsonl", b'{"a": 1}\n\n{"a": "\xc3("}\n',
         "'a.jsonl', line 3: the byte 0xc3 is not UTF-8. Save the file as UTF-8."),
        ("a.jsonl", b'{"a": 1}\n[1, 2]\n',
         "'a.jsonl', line 2: it must be a JSON object, not [1, 2]."),
        ("a.txt", b"a", "'a.txt' is no file of rows that we read: .csv, .tsv, .jsonl or .parquet."),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_found_before_the_run(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        maker({"x": Seed(name)}, "x", tmp_path)
    assert str(caught.value) == f"columns.x.file: {sentence}"


def test_broken_json_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1\n')
    with pytest.raises(RecipeError, match=r"'a\.jsonl', line 1: it is no JSON that we read: "):
        maker({"x": Seed("a.jsonl")}, "x", tmp_path)
    (tmp_path / "a.parquet").write_text("PAR1")
    with pytest.raises(RecipeError, match=r"'a\.parquet' is no Parquet file: "):
        maker({"x": Seed("a.parquet")}, "x", tmp_path)


def test_what_parquet_may_not_hold(tmp_path: Path) -> None:
    table = pa.table({"n": [1.0, 2.0, None, float("nan")], "image": [b"x"] * 4})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    for names, sentence in (
        (["n"], ("columns.x.file: 'a.parquet', row 3 (from 0): 'n' is nan, and JSON has no such "
         "number; make it null, or leave the column out with `columns`.")),
        (["image"], ("columns.x.columns: the column 'image' of 'a.parquet' is binary; leave it out "
         "with `columns`.")),
    ):  # fmt: skip
        with pytest.raises(RecipeError) as caught:
            maker({"x": Seed("a.parquet", columns=names)}, "x", tmp_path)
        assert str(caught.value) == sentence


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        maker({"x": Seed("none.csv")}, "x", tmp_path)
    assert str(caught.value) == (
        f"columns.x.file: there is no file 'none.csv'; the recipe's paths start in '{tmp_path}'."
    )


def test_names_that_the_file_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"name": 1}\n{"nam": 1}\n')
    with pytest.raises(RecipeError) as caught:
        maker({"x": Seed("a.jsonl", columns=["name"])}, "x", tmp_path)
    assert str(caught.value) == (
        "columns.x.file: 'a.jsonl', line 2: there is no 'name' in it. Did you mean 'nam'?"
    )


def test_a_file_that_changes_during_the_run(people: str, tmp_path: Path) -> None:
    filler = maker({"x": Seed(people)}, "x", tmp_path)
    path = tmp_path / people
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, ns=(1, 1))
    assert filler.fill([{"row": 0}]) == [
        CellError("seed", f"{people} was written to while the run was going; start a new run")
    ]
    path.unlink()
    (found,) = filler.fill([{"row": 0}])
    assert str(found).startswith(f"seed: {people} cannot be read any more: ")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "Seed: the option 'file' is missing."),
        ({"file": "a.csv", "order": "random"}, ("Seed: order: cannot be 'random'. There are: "
         "crossed, in_order, sampled.")),
        ({"file": "a.csv", "columns": []},
         "Seed: columns: name at least one column, or leave `columns` out for all."),
    ],
)  # fmt: skip
def test_options_that_are_refused(options: dict[str, Value], sentence: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        Seed(**options)
    assert str(caught.value.errors[0]) == sentence


def test_the_schema_of_its_values() -> None:
    assert Seed("a.csv").value_schema() == {}
    text = {"type": "string"}
    assert Seed("a.csv", columns=["a", "b"]).value_schema() == {
        "type": "object", "properties": {"a": text, "b": text},
    }  # fmt: skip
    assert Seed("a.jsonl", columns={"a": "b"}).value_schema() == {
        "type": "object", "properties": {"a": {}},
    }  # fmt: skip
    assert Seed("a.csv").needs() == frozenset()


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    """60 MB of JSONL, read in random order: what stays is 8 bytes a row."""
    line = b'{"id": "%06d", "text": "' + b"x" * 560 + b'"}\n'
    with (tmp_path / "big.jsonl").open("wb") as file:
        file.writelines(line % number for number in range(100_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    filler = maker({"x": Seed("big.jsonl", order="sampled")}, "x", tmp_path)
    found = filler.fill([{"row": row} for row in range(2000)])
    assert len(Counter(value["id"] for value in found)) == 2000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
    assert time.perf_counter() - started < 5
