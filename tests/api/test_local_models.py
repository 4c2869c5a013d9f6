"""Models on this machine over HTTP: admins look after them, everybody sees them, nobody else."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Server
from tests.api.local_models import ADMINS, EVERYBODYS
from tests.api.test_examples import fits, shape
from tests.api.test_ownership import filled
from tests.servers import tiny_models
from tests.servers.hub import Hub, open_hub
from wordmill.channels.api.examples import examples


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HF_TOKEN_FILE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORDMILL_CONVERTER_PYTHON", str(tmp_path / "none"))
    folder = tiny_models.build(tmp_path / "tiny")
    (folder / "README.md").write_text("# Tiny\n")
    with open_hub(tmp_path / "hub") as opened:
        monkeypatch.setenv("HF_ENDPOINT", opened.url)
        opened.put("ann/tiny", folder, downloads=3)
        yield opened


def ended(server: Server, task: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    with server.client() as client:
        while True:
            found: dict[str, Any] = client.get(f"/api/local-models/tasks/{task}").json()
            if found["state"] not in ("waiting", "running", "stopping"):
                return found
            assert time.monotonic() < until, found
            time.sleep(0.05)


def fetched(server: Server, **wish: Any) -> dict[str, Any]:
    with server.client() as client:
        begun = client.post("/api/local-models", json={"repository": "ann/tiny", **wish})
        assert begun.status_code == 202, begun.text
    return ended(server, begun.json()["id"])


@pytest.fixture
def names(hub: Hub, server: Server, tmp_path: Path) -> dict[str, Any]:
    """A model that was fetched, then changed on the hub; a task that failed; a folder of one's own.

    The update is fetched and rolled back by the calls, so that a revision is left to be deleted.
    """
    done = fetched(server)
    assert (done["state"], done["done"] == done["of"] > 0) == ("done", True), done
    folder = tiny_models.build(tmp_path / "newer", seed=1)
    commit = hub.put("ann/tiny", folder, "Better words")
    failed = fetched(server, repository="ann/none")
    assert failed["state"] == "failed"
    assert failed["error"].startswith("The hub has no ann/none, or is private;")
    hub.put("ann/none", folder)
    own = shutil.copytree(folder, tmp_path / "own")
    return {"task": failed["id"], "folder": str(own), "commit": commit}


def test_everybody_sees_admins_look_after_them_and_the_examples_are_true(
    hub: Hub, server: Server, names: dict[str, Any]
) -> None:
    found, different = {}, {}
    for operation, (path, body) in ADMINS.items():
        method, path, body = operation.split()[0], filled(path, names), filled(body, names)
        statuses = []
        for who in (None, "bob", "ann"):
            with server.client(who) as client:
                answer = client.request(method, path, json=body)
            statuses.append(answer.status_code)
        found[operation] = statuses
        if answer.is_success and answer.content:
            given = examples()[operation]["gives"]
            if answer.status_code == 202:
                ended(server, answer.json()["id"])
            if not fits(shape(given), shape(answer.json())):
                different[operation] = (given, answer.json())
    wrong = {
        operation: statuses
        for operation, statuses in found.items()
        if statuses[:2] != [401, 403] or not 200 <= statuses[2] < 300
    }
    assert wrong == {}
    for operation, path in EVERYBODYS.items():
        with server.client(None) as client:
            assert client.get(path).status_code == 401
        with server.client("bob") as client:
            answer = client.get(path)
        assert answer.status_code == 200, answer.text
        if not fits(shape(examples()[operation]["gives"]), shape(answer.json())):
            different[operation] = (examples()[operation]["gives"], answer.json())
    assert different == {}


def test_a_fetch_is_paused_goes_on_and_is_thrown_away(hub: Hub, server: Server) -> None:
    hub.faults.rate = 150_000
    with server.client() as client:
        task = client.post("/api/local-models", json={"repository": "ann/tiny"}).json()["id"]
        until = time.monotonic() + 30
        while client.get(f"/api/local-models/tasks/{task}").json()["done"] < 60_000:
            assert time.monotonic() < until
            time.sleep(0.02)
        client.post(f"/api/local-models/tasks/{task}/pause")
        assert ended(server, task)["state"] == "paused"
        assert client.get("/api/local-models").json() == []
        # Of the weights, which come last, some are there.
        parts = list(server.house.shelf.models.folder.rglob("*.incomplete"))
        assert parts
        hub.faults.rate = None
        hub.log.clear()
        again = client.post(f"/api/local-models/tasks/{task}/resume").json()["id"]
        assert ended(server, again)["state"] == "done"
        (span,) = [one.span for one in hub.log if one.store]
        assert span is not None
        assert span.startswith("bytes=")
        assert [one["name"] for one in client.get("/api/local-models").json()] == ["tiny"]
        hub.put("bob/other", hub.folder / "ann" / "tiny" / "0")
        hub.faults.rate = 150_000
        other = client.post("/api/local-models", json={"repository": "bob/other"}).json()["id"]
        while client.get(f"/api/local-models/tasks/{other}").json()["done"] < 60_000:
            assert time.monotonic() < until + 60
            time.sleep(0.02)
        freed = client.delete(f"/api/local-models/tasks/{other}").json()["freed"]
    assert freed > 0
    assert list(server.house.shelf.models.folder.glob("*bob*")) == []


def test_bad_input_is_a_sentence(hub: Hub, server: Server) -> None:
    with server.client() as client:
        for body, words in (
            ({"repository": "../../x"}, "'../../x' is no repository of the hub"),
            ({"repository": "ann/tiny", "name": "../../x"}, "'../../x' is no name for a model"),
            ({"repository": "ann/tiny", "revision": "../x"}, "'../x' is no revision"),
        ):
            answer = client.post("/api/local-models", json=body)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].startswith(words)
        answer = client.post("/api/local-models/import", json={"path": "/etc/passwd"})
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "path")
        hub.faults.down = True
        answer = client.get("/api/hub/models")
        assert answer.status_code == 502
        assert "answers 503" in answer.json()["error"]["message"]
