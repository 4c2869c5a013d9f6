"""`wordmill generate`, as a person types it."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Type
from tests.runs.conftest import COMMAND, SHORT, TICKETS, Project
from tests.servers.imperfect import Asked, Told, completion, serving
from wordmill import generate
from wordmill._engine import Rehearsal
from wordmill.datasets import open_dataset
from wordmill.errors import RunError

Rehearse = Callable[..., Rehearsal]


@pytest.fixture
def mock(project: Project, rehearse: Rehearse) -> Rehearsal:
    """A rehearsal server under the name `mock`."""
    server = rehearse(seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=8)
    project.recipe(TICKETS)
    return server


# The first run -------------------------------------------------------------------------------


def test_a_recipe_becomes_a_dataset(project: Project, mock: Rehearsal, wordmill: Type) -> None:
    typed = wordmill("generate", "recipe.yaml", "--rows", 20)
    assert typed.code == 0
    lines = typed.out.splitlines()
    assert lines[0] == "tickets-1 is done: all 20 rows are made."
    assert lines[3] == "  requests  60 sent, 0 from the cache, 0 joined, 0 retried"
    assert typed.err.startswith("Estimate: 60 requests, about ")
    assert len([line for line in lines if line.startswith("row ")]) == 2
    assert "  datasets/tickets/report.html" in lines
    assert lines[-4:] == [
        "next",
        "  wordmill runs rows tickets-1",
        "  wordmill export tickets-1 --format jsonl --to tickets.jsonl",
        "  wordmill runs show tickets-1",
    ]
    assert max(len(line) for line in lines) <= 80
    dataset = open_dataset(project.folder / "datasets/tickets")
    rows = list(dataset.table().rows())
    assert [row["row"] for row in rows] == list(range(20))
    assert {row["product"] for row in rows} == {"laptop", "phone"}
    assert all(isinstance(row["urgency"]["level"], int) for row in rows)
    assert dataset.run == "tickets-1"


def test_the_summary_as_json(mock: Rehearsal, wordmill: Type) -> None:
    typed = wordmill("generate", "recipe.yaml", "--rows", 20, "--json")
    summary = json.loads(typed.out)
    assert summary["run"] == "tickets-1"
    assert summary["state"] == "finished"
    assert summary["rows"]["made"] == summary["rows"]["wanted"] == 20
    assert summary["rows"]["kept"] + summary["rows"]["turned_down"] == 20
    assert summary["requests"]["sent"] == 60
    assert summary["tokens"]["output"] > 0
    assert summary["failed_cells"] == 0


def test_rows_that_keep_turns_down_are_not_short(mock: Rehearsal, wordmill: Type) -> None:
    typed = wordmill("generate", "recipe.yaml", "--rows", 30, "--json")
    assert typed.code == 0
    assert json.loads(typed.out)["rows"]["turned_down"] > 0


def test_one_row_more_is_one_request_a_language_column(mock: Rehearsal, wordmill: Type) -> None:
    wordmill("generate", "recipe.yaml", "--rows", 30)
    before = json.loads(mock.stats())["requests"]
    typed = wordmill("generate", "recipe.yaml", "--rows", 31, "--replace", "--json")
    assert (
        json.loads(typed.out)["requests"] | {"sent": 3, "cached": 90}
        == (json.loads(typed.out)["requests"])
    )
    assert json.loads(mock.stats())["requests"] == before + 3


def test_without_a_cache_all_is_asked_again(mock: Rehearsal, wordmill: Type) -> None:
    wordmill("generate", "recipe.yaml", "--rows", 5)
    typed = wordmill("generate", "recipe.yaml", "--rows", 5, "--replace", "--no-cache", "--json")
    assert json.loads(typed.out)["requests"]["sent"] == 15


def test_options_reach_the_columns(mock: Rehearsal, wordmill: Type) -> None:
    typed = wordmill(
        "generate", "recipe.yaml", "--rows", 5, "--set", "mood.values=[sad, glad]", "--seed", 9
    )
    assert typed.code == 0
    rows = open_dataset(Path("datasets/tickets")).table().rows()
    assert {row["mood"] for row in rows} <= {"sad", "glad"}
    assert "seed: 9" in Path("datasets/tickets/recipe.yaml").read_text()


def test_a_dry_run_asks_nobody_and_keeps_nothing(
    project: Project, mock: Rehearsal, wordmill: Type
) -> None:
    port = mock.port
    project.model("mock", f"http://127.0.0.1:{port}/v1", price_in=1.0, price_out=2.0)
    typed = wordmill("generate", "recipe.yaml", "--rows", 5, "--dry-run")
    assert typed.code == 0
    assert typed.err.startswith(
        "A dry run: the rehearsal model answers, at the prices of mock.\nEstimate: 15 requests"
    )
    first = typed.out.splitlines()[0]
    assert first.startswith("Dry run: 5 of 5 rows made by the rehearsal model; at these prices it")
    assert typed.out.splitlines()[-1] == "  wordmill generate recipe.yaml --rows 5"
    words = ("generate", "recipe.yaml", "-n", 5, "--model", "mock", "--set", "mood.weights=[2, 1]")
    typed = wordmill(*words, "--dry-run", "--no-cache")
    assert typed.out.splitlines()[-1] == (
        "  wordmill generate recipe.yaml -n 5 --model mock --set 'mood.weights=[2, 1]' --no-cache"
    )
    told = json.loads(wordmill(*words, "--dry-run", "--json").out)
    assert (told["folder"], told["files"], told["dry_run"]) == (None, [], True)
    dry = generate("recipe.yaml", rows=2, rehearse=True)
    with pytest.raises(RunError, match="A dry run without `out` keeps no rows"):
        dry.rows()
    assert json.loads(mock.stats())["requests"] == 0
    assert not Path("datasets").exists()
    assert wordmill("runs", "list").out.startswith("There are no runs yet.")


def test_a_missing_key_is_told_before_there_is_a_run(
    project: Project, mock: Rehearsal, wordmill: Type
) -> None:
    project.model("mock", f"http://127.0.0.1:{mock.port}/v1", key_env="NO_SUCH_KEY")
    typed = wordmill("generate", "recipe.yaml", "--rows", 5)
    assert (typed.code, typed.out) == (2, "")
    assert typed.err == (
        "error: No API key for the model 'mock': the variable NO_SUCH_KEY is not set. Set it, or "
        "store the key with `wordmill models key mock`.\n"
    )
    assert not Path("datasets").exists()
    assert wordmill("runs", "list").out.startswith("There are no runs yet.")


def test_the_summary_fits_a_narrow_terminal(
    project: Project, rehearse: Rehearse, wordmill: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    project.recipe(TICKETS.replace("tickets", "my tickets"))
    typed = wordmill("generate", "recipe.yaml", "--model", "rehearsal", "--rows", 3)
    lines = typed.out.splitlines()
    assert max(len(line) for line in lines[: lines.index("next")]) <= 60
    assert "  money     $0.00" in lines
    assert lines[lines.index("next") + 1 :] == [
        "  wordmill runs rows my-tickets-1",
        "  wordmill export my-tickets-1 --format jsonl --to 'my tickets.jsonl'",
        "  wordmill generate recipe.yaml --rows 3 --model NAME --out 'datasets/my tickets-real'",
    ]
    shown = wordmill("runs", "rows", "my-tickets-1").out
    seen = wordmill("preview", "recipe.yaml", "--model", "rehearsal", "--prompts").out
    assert max(len(line) for line in (shown + seen).splitlines()) <= 60


# The folder ------------------------------------------------------------------------------------


def test_a_finished_folder_is_refused_and_the_choices_named(
    mock: Rehearsal, wordmill: Type
) -> None:
    wordmill("generate", "recipe.yaml", "--rows", 5)
    refused = wordmill("generate", "recipe.yaml", "--rows", 5)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "error: datasets/tickets holds the finished run tickets-1 of the same recipe (5 rows). "
        "Choose: `--out OTHER` makes the dataset elsewhere, `--replace` makes it anew here "
        "(answers that are in the cache are not paid again).\n"
    )
    other = wordmill("generate", "recipe.yaml", "--rows", 5, "--seed", 8)
    assert other.code == 2
    assert "the finished run tickets-1 of another recipe, or other options of it" in other.err
    elsewhere = wordmill("generate", "recipe.yaml", "--rows", 5, "--out", "elsewhere")
    assert elsewhere.out.startswith("tickets-2 is done: all 5 rows are made.")


def test_a_folder_of_other_files_is_never_touched(mock: Rehearsal, wordmill: Type) -> None:
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    for more in ((), ("--replace",)):
        typed = wordmill("generate", "recipe.yaml", "--rows", 5, "--out", "mine", *more)
        assert typed.code == 2
        assert typed.err.startswith("error: mine holds files that are no dataset of Wordmill")
    assert Path("mine/letter.txt").read_text() == "dear"
    assert [path.name for path in Path("mine").iterdir()] == ["letter.txt"]


def test_replacing_leaves_files_that_are_not_a_datasets(mock: Rehearsal, wordmill: Type) -> None:
    wordmill("generate", "recipe.yaml", "--rows", 5)
    Path("datasets/tickets/notes.txt").write_text("mine")
    typed = wordmill("generate", "recipe.yaml", "--rows", 4, "--seed", 1, "--replace")
    assert typed.code == 0
    assert Path("datasets/tickets/notes.txt").read_text() == "mine"
    assert open_dataset(Path("datasets/tickets")).run == "tickets-2"


# Ceilings and stops ----------------------------------------------------------------------------


def test_a_budget_is_kept_to_and_the_run_goes_on_with_a_higher_one(
    mock: Rehearsal, wordmill: Type
) -> None:
    typed = wordmill("generate", "recipe.yaml", "--rows", 50, "--budget", "70requests", "--json")
    assert typed.code == 3
    summary = json.loads(typed.out)
    assert summary["state"] == "short"
    assert summary["ended"] == "70 of 70 requests are spent"
    assert 0 < summary["rows"]["made"] < 50
    assert json.loads(mock.stats())["requests"] == 70

    again = wordmill("generate", "recipe.yaml", "--rows", 50, "--budget", "70requests")
    assert again.code == 3
    assert again.out.startswith("tickets-1 is short: ")
    assert "70 of 70 requests are spent." in again.out.splitlines()[0]
    assert again.out.splitlines()[-3] == "  wordmill resume tickets-1 --budget HIGHER"
    assert json.loads(mock.stats())["requests"] == 70

    done = wordmill("resume", "tickets-1", "--budget", "150requests")
    assert done.code == 0
    assert done.out.startswith("tickets-1 is done: all 50 rows are made.")
    assert json.loads(mock.stats())["requests"] == 150
    assert json.loads(mock.stats())["repeated"] == 0


def test_a_budget_in_money_needs_a_price(mock: Rehearsal, wordmill: Type) -> None:
    typed = wordmill("generate", "recipe.yaml", "--rows", 2, "--budget", "1usd")
    assert typed.code == 0
    assert "No price is known for mock, so the budget in money does not bound it." in typed.err


def test_a_wrong_key_costs_three_requests(project: Project, wordmill: Type) -> None:
    def refuse(asked: Asked) -> Told:
        return Told(401, {"error": {"message": "Incorrect API key provided."}})

    project.recipe(SHORT)
    with serving(refuse) as server:
        project.model("mock", f"{server.url}/v1", concurrency=4)
        typed = wordmill("generate", "recipe.yaml", "--rows", 100)
        assert len(server.asked) == 3
    assert typed.code == 3
    first = typed.out.splitlines()[0]
    assert first.startswith("notes-1 is short: 0 of 100 rows are made. ")
    assert "Incorrect API key provided" in first
    assert "  wordmill resume notes-1" in typed.out.splitlines()

    with serving(lambda asked: completion("Dear all.")) as server:
        project.model("mock", f"{server.url}/v1", concurrency=4)
        typed = wordmill("resume", "notes-1")
    assert typed.code == 0
    assert typed.out.startswith("notes-1 is done: all 100 rows are made.")


def test_one_refusal_among_answers_fails_one_cell(project: Project, wordmill: Type) -> None:
    def answer(asked: Asked) -> Told:
        if len(server.asked) == 10:
            return Told(403, {"error": {"message": "Not this one."}})
        return completion("Dear all.")

    project.recipe(SHORT)
    with serving(answer) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        typed = wordmill("generate", "recipe.yaml", "--rows", 20, "--json")
    assert typed.code == 3
    assert json.loads(typed.out)["causes"] == {"note": {"unauthorized": 1}}
    assert json.loads(typed.out)["rows"]["made"] == 20


# Interrupted -----------------------------------------------------------------------------------


def terminal(project: Project, *words: str) -> tuple[subprocess.Popen[bytes], int]:
    """The command with a terminal of its own for all three streams."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *words],
        cwd=project.folder,
        env={**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    os.close(theirs)
    return process, ours


def read_until(ours: int, word: str, seconds: float = 20.0) -> str:
    """What a terminal shows, up to a word; or to the end."""
    shown, end = "", time.monotonic() + seconds
    while word not in shown and time.monotonic() < end:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        shown += part.decode()
    return shown


@pytest.fixture
def slow(project: Project, rehearse: Rehearse) -> Rehearsal:
    """A server that takes its time."""
    server = rehearse(latency_ms=200, seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=8)
    project.recipe(TICKETS)
    return server


def test_ctrl_c_once_drains_and_leaves_a_run_that_goes_on(
    project: Project, slow: Rehearsal, wordmill: Type
) -> None:
    process, ours = terminal(project, "generate", "recipe.yaml", "--rows", "300")
    shown = read_until(ours, "lanes  in flight 8")
    assert "ticket" in shown
    assert "urgency" in shown
    os.write(ours, b"\x03")
    shown += read_until(ours, "continue with")
    shown += read_until(ours, "nothing comes after the end")
    assert process.wait(20) == 130
    os.close(ours)
    assert "tickets-1 was cancelled: " in shown
    assert "continue with" in shown
    asked = json.loads(slow.stats())
    assert asked["repeated"] == 0

    listed = json.loads(wordmill("runs", "list", "--json").out)
    assert [run["state"] for run in listed] == ["cancelled"]
    done = wordmill("resume", "tickets-1", "--concurrency", 64, "--json")
    assert done.code == 0
    assert json.loads(done.out)["requests"]["resumed"] > 0
    assert json.loads(slow.stats())["requests"] == 900
    assert json.loads(slow.stats())["repeated"] == 0


def test_ctrl_c_twice_stops_at_once(project: Project, rehearse: Rehearse, wordmill: Type) -> None:
    server = rehearse(latency_ms=5_000, seed=3)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=8)
    project.recipe(TICKETS)
    process = project.start("generate", "recipe.yaml", "--rows", "300")
    while json.loads(server.stats())["requests"] < 3:
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 3
    assert process.returncode == 130
    assert "Continue with `wordmill resume tickets-1`." in err
    assert json.loads(wordmill("runs", "list", "--json").out)[0]["state"] == "cancelled"


def test_sigterm_ends_in_good_order(project: Project, slow: Rehearsal) -> None:
    process = project.start("generate", "recipe.yaml", "--rows", "300")
    while json.loads(slow.stats())["requests"] < 20:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out.startswith("tickets-1 was cancelled: ")
