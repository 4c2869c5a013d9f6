"""The servers that are measured against, as processes: the bare one and the rehearsal model."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from bench.measure import cpu_seconds
from bench.places import BINARIES, MANIFEST, TARGET


def build() -> None:
    """Compile the programs of `servers/`; nothing happens when they are there."""
    command = ["cargo", "build", "--release", "--quiet", "--locked"]
    command += ["--manifest-path", str(MANIFEST), "--target-dir", str(TARGET)]
    subprocess.run(command, check=True)


@dataclass(frozen=True)
class Server:
    """A running server. `url` has no path; the API is below `url`/v1."""

    process: subprocess.Popen[str]
    url: str

    @property
    def base_url(self) -> str:
        """What clients want to know."""
        return self.url + "/v1"

    def stats(self) -> dict[str, Any]:
        """What it counted; see `servers/src/bin/bare-server.rs`."""
        with urlopen(self.url + "/stats", timeout=10) as reply:
            counts: dict[str, Any] = json.load(reply)
        return counts

    def reset(self, latency_ms: float = 0, limit: int = 0) -> None:
        """Count from nought with these settings. Bare server only."""
        query = f"/reset?latency_ms={latency_ms}&limit={limit}"
        with urlopen(Request(self.url + query, method="POST"), timeout=10) as reply:
            reply.read()

    def cpu(self) -> float:
        """CPU seconds used since its start."""
        return cpu_seconds(self.process.pid)


@contextmanager
def bare_server() -> Iterator[Server]:
    """The bare server on a port that the system chose."""
    command = [str(BINARIES / "bare-server")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process, process.stdout.readline().split()[-1])
        finally:
            process.terminate()


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def rehearsal_server(cores: set[int], *options: str) -> Iterator[Server]:
    """`wordmill rehearse` on the given cores, once it answers."""
    port = free_port()
    program = str(Path(sys.executable).parent / "wordmill")
    command = [program, "rehearse", "--port", str(port), *options]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    ) as process:
        try:
            server = Server(process, f"http://127.0.0.1:{port}")
            wait_until_it_answers(server)
            yield server
        finally:
            process.terminate()


def wait_until_it_answers(server: Server, seconds: float = 10.0) -> None:
    """Return once the server answers. Raises TimeoutError when it does not in time."""
    end = time.monotonic() + seconds
    while True:
        try:
            server.stats()
        except (URLError, ConnectionError) as error:
            if time.monotonic() > end or server.process.poll() is not None:
                raise TimeoutError(f"{server.process.args!r} does not answer: {error}") from error
            time.sleep(0.05)
        else:
            return


def load(url: str, body: Path, cores: set[int], seconds: float = 3.0) -> dict[str, float]:
    """What a server gives to raw load over 256 connections: answers, failed, seconds, rate."""
    command = [str(BINARIES / "load"), "--url", url + "/v1/chat/completions"]
    command += ["--body", str(body), "--seconds", str(seconds)]
    ran = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    counts: dict[str, float] = json.loads(ran.stdout)
    return counts
