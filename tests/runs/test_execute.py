"""Rows and cells: what is asked when, what fails by what name, what a slow row does to others."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import Project
from tests.servers.imperfect import Asked, Told, completion, serving
from wordmill._engine import Rehearsal
from wordmill.datasets import open_dataset
from wordmill.recipes import Recipe
from wordmill.runs.door import generate
from wordmill.runs.plan import make_plan, request_id

Rehearse = Callable[..., Rehearsal]


def rows_of(folder: str) -> list[dict[str, Any]]:
    return list(open_dataset(Path("datasets") / folder).table().rows())


def test_a_plan_knows_what_waits_for_what() -> None:
    columns = {
        "place": {"type": "category", "values": ["mill", "quay"]},
        "sign": {"type": "template", "template": "At the {{ place }}"},
        "story": {"type": "prompt", "prompt": "{{ sign }}"},
        "length": {"type": "template", "template": "{{ story | length }}"},
        "title": {"type": "prompt", "prompt": "{{ story }} {{ length }} {{ place }}"},
    }
    plan = make_plan(Recipe("r", model="m", columns=columns))
    assert [step.name for step in plan.early] == ["place", "sign"]
    late = {step.name: step for step in plan.late}
    assert {name: step.waits for name, step in late.items()} == {
        "story": 0,
        "length": 1,
        "title": 2,
    }
    names = [step.name for step in plan.steps]
    assert [names[index] for index in late["story"].frees] == ["length", "title"]


def test_a_request_is_known_by_row_column_item_and_try() -> None:
    parts = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (7, 499, 63, 20)]
    numbers = [request_id(*one) for one in parts]
    assert len(set(numbers)) == len(numbers)
    assert numbers[-1] >> 28 == 7
    assert numbers[-1] >> 18 & 1023 == 499
    assert numbers[-1] >> 6 & 4095 == 63
    assert numbers[-1] & 63 == 20
    assert request_id(2**34 - 1, 1023, 4095, 62) < 2**63


def test_when_leaves_a_cell_null_and_asks_nothing(project: Project) -> None:
    columns = {
        "mood": {"type": "category", "values": ["calm", "angry"], "draw": "balanced"},
        "note": {"type": "prompt", "prompt": "A note.", "when": "mood == 'angry'"},
        "reply": {"type": "prompt", "prompt": "Reply to {{ note }}", "when": "note is not none"},
    }
    with serving(lambda _: completion("Well.")) as server:
        project.model("mock", f"{server.url}/v1", concurrency=2)
        result = generate(Recipe("notes", model="mock", columns=columns), rows=10, cache=False)
        assert len(server.asked) == 10
    assert result.state == "finished"
    for row in rows_of("notes"):
        assert (row["note"], row["reply"]) == (
            ("Well.", "Well.") if row["mood"] == "angry" else (None, None)
        )
        assert not row["errors"]


def test_a_condition_without_a_value_fails_its_cell(project: Project) -> None:
    columns = {
        "size": {"type": "category", "values": [1, 0], "draw": "balanced"},
        "half": {"type": "template", "template": "x", "when": "1 / size > 0"},
        "whole": {"type": "template", "template": "{{ half }}"},
    }
    result = generate(Recipe("sizes", columns=columns), rows=4)
    assert result.state == "short"
    assert result.causes == {"half": {"template": 2}, "whole": {"needs": 2}}
    failed = [row for row in rows_of("sizes") if row["errors"]]
    assert [row["errors"]["whole"] for row in failed] == ["needs: half"] * 2
    assert all("division by zero" in row["errors"]["half"] for row in failed)


def test_what_keep_cannot_judge_is_not_kept_and_counted(project: Project) -> None:
    columns = {"size": {"type": "category", "values": [1, 0], "draw": "balanced"}}
    recipe = Recipe("sizes", columns=columns, keep="1 / size > 0")
    result = generate(recipe, rows=4)
    assert (result.state, result.exit_code) == ("finished", 0)
    assert (result.kept, result.turned_down, result.unsure, result.failed) == (2, 0, 2, 0)
    words = [row["errors"]["recipe.keep"] for row in rows_of("sizes") if not row["kept"]]
    assert words == ["keep: division by zero"] * 2
    manifest = open_dataset(result.folder).manifest
    assert manifest.rows.model_dump() == {
        "wanted": 4, "made": 4, "kept": 2, "turned_down": 0, "unsure": 2, "failed": 0,
        "failed_cells": 0,
    }  # fmt: skip
    assert manifest.causes == {}
    assert (result.folder / "failed.jsonl").read_text() == ""
    assert "2 that it could not judge" in (result.folder / "README.md").read_text()
    assert "2 that it cannot judge" in (result.folder / "report.html").read_text()


def test_a_row_in_which_a_cell_failed_counts_that_cell_alone(project: Project) -> None:
    columns = {
        "size": {"type": "category", "values": [1, 0], "draw": "balanced"},
        "half": {"type": "template", "template": "x", "when": "1 / size > 0"},
    }
    result = generate(Recipe("sizes", columns=columns, keep="half == 'x'"), rows=4)
    assert (result.failed, result.failed_rows, result.unsure) == (2, 2, 2)
    rows = open_dataset(result.folder).manifest.rows
    assert (rows.failed_cells, rows.failed, rows.unsure, rows.kept) == (2, 2, 2, 2)


def test_the_dataset_says_when_it_was_made_and_how_long_answers_took(
    project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(latency_ms=50)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    columns = {
        "mood": {"type": "category", "values": ["calm", "angry"]},
        "note": {"type": "prompt", "prompt": "A {{ mood }} note."},
    }
    recipe = Recipe("notes", columns=columns, model="mock")
    short = generate(recipe, rows=20, budget="8requests", concurrency=2)
    first = open_dataset(short.folder).manifest.timings
    assert first.started <= first.first_request <= first.ended
    assert first.seconds == pytest.approx(short.reading.seconds, abs=0.01)
    note = first.columns["note"]
    assert list(first.columns) == ["note"]
    assert note.answers == 8
    assert 0.05 * 0.99 <= note.p50 <= note.p95
    whole = generate(recipe, rows=20, budget="99requests")
    second = open_dataset(whole.folder).manifest.timings
    assert (second.started, second.first_request) == (first.started, first.first_request)
    assert second.ended > first.ended
    assert second.seconds > first.seconds
    assert second.columns["note"].answers == 20
    assert whole.as_json()["timings"]["first_request"] == first.first_request


def test_an_item_that_fails_leaves_its_cell_and_is_named(project: Project) -> None:
    columns = {
        "deeds": {"type": "candidates", "n": 3, "prompt": "What to do?"},
        "cost": {"type": "prompt", "prompt": "Its cost? {{ item.text }}", "each": "deeds"},
    }

    def answer(asked: Asked) -> Told:
        words = asked.body["messages"][-1]["content"]
        if words == "What to do?":
            return completion(f"Deed {len(server.asked)}.")
        if words.endswith("Deed 2."):
            return completion("I'm sorry, but I can't help with that.")
        return completion("Little.")

    with serving(answer) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        result = generate(Recipe("deeds", model="mock", columns=columns), rows=1, cache=False)
    assert result.state == "short"
    assert result.failed == 1
    assert result.causes == {"cost": {"refused": 1}}
    (row,) = open_dataset(Path("datasets/deeds")).walk()
    (place,) = [item["item"] for item in row[1]["deeds"] if item["text"] == "Deed 2."]
    assert list(row[0]["errors"]) == [f"cost[{place}]"]
    assert [item["cost"] for item in row[1]["deeds"]] == [
        None if item["item"] == place else "Little." for item in row[1]["deeds"]
    ]


def test_a_slow_row_delays_no_other(project: Project) -> None:
    """Row 0 hangs in its first column; all the others end, and it does too, later."""
    release = threading.Event()

    def answer(asked: Asked) -> Told:
        words = asked.body["messages"][-1]["content"]
        if words == "First of row 0":
            release.wait(20)
        return completion("Well.")

    columns = {
        "first": {"type": "prompt", "prompt": "First of row {{ row }}"},
        "second": {"type": "prompt", "prompt": "Second of row {{ row }} {{ first }}"},
    }
    recipe = Recipe("two", model="mock", columns=columns)
    with serving(answer) as server:
        project.model("mock", f"{server.url}/v1", concurrency=4)
        made: list[Any] = []
        work = threading.Thread(target=lambda: made.append(generate(recipe, rows=60, cache=False)))
        work.start()
        end = time.monotonic() + 15
        while len(server.asked) < 119 and time.monotonic() < end:
            time.sleep(0.01)
        asked = len(server.asked)
        release.set()
        work.join()
    assert asked == 119
    assert made[0].state == "finished"
    assert [row["row"] for row in rows_of("two")] == list(range(60))


def test_rows_are_in_order_whatever_the_order_of_answers(project: Project) -> None:
    held: list[threading.Event] = []
    lock = threading.Lock()

    def answer(asked: Asked) -> Told:
        words = asked.body["messages"][-1]["content"]
        # Each pair of requests is answered the wrong way round.
        with lock:
            held.append(threading.Event())
            mine = len(held) - 1
        if mine % 2 == 0:
            held[mine].wait(0.3)
        else:
            held[mine - 1].set()
        return completion(f"Answer to: {words}")

    columns = {"note": {"type": "prompt", "prompt": "Note {{ row }}"}}
    with serving(answer) as server:
        project.model("mock", f"{server.url}/v1", concurrency=2)
        generate(Recipe("notes", model="mock", columns=columns), rows=30, cache=False)
    assert [row["note"] for row in rows_of("notes")] == [
        f"Answer to: Note {number}" for number in range(30)
    ]


def test_deeper_columns_go_first(project: Project) -> None:
    """With one request at a time, rows are finished long before the last one is begun."""
    columns = {
        "first": {"type": "prompt", "prompt": "First of row {{ row }}"},
        "second": {"type": "prompt", "prompt": "Second of row {{ row }} {{ first }}"},
    }
    with serving(lambda _: completion("Well.")) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        generate(Recipe("two", model="mock", columns=columns), rows=30, cache=False)
        order = [body["messages"][-1]["content"].split()[0] for body in server.bodies]
    assert order.index("Second") < 20


def test_values_that_are_no_json_fail_by_name(project: Project) -> None:
    (project.folder / "odd.py").write_text(
        "def big(row):\n    return 2**70\n\n\ndef fine(row):\n    return 1\n"
    )
    columns = {
        "big": {"type": "python", "function": "odd:big"},
        "fine": {"type": "python", "function": "odd:fine"},
    }
    result = generate(Recipe("odd", columns=columns), rows=2)
    assert result.state == "short"
    assert result.failed == 2
    assert list(result.causes) == ["big"]
    assert [row["fine"] for row in rows_of("odd")] == [1, 1]


def test_many_rows_without_any_model(project: Project) -> None:
    columns = {
        "size": {"type": "number", "min": 1, "max": 6},
        "word": {"type": "template", "template": "{{ row }}: {{ size }}"},
    }
    result = generate(Recipe("dice", columns=columns), rows=5_000)
    assert result.state == "finished"
    assert result.reading.requests == 0
    rows = rows_of("dice")
    assert [row["row"] for row in rows] == list(range(5_000))
    assert all(row["word"] == f"{row['row']}: {row['size']}" for row in rows)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 2048, 2049])
def test_every_row_is_made_once(project: Project, rehearse: Rehearse, rows: int) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    columns = {"note": {"type": "prompt", "prompt": "A note."}}
    result = generate(Recipe("notes", model="mock", columns=columns), rows=rows, cache=False)
    assert (result.made, result.reading.requests) == (rows, rows)
    assert json.loads(server.stats())["distinct"] == rows
