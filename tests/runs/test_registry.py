"""Who works on a run, how it stands, and what is left when a process dies."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wordmill.database import open_database
from wordmill.errors import RunError, UnknownName
from wordmill.runs.registry import Registry, Run
from wordmill.settings import load


@pytest.fixture
def registry(either_database: str) -> Iterator[Registry]:
    settings = load()
    with open_database(settings) as database:
        yield Registry(database, settings)


def make(registry: Registry, name: str = "tickets", folder: str = "/data/t") -> Run:
    return registry.create(
        name=name, recipe=f"{name}.yaml", digest="d" * 32, folder=Path(folder), rows=10,
        write=lambda files: None,
    )  # fmt: skip


def test_ids_are_sayable_and_count_by_recipe(registry: Registry) -> None:
    names = ["tickets", "tickets", "My Notes (v2)", "tickets", "...."]
    assert [make(registry, name).id for name in names] == [
        "tickets-1", "tickets-2", "my-notes-v2-1", "tickets-3", "run-1",
    ]  # fmt: skip
    registry.remove("tickets-2")
    assert make(registry).id == "tickets-4"
    assert make(registry, "tickets-1").id == "tickets-1-1"


def test_the_life_of_a_run(registry: Registry) -> None:
    run = make(registry)
    assert (run.state, run.fence, run.unfinished) == ("created", 0, True)
    with registry.begin(run.id, 12) as lease:
        assert (lease.run.state, lease.run.fence, lease.run.rows) == ("running", 1, 12)
        assert registry.beat(lease, {"requests": 3}) is False
        assert registry.get(run.id).counts == {"requests": 3}
        registry.cancel(run.id)
        assert registry.beat(lease, {"requests": 4}) is True
        registry.end(lease, "cancelled", {"requests": 5})
    assert registry.get(run.id).state == "cancelled"
    with registry.begin(run.id, 12) as lease:
        assert registry.beat(lease, {}) is False
        registry.end(lease, "finished", {"requests": 9})
    ended = registry.get(run.id)
    assert (ended.state, ended.fence, ended.unfinished) == ("finished", 2, False)
    assert ended.ended is not None


def test_only_one_process_works_on_a_run(registry: Registry) -> None:
    run = make(registry)
    with registry.begin(run.id, 10):
        with pytest.raises(RunError) as error:
            registry.begin(run.id, 10)
        assert str(error.value).startswith(
            "The run tickets-1 is being worked on by another process ("
        )
        with pytest.raises(RunError, match="`wordmill runs cancel tickets-1` stops it first"):
            registry.remove(run.id)
    registry.begin(run.id, 10).release()


def test_a_process_that_died_leaves_an_interrupted_run(registry: Registry, home: Path) -> None:
    run = make(registry)
    script = (
        "import os\n"
        "from wordmill.database import open_database\n"
        "from wordmill.runs.registry import Registry\n"
        "from wordmill.settings import load\n"
        "settings = load()\n"
        "Registry(open_database(settings), settings).begin('tickets-1', 10)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert registry.get(run.id).state == "interrupted"
    with pytest.raises(RunError, match="The run tickets-1 is interrupted: nothing works on it"):
        registry.cancel(run.id)
    with registry.begin(run.id, 10) as lease:
        assert lease.run.fence == 2
        assert registry.get(run.id).state == "running"


def test_who_lost_a_run_cannot_write_over_it(registry: Registry) -> None:
    run = make(registry)
    lost = registry.begin(run.id, 10)
    lost.release()
    with registry.begin(run.id, 10) as lease:
        assert registry.beat(lost, {"requests": 1}) is True
        registry.end(lost, "failed", {})
        assert registry.beat(lease, {"requests": 2}) is False
        assert registry.get(run.id).state == "running"
        assert registry.get(run.id).counts == {"requests": 2}


def test_runs_are_found(registry: Registry) -> None:
    first, second = make(registry), make(registry)
    other = make(registry, "notes", "/data/n")
    assert registry.of_folder(Path("/data/t")) == second
    assert registry.of_folder(Path("/data/n")) == other
    assert registry.of_folder(Path("/data")) is None
    assert {run.id for run in registry.all()} == {first.id, second.id, other.id}
    registry.move(first.id, Path("/data/x"))
    assert registry.of_folder(Path("/data/x")) == registry.get(first.id)
    with pytest.raises(UnknownName) as error:
        registry.get("ticket-1")
    assert str(error.value).startswith(
        "There is no run 'ticket-1'. Did you mean 'tickets-1' or 'tickets-2'"
    )
    assert str(error.value).endswith("? `wordmill runs list` shows all.")


def test_removing_deletes_the_runs_own_files(registry: Registry) -> None:
    run = make(registry)
    (registry.files(run.id) / "records.db").write_text("x")
    registry.remove(run.id)
    assert not registry.files(run.id).exists()
    assert registry.all() == []


def test_nobody_sees_or_touches_the_runs_of_another(registry: Registry) -> None:
    other = Registry(registry._database, load(), owner="somebody")
    run = make(registry)
    theirs = make(other)
    assert (run.id, theirs.id) == ("tickets-1", "tickets-2")
    assert ([one.id for one in other.all()], [one.id for one in registry.all()]) == (
        ["tickets-2"],
        ["tickets-1"],
    )
    assert other.of_folder(Path("/data/t")) is not None
    for touch in (other.get, other.cancel, other.remove, lambda name: other.begin(name, 10)):
        with pytest.raises(UnknownName, match="There is no run 'tickets-1'"):
            touch(run.id)
    other.move(run.id, Path("/elsewhere"))
    assert registry.get(run.id).folder == Path("/data/t")


def test_a_long_path_of_a_recipe_is_kept_by_its_end(registry: Registry) -> None:
    path = f"{'/a-folder' * 60}/recipe.yaml"
    run = registry.create(
        name="tickets", recipe=path, digest="d" * 32, folder=Path("/data/t"), rows=10,
        write=lambda files: None,
    )  # fmt: skip
    assert len(run.recipe) == 200
    assert run.recipe.startswith("...")
    assert path.endswith(run.recipe[3:])


def test_what_a_run_needs_is_there_before_the_run_is(registry: Registry) -> None:
    def write(files: Path) -> None:
        (files / "recipe.json").write_text("{}")
        raise RunError("no room")

    with pytest.raises(RunError, match="no room"):
        registry.create(name="t", recipe="", digest="", folder=Path("/t"), rows=1, write=write)
    assert registry.all() == []
