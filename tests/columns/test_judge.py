import json

import pytest

from tests.columns.asked import ROW, asker, cell, conversation, script
from wordmill import Candidates, Judge, RecipeError
from wordmill.columns.judge import SYSTEM
from wordmill.types import Ask, CellError, Row, Value

ROW = {**ROW, "ticket": "It broke.", "urgency": {"level": 3}}
SCORES = {"realism": "0 to 4, is it believable?", "clarity": "0 to 4"}
VERDICT = {"reason": "So so.", "realism": 2, "clarity": 4}


def test_a_verdict_has_the_scores_and_the_reason() -> None:
    value, asked = cell(asker(Judge("ticket", scores=SCORES)), ROW, script(json.dumps(VERDICT)))
    assert value == {"realism": 2, "clarity": 4, "reason": "So so."}
    assert list(value) == ["realism", "clarity", "reason"]
    (ask,) = asked
    assert conversation(ask) == [
        ("system", SYSTEM),
        (
            "user",
            (
                "Score the text between the tags.\n\n<text>\nIt broke.\n</text>\n\n"
                "Score it on these scales:\n"
                "- realism, a whole number from 0 to 4: is it believable?\n"
                "- clarity, a whole number from 0 to 4\n\n"
                'Answer with one JSON object: first "reason", a sentence or two that say why, then '
                '"realism", "clarity".'
            ),
        ),
    ]
    assert json.loads(ask.shape.schema or "") == {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "minLength": 1},
            "realism": {"type": "integer", "minimum": 0, "maximum": 4},
            "clarity": {"type": "integer", "minimum": 0, "maximum": 4},
        },
        "required": ["reason", "realism", "clarity"],
        "additionalProperties": False,
    }
    assert (ask.shape.schema or "").index("reason") < (ask.shape.schema or "").index("realism")


def test_a_score_out_of_its_scale_is_asked_again() -> None:
    maker = asker(Judge("ticket", scores=SCORES))
    answers = script(json.dumps({**VERDICT, "realism": 5}), json.dumps(VERDICT))
    value, asked = cell(maker, ROW, answers)
    assert value["realism"] == 2
    assert asked[1].because == CellError("schema", "/realism is more than 4")


@pytest.mark.parametrize(
    ("of", "shown", "needs"),
    [
        ("ticket", "It broke.", {"ticket"}),
        ("urgency", '{"level":3}', {"urgency"}),
        ("urgency.level", "3", {"urgency"}),
        ("{{ product }}: {{ ticket }}", "phone: It broke.", {"product", "ticket"}),
    ],
)
def test_a_column_a_field_or_a_template_is_judged(of: str, shown: str, needs: set[str]) -> None:
    column = Judge(of, scores=SCORES)
    assert column.needs() == needs
    _, asked = cell(asker(column), ROW, script(json.dumps(VERDICT)))
    assert f"<text>\n{shown}\n</text>" in asked[0].texts[0]


def test_criteria_come_first_and_are_a_template() -> None:
    column = Judge("ticket", scores=SCORES, criteria="The writer is {{ mood }}.", system="Be mild.")
    assert column.needs() == {"ticket", "mood"}
    _, asked = cell(asker(column), ROW, script(json.dumps(VERDICT)))
    (_, system), (_, prompt) = conversation(asked[0])
    assert system == "Be mild."
    assert prompt.startswith("The writer is angry.\n\nScore the text")


@pytest.mark.parametrize(
    ("words", "low", "high", "help_text"),
    [
        ("0 to 4, is it good?", 0, 4, "is it good?"),
        ("1-10", 1, 10, ""),
        ("-2 to 2: how so?", -2, 2, "how so?"),
        ("1..5 – stars", 1, 5, "stars"),
    ],
)
def test_a_scale_is_read_from_words(words: str, low: int, high: int, help_text: str) -> None:
    given = Judge("ticket", scores={"a": words})
    assert given == Judge("ticket", scores={"a": {"min": low, "max": high, "help": help_text}})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"of": "x"}, "Judge: a judge needs either `scores` or `pairwise`."),
        ({"scores": SCORES}, "Judge: the option 'of' is missing: what is to be judged?"),
        (
            {"of": "x", "scores": {"reason": "0 to 4"}},
            (
                "Judge: scores: a score cannot be called 'reason': its name has letters, digits "
                "and _, begins with a letter, and `reason` is taken."
            ),
        ),
        (
            {"of": "x", "scores": {"a": "4 to 0"}},
            "Judge: scores.a: the scale goes from 4 to 0: it must rise.",
        ),
        (
            {"of": "the ticket", "scores": SCORES},
            "Judge: of: 'the ticket' is neither a column's name nor a template with {{ }}.",
        ),
        (
            {"of": "x", "pairwise": "actions"},
            "Judge: `of` and `each` do not go with `pairwise`, which has its own `of`.",
        ),
        (
            {"of": "x", "scores": SCORES, "question": "?"},
            "Judge: `question` goes with `pairwise`; with `scores` it is `criteria`.",
        ),
        (
            {"pairwise": ["a", "a"]},
            "Judge: pairwise: the column 'a' cannot be compared with itself.",
        ),
    ],
)
def test_what_does_not_go_together_is_a_sentence(options: Value, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Judge(**options)
    assert str(caught.value) == sentence


def action(item: int, text: str | None) -> dict[str, Value]:
    error = None if text else "empty: the answer holds no text"
    return {"id": f"3-{item}", "item": item, "text": text, "action": text, "error": error}


def test_each_item_gets_a_verdict() -> None:
    column = Judge(each="actions", scores=SCORES)
    assert column.needs() == {"actions"}
    row: Row = {"row": 3, "actions": [action(0, "Wait."), action(1, None), action(2, "Run.")]}
    value, asked = cell(asker(column), row, lambda ask: json.dumps(VERDICT))
    assert value == [{"realism": 2, "clarity": 4, "reason": "So so."}, None, *value[:1]]
    assert ["Wait." in asked[0].texts[0], "Run." in asked[1].texts[0]] == [True, True]


def winner(name: str, reason: str = "So.") -> str:
    return json.dumps({"reason": reason, "winner": name})


def test_every_pair_is_asked_in_both_orders() -> None:
    """A model that likes long texts; order means nothing to it."""
    column = Judge(
        pairwise={"of": "actions", "text": "{{ item.action }}"},
        question="Which is better for {{ product }}?",
    )
    assert column.needs() == {"actions", "product"}
    actions = [action(0, "Run."), action(1, None), action(2, "Wait a bit."), action(3, "Sit!")]

    def prefers_long(ask: Ask) -> str:
        first, second = (
            ask.texts[0].split(f"<{tag}>\n")[1].split(f"\n</{tag}>")[0]
            for tag in ("first", "second")
        )
        return winner("tie" if len(first) == len(second) else
                      "first" if len(first) > len(second) else "second")  # fmt: skip

    value, asked = cell(asker(column), {**ROW, "actions": actions}, prefers_long)
    assert [ask.item for ask in asked] == [0, 1, 2, 3, 4, 5]
    assert len({ask.salt for ask in asked}) == 6
    assert asked[0].texts[0].startswith("Which is better for phone?\n\n<first>\nRun.\n</first>")
    assert value == [
        {
            "first": 0,
            "second": 2,
            "winner": "second",
            "agree": True,
            "reason": "So.",
            "error": None,
        },
        {"first": 0, "second": 3, "winner": "tie", "agree": True, "reason": "So.", "error": None},
        {"first": 2, "second": 3, "winner": "first", "agree": True, "reason": "So.", "error": None},
    ]


def test_a_judge_that_follows_the_order_makes_a_tie_and_does_not_agree() -> None:
    column = Judge(pairwise=["left", "right"])
    assert column.needs() == {"left", "right"}
    row: Row = {"row": 0, "left": "a", "right": {"b": 1}}
    value, asked = cell(
        asker(column), row, script(winner("first", "It comes first."), winner("first", "First!"))
    )
    assert value == [
        {
            "first": "left",
            "second": "right",
            "winner": "tie",
            "agree": False,
            "reason": "It comes first. Turned around: First!",
            "error": None,
        }
    ]
    assert '<second>\n{"b":1}\n</second>' in asked[0].texts[0]


def test_a_pair_fails_with_one_of_its_orders_and_the_cell_with_all_pairs() -> None:
    maker = asker(Judge(pairwise=["left", "right"]))
    row: Row = {"row": 0, "left": "a", "right": "b"}
    value, _ = cell(maker, row, script(winner("first"), ""))
    assert value == [
        {
            "first": "left",
            "second": "right",
            "winner": None,
            "agree": None,
            "reason": None,
            "error": "empty: the answer holds no text",
        }
    ]
    assert str(cell(maker, row, script("", ""))[0]) == "empty: the answer holds no text"


def test_one_item_makes_no_pair() -> None:
    maker = asker(Judge(pairwise="actions"))
    assert cell(maker, {"row": 0, "actions": [action(0, "Run.")]}, script()) == ([], [])


def test_requests_a_row() -> None:
    columns = {"actions": Candidates("x", n=4)}
    assert Judge("x", scores=SCORES).requests_per_row({}, columns) == 1
    assert Judge(each="actions", scores=SCORES).requests_per_row({}, columns) == 4
    assert Judge(pairwise="actions").requests_per_row({}, columns) == 12
    assert Judge(pairwise=["a", "b"]).requests_per_row({}, columns) == 2
    assert Judge(pairwise="actions").items_per_row({}, columns) == 6


def test_the_schema_of_values() -> None:
    scored = Judge("x", scores={"a": "1 to 3"})
    assert scored.value_schema() == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 1, "maximum": 3},
            "reason": {"type": "string"},
        },
        "required": ["a", "reason"],
    }
    assert (scored.table_schema("v"), scored.joins()) == (None, None)
    assert Judge(each="actions", scores=SCORES).joins() == "actions"
    pairs = Judge(pairwise="actions")
    assert (pairs.joins(), pairs.items_of()) == (None, "actions")
    table = pairs.table_schema("pairs")
    assert table is not None
    assert pairs.value_schema() == {"type": "array", "items": table}
    assert list(table["properties"]) == ["first", "second", "winner", "agree", "reason", "error"]
