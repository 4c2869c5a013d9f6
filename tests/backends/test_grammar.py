"""Schemas and expressions as grammars; that engines follow them is in the contract."""

import json

import pytest

from wordmill.backends.base import Form
from wordmill.backends.grammar import _between, grammar
from wordmill.errors import InvalidInput


def schema(**value: object) -> Form:
    return Form("json_schema", json.dumps(value))


def test_properties_come_in_order_and_those_that_may_be_absent_take_their_comma_along():
    made = grammar(
        schema(
            type="object",
            properties={"a": {"type": "null"}, "b": {"const": 'x"y'}},
            required=["b"],
        )
    )
    assert made.splitlines()[0] == "root ::= r4"
    assert 'r4 ::= "{" r2 "}"' in made
    assert 'r2 ::= "\\"a\\": " null r1 | r0' in made
    assert r'"\"x\\\"y\""' in made


def _numbers(low: int, high: int) -> set[int]:
    """All that the ways match, by trying."""
    import re

    pattern = "|".join(way.replace('"', "").replace(" ", "") for way in _between(low, high))
    return {number for number in range(1500) if re.fullmatch(pattern, str(number))}


@pytest.mark.parametrize(
    ("low", "high"), [(0, 0), (0, 9), (3, 120), (17, 17), (95, 1205), (100, 999), (7, 1000)]
)
def test_whole_numbers_between_two_are_exactly_those(low, high):
    assert _numbers(low, high) == set(range(low, high + 1))


def test_a_schema_may_refer_to_itself():
    made = grammar(
        schema(
            **{"$ref": "#/$defs/tree"},
            **{
                "$defs": {
                    "tree": {
                        "type": "object",
                        "properties": {
                            "more": {"type": "array", "items": {"$ref": "#/$defs/tree"}}
                        },
                    }
                }
            },
        )
    )
    assert made.startswith("root ::= s0\n")
    assert made.count("s0") >= 3


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (schema(type="array", uniqueItems=True), "`uniqueItems` cannot be followed"),
        (schema(type="integer", multipleOf=3), "`multipleOf` cannot be followed"),
        (schema(type="integer", minimum=5, maximum=4), "no whole number lies between 5 and 4"),
        (schema(type="number", minimum=0.5), "bounds of a `number`"),
        (schema(type="poem"), "`type` is 'poem'"),
        (schema(**{"$ref": "#/nowhere"}), "leads nowhere"),
        (schema(**{"$ref": "http://other"}), "leaves the schema"),
        (schema(type="string", pattern='["a]'), "a quote, a backslash or a control"),
        (schema(type="string", minLength=9, maxLength=2), "`minLength` is above `maxLength`"),
        (Form("regex", "(?=a)b"), "`assert` has no place in a grammar"),
        (Form("regex", r"(a)\1"), "`groupref` has no place in a grammar"),
        (Form("regex", r"a\bc"), "looks at what is around a place"),
        (Form("regex", "a{501,}"), "more than 500 times"),
        (Form("regex", "x(^b)"), "looks at what is around a place"),
        (Form("regex", "$a"), "looks at what is around a place"),
        (Form("regex", "(?i)yes"), "it sets flags"),
        (Form("regex", "a(?i:yes)"), "it sets flags"),
        (Form("regex", "((a{100}){100}){100}"), "more than 10,000 times"),
        (Form("regex", "((("), "cannot be read"),
        (Form("regex", "(" * 3000 + ")" * 3000), "too deep"),
        (Form("regex", "a{99999999999999999999}"), "too large"),
        (schema(enum=5), "a keyword in it has a value of another kind"),
        (schema(enum=[]), "`enum` is empty"),
        (schema(anyOf=5), "a keyword in it has a value of another kind"),
        (schema(type="object", properties=[1]), "a keyword in it has a value of another kind"),
        (
            schema(type="object", properties={"a": True}, required=5),
            "a keyword in it has a value of another kind",
        ),
        (schema(type="array", minItems="x"), "a keyword in it has a value of another kind"),
        (schema(type="integer", minimum="abc"), "a keyword in it has a value of another kind"),
        (schema(type="integer", minimum=1e400), "a keyword in it has a value of another kind"),
        (schema(**{"$ref": "#"}), "nothing but itself"),
        (schema(allOf=[{"$ref": "#"}]), "nothing but itself"),
        (
            schema(
                **{"$ref": "#/$defs/a"},
                **{"$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}},
            ),
            "nothing but itself",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(form, words):
    with pytest.raises(InvalidInput) as refused:
        grammar(form)
    assert words in str(refused.value)
    assert refused.value.field == "response_format"
