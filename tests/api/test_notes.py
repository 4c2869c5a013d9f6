"""What a model server makes of a request otherwise than one would think reaches whoever asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import Server
from tests.model_server.conftest import Library, Start, library, start
from tests.servers import tiny_gguf, tiny_models
from tests.servers.model_server import serving
from tests.servers.talking import talking
from wordmill.backends.templates import FOLDED, PLAIN
from wordmill.channels.shell.partner import notes
from wordmill.chat.types import Message
from wordmill.commands import COMMANDS, Context
from wordmill.models import checked
from wordmill.providers import local_start
from wordmill.settings import load

__all__ = ["library", "start"]

NOTE = "x-wordmill-note"
SYSTEM = {"role": "system", "content": "Be short."}
HELLO = {"role": "user", "content": "Hello"}


@pytest.fixture(autouse=True)
def untitled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No further request, for a title, is under way when the models are gone."""
    monkeypatch.setenv("WORDMILL_TITLES", "false")


def added(server: Server, *names: str) -> None:
    for name in names:
        server.house.catalog.add(checked({"name": name, "provider": "local", "model": name}))


@pytest.fixture
def served(server: Server, library: Library, start: Start) -> Iterator[Server]:
    """With three models: `fold` has no system role, `bare` no template, `tiny` says nothing."""
    library.add("fold", capabilities={"system_role": False, "notes": [FOLDED]})
    library.add("bare", capabilities={"system_role": True, "notes": [PLAIN]})
    start()
    added(server, "fold", "bare", "tiny")
    yield server
    local_start.release(load())  # before its end, which would start another


def asked(server: Server, model: str, *messages: object, **more: Any) -> httpx.Response:
    with server.client("bob") as client:
        body = {"model": model, "messages": messages, **more}
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def turn(server: Server, model: str, system: str = "") -> Message:
    """A question in a conversation, and its answer."""
    bob, house = server.people["bob"], server.house
    talk = house.conversations.create(bob, model=model, system=system)
    sent = house.chat.send(bob, talk.id, "Hello", door="web")
    for _ in house.chat.watch(bob, sent.answer):
        pass
    return house.conversations.message(bob, sent.answer)


def test_the_api_hands_the_note_on_where_it_holds(served: Server) -> None:
    for more in ({}, {"stream": True}, {"n": 2}):
        assert asked(served, "fold", SYSTEM, HELLO, **more).headers[NOTE] == FOLDED
        assert NOTE not in asked(served, "fold", HELLO, **more).headers
        assert asked(served, "bare", HELLO, **more).headers[NOTE] == PLAIN
        assert NOTE not in asked(served, "tiny", SYSTEM, HELLO, **more).headers
        assert NOTE not in asked(served, "rehearsal", SYSTEM, HELLO, **more).headers
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.keys["bob"]) as client:
        for stream in (False, True):
            told = client.responses.with_raw_response.create(
                model="fold", input="Hello", instructions="Be short.", stream=stream
            )
            assert told.headers[NOTE] == FOLDED


def test_a_turn_carries_it_as_what_else_was_done_otherwise(served: Server) -> None:
    folded = turn(served, "fold", "Be short.")
    assert folded.sent is not None
    assert folded.sent["degraded"] == [FOLDED]
    assert notes(folded.sent) == (FOLDED,)  # which the shell writes below it
    assert "degraded" not in (turn(served, "fold").sent or {})
    assert (turn(served, "bare").sent or {})["degraded"] == [PLAIN]
    assert "degraded" not in (turn(served, "tiny", "Be short.").sent or {})
    talk = Context(served.people["bob"], served.house, "shell", folded.conversation)
    assert COMMANDS.run(talk, "/input-messages").text.endswith(f".\n\n{FOLDED}")


def test_a_server_that_says_nothing_of_its_models_is_no_trouble(server: Server) -> None:
    """As one of another kind that was added as a model server."""
    with talking("Fine.") as talk:
        odd = {"name": "odd", "provider": "local", "base_url": talk.url, "model": "m"}
        server.house.catalog.add(checked(odd))
        for stream in (False, True):
            assert NOTE not in asked(server, "odd", SYSTEM, HELLO, stream=stream).headers
        answer = turn(server, "odd", "Be short.")
    assert (answer.text, answer.state) == ("Fine.", "done")
    assert "degraded" not in (answer.sent or {})


def test_a_true_model_without_a_system_role(server: Server, tmp_path: Path) -> None:
    """From its own file to the header and the turn."""
    file = tiny_gguf.write(tiny_models.build(tmp_path / "gemma", "gemma"), tmp_path / "gemma.gguf")
    with serving({"gemma": file}):
        added(server, "gemma")
        bound = {"max_tokens": 3}
        assert asked(server, "gemma", SYSTEM, HELLO, stream=True, **bound).headers[NOTE] == FOLDED
        assert NOTE not in asked(server, "gemma", HELLO, **bound).headers
        assert (turn(server, "gemma", "Be short.").sent or {})["degraded"] == [FOLDED]
