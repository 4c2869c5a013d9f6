"""The connection to Discord: sessions that go on, what was missed, what only a person can mend."""

import logging
from typing import Any

import pytest

from tests.discord.conftest import Mill
from wordmill.channels.discord import client
from wordmill.channels.discord.failures import INTENTS, SIGNED_OUT
from wordmill.channels.rooms.records import Records

STOPPED = " The channel has stopped; it starts when it is changed."


def test_a_session_goes_on_without_a_lost_or_doubled_message(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    room = running.direct(ann)
    service.say(room, ann, "one")
    running.hears("You said: one", room)
    for code in (4000, 1001, 4007):
        service.cut(running.bot, code)
        service.say(room, ann, f"during {code}")
        running.hears(f"You said: during {code}", room)
    assert running.bot.resumed >= 3
    assert running.bot.identified == 1
    service.say(room, ann, "last")
    running.hears("You said: last", room)
    assert len(running.answers(room)) == 5
    assert len(running.model.asked) == 5


def test_a_session_that_is_lost_is_caught_up_with(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    room = running.direct(ann)
    service.say(room, ann, "one")
    running.hears("You said: one", room)
    service.say(service.general, ann, f"{running.mention} two")
    running.hears("You said: ann: two")
    service.forget_sessions(running.bot)
    service.say(room, ann, "alone")
    service.say(service.general, ann, f"{running.mention} in company")
    running.hears("You said: alone", room)
    running.hears("You said: ann: in company")
    service.until(lambda: running.bot.identified == 2)
    assert len(running.answers()) == 4


def test_what_was_said_while_nobody_was_there_is_answered_once(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    room = running.direct(ann)
    thread = service.add_thread(service.general, "Tea", ann)
    service.say(room, ann, "one")
    running.hears("You said: one", room)
    service.say(thread, ann, f"{running.mention} in the thread")
    running.hears("You said: ann: in the thread", thread)
    running.stop()
    for number in range(3):
        service.say(room, ann, f"away {number}")
    service.say(service.general, ann, f"{running.mention} away")
    service.say(thread, ann, "away too")
    running.start()
    for number in range(3):
        running.hears(f"You said: away {number}", room)
    running.hears("You said: ann: away")
    running.hears("You said: ann: away too", thread)
    running.stop()
    running.start()
    service.say(room, ann, "last")
    running.hears("You said: last", room)
    assert len(running.answers()) == 8
    asked = [text for text in running.model.questions if "away " in text and "ann" not in text]
    assert asked == ["away 0", "away 1", "away 2"]


def test_of_much_that_was_missed_nothing_is_lost_and_all_comes_in_its_order(
    running: Mill, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann, service = running.knows("ann"), running.service
    room = running.direct(ann)
    service.say(room, ann, "one")
    running.hears("You said: one", room)
    running.stop()
    monkeypatch.setattr(client, "MISSED", 2)
    caplog.set_level(logging.INFO, client.__name__)
    for number in range(5):
        service.say(room, ann, f"away {number}")
        service.say(service.general, ann, f"nobody is asked {number}")
    service.say(service.general, ann, f"{running.mention} at the end")
    taken: list[Any] = []
    heard = Records.hear

    def hear(records: Records, incoming: Any) -> Any:
        taken.extend(one.event for one in incoming)
        return heard(records, incoming)

    monkeypatch.setattr(Records, "hear", hear)
    running.start()
    for number in range(5):
        running.hears(f"You said: away {number}", room)
    running.hears("You said: ann: at the end")
    assert taken == sorted(taken, key=int)
    assert len(running.answers()) == 7
    assert "more than 2 messages were missed" in caplog.text


def test_what_was_said_before_the_first_start_is_history(mill: Mill) -> None:
    ann, service = mill.knows("ann"), mill.service
    service.say(service.general, ann, f"{mill.mention} long ago")
    mill.configure()
    mill.start()
    service.say(service.general, ann, f"{mill.mention} now")
    mill.hears("You said: ann: now")
    assert mill.answers() == ["You said: ann: now"]


def test_without_the_intent_the_channel_says_what_to_switch_on(mill: Mill) -> None:
    mill.bot.content = False
    mill.configure()
    other = mill.service.add_bot("second")
    mill.configure("other", other)
    ann = mill.knows("ann")
    mill.manager_start()
    mill.wait(lambda: mill.status().get("words"))
    assert mill.status()["words"] == INTENTS + STOPPED
    assert mill.house.troubled_channels()["chat"] == INTENTS + STOPPED
    room = mill.service.add_direct(other, ann)
    mill.service.until(lambda: other.connected)
    mill.service.say(room, ann, "hi")
    mill.service.until(lambda: mill.service.said_by(other.id, room))
    assert mill.bot.identified == 0


def test_a_bad_token_stops_its_channel_alone_until_it_is_changed(mill: Mill) -> None:
    mill.configure()
    good = mill.bot.token
    mill.bot.token = "renewed"
    mill.manager_start()
    mill.wait(lambda: mill.status().get("words"))
    assert mill.status()["words"] == SIGNED_OUT + STOPPED
    assert good not in str(mill.status())
    refused = len(mill.service.refused)
    assert refused == 1, "it is not tried again and again"
    mill.accounts.change(mill.admin, mill.name, hidden={"token": "renewed"})
    mill.wait(lambda: mill.status().get("connected"))
    assert mill.house.troubled_channels() == {}


def test_a_token_revoked_in_mid_answer_leaves_the_answer_for_the_next_start(
    running: Mill,
) -> None:
    ann, service = running.knows("ann"), running.service
    room = running.direct(ann)
    service.say(room, ann, "warm up")
    running.hears("You said: warm up", room)
    token, running.bot.token = running.bot.token, "renewed"
    running.model.say = lambda _: ["Late."]
    service.say(room, ann, "hi")
    running.wait(lambda: "does not accept the token" in (running.status().get("words") or ""))
    assert "Late." not in running.answers(room)
    running.accounts.change(running.admin, running.name, hidden={"token": "renewed"})
    running.hears("Late.", room)
    assert running.answers(room) == ["You said: warm up", "Late."]
    assert token not in str(running.status())


def test_a_service_that_is_down_is_tried_again(mill: Mill) -> None:
    mill.service.gateway_down = True
    mill.configure()
    mill.manager_start()
    mill.wait(lambda: mill.status().get("words"))
    mill.service.gateway_down = False
    mill.wait(lambda: mill.status().get("connected") and not mill.status().get("words"))
    ann = mill.knows("ann")
    mill.service.say(mill.direct(ann), ann, "hi")
    mill.hears("You said: hi", mill.direct(ann))


def test_several_bots_at_once_keep_their_rooms_apart(running: Mill) -> None:
    other = running.service.add_bot("second")
    running.configure("other", other)
    ann, service = running.knows("ann"), running.service
    service.until(lambda: other.connected)
    first, second = running.direct(ann), service.add_direct(other, ann)
    service.say(first, ann, "to the first")
    service.say(second, ann, "to the second")
    running.hears("You said: to the first", first)
    said = service.until(lambda: service.said_by(other.id, second))
    assert [one["content"] for one in said] == ["You said: to the second"]
    assert running.conversations(ann) == 2
