"""Conversations, commands and runs with a model that the model server runs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_server.conftest import until
from tests.model_server.test_serving import Server, body, one, started
from wordmill.channels.house import House, open_house
from wordmill.commands import COMMANDS, Context
from wordmill.models import checked
from wordmill.providers import local_start
from wordmill.settings import load


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house whose model `tiny` is answered by stub workers."""
    settings = load()
    with started(tmp_path / "models", pause=0.01), open_house(settings) as opened:
        model = checked({"name": "tiny", "provider": "local", "model": "tiny"})
        opened.add_model(opened.accounts.people.local(), model)
        yield opened
        local_start.release(settings)  # before its end, which would start another


def test_a_turn_that_waits_says_where_it_stands(house: House) -> None:
    ann = house.accounts.people.local()
    others = [house.completions.stream(ann, "tiny", body(9000), door="test") for _ in range(4)]
    for answer in others:
        answer.next(10.0)
    until(lambda: one().overview().models[0].running == 4)
    conversation = house.conversations.create(ann, model="tiny")
    turn = house.chat.send(ann, conversation.id, "hello", door="test")
    places, text = [], ""
    for event in house.chat.watch(ann, turn.answer):
        text += event.text
        if event.waiting is not None:
            places.append(event.waiting)
            for answer in others:
                answer.close()
    assert places[0].place == 1
    assert text == "one t1 t2 t3"
    assert house.conversations.message(ann, turn.answer).state == "done"


def test_a_kill_in_mid_turn_keeps_what_came_and_the_conversation_goes_on(house: House) -> None:
    ann = house.accounts.people.local()
    conversation = house.conversations.create(ann, model="tiny")
    turn = house.chat.send(ann, conversation.id, "please crash", door="test")
    list(house.chat.watch(ann, turn.answer))
    message = house.conversations.message(ann, turn.answer)
    assert (message.state, message.text) == ("failed", "one t1")
    assert "The process of the model 'tiny' ended in mid-answer" in (message.error or "")
    turn = house.chat.regenerate(ann, turn.answer)
    list(house.chat.watch(ann, turn.answer))
    again = house.conversations.message(ann, turn.answer)
    assert again.state == "failed"  # the question still holds the word
    conversation = house.conversations.create(ann, model="tiny")
    turn = house.chat.send(ann, conversation.id, "hello", door="test")
    list(house.chat.watch(ann, turn.answer))
    assert house.conversations.message(ann, turn.answer).text == "one t1 t2 t3"


def test_whoever_changes_to_a_model_hears_that_it_is_loaded_first(house: House) -> None:
    ann = house.accounts.people.local()
    talk = Context(ann, house, "shell")
    assert "so its next answer may be slow" in COMMANDS.run(talk, "/swap-model tiny").text
    list(house.completions.stream(ann, "tiny", body(3), door="test"))
    assert COMMANDS.run(talk, "/swap-model tiny").text == "`tiny` answers from now on."
    far = {"name": "far", "base_url": "http://127.0.0.1:9/v1", "model": "x"}
    house.add_model(ann, checked(far))
    assert COMMANDS.run(talk, "/swap-model far").text == "`far` answers from now on."


RECIPE = """
name: greetings
columns:
  number: {type: number, min: 1, max: 1000000}
  greeting: {type: prompt, model: tiny, prompt: "Greet number {{ number }}."}
"""


def wordmill(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from wordmill.cli import main; main()", *words],
        capture_output=True, text=True, cwd=cwd, check=False, timeout=110, env=dict(os.environ),
    )  # fmt: skip


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Server]:
    with started(tmp_path / "models") as server:
        yield server


def test_the_command_line_uses_the_same_server(serving: Server, tmp_path: Path) -> None:
    added = wordmill(
        "models", "add", "tiny", "--provider", "local", "--model", "tiny", cwd=tmp_path
    )
    assert added.stdout == "Added tiny: tiny at local:.\n"
    asked = wordmill("ask", "--model", "tiny", "hello", cwd=tmp_path)
    assert asked.stdout == "one t1 t2 t3\n"
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    made = wordmill("generate", "recipe.yaml", "--rows", "12", "--out", "out", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    people = one().history("tiny")["tiny"]["people"]
    assert sum(person["requests"] for person in people.values()) == 13
    assert "" not in people  # each request said whose it is
