"""Others talk along in somebody's conversation: who pays, whose words they are, whose yes it is."""

import time
from collections.abc import Callable

import pytest

from tests.channels.conftest import ANN, BEN, Talk
from tests.channels.surface import Shown, said
from tests.servers.talking import Talking
from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.rooms import known, orders
from wordmill.channels.rooms.base import Place, Quoted, Reaction

Make = Callable[..., Talk]
THREAD = Place("!room", "$root")
COMPANY = {"direct": False, "place": THREAD}


def begun(door: Talk) -> str:
    """Ann's conversation in a thread; its id."""
    door.hear(said("Hello", mentions_us=True, **COMPANY))
    door.settle()
    led = door.door.records.led(THREAD)
    assert led is not None
    return led.conversation


def answer_with(door: Talk, words: str) -> Shown:
    return next(one for one in reversed(door.service.shown.values()) if words in one.text)


def test_a_retry_and_an_edit_of_a_guest_are_paid_by_the_guest(
    talk: Make, ann: Person, model: Talking
) -> None:
    door = talk(guests=True, guest_requests=1)
    begun(door)
    for text in ("One", "Two"):
        door.hear(said(text, BEN, **COMPANY))
        door.settle()
    assert len(model.asked) == 2
    failed = answer_with(door, "used up")
    door.sign(Reaction("$r1", THREAD, BEN, "Ben", failed.id, "retry"))
    door.settle()
    assert len(model.asked) == 2
    last = said("Two", BEN, **COMPANY)
    door.hear(last)
    door.settle()
    door.hear(said("Two and a half", BEN, edits=last.event, **COMPANY))
    door.settle()
    door.hear(said("yes", BEN, **COMPANY))
    door.settle()
    assert len(model.asked) == 2
    assert [text for text in door.service.texts() if "used up" not in text] == [
        "You said: Ann: Hello", "You said: Ben: One",
    ]  # fmt: skip
    assert len(door.service.texts()) == 6  # each of the four was tried, and refused


def test_what_somebody_changes_stays_theirs_with_their_name_and_what_it_replies_to(
    talk: Make, house: House, ann: Person, ben: Person, model: Talking
) -> None:
    door = talk()
    conversation = begun(door)
    asked = said("And this?", BEN, replied=Quoted("$x", "Cem", "The sky"), **COMPANY)
    door.hear(asked)
    door.settle()
    door.hear(said("Or that?", BEN, edits=asked.event, **COMPANY))
    door.settle()
    door.hear(said("yes", BEN, **COMPANY))
    door.settle()
    branch = house.conversations.branch(ann, conversation)
    question = next(one for one in reversed(branch) if one.role == "user")
    assert question.text == "> Cem wrote:\n> The sky\n\nBen: Or that?"
    assert question.author == ben.id
    assert model.asked[-1]["messages"][-1]["content"] == question.text


def test_an_answer_that_a_restart_cut_is_asked_for_anew_by_whoever_asked(
    talk: Make, house: House, ann: Person, ben: Person
) -> None:
    door = talk()
    conversation = begun(door)
    turn = house.chat.send(ann, conversation, "Mine", door="matrix", speaker=ben)
    assert house.chat.speaker(ann, turn.answer) == ben
    turn = house.chat.send(ann, conversation, "Mine", door="matrix")
    assert house.chat.speaker(ann, turn.answer) is None


def test_a_yes_to_something_else_begins_nothing(talk: Make, house: House, ann: Person) -> None:
    door = talk()
    for text in ("--generate rlhi 2", "What is a row?", "ok"):
        door.hear(said(text))
        door.settle()
    assert house.desk(ann).registry.all() == []
    assert door.service.texts()[-1] == "You said: ok"


def test_a_yes_that_comes_as_another_question_does_means_neither(
    talk: Make, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = talk()
    done: list[str] = []

    async def first() -> None:
        done.append("first")

    async def second() -> None:
        done.append("second")

    questions = door.door._questions
    questions.ask(Place("!room"), ANN, first, None, "$q1")
    questions.ask(Place("!room"), ANN, second, None, "$q2")
    door.hear(said("yes"))
    door.settle()
    assert done == []
    assert "Something else was asked" in door.service.notices()[-1]
    reply = Quoted("$q2", "Mill", "Shall I?", own=True)
    door.hear(said("yes", replied=reply))  # a reply says which one
    door.settle()
    assert done == ["second"]
    monkeypatch.setattr(orders, "SETTLE", 0.2)
    questions.ask(Place("!room"), ANN, first, None, "$q1")
    questions.ask(Place("!room"), ANN, second, None, "$q2")
    end = time.monotonic() + orders.SETTLE
    door.until(lambda: time.monotonic() > end)
    door.hear(said("yes"))
    door.settle()
    assert done == ["second", "second"]


def test_whoever_asked_may_stop_the_answer_in_words_too(
    talk: Make, ann: Person, ben: Person, model: Talking
) -> None:
    door = talk(first=0.05)
    begun(door)
    model.say = lambda _: ["So far ", 60.0, "no further"]
    door.hear(said("Go on", BEN, **COMPANY))
    door.until(lambda: any("So far" in text for text in door.service.texts()))
    door.hear(said("--stop", BEN, **COMPANY))
    door.settle()
    assert answer_with(door, "So far").text == "So far \n\n*(stopped)*"
    door.hear(said("--stop", BEN, **COMPANY))
    door.settle()
    assert "belongs to somebody else" in door.service.notices()[-1]


def test_guests_are_bound_by_what_holds_now_and_do_not_come_without_end(
    talk: Make, house: House, ann: Person, model: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = talk(guests=True, guest_requests=5)
    door.hear(said("One", BEN))
    door.settle()
    door.close()
    again = talk(guests=True, guest_requests=1)
    again.hear(said("Two", BEN))
    again.settle()
    assert "quota of 1 requests a day is used up" in again.service.texts()[-1]
    monkeypatch.setattr(known, "MOST_GUESTS", 1)
    again.hear(said("Hello", "@cem:example.org"))
    again.settle()
    assert "no more are let in now" in again.service.notices()[-1]
    assert len(model.asked) == 1
