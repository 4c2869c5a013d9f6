"""Plain language proposes commands, runs none of them, and never guesses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.conftest import run
from wordmill.commands import COMMANDS, language
from wordmill.commands.language import agreed, may_mean_a_command, propose, spoken
from wordmill.models import checked

SENTENCES = yaml.safe_load((Path(__file__).parent / "sentences.yaml").read_text(encoding="utf-8"))
MEANT = [one for one in SENTENCES if one["means"] != "none"]
ORDINARY = [one["says"] for one in SENTENCES if one["means"] == "none"]

# What people mostly say; a model should not even be asked what it means.
EVERYDAY = [
    "Hi, can you help me with my homework?",
    "Why is the sky blue?",
    "Translate 'good morning' into Japanese.",
    "Thanks, that was great!",
    "Fix the bug in this function.",
    "Summarise the article below in two paragraphs.",
    "I feel tired today.",
    "What's the capital of Mongolia?",
    "Is it going to rain tomorrow in Lisbon?",
    "Tell me a joke about penguins.",
    "Write a haiku.",
    "Can you explain this in simpler words?",
    "Compare Rust and Go for web servers.",
    "Danke, und wie spät ist es in Tokio?",
    "Rechne 17 mal 23 aus.",
]


def scripted(body: dict[str, Any]) -> list[str]:
    """What a good model answers: the sentences' own meanings, in two pieces."""
    said = body["messages"][-1]["content"]
    if "response_format" not in body:
        return [f"An ordinary answer to {said!r}."]
    one = next(one for one in SENTENCES if one["says"] == said)
    texts = [str(value) for value in one.get("with", {}).values()]
    answer = json.dumps({"command": one["means"], "arguments": texts})
    return [answer[:9], answer[9:]]


def test_there_are_enough_of_each():
    assert len(SENTENCES) >= 60
    assert len(ORDINARY) >= 20
    assert {one["means"] for one in MEANT} >= {
        command.name for command in spoken(COMMANDS)
    } - {"run", "use", "status", "set-gdrive-folder", "tools"}  # fmt: skip


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A loaded machine may take its time; what impatience does is a test of its own."""
    monkeypatch.setattr(language, "_PATIENCE", 60.0)


def test_every_sentence_proposes_its_command(context, model):
    model.say = scripted
    found = {one["says"]: propose(COMMANDS, context, one["says"]) for one in MEANT}
    assert {says for says, proposal in found.items() if proposal is None} == set()
    assert {
        says: (proposal.command, dict(proposal.arguments)) for says, proposal in found.items()
    } == {one["says"]: (one["means"], one.get("with", {})) for one in MEANT}
    for proposal in found.values():
        assert proposal.text.endswith("?")
        assert f"/{proposal.command}" in proposal.text


def test_every_ordinary_message_stays_one(context, model):
    model.say = scripted
    proposed = {text: propose(COMMANDS, context, text) for text in ORDINARY}
    assert {text for text, proposal in proposed.items() if proposal is not None} == set()


def test_most_messages_are_not_asked_about(context, model):
    for text in (*EVERYDAY, "use only the last messages " * 20, "use the last\nten messages",
                 "set `temperature` to 3", ""):  # fmt: skip
        assert propose(COMMANDS, context, text) is None
    assert model.asked == []
    assert sum(may_mean_a_command(COMMANDS, text) for text in ORDINARY) < len(ORDINARY)


def test_what_the_model_is_asked(context, model):
    model.say = scripted
    propose(COMMANDS, context, "use only the last ten messages")
    (body,) = model.asked
    assert body["temperature"] == 0
    assert body["max_tokens"] <= 500
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["command"]["enum"] == [
        *(command.name for command in spoken(COMMANDS)),
        "none",
    ]
    task = body["messages"][0]["content"]
    assert "set-input-buffer-size N - Set how many of the last messages" in task
    assert "link" not in schema["properties"]["command"]["enum"]


def test_nothing_runs_without_a_yes(talk, model):
    model.say = scripted
    proposal = propose(COMMANDS, talk, "use only the last ten messages")
    assert run(talk, "/input-buffer-size").data == {"input_buffer_size": None}
    outcome = COMMANDS.run(talk, proposal.command, proposal.arguments)
    assert outcome.data == {"input_buffer_size": 10}
    assert proposal.text == (
        "Set how many of the last messages a model gets; the system prompt always goes with them. "
        "Shall I do this: `/set-input-buffer-size 10`?"
    )


@pytest.mark.parametrize(
    "answer",
    [
        "Sure! I will use the last ten messages.",
        "",
        "[]",
        "null",
        "{}",
        '{"command": "format-disk", "arguments": []}',
        '{"command": "link", "arguments": []}',
        '{"command": "set-input-buffer-size", "arguments": []}',
        '{"command": "set-input-buffer-size", "arguments": ["ten"]}',
        '{"command": "set-input-buffer-size", "arguments": ["10", "20"]}',
        '{"command": "set-input-buffer-size", "arguments": "10"}',
        '{"command": "set-input-buffer-size", "arguments": [["10"]]}',
        '{"command": ["set-input-buffer-size"], "arguments": ["10"]}',
        '{"command": "set-input-buffer-size", "arguments": ["10"',
    ],
)
def test_a_model_that_talks_nonsense_proposes_nothing(context, model, answer):
    model.say = lambda body: [answer]
    assert propose(COMMANDS, context, "use only the last ten messages") is None
    assert len(model.asked) >= 1


def test_a_model_that_is_slow_is_not_waited_for(context, model, monkeypatch):
    monkeypatch.setattr(language, "_PATIENCE", 0.5)

    def slowly(body):
        for _ in range(1000):
            yield " "
            yield 0.05

    model.say = slowly
    assert propose(COMMANDS, context, "use only the last ten messages") is None


def test_a_server_that_is_down_proposes_nothing(context, house):
    house.catalog.add(checked({"name": "down", "base_url": "http://127.0.0.1:9/v1", "model": "x"}))
    object.__setattr__(house.settings, "attempts", 1)
    assert propose(COMMANDS, replace(context, model="down"), "use the last ten messages") is None


@pytest.mark.parametrize("how", ["rehearsal", "schemaless", "off", "unknown"])
def test_plain_language_is_off_where_it_cannot_be(context, house, model, how):
    if how == "schemaless":
        plain = {"name": how, "base_url": model.url, "model": "x", "without": ["json_schema"]}
        house.catalog.add(checked(plain))
    if how == "off":
        object.__setattr__(house.settings, "plain_commands", False)
    here = context if how == "off" else replace(context, model=how)
    assert propose(COMMANDS, here, "use only the last ten messages") is None
    assert model.asked == []


def test_it_is_charged_like_any_request(context, house, ada, model):
    model.say = scripted
    propose(COMMANDS, context, "use only the last ten messages")
    assert house.accounts.ledger.used(ada.id)["day"].amount.requests == 1


def test_somebody_who_may_not_is_proposed_nothing(context, model):
    model.say = scripted
    waiting = replace(context, person=replace(context.person, role="pending"))
    assert propose(COMMANDS, waiting, "use only the last ten messages") is None


def test_what_is_measured_of_a_real_model(context, model, monkeypatch):
    """The script counts what a model makes of the sentences: here one that always undoes."""
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    import plain_language

    model.say = scripted
    lines = plain_language.report(plain_language.try_all(context)).splitlines()
    meant, ordinary = len(MEANT), len(ORDINARY)
    assert lines[0] == f"commands   {meant} of {meant} with their arguments, {meant} by name"
    assert lines[1] == f"ordinary   {ordinary} of {ordinary} left alone"
    model.say = lambda body: ['{"command": "undo", "arguments": []}']
    lines = plain_language.report(plain_language.try_all(context)).splitlines()
    assert lines[0] == f"commands   1 of {meant} with their arguments, 1 by name"
    assert lines[1] == f"ordinary   1 of {ordinary} left alone"
    assert "('commands', {}) was taken for ('undo', {})" in lines[-ordinary]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("yes", True), ("Y", True), ("Yes, please.", None), ("ok!", True), ("ja", True),
        ("👍", True), ("No.", False), ("nein", False), ("n", False), ("maybe", None), ("", None),
        ("yes but only nine", None), ("Do it", True),
    ],
)  # fmt: skip
def test_a_yes_is_a_yes(text, meant):
    assert agreed(text) is meant
