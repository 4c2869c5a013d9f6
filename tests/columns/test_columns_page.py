"""The examples of docs/columns.md: each runs, and gives what the page says.

`python -m tests.columns.test_columns_page` writes what they give into the page.
"""

import json
import re
from pathlib import Path

import pytest

from tests.columns.filled import filled
from wordmill import plugins
from wordmill.recipes import Recipe
from wordmill.types import CellError

PAGE = Path(__file__).parents[2] / "docs" / "columns.md"
FENCE = re.compile(r"```(\w+)(?: ([\w.]+))?\n(.*?)```\n", re.DOTALL)


def examples() -> list[tuple[str, str, str, dict[str, str]]]:
    """Section, YAML, JSON as the page has it, and the files that stand before it."""
    found: list[tuple[str, str, str, dict[str, str]]] = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        files: dict[str, str] = {}
        fences = FENCE.findall(section)
        following = [*fences, ("", "", "")][1:]
        for (kind, name, text), (_, _, after) in zip(fences, following, strict=True):
            if name:
                files[name] = text
            elif kind == "yaml":
                found.append((section.partition("\n")[0], text, after, dict(files)))
    return found


def given(text: str, files: dict[str, str], folder: Path) -> str:
    """The last column in rows 0 to 3, as JSON."""
    for name, content in files.items():
        (folder / name).write_text(content)
    columns = "".join(f"  {line}\n" for line in text.splitlines())
    recipe = Recipe.from_yaml(f"name: page\nseed: 7\ncolumns:\n{columns}", "page", folder)
    rows = filled(recipe.columns, range(60), folder)
    assert not any(isinstance(cell, CellError) for row in rows for cell in row.values())
    last = list(recipe.columns)[-1]
    return json.dumps([row[last] for row in rows[:4]], ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    "example", [pytest.param(one, id=f"{one[0]}-{at}") for at, one in enumerate(examples())]
)
def test_an_example_gives_what_the_page_says(
    example: tuple[str, str, str, dict[str, str]], tmp_path: Path
) -> None:
    _, text, said, files = example
    assert given(text, files, tmp_path) == said


def test_every_type_without_a_model_has_an_example() -> None:
    page = PAGE.read_text()
    types = {
        name for name in plugins.names("columns") if not plugins.load("columns", name).asks_model
    }
    assert {section for section, *_ in examples()} == types
    for name in types:
        for option, field in plugins.load("columns", name).model_fields.items():
            assert option in ("type", "when") or f"`{field.alias or option}`" in page, (
                name,
                option,
            )


def write() -> None:
    """Put what the examples give into the page."""
    import tempfile

    page = PAGE.read_text()
    for _, text, said, files in examples():
        with tempfile.TemporaryDirectory() as folder:
            after = given(text, files, Path(folder))
        old = f"```yaml\n{text}```\n```json\n{said}```\n"
        assert old in page
        page = page.replace(old, f"```yaml\n{text}```\n```json\n{after}```\n")
    PAGE.write_text(page)


if __name__ == "__main__":
    write()
