"""A PostgreSQL server of one's own: in a folder that goes away, reached by its socket alone."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

_NEEDED = ("initdb", "pg_ctl")
_QUICK = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off"


@dataclass
class Server:
    """One that listens in `folder`."""

    folder: Path
    template: str | None = None

    def new_database(self) -> str:
        """The URL of an empty database."""
        return self._url(self._create("template1"))

    def filled_database(self, fill: Callable[[str], None]) -> str:
        """The URL of a database like the one that `fill` made of an empty one, the first time."""
        if self.template is None:
            name = self._create("template1")
            fill(self._url(name))
            self.template = name
        return self._url(self._create(self.template))

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is still in it."""
        name = url.rpartition("?")[0].rpartition("/")[2]
        self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _create(self, template: str) -> str:
        name = f"t{uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _run(self, statement: str) -> None:
        with psycopg.connect(host=str(self.folder), user="mill", dbname="postgres") as connection:
            connection.autocommit = True
            connection.execute(statement.encode())

    def _url(self, name: str) -> str:
        return f"postgresql://mill@/{name}?host={self.folder}"


@contextmanager
def serving() -> Iterator[Server]:
    """Make a cluster, serve it, remove it. Skips where PostgreSQL is missing; fails in CI."""
    initdb, pg_ctl = programs()
    # It refuses to be root; Debian's package brings this user.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="wordmill-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)
        data, log = str(folder / "data"), folder / "log"

        def run(*command: str) -> None:
            done = subprocess.run(
                command, cwd="/", user=user, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + (log.read_text() if log.exists() else "")

        run(initdb, "-D", data, "-U", "mill", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses='' -k {folder} {_QUICK}"
        run(pg_ctl, "-D", data, "-w", "-l", str(log), "-o", options, "start")
        try:
            yield Server(folder)
        finally:
            run(pg_ctl, "-D", data, "-m", "immediate", "stop")


def programs() -> list[str]:
    """Where its programs are; Debian keeps them off the PATH."""
    folders = [*os.get_exec_path(), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    found = [shutil.which(name, path=os.pathsep.join(folders)) for name in _NEEDED]
    if None in found:
        words = "PostgreSQL is not installed: `apt-get install postgresql` brings it."
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    return [path for path in found if path]
