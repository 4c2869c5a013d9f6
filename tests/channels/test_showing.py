"""How an answer appears: typing, placeholder, edits, the last words. Numbers: docs/channels.md."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.channels.conftest import Talk
from tests.channels.surface import Service, said
from tests.servers.talking import Talking
from wordmill.accounts import Person
from wordmill.channels.rooms.base import Place
from wordmill.channels.rooms.budget import Budget
from wordmill.channels.rooms.splitting import split
from wordmill.errors import ChannelError, ChannelLimited, ChannelRefused
from wordmill.providers.base import Place as Queued
from wordmill.providers.openai import OpenAI

Make = Callable[..., Talk]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_09_the_budget_begins_strict_obeys_refusals_and_grows() -> None:
    clock = Clock()
    budget = Budget(clock=clock)
    passed = 0
    while budget.spare():
        budget.sent()
        passed += 1
    assert 5 <= passed < 10  # room is kept for the last words
    clock.now += 10
    assert budget.spare()
    budget.refused(5.0)
    assert not budget.spare()
    assert budget.closed == 5.0
    clock.now += 5.0
    assert budget.closed == 0.0
    assert budget.rate <= 0.2
    for _ in range(40):  # the service takes more than was believed
        budget.sent()
    assert budget.rate > 0.2


def test_09_room_is_kept_for_each_answer_that_has_last_words_to_say() -> None:
    budget = Budget(clock=Clock())
    budget.waiting = 5
    passed = 0
    while budget.spare():
        budget.sent()
        passed += 1
    assert passed <= 5


def test_09_and_12_a_limited_service_gets_its_pause_and_the_last_words_land(
    talk: Make, ann: Person, model: Talking
) -> None:
    service = Service(gaps=(0.05,))
    refusals: list[str] = []

    def refuse(verb: str, place: Place, nonce: str) -> None:
        if verb == "edit" and len(refusals) < 3:
            refusals.append(nonce)
            raise ChannelLimited("Too often.", 0.1)

    service.refuse = refuse
    model.say = lambda _: ["One ", 0.3, "two ", 0.3, "three"]
    door = talk(service, first=0.05)
    door.hear(said("Count"))
    door.settle()
    assert refusals
    assert service.texts() == ["One two three"]


def test_a_limit_of_a_minute_is_waited_for_and_every_answer_lands_once(
    talk: Make, ann: Person, model: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a homeserver has it: of the account, in all rooms. The clock jumps, nobody waits."""
    clock, service, really = Clock(), Service(gaps=(0.02,)), asyncio.sleep
    service.budget = Budget(clock=clock)
    opens, slept, refused = clock.now + 60.0, [], []

    async def sleep(seconds: float, result: object = None) -> object:
        if seconds > 30.0:
            slept.append(seconds)
            clock.now += seconds
            seconds = 0.0
        return await really(seconds, result)

    def refuse(verb: str, place: Place, nonce: str) -> None:
        if clock.now < opens:
            refused.append(verb)
            raise ChannelLimited("Too often.", opens - clock.now)

    service.refuse = refuse
    monkeypatch.setattr(asyncio, "sleep", sleep)
    model.say = lambda body: ["You ", 0.3, f"said: {body['messages'][-1]['content']}"]
    rooms = ["!room", "!two", "!three"]
    door = talk(service, first=0.02)
    door.hear(*(said(f"From {room}", place=Place(room)) for room in rooms))
    door.settle()
    assert {room: service.texts(room) for room in rooms} == {
        room: [f"You said: From {room}"] for room in rooms
    }
    assert slept == [60.0]  # one waits, and the others after it
    assert len(refused) <= len(rooms)  # nobody knocks while it is closed


def test_11_a_message_is_edited_at_most_so_often(talk: Make, ann: Person, model: Talking) -> None:
    service = Service(gaps=(0.01,), most_edits=5)
    model.say = lambda _: [piece for number in range(40) for piece in (f"{number} ", 0.03)]
    door = talk(service, first=0.01)
    door.hear(said("Count"))
    door.settle()
    (shown,) = service.shown.values()
    assert len(shown.edits) <= 6  # the last one is not counted
    assert shown.text.endswith("39")


def test_12_nothing_but_typing_is_shown_of_an_answer_that_comes_quickly(
    talk: Make, ann: Person
) -> None:
    door = talk()
    door.hear(said("Hello"))
    door.settle()
    (shown,) = door.service.shown.values()
    assert shown.edits == []
    assert door.service.typings["!room"] in ([], [True, False])


def test_12_a_placeholder_always_ends_as_an_answer_or_an_error(
    talk: Make, ann: Person, model: Talking
) -> None:
    model.say = lambda _: [0.4, "Late."]
    door = talk(first=0.05)
    door.hear(said("Hello"))
    (shown,) = door.until(lambda: list(door.service.shown.values()))
    assert shown.text == "…"
    assert shown.post.kind == "growing"
    door.settle()
    assert (shown.text, shown.post.kind) == ("Late.", "answer")

    model.refuse = lambda _: (400, "This model is on holiday.")
    door.hear(said("Again"))
    door.settle()
    failed = list(door.service.shown.values())[-1]
    assert failed.post.kind == "failed"
    assert "on holiday" in failed.text


def test_whoever_waits_for_a_model_is_told_the_place_in_the_queue(
    talk: Make, ann: Person, model: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenAI, "place", lambda *_: Queued(3, 20.0, "ready"))
    turn = threading.Event()

    def say(_: object) -> Iterator[str]:
        turn.wait(30)
        yield "Late."

    model.say = say
    door = talk(first=0.05)
    door.hear(said("Hello"))
    (shown,) = door.until(lambda: list(door.service.shown.values()))
    door.until(lambda: shown.text == "*third in line, about 20 s* …")
    turn.set()
    door.settle()
    assert shown.text == "Late."


def test_13_where_the_last_edit_fails_the_answer_is_sent_anew(
    talk: Make, ann: Person, model: Talking
) -> None:
    service = Service(gaps=(9.0,))

    def refuse(verb: str, place: Place, nonce: str) -> None:
        if verb == "edit":
            raise ChannelRefused("The message was deleted.")

    service.refuse = refuse
    model.say = lambda _: [0.3, "It is this."]
    door = talk(service, first=0.05)
    door.hear(said("What is it?"))
    door.settle()
    assert service.texts() == ["…", "It is this."]


def test_14_typing_is_said_again_and_taken_back_on_every_way_out(
    talk: Make, ann: Person, model: Talking
) -> None:
    service = Service(typing=0.05)
    door = talk(service)
    model.say = lambda _: [0.3, "Done."]
    door.hear(said("Hello"))
    door.settle()
    assert service.typings["!room"].count(True) > 3
    assert service.typings["!room"][-1] is False
    model.refuse = lambda _: (400, "No.")
    door.hear(said("Again"))
    door.settle()
    assert service.typings["!room"][-1] is False
    model.refuse = lambda _: None
    model.say = lambda _: [30.0]
    door.hear(said("And again"))
    door.until(lambda: service.typings["!room"][-1])
    door.close()
    assert service.typings["!room"][-1] is False


def test_14_two_answers_in_one_room_type_until_the_second_is_there(
    talk: Make, ann: Person, ben: Person, model: Talking
) -> None:
    door = talk()
    model.say = lambda body: [0.4 if "slow" in str(body) else 0.05, "Done."]
    door.hear(said("slow"))
    door.hear(said("quick", "@ben:example.org"))
    door.settle()
    assert door.service.typings["!room"].count(False) == 1


def test_15_what_is_too_long_goes_on_in_further_messages_while_it_grows(
    talk: Make, ann: Person, model: Talking
) -> None:
    lines = [f"This is line {number} of a long answer.\n\n" for number in range(300)]
    service = Service(gaps=(0.05,))
    pieces = [piece for line in lines for piece in (line, 0.005)]
    model.say = lambda _: pieces
    door = talk(service, first=0.05)
    door.hear(said("Go on and on"))
    door.settle()
    assert service.texts() == split("".join(lines), 3998)
    assert len(service.shown) == 3
    assert all(len(one.text) <= 4000 for one in service.shown.values())


def test_16_a_very_long_answer_comes_as_a_file_too(talk: Make, ann: Person, model: Talking) -> None:
    text = "word " * 10_000
    model.say = lambda _: [text]
    door = talk()
    door.hear(said("All of it"))
    door.settle()
    ((_, name, data),) = door.service.given
    assert name == "answer.md"
    assert data.decode() == text


def test_17_stop_ends_the_request_and_keeps_what_there_is(
    talk: Make, ann: Person, model: Talking
) -> None:
    model.say = lambda _: ["So far ", 60.0, "no further"]
    door = talk(first=0.05)
    door.hear(said("Tell me"))
    door.until(lambda: any("So far" in text for text in door.service.texts()))
    door.hear(said("--stop"))
    door.settle()
    assert door.service.texts() == ["So far \n\n*(stopped)*"]
    door.until(lambda: model.hung_up == 1)
    assert door.service.notices() == ["Stopped. What there was of the answer is kept."]


def test_an_answer_without_a_word_is_said_to_be_one(
    talk: Make, ann: Person, model: Talking
) -> None:
    model.say = lambda _: [""]
    door = talk()
    door.hear(said("Hello"))
    door.settle()
    assert "gave no answer (empty)" in door.service.texts()[0]


def test_an_answer_of_what_cannot_be_seen_is_said_to_be_one(
    talk: Make, ann: Person, model: Talking
) -> None:
    model.say = lambda _: ["\u200b\u2060 \u200d\u3164"]
    door = talk()
    door.hear(said("Hello"))
    door.settle()
    assert door.service.texts() == ["*(The model answered nothing.)*"]


def test_a_service_that_is_away_for_a_while_gets_the_answer_later(talk: Make, ann: Person) -> None:
    service, away = Service(), [True, True]

    def refuse(verb: str, place: Place, nonce: str) -> None:
        if away:
            away.pop()
            raise ChannelError("Nobody is there.")

    service.refuse = refuse
    door = talk(service)
    door.hear(said("Hello"))
    door.settle()
    assert service.texts() == ["You said: Hello"]


def test_a_room_that_was_left_does_not_stop_the_others(talk: Make, ann: Person) -> None:
    service = Service()

    def refuse(verb: str, place: Place, nonce: str) -> None:
        if place.room == "!left":
            raise ChannelRefused("We are not in that room.")

    service.refuse = refuse
    door = talk(service)
    door.hear(said("Hello", place=Place("!left")), said("Hello"))
    door.settle()
    assert service.texts() == ["You said: Hello"]


def test_a_limit_of_a_minute_is_waited_for_and_nothing_hammers(talk: Make, ann: Person) -> None:
    service = Service()

    def refuse(verb: str, place: Place, nonce: str) -> None:
        raise ChannelLimited("Come back in a minute.", 60.0)

    service.refuse = refuse
    door = talk(service)
    for number in range(5):
        door.hear(said(f"Hello {number}", place=Place(f"!room{number}")))
    door.do(asyncio.sleep(2.0))
    assert len(service.calls) <= 6  # one each at most, and then they wait
    service.refuse = lambda *_: None
    service.budget._closed_until = 0.0
    # The waiting ends with the door; whoever opens it next says the answers.
    door.close()
    again = talk(Service())
    again.settle()
    assert len(again.service.shown) == 5


def test_four_hundred_calls_of_json_stay_below_the_limit() -> None:
    """The measure that Matrix uses is that of the wire."""
    from wordmill.channels.matrix.surface import SIZE, escaped

    text = 'Ein "Zitat", ein \\ und 🎉🎉🎉 ' * 4000
    for part in split(text, SIZE, escaped):
        assert len(json.dumps(part)) <= SIZE + 2
