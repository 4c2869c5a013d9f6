"""Jobs over Celery: real brokers, real workers, and what becomes of them when something dies."""

import json
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import kombu
import pytest
from sqlalchemy import select, update

from tests.queues.conftest import Worker, children_of, wait_for
from tests.runs.conftest import TICKETS, Project, project
from wordmill._engine import Rehearsal
from wordmill.database import Database, now, open_database
from wordmill.database import jobs as table
from wordmill.datasets import open_dataset
from wordmill.errors import ConfigError
from wordmill.jobs import Jobs
from wordmill.queues import celery
from wordmill.queues.celery import TASK, Announced, make_app, queue_of
from wordmill.recipes import Recipe
from wordmill.runs.door import generate
from wordmill.runs.parts import PART
from wordmill.settings import load

__all__ = ["project"]

AT_ONCE = 8
ROWS = 240

Rehearse = Callable[..., Rehearsal]
Hire = Callable[..., Worker]


@pytest.fixture
def shared(broker: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs of more than forty rows go to workers."""
    monkeypatch.setenv("WORDMILL_PART_ROWS", "40")
    return broker


@pytest.fixture
def database(shared: str) -> Iterator[Database]:
    with open_database(load()) as opened:
        yield opened


def values(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name != "lineage"}
        for row in open_dataset(folder).table().rows()
    ]


def stats(server: Rehearsal) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.stats())
    return found


def at_work(database: Database) -> dict[str, int]:
    """The parts at work, with the processes that have them."""
    query = select(table.c.id, table.c.worker).where(table.c.state == "running")
    with database.read() as connection:
        return {name: int(worker.split(":")[1]) for name, worker in connection.execute(query)}


def below(worker: Worker) -> list[int]:
    return [pid for child in children_of(worker.pid) for pid in children_of(child)]


@pytest.mark.timeout(240)
def test_kills_change_nothing(
    shared: str,
    database: Database,
    project: Project,
    rehearse: Rehearse,
    hire: Hire,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORDMILL_IN_DOUBT", str(AT_ONCE))
    recipe = Recipe.from_yaml(TICKETS)
    server = rehearse(seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=AT_ONCE)
    generate(recipe, rows=ROWS, out="alone", cache=False)  # no worker is there yet

    server = rehearse(latency_ms=60, seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=AT_ONCE)
    project.recipe(TICKETS)
    first, second = hire(), hire()
    wait_for(lambda: len(_workers(database)) == 2)
    command = ["generate", "recipe.yaml", "--rows", str(ROWS), "--no-cache", "--json"]
    running = project.start(*command)

    wait_for(lambda: stats(server)["requests"] > 60)
    name, child = next(
        (name, pid) for name, pid in at_work(database).items() if pid in below(first)
    )
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: Jobs(database).these([name])[0].fence == 2)
    if shared == "redis":
        with request.getfixturevalue("redis_server").client() as client:
            client.flushall()
    wait_for(lambda: any(pid in below(second) for pid in at_work(database).values()))
    os.kill(second.celery, signal.SIGKILL)
    assert second.process.wait(60) == 3
    out, err = running.communicate(timeout=120)

    assert running.returncode == 0, err
    result = json.loads(out)
    assert result["rows"]["made"] == ROWS
    assert values(project.folder / "datasets/tickets") == values(project.folder / "alone")
    parts = Jobs(database).below(PART, "tickets-2/")
    assert [part.state for part in parts] == ["done"] * (ROWS // 40)
    assert sum(part.fence for part in parts) > len(parts)
    counted = stats(server)
    assert counted["distinct"] == 3 * ROWS
    assert counted["repeated"] <= 2 * AT_ONCE
    assert first.end() == 0
    assert _workers(database) == []
    for line in first.said().splitlines():
        if line.startswith("{"):
            assert json.loads(line)["level"] in ("info", "warning", "error")


def _workers(database: Database) -> list[Any]:
    from wordmill.database import workers

    query = select(workers.c.id).where(workers.c.seen > now() - timedelta(seconds=25))
    with database.read() as connection:
        return list(connection.execute(query).scalars())


def test_a_worker_that_is_told_to_end_gives_back_what_it_has(
    shared: str, database: Database, project: Project, rehearse: Rehearse, hire: Hire
) -> None:
    server = rehearse(latency_ms=60, seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=AT_ONCE)
    project.recipe(TICKETS)
    first = hire("--kinds", "part,run")
    wait_for(lambda: len(_workers(database)) == 1)
    assert project.run("worker", "--check").code == 0
    running = project.start("generate", "recipe.yaml", "--rows", "100", "--no-cache", "--json")
    wait_for(lambda: stats(server)["requests"] > 30)
    assert first.end() == 0
    assert at_work(database) == {}
    there = project.run("worker", "--check")
    assert (there.code, "No worker of this machine" in there.err) == (2, True)
    hire()
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert json.loads(out)["rows"]["made"] == 100
    assert stats(server)["repeated"] == 0
    parts = Jobs(database).below(PART, "tickets-1/")
    assert max(part.fence for part in parts) == 2
    assert max(part.attempts for part in parts) == 1


class Harm:
    """Touches a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_only_the_id_of_a_job_is_read_from_a_message(
    shared: str,
    database: Database,
    project: Project,
    rehearse: Rehearse,
    hire: Hire,
    request: pytest.FixtureRequest,
) -> None:
    app = make_app(load(), [PART])
    assert app.conf.accept_content == ["json"]
    assert app.conf.result_backend is None
    server = rehearse(latency_ms=10, seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=AT_ONCE)
    project.recipe(TICKETS)
    worker = hire()
    harm = str(project.folder / "harm")
    headers = {"lang": "py", "task": TASK, "id": "1", "root_id": "1"}
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    with app.connection_for_write() as connection, connection.channel() as channel:
        queue = kombu.Queue(queue_of(PART), durable=True)(channel)
        queue.declare()

        def send(body: Any, kind: str = "application/json", **more: Any) -> None:
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            encoding = "binary" if kind != "application/json" else "utf-8"
            message = channel.prepare_message(
                text, content_type=kind, content_encoding=encoding, headers={**headers, **more},
                properties={"correlation_id": "1", "delivery_tag": os.urandom(4).hex()},
            )  # fmt: skip
            channel.basic_publish(message, exchange="", routing_key=queue_of(PART))

        pickled = "application/x-python-serialize"
        send(pickle.dumps(([Harm(harm)], {}, embed)), pickled)
        send(pickle.dumps(Harm(harm)), pickled, task="celery.backend_cleanup")
        send([["x"], {}, embed], task="celery.backend_cleanup")
        send([["x"], {}, embed], task="os.mkdir")
        send([[17], {}, embed])
        send([[{"job": "x"}], {}, embed])
        send([[], {}, embed])
        send([["x", "y"], {"z": 1}, embed])
        send([["not a job"], {}, embed])
        send([["x"], {}, {**embed, "callbacks": [{"task": "os.mkdir", "args": [harm]}]}])
        send(b"\xff\xfe no JSON")
        send({"task": TASK, "args": ["x"]}, task="")
        result = {"exc_type": "mkdir", "exc_module": "os", "exc_message": [harm]}
        send([["x"], {}, embed], exception=result)
    if shared == "redis":
        with request.getfixturevalue("redis_server").client() as client:
            forged = {"status": "FAILURE", "result": result, "task_id": "1", "traceback": None}
            client.set("celery-task-meta-1", json.dumps(forged))
    wait_for(lambda: len(_workers(database)) == 1)
    running = project.start("generate", "recipe.yaml", "--rows", "80", "--no-cache", "--json")
    sent: set[str] = set()
    while running.poll() is None:  # every wake-up many times over
        for job in Jobs(database).below(PART, "tickets-1/"):
            if job.id not in sent:
                sent.add(job.id)
                for _ in range(20):
                    app.send_task(TASK, args=[job.id], queue=queue_of(PART), ignore_result=True)
    out, err = running.communicate()
    assert running.returncode == 0, err
    assert json.loads(out)["rows"]["made"] == 80
    assert len(sent) == 2
    assert stats(server)["repeated"] == 0
    assert [job.fence for job in Jobs(database).below(PART, "tickets-1/")] == [1, 1]
    assert not Path(harm).exists()
    assert worker.process.poll() is None
    assert worker.end() == 0, worker.said()
    with app.connection_for_write() as connection:
        assert celery._held(app, connection, PART) == 0


def test_a_wake_up_that_is_lost_is_sent_again(
    shared: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery, "LOST", 0.2)
    monkeypatch.setattr(celery, "LOOK", 0.05)
    kind = f"odd-{os.urandom(4).hex()}"
    jobs, app = Jobs(database), make_app(load(), [kind])

    def held() -> int:
        with app.connection_for_write() as connection:
            return celery._held(app, connection, kind)

    assert held() == 0
    name = jobs.put("ann", kind, {})  # and nobody is told
    announced = Announced(jobs, load(), [kind])
    announced.start()
    try:
        wait_for(lambda: held() == 1)
        jobs.put("ann", kind, {})
        announced.wake()
        wait_for(lambda: held() == 2 + 1)  # the first is new to this one too
        assert announced.alive
        wait_for(lambda: len(jobs.left([kind], celery.LOST, 10)) == 2)
        _empty(app, kind)
        wait_for(lambda: held() == 2)
        assert jobs.lease("here:1:a", [kind], 30.0, job=name) is not None
        assert jobs.lease("here:1:a", [kind], 30.0, job=name) is None
        _empty(app, kind)
        wait_for(lambda: held() == 1)
        with database.begin() as connection:
            stale = update(table).where(table.c.id == name)
            connection.execute(stale.values(lease_until=now() - timedelta(seconds=1)))
        _empty(app, kind)
        wait_for(lambda: held() == 2)
    finally:
        announced.stop(5.0)
    assert not announced.alive


def _empty(app: Any, kind: str) -> None:
    with app.connection_for_write() as connection, connection.channel() as channel:
        app.amqp.queues[queue_of(kind)](channel).purge()


def test_without_a_broker_it_says_what_to_set(project: Project) -> None:
    with pytest.raises(ConfigError, match="set WORDMILL_BROKER_URL"):
        make_app(load(), [PART])
    done = project.run("worker")
    assert done.code == 2
    assert "There is no broker for jobs: set WORDMILL_BROKER_URL (RabbitMQ) or" in done.err
    odd = project.run("worker", "--kinds", "parts")
    assert "error: --kinds 'parts': jobs are of the kinds part, batch, run." in odd.err
    few = project.run("worker", "--kinds", "batch")
    assert "Set WORDMILL_BROKER_URL and WORDMILL_ELASTICSEARCH_URL." in few.err


def test_rabbitmq_carries_jobs_where_both_are_set() -> None:
    both = {"broker_url": "amqp://u:p@localhost:1/", "redis_url": "redis://localhost:2/0"}
    app = make_app(load(both), [PART])
    assert app.conf.broker_url.startswith("amqp://")
    assert app.conf.broker_transport_options == {"confirm_publish": True}
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert not app.conf.worker_enable_remote_control
    alone = make_app(load({"redis_url": both["redis_url"]}), [PART])
    assert alone.conf.broker_transport_options["visibility_timeout"] == 3600
