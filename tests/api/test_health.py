"""Whether the server can work, said so that whoever watches it can tell; and what it counts."""

import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import httpx
import pytest
from sqlalchemy import update

from tests.api.conftest import Server, server
from wordmill.channels.house import open_house
from wordmill.channels.rooms.accounts import ChannelAccounts
from wordmill.database import attachments, now
from wordmill.errors import StorageError
from wordmill.models import checked
from wordmill.settings import load

__all__ = ["server"]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def ready(server: Server) -> httpx.Response:
    with server.client(None) as client:
        assert client.get("/health/live").json() == {"status": "ok"}
        return client.get("/health/ready")


def test_all_is_well(server: Server) -> None:
    answer = ready(server)
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "checks": {"database": "ok", "disk": "ok", "jobs": "ok"},
        "models": {},
        "channels": {},
    }


def test_it_says_how_each_channel_is(server: Server) -> None:
    accounts = ChannelAccounts(server.house.database, server.house.settings)
    options = {"homeserver": "http://127.0.0.1:9", "user": "@mill:example.org"}
    local = server.house.accounts.people.local()
    accounts.add(local, "team", "matrix", options, {"password": "hidden and long"}, enabled=False)
    status = {"connected": True, "last_event": "2026-01-02T03:04:05+00:00", "encryption": "on",
              "waiting": 2, "words": ""}  # fmt: skip
    accounts.tell("team", status)
    answer = ready(server)
    del status["words"]
    assert answer.json()["rooms"] == {"team": {"kind": "matrix", "running": False, **status}}
    assert "hidden" not in answer.text


def test_a_full_disk_is_not_ready(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 1_000_000))
    answer = ready(server)
    assert (answer.status_code, answer.json()["status"]) == (503, "unready")
    assert answer.json()["checks"]["disk"] == "1 MB are free"


def test_a_database_that_does_not_answer_is_not_ready(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise StorageError("The database is locked.")

    monkeypatch.setattr(server.house.database, "read", broken)
    answer = ready(server)
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "The database is locked."


def test_workers_that_ended_are_not_ready(server: Server) -> None:
    server.house.chat.close(1.0)
    answer = ready(server)
    assert answer.status_code == 503
    assert answer.json()["checks"]["jobs"] == "the workers have ended"


def test_a_model_or_a_door_in_trouble_only_degrades(
    server: Server, rehearse: Callable[..., Any]
) -> None:
    url = f"http://127.0.0.1:{rehearse(errors={'401': 1.0}).port}/v1"
    server.house.catalog.add(checked({"name": "locked", "model": "m", "base_url": url}))
    with server.client("bob") as client:
        body = {"model": "locked", "messages": [{"role": "user", "content": "x"}]}
        assert client.post("/v1/chat/completions", json=body).status_code >= 400
    answer = ready(server)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert "locked" in answer.json()["models"]
    server.house.channels["matrix"] = lambda: "The homeserver does not answer."
    assert ready(server).json()["channels"] == {"matrix": "The homeserver does not answer."}


def test_a_redis_that_is_away_only_degrades(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_REDIS_URL", "redis://:hidden@127.0.0.1:1/0")
    monkeypatch.setenv("WORDMILL_METRICS_TOKEN", "a long token")
    server: Server = request.getfixturevalue("server")
    answer = ready(server)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["sharing"].startswith("Redis at 127.0.0.1:1: ")
    assert "hidden" not in answer.text
    with server.client("bob") as client:
        body = {"model": "rehearsal", "messages": [{"role": "user", "content": "x"}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        told = client.get("/metrics", headers={"authorization": "Bearer a long token"}).text
    assert "wordmill_sharing_works 0.0" in told
    assert "wordmill_sharing_lost 1.0" in told


def test_what_is_counted_needs_its_token(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    with server.client("ann") as client:  # not set: nobody sees it, an admin's key is none for it
        assert client.get("/metrics").status_code == 401
    settings = server.house.settings
    object.__setattr__(settings, "metrics_token", "a long token")
    with server.client(None) as client:
        assert client.get("/metrics").status_code == 401
        wrong = client.get("/metrics", headers={"authorization": "Bearer another"})
        assert wrong.status_code == 401
        right = client.get("/metrics", headers={"authorization": "Bearer a long token"})
    assert right.status_code == 200
    assert "# HELP wordmill_jobs jobs by kind and state" in right.text


def test_files_that_nobody_sent_are_forgotten_at_the_start(server: Server) -> None:
    bob, house = server.people["bob"], server.house
    files = house.conversations.attachments
    old = files.add(bob, "old.txt", b"old words", "text/plain")
    new = files.add(bob, "new.txt", b"new words", "text/plain")
    long_ago = now() - timedelta(days=3)
    with house.database.begin() as connection:
        mine = attachments.c.id == old.id
        connection.execute(update(attachments).where(mine).values(created=long_ago))
    stray = files.folder / "stray"
    stray.write_bytes(b"nobody's")
    os.utime(stray, (long_ago.timestamp(),) * 2)
    with open_house(load()):
        end = time.monotonic() + 20
        while stray.exists() or (files.folder / old.id).exists():
            assert time.monotonic() < end
            time.sleep(0.02)
    assert files.data(bob, new.id) == b"new words"
