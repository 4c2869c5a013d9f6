"""`make services`: a private PostgreSQL that starts, stops, and starts again with what it had."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import postgres
from wordmill import database
from wordmill.database import now, open_database
from wordmill.settings import load

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "services"

Services = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def services() -> Iterator[Services]:
    """The script in a folder of its own, which the user of PostgreSQL can reach."""
    postgres.programs()
    with tempfile.TemporaryDirectory(prefix="wordmill-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / ".venv").symlink_to(Path(sys.prefix))

        def run(what: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [SCRIPT, what], cwd=folder, env={"PATH": os.environ["PATH"]}, check=False,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            )  # fmt: skip

        yield run
        run("stop")


def test_it_starts_stops_and_keeps_what_it_had(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = services("start")
    line = re.fullmatch(r"export WORDMILL_DATABASE_URL=(\S+)\n", started.stdout)
    assert line is not None, started.stderr
    assert "@127.0.0.1:" in line[1]
    monkeypatch.setenv("WORDMILL_DATABASE_URL", line[1])
    with open_database(load()) as opened, opened.begin() as connection:
        row = {"name": "titles", "value": "false", "updated": now()}
        connection.execute(database.settings.insert().values(row))
    assert services("start").stdout == started.stdout  # once more is harmless
    assert services("stop").returncode == 0
    assert services("status").returncode == 1
    assert services("start").stdout == started.stdout
    assert services("status").stdout == started.stdout
    assert load().titles is False


def test_a_wrong_word_is_answered_with_the_right_ones(services: Services) -> None:
    done = services("begin")
    assert (done.returncode, done.stderr) == (2, "usage: scripts/services start|status|stop\n")
