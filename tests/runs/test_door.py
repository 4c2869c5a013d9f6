"""`wordmill.generate` from programs: in threads, in asyncio."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import wordmill
from tests.runs.conftest import SHORT, Project
from wordmill import Category, Prompt, Recipe
from wordmill._engine import Rehearsal
from wordmill.errors import RunError, UnknownName

Rehearse = Callable[..., Rehearsal]


@pytest.fixture
def slow(project: Project, rehearse: Rehearse) -> Rehearsal:
    server = rehearse(latency_ms=100, seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    return server


def test_a_recipe_made_in_python(project: Project) -> None:
    recipe = Recipe(
        "tickets",
        seed=7,
        model="rehearsal",
        columns={
            "mood": Category(["calm", "angry"]),
            "ticket": Prompt("A {{ mood }} customer writes."),
        },
    )
    result = wordmill.generate(recipe, rows=5)
    assert (result.run, result.state, result.exit_code) == ("tickets-1", "finished", 0)
    assert result.folder == project.folder / "datasets/tickets"
    rows = list(result.rows())
    assert [row["row"] for row in rows] == [0, 1, 2, 3, 4]
    assert all(row["ticket"] for row in rows)
    assert result.rehearsed == 5
    with pytest.raises(UnknownName):
        list(result.rows("nothing"))


def test_both_doors_make_the_same_rows(project: Project) -> None:
    text = SHORT.replace("mock", "rehearsal")
    columns = {
        "mood": Category(["calm", "angry"]),
        "note": Prompt("Write a {{ mood }} note."),
    }
    by_yaml = wordmill.generate(project.recipe(text), rows=4, out="yaml")
    by_python = wordmill.generate(
        Recipe("notes", model="rehearsal", columns=columns), rows=4, out="python"
    )
    assert [(row["mood"], row["note"]) for row in by_yaml.rows()] == [
        (row["mood"], row["note"]) for row in by_python.rows()
    ]


def test_bad_input_is_raised_and_a_short_run_is_not(project: Project) -> None:
    recipe = project.recipe(SHORT.replace("mock", "rehearsal"))
    short = wordmill.generate(recipe, rows=10, budget="4requests")
    assert (short.state, short.exit_code, short.why) == ("short", 3, "ceiling")
    done = wordmill.generate(recipe, rows=10, budget="100requests")
    assert done.state == "finished"
    with pytest.raises(RunError, match="holds the finished run notes-1 of the same recipe"):
        wordmill.generate(recipe, rows=10)


def test_several_threads_at_once(slow: Rehearsal) -> None:
    made: list[str] = []

    def make(name: str) -> None:
        columns = {"note": {"type": "prompt", "prompt": f"A note for {name}."}}
        result = wordmill.generate(Recipe(name, model="mock", columns=columns), rows=4)
        made.append(result.state)

    threads = [threading.Thread(target=make, args=(f"r{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["finished"] * 3


def test_inside_asyncio_and_cancelled(project: Project, slow: Rehearsal) -> None:
    recipe = project.recipe(SHORT)

    async def work() -> None:
        task = asyncio.create_task(wordmill.agenerate(recipe, rows=500))
        while json.loads(slow.stats())["requests"] < 8:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        done = await wordmill.agenerate(recipe, rows=500, concurrency=100)
        assert done.state == "finished"

    asyncio.run(work())
    assert json.loads(slow.stats())["repeated"] == 0
    assert json.loads(slow.stats())["requests"] == 500


def test_nothing_is_printed(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    wordmill.generate(project.recipe(SHORT.replace("mock", "rehearsal")), rows=2)
    assert capfd.readouterr() == ("", "")
    assert Path("datasets/notes/README.md").is_file()
