"""An Elasticsearch of one's own: in a folder that goes away, on a port the system chose.

It is the build that Elastic's own tests run on (Maven Central has it): bulk, search, aggregations
and points in time, but no Painless, no lifecycle policies and no data streams.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import httpx
import pytest

VERSION = "8.19.0"
ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"
WAIT: float = 180.0
"""Seconds that a start may take; it takes eleven on a machine that is free."""
JAVAS = range(17, 25)
"""Versions of Java that it runs on."""
_CONFIG = """\
cluster.name: wordmill-{port}
discovery.type: single-node
network.host: 127.0.0.1
http.port: {port}
transport.port: {inner}
path.data: {folder}/data
path.logs: {folder}/log
xpack.security.enabled: false
action.auto_create_index: false
action.destructive_requires_name: false
cluster.max_shards_per_node: 10000
cluster.routing.allocation.disk.watermark.low: 300mb
cluster.routing.allocation.disk.watermark.high: 200mb
cluster.routing.allocation.disk.watermark.flood_stage: 100mb
"""
_UNWANTED = re.compile(r"^.*(gc\.log|HeapDump|ErrorFile).*$\n", re.MULTILINE)


@dataclass
class Server:
    """One that listens on `port`; its data is in `folder`."""

    folder: Path
    java: Path
    port: int
    inner: int
    user: str | None
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is, for every client."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve, with the data and the port from before. Returns when it takes documents."""
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                [str(self.folder / "program" / "bin" / "elasticsearch")], cwd=self.folder,
                env=self._environment(), user=self.user, group=self.user and "nogroup",
                extra_groups=None if self.user is None else [], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        until = time.monotonic() + WAIT
        while not self.answers():
            assert process.poll() is None, f"Elasticsearch ended by itself:\n{self._log()}"
            assert time.monotonic() < until, f"Elasticsearch does not answer:\n{self._log()}"
            time.sleep(0.1)

    def kill(self) -> None:
        """End it at once, as a power cut would. Its data stays."""
        process = self._processes.pop()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End all that was started."""
        while self._processes:
            self.kill()

    @property
    def pids(self) -> list[int]:
        """Of the process, while it was started from here; the leader of a group."""
        return [process.pid for process in self._processes]

    def answers(self) -> bool:
        """Whether it takes documents: all that it kept is there again."""
        try:
            health = httpx.get(
                f"{self.url}/_cluster/health",
                params={"wait_for_no_initializing_shards": "true", "timeout": "5s"},
                timeout=10.0,
            )
        except httpx.HTTPError:
            return False
        return health.status_code == 200 and health.json()["status"] != "red"

    def ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """Ask it past every client: for what only a test does. Fails where it refuses."""
        reply = httpx.request(method, f"{self.url}{path}", json=body, timeout=60.0)
        assert reply.status_code < 300, f"{method} {path}: {reply.text}"
        found: dict[str, object] = reply.json()
        return found

    def new_prefix(self) -> str:
        """A beginning of names that nobody else has."""
        return f"t{uuid4().hex[:12]}"

    def wipe(self, prefix: str) -> None:
        """Remove all whose names begin so: indices and templates."""
        for path in (f"/{prefix}-*", f"/_index_template/{prefix}-*"):
            httpx.delete(f"{self.url}{path}", timeout=60.0)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ES_JAVA_HOME": str(self.java),
            "ES_PATH_CONF": str(self.folder / "config"),
            "ES_TMPDIR": str(self.folder / "temporary"),
            "ES_JAVA_OPTS": "-Xms512m -Xmx512m",
            "CLI_JAVA_OPTS": "-Xms4m -Xmx64m -XX:+UseSerialGC",
        }

    def _log(self) -> str:
        found = [self.folder / "output", *(self.folder / "log").glob("*.log")]
        return "\n".join(path.read_text(errors="replace")[-4000:] for path in found)


@contextmanager
def serving() -> Iterator[Server]:
    """Make a node, serve it, remove it. Skips where it or its Java is missing; fails in CI."""
    with tempfile.TemporaryDirectory(prefix="wordmill-", ignore_cleanup_errors=True) as name:
        server = make(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def make(folder: Path) -> Server:
    """One that will keep its data in this empty folder. Skips where it or its Java is missing."""
    archive, java = _archive(), _java()
    # It refuses to be root.
    user = "nobody" if os.geteuid() == 0 else None
    port, inner = _ports(2)
    _unpack(archive, folder, _CONFIG.format(port=port, inner=inner, folder=folder))
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, user)
    return Server(folder, java, port, inner, user)


def _unpack(archive: Path, folder: Path, config: str) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for one in zipped.infolist():
            if not one.filename.endswith((".bat", ".exe")):
                zipped.extract(one, folder)
    (folder / f"elasticsearch-{VERSION}").rename(folder / "program")
    for program in (folder / "program" / "bin").iterdir():
        program.chmod(0o755)
    shutil.copytree(folder / "program" / "config", folder / "config")
    options = folder / "config" / "jvm.options"
    options.write_text(_UNWANTED.sub("", options.read_text()))
    (folder / "config" / "elasticsearch.yml").write_text(config)
    (folder / "temporary").mkdir()


def _archive() -> Path:
    """Where Maven keeps it."""
    kept = Path.home() / ".m2" / "repository"
    group, name, version, kind = ARTIFACT.split(":")
    path = kept.joinpath(*group.split("."), name, version, f"{name}-{version}.{kind}")
    if not path.is_file():
        _missing(f"Elasticsearch is not there: `mvn dependency:get -Dartifact={ARTIFACT}` gets it.")
    return path


def _java() -> Path:
    """The folder of a Java that it runs on."""
    on_path = shutil.which("java")
    places = [os.environ.get(name) for name in ("ES_JAVA_HOME", "JAVA_HOME")]
    places += [str(Path(on_path).resolve().parent.parent)] if on_path else []
    for place in [*filter(None, places), *map(str, sorted(Path("/usr/lib/jvm").glob("*")))]:
        release = Path(place) / "release"
        said = release.read_text() if release.is_file() else ""
        version = re.search(r'^JAVA_VERSION="(\d+)', said, re.MULTILINE)
        if version is not None and int(version[1]) in JAVAS:
            return Path(place)
    return _missing("No Java 17 to 24 is there: `apt-get install openjdk-17-jre-headless`.")


def _missing(words: str) -> NoReturn:
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
