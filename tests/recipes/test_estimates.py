from pathlib import Path

import pytest

from wordmill import Candidates, Category, Judge, Prompt, Recipe, Seed, Template
from wordmill.recipes.estimates import (
    SAMPLE,
    ColumnEstimate,
    Speed,
    estimate,
    instance,
    seconds,
    sure_faults,
)
from wordmill.types import Value


def foretold(rows: int = 1_000, **columns: Value) -> dict[str, ColumnEstimate]:
    recipe = Recipe("t", model="m", columns=columns)
    return {part.column: part for part in estimate(recipe, recipe.makers(), rows, 2048)}


def test_requests_are_exact() -> None:
    parts = foretold(
        mood=Category(["calm", "angry"], draw="balanced"),
        ticket=Prompt("A {{ mood }} ticket."),
        sorry=Prompt("Sorry about {{ ticket }}", when="mood == 'angry'"),
        replies=Candidates("Reply to {{ ticket }}", n=3),
        each=Prompt("Good? {{ item.text }}", each="replies", choices=["yes", "no"]),
        duel=Judge(pairwise="replies"),
    )
    assert {name: part.requests for name, part in parts.items()} == {
        "ticket": 1_000, "sorry": 500, "replies": 3_000, "each": 3_000, "duel": 6_000,
    }  # fmt: skip
    assert {part.model for part in parts.values()} == {"m"}


def test_items_that_are_not_made_are_not_asked_about() -> None:
    parts = foretold(
        mood=Category(["calm", "angry"], draw="balanced"),
        replies=Candidates("Reply", n=3, when="mood == 'angry'"),
        each=Prompt("Good? {{ item.text }}", each="replies", choices=["yes", "no"]),
        some=Prompt("Why? {{ item.text }}", each="replies", when="row % 10 == 0"),
        duel=Judge(pairwise="replies"),
        lost=Prompt("{{ replies[0].text }}"),
    )
    assert {name: part.requests for name, part in parts.items()} == {
        "replies": 1_500, "each": 1_500, "some": 150, "duel": 3_000, "lost": 1_000,
    }  # fmt: skip


def test_a_prompt_is_measured_with_what_it_reads() -> None:
    parts = foretold(
        plain=Prompt("x" * 400),
        longer=Prompt("{{ plain }}" + "x" * 400, parameters={"max_tokens": 40}),
        said=Prompt("x", system="s" * 4_000),
    )
    assert parts["plain"].tokens_in == 1_000 * (100 + 4)
    assert parts["plain"].tokens_out == 1_000 * 250
    assert parts["plain"].most_out == 1_000 * 2_048
    assert parts["longer"].tokens_in == 1_000 * (100 + 250 + 4)
    assert (parts["longer"].tokens_out, parts["longer"].most_out) == (40_000, 40_000)
    assert parts["said"].tokens_in == 1_000 * (1_000 + 8) + 250


def test_an_answer_by_schema_is_guessed_by_its_fields() -> None:
    one = {"type": "object", "properties": {"level": {"type": "integer"}}}
    many = {"type": "object", "properties": {f"f{n}": {"type": "string"} for n in range(20)}}
    parts = foretold(
        one=Prompt("x", schema=one),
        many=Prompt("x", schema=many),
        ab=Prompt("x", choices=["a", "b"]),
    )
    assert parts["one"].tokens_out < 15_000
    assert parts["many"].tokens_out > 400_000
    assert parts["ab"].tokens_out == 5_000


def test_a_prompt_that_cannot_be_rendered_is_told() -> None:
    parts = foretold(
        facts=Prompt("x", schema={"type": "object", "properties": {"n": {"type": "integer"}}}),
        more=Prompt("{{ facts.m.x }}"),
    )
    assert parts["more"].fault.startswith("row 0: template: ")
    assert parts["more"].requests == 1_000


def test_what_fails_whatever_models_answer_is_a_fault() -> None:
    recipe = Recipe("t", model="m", columns={
        "mood": Category(["calm", "angry"], draw="balanced"),
        "typo": Prompt("{{ mood.nme }}"),
        "variant_of_none": Candidates("{{ variant.name }}"),
        "some": Template("{{ 1 // (mood == 'calm') }}"),
        "after": Prompt("{{ typo.x }}"),
        "never": Prompt("{{ mood.nme }}", when="false"),
    })  # fmt: skip
    faults = sure_faults(recipe, recipe.makers(), 100)
    assert str(faults[0]).startswith("columns.typo: no row can be made; row 0: template: ")
    assert [fault.path[1] for fault in faults] == ["typo", "variant_of_none"]


def test_more_rows_than_a_column_has_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name\nAnn\nBo\nCy\n")
    columns = {
        "in_order": Seed("people.csv"),
        "shuffled": Seed("people.csv", order="sampled"),
        "crossed": Seed("people.csv", order="crossed"),
        "tone": Category(["calm", "angry"], draw="crossed"),
        "again": Seed("people.csv", repeat="cycle"),
        "maybe": Seed("people.csv", when="row < 3"),
    }
    recipe = Recipe("t", columns=columns, folder=tmp_path)
    assert sure_faults(recipe, recipe.makers(), 3) == []
    words = "has {} rows, and {:,} are asked for: ask for {} at most (`--rows {}`), or write"
    assert [str(fault) for fault in sure_faults(recipe, recipe.makers(), 4_000)] == [
        f"columns.in_order: people.csv {words.format(3, 4_000, 3, 3)} `repeat: cycle`.",
        f"columns.shuffled: people.csv {words.format(3, 4_000, 3, 3)} `repeat: cycle`.",
        f"columns.crossed: people.csv, crossed, {words.format(6, 4_000, 6, 6)} `repeat: cycle`.",
    ]


def test_only_a_few_rows_are_made() -> None:
    made = Recipe("t", columns={"a": Template("{{ row }}")})
    assert estimate(made, made.makers(), 10**9, 2048) == ()
    assert SAMPLE == 20


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "minimum": 3}, 3),
        ({"enum": ["a", "b"]}, "a"),
        ({"const": 5}, 5),
        ({"type": ["string", "null"], "maxLength": 3}, "the"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 4}, [True] * 4),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 1}, [None]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"properties": {"a": {"type": "number"}}}, {"a": 1}),
        (True, None),
    ],
)
def test_a_stand_in_has_the_shape_of_the_schema(schema: Value, value: Value) -> None:
    assert instance(schema) == value


def test_a_schema_that_holds_itself_ends() -> None:
    nested: dict[str, Value] = {"type": "object", "properties": {}}
    nested["properties"]["again"] = nested
    assert isinstance(instance(nested), dict)


def part(model: str, requests: int, tokens_out: int) -> ColumnEstimate:
    return ColumnEstimate("c", model, requests, 0, tokens_out, 0)


def test_the_slowest_model_decides_how_long_it_takes() -> None:
    parts = [part("a", 1_000, 0), part("b", 100, 0)]
    even = {"a": Speed(10, first_seconds=1), "b": Speed(10, first_seconds=1)}
    assert seconds(parts, even) == 100
    assert seconds(parts, {"a": Speed(10_000, first_seconds=1)}) == 1
    assert seconds(parts, {"b": Speed(10, rpm=20, first_seconds=1)}) == 300
    assert seconds([part("a", 10, 6_000)], {"a": Speed(10, tpm=1_000)}) == 360
    assert seconds(parts, {}) == 0
