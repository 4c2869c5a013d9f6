"""A server that dies in the middle of answers, and what the next one makes of them."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.chat.talk import Talk, until

SERVER = """
import json, sys, time
from wordmill.channels.house import open_house
from wordmill.settings import load

with open_house(load()) as house:
    who = house.accounts.people.local()
    for text in sys.argv[1:]:
        talk = house.conversations.create(who)
        turn = house.chat.send(who, talk.id, text, door="web")
        print(json.dumps([talk.id, turn.job, turn.answer]), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def die() -> Iterator[Callable[..., list[list[str]]]]:
    """Ask in a process of its own; killed with no time to say good-bye once `when` holds."""
    started: list[subprocess.Popen[str]] = []

    def run(*texts: str, when: Callable[[list[list[str]]], bool]) -> list[list[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, *texts], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline()) for _ in texts]
        until(lambda: when(told), 60.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return told

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_a_killed_servers_answers_are_kept_or_made_again(open_here, me, model, die):
    here = open_here()
    here.chat.close(1.0)  # it looks, and does not work

    def say(body):
        if body["messages"][-1]["content"] == "Talk.":
            while True:
                yield "word "
                yield 0.02
        while True:  # until nobody listens any more
            yield 0.1

    model.say = say
    message = here.conversations.message

    def begun(told: list[list[str]]) -> bool:
        talked, waited = (message(me, answer) for _, _, answer in told)
        return bool(talked.text) and waited.state == "answering"

    (talked, _, first), (waited, job, second) = die("Talk.", "Wait.", when=begun)
    partial = message(me, first).text
    assert partial.startswith("word ")
    assert message(me, first).state == message(me, second).state == "answering"
    assert here.jobs.get(me.id, job).state == "running"

    model.say = lambda _: ["After all."]
    asked = len(model.asked)
    next_one = open_here()
    interrupted = Talk(next_one, me, next_one.conversations.get(me, talked)).ended(first)
    again = Talk(next_one, me, next_one.conversations.get(me, waited))
    assert (interrupted.state, interrupted.text) == ("interrupted", partial)
    answer = again.ended(second)
    assert (answer.state, answer.text) == ("done", "After all.")
    assert model.questions[asked:] == ["Wait."]  # what had begun is not asked, and paid, again
    until(lambda: next_one.jobs.get(me.id, job).state == "done")
    assert next_one.jobs.get(me.id, job).fence == 2
    # What the dead one kept can be gone on with.
    on = Talk(next_one, me, next_one.conversations.get(me, talked))
    turn = next_one.chat.continue_(me, first)
    assert on.ended(turn.answer).text == partial + "After all."


def test_who_wanted_its_end_meanwhile_is_heard(open_here, me, model, die):
    here = open_here()
    here.chat.close(1.0)
    model.say = lambda _: itertools.repeat(0.1)
    ((talk, job, answer),) = die(
        "Wait.",
        when=lambda told: here.conversations.message(me, told[0][2]).state == "answering",
    )
    assert here.chat.stop(me, answer) == [answer]
    asked = len(model.asked)
    next_one = open_here()
    found = Talk(next_one, me, next_one.conversations.get(me, talk)).ended(answer)
    assert found.state == "stopped"
    assert len(model.asked) == asked
    until(lambda: next_one.jobs.get(me.id, job).state == "cancelled")
