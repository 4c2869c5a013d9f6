"""A Redis of one's own: in a folder that goes away, on a port the system chose, with a password."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

WAIT: float = 60.0
"""Seconds that a start may take; it takes a tenth of one on a machine that is free."""
_CONFIG = """\
bind 127.0.0.1
port {port}
dir {folder}
requirepass {password}
appendonly {lasting}
appendfsync everysec
save ""
maxmemory 256mb
maxmemory-policy noeviction
databases 16
"""


@dataclass
class Server:
    """One that listens on `port`; its data is in `folder`.

    lasting: it keeps what it was told in an append-only file, so that a start after a kill has it.
    """

    folder: Path
    program: str
    port: int
    password: str
    lasting: bool
    _process: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is, for every client. Database 0; others by the number at its end."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Serve, with the data and the port from before. Returns when it answers."""
        config = self.folder / "redis.conf"
        config.touch(0o600)
        lasting = "yes" if self.lasting else "no"
        config.write_text(
            _CONFIG.format(
                port=self.port, folder=self.folder, password=self.password, lasting=lasting
            )
        )
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                [self.program, str(config)], cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._process.append(process)
        until = time.monotonic() + WAIT
        while not self.answers():
            assert process.poll() is None, f"Redis ended by itself:\n{self._log()}"
            assert time.monotonic() < until, f"Redis does not answer:\n{self._log()}"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a power cut would. What it had written down stays."""
        process = self._process.pop()
        process.send_signal(signal.SIGKILL)
        process.wait()

    def freeze(self) -> None:
        """Keep it from answering; its connections stay open."""
        self._process[0].send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it answer again."""
        self._process[0].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, if it was started."""
        while self._process:
            self.kill()

    @property
    def pids(self) -> list[int]:
        """Of the process, while it was started from here."""
        return [process.pid for process in self._process]

    def client(self) -> redis.Redis:
        """A client of its own, for a look inside. Close it."""
        return redis.Redis.from_url(self.url, socket_timeout=10)

    def answers(self) -> bool:
        """Whether a client can come in."""
        try:
            with self.client() as client:
                client.ping()
                return True
        except redis.RedisError:
            return False

    def _log(self) -> str:
        return (self.folder / "output").read_text(errors="replace")[-4000:]


@contextmanager
def serving(*, lasting: bool = True) -> Iterator[Server]:
    """Serve a Redis, remove it. Skips where it is missing; fails in CI.

    lasting: as Wordmill wants it, with an append-only file; without one a kill loses everything.
    """
    with tempfile.TemporaryDirectory(prefix="wordmill-", ignore_cleanup_errors=True) as name:
        server = make(Path(name), lasting=lasting)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def make(folder: Path, *, lasting: bool = True) -> Server:
    """One that will keep its data in this empty folder. Skips where Redis is missing."""
    program = _program()
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    return Server(folder, program, port, secrets.token_hex(8), lasting)


def _program() -> str:
    found = shutil.which("redis-server")
    if found is not None:
        return found
    words = "Redis is not installed: `apt-get install redis-server` brings it."
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)
