"""Rows 0 to 9 with seed 7 of every column type, pinned: a change of sampling is seen here.

A value that changes breaks every dataset that somebody wants to make again, so it needs a good
reason and a line in the changelog. `python -m tests.columns.test_golden` writes them anew.
"""

import json
from pathlib import Path

import pytest

from tests.columns.filled import filled
from wordmill import plugins
from wordmill.columns.base import Column
from wordmill.types import Value

FOLDER = Path(__file__).parents[1] / "golden" / "columns"
FILES = sorted(FOLDER.glob("*.json"))


def cells_of(case: Value, folder: Path) -> list[Value]:
    """The cells of the case's last column, errors as text."""
    for name, text in case.get("files", {}).items():
        (folder / name).write_text(text)
    columns: dict[str, Column] = {
        name: plugins.load("columns", options["type"])(**options)
        for name, options in case["columns"].items()
    }
    last = list(columns)[-1]
    found = [row[last] for row in filled(columns, range(10), folder)]
    return json.loads(json.dumps(found, default=str))


CASES = [
    pytest.param(case, id=f"{path.stem}: {name}")
    for path in FILES
    for name, case in json.loads(path.read_text()).items()
]


@pytest.mark.parametrize("case", CASES)
def test_golden_rows(case: Value, tmp_path: Path) -> None:
    assert cells_of(case, tmp_path) == case["cells"]


def test_every_type_without_a_model_has_golden_rows() -> None:
    types = {
        name for name in plugins.names("columns") if not plugins.load("columns", name).asks_model
    }
    assert {path.stem for path in FILES} == types


def write() -> None:
    """Pin what is drawn now."""
    import tempfile

    for path in FILES:
        cases = json.loads(path.read_text())
        for case in cases.values():
            with tempfile.TemporaryDirectory() as folder:
                case["cells"] = cells_of(case, Path(folder))
        path.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write()
