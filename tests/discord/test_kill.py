"""Killed at the worst moment: every prompt is answered once, and in its place."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.discord.conftest import Mill

pytestmark = pytest.mark.once


@contextmanager
def process(mill: Mill) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process with the same house; killed at the end, if it still runs."""
    command = [sys.executable, "-m", "tests.discord.mill", mill.service.rest, mill.service.gateway]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}) as running:
        try:
            yield running
        finally:
            running.kill()


def killed(mill: Mill, running: "subprocess.Popen[bytes]") -> None:
    running.send_signal(signal.SIGKILL)
    running.wait()


def test_another_answer_after_a_restart_is_not_taken_for_the_one_before(mill: Mill) -> None:
    mill.configure()
    mill.start()
    service, ann = mill.service, mill.knows("ann")
    room = mill.direct(ann)
    service.say(room, ann, "hi")
    first = mill.hears("You said: hi", room)
    mill.stop()
    mill.start()
    service.react(ann, first["id"], "🔁")
    mill.hears("You said: hi", room, times=2)
    assert mill.model.questions.count("hi") == 2


@pytest.mark.parametrize("nonces_last", [180.0, 0.0], ids=["nonce", "history"])
def test_killed_between_generating_and_sending_exactly_one_answer_appears(
    mill: Mill, nonces_last: float
) -> None:
    """The message is sent, and the process dies before it hears that."""
    mill.configure()
    service, ann = mill.service, mill.knows("ann")
    room = mill.direct(ann)
    with process(mill) as running:
        service.until(lambda: mill.bot.connected)
        service.say(room, ann, "warm up")
        mill.hears("You said: warm up", room)
        service.fail(r"POST channels/\d+/messages", lost=True, times=50)
        service.say(room, ann, "hi")
        service.until(lambda: "You said: hi" in mill.answers(room))
        killed(mill, running)
    service.faults.clear()
    service.nonces_last = nonces_last
    with process(mill):
        service.until(lambda: mill.bot.identified >= 2 and mill.bot.connected)
        service.say(room, ann, "and now")
        mill.hears("You said: and now", room)
    assert sorted(mill.answers(room)) == sorted(
        ["You said: warm up", "You said: hi", "You said: and now"]
    )
    assert mill.model.questions.count("hi") == 1


def test_killed_while_an_answer_grows_its_message_becomes_the_answer(mill: Mill) -> None:
    mill.configure()
    service, ann = mill.service, mill.knows("ann")
    room = mill.direct(ann)

    def slowly(_: object) -> Iterator[str | float]:
        for number in range(100):
            yield f"word{number} "
            yield 0.1

    mill.model.say = slowly
    with process(mill) as running:
        service.until(lambda: mill.bot.connected)
        service.say(room, ann, "tell me")
        service.until(lambda: mill.answers(room))
        killed(mill, running)
    assert mill.answers(room)[0].endswith("…")
    mill.model.say = lambda _: ["All of it."]
    with process(mill):
        service.until(lambda: not mill.answers(room)[0].endswith("…"), 90)
    assert len(mill.answers(room)) == 1


@pytest.mark.timeout(300)
def test_killed_at_random_moments_every_prompt_is_answered_once(mill: Mill) -> None:
    mill.configure()
    service, draw = mill.service, random.Random(7)
    service.limits["send"] = (50, 1.0)
    people = [mill.knows(f"person{number}") for number in range(5)]
    said: dict[str, tuple[str, str]] = {}

    def say(number: int) -> None:
        user = draw.choice(people)
        room = mill.direct(user)
        text = f"prompt {number} of {user}"
        said[service.say(room, user, text)] = (room, text)

    with process(mill) as running:  # the marker is set at the first start
        service.until(lambda: mill.bot.connected)
        say(0)
        service.until(lambda: mill.answers())
        killed(mill, running)
    for round_ in range(3):
        with process(mill) as running:
            service.until(lambda: mill.bot.connected)
            end = time.monotonic() + draw.uniform(0.3, 2.0)
            number = 0
            while time.monotonic() < end:
                number += 1
                say(100 * (round_ + 1) + number)
                time.sleep(draw.uniform(0.0, 0.2))
            killed(mill, running)
        say(1000 + round_)
    with process(mill):
        service.until(lambda: all(service.replies(message) for message in said), 120)
        time.sleep(1.0)
    for message, (room, text) in said.items():
        (answer,) = service.replies(message)
        assert (answer["channel_id"], answer["content"]) == (room, f"You said: {text}")
    assert len(mill.answers()) == len(said)
