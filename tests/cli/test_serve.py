"""`wordmill serve` as a process: how it begins, and how it ends when it is told to."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.servers.talking import Body, Piece, Talking, talking

PROGRAM = str(Path(sys.executable).with_name("wordmill"))
ADMIN = {"WORDMILL_ADMIN_EMAIL": "ann@example.org", "WORDMILL_ADMIN_PASSWORD": "a long one, this"}
SECRET = "heron"


def answer(body: Body) -> Iterator[Piece]:
    """`quick`: at once. Else two words, and then a long pause."""
    if body["messages"][-1]["content"].startswith("quick"):
        yield "Done."
        return
    yield f"The {SECRET} "
    yield "stands "
    yield 60.0


@pytest.fixture
def talk() -> Iterator[Talking]:
    with talking(answer) as server:
        yield server


class Process:
    """A server, its address, what it wrote, and a client with a key of the admin."""

    def __init__(self, folder: Path, talk: Talking, **variables: str) -> None:
        self.folder, self.log = folder, folder / "log"
        (folder / "wordmill.toml").write_text(
            f'[models.talker]\nbase_url = "{talk.url}"\nmodel = "mock-1"\n'
        )
        plain = {name: v for name, v in os.environ.items() if not name.startswith("WORDMILL_")}
        self._environment = {
            **plain, **ADMIN, "WORDMILL_HOME": str(folder / "home"), "WORDMILL_TITLES": "false",
            "WORDMILL_GRACE_SECONDS": "4", "WORDMILL_LOG_FORMAT": "json", **variables,
        }  # fmt: skip
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.port = one.getsockname()[1]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", "--port", str(self.port), "--no-open"],
                cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=self._environment,
            )  # fmt: skip
        self._until(lambda: httpx.get(f"{self.url}/health/ready").is_success, self.alive)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def alive(self) -> None:
        assert self.process.poll() is None, self.log.read_text()

    def _until(self, holds: object, look: object) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            look()  # type: ignore[operator]
            try:
                if holds():  # type: ignore[operator]
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def client(self) -> httpx.Client:
        made = subprocess.run(
            [PROGRAM, "keys", "create", "test", "--person", "ann@example.org"],
            cwd=self.folder, env=self._environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        key = made.stdout.strip()
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=20
        )

    def end(self, sent: signal.Signals = signal.SIGTERM) -> float:
        """Tell it to end; how long that took."""
        began = time.monotonic()
        self.process.send_signal(sent)
        self.process.wait(40)
        return time.monotonic() - began


@contextmanager
def serving(folder: Path, talk: Talking, **variables: str) -> Iterator[Process]:
    made = Process(folder, talk, **variables)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait(20)


def said(client: httpx.Client, text: str) -> str:
    """Say something in a new conversation; the answer's id."""
    kept = client.post("/api/conversations", json={"model": "talker"}).json()["id"]
    turn = client.post(f"/api/conversations/{kept}/messages", json={"text": text}).json()
    return str(turn["answers"][0])


def grown(client: httpx.Client, message: str, least: str) -> None:
    end = time.monotonic() + 30
    while least not in client.get(f"/api/messages/{message}").json()["text"]:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_ends_within_its_grace_and_what_was_answered_is_kept(
    tmp_path: Path, talk: Talking
) -> None:
    with serving(tmp_path, talk) as first:
        with first.client() as client:
            message = said(client, "slow")
            grown(client, message, "stands")
            # Somebody watches, and somebody streams: neither keeps the server from ending.
            body = {
                "model": "talker", "stream": True, "messages": [{"role": "user", "content": "x"}],
            }  # fmt: skip
            with (
                client.stream("GET", f"/api/messages/{message}/events") as events,
                client.stream("POST", "/v1/chat/completions", json=body) as streamed,
            ):
                next(events.iter_lines())
                next(streamed.iter_lines())
                took = first.end()
        assert first.process.returncode == 0, first.log.read_text()
        assert took < 4 + 3, first.log.read_text()
        end = time.monotonic() + 10
        while talk.hung_up < 2:  # both requests upstream were closed
            assert time.monotonic() < end
            time.sleep(0.02)
    with serving(tmp_path, talk) as second, second.client() as client:
        end = time.monotonic() + 30
        while (found := client.get(f"/api/messages/{message}").json())["state"] == "answering":
            assert time.monotonic() < end, found
            time.sleep(0.05)
        assert (found["state"], found["text"]) == ("interrupted", f"The {SECRET} stands ")
        assert second.end(signal.SIGINT) < 4 + 3
        assert second.process.returncode == 0


def test_what_was_not_begun_is_answered_after_a_restart(tmp_path: Path, talk: Talking) -> None:
    with serving(tmp_path, talk, WORDMILL_ANSWERS_AT_ONCE="1") as first, first.client() as client:
        grown(client, said(client, "slow"), "stands")
        waits = said(client, "quick, when you can")
        assert client.get(f"/api/messages/{waits}").json()["state"] == "waiting"
        first.end()
    with serving(tmp_path, talk) as second, second.client() as client:
        grown(client, waits, "Done.")
        second.end()


def test_its_log_has_no_text_and_no_key(tmp_path: Path, talk: Talking) -> None:
    with serving(tmp_path, talk) as server, server.client() as client:
        grown(client, said(client, f"quick {SECRET}"), "Done.")
        key = client.headers["authorization"].split()[1]
        server.end()
        log = server.log.read_text()
        records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        assert {"wordmill.turn", "wordmill.request"} <= {one["logger"] for one in records}
        assert SECRET not in log
        assert key not in log
        assert "a long one, this" not in log
