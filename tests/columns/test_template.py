"""Template columns: text, and the values that a text spells."""

import pytest

from tests.columns.filled import cell, cells, filled, maker
from wordmill.columns.category import Category
from wordmill.columns.template import Template
from wordmill.errors import RecipeError
from wordmill.types import CellError, Value


def test_a_text_of_other_columns() -> None:
    columns = {
        "mood": Category(["calm"]),
        "note": Template("{{ row }}: {{ parameters.tone }}, {{ mood }}"),
    }
    assert [row["note"] for row in filled(columns, range(2))] == ["0: warm, calm", "1: warm, calm"]
    assert columns["note"].needs() == {"mood"}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", " 5 ", " 5 "),
        ("integer", " -5\n", -5),
        ("integer", "+12345678901234567890123", 12345678901234567890123),
        ("number", "1.5e3", 1500.0),
        ("number", ".5", 0.5),
        ("boolean", "True", True),
        ("boolean", "false", False),
        ("json", '{"a": [1, null]}', {"a": [1, None]}),
        ("json", "{{ row }}", 0),
    ],
)
def test_what_a_text_spells(kind: str, text: str, value: Value) -> None:
    (found,) = cells(Template(text, as_=kind), [0])
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "detail"),
    [
        ("integer", "5.0", "the text '5.0' is no integer"),
        ("integer", "", "the text '' is no integer"),
        ("number", "1e999", "the text '1e999' is no number"),
        ("number", "nan", "the text 'nan' is no number"),
        ("boolean", "yes", "the text 'yes' is no boolean"),
        ("integer", "x" * 100, f"the text '{'x' * 57}...' is no integer"),
    ],
)  # fmt: skip
def test_what_a_text_does_not_spell(kind: str, text: str, detail: str) -> None:
    (found,) = cells(Template(text, as_=kind), [0])
    assert found == CellError("template", detail)


@pytest.mark.parametrize("text", ["NaN", '"\\ud800"', "{", "[1,]", ""])
def test_what_is_no_json(text: str) -> None:
    (found,) = cells(Template(text, as_="json"), [0])
    assert isinstance(found, CellError)
    assert str(found).startswith("template: the text is no JSON: ")


def test_a_text_that_cannot_be_made_fails_its_row_alone() -> None:
    column = Template("{{ 6 // row }}", as_="integer")
    assert cells(column, range(3)) == [
        CellError("template", "integer division or modulo by zero"),
        6,
        3,
    ]
    assert cell(Template("{{ a.b }}"), {"a": None}) == CellError("template", "null has no 'b'")


def test_faults_of_the_template_have_a_place() -> None:
    for call in (
        lambda: maker({"note": Template("a\n{{ b")}, "note"),
        lambda: Template("a\n{{ b").needs(),
    ):
        with pytest.raises(RecipeError) as caught:
            call()
        assert caught.value.line == 2
        assert caught.value.message.endswith("', where '}}' is missing")
    with pytest.raises(RecipeError) as caught:
        maker({"note": Template("{{ ''.__class__ }}")}, "note")
    assert str(caught.value).startswith("columns.note.template:1:1: '__class__' is refused")


def test_both_doors_give_the_same_column() -> None:
    column = Template("{{ row }}", as_="integer")
    assert column == Template(**{"type": "template", "template": "{{ row }}", "as": "integer"})
    assert column.written() == {"type": "template", "template": "{{ row }}", "as": "integer"}


@pytest.mark.parametrize(
    ("kind", "schema"),
    [("text", {"type": "string"}), ("integer", {"type": "integer"}), ("json", {})],
)
def test_the_schema_of_its_values(kind: str, schema: Value) -> None:
    assert Template("x", as_=kind).value_schema() == schema
