"""Runs for somebody who is not at the command line."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runs.conftest import Project
from wordmill._engine import Rehearsal
from wordmill.database import open_database
from wordmill.errors import Forbidden, InvalidInput, KeyMissing, RecipeError, RunError, UnknownName
from wordmill.models import Catalog
from wordmill.recipes.recipe import BUILT_IN
from wordmill.runs.desk import Desk, Wish
from wordmill.settings import load

NOTES = """
name: notes
seed: 3
model: rehearsal
columns:
  mood: {type: category, values: [calm, angry]}
  note: {type: prompt, prompt: "A {{ mood }} note."}
"""

Made = Callable[..., Desk]


@pytest.fixture
def desk() -> Iterator[Made]:
    settings = load()
    with open_database(settings) as database:
        catalog = Catalog(database, settings)

        def made(owner: str = "ann", trusted: bool = False) -> Desk:
            return Desk(database, settings, catalog, owner, trusted)

        yield made


def never() -> bool:
    return False


def test_a_run_is_begun_here_and_worked_on_there(desk: Made) -> None:
    run = desk().begin(Wish(recipe=NOTES, rows=5))
    assert (run.id, run.state, run.rows) == ("notes-1", "created", 5)
    result = desk().work(run.id, never)
    assert result.state == "finished"
    records = desk().rows(run.id, 1, 2).records
    assert [record["row"] for record in records] == [0, 1]
    assert desk().dataset(run.id).manifest.rows.made == 5
    assert desk().registry.get(run.id).folder == load().home / "datasets" / "notes-1"
    assert "mood" in desk().recipe_of(run.id)


def test_the_built_in_recipe_with_parameters_and_an_estimate(desk: Made) -> None:
    wish = Wish(recipe="rlhi", rows=2, parameters={"actions": 2}, model="rehearsal", seed=9)
    assert desk().estimate(wish).startswith("Estimate: ")
    run = desk().begin(wish)
    desk().work(run.id, never)
    assert desk().dataset(run.id).tables["actions"].count == 4


def test_a_preview_keeps_nothing(desk: Made) -> None:
    seen = desk().preview(Wish(recipe=NOTES), 2, never)
    assert [record["row"] for record in seen.records] == [0, 1]
    assert len(seen.sent) == 2
    assert desk().registry.all() == []


def test_a_run_that_is_stopped_goes_on(desk: Made, rehearse: Callable[..., Rehearsal]) -> None:
    run = desk().begin(Wish(recipe=NOTES, rows=50))
    stopped = desk().work(run.id, lambda: True)
    assert stopped.state == "cancelled"
    assert desk().work(run.id, never).state == "finished"
    with pytest.raises(RunError, match="The run notes-1 is finished"):
        desk().work(run.id, never)


def test_nobody_reaches_into_this_machine(desk: Made, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    (tmp_path / "harm.py").write_text("raise SystemExit('imported')\n")
    calls = "name: x\ncolumns:\n  a: {type: python, function: 'os:getcwd'}\n"
    reads = f"name: x\ncolumns:\n  a: {{type: seed, file: {tmp_path}/rows.csv}}\n"
    with pytest.raises(Forbidden, match=r"^columns\.a: a column of the type `python` runs code"):
        desk().begin(Wish(recipe=calls))
    with pytest.raises(Forbidden, match=r"^columns\.a: it reads a file of this server"):
        desk().begin(Wish(recipe=reads))
    outside = reads.replace(f"{tmp_path}/rows.csv", "builtin:../settings/__init__.py")
    with pytest.raises(RecipeError, match="leaves the files that ship with Wordmill"):
        desk().begin(Wish(recipe=outside, model="rehearsal"))
    assert desk(trusted=True).read(Wish(recipe=reads)).name == "x"
    assert desk().registry.all() == []


def test_a_changed_copy_of_a_built_in_recipe_reads_the_files_that_ship(desk: Made) -> None:
    text = (BUILT_IN / "rlhi" / "recipe.yaml").read_text().replace("name: rlhi", "name: mine")
    run = desk().begin(Wish(recipe=text, rows=1, model="rehearsal"))
    assert desk().work(run.id, never).state == "finished"


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        (
            Wish(recipe="rlhj"),
            InvalidInput,
            "There is no built-in recipe 'rlhj': it is one of rlhi",
        ),
        (Wish(recipe="../../etc/passwd"), InvalidInput, "There is no built-in recipe"),
        (Wish(recipe=NOTES, rows=0), InvalidInput, "A run has 1 to 100,000,000 rows, not 0."),
        (Wish(recipe=NOTES, rows=17_000_000_000), InvalidInput, "make several runs, each with a"),
        (Wish(recipe="x" * 1_000_001), InvalidInput, "at most 1,000,000 characters"),
        (Wish(recipe="a: [1"), RecipeError, "recipe:"),
        (Wish(recipe="rlhi", parameters={"actoins": 1}), RecipeError, "Did you mean 'actions'?"),
        (Wish(recipe="rlhi", model="nobody"), UnknownName, "There is no model 'nobody'"),
        (Wish(recipe="rlhi", rest_of="notes-7"), UnknownName, "There is no run 'notes-7'"),
    ],
)
def test_bad_wishes_are_sentences(
    desk: Made, wish: Wish, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        desk().begin(wish)
    assert words in str(caught.value)
    assert desk().registry.all() == []


def test_another_persons_runs_are_not_there(desk: Made) -> None:
    run = desk("ann").begin(Wish(recipe=NOTES, rows=1))
    desk("ann").work(run.id, never)
    other = desk("bob")
    for touch in (
        lambda: other.work(run.id, never),
        lambda: other.rows(run.id, 1, 1),
        lambda: other.dataset(run.id),
        lambda: other.recipe_of(run.id),
        lambda: other.remove(run.id),
        lambda: other.begin(Wish(recipe=NOTES, rest_of=run.id)),
    ):
        with pytest.raises(UnknownName):
            touch()
    desk("ann").remove(run.id)
    assert not (load().home / "datasets" / run.id).exists()


def test_a_run_that_two_workers_take_at_once_is_worked_on_by_one(
    desk: Made, project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(latency_ms=300)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    with open_database(load()) as database:
        ours = Desk(database, load(), Catalog(database, load()), "ann", trusted=False)
        run = ours.begin(Wish(recipe=NOTES.replace("rehearsal", "mock"), rows=10, cache=False))
        done: list[str] = []

        def work() -> None:
            try:
                done.append(ours.work(run.id, never).state)
            except RunError as error:
                done.append(str(error))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    refused, state = sorted(done)
    assert state == "finished"
    assert refused.startswith("The run notes-1 is being worked on by another process (") or (
        " writes just now" in refused  # between the folder and the run itself
    )
    assert json.loads(server.stats())["requests"] == 10


def test_a_missing_key_is_told_before_there_is_a_run(desk: Made, project: Project) -> None:
    project.model("mock", "http://127.0.0.1:9/v1", key_env="NO_SUCH_KEY")
    with open_database(load()) as database:
        ours = Desk(database, load(), Catalog(database, load()), "ann", trusted=False)
        with pytest.raises(KeyMissing, match="NO_SUCH_KEY is not set"):
            ours.begin(Wish(recipe=NOTES.replace("rehearsal", "mock"), rows=10))
        assert ours.registry.all() == []
