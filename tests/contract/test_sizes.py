"""Embedded and scaled out give the same answers."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from tests.contract.conftest import KEY, Json, Size
from wordmill.database import batches

pytestmark = pytest.mark.once

WORDMILL = str(Path(sys.executable).with_name("wordmill"))
ENDED = ("completed", "failed", "cancelled", "expired")
PASSING = frozenset(
    ("created", "created_at", "expires", "expires_at", "seconds", "latency", "ended", "request_id")
)
"""What no two runs have in common."""


def line(name: str, model: str = "mock", **more: Any) -> str:
    asked = {"messages": [{"role": "user", "content": f"Say {name}."}], "max_tokens": 20}
    return json.dumps({"custom_id": name, "body": {"model": model, **asked, **more}})


def order(client: httpx.Client, *lines: str, **more: Any) -> str:
    data = "".join(f"{one}\n" for one in lines).encode()
    sent = client.post("/v1/files", files={"file": data}, data={"purpose": "batch"})
    answer = client.post("/api/batches", json={"file": sent.json()["id"], **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def until(ask: Callable[[], Any], reached: Callable[[Any], bool], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not reached(found := ask()):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def ended(client: httpx.Client, batch: str) -> Json:
    found: Json = until(
        lambda: client.get(f"/api/batches/{batch}").json(), lambda one: one["state"] in ENDED
    )
    return found


def plain(value: Any) -> Any:
    """Without ids and times."""
    if isinstance(value, dict):
        return {
            key: "-" if key in PASSING or key.endswith("_at") else plain(one)
            if key != "times" else sorted(one)
            for key, one in value.items()
        }  # fmt: skip
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, str):
        return re.sub(r"(batch_req_|batch_|file-|chatcmpl-|req_)[0-9a-f]{12,}", r"\1", value)
    return value


def same(sizes: tuple[Size, Size], scenario: Callable[[Size, httpx.Client], Any]) -> Any:
    """What a scenario gives, which both sizes agree on."""
    found = []
    for size in sizes:
        with size.client() as client:
            found.append(plain(scenario(size, client)))
    assert found[0] == found[1]
    return found[0]


def test_a_batch_and_all_that_is_told_of_it(sizes: tuple[Size, Size]) -> None:
    def scenario(size: Size, client: httpx.Client) -> Any:
        lines = [line(f"r{n}", "stored" if n % 3 else "mock") for n in range(40)]
        lines[7], lines[20] = "no json", line("nobody", "nobody")
        batch = order(client, *lines, dataset="colours", priority=7, metadata={"a": "b"})
        done = ended(client, batch)
        ask = {
            "openai": client.get(f"/v1/batches/{batch}").json(),
            "results": client.get(f"/api/batches/{batch}/results?limit=1000").json(),
            "page": client.get(f"/api/batches/{batch}/results?after=10&limit=3").json(),
            "failed": client.get(f"/api/batches/{batch}/results?failed=true").json(),
            "totals": client.get(f"/api/batches/{batch}/statistics").json()["totals"],
            "listed": client.get("/api/batches?dataset=colours").json(),
            "dead": client.get(f"/api/batches/{batch}/dead").json(),
            "output": client.get(f"/v1/files/{done['output']}/content").text.splitlines(),
            "failures": client.get(f"/v1/files/{done['failures']}/content").text.splitlines(),
            "found": client.get(f"/api/results?batch={batch}&text=r12").json(),
            "by state": client.get(f"/api/results?batch={batch}&failed=true").json(),
            "exported": client.get(f"/api/batches/{batch}/export").text.splitlines(),
        }
        ask["output"] = [json.loads(one) for one in ask["output"]]
        ask["failures"] = [json.loads(one) for one in ask["failures"]]
        ask["exported"] = [json.loads(one) for one in ask["exported"]]
        ask["done"] = done
        return ask

    found = same(sizes, scenario)
    assert found["done"]["state"] == "completed"
    assert (found["done"]["counts"]["completed"], found["done"]["counts"]["failed"]) == (38, 2)
    assert len(found["output"]) == 38
    assert [one["custom_id"] for one in found["found"]["items"]] == ["r12"]


def test_a_batch_that_is_refused(sizes: tuple[Size, Size]) -> None:
    def scenario(size: Size, client: httpx.Client) -> Any:
        return ended(client, order(client, *(line(f"r{n}", "nobody") for n in range(9))))

    assert same(sizes, scenario)["errors"][0]["code"] == "invalid_batch"


def test_what_failed_is_sent_again_and_a_batch_is_forgotten(sizes: tuple[Size, Size]) -> None:
    def scenario(size: Size, client: httpx.Client) -> Any:
        batch = order(client, line("good"), line("bad", "away"))
        done = ended(client, batch)
        again = client.post(f"/api/batches/{batch}/retry").json()["id"]
        repeated = ended(client, again)
        gone = client.delete(f"/api/batches/{batch}").status_code
        left = client.get(f"/api/batches/{batch}").status_code
        hits = client.get(f"/api/results?dataset={batch}&text=good").json()
        return [done, repeated, gone, left, hits]

    done, repeated, gone, left, hits = same(sizes, scenario)
    assert (done["counts"]["completed"], done["counts"]["failed"]) == (1, 1)
    assert (repeated["counts"]["total"], repeated["counts"]["failed"]) == (1, 1)
    assert (gone, left, hits["items"]) == (204, 404, [])


def test_a_batch_is_cancelled_and_keeps_what_it_has(sizes: tuple[Size, Size]) -> None:
    def scenario(size: Size, client: httpx.Client) -> Any:
        batch = order(client, *(line(f"r{n}", "slow") for n in range(200)))
        until(
            lambda: client.get(f"/api/batches/{batch}").json(),
            lambda one: one["state"] == "in_progress",
        )
        first = client.post(f"/api/batches/{batch}/cancel").json()["state"]
        done = ended(client, batch)
        codes = done["counts"]["causes"].keys()
        total = done["counts"]["completed"] + done["counts"]["failed"]
        again = client.post(f"/api/batches/{batch}/cancel")
        return [first, done["state"], list(codes), total, again.status_code, again.json()]

    found = same(sizes, scenario)
    assert found[:4] == ["cancelling", "cancelled", ["batch_cancelled"], 200]


def test_events_end_with_the_batch(sizes: tuple[Size, Size]) -> None:
    def scenario(size: Size, client: httpx.Client) -> Any:
        batch = order(client, line("one"))
        with client.stream("GET", f"/api/batches/{batch}/events") as told:
            said = [one for one in told.iter_lines() if one.startswith("data: ")]
        return json.loads(said[-1].removeprefix("data: "))

    assert same(sizes, scenario)["state"] == "completed"


def test_the_same_order_twice_is_one_and_nobody_elses(sizes: tuple[Size, Size]) -> None:
    def scenario(size: Size, client: httpx.Client) -> Any:
        data = {"file": f"{line('one')}\n".encode()}
        file = client.post("/v1/files", files=data, data={"purpose": "batch"}).json()["id"]
        key = {"idempotency-key": "k1"}
        first, second = (
            client.post("/api/batches", json={"file": file}, headers=key) for _ in range(2)
        )
        assert first.json()["id"] == second.json()["id"]
        batch = first.json()["id"]
        ended(client, batch)
        with size.client("cem") as other:
            refused = [
                other.get(f"/api/batches/{batch}{rest}").status_code
                for rest in ("", "/results", "/statistics", "/events", "/export", "/dead")
            ]
            hits = other.get("/api/results?text=one").json()
        return [first.status_code, second.status_code, refused, hits]

    found = same(sizes, scenario)
    assert found[:3] == [202, 200, [404] * 6]


def test_a_budget_holds(sizes: tuple[Size, Size]) -> None:
    def scenario(size: Size, client: httpx.Client) -> Any:
        lines = (line(f"r{n}") for n in range(20))
        done = ended(client, order(client, *lines, budget={"requests": 5}, cache=False))
        return [done["state"], done["counts"]["completed"], done["counts"]["causes"]]

    assert same(sizes, scenario) == ["completed", 5, {"budget": 15}]


def test_no_key_is_written_down(sizes: tuple[Size, Size]) -> None:
    large = sizes[1]
    with large.client() as client:
        ended(client, order(client, line("a"), line("b", "stored")))
    with large.house.database.read() as connection:
        plans = [json.dumps(one) for one in connection.execute(select(batches.c.plan)).scalars()]
    lanes = [lane for plan in plans if plan != "null" for lane in json.loads(plan)["lanes"]]
    assert {"env": "CONTRACT_KEY"} in [lane["secret"] for lane in lanes]
    assert {"stored": ["", "stored"]} in [lane["secret"] for lane in lanes]
    assert {"x-key": "${CONTRACT_KEY}"} in [lane["headers"] for lane in lanes]
    assert not any(KEY in plan for plan in plans)


def test_the_commands_do_it_too(sizes: tuple[Size, Size], tmp_path: Path) -> None:
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(f"{line(f'r{n}')}\n" for n in range(5)))

    def scenario(size: Size, client: httpx.Client) -> Any:
        def command(*words: str) -> str:
            inherited = {k: v for k, v in os.environ.items() if not k.startswith("WORDMILL_")}
            done = subprocess.run(
                [WORDMILL, "batch", *words], capture_output=True, text=True, check=False,
                timeout=60, env={**inherited, **size.environment},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout

        batch = command("submit", str(asked), "--detach").strip()
        watched = command("watch", batch)
        told = json.loads(command("status", batch, "--json"))
        lines = [json.loads(one)["custom_id"] for one in command("results", batch).splitlines()]
        return [watched, told["state"], told["counts"], lines, command("dead", batch)]

    assert same(sizes, scenario)[3] == [f"r{n}" for n in range(5)]


def test_queues_and_workers_are_shown_to_admins(sizes: tuple[Size, Size]) -> None:
    small, large = sizes
    with small.client("ann") as client:
        assert client.get("/api/queues").json() == {"queues": [], "workers": [], "trouble": None}
    with large.client("ann") as client:
        found = client.get("/api/queues").json()
        assert found["trouble"] is None
        assert [one["kind"] for one in found["workers"]] == ["consumer"]
        assert "wordmill.dead" in [one["name"] for one in found["queues"]]
