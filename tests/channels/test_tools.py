"""Tools that a model calls, in rooms: asked about, allowed, and the answer that goes on."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.channels.conftest import ANN, BEN, Talk
from tests.channels.surface import Service, said
from tests.servers import tools as servers
from tests.servers.talking import Talking
from wordmill.accounts import LOCAL_PERSON, Person
from wordmill.channels.house import House
from wordmill.channels.rooms.base import Place, Reaction
from wordmill.channels.rooms.records import Led

Make = Callable[..., Talk]
THREAD = Place("!room", "$root")


def calling(before: float = 0.0, after: float = 0.0) -> Callable[[Any], Iterator[Any]]:
    """A model that adds 40 and 2. before, after: seconds that it takes for each of its answers."""

    def say(body: Any) -> Iterator[Any]:
        results = [one["content"] for one in body["messages"] if one["role"] == "tool"]
        if results:
            yield from ("It is ", after, results[-1])
            return
        yield from ("Let me ", before, "see.")
        function = {"name": "sums__add", "arguments": json.dumps({"a": 40, "b": 2})}
        yield {"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": function}]}

    return say


def waits(door: Talk) -> Any:
    """The question, once it stands there."""
    return door.until(
        lambda: [one for one in door.service.shown.values() if "Shall it?" in one.text]
    )[-1]


@pytest.fixture
def begun(talk: Make, house: House, ann: Person) -> Callable[..., Talk]:
    """A door at which Ann has begun a thread whose conversation may call tools."""

    def make(service: Service | None = None, first: float = 3.0, **policy: Any) -> Talk:
        house.chat.tools.add(
            LOCAL_PERSON, "sums", "stdio", sys.executable, arguments=[servers.PROGRAM]
        )
        door = talk(service, first=first, **policy)
        conversation = house.conversations.create(ann)
        house.chat.use_tools(ann, conversation.id, ["sums"])
        door.door.records.lead(THREAD, Led(conversation.id, ann.id))
        return door

    return make


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (0.6, 0.0), (0.6, 0.6), (0.0, 0.6)])
def test_after_a_yes_the_answer_goes_on_in_its_message(
    begun: Callable[..., Talk], model: Talking, before: float, after: float
) -> None:
    """Whether it was shown growing before the yes, after it, both or neither."""
    model.say = calling(before, after)
    door = begun(Service(gaps=(0.05,)), first=0.1)
    door.hear(said("What is it?", direct=False, place=THREAD))
    question = waits(door)
    door.settle()
    assert "`add`" in question.text
    door.sign(Reaction("$r1", THREAD, ANN, "Ann", question.id, "up"))
    door.until(lambda: door.service.texts() == ["Let me see.\n\nIt is 42"])
    if after:
        grown = next(one for one in door.service.shown.values() if one.post.kind != "notice")
        assert any("It is" in post.text for post in grown.edits)
        edits = [nonce for verb, nonce in door.service.calls if verb == "edit"]
        assert len(edits) == len(set(edits))


def test_what_follows_a_yes_is_paid_by_whoever_asked(
    begun: Callable[..., Talk], house: House, ben: Person, model: Talking
) -> None:
    model.say = calling()
    door = begun()
    door.hear(said("What is it?", BEN, direct=False, place=THREAD))
    question = waits(door)
    door.settle()
    house.accounts.ledger.set_quota(LOCAL_PERSON, ben.id, "day", requests=1)
    door.sign(Reaction("$r1", THREAD, ANN, "Ann", question.id, "up"))
    door.until(lambda: "quota of 1 request" in "".join(door.service.texts()))


@pytest.mark.parametrize("yes", [True, False])
def test_what_is_decided_on_the_web_is_shown_in_the_room(
    begun: Callable[..., Talk], house: House, ann: Person, model: Talking, yes: bool
) -> None:
    model.say = calling()
    door = begun()
    door.hear(said("What is it?", direct=False, place=THREAD))
    waits(door)
    door.settle()
    (conversation,) = house.conversations.all(ann).items
    (call,) = house.chat.asks(ann, conversation.id)
    house.chat.confirm(ann, call.message, None, yes)
    result = "42" if yes else "This call was not allowed by the person."
    door.until(lambda: door.service.texts() == [f"Let me see.\n\nIt is {result}"])
    asked = len(model.asked)
    door.hear(said("yes", direct=False, place=THREAD))  # means the model now
    door.settle()
    assert "yes" in model.asked[asked]["messages"][-1]["content"]


def test_signs_on_an_answer_with_calls_are_on_what_it_came_to(
    begun: Callable[..., Talk], house: House, ann: Person, model: Talking
) -> None:
    model.say = calling(after=0.4)
    door = begun(Service(gaps=(0.05,)), first=0.1)
    door.hear(said("What is it?", direct=False, place=THREAD))
    door.sign(Reaction("$r1", THREAD, ANN, "Ann", waits(door).id, "up"))
    (shown,) = door.until(
        lambda: [one for one in door.service.shown.values() if "It is" in one.text]
    )
    door.sign(Reaction("$r2", THREAD, ANN, "Ann", shown.id, "stop"))
    door.until(lambda: shown.text.endswith("*(stopped)*"))
    assert "42" not in shown.text
    door.sign(Reaction("$r3", THREAD, ANN, "Ann", shown.id, "up"))
    door.settle()
    (conversation,) = house.conversations.all(ann).items
    branch = house.conversations.branch(ann, conversation.id)
    assert list(house.conversations.ratings(ann, conversation.id)) == [branch[-1].id]


def test_going_on_without_an_answer_ends_what_was_asked(
    begun: Callable[..., Talk], model: Talking
) -> None:
    model.say = calling()
    door = begun()
    door.hear(said("What is it?", direct=False, place=THREAD))
    waits(door)
    door.settle()
    model.say = lambda _: ["Never mind."]
    door.hear(said("Forget it.", direct=False, place=THREAD))
    door.until(lambda: any("(stopped)" in text for text in door.service.texts()))
    door.settle()
    assert door.service.texts() == ["Never mind.", "Let me see.\n\n*(stopped)*"]
