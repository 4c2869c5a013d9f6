"""One folder holds one run's dataset, however many begin at once."""

import json
import threading
from collections.abc import Callable

import pytest

import wordmill
from tests.runs.conftest import SHORT, Project
from wordmill._engine import Rehearsal
from wordmill.errors import RunError

OTHER = SHORT.replace("name: notes", "name: letters").replace("note.", "letter.")


def requests(server: Rehearsal) -> int:
    """How many reached the server."""
    return int(json.loads(server.stats())["requests"])


@pytest.mark.parametrize("second", [SHORT, OTHER], ids=["the same recipe", "another recipe"])
def test_of_two_runs_that_begin_at_once_in_one_folder_one_is_made_and_paid(
    project: Project, rehearse: Callable[..., Rehearsal], second: str
) -> None:
    server = rehearse(latency_ms=500)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    recipes = [project.recipe(SHORT, "a.yaml"), project.recipe(second, "b.yaml")]
    words = ("--rows", "20", "--concurrency", "5", "--no-cache", "--out", "here")
    both = [project.start("generate", recipe.name, *words) for recipe in recipes]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in both]
    assert sorted(code for _, _, code in ended) == [0, 2], ended
    (refused,) = [err for _, err, code in ended if code == 2]
    assert "Traceback" not in refused
    assert refused.splitlines()[-1].startswith("error: ")
    assert requests(server) == 20
    assert [run["state"] for run in project.run("runs", "list", "--json").json] == ["finished"]


def test_threads_that_begin_at_once_in_one_folder(
    project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(latency_ms=200)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    recipes = [project.recipe(SHORT, "a.yaml"), project.recipe(OTHER, "b.yaml")] * 2
    made, refused = [], []

    def begin(recipe: str) -> None:
        try:
            made.append(wordmill.generate(recipe, rows=10, out="here", cache=False))
        except RunError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=begin, args=(str(recipe),)) for recipe in recipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [result.state for result in made] == ["finished"]
    assert len(refused) == 3
    assert requests(server) == 10


def test_a_folder_that_another_run_writes_is_refused_in_a_sentence(
    project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(latency_ms=300)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=2)
    project.recipe(SHORT, "a.yaml")
    project.recipe(OTHER, "b.yaml")
    process = project.start("generate", "a.yaml", "--rows", "100", "--out", "here")
    while requests(server) < 2:
        assert process.poll() is None
    typed = project.run("generate", "b.yaml", "--rows", "3", "--out", "here")
    dry = project.run("generate", "b.yaml", "--rows", "3", "--out", "here", "--dry-run")
    process.terminate()
    process.communicate(timeout=60)
    for done in (typed, dry):
        assert (done.code, done.out) == (2, "")
        sentence = done.err.splitlines()[-1]
        assert sentence.startswith("error: here is where the run notes-1 writes just now (")
        assert sentence.endswith("stops it, `--out OTHER` makes another dataset elsewhere.")


def test_a_run_whose_folder_was_given_away_goes_on_elsewhere(project: Project) -> None:
    project.recipe(SHORT.replace("model: mock", "model: rehearsal"), "a.yaml")
    project.recipe(OTHER.replace("model: mock", "model: rehearsal"), "b.yaml")
    assert project.run("generate", "a.yaml", "--rows", "9", "--out", "here",
                       "--budget", "3requests").code == 3  # fmt: skip
    assert project.run("generate", "b.yaml", "--rows", "4", "--out", "here", "--replace").code == 0
    refused = project.run("resume", "notes-1", "--budget", "20requests")
    assert refused.code == 2
    assert refused.err == (
        "error: here, where the dataset of the run notes-1 goes, holds that of the run letters-1 "
        "now. `wordmill resume notes-1 --out OTHER` goes on with it elsewhere.\n"
    )
    went_on = project.run("resume", "notes-1", "--budget", "20requests", "--out", "there")
    assert went_on.code == 0, went_on.err
    assert project.run("runs", "show", "letters-1", "--json").json["folder"].endswith("/here")


def test_a_dry_run_goes_on_with_nothing(project: Project) -> None:
    project.recipe(SHORT.replace("model: mock", "model: rehearsal"), "a.yaml")
    words = ("generate", "a.yaml", "--rows", "9", "--out", "here")
    assert project.run(*words, "--budget", "3requests").code == 3
    done = project.run(*words, "--dry-run")
    assert done.code == 2
    assert done.err == (
        "error: here holds the unfinished run notes-1, and a dry run goes on with none: name "
        "another folder with `--out OTHER`, or leave it out.\n"
    )
