"""Runs of a server that workers make: begun, watched, cancelled, taken up again, charged."""

import json
from collections.abc import Callable

import pytest

from tests.queues.conftest import Worker, wait_for
from tests.runs.conftest import TICKETS, Project, project
from wordmill._engine import Rehearsal
from wordmill.channels.house import House, open_house
from wordmill.runs.desk import Wish
from wordmill.runs.parts import PART
from wordmill.settings import load

__all__ = ["project"]


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_run_of_the_server_is_shared_out(
    broker: str,
    project: Project,
    rehearse: Callable[..., Rehearsal],
    hire: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORDMILL_PART_ROWS", "40")
    server = rehearse(latency_ms=50, seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=8)
    hire()

    def sent() -> int:
        return int(json.loads(server.stats())["requests"])

    with open_house(load()) as house:
        me = house.accounts.people.local()
        wait_for(lambda: house.working)
        run = house.start_run(me, Wish(recipe=TICKETS, rows=100, cache=False)).id
        wait_for(lambda: sent() > 30)
        wait_for(lambda: house.open_run(me, run)[0].counts.get("requests", 0) > 0)
        assert house.open_run(me, run)[0].state == "running"
        house.cancel_run(me, run)
        _ended(house, run)
        assert house.open_run(me, run)[0].state == "cancelled"
        assert {job.state for job in house.jobs.below(PART, f"{run}/")} <= {"done", "cancelled"}
        house.resume_run(me, run)
        wait_for(lambda: sent() > 150)
    # The server ends, the parts go on; the next one puts the run together.
    with open_house(load()) as house:
        _ended(house, run)
        found, _ = house.open_run(me, run)
        assert (found.state, found.counts["ended"]) == ("finished", 100)
        # What was out when it was cancelled is asked again: of three parts, eight each at most.
        again = json.loads(server.stats())["repeated"]
        assert found.counts["requests"] == sent() == 300 + again
        assert again <= 24
        used = house.accounts.ledger.used(me.id)["day"].amount
        assert used.requests == sent()
        assert house.desk(me).dataset(run).manifest.rows.made == 100


def _ended(house: House, run: str) -> None:
    def over() -> bool:
        job = house.open_run(house.accounts.people.local(), run)[1]
        return job is not None and job.state in ("done", "cancelled", "failed")

    wait_for(over, 90.0)
