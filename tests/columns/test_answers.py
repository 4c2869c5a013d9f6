import json

import pytest

from wordmill.columns.answers import BySchema, Complaint, OneOf, Sections
from wordmill.types import Value

LEVEL = {
    "type": "object",
    "properties": {
        "level": {"type": "integer", "minimum": 1, "maximum": 5},
        "why": {"type": "string"},
    },
    "required": ["level"],
    "additionalProperties": False,
}


def read(schema: Value, text: str) -> Value:
    """The value, or the sentence of the complaint."""
    value = BySchema(schema).read(text)
    return str(value.error) if isinstance(value, Complaint) else value


@pytest.mark.parametrize(
    "text",
    [
        '{"level": 3}',
        '{"level": 3.0}',
        'Sure! Here it is: {"level": 3} I hope that helps.',
        '```json\n{"level": 3}\n```',
        'I thought {so}. ```\n{"level": 3}\n``` Done.',
        '{"level": 9} no, wait: {"level": 3}',
    ],
)
def test_json_is_found_whatever_stands_around_it(text: str) -> None:
    assert read(LEVEL, text) == {"level": 3}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"level": "high"}', "schema: /level is not an integer"),
        ("{}", "schema: /level is missing"),
        ('{"level": 9, "mood": 1}', "schema: /level is more than 5; /mood is not allowed"),
        ("3", "schema: the answer is not an object"),
        ("high", "schema: the answer holds no JSON"),
        ("[]", "schema: the answer is a list, not an object"),
        ("Here you are: [1, 2]", "schema: the answer is a list, not an object"),
        ("It is [open", "schema: the answer holds no JSON"),
        ('{"level": 3', "schema: the JSON ends too early"),
        (
            "{'level': 3}",
            "schema: the JSON is broken: expecting property name enclosed in double quotes",
        ),
        ('{"level": NaN}', "schema: NaN is no number in JSON"),
        ('{"level": Infinity}', "schema: Infinity is no number in JSON"),
        ('{"level": 1e999}', "schema: the number 1e999 is too large"),
        (
            '{"level": 111111111111111111111}',
            "schema: the number 111111111111111111111 is too large",
        ),
        ('{"level": 1, "level": 2}', 'schema: the key "level" stands twice in one object'),
        ('{"level": 1, "why": "\\ud800"}', "schema: a text holds half a surrogate pair"),
        ('{"level": 1, "why": "a\\u0000b"}', "schema: a text holds a NUL character"),
        ('{"a":' * 100_000, "schema: the JSON is nested too deep"),
        ('{"why": ' + "[" * 150 + "]" * 150 + "}", "schema: the JSON is nested too deep"),
    ],
)
def test_what_does_not_fit_is_a_sentence(text: str, sentence: str) -> None:
    assert read(LEVEL, text) == sentence


def test_texts_may_hold_line_breaks_and_whole_pairs() -> None:
    assert read(LEVEL, '{"level": 1, "why": "a\nb \\ud83d\\ude00"}') == {
        "level": 1,
        "why": "a\nb 😀",
    }


@pytest.mark.parametrize(
    ("schema", "value", "sentence"),
    [
        ({"type": ["string", "null"]}, 1, "the answer is not null or a string"),
        ({"enum": ["x", 2]}, "q", 'the answer is none of "x", 2'),
        ({"const": 3}, 4, "the answer is not 3"),
        ({"minimum": 2}, 1, "the answer is less than 2"),
        ({"exclusiveMinimum": 2}, 2, "the answer is not more than 2"),
        ({"exclusiveMaximum": 2.5}, 3, "the answer is not less than 2.5"),
        ({"multipleOf": 2}, 3, "the answer is not a multiple of 2"),
        ({"minLength": 2}, "a", "the answer is shorter than 2 characters"),
        ({"maxLength": 1}, "ab", "the answer is longer than 1 character"),
        ({"pattern": "^a"}, "b", "the answer does not match ^a"),
        ({"minItems": 1}, [], "the answer has fewer than 1 item"),
        ({"maxItems": 1}, [1, 2], "the answer has more than 1 item"),
        ({"uniqueItems": True}, [1, 1], "the answer has an item twice"),
        ({"items": {"type": "string"}}, ["a", 1], "/1 is not a string"),
        (
            {"contains": {"type": "string"}},
            [1],
            "the answer lacks an item that `contains` asks for",
        ),
        ({"minProperties": 1}, {}, "the answer has fewer than 1 key"),
        ({"anyOf": [{"type": "string"}]}, 1, "the answer fits none of the allowed forms"),
        ({"not": {"type": "integer"}}, 1, "the answer is what `not` forbids"),
        ({"properties": {"a/b~": False}}, {"a/b~": 1}, "/a~1b~0 is not allowed"),
        (
            {"propertyNames": {"maxLength": 1}},
            {"ab": 1},
            "the answer has a key whose name is not allowed",
        ),
        ({"format": "date"}, "not a date", "not a date"),  # a format is a remark
    ],
)
def test_each_rule_of_a_schema_has_its_words(schema: Value, value: Value, sentence: str) -> None:
    found = read(schema, json.dumps(value))
    assert found in (f"schema: {sentence}", sentence)


def test_no_more_than_five_faults_are_told() -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    assert read(schema, "[1,2,3,4,5,6,7]") == (
        "schema: /0 is not a string; /1 is not a string; /2 is not a string; /3 is not a string; "
        "/4 is not a string; and 2 more"
    )


def test_the_model_is_told_what_to_do_better() -> None:
    complaint = BySchema(LEVEL).read('{"level": 9}')
    assert isinstance(complaint, Complaint)
    assert complaint.words == (
        "That does not follow the schema: /level is more than 5. Answer again with the whole JSON, "
        "corrected, and nothing else."
    )


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (
            {"properties": {"a": {"type": "integr"}}},
            (
                "/properties/a/type is 'integr', and the types of JSON are array, boolean, "
                "integer, null, number, object, string"
            ),
        ),
        ({"minimum": "x"}, '/minimum: "x" is not of type "number"'),
        ({"$ref": "#/nowhere"}, "Pointer '/nowhere' does not exist"),
    ],
)
def test_a_schema_that_is_none_is_refused(schema: Value, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        BySchema(schema)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9/x", "file:///etc/passwd"])
def test_a_schema_fetches_nothing(uri: str) -> None:
    with pytest.raises(ValueError, match="is outside the schema"):
        BySchema({"$ref": uri})


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("low", "low"),
        ("Low.", "low"),
        ('"LOW"', "low"),
        ("- low", "low"),
        ("**Very   High**", "very high"),
        ("‘very high’", "very high"),
        ("3", 3),
        ("3.", 3),
        ("true", True),
    ],
)
def test_a_choice_is_matched_leniently(text: str, choice: Value) -> None:
    found = OneOf(["low", "very high", 3, True]).read(text)
    assert (found, type(found)) == (choice, type(choice))


def test_another_answer_is_no_choice() -> None:
    complaint = OneOf(["low", "high"]).read("It is rather low, I would say.")
    assert isinstance(complaint, Complaint)
    assert str(complaint.error) == "choice: 'It is rather low, I would say.' is none of low, high"
    assert complaint.words == (
        "That is none of the choices. Answer with exactly one of these choices and nothing else:\n"
        "- low\n- high"
    )


@pytest.mark.parametrize(
    "text",
    [
        "CONSIDERATIONS:\nmany\n\nNEXT STEP:\none",
        "Considerations\nmany\nNext step\none",
        "# Considerations\n\nmany\n\n## **Next-Step**\none",
        "Of course.\n\n**Considerations:** many\n**Next Step**: one",
        "1. CONSIDERATIONS\nmany\n2. NEXT_STEP\none",
        "NEXT STEP:\none\nCONSIDERATIONS:\nmany",
    ],
)
def test_sections_are_found_under_all_kinds_of_headings(text: str) -> None:
    assert Sections(["considerations", "next_step"]).read(text) == {
        "considerations": "many",
        "next_step": "one",
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("I would wait.", "section: no heading CONSIDERATIONS"),
        ("CONSIDERATIONS:\nmany", "section: no heading ACTION"),
        ("CONSIDERATIONS:\n\nACTION:\nwait", "section: nothing under CONSIDERATIONS"),
        ("My considerations are many. The action is none.", "section: no heading CONSIDERATIONS"),
    ],
)
def test_a_missing_section_is_a_sentence(text: str, sentence: str) -> None:
    complaint = Sections(["considerations", "action"]).read(text)
    assert isinstance(complaint, Complaint)
    assert str(complaint.error) == sentence
