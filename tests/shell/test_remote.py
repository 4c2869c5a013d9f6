"""The same shell against a server: over the API, with a key."""

import threading
import time

import pytest

from tests.api.conftest import Server, server
from tests.servers.imperfect import Asked, Told, serving
from tests.shell.test_chat import CTRL_C, CTRL_D, ENTER, TAB, words
from wordmill.channels.shell.partner import Piece, Place
from wordmill.channels.shell.remote import Remote
from wordmill.errors import ConfigError, InvalidInput, StorageError, Unauthenticated
from wordmill.models import checked

__all__ = ["server"]


@pytest.fixture
def remote(server: Server, model) -> Remote:
    """Bob's shell; `mock` is the server's model."""
    server.house.catalog.add(checked({"name": "mock", "base_url": model.url, "model": "mock-1"}))
    return Remote(server.url, server.keys["bob"])


@pytest.fixture
def sit_there(sit, server: Server, remote):
    def start(*arguments: str, **options):
        return sit("mock", *arguments, "--url", server.url, "--key", server.keys["bob"], **options)

    return start


def begun(remote: Remote) -> Place:
    return Place(remote.begin(Place(None, "mock")), "mock")


def test_a_sitting(sit_there, server, model, home):
    address = server.url.removeprefix("http://")
    terminal = sit_there()
    assert f"Talking with mock at {address} as bob." in terminal.lines()
    terminal.type("Hello?" + ENTER)
    terminal.wait("You said: Hello?")
    terminal.wait("tokens in")
    terminal.type("/title A day" + ENTER)
    terminal.wait("The conversation is called A day now.")
    terminal.type("/modles" + ENTER)
    terminal.wait("error: There is no command 'modles'.")
    terminal.wait("> /modles", count=2)
    terminal.type(CTRL_C)
    terminal.type("/swap-model reh")
    terminal.wait("rehearsal  rehearsal at rehearsal")
    terminal.type(TAB + CTRL_C)
    terminal.type(CTRL_D)
    assert terminal.ended() == 0
    (kept,) = server.house.conversations.all(server.people["bob"]).items
    assert kept.title == "A day"
    assert {
        one.door for one in server.house.conversations.branch(server.people["bob"], kept.id)
    } == {"shell"}
    assert (home / "history").is_dir()
    again = sit_there("-c")
    again.wait("Going on with A day:")
    again.wait("You said: Hello?")


def test_ctrl_c_stops_the_answer_there(sit_there, server, model):
    model.say = words
    terminal = sit_there()
    terminal.type("Speak" + ENTER)
    terminal.wait("word5 ")
    terminal.type(CTRL_C)
    terminal.wait("Stopped.")
    end = time.monotonic() + 10
    while not model.hung_up and time.monotonic() < end:
        time.sleep(0.02)
    assert model.hung_up == 1


def test_ask_and_a_file(ask, server, remote, model, tmp_path):
    (tmp_path / 'n"otes é.txt').write_text("Buy milk.")
    done = ask(
        "-m", "mock", "--url", server.url, "--key", server.keys["bob"], "-s", "Be brief.",
        "-a", 'n"otes é.txt', "What?",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Buy milk." in done.stdout.decode()
    assert [one["role"] for one in model.asked[0]["messages"]] == ["system", "user"]
    assert not server.house.conversations.all(server.people["bob"]).items


def test_plain_language_and_outcomes_travel(remote, model):
    model.say = lambda body: ['{"command": "set-input-buffer-size", "arguments": ["10"]}']
    place = begun(remote)
    proposal = remote.propose(place, "use only the last ten messages")
    assert proposal is not None
    outcome = remote.run(place, proposal.command, proposal.arguments)
    assert outcome.data == {"input_buffer_size": 10}
    assert remote.propose(place, "Hello!") is None
    model.say = lambda body: ["Hi."]
    answer = remote.send(place, "Hello!", [])
    assert "".join(piece.text for piece in remote.watch(answer)) == "Hi."
    file = remote.run(place, "/export json").file
    assert file is not None
    assert b"Hello!" in file.data


def test_an_answer_goes_on_after_the_connection_broke(server, remote, model):
    """The stream ends in the middle, twice; every piece is seen once, in order."""

    def slowly(body):
        for number in range(30):
            yield f"{number} "
            yield 0.02

    model.say = slowly
    place = begun(remote)
    answer = remote.send(place, "Count.", [])
    seen: list[Piece] = []
    broken = 0
    for piece in remote.watch(answer):
        seen.append(piece)
        if "".join(one.text for one in seen).count(" ") > 5 * (broken + 1) and broken < 2:
            broken += 1
            remote._watched.close()
    assert "".join(piece.text for piece in seen) == "".join(f"{number} " for number in range(30))
    assert seen[-1].state == "done"
    assert broken == 2


def test_a_server_that_stays_away_is_said(remote, server, model, monkeypatch):
    model.say = words
    place = begun(remote)
    answer = remote.send(place, "Go on.", [])
    pieces = remote.watch(answer)
    next(pieces)
    monkeypatch.setattr(remote, "_url", "http://127.0.0.1:9")
    threading.Timer(0.2, remote.close).start()
    with pytest.raises(StorageError, match="No answer from http://127"):
        list(pieces)
    server.house.chat.stop(server.people["bob"], answer)


def test_who_may_not(server):
    with pytest.raises(Unauthenticated, match="wordmill keys create"):
        Remote(server.url, "wm-nonsense")
    bob = server.people["bob"]
    _, reader = server.house.accounts.keys.create(bob, "reader", ["read"])
    remote = Remote(server.url, reader)
    assert remote.run(Place(), "/whoami").text.startswith("You are bob")
    with pytest.raises(Exception, match="it has the scopes read, and this needs chat"):
        remote.run(Place(), "/new")
    with pytest.raises(Exception, match="this needs runs"):
        remote.run(Place(None, "rehearsal"), "/generate rlhi 1")


@pytest.mark.parametrize(
    "url", ["example.org", "ftp://x", "http://", "http://user:word@host", "", "http:///x"]
)
def test_no_address(url):
    with pytest.raises(InvalidInput, match="is no address of a server"):
        Remote(url, "x")


@pytest.mark.parametrize(
    "told",
    [
        Told(404, b"<html>Not here</html>"),
        Told(200, b"<html>Hello</html>", {"Content-Type": "text/html"}),
        Told(200, {"unexpected": True}),
    ],
)
def test_something_else_answers_there(told):
    def answer(_: Asked) -> Told:
        return told

    with serving(answer) as served, pytest.raises(ConfigError, match="Wordmill"):
        Remote(served.url, "x")
