"""Examples and pages are run as they stand, on the rehearsal model."""

import re
import runpy
from pathlib import Path

import pytest

import wordmill
from wordmill import Recipe, generate
from wordmill.recipes.estimates import estimate

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PAGES = [ROOT / "docs" / "recipes.md", ROOT / "docs" / "asking.md"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_makes_whole_rows(path: Path, tmp_path: Path) -> None:
    result = generate(path, rows=8, out=tmp_path / "out")
    assert (result.state, result.failed, result.made) == ("finished", 0, 8)


def test_both_doors_make_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = runpy.run_path(str(ROOT / "examples" / "tickets.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines()
    written = generate(ROOT / "examples" / "tickets.yaml", rows=20, out=tmp_path / "yaml")
    assert Recipe.load(ROOT / "examples" / "tickets.yaml") == made["recipe"]

    def values(rows: object) -> list[object]:
        return [
            {name: value for name, value in row.items() if name != "lineage"}
            for row in rows  # type: ignore[attr-defined]
        ]

    assert values(written.rows()) == values(made["result"].rows())


@pytest.mark.parametrize(
    "text",
    [block for page in PAGES for block in blocks(page, "yaml")],
    ids=lambda text: text.splitlines()[0],
)
def test_the_recipes_in_the_pages_run(text: str, tmp_path: Path) -> None:
    result = generate(Recipe.from_yaml(text), rows=3, out=tmp_path / "out")
    assert (result.state, result.failed) == ("finished", 0)


def test_the_python_in_the_pages_is_the_yaml_beside_it() -> None:
    page = PAGES[0]
    (python,) = blocks(page, "python")
    names: dict[str, object] = {}
    exec(python, names)
    assert names["recipe"] == Recipe.from_yaml(blocks(page, "yaml")[0])


def test_every_public_name_imports() -> None:
    for name in wordmill.__all__:
        assert getattr(wordmill, name).__name__ == name
    assert dir(wordmill) == sorted(wordmill.__all__)
    assert wordmill.__all__ == sorted(wordmill.__all__)
    with pytest.raises(AttributeError, match="module 'wordmill' has no attribute 'Recipes'"):
        _ = wordmill.Recipes  # type: ignore[attr-defined]


def test_the_built_in_recipe_is_foretold() -> None:
    recipe = Recipe.load("rlhi").with_values({"actions": 3, "compare": True}, model="rehearsal")
    parts = estimate(recipe, recipe.makers(), 200, 2048)
    requests = {part.column: part.requests for part in parts}
    assert requests == {
        "scenario": 200,
        "actions": 600,
        "scores": 600,
        "comparisons": 1200,
        "forecast": 0,
        "evaluation": 0,
        "plan": 0,
    }
