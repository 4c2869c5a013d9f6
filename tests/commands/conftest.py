"""A house on an empty database of each kind, whose model `mock` says what a test wants."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.talking import Talking, talking
from wordmill.accounts import Person
from wordmill.batches import Batch
from wordmill.batches import Wish as Order
from wordmill.channels.house import House, open_house
from wordmill.commands import COMMANDS, Context, Outcome
from wordmill.models import checked
from wordmill.settings import load

Run = Callable[..., Outcome]


@pytest.fixture
def model() -> Iterator[Talking]:
    """The server behind the model `mock`; `say` may be changed."""
    with talking("Hello there.") as talk:
        yield talk


@pytest.fixture
def house(
    model: Talking, either_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("WORDMILL_DEFAULT_MODEL", "mock")
    monkeypatch.setenv("WORDMILL_TITLES", "false")  # what a model is asked can be counted
    with open_house(load()) as opened:
        opened.catalog.add(checked({"name": "mock", "base_url": model.url, "model": "mock-1"}))
        yield opened


@pytest.fixture
def ada(house: House) -> Person:
    return house.accounts.people.local()


@pytest.fixture
def context(house: House, ada: Person) -> Context:
    """Nothing said yet."""
    return Context(ada, house, "shell")


@pytest.fixture
def talk(house: House, ada: Person) -> Context:
    """A conversation with one question and its answer."""
    return said(Context(ada, house, "shell"), "How are you?")


def said(context: Context, text: str) -> Context:
    """The context after somebody said something and had the answer."""
    conversation = context.begun()
    turn = context.house.chat.send(context.person, conversation.id, text, door="shell")
    ended(context, turn.answer)
    return Context(context.person, context.house, context.door, conversation.id)


def ended(context: Context, answer: str) -> str:
    """The text of an answer, once it has ended."""
    for _ in context.house.chat.watch(context.person, answer):
        pass
    return context.house.conversations.message(context.person, answer).text


def run(context: Context, line: str, **arguments: object) -> Outcome:
    return COMMANDS.run(context, line, arguments or None)


def ordered(house: House, person: Person, *models: str, dataset: str | None = None) -> Batch:
    """A batch with a line for each model, as the web and the API order one."""
    upload = house.files.begin(person.id, "asked.jsonl")
    for number, name in enumerate(models):
        body = {"model": name, "messages": [{"role": "user", "content": f"Say {number}."}]}
        line = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions",
                "body": {**body, "max_tokens": 20}}  # fmt: skip
        upload.write(json.dumps(line).encode() + b"\n")
    return house.order_batch(person, Order(file=upload.commit().id, dataset=dataset))[0]


def branch(context: Context) -> list[str]:
    """What is said in the branch that is shown."""
    assert context.conversation_id is not None
    return [
        one.text
        for one in context.house.conversations.branch(context.person, context.conversation_id)
    ]
