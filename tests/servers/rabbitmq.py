"""A RabbitMQ of one's own: in a folder that goes away, on a port the system chose."""

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

import amqp
import pytest

WAIT: float = 90.0
"""Seconds that a start may take; it takes six on a machine that is free."""
_PLACES = ("/usr/lib/rabbitmq/lib/*/sbin", "/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin")
_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = mill
default_pass = {password}
loopback_users = none
disk_free_limit.absolute = 1MB
vm_memory_high_watermark.absolute = 2GB
log.console = false
"""


@dataclass
class Server:
    """One that listens on `port`; its data is in `folder`."""

    folder: Path
    programs: Path
    port: int
    password: str
    distribution: int
    names: int
    """The ports by which its own programs find it."""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is, for every client."""
        return f"amqp://mill:{self.password}@127.0.0.1:{self.port}/%2F"

    def start(self) -> None:
        """Serve, with the data and the port from before. Returns when it answers."""
        if not self._processes:
            names = shutil.which("epmd")
            assert names is not None
            self._run([names, "-port", str(self.names), "-address", "127.0.0.1"])
        broker = self._run([str(self.programs / "rabbitmq-server")])
        until = time.monotonic() + WAIT
        while not self.answers():
            assert broker.poll() is None, f"RabbitMQ ended by itself:\n{self._log()}"
            assert time.monotonic() < until, f"RabbitMQ does not answer:\n{self._log()}"
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, as a power cut would. Its data stays."""
        broker = self._processes.pop()
        os.killpg(broker.pid, signal.SIGKILL)
        broker.wait()

    def stop(self) -> None:
        """End all that was started."""
        while self._processes:
            self.kill()

    @property
    def pids(self) -> list[int]:
        """Of the processes that were started from here, each the leader of a group."""
        return [process.pid for process in self._processes]

    def answers(self) -> bool:
        """Whether a client can come in."""
        address = f"127.0.0.1:{self.port}"
        try:
            with amqp.Connection(address, "mill", self.password, connect_timeout=5):
                return True
        except (OSError, amqp.exceptions.AMQPError):
            return False

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl` with these words; what it says. Takes a second or two."""
        done = subprocess.run(
            [str(self.programs / "rabbitmqctl"), "--quiet", *words], env=self._environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=WAIT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def alarm(self, on: bool) -> None:
        """Say that memory is short: whoever publishes is held up. Or that it is there again."""
        self.control("set_vm_memory_high_watermark", "absolute", "1" if on else "2GB")

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        config = self.folder / "rabbitmq.conf"
        config.write_text(_CONFIG.format(port=self.port, password=self.password))
        plugins = self.folder / "plugins"
        plugins.write_text("[].\n")
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"wordmill{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
            "ERL_EPMD_PORT": str(self.names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def _log(self) -> str:
        found = [self.folder / "output", *(self.folder / "log").glob("*.log")]
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in found)


@contextmanager
def serving() -> Iterator[Server]:
    """Make a broker, serve it, remove it. Skips where RabbitMQ is missing; fails in CI."""
    with tempfile.TemporaryDirectory(prefix="wordmill-", ignore_cleanup_errors=True) as name:
        server = make(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def make(folder: Path) -> Server:
    """One that will keep its data in this empty folder. Skips where RabbitMQ is missing."""
    programs = _programs()
    port, distribution, names = _ports(3)
    return Server(folder, programs, port, secrets.token_hex(8), distribution, names)


def _programs() -> Path:
    """The folder of its programs: Debian's wrapper on the PATH would want a user of its own."""
    for place in _PLACES:
        for folder in sorted(Path("/").glob(place.removeprefix("/"))):
            if (folder / "rabbitmq-server").is_file() and shutil.which("epmd"):
                return folder
    words = "RabbitMQ is not installed: `apt-get install rabbitmq-server` brings it."
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


def _ports(count: int) -> list[int]:
    """Ports of this machine that are free."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
