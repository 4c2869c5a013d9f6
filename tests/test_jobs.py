"""Jobs on both databases: taken once, held by a fence, given up, given back."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from wordmill.database import Database, now, open_database
from wordmill.database import jobs as table
from wordmill.errors import Conflict, InvalidInput, NotFound
from wordmill.jobs import MOST_TAKINGS, Jobs, Leased
from wordmill.queues import embedded
from wordmill.queues.base import Work
from wordmill.queues.embedded import Embedded
from wordmill.queues.leases import worker_name
from wordmill.settings import load


@pytest.fixture
def database(either_database: str) -> Iterator[Database]:
    with open_database(load()) as opened:
        yield opened


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


def taken(jobs: Jobs, worker: str = "here:1:a", seconds: float = 30.0) -> Leased:
    lease = jobs.lease(worker, ["turn"], seconds)
    assert lease is not None
    return lease


def let_it_run_out(database: Database, job: str) -> None:
    with database.begin() as connection:
        stale = update(table).where(table.c.id == job)
        connection.execute(stale.values(lease_until=now() - timedelta(seconds=1)))


def test_a_job_is_taken_once_and_finished(jobs):
    name = jobs.put("ada", "turn", {"answers": ["x"]})
    assert jobs.get("ada", name).state == "waiting"
    lease = taken(jobs)
    assert (lease.job.id, lease.job.payload, lease.fence) == (name, {"answers": ["x"]}, 1)
    assert jobs.lease("there:2:b", ["turn"], 30.0) is None
    lease.progress(rows=3)
    assert jobs.get("ada", name).progress == {"rows": 3}
    lease.finish()
    found = jobs.get("ada", name)
    assert (found.state, found.progress) == ("done", {"rows": 3})
    assert jobs.lease("there:2:b", ["turn"], 30.0) is None


def test_other_kinds_are_left_alone(jobs):
    jobs.put("ada", "run", {})
    assert jobs.lease("here:1:a", ["turn"], 30.0) is None


def test_what_a_dead_worker_held_is_taken_again_and_its_writes_are_refused(jobs, database):
    name = jobs.put("ada", "turn", {})
    first = taken(jobs)
    let_it_run_out(database, name)
    second = taken(jobs, "there:2:b")
    assert (second.job.id, second.fence) == (name, first.fence + 1)
    for write in (
        lambda: first.progress(rows=9),
        first.finish,
        lambda: first.fail("No."),
        first.cancelled,
        first.release,
    ):
        with pytest.raises(Conflict, match="is another worker's now, or has ended"):
            write()
    assert jobs.renew([first, second]) == [name]  # the one that was first, and not the other
    second.finish()
    with pytest.raises(Conflict):
        second.finish()


def test_a_job_that_workers_die_of_is_given_up(jobs, database):
    name = jobs.put("ada", "turn", {})
    after = jobs.put("ada", "turn", {})
    for _ in range(MOST_TAKINGS):
        assert taken(jobs).job.id == name
        let_it_run_out(database, name)
    assert taken(jobs).job.id == after
    found = jobs.get("ada", name)
    assert (found.state, found.error) == ("failed", f"Its worker died {MOST_TAKINGS} times.")


def test_a_job_that_is_given_back_is_not_held_against_it(jobs):
    name = jobs.put("ada", "turn", {})
    for _ in range(MOST_TAKINGS + 2):
        taken(jobs).release()
    found = jobs.get("ada", name)
    assert (found.state, found.attempts, found.fence) == ("waiting", 0, MOST_TAKINGS + 2)


def test_one_subject_is_worked_on_in_order_and_others_beside_it(jobs):
    first = jobs.put("ada", "turn", {}, subject="a")
    time.sleep(0.002)
    second = jobs.put("ada", "turn", {}, subject="a")
    other = jobs.put("ada", "turn", {}, subject="b")
    lease = taken(jobs)
    assert lease.job.id == first
    assert taken(jobs).job.id == other
    assert jobs.lease("here:1:a", ["turn"], 30.0) is None
    lease.finish()
    assert taken(jobs).job.id == second


def test_once_makes_one_job_and_is_each_persons_own(jobs):
    first = jobs.put("ada", "turn", {"n": 1}, once="event-1")
    assert jobs.put("ada", "turn", {"n": 2}, once="event-1") == first
    assert jobs.get("ada", first).payload == {"n": 1}
    assert jobs.put("ben", "turn", {"n": 3}, once="event-1") != first


def test_two_who_put_the_same_once_at_once_get_one_job(jobs):
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(jobs.put("ada", "turn", {}, once="same")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_many_workers_share_jobs_without_taking_one_twice(jobs):
    names = {jobs.put("ada", "turn", {}) for _ in range(40)}
    found: list[str] = []

    def work(number: int) -> None:
        while lease := jobs.lease(f"here:{number}:a", ["turn"], 30.0):
            found.append(lease.job.id)
            lease.finish()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(names)


def test_cancelling(jobs):
    waits = jobs.put("ada", "turn", {})
    assert jobs.cancel("ada", waits).state == "cancelled"
    assert jobs.lease("here:1:a", ["turn"], 30.0) is None
    runs = jobs.put("ada", "turn", {})
    lease = taken(jobs)
    assert jobs.unwanted([runs]) == []
    assert jobs.cancel("ada", runs).state == "running"
    assert jobs.unwanted([runs, waits]) == sorted([runs, waits])
    lease.cancelled()
    assert jobs.get("ada", runs).state == "cancelled"
    assert jobs.cancel("ada", runs).state == "cancelled"


def test_another_persons_jobs_are_not_there(jobs):
    name = jobs.put("ada", "turn", {}, subject="c")
    with pytest.raises(NotFound, match="There is no job"):
        jobs.get("ben", name)
    with pytest.raises(NotFound):
        jobs.cancel("ben", name)
    assert jobs.all("ben") == []
    assert [one.id for one in jobs.all("ada", subject="c", open_only=True)] == [name]
    assert jobs.get("ada", name).state == "waiting"


def test_what_a_dead_process_of_this_machine_held_is_freed_at_a_start(jobs):
    host, pid = worker_name().split(":")[:2]
    gone = "2147483646"  # above any process number
    for holder in (f"{host}:{gone}:x", f"{host}:{pid}:of-an-earlier-start", f"far:{gone}:x"):
        jobs.put("ada", "turn", {"holder": holder})
        taken(jobs, holder)
    jobs.put("ada", "turn", {"holder": "us"})
    taken(jobs, worker_name())
    assert jobs.reclaim(worker_name(), ["turn"]) == 2
    assert [taken(jobs).job.payload["holder"] for _ in range(2)] == [
        f"{host}:{gone}:x",
        f"{host}:{pid}:of-an-earlier-start",
    ]
    assert jobs.lease("here:1:a", ["turn"], 30.0) is None


# The queue of one process.


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LOOK", 0.05)


def until(truth, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def test_the_queue_does_what_is_put_and_says_what_went_wrong(jobs, quick):
    def fails(work: Work) -> None:
        raise InvalidInput("There is nothing to do.")

    def breaks(work: Work) -> None:
        raise RuntimeError("a fault")

    done: list[str] = []
    handlers = {"turn": lambda work: done.append(work.job.id), "fails": fails, "breaks": breaks}
    queue = Embedded(jobs, handlers, workers=2)
    queue.start()
    names = [jobs.put("ada", kind, {}) for kind in ("turn", "fails", "breaks")]
    queue.wake()
    until(lambda: not jobs.all("ada", open_only=True))
    good, failed, broken = (jobs.get("ada", name) for name in names)
    assert (good.state, failed.state, broken.state) == ("done", "failed", "failed")
    assert failed.error == "There is nothing to do."
    assert broken.error == "A fault of Wordmill; the log says more."
    assert done == names[:1]
    assert queue.alive
    queue.stop(2.0)
    assert not queue.alive


def test_the_queue_holds_to_its_number_of_workers_and_has_no_thread_for_idleness(jobs, quick):
    most, at_work, gate = [0], [0], threading.Event()
    lock = threading.Lock()

    def work(work: Work) -> None:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        gate.wait(5.0)
        with lock:
            at_work[0] -= 1

    before = threading.active_count()
    queue = Embedded(jobs, {"turn": work}, workers=3)
    queue.start()
    assert threading.active_count() == before + 2
    for _ in range(7):
        jobs.put("ada", "turn", {})
    queue.wake()
    until(lambda: at_work[0] == 3)
    assert threading.active_count() == before + 5
    gate.set()
    until(lambda: not jobs.all("ada", open_only=True))
    assert most[0] == 3
    until(lambda: threading.active_count() == before + 2)
    queue.stop(2.0)


def test_a_wish_of_another_process_to_end_a_job_is_heard(jobs, quick):
    queue = Embedded(jobs, {"turn": lambda work: work.wait(10.0) or None}, workers=1)
    queue.start()
    name = jobs.put("ada", "turn", {})
    until(lambda: jobs.get("ada", name).state == "running")
    jobs.cancel("ada", name)  # as another process does: nobody tells the queue
    until(lambda: jobs.get("ada", name).state == "cancelled")
    queue.stop(2.0)


def test_who_lost_a_job_hears_of_it(jobs, database, quick, monkeypatch):
    monkeypatch.setattr(embedded, "RENEW", 1)
    seen: list[Work] = []

    def work(work: Work) -> None:
        seen.append(work)
        work.wait(10.0)

    queue = Embedded(jobs, {"turn": work}, workers=1)
    queue.start()
    name = jobs.put("ada", "turn", {})
    until(lambda: seen)
    with database.begin() as connection:  # another process has taken it meanwhile
        connection.execute(update(table).values(fence=table.c.fence + 1, worker="there:2:b"))
    until(lambda: seen[0].lost)
    queue.stop(2.0)
    with database.read() as connection:
        row = connection.execute(select(table).where(table.c.id == name)).one()
    assert (row.state, row.worker) == ("running", "there:2:b")


def test_a_queue_that_stops_gives_its_work_back(jobs, quick):
    seen: list[bool] = []

    def work(work: Work) -> None:
        work.wait(10.0)
        seen.append(work.closing)

    queue = Embedded(jobs, {"turn": work}, workers=1)
    queue.start()
    name = jobs.put("ada", "turn", {})
    until(lambda: jobs.get("ada", name).state == "running")
    queue.stop(5.0)
    found = jobs.get("ada", name)
    assert (seen, found.state, found.attempts) == ([True], "waiting", 0)
    assert taken(jobs).job.id == name


def test_a_worker_keeps_what_takes_longer_than_its_lease(jobs, quick, monkeypatch):
    monkeypatch.setattr(embedded, "LEASE", 0.3)
    monkeypatch.setattr(embedded, "RENEW", 1)
    times: list[str] = []

    def work(work: Work) -> None:
        times.append(work.job.id)
        work.wait(1.0)

    queue, other = (Embedded(jobs, {"turn": work}, workers=1) for _ in range(2))
    queue.start()
    other.start()
    name = jobs.put("ada", "turn", {})
    until(lambda: jobs.get("ada", name).state == "done")
    queue.stop(2.0)
    other.stop(2.0)
    assert times == [name]
