"""`wordmill runs` and `wordmill export`."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Type
from tests.runs.conftest import SHORT, TICKETS, Project
from wordmill._engine import Rehearsal

Rehearse = Callable[..., Rehearsal]


@pytest.fixture
def tickets(project: Project, rehearse: Rehearse, wordmill: Type) -> Project:
    """A finished run of 12 tickets."""
    server = rehearse(seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", price_in=1.0, price_out=2.0)
    project.recipe(TICKETS)
    assert wordmill("generate", "recipe.yaml", "--rows", 12).code == 0
    return project


def test_runs_are_listed_the_newest_first(tickets: Project, wordmill: Type) -> None:
    wordmill("generate", "recipe.yaml", "--rows", 3, "--out", "more")
    lines = wordmill("runs", "list").out.splitlines()
    assert lines[0].split() == [
        "run", "state", "rows", "requests", "money", "time", "begun", "folder",
    ]  # fmt: skip
    assert [line.split()[:4] for line in lines[1:]] == [
        ["tickets-2", "finished", "3/3", "0"],
        ["tickets-1", "finished", "12/12", "36"],
    ]
    assert [line.split()[-1] for line in lines[1:]] == ["more", "datasets/tickets"]


def test_a_run_is_shown(tickets: Project, wordmill: Type) -> None:
    lines = wordmill("runs", "show", "tickets-1").out.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["state"] == "finished"
    assert facts["rows"] == "12 of 12"
    assert facts["requests"] == "36 sent, 0 cached"
    assert facts["recipe"] == "recipe.yaml"
    assert facts["money"].startswith("$0.0")
    shown = json.loads(wordmill("runs", "show", "tickets-1", "--json").out)
    assert shown["counts"]["requests"] == 36
    assert shown["folder"] == str(tickets.folder / "datasets/tickets")
    unknown = wordmill("runs", "show", "ticket-1")
    assert (unknown.code, unknown.out) == (2, "")
    assert unknown.err == (
        "error: There is no run 'ticket-1'. Did you mean 'tickets-1'? "
        "`wordmill runs list` shows all.\n"
    )


def test_runs_are_kept_on_postgresql(
    project: Project, wordmill: Type, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_DATABASE_URL", postgres_url)
    project.recipe(SHORT)
    wordmill("models", "add", "mock", "--provider", "rehearsal", "--model", "any")
    typed = wordmill("generate", "recipe.yaml", "--rows", 3)
    assert typed.code == 0, typed.err
    assert wordmill("runs", "show", "notes-1").out.splitlines()[2].split() == ["state", "finished"]
    assert wordmill("export", "notes-1", "--format", "csv", "--to", "notes.csv").code == 0
    assert wordmill("runs", "remove", "notes-1", "--yes").code == 0
    assert wordmill("runs", "list").out.startswith("There are no runs yet.")


def test_rows_are_paged(tickets: Project, wordmill: Type) -> None:
    first = wordmill("runs", "rows", "tickets-1", "--size", 5)
    heads = [line for line in first.out.splitlines() if line.startswith("row ")]
    assert [head.split()[1] for head in heads] == ["0", "1", "2", "3", "4"]
    assert first.err == "\npage 1 of 3, 12 rows of 12; --page 2 shows more\n"
    last = wordmill("runs", "rows", "tickets-1", "--size", 5, "--page", 3)
    assert last.err == "\npage 3 of 3, 12 rows of 12\n"
    alone = wordmill("runs", "rows", "tickets-1", "--row", 7, "--json")
    record = json.loads(alone.out)
    assert record["row"] == 7
    assert record["lineage"]["ticket"]["model"] == "mock"
    assert record["lineage"]["ticket"]["attempts"] == 1
    beyond = wordmill("runs", "rows", "tickets-1", "--page", 9)
    assert beyond.err == "error: The run tickets-1 has no page 9: 12 rows can be shown.\n"
    assert wordmill("runs", "rows", "tickets-1", "--failed") == (
        0,
        "",
        "No row of tickets-1 holds a failure.\n",
    )


def test_a_run_is_cancelled_from_another_terminal(
    project: Project, rehearse: Rehearse, wordmill: Type
) -> None:
    server = rehearse(latency_ms=100, seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    project.recipe(SHORT)
    process = project.start("generate", "recipe.yaml", "--rows", "1000")
    while json.loads(server.stats())["requests"] < 20:
        assert process.poll() is None
        time.sleep(0.01)
    assert "worked on by" in wordmill("runs", "show", "notes-1").out
    assert wordmill("runs", "rows", "notes-1").err.startswith("error: The run notes-1 is at work: ")
    refused = wordmill("runs", "remove", "notes-1", "--yes")
    assert refused.err == (
        "error: The run notes-1 is being worked on: `wordmill runs cancel notes-1` stops it "
        "first.\n"
    )
    asked = wordmill("runs", "cancel", "notes-1")
    began = time.monotonic()
    assert asked.out == (
        f"The run notes-1 (pid {process.pid}) is asked to stop. "
        "`wordmill resume notes-1` goes on with it.\n"
    )
    out, _ = process.communicate(timeout=20)
    assert time.monotonic() - began < 4
    assert process.returncode == 130
    assert out.startswith("notes-1 was cancelled: ")
    again = wordmill("runs", "cancel", "notes-1")
    assert again.err == (
        "error: The run notes-1 is cancelled: nothing works on it that could be cancelled.\n"
    )
    assert wordmill("runs", "show", "notes-1").out.endswith(
        "\n`wordmill resume notes-1` goes on with it.\n"
    )


def test_a_killed_run_is_shown_as_interrupted(
    project: Project, rehearse: Rehearse, wordmill: Type
) -> None:
    server = rehearse(latency_ms=100, seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=4)
    project.recipe(SHORT)
    process = project.start("generate", "recipe.yaml", "--rows", "1000")
    run: dict[str, Any] = {}
    while not run.get("counts", {}).get("requests"):
        assert process.poll() is None
        run = next(iter(json.loads(wordmill("runs", "list", "--json").out)), {})
    assert run["state"] == "running"
    process.kill()
    process.communicate()
    (run,) = json.loads(wordmill("runs", "list", "--json").out)
    assert run["state"] == "interrupted"
    assert run["counts"]["requests"] > 0


def test_a_run_is_removed(
    tickets: Project, wordmill: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = wordmill("runs", "remove", "tickets-1", "--yes")
    assert removed.code == 0
    assert removed.out.startswith("Deleted the records of tickets-1 (0.")
    assert removed.out.endswith("The dataset in datasets/tickets stays.\n")
    assert wordmill("runs", "list").out.startswith("There are no runs yet.")
    assert Path("datasets/tickets/run.json").is_file()

    wordmill("generate", "recipe.yaml", "--rows", 2, "--out", "b")
    both = wordmill("runs", "remove", "tickets-1", "--dataset", "--yes")
    assert both.out.endswith("and the dataset in b.\n")
    assert list(Path("b").iterdir()) == []


def test_a_removal_is_asked_for(tickets: Project, wordmill: Type) -> None:
    asked = tickets.run("runs", "remove", "tickets-1")
    assert asked.code == 130
    assert asked.err.startswith("Delete the records of tickets-1 (0.")
    assert json.loads(wordmill("runs", "list", "--json").out)[0]["run"] == "tickets-1"


def test_rows_are_exported(tickets: Project, wordmill: Type) -> None:
    done = wordmill("export", "tickets-1", "--format", "jsonl", "--to", "out.jsonl", "--all")
    assert done.code == 0
    assert done.out == "Wrote 12 rows as jsonl: out.jsonl.\n"
    assert len(Path("out.jsonl").read_text().splitlines()) == 12
    by_folder = wordmill(
        "export", "datasets/tickets", "--format", "jsonl", "--to", "b.jsonl", "--all"
    )
    assert by_folder.out == "Wrote 12 rows as jsonl: b.jsonl.\n"
    assert wordmill("export", "tickets-1", "--format", "jsonal", "--to", "x").err.startswith(
        "error: There is no export 'jsonal'. Did you mean 'jsonl'?"
    )
    wordmill("generate", "recipe.yaml", "--rows", 3, "--replace")
    assert wordmill("export", "tickets-1", "--format", "jsonl", "--to", "c.jsonl").err == (
        "error: The dataset of the run tickets-1 is not in datasets/tickets (any more): "
        "`wordmill resume tickets-1 --out FOLDER` writes it again, and asks for nothing that was "
        "answered.\n"
    )


def test_an_export_says_that_rows_are_rehearsed(project: Project, wordmill: Type) -> None:
    project.recipe(SHORT.replace("mock", "rehearsal"))
    wordmill("generate", "recipe.yaml", "--rows", 3)
    done = wordmill("export", "notes-1", "--format", "sft", "--to", "train.jsonl")
    assert done.out == (
        "Wrote 3 rows as sft: train.jsonl. 3 of the dataset's rows hold answers of the rehearsal "
        "model: filler, not to train on.\n"
    )
