"""The servers that Wordmill can stand on, for trying things out: `make services`.

Private ones in build/services, reached from this machine alone, each on a port that was free when
it was made: PostgreSQL, RabbitMQ, Redis and Elasticsearch, started as the tests start them. One
whose program is missing is left out, with a word on how to get it.

    scripts/services.py start    make them where they are missing, start them, print what to export
    scripts/services.py status   print what to export, or fail when one does not run
    scripts/services.py stop     stop them; their data stays until `make clean`
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.servers import elasticsearch, postgres, rabbitmq, redis  # noqa: E402

FOLDER = Path("build") / "services"
WAIT = 60.0
"""Seconds that a server has to end in good order."""


class Missing(Exception):
    """A program is not there; the words say how to get it."""


class Service(ABC):
    """A server with a folder of its own, which outlives the process that started it."""

    def __init__(self, name: str, variable: str) -> None:
        self.name, self.variable = name, variable
        self.folder = (FOLDER / name.lower()).absolute()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is, once it was made."""

    @property
    @abstractmethod
    def made(self) -> bool:
        """Whether it was made here."""

    @abstractmethod
    def running(self) -> bool:
        """Whether it runs."""

    @abstractmethod
    def start(self) -> None:
        """Make it where it is missing, start it where it does not run. Raises Missing."""

    @abstractmethod
    def stop(self) -> None:
        """End it in good order, if it runs."""


class PostgreSQL(Service):
    """With a password and on TCP: unlike that of the tests it is meant for people."""

    @property
    def url(self) -> str:
        """For clients on this machine."""
        password, port = ((self.folder / name).read_text().strip() for name in ("password", "port"))
        return f"postgresql://wordmill:{password}@127.0.0.1:{port}/wordmill"

    @property
    def made(self) -> bool:
        """Whether the cluster is there."""
        return (self.folder / "data" / "PG_VERSION").exists()

    def running(self) -> bool:
        """As its own program says."""
        return self.made and self._control("status") == 0

    def start(self) -> None:
        """Make the cluster, start it, make the database; each where it is missing."""
        if not self.made:
            self._make()
        if not self.running():
            port = (self.folder / "port").read_text().strip()
            options = f"-c listen_addresses=127.0.0.1 -c port={port}"
            log = str(self.folder / "data" / "server.log")
            given = ("-w", "-l", log, "-o", f"{options} -c unix_socket_directories=''")
            if self._control("start", *given):
                raise RuntimeError(f"PostgreSQL did not start; {log} says why.")
        server = self.url.rpartition("/")[0] + "/postgres"
        with psycopg.connect(server, autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'wordmill'")
            if found.fetchone() is None:
                connection.execute("CREATE DATABASE wordmill")

    def stop(self) -> None:
        """Whoever is still in it is sent away."""
        if self.running():
            self._control("stop", "-m", "fast", "-w")

    def _make(self) -> None:
        initdb, _ = programs(postgres.programs)
        data, password = self.folder / "data", secrets.token_urlsafe(24)
        data.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        with socket.create_server(("127.0.0.1", 0)) as held:
            written(self.folder / "port", str(held.getsockname()[1]))
        written(self.folder / "password", password)
        # A file holds it, so that no argument shows it; PostgreSQL's own user must be able to read.
        given = self.folder / "given"
        written(given, password)
        if (user := owner()) is not None:
            for path in (data, given):
                shutil.chown(path, user)
        try:
            subprocess.run(
                [initdb, "-D", data, "-U", "wordmill", "-A", "scram-sha-256", f"--pwfile={given}",
                 "-E", "UTF8", "--locale=C"],
                cwd="/", user=owner(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                check=True,
            )  # fmt: skip
        finally:
            given.unlink()

    def _control(self, *words: str) -> int:
        _, pg_ctl = programs(postgres.programs)
        return subprocess.run(
            [pg_ctl, "-D", self.folder / "data", *words], cwd="/", user=owner(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False,
        ).returncode  # fmt: skip


class Kept(Service):
    """A server of the tests, whose ports, password and processes are noted beside its data."""

    def __init__(self, name: str, variable: str, module: Any, trouble: str) -> None:
        super().__init__(name, variable)
        self.module, self.trouble = module, trouble

    @property
    def url(self) -> str:
        """For clients on this machine."""
        return str(self._server().url)

    @property
    def made(self) -> bool:
        """Whether it ran here once."""
        return (self.folder / "state.json").exists()

    def running(self) -> bool:
        """Whether a process of it lives."""
        return self.made and bool(self._living())

    def start(self) -> None:
        """With the port and the data that it had."""
        if self.running():
            return
        if not self.made:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, mode=0o700)
            server = programs(lambda: self.module.make(self.folder))
        else:
            server = self._server()
        try:
            server.start()
        except AssertionError as error:
            server.stop()
            raise RuntimeError(f"{self.trouble}\n{error}") from error
        state = {
            one.name: str(value) if isinstance(value := getattr(server, one.name), Path) else value
            for one in fields(server)
            if one.init and not one.name.startswith("_") and one.name != "folder"
        }
        pids = {str(pid): began(pid) for pid in server.pids}
        written(self.folder / "state.json", json.dumps({"server": state, "pids": pids}))

    def stop(self) -> None:
        """As told to; killed after a minute."""
        if not self.running():
            return
        until = time.monotonic() + WAIT
        for pid in reversed(self._living()):  # the server itself was started last
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)
            while began(pid) is not None and time.monotonic() < until:
                time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _server(self) -> Any:
        state = json.loads((self.folder / "state.json").read_text())["server"]
        made = {
            one.name: Path(state[one.name]) if one.type is Path else state[one.name]
            for one in fields(self.module.Server)
            if one.name in state
        }
        return self.module.Server(folder=self.folder, **made)

    def _living(self) -> list[int]:
        """Processes of it that live; a number that another one has now does not count."""
        pids = json.loads((self.folder / "state.json").read_text())["pids"]
        return [int(pid) for pid, start in pids.items() if start and began(int(pid)) == start]


SERVICES: tuple[Service, ...] = (
    PostgreSQL("PostgreSQL", "WORDMILL_DATABASE_URL"),
    Kept("RabbitMQ", "WORDMILL_BROKER_URL", rabbitmq, "RabbitMQ did not start."),
    Kept("Redis", "WORDMILL_REDIS_URL", redis, "Redis did not start."),
    Kept(
        "Elasticsearch", "WORDMILL_ELASTICSEARCH_URL", elasticsearch,
        "Elasticsearch did not start. It needs 1 GB of memory, and a folder that it can reach.",
    ),
)  # fmt: skip


def owner() -> str | None:
    """Who PostgreSQL is, where we are root, which it refuses to be."""
    return "postgres" if os.geteuid() == 0 else None


def programs(find: Any) -> Any:
    """What `find` gives. Raises Missing where the tests would skip."""
    try:
        return find()
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        raise Missing(error.msg) from error


def written(path: Path, text: str) -> None:
    """A file that its owner alone reads."""
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(text)


def began(pid: int) -> str | None:
    """When a process began, by the system's clock ticks; None when it is gone."""
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, start = done.stdout.strip().partition(" ")
    return start.strip() or None if not state.startswith("Z") else None


def say(text: str) -> None:
    """To people, beside what is printed to be run."""
    print(text, file=sys.stderr)


def start() -> int:
    """Start all that can be; 1 when one cannot."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    FOLDER.chmod(0o711)
    with ThreadPoolExecutor() as at_once:
        failed = any([*at_once.map(_started, SERVICES)])
    return status() or int(failed)


def _started(service: Service) -> bool:
    """Start it; whether that failed."""
    try:
        service.start()
    except Missing as error:
        say(f"Without {service.name}. {error}")
    except (RuntimeError, OSError, subprocess.SubprocessError, psycopg.Error) as error:
        say(f"{service.name}: {error}")
        return True
    return False


def status() -> int:
    """What to export; 1 when one that was made does not run, or none was."""
    running = [service for service in SERVICES if service.running()]
    asleep = [service.name for service in SERVICES if service.made and service not in running]
    if running:
        say(f"Running: {', '.join(service.name for service in running)}. To work on them:")
    for service in running:
        print(f"export {service.variable}={service.url}")
    if asleep or not running:
        say(f"Not running: {', '.join(asleep) or 'any server'}. `make services` starts it.")
        return 1
    return 0


def stop() -> int:
    """End all."""
    for service in reversed(SERVICES):
        service.stop()
    say(f"All servers are stopped. Their data is in {FOLDER}.")
    return 0


def main() -> int:
    """Do what the word says."""
    words = {"start": start, "status": status, "stop": stop}
    chosen = words.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if chosen is None:
        say("usage: scripts/services.py start|status|stop")
        return 2
    return chosen()


if __name__ == "__main__":
    sys.exit(main())
