"""A run that workers share: the same rows as on one machine, whatever ends in between.

The workers here are threads of this process with a queue of their own; `tests/queues` has real ones
that are killed.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert

from tests.runs.conftest import TICKETS, Project
from tests.servers.imperfect import Asked, Told, completion, serving
from wordmill._engine import Rehearsal
from wordmill.accounts import Ledger, catalog_of
from wordmill.database import Database, now, open_database, workers
from wordmill.datasets import open_dataset
from wordmill.errors import QuotaReached, RunError
from wordmill.jobs import Jobs
from wordmill.models import checked
from wordmill.queues.embedded import Embedded
from wordmill.recipes import Recipe
from wordmill.runs import part as parts_made
from wordmill.runs.budget import Budget
from wordmill.runs.crew import Crew
from wordmill.runs.interrupts import Interrupts
from wordmill.runs.launch import House, Options, generate, resume
from wordmill.runs.part import PartStore, PartWorker
from wordmill.runs.parts import PART, Order, ranges
from wordmill.runs.parts import Told as Heard
from wordmill.runs.progress import Silent
from wordmill.runs.registry import Registry
from wordmill.runs.result import Result
from wordmill.runs.shift import Leaving
from wordmill.settings import Settings, load
from wordmill.storage import Folder, Storage, Writer

GRADED = """\
name: graded
seed: 5
model: mock
columns:
  who: {type: seed, file: people.csv, columns: [name, city], order: sampled, repeat: cycle}
  plan: {type: category, draw: crossed, values: [free, paid, trial]}
  note: {type: prompt, prompt: "{{ who.name }} of {{ who.city }} writes about the {{ plan }} plan."}
  best: {type: candidates, n: 2, prompt: "Answer this: {{ note }}"}
  score: {type: judge, each: best, scores: {good: "0 to 4"}}
  pair: {type: judge, pairwise: best}
"""


class Elsewhere(Storage):
    """A storage that is no folder of this machine, as far as anybody sees."""

    def __init__(self, root: Path) -> None:
        self._folder = Folder(root)

    def create(self, place: str) -> Writer:
        return self._folder.create(place)

    def read(self, place: str, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        return self._folder.read(place, offset, size)

    def size(self, place: str) -> int | None:
        return self._folder.size(place)

    def remove(self, place: str) -> None:
        self._folder.remove(place)


class Bench:
    """A database, workers that can be ended and begun again, and runs on them."""

    def __init__(self, database: Database, settings: Settings, storage: Storage) -> None:
        self.database, self.settings, self.storage = database, settings, storage
        self.jobs = Jobs(database)
        self.refuse: Callable[[str], None] = lambda _: None
        self.queue: Embedded | None = None
        with database.begin() as connection:
            connection.execute(
                insert(workers).values(
                    id="here:1:a", kind="worker", started=now(), seen=now(),
                    detail={"kinds": [PART], "concurrency": 2},
                )
            )  # fmt: skip
        self.hire()

    def model(self, url: str, **fields: Any) -> None:
        """The model `mock` is at this address."""
        described = {"name": "mock", "provider": "openai", "model": "mock", "base_url": url}
        catalog_of(self.database, self.settings).add(checked({**described, **fields}))

    def hire(self) -> None:
        """Let workers begin."""
        worker = PartWorker(self.database, self.settings, self.storage)
        self.queue = Embedded(self.jobs, {PART: worker}, 2)
        self.queue.start()

    def dismiss(self) -> None:
        """Let the workers end, and give back what they have."""
        if self.queue is not None:
            self.queue.stop(30.0)
        self.queue = None

    def wake(self) -> None:
        if self.queue is not None:
            self.queue.wake()

    def house(self) -> House:
        catalog = catalog_of(self.database, self.settings)
        registry = Registry(self.database, self.settings)
        crew = Crew(
            self.database, self.settings, self, self.storage,  # type: ignore[arg-type]
            charge=True, check=lambda person: self.refuse(person),
        )  # fmt: skip
        return House(self.settings, catalog, registry, crew)

    def make(self, recipe: Recipe, stop: Interrupts | None = None, **options: Any) -> Result:
        wish = Options(**{"cache": False, **options})
        return generate(self.house(), recipe, wish, Silent(), stop or Interrupts())

    def alone(self, recipe: Recipe, **options: Any) -> Result:
        """The same without anybody's help."""
        wish = Options(**{"cache": False, **options})
        house = replace(self.house(), crew=None)
        return generate(house, recipe, wish, Silent(), Interrupts())

    def parts(self, run: str) -> list[Any]:
        return self.jobs.below(PART, f"{run}/")


@contextmanager
def _opened(part_rows: int, storage: Storage | None = None) -> Iterator[Bench]:
    settings = load({"part_rows": str(part_rows)})
    with open_database(settings) as database:
        bench = Bench(database, settings, storage or Folder(settings.home))
        try:
            yield bench
        finally:
            bench.dismiss()


@pytest.fixture
def bench(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("wordmill.runs.part.TELL", 0.05)
    monkeypatch.setattr("wordmill.runs.shift.LOOK", 0.02)
    monkeypatch.setattr("wordmill.runs.shift.ASK", 0.05)
    with _opened(16) as opened:
        yield opened


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("parts", "part", "shift"):
        monkeypatch.setattr(f"wordmill.runs.{module}.SHARD", 4)


def files(folder: Path) -> dict[str, Any]:
    """What the files hold, value by value. In `lineage` the cells come as they ended."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "data").iterdir()):
        table = pq.read_table(path)
        columns = [name for name in table.column_names if name != "lineage"]
        found[path.name] = {name: table[name].combine_chunks() for name in columns}
    found["rows"] = list(open_dataset(folder).table().rows())
    return found


def values(folder: Path) -> list[dict[str, Any]]:
    """The rows without what tells one way of making them from another."""
    return [
        {name: value for name, value in row.items() if name != "lineage"}
        for row in open_dataset(folder).table().rows()
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def stats(server: Rehearsal) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.stats())
    return found


def recipe_of(project: Project, text: str) -> Recipe:
    (project.folder / "people.csv").write_text(
        "name,city\n" + "".join(f"n{i},c{i % 7}\n" for i in range(30))
    )
    return Recipe.from_yaml(text, folder=project.folder)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("text", ["rlhi", GRADED, TICKETS])
def test_the_rows_are_those_of_one_machine(
    bench: Bench, project: Project, rehearse: Callable[..., Rehearsal], text: str
) -> None:
    server = rehearse(seed=3)
    bench.model(f"http://127.0.0.1:{server.port}/v1")
    if text == "rlhi":
        recipe = Recipe.load(text).with_values(model="rehearsal")
    else:
        recipe = recipe_of(project, text)
    shared = bench.make(recipe, rows=70, out=Path("shared"))
    alone = bench.alone(recipe, rows=70, out=Path("alone"))
    assert (shared.state, shared.made, shared.charged) == (alone.state, 70, True)
    assert [job.state for job in bench.parts(shared.run)] == ["done"] * 5
    assert files(Path("shared")) == files(Path("alone"))
    ours, theirs = shared.reading, alone.reading
    assert (ours.requests, ours.tokens_in, ours.tokens_out) == (
        theirs.requests, theirs.tokens_in, theirs.tokens_out,
    )  # fmt: skip
    assert ours.money == pytest.approx(theirs.money)
    assert shared.found == alone.found
    assert shared.timings is not None
    assert alone.timings is not None
    numbers = {name: times.answers for name, times in shared.timings.columns.items()}
    assert numbers == {name: times.answers for name, times in alone.timings.columns.items()}


def test_it_is_watched_like_any_run_and_charged_once(
    bench: Bench, project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(latency_ms=40)
    bench.model(f"http://127.0.0.1:{server.port}/v1", concurrency=2)
    registry = bench.house().registry
    seen: list[tuple[str, int]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen.extend((run.state, run.counts.get("ended", 0)) for run in registry.all())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = bench.make(Recipe.from_yaml(TICKETS), rows=40)
    finally:
        over.set()
        watcher.join()
    assert {state for state, _ in seen} <= {"created", "running", "finished"}
    between = {ended for state, ended in seen if state == "running" and 0 < ended < 40}
    assert len(between) > 1
    assert registry.get(result.run).counts["requests"] == stats(server)["requests"] == 120
    used = Ledger(bench.database).used("local")["day"].amount
    assert (used.requests, used.tokens) == (
        120,
        result.reading.tokens_in + result.reading.tokens_out,
    )
    home = bench.settings.home / "runs" / result.run
    assert not (home / "round.json").exists()
    assert list(home.glob("parts/*/*.jsonl")) == []


def test_what_is_no_longer_than_a_part_is_made_where_it_was_begun(bench: Bench) -> None:
    recipe = Recipe.load("rlhi").with_values(model="rehearsal")
    assert bench.make(recipe, rows=16, out=Path("short")).state == "finished"
    with bench.database.begin() as connection:
        connection.execute(workers.delete())
    result = bench.make(recipe, rows=20, out=Path("nobody"))
    assert (result.state, result.charged) == ("finished", False)
    assert [bench.parts(run.id) for run in bench.house().registry.all()] == [[], []]


class _After(Interrupts):
    """Somebody wants the end, once a condition holds. leaves: this process ends instead."""

    def __init__(self, holds: Callable[[], bool], *, leaves: bool = False) -> None:
        super().__init__()
        self._holds, self._leaves = holds, leaves

    @property
    def asked(self) -> bool:
        return self._holds()

    @property
    def leaving(self) -> bool:
        return self._leaves and self._holds()


@pytest.mark.usefixtures("small_shards")
def test_a_cancelled_run_goes_on_and_repeats_nothing(
    bench: Bench, project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(latency_ms=30, seed=3)
    bench.model(f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    recipe = Recipe.from_yaml(TICKETS)
    cancelled = bench.make(recipe, _After(lambda: stats(server)["requests"] > 60), rows=60)
    assert cancelled.state == "cancelled"
    assert 0 < cancelled.made < 60
    assert bench.house().registry.get(cancelled.run).state == "cancelled"
    states = {job.state for job in bench.parts(cancelled.run)}
    assert "cancelled" in states
    assert not states & {"waiting", "running"}
    result = resume(bench.house(), cancelled.run, Options(), Silent(), Interrupts())
    assert (result.state, result.made) == ("finished", 60)
    assert stats(server)["repeated"] == 0
    assert stats(server)["requests"] == result.reading.requests == 180
    alone = bench.alone(recipe, rows=60, out=Path("alone"))
    assert values(result.folder) == values(alone.folder)


@pytest.mark.usefixtures("small_shards")
def test_who_puts_it_together_may_go_and_another_finds_the_parts(
    bench: Bench, project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(latency_ms=30, seed=3)
    bench.model(f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    recipe = Recipe.from_yaml(TICKETS)
    with pytest.raises(Leaving, match="its parts go on"):
        bench.make(recipe, _After(lambda: stats(server)["requests"] > 40, leaves=True), rows=96)
    run = bench.house().registry.all()[0]
    assert run.state == "interrupted"
    before = {job.id for job in bench.parts(run.id)}
    assert "cancelled" not in {job.state for job in bench.parts(run.id)}
    result = resume(bench.house(), run.id, Options(), Silent(), Interrupts())
    assert (result.state, result.made) == ("finished", 96)
    assert before < {job.id for job in bench.parts(run.id)}
    assert len(bench.parts(run.id)) == 6
    assert stats(server)["requests"] == result.reading.requests == 288
    assert stats(server)["repeated"] == 0


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(requests=100), "100 of 100 requests are spent"),
        (Budget(tokens=20_000), "of 20000 tokens are spent and the next request could take more"),
    ],
)
def test_a_budget_holds_across_parts_and_is_used(
    bench: Bench,
    project: Project,
    rehearse: Callable[..., Rehearsal],
    budget: Budget,
    words: str,
) -> None:
    server = rehearse(seed=3)
    bench.model(f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    recipe = Recipe.from_yaml(TICKETS)
    result = bench.make(recipe, rows=64, budget=budget)
    assert (result.state, result.why) == ("short", "ceiling")
    assert words in result.ended
    spent = result.reading.spent
    for name, ceiling in budget.ceilings().items():
        assert spent[name] <= ceiling
        assert spent[name] > 0.85 * ceiling
    more = Options(budget=Budget(requests=1000, tokens=1_000_000))
    finished = resume(bench.house(), result.run, more, Silent(), Interrupts())
    assert (finished.state, finished.made) == ("finished", 64)
    assert stats(server)["requests"] == finished.reading.requests == 192
    assert stats(server)["repeated"] == 0


def test_a_quota_that_is_reached_ends_it(
    bench: Bench, project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(latency_ms=30)
    bench.model(f"http://127.0.0.1:{server.port}/v1", concurrency=2)

    def refuse(person: str) -> None:
        assert person == "local"
        if stats(server)["requests"] > 40:
            raise QuotaReached("Ann has used her 40 requests of today.", 60.0)

    bench.refuse = refuse
    result = bench.make(Recipe.from_yaml(TICKETS), rows=60)
    assert (result.state, result.ended) == ("short", "Ann has used her 40 requests of today.")
    assert stats(server)["requests"] < 120


def test_a_model_that_refuses_the_key_is_told_as_on_one_machine(
    bench: Bench, project: Project
) -> None:
    def answer(_: Asked) -> Told:
        return Told(401, b'{"error": {"message": "No such key."}}')

    with serving(answer) as served:
        bench.model(served.url)
        recipe = Recipe.from_yaml(TICKETS)
        shared = bench.make(recipe, rows=40, out=Path("shared"))
        alone = bench.alone(recipe, rows=40, out=Path("alone"))
    assert (shared.state, shared.why, shared.ended) == (alone.state, alone.why, alone.ended)
    assert shared.why == "stopped"


def test_a_field_that_a_server_refuses_is_told_once(bench: Bench, project: Project) -> None:
    def answer(asked: Asked) -> Told:
        if "response_format" in asked.body:
            return Told(400, b'{"error": {"message": "response_format is not supported"}}')
        return completion('{"level": 3, "reason": "So it is.", "realism": 3}')

    with serving(answer) as served:
        bench.model(served.url, concurrency=2)
        reporter = Silent()
        wish = Options(rows=40, cache=False)
        result = generate(bench.house(), Recipe.from_yaml(TICKETS), wish, reporter, Interrupts())
    assert result.made == 40
    assert result.degraded > 0
    told = [sentence for sentence in reporter.sentences if "refuse" in sentence.lower()]
    assert len(told) == len(set(told)) >= 1


def test_a_worker_that_reads_other_files_says_so(bench: Bench, project: Project) -> None:
    bench.dismiss()
    recipe = recipe_of(project, GRADED.replace("model: mock", "model: rehearsal"))
    failed: list[BaseException] = []

    def make() -> None:
        try:
            bench.make(recipe, rows=40)
        except RunError as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    wait_for(lambda: bool(bench.parts("graded-1")))
    (project.folder / "people.csv").write_text("name,city\nanother,town\n")
    bench.hire()
    thread.join(60)
    assert str(failed[0]).startswith(
        "The run graded-1 cannot be made by this worker: a file that its recipe reads"
    )
    assert bench.house().registry.get("graded-1").state == "failed"


def test_a_part_of_which_workers_die_ends_the_run_with_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.dismiss()
    monkeypatch.setattr("wordmill.jobs.MOST_TAKINGS", 1)
    monkeypatch.setattr("wordmill.runs.shift.MOST_TAKINGS", 1)

    def die() -> None:
        wait_for(lambda: bool(bench.parts("rlhi-1")))
        assert bench.jobs.lease("gone:1:x", [PART], -1.0) is not None
        bench.hire()

    dying = threading.Thread(target=die)
    dying.start()
    with pytest.raises(RunError, match=r"^Rows 0 to 15: Its worker died 1 times\.$"):
        bench.make(Recipe.load("rlhi").with_values(model="rehearsal"), rows=40)
    dying.join()


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("far", [False, True])
def test_workers_that_end_in_good_order_leave_nothing_to_repeat(
    bench: Bench, project: Project, rehearse: Callable[..., Rehearsal], far: bool
) -> None:
    bench.dismiss()
    if far:
        bench.storage = Elsewhere(project.folder / "bucket")
    bench.hire()
    server = rehearse(latency_ms=30, seed=3)
    bench.model(f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    recipe = Recipe.from_yaml(TICKETS)

    def change_shifts() -> None:
        wait_for(lambda: stats(server)["requests"] > 50)
        bench.dismiss()
        bench.hire()

    changing = threading.Thread(target=change_shifts)
    changing.start()
    result = bench.make(recipe, rows=60)
    changing.join()
    assert (result.state, result.made) == ("finished", 60)
    assert stats(server)["repeated"] == 0
    assert result.reading.requests == 180
    assert max(job.fence for job in bench.parts(result.run)) == 2
    assert max(job.attempts for job in bench.parts(result.run)) == 1
    if not far:
        return
    kept = sorted((project.folder / "bucket" / "runs" / result.run / "parts").rglob("*"))
    assert {path.name for path in kept if path.is_file()} <= {"recipe.json", "records.db"}
    house = bench.house()
    assert house.crew is not None
    house.crew.forget(result.run)
    assert not (project.folder / "bucket" / "runs" / result.run / "parts").exists()


@pytest.mark.usefixtures("small_shards")
def test_a_part_is_given_back_when_its_time_is_over(
    bench: Bench,
    project: Project,
    rehearse: Callable[..., Rehearsal],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts_made, "LONGEST", 0.3)
    server = rehearse(latency_ms=30, seed=3)
    bench.model(f"http://127.0.0.1:{server.port}/v1", concurrency=2)
    result = bench.make(Recipe.from_yaml(TICKETS), rows=20)
    assert result.state == "finished"
    assert max(job.fence for job in bench.parts(result.run)) > 1
    assert stats(server)["repeated"] == 0


def test_rows_of_an_earlier_run_are_given_to_its_parts(
    bench: Bench, project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(seed=3)
    bench.model(f"http://127.0.0.1:{server.port}/v1")
    recipe = Recipe.from_yaml(TICKETS)
    first = bench.make(recipe, rows=24, out=Path("first"))
    second = bench.make(recipe, rows=40, out=Path("second"), rest_of=first.run)
    assert second.state == "finished"
    assert second.reading.requests == 3 * 16
    bench.alone(recipe, rows=40, out=Path("alone"), rest_of=first.run)
    assert files(Path("second")) == files(Path("alone"))


def test_who_lost_a_part_and_does_not_know_writes_beside_it(tmp_path: Path) -> None:
    with parts_made._alone(tmp_path / "part", 1) as first:
        assert first == tmp_path / "part"
        with parts_made._alone(tmp_path / "part", 2) as second:
            assert second.parent == first
            assert second != first
        assert not second.exists()
    with parts_made._alone(tmp_path / "part", 3) as third:
        assert third == first


def test_ranges_are_short_and_exact() -> None:
    assert ranges([]) == []
    assert ranges([0, 1, 2, 5, 7, 8]) == [(0, 3), (5, 6), (7, 9)]
    order = Order(
        run="a-1", round="r", part=0, rows=ranges([3, 4, 9]), of=10, digest="d", budget={},
        given=False, charge=False,
    )  # fmt: skip
    assert Order.model_validate(order.model_dump(mode="json")).numbers() == [3, 4, 9]
    assert Heard.model_validate({}).shards == []
    assert PartStore.__doc__
