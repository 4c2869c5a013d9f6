"""An engine and a server whose every answer a test decides."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wordmill import _engine

CHAT = "/chat/completions"


class Answers(ThreadingHTTPServer):
    """A server that answers each POST by `answer(number, body)` and remembers what came."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, answer: Callable[[int, dict[str, Any]], Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.closed = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Answers

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.paths.append(self.path)
            self.server.headers.append(dict(self.headers))
        answer = self.server.answer(number, body)
        if callable(answer):
            answer(self)
            return
        status, content, headers = answer
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def said(text: str | None, **more: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    """A plain good answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        **more,
    }
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}, {}


def refused(
    status: int, message: str, code: str | None = None, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """An error in OpenAI's shape."""
    return (
        status,
        {"error": {"message": message, "code": code}},
        {k.replace("_", "-"): v for k, v in headers.items()},
    )


@pytest.fixture
def serve() -> Iterator[Callable[..., Answers]]:
    servers: list[Answers] = []

    def start(answer: Callable[[int, dict[str, Any]], Any]) -> Answers:
        server = Answers(answer)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Driver:
    """An engine with one shape, driven to its end."""

    def __init__(self, config: dict[str, Any], body: dict[str, Any] | None = None) -> None:
        self.engine = _engine.Engine(json.dumps(config))
        self.lane = config["lanes"][0]["name"]
        body = body or {"messages": [{"role": "user", "content": "\0"}], "max_tokens": 100}
        self.shape = self.engine.shape(self.lane, CHAT, json.dumps(body))

    def offer(self, prompts: dict[int, str], salt: bool = True) -> None:
        ids = list(prompts)
        sent = 0
        while sent < len(ids):
            part = ids[sent : sent + 500]
            salts = [n + 1 if salt else 0 for n in part]
            sent += self.engine.submit(self.shape, part, [prompts[n] for n in part], salts, 0.1)

    def collect(self, count: int, seconds: float = 30) -> dict[int, dict[str, Any]]:
        """The next `count` outcomes by id."""
        found: dict[int, dict[str, Any]] = {}
        for _ in range(int(seconds / 0.05)):
            batch = self.engine.poll(1000, 0.05)
            for n in range(len(batch)):
                assert batch.ids[n] not in found, "two records for one request"
                found[batch.ids[n]] = {
                    "text": batch.texts[n],
                    "error": batch.errors[n],
                    "detail": batch.details[n],
                    "finish": batch.finishes[n],
                    "model": batch.models[n],
                    "tokens": (batch.input_tokens[n], batch.output_tokens[n]),
                    "attempts": batch.attempts[n],
                    "flags": batch.flags[n],
                    "digest": batch.digests[n],
                    "cost": batch.costs[n],
                    "body": batch.bodies[n],
                }
            if len(found) >= count:
                return found
        raise AssertionError(f"only {len(found)} of {count} outcomes came: {self.metrics()}")

    def ask(self, prompts: dict[int, str], salt: bool = True) -> dict[int, dict[str, Any]]:
        self.offer(prompts, salt)
        return self.collect(len(prompts))

    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.engine.metrics())
        return found


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Engines for a URL: `drive(url, lane={...}, **config)`; closed at the end.

    records: whether they keep any, or the file's name.
    """
    started: list[Driver] = []

    def start(
        url: str,
        records: bool | str = True,
        lane: dict[str, Any] | None = None,
        lanes: list[dict[str, Any]] | None = None,
        body: dict[str, Any] | None = None,
        **config: Any,
    ) -> Driver:
        first = {"name": "m", "base_url": url, "model": "mock-1", "concurrency": 16, **(lane or {})}
        name = records if isinstance(records, str) else "records.db"
        whole = {
            "records": str(tmp_path / name) if records else None,
            "owner": "local",
            "lanes": [first, *(lanes or [])],
            **config,
        }
        driver = Driver(whole, body)
        started.append(driver)
        return driver

    yield start
    for driver in started:
        driver.engine.close()


__all__ = ["CHAT", "Answers", "Driver", "refused", "said"]
