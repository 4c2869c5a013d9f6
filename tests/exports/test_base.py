"""What every export does: options, places, what is beside it, what it never writes over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pytest

from tests.test_storage import largest_file
from wordmill import plugins
from wordmill.datasets import Dataset, export
from wordmill.errors import ExportError, StorageError, UnknownName
from wordmill.exports.base import Export, ExportResult
from wordmill.exports.csv import Csv, CsvOptions
from wordmill.exports.jsonl import Jsonl
from wordmill.exports.tables import TableOptions
from wordmill.types import Row

FORMATS = ["csv", "dpo", "jsonl", "parquet", "sft"]
OPTIONS = {"sft": {"variant": "any"}}


def test_every_format_of_the_table_is_there() -> None:
    assert [name for name in FORMATS if name in plugins.names("exports")] == FORMATS
    for name in FORMATS:
        found = plugins.load("exports", name)
        assert issubclass(found, Export)
        assert found.name == name


@pytest.mark.parametrize("form", FORMATS)
def test_each_leaves_a_note_that_says_where_it_comes_from(
    scenarios: Dataset, tmp_path: Path, form: str
) -> None:
    result = export(scenarios, form, tmp_path / "out", OPTIONS.get(form))
    note = orjson.loads((tmp_path / "out" / "export.json").read_bytes())
    assert result.note == tmp_path / "out" / "export.json"
    assert note["format"] == form
    assert note["files"] == [path.name for path in result.files]
    assert note["rows"] == result.rows
    assert note["skipped"] == result.skipped
    assert note["options"] == OPTIONS.get(form, {})
    assert note["rehearsal"] is True
    assert note["rehearsed_rows"] == 60
    assert note["source"] == {
        "folder": str(scenarios.folder),
        "run": "77c1",
        "recipe": "rlhi",
        "digest": "a0" * 16,
        "seed": 11,
        "models": ["mock"],
        "rows": 60,
        "ended": "",
    }
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == sorted([*note["files"], "export.json"])


def test_a_file_has_its_linked_tables_and_its_note_beside_it(
    scenarios: Dataset, tmp_path: Path
) -> None:
    export(scenarios, "jsonl", tmp_path / "all.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "all.actions.jsonl",
        "all.comparison.jsonl",
        "all.export.json",
        "all.jsonl",
    ]


def test_a_folder_can_be_exported_from_and_to(scenarios: Dataset, tmp_path: Path) -> None:
    (tmp_path / "v1.0").mkdir()
    result = export(scenarios.folder, "csv", tmp_path / "v1.0")
    assert [path.name for path in result.files] == [
        "scenarios.csv",
        "actions.csv",
        "comparison.csv",
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_may_be_written_again(scenarios: Dataset, tmp_path: Path, form: str) -> None:
    for to in (tmp_path / "folder", tmp_path / "file.data"):
        first = export(scenarios, form, to, OPTIONS.get(form))
        assert export(scenarios, form, to, OPTIONS.get(form)) == first


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_of_others_is_written_over(scenarios: Dataset, tmp_path: Path, form: str) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text("the only copy")
    with pytest.raises(ExportError) as caught:
        export(scenarios, form, mine, OPTIONS.get(form))
    assert str(caught.value) == (
        f"{mine} exists and is no export of Wordmill's. Remove it, or name another place with --to."
    )
    assert mine.read_text() == "the only copy"
    assert list(tmp_path.iterdir()) == [mine]


def test_a_file_in_the_folder_that_is_not_ours(scenarios: Dataset, tmp_path: Path) -> None:
    (tmp_path / "sft.jsonl").write_text("the only copy")
    with pytest.raises(ExportError, match=r"sft\.jsonl exists and is no export"):
        export(scenarios, "sft", tmp_path)


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"files": ["sft.jsonl"]}'])
def test_a_note_that_is_not_ours(scenarios: Dataset, tmp_path: Path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(ExportError, match=r"export\.json exists and is no export"):
        export(scenarios, "sft", tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_nothing(scenarios: Dataset, tmp_path: Path, form: str) -> None:
    to = tmp_path / "out"
    with largest_file(4000), pytest.raises(StorageError) as caught:
        export(scenarios, form, to, OPTIONS.get(form))
    assert str(caught.value).endswith(
        " would pass the limit on the size of a file (`ulimit -f`). "
        "The dataset is unharmed: export again when there is room, or elsewhere with --to."
    )
    assert list(to.iterdir()) == []


def test_an_unknown_format_has_a_near_name(scenarios: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        export(scenarios, "jsonlines", tmp_path)
    assert str(caught.value) == "There is no export 'jsonlines'. Did you mean 'jsonl'?"


@pytest.mark.parametrize(
    ("form", "options", "sentence"),
    [
        ("sft", {"systm": "x"}, "The format 'sft' has no option 'systm'. Did you mean 'system'?"),
        (
            "csv",
            {"safe": "perhaps"},
            "The option safe of the format 'csv' cannot be 'perhaps': Input should be a ",
        ),
        (
            "dpo",
            {"margin": "-1"},
            "The option margin of the format 'dpo' cannot be '-1': Input should be greater than 0.",
        ),
        (
            "sft",
            {"plain": "yes"},
            "The options of the format 'sft' do not fit: plain goes with form=prompt-completion.",
        ),
        (
            "jsonl",
            {"columns": "scenario, wrds"},
            "There is no column 'wrds' in 'scenarios'; it has row, kept, scope, severity,",
        ),
    ],
    ids=lambda value: str(value)[:12],
)
def test_options_that_do_not_fit(
    scenarios: Dataset, tmp_path: Path, form: str, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ExportError) as caught:
        export(scenarios, form, tmp_path / "out", options)
    assert str(caught.value).startswith(sentence)
    assert not (tmp_path / "out").exists()


def test_the_result_is_said_in_a_sentence(scenarios: Dataset, tmp_path: Path) -> None:
    result = export(scenarios, "sft", tmp_path / "sft.jsonl")
    assert result.sentence() == (
        f"Wrote 58 rows as sft: {tmp_path}/sft.jsonl. Left out: 120 of another variant, 2 without "
        "an answer. 60 of the dataset's rows hold answers of the rehearsal model: filler, not to "
        "train on."
    )
    plain = ExportResult("csv", 1, {}, (Path("a.csv"),), Path("a.export.json"))
    assert plain.sentence() == "Wrote 1 row as csv: a.csv."


class Forgetful(Jsonl):
    """Leaves out the first row."""

    def begin(
        self, file: BinaryIO, columns: list[str], options: TableOptions
    ) -> Callable[[Row], None]:
        write = super().begin(file, columns, options)
        return lambda row: write(row) if row["row"] else None


class Misnamed(Csv):
    """Another header than the table's."""

    def begin(
        self, file: BinaryIO, columns: list[str], options: CsvOptions
    ) -> Callable[[Row], None]:
        write = super().begin(file, ["x", *columns[1:]], options)
        return lambda row: write({"x": 0, **row})


@pytest.mark.parametrize(("exporter", "found"), [(Forgetful, "2,499"), (Misnamed, "0")])
def test_what_does_not_read_back_is_not_left_behind(
    tickets: Dataset, tmp_path: Path, exporter: type[Export[Any]], found: str
) -> None:
    ending = exporter.ending
    with pytest.raises(ExportError) as caught:
        exporter().write(tickets, tmp_path / f"t{ending}", {"all": "true"})
    assert str(caught.value).startswith(
        f"t{ending} does not read back: 2,500 rows were written, and {found} hold its columns. "
    )
    assert not list(tmp_path.glob(f"*{ending}*"))
