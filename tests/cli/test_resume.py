"""`wordmill resume`, and runs that end for reasons of their own."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Type
from tests.runs.conftest import COMMAND, SHORT, TICKETS, Project
from tests.servers.imperfect import Told, completion, serving
from wordmill._engine import Rehearsal
from wordmill.datasets import open_dataset

Rehearse = Callable[..., Rehearsal]


def test_a_finished_run_has_nothing_to_go_on_with(
    project: Project, rehearse: Rehearse, wordmill: Type
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    project.recipe(SHORT)
    wordmill("generate", "recipe.yaml", "--rows", 5)
    refused = wordmill("resume", "notes-1")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "error: The run notes-1 is finished: all of its 5 rows are made. They are in "
        "datasets/notes; `wordmill resume notes-1 --out FOLDER` writes them elsewhere.\n"
    )
    before = json.loads(server.stats())["requests"]
    again = wordmill("resume", "notes-1", "--out", "again")
    assert again.code == 0
    assert again.out.startswith("notes-1 is done: all 5 rows are made.")
    assert json.loads(server.stats())["requests"] == before
    rows = [
        list(open_dataset(Path(folder)).table().rows()) for folder in ("again", "datasets/notes")
    ]
    assert rows[0] == rows[1]
    taken = wordmill("resume", "notes-1", "--out", "datasets/notes/data")
    assert taken.code == 2
    assert taken.err.endswith(
        "datasets/notes/data is not empty. Name another folder with `--out OTHER`.\n"
    )


def test_cells_that_failed_on_the_wire_are_asked_again(
    project: Project, rehearse: Rehearse, wordmill: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_ATTEMPTS", "1")
    server = rehearse(errors={"drop": 0.2}, seed=2)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    project.recipe(SHORT)
    short = wordmill("generate", "recipe.yaml", "--rows", 40, "--json")
    assert short.code == 3
    failed = json.loads(short.out)["causes"]["note"]["dropped"]
    assert failed > 0
    assert json.loads(wordmill("runs", "list", "--json").out)[0]["state"] == "short"

    server.stop()
    server = rehearse(seed=2)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    done = wordmill("generate", "recipe.yaml", "--rows", 40, "--json")
    assert done.code == 0, done.out
    assert done.err.startswith("Continuing the run notes-1")
    assert json.loads(server.stats())["requests"] == failed
    assert json.loads(done.out)["failed_cells"] == 0


@pytest.mark.sqlite
def test_a_killed_run_asks_again_for_cells_that_it_never_told_of(
    project: Project, rehearse: Rehearse, wordmill: Type, home: Path
) -> None:
    """A run that was killed before its first heartbeat has no counts."""
    project.recipe(SHORT)
    with serving(lambda _: completion("Well.") if len(served.asked) % 2 else Told(404)) as served:
        project.model("mock", f"{served.url}/v1", concurrency=1)
        short = wordmill("generate", "recipe.yaml", "--rows", 10, "--json")
    failed = json.loads(short.out)["failed_cells"]
    assert (short.code, failed) == (3, 5)
    with closing(sqlite3.connect(home / "wordmill.db")) as database, database:
        database.execute("UPDATE runs SET state = 'running', counts = '{}'")
    server = rehearse(seed=2)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    assert wordmill("resume", "notes-1").code == 0
    assert json.loads(server.stats())["requests"] == failed


def test_more_rows_are_added_to_an_unfinished_run(
    project: Project, rehearse: Rehearse, wordmill: Type
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    project.recipe(SHORT)
    wordmill("generate", "recipe.yaml", "--rows", 10, "--budget", "6requests")
    fewer = wordmill("generate", "recipe.yaml", "--rows", 4)
    assert fewer.code == 2
    assert fewer.err == (
        "error: datasets/notes holds the unfinished run notes-1 of 10 rows, and 4 are asked for. "
        "Choose: `wordmill resume notes-1` makes all of them, `--out OTHER` makes 4 elsewhere, "
        "`--replace` starts anew here.\n"
    )
    more = wordmill("generate", "recipe.yaml", "--rows", 12, "--budget", "50requests", "--json")
    assert more.code == 0
    assert json.loads(more.out)["rows"]["made"] == 12
    assert json.loads(server.stats())["requests"] == 12


def test_a_run_at_work_is_not_begun_twice(
    project: Project, rehearse: Rehearse, wordmill: Type
) -> None:
    server = rehearse(latency_ms=300, seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=2)
    project.recipe(SHORT)
    process = project.start("generate", "recipe.yaml", "--rows", "100")
    while json.loads(server.stats())["requests"] < 2:
        assert process.poll() is None
    typed = wordmill("resume", "notes-1")
    assert typed.code == 2
    assert typed.err.startswith("error: The run notes-1 is being worked on by another process (")
    assert f"pid {process.pid}" in typed.err
    for again in (("--replace", "--yes"), ()):
        assert wordmill("generate", "recipe.yaml", "--rows", 100, *again).code == 2
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_a_file_that_may_not_grow_loses_no_work(
    project: Project, rehearse: Rehearse, wordmill: Type
) -> None:
    """A limit on the size of files stands for a full disk."""
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=8)
    project.recipe(TICKETS)
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))\n"
        f"import os; os.execv({COMMAND!r}, ['wordmill', *sys.argv[1:]])\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, "generate", "recipe.yaml", "--rows", "3000"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    last = process.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    asked = json.loads(server.stats())["requests"]
    assert 0 < asked < 9000

    done = wordmill("resume", "tickets-1", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["rows"]["made"] == 3000
    assert json.loads(done.out)["requests"]["resumed"] > 0


def test_an_unwritable_folder_is_found_before_anything_is_sent(
    project: Project, wordmill: Type
) -> None:
    project.recipe(SHORT)
    (project.folder / "file").write_text("")
    with serving(lambda _: completion("Well.")) as server:
        project.model("mock", f"{server.url}/v1")
        typed = wordmill("generate", "recipe.yaml", "--rows", 3, "--out", "file/below")
        assert server.asked == []
    assert typed.code == 2
    assert typed.err.splitlines()[-1] == (
        f"error: {project.folder}/file is a file, so {project.folder}/file/below cannot be made "
        "below it. Name another folder with `--out OTHER`."
    )
    assert wordmill("runs", "list").out.startswith("There are no runs yet.")


def test_a_run_whose_seed_file_changed_does_not_go_on(
    project: Project, rehearse: Rehearse, wordmill: Type
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    (project.folder / "names.csv").write_text("name\nAda\nBo\nCy\nDi\n")
    project.recipe(
        "name: letters\nmodel: mock\ncolumns:\n"
        "  who: {type: seed, file: names.csv}\n"
        '  letter: {type: prompt, prompt: "Write to {{ who.name }}."}\n'
    )
    short = wordmill("generate", "recipe.yaml", "--rows", 4, "--budget", "2requests")
    assert short.code == 3, short.err
    (project.folder / "names.csv").write_text("name\nAda\nBo\nCy\nEd\n")
    refused = wordmill("resume", "letters-1", "--budget", "9requests")
    assert refused.code == 2
    assert refused.err.startswith(
        "error: The run letters-1 cannot go on as it began: a file that its recipe reads, or a "
        f"module that it calls, has changed (below {project.folder}). Put it back, or begin anew "
    )
    (project.folder / "names.csv").unlink()
    gone = wordmill("resume", "letters-1", "--budget", "9requests")
    assert (gone.code, gone.err) == (
        2,
        (
            "error: columns.who.file: there is no file 'names.csv'; the recipe's paths start in "
            f"{str(project.folder)!r}.\n"
        ),
    )
    (project.folder / "names.csv").write_text("name\nAda\nBo\nCy\nDi\n")
    assert wordmill("resume", "letters-1", "--budget", "9requests").code == 0


def test_a_run_goes_on_from_another_folder(
    project: Project, rehearse: Rehearse, wordmill: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = rehearse(seed=1)
    (project.folder / "shop.py").write_text("def price(row):\n    return row['row'] * 2\n")
    (project.folder / "names.csv").write_text("name\nAda\nBo\n")
    project.recipe(
        "name: letters\nmodel: mock\ncolumns:\n"
        "  who: {type: seed, file: names.csv}\n"
        '  price: {type: python, function: "shop:price"}\n'
        '  letter: {type: prompt, prompt: "Write to {{ who.name }} about {{ price }}."}\n'
    )
    url = f"http://127.0.0.1:{server.port}/v1"
    assert wordmill("models", "add", "mock", "--base-url", url, "--model", "m").code == 0
    assert wordmill("generate", "recipe.yaml", "--rows", 2, "--budget", "1requests").code == 3
    other = project.folder / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    went_on = wordmill("resume", "letters-1", "--budget", "9requests")
    assert went_on.code == 0, went_on.err
    rows = list(open_dataset(project.folder / "datasets/letters").table().rows())
    assert [(row["who"]["name"], row["price"]) for row in rows] == [("Ada", 0), ("Bo", 2)]


def test_a_run_whose_function_changed_does_not_go_on(
    project: Project, rehearse: Rehearse, wordmill: Type
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    (project.folder / "goods.py").write_text("def price(row):\n    return 2\n")
    project.recipe(
        "name: letters\nmodel: mock\ncolumns:\n"
        '  price: {type: python, function: "goods:price"}\n'
        '  letter: {type: prompt, prompt: "Write about {{ price }}."}\n'
    )
    assert wordmill("generate", "recipe.yaml", "--rows", 4, "--budget", "2requests").code == 3
    (project.folder / "goods.py").write_text("def price(row):\n    return 30\n")
    refused = wordmill("resume", "letters-1", "--budget", "9requests")
    assert (refused.code, "or a module that it calls, has changed" in refused.err) == (2, True)
    refused = wordmill("generate", "recipe.yaml", "--rows", 4)
    assert refused.code == 2
    assert "unfinished (short) run letters-1 of another recipe" in refused.err
