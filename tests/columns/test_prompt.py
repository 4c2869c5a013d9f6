import pytest
from pydantic import BaseModel, Field

from tests.columns.asked import ROW, asker, cell, conversation, reply, script
from wordmill import Candidates, Prompt, RecipeError
from wordmill.columns.asking import without_reasoning
from wordmill.types import Ask, CellError, Message, Row, Value

ROW = dict(ROW)
LEVEL = {
    "type": "object",
    "properties": {"level": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["level"],
}


def test_free_text_is_the_answer_without_outer_spaces() -> None:
    maker = asker(Prompt("A {{ mood }} customer writes about a {{ product }}."))
    value, asked = cell(maker, ROW, script("  My phone!\n"))
    assert value == "My phone!"
    (ask,) = asked
    assert conversation(ask) == [("user", "A angry customer writes about a phone.")]
    assert ask.shape.messages == (Message("user", None),)
    assert ask.shape.schema is None


def test_what_is_the_same_for_all_rows_is_said_once() -> None:
    maker = asker(
        Prompt(
            "Write about {{ product }}.",
            system="You are brief.",
            examples=[{"user": "Write about tea.", "assistant": "Tea is {{ mood }}."}],
            parameters={
                "temperature": 0.5,
                "max_tokens": 99,
                "stop": "END",
                "extra": {"k": {"a": [1]}},
            },
        )
    )
    asks = maker.asks(ROW)
    assert isinstance(asks, list)
    (ask,) = asks
    assert ask.shape.messages == (
        Message("system", "You are brief."),
        Message("user", "Write about tea."),
        Message("assistant", None),
        Message("user", None),
    )
    assert ask.texts == ("Tea is angry.", "Write about phone.")
    assert ask.shape.parameters == (
        ("temperature", 0.5),
        ("max_tokens", 99),
        ("stop", ("END",)),
        ("k", {"a": (1,)}),
    )
    assert hash(ask.shape) == hash(ask.shape)
    other = maker.asks({**ROW, "row": 4})
    assert isinstance(other, list)
    assert other[0].shape is ask.shape


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (reply("It was", finish="length"), "truncated: the answer reached max_tokens (64)"),
        (reply("  \n"), "empty: the answer holds no text"),
        (reply("I'm sorry, but I can't help with that."),
         "refused: I'm sorry, but I can't help with that."),
        (reply("No.", refusal=True), "refused: No."),
        (reply("It", finish="content_filter"),
         "refused: the provider's content filter stopped the answer"),
        (reply("As an AI language model, I like tea."),
         'as_an_ai: the text says "as an ai language model"'),
        (reply("a\0b"), "invalid_text: the answer holds a NUL character"),
        (reply("a\ud800b"), "invalid_text: the answer holds half a surrogate pair"),
        (reply(error="throttled", detail="slow down"), "throttled: slow down"),
        (reply("\n<think>Hm."), "empty: the answer holds no text"),
    ],
)  # fmt: skip
def test_a_cell_fails_by_name_and_is_not_asked_again(answer: Value, sentence: str) -> None:
    maker = asker(Prompt("Write.", parameters={"max_tokens": 64}))
    value, asked = cell(maker, ROW, script(answer))
    assert str(value) == sentence
    assert isinstance(value, CellError)
    assert len(asked) == 1


def test_checks_can_be_chosen() -> None:
    text = "I'm sorry, but I can't help with that, as an AI."
    assert cell(asker(Prompt("Write.", checks=[])), ROW, script(text))[0] == text
    only = cell(asker(Prompt("Write.", checks=["as_an_ai"])), ROW, script(text))[0]
    assert str(only) == 'as_an_ai: the text says "as an ai"'


def test_what_is_both_goes_by_its_beginning() -> None:
    text = "As an AI, I cannot help with that."
    assert str(cell(asker(Prompt("Write.")), ROW, script(text))[0]).startswith("as_an_ai: ")
    only = cell(asker(Prompt("Write.", checks=["refusal"])), ROW, script(text))[0]
    assert str(only) == f"refused: {text}"
    text = "I'm sorry, but as an AI I cannot help with that."
    assert str(cell(asker(Prompt("Write.")), ROW, script(text))[0]) == f"refused: {text}"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a {1} b</think>\nYes.", "\nYes."),
        ("\n<think>a</think>Yes.", "Yes."),
        ("a, so</think>Yes.", "Yes."),
        ("I write <think> and </think> here.", "I write <think> and </think> here."),
        ("<think>never closed", ""),
    ],
)
def test_reasoning_is_no_part_of_the_answer(text: str, rest: str) -> None:
    assert without_reasoning(text) == rest


def test_json_that_breaks_the_schema_is_asked_again_with_the_validators_words() -> None:
    maker = asker(Prompt("How urgent? {{ product }}", schema=LEVEL))
    value, asked = cell(maker, ROW, script('{"level": "high"}', '{"level": 4}'))
    assert value == {"level": 4}
    first, second = asked
    assert first.shape.schema == (
        '{"type":"object","properties":{"level":{"type":"integer","minimum":1,"maximum":5}},'
        '"required":["level"]}'
    )
    assert conversation(second) == [
        ("user", "How urgent? phone"),
        ("assistant", '{"level": "high"}'),
        ("user", ("That does not follow the schema: /level is not an integer. "
                 "Answer again with the whole JSON, corrected, and nothing else.")),
    ]  # fmt: skip
    assert second.tries == 1
    assert second.because == CellError("schema", "/level is not an integer")
    assert second.salt not in (0, first.salt)


def test_after_the_last_try_the_cell_fails_by_name() -> None:
    maker = asker(Prompt("How urgent?", schema=LEVEL, again=1))
    value, asked = cell(maker, ROW, script('{"level": "high"}', '{"level": 9}'))
    assert str(value) == "schema: /level is more than 5"
    assert [ask.tries for ask in asked] == [0, 1]
    never, once = cell(asker(Prompt("How urgent?", schema=LEVEL, again=0)), ROW, script("3"))
    assert (str(never), len(once)) == ("schema: the answer is not an object", 1)


def test_a_long_bad_answer_is_shortened_when_it_is_shown_again() -> None:
    maker = asker(Prompt("How urgent?", schema=LEVEL))
    _, asked = cell(maker, ROW, script("x" * 50_000, '{"level": 1}'))
    assert conversation(asked[1])[1] == ("assistant", "x" * 2_000 + " [...]")


def test_each_try_is_a_request_of_its_own() -> None:
    """Else a model that makes the same mistake twice would be answered from the cache."""
    maker = asker(Prompt("How urgent?", schema=LEVEL, again=3))
    _, asked = cell(maker, ROW, script("no", "no", "no", '{"level": 1}'))
    assert len({ask.salt for ask in asked}) == 4
    assert conversation(asked[2]) == conversation(asked[3])


def test_a_refusal_in_place_of_json_or_a_choice_is_not_asked_again() -> None:
    sorry = "I'm sorry, but I can't help with that."
    for column in (Prompt("How?", schema=LEVEL), Prompt("How?", choices=["a", "b"])):
        value, asked = cell(asker(column), ROW, script(sorry))
        assert (str(value), len(asked)) == (f"refused: {sorry}", 1)


def test_a_pydantic_model_is_a_schema() -> None:
    class Urgency(BaseModel):
        level: int = Field(ge=1, le=5)

    column = Prompt("How urgent?", schema=Urgency)
    assert cell(asker(column), ROW, script('{"level": 4}'))[0] == {"level": 4}
    assert column == Prompt("How urgent?", schema=Urgency.model_json_schema())
    assert column.value_schema() == Urgency.model_json_schema()


def test_choices_are_said_and_matched() -> None:
    maker = asker(Prompt("How urgent is {{ product }}?", choices=["low", "high"]))
    value, asked = cell(maker, ROW, script("Middle.", "**High**"))
    assert value == "high"
    assert conversation(asked[0]) == [
        ("user", ("How urgent is phone?\n\nAnswer with exactly one of these choices and nothing "
                 "else:\n- low\n- high")),
    ]  # fmt: skip
    assert conversation(asked[1])[2][1].startswith("That is none of the choices.")
    assert asked[1].because == CellError("choice", "'Middle.' is none of low, high")


def test_choices_may_follow_from_the_row() -> None:
    column = Prompt("Which?", choices="{{ ['a', product] }}")
    assert column.needs() == {"product"}
    maker = asker(column)
    for product in ("phone", "laptop"):
        row: Row = {**ROW, "product": product}
        value, asked = cell(maker, row, script(product.upper()))
        assert value == product
        assert conversation(asked[0])[0][1].endswith(f"- a\n- {product}")
    value, asked = cell(asker(Prompt("Which?", choices="{{ product }}")), ROW, script())
    assert str(value) == "template: choices: 'phone' is no list of two or more values"


def test_an_empty_prompt_is_not_sent() -> None:
    value, asked = cell(asker(Prompt("{{ product }}")), {**ROW, "product": " "}, script())
    assert (str(value), asked) == ("template: the prompt is empty", [])
    with pytest.raises(RecipeError) as caught:
        asker(Prompt(" "))
    assert str(caught.value) == "columns.cell.prompt: the prompt is empty."


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (["a"], "Prompt: choices: there must be at least two choices."),
        (["a", "b", "a"], "Prompt: choices: two choices are written 'a'."),
        ([1, "1"], "Prompt: choices: two choices are written '1'."),
    ],
)
def test_choices_that_cannot_be_told_apart(choices: list[Value], sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Prompt("x", choices=choices)
    assert str(caught.value) == sentence
    assert Prompt("x", choices=["a", "A", "A*"]).choices == ("a", "A", "A*")


def test_half_a_surrogate_pair_is_not_sent() -> None:
    value, _ = cell(asker(Prompt("{{ product }}")), {**ROW, "product": "\ud800"}, script())
    assert str(value) == "template: the prompt holds half a surrogate pair"


def test_a_column_without_a_model_says_how_to_name_one() -> None:
    with pytest.raises(RecipeError) as caught:
        asker(Prompt("Write."), model=None)
    assert str(caught.value) == (
        "columns.cell: it asks a model, and neither it nor the recipe names one. Write "
        "`model: NAME`, or run with --model NAME (`wordmill models list`)."
    )
    asks = asker(Prompt("Write.", model="own"), model="recipe's").asks(ROW)
    assert isinstance(asks, list)
    assert asks[0].shape.model == "own"


def salts(column: Prompt, rows: range, **context: Value) -> list[int]:
    maker = asker(column, **context)
    found = [maker.asks({**ROW, "row": row}) for row in rows]
    return [ask.salt for asks in found if isinstance(asks, list) for ask in asks]


def test_equal_prompts_of_different_cells_get_different_answers() -> None:
    first = salts(Prompt("Write."), range(1_000))
    assert len(set(first)) == 1_000
    assert all(0 < salt < 2**53 for salt in first)
    assert first == salts(Prompt("Write."), range(1_000))
    assert first[500:] == salts(Prompt("Write."), range(500, 1_000))
    assert set(first).isdisjoint(salts(Prompt("Write."), range(1_000), seed=8))
    assert set(first).isdisjoint(salts(Prompt("Write."), range(1_000), name="other"))
    assert first[:2] == GOLDEN_SALTS


GOLDEN_SALTS = [2910194327406799, 2009150819686069]


def test_with_reuse_equal_prompts_share_one_answer() -> None:
    assert set(salts(Prompt("Write.", reuse=True), range(10))) == {0}


def items() -> list[Value]:
    return [
        {"item": 0, "text": "Wait.", "error": None},
        {"item": 1, "text": None, "error": "empty: the answer holds no text"},
        {"item": 2, "text": "Run.", "error": None},
    ]


def test_each_asks_once_for_every_item_that_was_made() -> None:
    column = Prompt("Is it good? {{ item.text }}", each="actions", choices=["yes", "no"])
    assert column.needs() == {"actions"}
    assert column.joins() == "actions"
    row: Row = {"row": 0, "actions": items()}
    value, asked = cell(asker(column), row, script("no", "Yes"))
    assert value == ["no", None, "yes"]
    assert [ask.item for ask in asked] == [0, 1]
    assert [ask.texts[0].splitlines()[0] for ask in asked] == [
        "Is it good? Wait.",
        "Is it good? Run.",
    ]


def test_an_item_that_fails_is_null_and_a_cell_fails_with_all_of_them() -> None:
    maker = asker(Prompt("{{ item.text }}", each="actions"))
    row: Row = {"row": 0, "actions": items()}
    assert cell(maker, row, script("", "Yes"))[0] == [None, None, "Yes"]
    assert str(cell(maker, row, script("", ""))[0]) == "empty: the answer holds no text"
    assert cell(maker, {"row": 0, "actions": None}, script())[0] is None
    assert cell(maker, {"row": 0, "actions": [None]}, script())[0] == [None]


def test_an_items_salt_does_not_depend_on_the_others() -> None:
    maker = asker(Prompt("{{ item.text }}", each="actions"))
    all_made = items()
    all_made[1] = {"item": 1, "text": "Sit.", "error": None}

    def last(actions: list[Value]) -> Ask:
        asks = maker.asks({"row": 0, "actions": actions})
        assert isinstance(asks, list)
        return asks[-1]

    assert last(items()).item == 1
    assert last(all_made).item == 2
    assert last(items()).salt == last(all_made).salt


def test_requests_a_row() -> None:
    columns = {"actions": Candidates("x", n="{{ parameters.size }}")}
    assert Prompt("x").requests_per_row({}, columns) == 1
    assert Prompt("x", each="actions").requests_per_row({"size": 5}, columns) == 5


def test_the_schema_of_values() -> None:
    assert Prompt("x").value_schema() == {"type": "string"}
    assert Prompt("x", choices=[1, 2]).value_schema() == {"type": "integer"}
    assert Prompt("x", choices=["a", 2]).value_schema() == {}
    assert Prompt("x", schema=LEVEL).value_schema() == LEVEL
    assert Prompt("x", each="actions").value_schema() == {
        "type": "array",
        "items": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    }
