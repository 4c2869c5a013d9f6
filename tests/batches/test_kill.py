"""A batch that is killed again and again has the answers of one that was left alone."""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batches.conftest import WORDMILL, line, run
from wordmill._engine import Rehearsal

LINES, AT_ONCE, KILLS = 4000, 8, 5


@pytest.mark.timeout(180)
def test_kills_lose_nothing_and_double_nothing(
    rehearse: Callable[..., Rehearsal], asked: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_IN_DOUBT", str(AT_ONCE))
    server = rehearse(latency_ms=5, seed=3)

    def requests() -> int:
        counted: int = json.loads(server.stats())["requests"]
        return counted

    url = f"http://127.0.0.1:{server.port}/v1"
    added = run("models", "add", "mock", "--provider", "openai", "--base-url", url, "--model",
                "mock-1", "--concurrency", str(AT_ONCE))  # fmt: skip
    assert added.code == 0, added.err
    file = asked(*(line(f"r{n}", "mock") for n in range(LINES)))
    submitted = run("batch", "submit", file, "--detach", "--no-cache")
    assert submitted.code == 0, submitted.err
    batch = submitted.out.strip()

    choose = random.Random(5)
    for _ in range(KILLS):
        wanted = requests() + choose.randint(50, 700)
        process = subprocess.Popen(
            [*WORDMILL, "batch", "watch", batch],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ,
        )  # fmt: skip
        while requests() < wanted:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()
    watched = run("batch", "watch", batch, seconds=100)
    assert watched.code == 0, watched.err

    told = run("batch", "results", batch)
    results = [json.loads(text) for text in told.out.splitlines()]
    assert [one["custom_id"] for one in results] == [f"r{n}" for n in range(LINES)]
    again = requests() - LINES
    assert 0 <= again <= KILLS * AT_ONCE

    alone = run("batch", "submit", file, "--no-cache")
    assert alone.code == 0, alone.err
    listed = json.loads(run("batch", "list", "--json").out)
    others = run("batch", "results", listed[0]["id"]).out.splitlines()
    assert [one["response"]["body"]["choices"] for one in map(json.loads, others)] == [
        one["response"]["body"]["choices"] for one in results
    ]
