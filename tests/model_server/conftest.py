"""A model server in this process, on stub workers that are real processes."""

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from wordmill.model_server.process import Command
from wordmill.model_server.served import Limits
from wordmill.model_server.serving import Wish, serve
from wordmill.model_server.types import Described
from wordmill.providers.local_start import Address
from wordmill.settings import load

STUB = Path(__file__).parent.parent / "servers" / "stub_worker.py"
LIMITS = Limits(memory=4 << 30, load=30.0, patience=0.3, drain=30.0, backoff=0.05)


def stub_command(model: Described) -> Sequence[str]:
    return [sys.executable, "-S", str(STUB), "--folder", str(model.path), "--name", model.name]


class Library:
    """Models in folders, as tests make and change them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models: dict[str, Described] = {}

    def add(
        self,
        name: str,
        *,
        pinned: bool = False,
        memory: int | None = 1 << 20,
        device: str | None = None,
        **behaviour: Any,
    ) -> None:
        folder = self.root / f"{name}-{len(list(self.root.iterdir()))}"
        folder.mkdir()
        (folder / "behaviour.json").write_text(json.dumps(behaviour))
        self.models[name] = Described(
            name=name, path=folder, memory=memory, pinned=pinned, options={"device": device}
        )

    def change(self, name: str, **fields: Any) -> None:
        self.models[name] = replace(self.models[name], **fields)

    def find(self, name: str) -> Described | None:
        return self.models.get(name)

    def names(self) -> list[str]:
        return sorted(self.models)


class Server:
    """A server that runs, and a client of it."""

    def __init__(self, where: Address, library: Library) -> None:
        self.where, self.library = where, library
        self.stop: Callable[[], None] = lambda: None
        self.key = {"Authorization": f"Bearer {where.token}"}
        limits = httpx.Limits(max_connections=None)
        self.http = httpx.Client(base_url=where.url, headers=self.key, timeout=60, limits=limits)

    def ask(
        self, text: str = "hello", model: str = "tiny", person: str = "ann", **more: Any
    ) -> Any:
        return self.http.post(
            "/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": text}], **more},
            headers={"X-Wordmill-Person": person},
        )

    @contextlib.contextmanager
    def stream(
        self, text: str = "hello", model: str = "tiny", person: str = "ann", **more: Any
    ) -> Iterator[httpx.Response]:
        messages = [{"role": "user", "content": text}]
        body = {"model": model, "messages": messages, "stream": True, **more}
        with self.http.stream(
            "POST", "/v1/chat/completions", json=body, headers={"X-Wordmill-Person": person}
        ) as answer:
            yield answer

    def told(self, text: str = "hello", **more: Any) -> list[str]:
        """All lines of a stream that say something."""
        with self.stream(text, **more) as answer:
            return [line for line in answer.iter_lines() if line]

    def models(self) -> dict[str, Any]:
        found = self.http.get("/admin/models").json()["models"]
        return {one["name"]: one for one in found}

    def order(self, order: str, model: str) -> httpx.Response:
        return self.http.post(f"/admin/{order}", json={"model": model})

    def worker(self, model: str = "tiny") -> int:
        """The process of a model that is loaded."""
        until(lambda: self.models().get(model, {}).get("pid"))
        return int(self.models()[model]["pid"])


def until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)
    return found


def text_of(lines: Sequence[str]) -> str:
    """The text of an answer's events."""
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(
        choice["delta"].get("content", "")
        for event in events
        for choice in event.get("choices", [])
    )


@pytest.fixture
def library(tmp_path: Path) -> Library:
    root = tmp_path / "models"
    root.mkdir()
    made = Library(root)
    made.add("tiny")
    return made


Start = Callable[..., Server]


@pytest.fixture
def start(library: Library) -> Iterator[Start]:
    """Start a server with other limits; it ends with the test."""
    ends: list[Callable[[], None]] = []

    def begin(command: Command = stub_command, **limits: Any) -> Server:
        up = threading.Event()
        found: list[Address] = []
        loops: list[asyncio.AbstractEventLoop] = []

        def ready(where: Address) -> None:
            found.append(where)
            loops.append(asyncio.get_running_loop())
            up.set()

        settings = load()
        stopping = Stopping()
        thread = threading.Thread(
            target=serve,
            args=(settings, library, Wish(stop=stopping.wait)),
            kwargs={
                "command": command,
                "limits": replace(LIMITS, **limits),
                "ready": ready,
            },
            daemon=True,
        )
        thread.start()
        assert up.wait(30)
        server = Server(found[0], library)

        def end() -> None:
            if thread.is_alive():
                stopping.set(loops[0])
                thread.join(30)
                assert not thread.is_alive()
            server.http.close()

        server.stop = end
        ends.append(end)
        return server

    yield begin
    for end in ends:
        end()


class Stopping:
    """An event that another thread sets."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    def set(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(self._event.set)


@pytest.fixture
def server(start: Start) -> Server:
    return start()
