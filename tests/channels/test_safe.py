"""Nothing is lost, nothing is said twice: crashes, gaps, repetitions. Numbers: docs/channels.md."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.channels.conftest import Talk
from tests.channels.surface import Service, said
from tests.servers.talking import Talking
from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.rooms.base import Place
from wordmill.channels.rooms.records import Records

Make = Callable[..., Talk]


class Crash(BaseException):
    """The process ends here."""


def crashed(door: Talk) -> None:
    """What a kill leaves: the tasks of the door are gone, and nothing is put away."""
    for task in list(door.door._tasks):
        task.cancel()

    async def end() -> None:
        await asyncio.gather(*door.door._tasks, return_exceptions=True)

    door.do(end())


def test_19_what_was_heard_and_not_handled_is_handled_by_the_next(
    talk: Make, house: House, ann: Person
) -> None:
    records = Records(house.database, "chat")
    records.hear([said("One"), said("Two")])
    door = talk()
    door.settle()
    assert sorted(door.service.texts()) == ["You said: One", "You said: Two"]
    again = talk(Service())
    again.settle()
    assert again.service.shown == {}


def test_19_a_message_that_comes_again_is_answered_once(
    talk: Make, ann: Person, model: Talking
) -> None:
    message = said("Hello")
    door = talk()
    door.hear(message, message)
    door.settle()
    door.hear(message)
    door.settle()
    door.close()
    again = talk(door.service)
    again.hear(message, replayed=True)
    again.settle()
    assert len(model.asked) == 1
    assert door.service.texts() == ["You said: Hello"]


def test_19_after_a_gap_what_is_older_than_the_marker_is_history(talk: Make, ann: Person) -> None:
    door = talk()
    door.hear(said("Hello"))
    door.settle()
    door.close()
    at = datetime.now(UTC)
    again = talk()
    again.hear(
        said("long ago, under a new id", at=at - timedelta(hours=2)),
        said("while you were away", at=at + timedelta(seconds=1)),
        replayed=True,
    )
    again.settle()
    assert again.service.texts() == ["You said: while you were away"]


def test_19_at_the_first_start_everything_that_was_said_is_history(talk: Make, ann: Person) -> None:
    at = datetime.now(UTC)
    door = talk()
    door.hear(said("before you came", at=at - timedelta(seconds=1)), replayed=True)
    door.settle()
    assert door.service.shown == {}


@pytest.mark.parametrize("moment", ["before sending", "after sending", "before the last edit"])
def test_20_a_crash_between_generating_and_sending_gives_exactly_one_answer(
    talk: Make, ann: Person, model: Talking, moment: str
) -> None:
    service = Service()
    crash = [True]
    original = service.send

    def refuse(verb: str, place: Place, nonce: str) -> None:
        wanted = "edit" if moment == "before the last edit" else "send"
        if crash and verb == wanted and moment != "after sending":
            raise asyncio.CancelledError

    async def send_and_die(*given: object, **named: object) -> str:
        sent = await original(*given, **named)  # type: ignore[arg-type]
        if crash and moment == "after sending":
            raise asyncio.CancelledError
        return sent

    service.refuse = refuse
    service.send = send_and_die  # type: ignore[method-assign]
    if moment == "before the last edit":
        model.say = lambda _: ["One ", 0.4, "two"]
    door = talk(service, first=0.05 if moment == "before the last edit" else 3.0)
    door.hear(said("Count"))
    door.settle()
    crashed(door)
    crash.clear()
    again = talk(service)
    again.settle()
    whole = "One two" if moment == "before the last edit" else "You said: Count"
    assert service.texts() == [whole]
    assert len(model.asked) == 1
    third = talk(service)
    third.settle()
    assert service.texts() == [whole]


def test_20_an_answer_that_the_end_of_a_server_cut_off_is_asked_for_again(
    talk: Make, opened: Callable[[], House], house: House, ann: Person, model: Talking
) -> None:
    model.say = lambda _: ["Half ", 20.0, "whole"]
    service = Service()
    door = talk(service, first=0.05)
    door.hear(said("Tell me"))
    door.until(lambda: any("Half" in text for text in service.texts()))
    crashed(door)
    (turn,) = house.jobs.open("turn")
    answer = turn.payload["answers"][0]
    house.chat.close(0.0)
    house.conversations.finish(answer, "interrupted") if not house.conversations.message(
        ann, answer
    ).ended else None
    model.say = lambda _: ["The whole of it."]
    other = opened()
    again = talk(service, on=other)
    again.until(lambda: service.texts() == ["The whole of it."])


def test_a_crash_while_a_message_is_taken_in_makes_no_second_turn(
    talk: Make, house: House, ann: Person, model: Talking
) -> None:
    door = talk()
    message = said("Hello")
    original = door.door.records.handled

    def die(event: str, message: str | None = None) -> None:
        raise Crash

    door.door.records.handled = die  # type: ignore[method-assign]
    try:
        door.hear(message)
        door.settle()
    except Crash:
        pass
    door.door.records.handled = original  # type: ignore[method-assign]
    again = talk(door.service)
    again.settle()
    assert len(model.asked) == 1
    assert door.service.texts() == ["You said: Hello"]


def test_two_channels_keep_their_records_apart(house: House, ann: Person) -> None:
    from wordmill.database import channels, now

    with house.database.begin() as connection:
        connection.execute(
            channels.insert().values(
                name="other", kind="matrix", options={}, enabled=True, status={}, created=now(),
                updated=now(),
            )
        )  # fmt: skip
    message = said("Hello")
    first, second = Records(house.database, "chat"), Records(house.database, "other")
    assert first.hear([message]) == [message]
    assert second.hear([message]) == [message]
    assert first.hear([message]) == []
    assert first.nonce(message.event) != second.nonce(message.event)


def test_old_events_are_forgotten_and_stay_history(talk: Make, house: House, ann: Person) -> None:
    from sqlalchemy import update

    from wordmill.database import channel_events

    door = talk()
    message = said("Hello")
    door.hear(message)
    door.settle()
    door.close()
    with house.database.begin() as connection:
        long_ago = datetime.now(UTC) - timedelta(days=40)
        connection.execute(update(channel_events).values(received=long_ago))
    again = talk()
    assert again.door.records.knows([message.event]) == set()
    from dataclasses import replace

    again.hear(replace(message, at=long_ago), replayed=True)
    again.settle()
    assert again.service.texts() == []


def test_20_what_was_taken_in_and_written_down_is_shown_by_one_alone(
    talk: Make, house: House, ann: Person, model: Talking
) -> None:
    """A crash after the answer was written down, before the message counted as handled."""
    service = Service(gaps=(0.05,))
    model.say = lambda _: ["One ", 1.0, "two"]
    door = talk(service, first=0.05)
    message = said("Count")
    door.door.records.handled = lambda *_: None  # type: ignore[assignment, method-assign]
    door.hear(message)
    door.until(lambda: service.texts())
    crashed(door)
    again = talk(service, first=0.05)
    again.settle()
    assert service.texts() == ["One two"]
    finals = [nonce for verb, nonce in service.calls if verb == "edit" and "l0" in nonce]
    assert len(finals) == 1


def test_20_what_may_have_its_last_words_already_is_not_shown_growing_again(
    talk: Make, house: House, ann: Person, model: Talking
) -> None:
    service = Service(gaps=(0.02,))
    door = talk(service)
    message = said("Hello")
    door.hear(message)
    door.settle()
    crashed(door)
    door.door.records.change(message.event, state="open", remotes=[])  # what a kill leaves
    again = talk(service, first=0.0)
    again.settle()
    (shown,) = service.shown.values()
    assert (shown.text, shown.edits) == ("You said: Hello", [])
