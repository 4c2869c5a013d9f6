import pytest

from wordmill import Candidates, Category, Judge, Prompt, Recipe, RecipeError, Template
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
    return {part.column: part for part in estimate(recipe, rows, 2048)}


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
    faults = [str(fault) for fault in sure_faults(recipe, 100)]
    assert faults[0].startswith("columns.typo: no row can be made; row 0: template: ")
    assert [fault.path[1] for fault in sure_faults(recipe, 100)] == ["typo", "variant_of_none"]


def test_only_a_few_rows_are_made() -> None:
    made = Recipe("t", columns={"a": Template("{{ row }}")})
    assert estimate(made, 10**9, 2048) == ()
    assert SAMPLE == 20


def test_a_recipe_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(RecipeError, match="neither it nor the recipe names one"):
        estimate(Recipe("t", columns={"a": Prompt("x")}), 10, 2048)


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
