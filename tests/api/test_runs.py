"""Runs over HTTP: begun, watched, read by cursor, cancelled, resumed, taken away."""

import csv
import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import Server
from wordmill.models import checked

MOODS = """
name: moods
parameters:
  kind: {type: string, default: calm}
columns:
  mood: {type: template, template: "{{ parameters.kind }}"}
  note: {type: prompt, prompt: "Note {{ row }}, {{ mood }}."}
"""


def ended(client: httpx.Client, run: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while (found := client.get(f"/api/runs/{run}").json())["open"]:
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return dict(found)


def followed(client: httpx.Client, run: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/api/runs/{run}/events", timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_run_from_its_yaml_to_its_file(server: Server) -> None:
    wish = {"recipe": MOODS, "rows": 7, "model": "rehearsal", "parameters": {"kind": "gay"}}
    with server.client("bob") as client:
        begun = client.post("/api/runs", json=wish)
        assert begun.status_code == 202
        run = begun.json()["id"]
        seen = followed(client, run)
        assert (seen[-1]["state"], seen[-1]["open"]) == ("finished", False)
        assert seen[-1]["counts"]["ended"] == 7
        rows, cursor = [], None
        for size in (3, 3, 1):
            page = client.get(
                f"/api/runs/{run}/rows",
                params={"limit": 3} | ({} if cursor is None else {"cursor": cursor}),
            ).json()
            rows += page["items"]
            assert (len(page["items"]), page["total"]) == (size, 7)
            cursor = page["cursor"]
        assert cursor is None
        assert [row["row"] for row in rows] == list(range(7))
        assert {row["values"]["mood"] for row in rows} == {"gay"}
        assert rows[0]["lineage"]["note"]
        none = client.get(f"/api/runs/{run}/rows", params={"failed": True}).json()
        assert none["items"] == []
        assert "name: moods" in client.get(f"/api/runs/{run}/recipe").text
        assert client.get(f"/api/runs/{run}/dataset").json()["tables"] == {"rows": 7}
        made = client.get(f"/api/runs/{run}/export", params={"form": "csv"})
        assert 'filename="moods-1.csv"' in made.headers["content-disposition"]
        assert len(list(csv.DictReader(io.StringIO(made.text)))) == 7
        parquet = client.get(f"/api/runs/{run}/export", params={"form": "parquet"})
        assert parquet.content[:4] in (b"PAR1", b"PK\x03\x04")
        assert client.delete(f"/api/runs/{run}").status_code == 204
        assert client.get(f"/api/runs/{run}").status_code == 404


def test_a_run_is_cancelled_and_goes_on(
    server: Server, rehearse: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = f"http://127.0.0.1:{rehearse(latency_ms=300).port}/v1"
    entry = {"name": "slow", "model": "m", "base_url": slow, "concurrency": 2}
    server.house.catalog.add(checked(entry))
    with server.client("bob") as client:
        wish = {"recipe": MOODS, "rows": 30, "model": "slow"}
        run = client.post("/api/runs", json=wish).json()["id"]
        end = time.monotonic() + 30
        while client.get(f"/api/runs/{run}").json()["counts"].get("ended", 0) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert client.post(f"/api/runs/{run}/cancel").status_code == 202
        short = ended(client, run)
        assert short["state"] == "cancelled"
        assert 2 <= short["counts"]["ended"] < 30
        assert client.post(f"/api/runs/{run}/resume").status_code == 202
        assert ended(client, run)["state"] == "finished"
        total = client.get(f"/api/runs/{run}/rows", params={"limit": 1}).json()["total"]
        assert total == 30
        assert client.post(f"/api/runs/{run}/resume").status_code == 409


def test_what_a_run_would_be_and_what_is_wrong_with_it(server: Server) -> None:
    with server.client("bob") as client:
        found = client.post("/api/recipes/check", json={"recipe": MOODS}).json()
        assert [column["name"] for column in found["columns"]] == ["mood", "note"]
        assert found["parameters"]["kind"]["default"] == "calm"
        assert client.get("/api/recipes/rlhi").json()["table"] == "scenarios"
        wish = {"recipe": MOODS, "model": "rehearsal"}
        seen = client.post("/api/recipes/preview", params={"rows": 2}, json=wish).json()
        assert [row["values"]["mood"] for row in seen["items"]] == ["calm", "calm"]
        used = client.get("/api/me/usage").json()["day"]["requests"]
        assert used == 2  # a preview is paid like a run
        for bad, words in (
            ({"recipe": "nothing"}, "There is no built-in recipe 'nothing'"),
            ({"recipe": "name: x\ncolumns: 5\n"}, "columns"),
            ({"recipe": MOODS, "parameters": {"knd": 1}}, "knd"),
            ({"recipe": MOODS, "model": "gpt-9"}, "gpt-9"),
        ):
            answer = client.post("/api/runs", json={"rows": 1, **bad})
            assert 400 <= answer.status_code < 500
            assert words in answer.json()["error"]["message"]
