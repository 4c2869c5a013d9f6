"""Calls of tools in what models write."""

import json

import pytest

from wordmill.backends.calls import begins, called, parse
from wordmill.errors import InvalidInput

NAMES = ("weather", "time")


@pytest.mark.parametrize(
    ("text", "rest", "found"),
    [
        (
            (
                'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n'
                "</tool_call>"
            ),
            "Let me see.",
            [("weather", {"city": "Oslo"})],
        ),
        (
            (
                '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
                '<tool_call>{"name": "time", "arguments": "{\\"zone\\": 1}"}</tool_call>'
            ),
            "",
            [("weather", {}), ("time", {"zone": 1})],
        ),
        (
            (
                "<tool_call><function=weather><parameter=city>\nOslo\n</parameter>"
                "<parameter=days>3</parameter></function></tool_call>"
            ),
            "",
            [("weather", {"city": "Oslo", "days": 3})],
        ),
        (
            (
                '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Oslo"}}, '
                '{"name": "time", "arguments": {}}]'
            ),
            "",
            [("weather", {"city": "Oslo"}), ("time", {})],
        ),
        ('[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}', "", [("weather", {"city": "Oslo"})]),
        (
            '{"name": "weather", "parameters": {"city": "Oslo"}}',
            "",
            [("weather", {"city": "Oslo"})],
        ),
        ('<|python_tag|>{"name": "time", "parameters": {}}', "", [("time", {})]),
        # What is no call stays text.
        ("<tool_call>not json</tool_call>", "<tool_call>not json</tool_call>", []),
        ('{"name": "unknown", "parameters": {}}', '{"name": "unknown", "parameters": {}}', []),
        ('{"answer": 42}', '{"answer": 42}', []),
        ("Only words.", "Only words.", []),
    ],
)
def test_calls_are_found_and_the_rest_is_text(text, rest, found):
    left, calls = parse(text, NAMES)
    assert left == rest
    assert [(one.name, json.loads(one.arguments)) for one in calls] == found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("words", "words"),
        ("words <tool", "words "),
        ("words <tools>", "words <tools>"),
        ("words <tool_call>{", "words "),
        ('{"name"', ""),
        ("a [TOOL_CA", "a "),
    ],
)
def test_what_may_become_a_call_is_held_back(text, shown):
    assert text[: begins(text)] == shown


def test_earlier_calls_reach_the_template_as_objects():
    asked = [{"id": "1", "function": {"name": "time", "arguments": '{"zone": 2}'}}]
    assert called(asked, "messages.1")[0]["function"] == {"name": "time", "arguments": {"zone": 2}}
    with pytest.raises(InvalidInput, match=r"The arguments of a call of `messages\.1` are no JSON"):
        called([{"function": {"name": "time", "arguments": "{"}}], "messages.1")
    with pytest.raises(InvalidInput, match="has no function with a name"):
        called([{"id": "1"}], "messages.1")
