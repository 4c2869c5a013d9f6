"""`make services`: private servers that start, stop, and start again with what they had."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import amqp
import httpx
import psycopg
import pytest
import redis

from tests.servers import elasticsearch, postgres
from wordmill import database
from wordmill.database import now, open_database
from wordmill.settings import load

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "services.py"

Services = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def services() -> Iterator[Services]:
    """The script in a folder of its own, which the users of the servers can reach."""
    postgres.programs()
    with tempfile.TemporaryDirectory(prefix="wordmill-") as name:
        folder = Path(name)
        folder.chmod(0o755)

        def run(what: str, **variables: str) -> subprocess.CompletedProcess[str]:
            environment = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), **variables}
            return subprocess.run(
                [sys.executable, SCRIPT, what], cwd=folder, env=environment, check=False,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
            )  # fmt: skip

        yield run
        run("stop")


@pytest.mark.timeout(600)
def test_they_start_stop_and_keep_what_they_had(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = services("start")
    if "Without " in started.stderr:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(started.stderr)
    urls = dict(re.findall(r"^export WORDMILL_(\w+)_URL=(\S+)$", started.stdout, re.MULTILINE))
    assert list(urls) == ["DATABASE", "BROKER", "REDIS", "ELASTICSEARCH"], started.stderr
    assert all("127.0.0.1:" in url for url in urls.values())
    for name, url in urls.items():
        monkeypatch.setenv(f"WORDMILL_{name}_URL", url)
    with open_database(load()) as opened, opened.begin() as connection:
        row = {"name": "titles", "value": "false", "updated": now()}
        connection.execute(database.settings.insert().values(row))
    with redis.Redis.from_url(urls["REDIS"]) as client:
        client.set("kept", "yes")
    with _broker(urls["BROKER"]) as connected:
        connected.channel().queue_declare("kept", durable=True, auto_delete=False)
    httpx.put(f"{urls['ELASTICSEARCH']}/kept", timeout=60).raise_for_status()

    assert services("start").stdout == started.stdout  # once more is harmless
    assert services("stop").returncode == 0
    stopped = services("status")
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert "Not running: PostgreSQL, RabbitMQ, Redis, Elasticsearch." in stopped.stderr
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(urls["DATABASE"])

    assert services("start").stdout == started.stdout
    assert services("status").stdout == started.stdout
    assert load().titles is False
    with redis.Redis.from_url(urls["REDIS"]) as client:
        assert client.get("kept") == b"yes"
    with _broker(urls["BROKER"]) as connected:
        connected.channel().queue_declare("kept", passive=True)
    assert httpx.head(f"{urls['ELASTICSEARCH']}/kept", timeout=60).status_code == 200


def _broker(url: str) -> amqp.Connection:
    found = re.fullmatch(r"amqp://(\w+):(\w+)@([\d.:]+)/%2F", url)
    assert found is not None, url
    return amqp.Connection(found[3], found[1], found[2])


def test_a_program_that_is_missing_is_named(services: Services, tmp_path: Path) -> None:
    (tmp_path / "ps").symlink_to("/bin/ps")  # all that is on the path
    said = services("start", PATH=str(tmp_path), HOME=str(tmp_path))
    assert "Without Redis. Redis is not installed: `apt-get install redis-server`" in said.stderr
    assert "Without Elasticsearch. Elasticsearch is not there:" in said.stderr
    assert "WORDMILL_REDIS_URL" not in said.stdout


def test_a_wrong_word_is_answered_with_the_right_ones(services: Services) -> None:
    done = services("begin")
    assert (done.returncode, done.stderr) == (2, "usage: scripts/services.py start|status|stop\n")


def test_the_elasticsearch_that_is_brought_is_the_one_that_is_looked_for() -> None:
    script = (ROOT / "scripts" / "get-elasticsearch").read_text()
    assert f"artifact={elasticsearch.ARTIFACT}\n" in script
