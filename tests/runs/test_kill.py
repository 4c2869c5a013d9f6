"""A run that is killed twenty times makes the dataset of one that was left alone."""

import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import TICKETS, Project
from wordmill._engine import Rehearsal
from wordmill.datasets import open_dataset

KILLS = 20
AT_ONCE = 8
IN_DOUBT = 8
ROWS = 500


def values(folder: Path) -> list[dict[str, Any]]:
    """The rows without what tells one run from another: `cached` and the like."""
    return [
        {name: value for name, value in row.items() if name != "lineage"}
        for row in open_dataset(folder).table().rows()
    ]


def requests(server: Rehearsal) -> int:
    counted: int = json.loads(server.stats())["requests"]
    return counted


@pytest.mark.timeout(180)
def test_twenty_kills_change_nothing(
    project: Project, rehearse: Callable[..., Rehearsal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_IN_DOUBT", str(IN_DOUBT))
    project.recipe(TICKETS)
    command = ["generate", "recipe.yaml", "--rows", str(ROWS), "--no-cache"]

    server = rehearse(latency_ms=25, seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=AT_ONCE)
    choose = random.Random(11)
    for _ in range(KILLS):
        # At a moment that the server's counter chooses, or somewhere in the start.
        wanted = requests(server) + choose.randint(1, 65)
        seconds = choose.uniform(0.1, 0.5) if choose.random() < 0.2 else 20.0
        process = project.start(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + seconds
        while requests(server) < wanted and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()
    killed = project.run(*command, "--json")

    assert killed.code == 0, killed.err
    assert "Continuing the run tickets-1: answers that it has are not paid again." in killed.err
    stats = json.loads(server.stats())
    assert stats["distinct"] == 3 * ROWS
    assert 0 < stats["repeated"] <= KILLS * IN_DOUBT
    assert killed.json["requests"]["resumed"] > 0

    monkeypatch.setenv("WORDMILL_HOME", str(project.folder / "other-home"))
    server = rehearse(seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=AT_ONCE)
    undisturbed = project.run(*command, "--json", "--out", "undisturbed")
    assert undisturbed.code == 0, undisturbed.err
    assert json.loads(server.stats())["repeated"] == 0
    assert values(project.folder / "datasets/tickets") == values(project.folder / "undisturbed")
