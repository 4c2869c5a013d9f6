"""Functions of the user's: called with copies, and their failures kept to their rows."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.columns.filled import filled, maker
from wordmill.columns.category import Category
from wordmill.columns.files import fingerprint
from wordmill.columns.modules import source_of
from wordmill.columns.python import Python
from wordmill.errors import RecipeError, RecipeErrors
from wordmill.recipes import Recipe
from wordmill.runs.door import generate
from wordmill.types import CellError, Value

SHOP = '''
"""Functions of a recipe."""
import prices

def total(values):
    return prices.PRICES[values["product"]] * (values["row"] + 1)

def spoil(values):
    values["tags"].append("spoilt")
    return len(values["tags"])

def fails(values):
    if values["row"] == 1:
        raise KeyError("no  such\\nthing")
    return values["row"]

def many(rows):
    return [row["row"] * 10 for row in rows]

def too_few(rows):
    return []

def no_list(rows):
    return 3

def stops(rows):
    raise RuntimeError

async def later(values):
    return 1

def leaves(values):
    raise SystemExit(3)

def odd(values):
    return [float("nan"), float("inf"), {1: 2}, {1, 2}, "\\ud800", b"x", object, (1, (2,)),
            {"a": [None, True]}, "é", 2**70][values["row"]]

NUMBER = 3
'''


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    """A recipe's folder with a module; what importing it did is undone."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "prices.py").write_text("PRICES = {'laptop': 900}")
    (tmp_path / "broken.py").write_text("1 / 0")
    path = [*sys.path]
    yield tmp_path
    sys.path[:] = path
    for name in ("shop", "prices", "broken"):
        sys.modules.pop(name, None)


def test_a_function_gets_what_it_needs(shop: Path) -> None:
    columns = {"product": Category(["laptop"]), "total": Python("shop:total", needs=["product"])}
    assert columns["total"].needs() == {"product"}
    assert [row["total"] for row in filled(columns, range(3), shop)] == [900, 1800, 2700]


def test_a_function_gets_copies(shop: Path) -> None:
    filler = maker({"x": Python("shop:spoil", needs=["tags"])}, "x", shop)
    row = {"row": 0, "tags": ["a"]}
    assert filler.fill([row]) == [2]
    assert row == {"row": 0, "tags": ["a"]}


def test_what_it_raises_fails_its_row(shop: Path) -> None:
    rows = filled({"x": Python("shop:fails")}, range(3), shop)
    assert [row["x"] for row in rows] == [
        0, CellError("python", "KeyError: 'no such\\nthing'"), 2,
    ]  # fmt: skip


def test_a_function_that_would_end_the_process_fails_its_row(shop: Path) -> None:
    (row,) = filled({"x": Python("shop:leaves")}, [0], shop)
    assert row["x"] == CellError("python", "SystemExit: 3")


def test_a_batch(shop: Path) -> None:
    columns = {"x": Python("shop:many", batch=True)}
    rows = filled(columns, range(10), shop)
    assert [row["x"] for row in rows] == list(range(0, 100, 10))
    assert filled(columns, range(10), shop, window=3) == rows


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("too_few", "the function got 2 rows and returned 0 values"),
        ("no_list", "the function returned an int, not a list of values"),
        ("stops", "RuntimeError"),
    ],
)
def test_a_batch_that_fails(shop: Path, name: str, detail: str) -> None:
    rows = filled({"x": Python(f"shop:{name}", batch=True)}, range(2), shop)
    assert [row["x"] for row in rows] == [CellError("python", detail)] * 2


def test_only_json_values_are_taken(shop: Path) -> None:
    found = [row["x"] for row in filled({"x": Python("shop:odd")}, range(11), shop)]
    assert found[7:] == [[1, [2]], {"a": [None, True]}, "é", 2**70]
    assert [str(error) for error in found[:7]] == [
        "python: the function returned nan, which is no JSON value",
        "python: the function returned inf, which is no JSON value",
        "python: the function returned a dict with keys that are no texts",
        "python: the function returned a set, which is no JSON value",
        "python: the function returned a text with half a surrogate pair, which is no JSON value",
        "python: the function returned a bytes, which is no JSON value",
        "python: the function returned a type, which is no JSON value",
    ]


def test_another_recipe_with_a_module_of_the_same_name(shop: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "shop.py").write_text(
        "import json, prices\ndef total(values):\n    return prices.OTHER, json.dumps(1)\n"
    )
    (other / "prices.py").write_text("OTHER = 'other'")
    (other / "json.py").write_text("1 / 0")
    first = maker({"x": Python("shop:fails")}, "x", shop)
    columns = {"product": Category(["laptop"]), "x": Python("shop:total", needs=["product"])}
    assert filled(columns, [0], other)[0]["x"] == ["other", "1"]
    assert first.fill([{"row": 0}]) == [0]
    assert filled(columns, [0], shop)[0]["x"] == 900
    assert sys.modules["json"] is json


# A changed function ----------------------------------------------------------------------------


def digest(folder: Path, function: str = "shop:total") -> str:
    return Recipe("t", columns={"x": Python(function)}, folder=folder).digest


def test_the_digest_follows_the_module_and_what_it_imports_from_the_folder(shop: Path) -> None:
    before = digest(shop)
    (shop / "unrelated.py").write_text("x = 1")
    assert digest(shop) == before
    (shop / "prices.py").write_text("PRICES = {'laptop': 800}")
    changed = digest(shop)
    assert changed != before
    with (shop / "shop.py").open("a") as file:
        file.write("\n\nRATE = 2\n")
    assert digest(shop) not in (before, changed)


def test_the_digest_of_a_module_is_the_same_in_another_folder(shop: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("shop.py", "prices.py"):
        (copy / name).write_text((shop / name).read_text())
    assert digest(copy) == digest(shop)


def test_the_digest_runs_nothing(shop: Path) -> None:
    assert len({digest(shop, function) for function in ("broken:f", "nowhere_at_all:f")}) == 2
    assert "broken" not in sys.modules


def test_packages_are_followed_inside_the_folder(shop: Path) -> None:
    package = shop / "store"
    (package / "parts").mkdir(parents=True)
    for path, text in {
        "__init__.py": "",
        "parts/__init__.py": "from . import first\nfrom ..rates import RATE\n",
        "parts/first.py": "import json\n",
        "parts/unused.py": "x = 1\n",
        "rates.py": "RATE = 2\n",
    }.items():
        (package / path).write_text(text)
    found = {digest(shop, "store.parts:f")}
    (package / "parts" / "unused.py").write_text("x = 2\n")
    assert {digest(shop, "store.parts:f")} == found
    for path in ("__init__.py", "parts/__init__.py", "parts/first.py", "rates.py"):
        with (package / path).open("a") as file:
            file.write("# changed\n")
        found.add(digest(shop, "store.parts:f"))
    assert len(found) == 5


def test_an_installed_module_is_known_by_its_file(tmp_path: Path) -> None:
    assert source_of("json:dumps", tmp_path) == fingerprint(Path(json.__file__))
    assert source_of("sys:exit", tmp_path) == ""


def test_a_changed_function_is_the_one_that_is_called(shop: Path) -> None:
    columns = {"product": Category(["laptop"]), "x": Python("shop:total", needs=["product"])}
    assert filled(columns, [0], shop)[0]["x"] == 900
    (shop / "prices.py").write_text("PRICES = {'laptop': 1_000}")
    assert filled(columns, [0], shop)[0]["x"] == 1_000
    loaded = sys.modules["shop"]
    assert filled(columns, [0], shop)[0]["x"] == 1_000
    assert sys.modules["shop"] is loaded


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("shop:totl",
         "columns.x.function: the module 'shop' has no function 'totl'. Did you mean 'total'?"),
        ("shop:NUMBER",
         ("columns.x.function: the module 'shop' has no function 'NUMBER'. There are: fails, "
         "later, leaves, many, no_list, odd, spoil, stops, too_few, total.")),
        ("shop:later",
         "columns.x.function: 'shop:later' is an async function; a column calls plain ones."),
        ("broken:f",
         ("columns.x.function: the module 'broken' does not import: ZeroDivisionError: division by "
         "zero.")),
        ("nowhere_at_all:f",
         ("columns.x.function: there is no module 'nowhere_at_all' in '{folder}', the recipe's "
         "folder, and none is installed.")),
    ],
)  # fmt: skip
def test_functions_that_are_not_there(shop: Path, function: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        maker({"x": Python(function)}, "x", shop)
    assert str(caught.value) == sentence.format(folder=shop)


@pytest.mark.parametrize("function", ["shop", "shop:", ":total", "shop.py:total()", "a b:c"])
def test_what_is_no_import_path(function: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        Python(function)
    assert str(caught.value.errors[0]) == (
        f"Python: function: a function is written `package.module:name`, not {function!r}."
    )


def test_both_doors_give_the_same_column() -> None:
    column = Python("shop:total", needs=["product"])
    written: Value = {"type": "python", "function": "shop:total", "needs": ["product"]}
    assert column == Python(**written)
    assert column.written() == written
    assert column.value_schema() == {}


def test_a_dataset_finds_the_module_of_its_recipe(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = {"product": Category(["laptop"]), "x": Python("shop:total", needs=["product"])}
    recipe = Recipe("t", columns=columns, folder=shop)
    first = generate(recipe, rows=2, out="made/here")
    again = Recipe.load("made/here")
    assert again.digest == recipe.digest
    second = generate(again, rows=2, out="elsewhere/deep/er")
    assert [row["x"] for row in second.rows()] == [row["x"] for row in first.rows()] == [900, 1800]
    third = Recipe.load("elsewhere/deep/er")
    assert third.digest == recipe.digest
    assert (
        third.columns["x"].written()["folder"]
        == "../../../" + shop.relative_to(tmp_path).as_posix()
        or shop == tmp_path
    )
    installed = Recipe("t", columns={"x": Python("json:dumps", needs=[])}, folder=shop)
    assert "folder" not in installed.to_yaml(beside=tmp_path / "made")
