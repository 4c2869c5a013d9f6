"""What goes wrong with one message is said where it was said, and done no second time."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.channels.conftest import ANN, Talk
from tests.channels.surface import Service, said
from tests.servers.talking import Talking
from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.rooms.base import Place, Reaction
from wordmill.errors import InvalidInput, StorageError

Make = Callable[..., Talk]


def failing(error: BaseException) -> Callable[..., Any]:
    def act(*_: object, **__: object) -> None:
        raise error

    return act


def test_a_fault_of_ours_is_told_and_the_message_is_handled(
    talk: Make, house: House, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = talk()
    monkeypatch.setattr(house.chat, "send", failing(AttributeError("None has no attribute")))
    message = said("Hello")
    door.hear(message)
    door.settle()
    assert door.service.notices() == ["⚠ This met a fault of Wordmill; its log says more."]
    monkeypatch.undo()
    again = talk(door.service)
    again.settle()
    assert door.service.texts() == []


def test_an_error_after_what_a_command_says_is_said_too(
    talk: Make, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = talk()
    monkeypatch.setattr(door.door, "follow", failing(InvalidInput("The file is gone.")))
    door.hear(said("--models"))
    door.settle()
    first, second = door.service.notices()
    assert "mock" in first
    assert second == "⚠ The file is gone."


def test_what_a_sign_cannot_do_is_said(
    talk: Make, house: House, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = talk()
    thread = {"direct": False, "place": Place("!room", "$root")}
    door.hear(said("--generate rlhi 2", mentions_us=True, **thread))
    door.settle()
    (question,) = door.service.shown.values()
    door.sign(Reaction("$r1", Place("!room"), ANN, "Ann", question.id, "retry"))
    door.settle()
    assert house.desk(ann).registry.all() == []
    gone = InvalidInput("There is no such recipe any more.")
    monkeypatch.setattr(door.door.orders, "run", failing(gone))
    door.sign(Reaction("$r2", Place("!room"), ANN, "Ann", question.id, "up"))
    door.settle()
    told = list(door.service.shown.values())[-1]
    assert told.text == "⚠ There is no such recipe any more."
    assert (told.place, told.reply_to) == (Place("!room", "$root"), question.id)


def test_somebody_who_was_disabled_meanwhile_says_yes_to_nothing(
    talk: Make, house: House, admin: Person, ann: Person
) -> None:
    door = talk()
    door.hear(said("--generate rlhi 2"))
    door.settle()
    (question,) = door.service.shown.values()
    house.accounts.people.change(admin, ann.id, disabled=True)
    door.sign(Reaction("$r1", Place("!room"), ANN, "Ann", question.id, "up"))
    door.settle()
    assert house.desk(ann).registry.all() == []


def test_an_answer_is_shown_though_the_database_was_away(
    talk: Make, ann: Person, model: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = talk(Service())
    whole, left = door.door.showing.show, [StorageError("The database is away.")]

    async def show(*given: Any) -> bool:
        if left:
            raise left.pop()
        return await whole(*given)

    monkeypatch.setattr(door.door.showing, "show", show)
    door.hear(said("Hello"))
    door.until(lambda: door.service.texts() == ["You said: Hello"])
    assert len(model.asked) == 1
