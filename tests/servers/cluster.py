"""The scaled-out size, running: each part a process of its own that can be killed and started."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.servers import elasticsearch, postgres, rabbitmq, redis

WORDMILL: Final = str(Path(sys.executable).with_name("wordmill"))
PROVIDER_KEY: Final = "sk-cluster-" + "7" * 32
"""Sent to the provider with each request; it must be found nowhere."""


class Process:
    """A program that is started again with the same words after it was killed."""

    def __init__(self, name: str, words: list[str], environment: dict[str, str], log: Path) -> None:
        self.name, self._words, self._environment, self._log = name, words, environment, log
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.alive:
            return
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                self._words, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL, with all that it started."""
        if self._running is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._running is not None and self._running.poll() is None

    def megabytes(self, which: str = "VmRSS") -> float:
        """What it holds in memory now, or with `VmHWM` the most that it ever held."""
        assert self._running is not None
        status = Path(f"/proc/{self._running.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(which))
        return int(line.split()[1]) / 1024

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class Cluster:
    """All parts, running. Made by `serving`."""

    def __init__(
        self,
        folder: Path,
        consumer: Path,
        servers: dict[str, Any],
        rehearse: Sequence[str],
        settings: Mapping[str, str],
    ) -> None:
        self.folder, self.servers = folder, servers
        self.home = folder / "home"
        self.port = _free_port()
        self.rehearsal_port = _free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if "WORDMILL" not in name},
            "WORDMILL_HOME": str(self.home),
            "WORDMILL_DATABASE_URL": servers["database"],
            "WORDMILL_BROKER_URL": servers["broker"].url,
            "WORDMILL_ELASTICSEARCH_URL": servers["elasticsearch"].url,
            "WORDMILL_REDIS_URL": servers["redis"].url,
            "WORDMILL_ADMIN_EMAIL": "ann@example.org",
            "WORDMILL_ADMIN_PASSWORD": secrets.token_urlsafe(16),
            "WORDMILL_LOG_FORMAT": "json",
            "CLUSTER_KEY": PROVIDER_KEY,
            **settings,
        }

        def process(name: str, *words: str, **more: str) -> Process:
            log = folder / f"{name}.log"
            return Process(name, list(words), {**self.environment, **more}, log)

        self.rehearsal = process(
            "rehearsal", WORDMILL, "rehearse", "--port", str(self.rehearsal_port), *rehearse
        )
        self.parts = {
            "api": process("api", WORDMILL, "serve", "--port", str(self.port), "--no-open"),
            "worker": process("worker", WORDMILL, "worker", "--concurrency", "1"),
            "consumer 1": process("consumer-1", str(consumer)),
            "consumer 2": process("consumer-2", str(consumer)),
        }

    def start(self, model: str, limits: Sequence[str]) -> None:
        """Start all and wait until the API answers; add the model, with these limits."""
        self.rehearsal.start()
        self.wait(lambda: self.asked(self.rehearsal_port, "/stats") is not None, 20)
        self.parts["api"].start()
        self.wait(lambda: self.asked(self.port, "/health/live") is not None, 60)
        self.command(
            "models", "add", model, "--provider", "openai",
            "--base-url", f"http://127.0.0.1:{self.rehearsal_port}/v1", "--model", "rehearsal",
            "--key-env", "CLUSTER_KEY", *limits,
        )  # fmt: skip
        self.key = self.command("keys", "create", "cluster", "--person", "ann@example.org").strip()
        for part in self.parts.values():
            part.start()

    def search_settings(self, path: str, body: dict[str, Any]) -> None:
        """Change settings of Elasticsearch; it may be dead just then."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            request = Request(
                self.servers["elasticsearch"].url + path,
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
                method="PUT",
            )
            try:
                urlopen(request, timeout=30).close()
            except (URLError, OSError):
                time.sleep(0.5)
            else:
                return
        raise TimeoutError(f"Elasticsearch did not take {path} within a minute.")

    def asked(self, port: int, path: str) -> Any:
        """What a server says, as JSON; None while it does not answer."""
        request = Request(f"http://127.0.0.1:{port}{path}")
        if port == self.port and hasattr(self, "key"):
            request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urlopen(request, timeout=10) as answer:
                body = answer.read()
        except (URLError, OSError):
            return None
        return json.loads(body) if body.startswith(b"{") else body

    def command(self, *words: str) -> str:
        """A command of `wordmill`, to its end; what it printed."""
        done = subprocess.run(
            [WORDMILL, *words], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"wordmill {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def wait(self, ready: Callable[[], bool], seconds: float, every: float = 0.1) -> None:
        """Wait until something is so, looking so often. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Not so after {seconds:g} s; the logs are in {self.folder}.")
            time.sleep(every)

    def stop(self) -> None:
        """Kill what is left."""
        for part in (*self.parts.values(), self.rehearsal):
            part.kill()


@contextmanager
def serving(
    folder: Path,
    consumer: Path,
    rehearse: Sequence[str] = (),
    model: str = "mock",
    limits: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """Start the servers and all parts; stop them at the end.

    consumer: the program.  rehearse: options of the rehearsal server.  model: its name.
    limits: options of the model.
    settings: more of the environment.
    """
    with ExitStack() as stack:
        postgresql = stack.enter_context(postgres.serving())
        servers = {
            "database": postgresql.new_database(),
            "broker": stack.enter_context(rabbitmq.serving()),
            "elasticsearch": stack.enter_context(elasticsearch.serving()),
            "redis": stack.enter_context(redis.serving()),
        }
        cluster = Cluster(folder, consumer, servers, rehearse, settings or {})
        stack.callback(cluster.stop)
        cluster.start(model, limits)
        yield cluster


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
