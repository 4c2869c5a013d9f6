"""Answers on Discord as they grow: placeholder, edits and their limits, parts, files, the end."""

import asyncio
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.discord.conftest import Mill
from tests.servers.discord import buttons


def slowly(pieces: int, pause: float) -> Iterator[str | float]:
    for number in range(pieces):
        yield f"word{number} "
        yield pause


def times(mill: Mill, message: str) -> list[float]:
    return [at for at, _ in mill.service.edits(message)]


def files(mill: Mill, room: str) -> list[object]:
    said = mill.service.said_by(mill.bot.id, room)
    return [file for message in said for file in message["attachments"]]


def test_a_fast_answer_comes_whole_with_typing_and_nothing_before(running: Mill) -> None:
    ann = running.knows("ann")
    room = running.direct(ann)
    running.service.say(room, ann, "hi")
    answer = running.hears("You said: hi", room)
    assert len(running.service.edits(answer["id"])) == 1
    assert {channel for channel, *_ in running.service.typing} <= {room}
    assert [one["emoji"] for one in buttons(answer)] == ["🔁", "👍", "👎"]


def test_a_slow_answer_grows_by_edits_a_second_apart_and_ends_whole(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    running.model.say = lambda _: slowly(90, 0.1)
    asked = time.monotonic()
    service.say(room, ann, "tell me")
    grown = service.until(lambda: service.said_by(running.bot.id, room))[0]
    assert times(running, grown["id"])[0] - asked >= 2.9, "only typing for three seconds"
    assert grown["content"].endswith("…")
    assert [one["label"] for one in buttons(grown)] == ["Stop"]
    whole = "".join(f"word{number} " for number in range(90)).strip()
    service.until(lambda: service.messages[grown["id"]]["content"] == whole)
    seen = times(running, grown["id"])
    assert 3 <= len(seen) <= 62
    assert all(after - before >= 0.95 for before, after in pairwise(seen[1:]))
    assert [one["emoji"] for one in buttons(service.messages[grown["id"]])] == ["🔁", "👍", "👎"]
    texts = [version["content"].removesuffix(" …") for _, version in service.edits(grown["id"])]
    assert all(whole.startswith(text) for text in texts)
    assert len(running.answers(room)) == 1
    assert len({at for channel, _, at in service.typing if channel == room}) >= 2
    calls = len(service.calls)
    time.sleep(1.5)
    assert [call for call in service.calls[calls:] if "typing" in call.path] == []
    assert times(running, grown["id"]) == seen, "no edit after the last one"


def test_stop_ends_the_answer_and_keeps_what_there_is(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    running.model.say = lambda _: slowly(600, 0.1)
    service.say(room, ann, "tell me")
    grown = service.until(lambda: service.said_by(running.bot.id, room))[0]
    service.click(grown["id"], "Stop", ann)
    service.until(lambda: "(stopped)" in service.messages[grown["id"]]["content"])
    text = service.messages[grown["id"]]["content"]
    assert text.startswith("word0 word1")
    assert text.endswith("*(stopped)*")
    service.until(lambda: running.model.hung_up)
    assert [one["label"] for one in buttons(service.messages[grown["id"]])] == ["Retry"]


def test_a_sign_stops_retries_and_rates(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    running.model.say = lambda _: slowly(600, 0.1)
    service.say(room, ann, "tell me")
    grown = service.until(lambda: service.said_by(running.bot.id, room))[0]
    service.react(ann, grown["id"], "⏹️")
    service.until(lambda: "(stopped)" in service.messages[grown["id"]]["content"])
    running.model.say = lambda _: ["Another one."]
    service.react(ann, grown["id"], "🔁")
    second = running.hears("Another one.", room)
    service.react(ann, second["id"], "👍")
    conversations, person = running.house.conversations, running.people[ann]
    conversation = conversations.all(person).items[0].id

    def rated() -> bool:
        return [one.score for one in conversations.ratings(person, conversation).values()] == [1]

    running.wait(rated)


def test_a_model_that_fails_after_a_placeholder_says_so_in_its_place(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service

    def failing(_: object) -> Iterator[str | float]:
        yield from slowly(40, 0.1)
        raise OSError

    running.model.say = failing
    service.say(room, ann, "tell me")
    grown = service.until(lambda: service.said_by(running.bot.id, room))[0]
    service.until(lambda: "⚠" in service.messages[grown["id"]]["content"])
    assert "…" not in service.messages[grown["id"]]["content"]
    running.model.say = lambda _: ["Well again."]
    service.say(room, ann, "and now?")
    running.hears("Well again.", room)


def test_last_words_whose_message_is_gone_are_said_anew(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    running.model.say = lambda _: slowly(50, 0.1)
    service.say(room, ann, "tell me")
    grown = service.until(lambda: service.said_by(running.bot.id, room))[0]
    del service.messages[grown["id"]]
    whole = "".join(f"word{number} " for number in range(50)).strip()
    running.hears(whole, room)
    assert len(running.answers(room)) == 1


def test_edits_keep_to_what_the_headers_allow(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    service.limits["edit"] = (2, 6.0)
    running.model.say = lambda _: slowly(80, 0.1)
    service.say(room, ann, "tell me")
    whole = "".join(f"word{number} " for number in range(80)).strip()
    answer = running.hears(whole, room)
    assert service.refused == [], "no request was refused"
    assert len(service.edits(answer["id"])) <= 5


def test_a_limit_that_nobody_announced_is_waited_for(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    service.limit("POST channels/.*/messages", 1.5, times=2)
    service.say(room, ann, "hi")
    running.hears("You said: hi", room)
    assert len(running.answers(room)) == 1


@pytest.mark.parametrize("everywhere", [False, True], ids=["of a channel", "of all"])
def test_a_limit_of_a_minute_is_waited_for_and_other_channels_go_on_where_they_may(
    running: Mill, monkeypatch: pytest.MonkeyPatch, everywhere: bool
) -> None:
    """Nobody waits here: the minute ends when the test says so."""
    ann, ben = running.knows("ann"), running.knows("ben")
    mine, other = running.direct(ann), running.direct(ben)
    really, over, slept = asyncio.sleep, threading.Event(), []

    async def sleep(seconds: float, result: object = None) -> object:
        if 50.0 < seconds <= 60.0:
            slept.append(seconds)
            while not over.is_set():
                await really(0.02)
            seconds = 0.0
        return await really(seconds, result)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    service = running.service
    service.limit(f"POST channels/{mine}/messages", 60.0, everywhere=everywhere)
    service.say(mine, ann, "one")
    service.until(lambda: slept)
    service.say(other, ben, "two")
    if not everywhere:
        running.hears("You said: two", other)
    assert running.answers(mine) == []
    over.set()
    running.hears("You said: one", mine)
    running.hears("You said: two", other)
    assert running.answers(mine) == ["You said: one"]
    assert running.answers(other) == ["You said: two"]


def test_a_long_answer_comes_in_parts_and_as_a_file(running: Mill) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    code = "\n".join(f"    step_{number}()" for number in range(400))
    text = f"Here it is.\n\n```python\ndef all():\n{code}\n```\n\nThat was all."
    running.model.say = lambda _: [text]
    said = service.say(room, ann, "write it")
    service.until(
        lambda: [one for one in service.said_by(running.bot.id, room) if one["attachments"]]
    )
    *shown, file = service.said_by(running.bot.id, room)
    texts = [one["content"] for one in shown]
    assert len(texts) >= 3
    assert all(len(one) <= 2000 for one in texts)
    assert all(one.count("```") % 2 == 0 for one in texts)
    inside = "\n".join(texts).replace("\n```\n```python\n", "\n")
    assert [line.strip() for line in inside.splitlines() if "step_" in line] == [
        f"step_{number}()" for number in range(400)
    ]
    assert [bool(buttons(one)) for one in shown] == [False] * (len(shown) - 1) + [True]
    attachment = file["attachments"][0]
    assert attachment["filename"] == "answer.md"
    assert service.files[attachment["id"]][1].decode() == text
    assert service.replies(said)[0]["content"].startswith("Here it is.")


def test_many_answers_at_once_land_each_in_its_place(running: Mill) -> None:
    service = running.service
    service.limits["send"] = (5, 0.2)
    people = [running.knows(f"person{number}") for number in range(6)]
    said = {}
    for number in range(4):
        for user in people:
            room = running.direct(user)
            text = f"{user} {number}"
            said[service.say(room, user, text)] = (room, text)
    service.until(lambda: len(running.answers()) >= len(said), 60)
    for message, (room, text) in said.items():
        (answer,) = service.replies(message)
        assert (answer["channel_id"], answer["content"]) == (room, f"You said: {text}")


@pytest.mark.parametrize("size", [64 * 1024])
def test_an_answer_of_64_kilobytes_arrives(running: Mill, size: int) -> None:
    ann = running.knows("ann")
    room, service = running.direct(ann), running.service
    service.limits["send"] = (50, 1.0)
    running.model.say = lambda _: ["ninety " * (size // 7)]
    service.say(room, ann, "a lot")
    service.until(
        lambda: [one for one in service.said_by(running.bot.id, room) if one["attachments"]]
    )
    words = sum(text.count("ninety") for text in running.answers(room))
    assert words == size // 7
