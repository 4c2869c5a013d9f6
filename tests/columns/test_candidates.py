import json
from collections import Counter

import pytest

from tests.columns.asked import ROW, asker, cell, conversation, script
from wordmill import Candidates, RecipeError
from wordmill.types import CellError, Row, Value

ROW = dict(ROW)
VARIANTS = [{"name": name, "instruction": f"Be {name}."} for name in ("kind", "quick", "lazy")]


def item(place: int, text: str | None, **fields: Value) -> dict[str, Value]:
    return {
        "id": f"3-{place}", "item": place, "variant": None, "text": text, **fields,
        "error": fields.pop("error", None),
    }  # fmt: skip


def test_several_answers_to_one_prompt() -> None:
    value, asked = cell(asker(Candidates("Name a {{ product }}.", n=2)), ROW, script("One", "Two"))
    assert value == [item(0, "One"), item(1, "Two")]
    assert [ask.item for ask in asked] == [0, 1]
    assert asked[0].texts == asked[1].texts == ("Name a phone.",)
    assert asked[0].salt != asked[1].salt


def test_templates_see_the_item_and_its_variant() -> None:
    column = Candidates("{{ item }} {{ variant.name }}", system="{{ variant.instruction }}",
                        n=3, variants=VARIANTS)  # fmt: skip
    value, asked = cell(asker(column), ROW, script("a", "b", "c"))
    for place, ask in enumerate(asked):
        name = value[place]["variant"]
        assert conversation(ask) == [("system", f"Be {name}."), ("user", f"{place} {name}")]


def dealt(n: int, rows: range, seed: int = 7) -> list[list[str]]:
    column = Candidates("{{ variant.name }}", n=n, variants=VARIANTS)
    maker = asker(column, seed=seed)
    found = []
    for row in rows:
        asks = maker.asks({"row": row})
        assert isinstance(asks, list)
        found.append([ask.texts[0] for ask in asks])
    return found


def test_variants_are_dealt_in_balance() -> None:
    rows = dealt(2, range(300))
    assert all(len(set(row)) == 2 for row in rows)
    for place in (0, 1):
        for start in range(0, 300, 3):
            assert len({row[place] for row in rows[start : start + 3]}) == 3
    assert set(Counter(tuple(row) for row in rows)) == {
        (a["name"], b["name"]) for a in VARIANTS for b in VARIANTS if a != b
    }


def test_an_items_variant_follows_from_seed_row_and_place_alone() -> None:
    rows = dealt(2, range(12))
    assert dealt(2, range(6, 12)) == rows[6:]
    assert [row[:2] for row in dealt(5, range(12))] == rows
    assert dealt(2, range(12), seed=8) != rows
    assert rows[:2] == GOLDEN


GOLDEN = [["quick", "kind"], ["lazy", "quick"]]


def test_an_answer_is_split_at_its_headings() -> None:
    column = Candidates("What now?", n=1, sections=["considerations", "action"])
    value, asked = cell(
        asker(column), ROW, script("I would wait.", "**Considerations**\nMany.\n**Action:** Wait.")
    )
    assert value == [
        item(0, "**Considerations**\nMany.\n**Action:** Wait.",
             considerations="Many.", action="Wait."),
    ]  # fmt: skip
    assert conversation(asked[0]) == [
        ("user", ("What now?\n\nWrite the answer under these headings, each on a line of its own, "
                 "in this order:\n\nCONSIDERATIONS:\nACTION:")),
    ]  # fmt: skip
    assert asked[1].because == CellError("section", "no heading CONSIDERATIONS")
    assert conversation(asked[1])[2][1].startswith(
        "That answer has no heading CONSIDERATIONS. Write the whole answer again."
    )


def test_an_item_fails_by_name_and_the_cell_only_with_all_of_them() -> None:
    column = Candidates("What now?", n=2, sections=["action"], again=1)
    value, asked = cell(asker(column), ROW, script("no", "no", "ACTION:\nWait."))
    assert value == [
        item(0, None, action=None, error="section: no heading ACTION"),
        item(1, "ACTION:\nWait.", action="Wait."),
    ]
    assert [ask.tries for ask in asked] == [0, 1, 0]
    assert str(cell(asker(column), ROW, script("", "no", "no"))[0]) == (
        "empty: the answer holds no text"
    )


def test_refusals_are_found_also_with_sections() -> None:
    column = Candidates("What now?", n=1, sections=["action"])
    value, asked = cell(asker(column), ROW, script("I'm sorry, but I can't help with that."))
    assert (str(value), len(asked)) == ("refused: I'm sorry, but I can't help with that.", 1)
    value, _ = cell(asker(column), ROW, script("ACTION:\nAs an AI, I wait."))
    assert str(value) == 'as_an_ai: the text says "as an ai"'


def test_json_and_choices_stand_under_value() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    column = Candidates("What?", n=2, schema=schema)
    value, _ = cell(asker(column), ROW, script('{"a": 1}', '{"a": "x"}', '{"a": 2}'))
    assert value == [item(0, '{"a": 1}', value={"a": 1}), item(1, '{"a": 2}', value={"a": 2})]
    chosen, _ = cell(asker(Candidates("What?", n=1, choices=["a", "b"])), ROW, script("B."))
    assert chosen == [item(0, "B.", value="b")]


def test_how_many_may_be_a_parameter() -> None:
    column = Candidates("What?", n="{{ parameters.size }}")
    assert column.needs() == frozenset()
    asks = asker(column, parameters={"size": 4}).asks(ROW)
    assert isinstance(asks, list)
    assert len(asks) == 4
    assert column.requests_per_row({"size": 4}, {}) == 4
    for size in (-1, 65, "many", True, 2.5):
        with pytest.raises(RecipeError) as caught:
            column.items_per_row({"size": size}, {})
        assert (
            str(caught.value)
            == f"n: {{{{ parameters.size }}}} is {size}; there can be 0 to 64 answers."
        )
    with pytest.raises(RecipeError) as caught:
        Candidates("What?", n="{{ mood }}").needs()
    assert str(caught.value) == "n: it can name parameters only, not mood."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": -1}, "Candidates: n: there can be 0 to 64 answers, not -1."),
        (
            {"variants": VARIANTS},
            ("Candidates: there are `variants`, and no template names `variant.instruction` or "
            "`variant.name`: all answers would be asked for alike."),
        ),
        (
            {"system": "{{ variant.name }}", "variants": VARIANTS[:1] * 2},
            "Candidates: variants: two variants are called 'kind'.",
        ),
        ({"sections": ["text"]},
         "Candidates: sections[0]: every item has a field 'text': call the section otherwise."),
        ({"sections": ["my plan"]},
         ("Candidates: sections: a section cannot be called 'my plan': it becomes a field, so it "
         "has letters, digits and _, and begins with a letter.")),
        ({"sections": ["a"], "choices": ["x", "y"]},
         "Candidates: `sections` are for free text, not for `choices` or `schema`."),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_a_sentence(options: Value, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Candidates("What?", **options)
    assert str(caught.value).replace("sections[0]", "sections") == sentence.replace(
        "sections[0]", "sections"
    )


def test_the_linked_table() -> None:
    column = Candidates("What?", sections=["action"])
    table = column.table_schema("actions")
    assert table is not None
    assert list(table["properties"]) == ["id", "item", "variant", "text", "action", "error"]
    assert column.value_schema() == {"type": "array", "items": table}
    assert column.joins() is None
    row: Row = {"row": 12, "mood": "", "product": ""}
    value, _ = cell(asker(column), row, script(*["ACTION:\nGo."] * 3))
    assert [sorted(each) for each in value] == [sorted(table["properties"])] * 3
    assert [each["id"] for each in value] == ["12-0", "12-1", "12-2"]
    assert json.loads(json.dumps(value)) == value
