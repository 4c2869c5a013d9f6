"""The server's own process: started when it is needed, found by others, ended with the last."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.model_server.conftest import until
from tests.model_server.test_pool import alive
from wordmill.accounts import Accounts
from wordmill.completions import Completions
from wordmill.database import open_database
from wordmill.errors import ConfigError
from wordmill.model_server.client import Client, client, running
from wordmill.models import Catalog, checked
from wordmill.providers import local_start
from wordmill.settings import Settings, load

Server: TypeAlias = "subprocess.Popen[str]"

SCRIPT = """
import sys
from tests.model_server.conftest import Library, stub_command
from wordmill.model_server.serving import Wish, serve
from wordmill.settings import load
from pathlib import Path
library = Library(Path({root!r}))
library.add("tiny", slots=4, token_seconds={pause})
serve(load(), library, Wish(needed={needed}, linger=0.5), command=stub_command,
      ready=lambda where: print("ready", flush=True))
"""
USER = """
import sys, time
from wordmill.providers.local_start import address
from wordmill.settings import load
print(address(load()).url, flush=True)
sys.stdin.read()
"""


@contextmanager
def started(root: Path, *, needed: bool = False, pause: float = 0.0) -> Iterator[Server]:
    root.mkdir(exist_ok=True)
    script = SCRIPT.format(root=str(root), needed=needed, pause=pause)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as server:  # fmt: skip
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield server
        server.terminate()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Server]:
    """A server with stub workers, in a process of its own."""
    with started(tmp_path / "models", pause=0.01) as server:
        yield server


def one() -> Client:
    found = running(load())
    assert found is not None
    return found


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_end_ends_its_workers(serving: Server, number: int) -> None:
    one().load("tiny")
    (worker,) = children(serving.pid)
    os.kill(serving.pid, number)
    serving.wait(30)
    until(lambda: not alive(worker), 10)


def test_what_others_need_to_know_is_in_a_file_for_its_owner(serving: Server, home: Path) -> None:
    file = home / "model-server.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(json.loads(file.read_text())) == {"url", "token"}


def test_a_second_one_sees_the_first(serving: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wordmill.model_server.serving"],
        timeout=60, check=False, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_is_started_when_it_is_needed_shared_and_ended_with_the_last(home: Path) -> None:
    with user() as first, user() as second:
        urls = {process.stdout.readline() for process in (first, second) if process.stdout}
        assert len(urls) == 1
        first.kill()
        first.wait(30)
        found = running(load())
        assert found is not None
        assert found.overview().models == ()
        second.kill()
    until(lambda: running(load()) is None, 40)


def user() -> Server:
    """A process that needs the server until it ends."""
    return subprocess.Popen(
        [sys.executable, "-c", USER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_after_a_kill_it_is_back_at_the_same_address(tmp_path: Path) -> None:
    """For those who hold it; a run goes on with the address that it began with."""
    settings = load()
    with started(tmp_path / "models") as server:
        first = local_start.address(settings)
        server.kill()
        server.wait(30)
        until(lambda: running(settings) is not None)
        assert local_start.address(settings) == first
        local_start.release(settings)


def test_orders_of_the_client(serving: Server) -> None:
    asked = client(load())
    try:
        assert asked.warm("tiny") > 0
        (tiny,) = asked.overview().models
        assert (tiny.state, tiny.slots, tiny.pinned) == ("ready", 4, False)
        assert tiny.memory > 1 << 20
        assert asked.pin("tiny", True)["pinned"] is True
        assert asked.restart("tiny")["state"] == "ready"
        assert asked.history("tiny")["tiny"]["total"]["requests"] == 1
        assert asked.unload("tiny") is True
        assert asked.unload("tiny") is False
    finally:
        local_start.release(load())


def test_a_server_that_does_not_come_up_says_why(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_start, "MODULE", "wordmill.model_server.nowhere")
    with pytest.raises(ConfigError, match=r"The model server did not come up: .*nowhere"):
        client(load())


@pytest.fixture
def asking(serving: Server) -> Iterator[tuple[Completions, Accounts, Settings]]:
    """A house's completions, with a catalog model that the server runs."""
    settings = load()
    with open_database(settings) as database:
        accounts = Accounts(database, settings)
        model = checked({"name": "tiny", "provider": "local", "model": "tiny"})
        Catalog(database, settings).add(model)
        completions = Completions(database, settings, accounts)
        yield completions, accounts, settings
        completions.close()
        local_start.release(settings)


def body(tokens: int, text: str = "hello") -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": tokens}


def test_a_catalog_model_is_answered_by_it(
    asking: tuple[Completions, Accounts, Settings],
) -> None:
    completions, accounts, _ = asking
    person = accounts.people.local()
    answer = completions.stream(person, "tiny", body(5), door="test")
    assert "".join(piece.text for piece in answer) == "one t1 t2 t3 t4"
    assert answer.reply is not None
    assert answer.reply.usage.output == 5
    people = one().history("tiny")["tiny"]["people"]
    assert people[person.id]["tokens_out"] == 5
    reply, _ = completions.ask(person, "tiny", body(2), door="test")
    assert reply.text == "one t1"


def test_who_waits_hears_the_place(asking: tuple[Completions, Accounts, Settings]) -> None:
    completions, accounts, _ = asking
    person = accounts.people.local()
    running = [completions.stream(person, "tiny", body(5000), door="test") for _ in range(4)]
    for answer in running:
        answer.next(10.0)
    until(lambda: one().overview().models[0].running == 4)
    waiting = completions.stream(person, "tiny", body(2), door="test")
    place = until(waiting.place)
    assert (place.place, place.state) == (1, "ready")
    for answer in running:
        answer.close()
    assert "".join(piece.text for piece in waiting) == "one t1"
    assert waiting.place() is None


def test_a_killed_worker_ends_the_turn_with_words(
    asking: tuple[Completions, Accounts, Settings],
) -> None:
    completions, accounts, _ = asking
    person = accounts.people.local()
    answer = completions.stream(person, "tiny", body(9, "crash please"), door="test")
    text = "".join(piece.text for piece in answer)
    assert text == "one t1"
    assert answer.reply is not None
    assert "ended in mid-answer: it was killed" in answer.reply.detail
    reply, _ = completions.ask(person, "tiny", body(2), door="test")
    assert reply.text == "one t1"


def test_the_house_imports_no_engine(home: Path) -> None:
    code = (
        "import sys\n"
        "import wordmill.channels.api.app, wordmill.channels.house, wordmill.providers.local\n"
        "import wordmill.model_server.serving, wordmill.model_server.client\n"
        "heavy = {'torch', 'transformers', 'openvino', 'openvino_genai', 'xllamacpp'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"


def test_many_threads_start_one_server(home: Path) -> None:
    settings = load()
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(local_start.address(settings).url))
        for _ in range(8)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(found) == 8
        assert len(set(found)) == 1
    finally:
        local_start.release(settings)
