"""`wordmill batch`."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.batches.conftest import line, run


def test_a_batch_from_submit_to_results(asked: Callable[..., Path], tmp_path: Path) -> None:
    file = asked(*(line(f"r{n}") for n in range(30)), "nothing", line("r1"))
    done = run("batch", "submit", file, "--dataset", "faces")
    assert done.code == 3, done.err
    assert "30 of 32" in done.out
    assert "duplicate_custom_id  1" in done.out
    (batch,) = json.loads(run("batch", "list", "--dataset", "faces", "--json").out)
    name = batch["id"]
    to = tmp_path / "answers.jsonl"
    assert run("batch", "results", name, "--to", to).code == 0
    answers = [json.loads(text) for text in to.read_text().splitlines()]
    assert [one["custom_id"] for one in answers] == [f"r{n}" for n in range(30)]
    errors = run("batch", "results", name, "--errors").out.splitlines()
    assert [json.loads(text)["wordmill"]["line"] for text in errors] == [31, 32]
    status = run("batch", "status", name)
    assert "completed" in status.out
    assert "wordmill batch results" in status.out


def test_a_batch_that_waits_is_cancelled(asked: Callable[..., Path]) -> None:
    submitted = run("batch", "submit", asked(line("one")), "--detach")
    name = submitted.out.strip()
    assert name.startswith("batch_")
    cancelled = run("batch", "cancel", name)
    assert cancelled.code == 0, cancelled.err
    assert "cancelled" in cancelled.out
    again = run("batch", "cancel", name)
    assert (again.code, again.err) == (2, f"error: The batch {name} is cancelled already.\n")
    nothing = run("batch", "results", name)
    assert nothing.err == f"error: No request of the batch {name} was answered.\n"


def test_twice_with_a_key_is_one_batch(asked: Callable[..., Path]) -> None:
    first = run("batch", "submit", asked(line("one")), "--once", "k", "--detach")
    second = run("batch", "submit", asked(line("one")), "--once", "k", "--detach")
    assert second.out == first.out
    assert "has ordered" in second.err
    other = run("batch", "submit", asked(line("two")), "--once", "k", "--detach")
    assert (other.code, other.err) == (
        2, "error: The idempotency key 'k' belongs to another order.\n",
    )  # fmt: skip


def test_a_file_that_is_refused_says_why(asked: Callable[..., Path]) -> None:
    refused = run("batch", "submit", asked("x", "y", line("one")))
    assert refused.code == 2
    assert "line 1: the line is no JSON object" in refused.out
    assert "2 of 3 lines are bad" in refused.out


def test_a_batch_that_is_not_there() -> None:
    done = run("batch", "status", "batch_x")
    assert (done.code, done.err) == (2, "error: There is no batch 'batch_x' that is yours.\n")


def test_answers_are_checked_and_handed_on(asked: Callable[..., Path]) -> None:
    file = asked(line("a"), line("b"))
    refused = run("batch", "submit", file, "--validate", '{"choices": []}')
    assert refused.code == 2
    assert "validate: choices is a list of texts, not an empty one." in refused.err
    refused = run("batch", "submit", file, "--validate", "{")
    assert "--validate is no JSON" in refused.err
    refused = run("batch", "submit", file, "--post", "os:system")
    assert "The module os is not among those that an admin allows batches to call" in refused.err
    refused = run("batch", "submit", file, "--url", "http://127.0.0.1:1/v1")
    assert "The address 127.0.0.1 is not public" in refused.err
    done = run("batch", "submit", file, "--validate", '{"pattern": "."}', "--priority", "9")
    assert done.code == 0, done.err
    listed = json.loads(run("batch", "list", "--json").out)
    assert [one["priority"] for one in listed] == [9]
    results = run("batch", "results", listed[0]["id"]).out.splitlines()
    assert [json.loads(one)["wordmill"]["tries"] for one in results] == [1, 1]
