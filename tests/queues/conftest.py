"""Brokers, and real workers that can be killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.runs.conftest import COMMAND, Project

WAIT = 60.0


def wait_for(condition: Callable[[], object], seconds: float = WAIT) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """The processes that a process has begun and not lost."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


@dataclass
class Worker:
    """A `wordmill worker` in a process of its own."""

    process: subprocess.Popen[str]
    log: Path
    killed: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def celery(self) -> int:
        """Its process that hears of jobs: the one whose children do them."""
        return next(pid for pid in children_of(self.pid) if children_of(pid))

    def said(self) -> str:
        return self.log.read_text()

    def end(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT)


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, project: Project
) -> str:
    """Redis with SQLite, or RabbitMQ with PostgreSQL."""
    if request.param == "redis":
        monkeypatch.setenv("WORDMILL_REDIS_URL", request.getfixturevalue("redis_server").url)
    else:
        url = request.getfixturevalue("postgres_url")
        monkeypatch.setenv("WORDMILL_DATABASE_URL", url)
        monkeypatch.setenv("WORDMILL_BROKER_URL", request.getfixturevalue("rabbitmq_server").url)
    return str(request.param)


@pytest.fixture
def hire(project: Project) -> Iterator[Callable[..., Worker]]:
    """Start a worker; it is there when this returns. All are ended after the test."""
    started: list[Worker] = []

    def start(*words: str) -> Worker:
        log = project.folder / f"worker-{len(started)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [COMMAND, "worker", "--concurrency", "1", *words],
                cwd=project.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                text=True, env={**os.environ, "WORDMILL_LOG_FORMAT": "json"},
            )  # fmt: skip
        one = Worker(process, log)
        started.append(one)

        def is_there() -> bool:
            assert process.poll() is None, one.said()
            return any(children_of(pid) for pid in children_of(one.pid))

        wait_for(is_there)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            below = [pid for child in children_of(one.pid) for pid in children_of(child)]
            for pid in (one.pid, *children_of(one.pid), *below):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        one.process.wait(WAIT)
