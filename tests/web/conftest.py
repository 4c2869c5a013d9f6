"""A real server in a process of its own, and the system's Chromium in front of it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

from tests.servers.talking import Body, Piece, Talking, talking
from tests.web.bench import ADMIN, PASSWORD, Bench

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Names are not looked up: whatever a page wants from elsewhere it does not get, and is seen.
PROGRAM = str(Path(sys.executable).with_name("wordmill"))
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
PATIENCE = 45_000
"""Milliseconds: on a machine with other work a page takes its time."""
WORDS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
)  # fmt: skip


class Server:
    """`wordmill serve` at `url`, its lines of output, its data folder."""

    def __init__(self, folder: Path, port: int, environment: dict[str, str]) -> None:
        self.url, self.home = f"http://127.0.0.1:{port}", folder / "home"
        self._log = folder / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", "--port", str(port), "--no-open"],
                cwd=folder, stdout=log, stderr=subprocess.STDOUT,
                env={**environment, "WORDMILL_HOME": str(self.home)},
            )  # fmt: skip
        self._wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def first_link(self) -> str:
        found = re.search(r"http://\S+/first\?code=\S+", self.log)
        assert found, self.log
        return found[0]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _wait(self) -> None:
        end = time.monotonic() + 40
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log
            try:
                if httpx.get(f"{self.url}/health/ready").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"The server did not come up: {self.log}")


@contextmanager
def served(folder: Path, **variables: str) -> Iterator[Server]:
    plain = {n: v for n, v in os.environ.items() if not n.startswith(("WORDMILL_", "HF_"))}
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    server = Server(folder, port, {**plain, "PYTHONUNBUFFERED": "1", **variables})
    try:
        yield server
    finally:
        server.close()


def answer(body: Body) -> Iterator[Piece]:
    """`slow`: twelve words in six seconds. `long`: the same ten times, for who means to stop it.
    `silent`: nothing for long. `think`: reasoning first. `say: ...`: just that. Else what was
    asked, again.
    """
    asked = body["messages"][-1]["content"]
    if asked.startswith(("slow", "long")):
        for word in WORDS * (10 if asked.startswith("long") else 1):
            yield f"{word} "
            yield 0.5
    elif asked.startswith("silent"):
        yield 90.0
    elif asked.startswith("think"):
        yield {"reasoning_content": "It is about mills."}
        yield 1.0
        yield "Mills."
    elif "a title" in asked:
        yield "A short title"
    elif asked.startswith("say: "):
        yield asked.removeprefix("say: ")
    else:
        yield f"You said {asked}."


@pytest.fixture(scope="module")
def talk() -> Iterator[Talking]:
    with talking(answer) as server:
        yield server


@pytest.fixture(scope="module")
def server(talk: Talking, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With an admin, and the model `talker` as the one that is asked."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "wordmill.toml").write_text(
        f'[models.talker]\nbase_url = "{talk.url}"\nmodel = "mock-1"\n'
    )
    with served(
        folder,
        WORDMILL_ADMIN_EMAIL=ADMIN,
        WORDMILL_ADMIN_PASSWORD=PASSWORD,
        WORDMILL_DEFAULT_MODEL="talker",
    ) as found:
        yield found


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    # Not for the whole session: while it lives, asyncio.run() is refused on this thread.
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """The system's Chromium. Where it is missing the test is skipped, in CI it fails."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        words = "Chromium is not installed: `apt-get install chromium` brings it."
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    found = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
    yield found
    found.close()


@pytest.fixture(scope="module")
def signed_in(browser: Browser, server: Server) -> Any:
    """The cookies of one who signed in once; tests that sign out sign in for themselves."""
    context = browser.new_context()
    Bench(context.new_page(), server.url).sign_in()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def beyond() -> tuple[str, ...]:
    """Servers to which a test means its pages to go."""
    return ()


@pytest.fixture
def opened(
    browser: Browser, server: Server, beyond: tuple[str, ...], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Bench]]:
    """Open a browser of one's own, with what `new_context` takes; its last view is kept.

    At the end: no request of any page may have left for another server.
    """
    contexts: list[BrowserContext] = []
    left: list[str] = []

    def note(page: Page, home: str) -> None:
        fine = (home, "data:", "blob:", *beyond)
        page.on("request", lambda one: None if one.url.startswith(fine) else left.append(one.url))

    def open_one(url: str = "", **options: Any) -> Bench:
        options.setdefault("viewport", {"width": 1280, "height": 850})
        options.setdefault("locale", "en-GB")
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        note(page, url or server.url)
        return Bench(page, url or server.url)

    yield open_one
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
    for number, context in enumerate(contexts):
        for page in context.pages:
            Bench(page, "").picture(f"{name}-{number}" if number else name)
        context.close()
    assert left == []


@pytest.fixture
def bench(opened: Callable[..., Bench], signed_in: Any) -> Bench:
    """Signed in, at a desk's width, the page for talk open."""
    found = opened(storage_state=signed_in)
    found.go("/")
    return found


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server that nobody should reach: its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{found.server_port}", asked
        finally:
            found.shutdown()
