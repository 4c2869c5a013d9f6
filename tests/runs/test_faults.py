"""Every fault that the rehearsal server can give: each cell ends with a value or a named cause."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.runs.conftest import TICKETS, Project
from wordmill._engine import Rehearsal
from wordmill.recipes import Recipe
from wordmill.runs.door import generate
from wordmill.runs.result import Result

ROWS = 150
RATE = 0.08

Rehearse = Callable[..., Rehearsal]


@pytest.fixture
def made(project: Project, rehearse: Rehearse) -> Callable[..., tuple[Result, dict[str, Any]]]:
    """Make the tickets while a server gives faults; the result and the server's own counts."""

    def make(rows: int = ROWS, **errors: float) -> tuple[Result, dict[str, Any]]:
        names = {name.replace("_", "-"): rate for name, rate in errors.items()}
        server = rehearse(errors=names, seed=5)
        project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=16)
        result = generate(Recipe.from_yaml(TICKETS), rows=rows, cache=False)
        return result, json.loads(server.stats())

    return make


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("429", "throttled"),
        ("500", "server_error"),
        ("503", "overloaded"),
        ("drop", "dropped"),
        ("truncate", "cut"),
        ("malformed", "invalid_json"),
        ("empty", "empty"),
    ],
)
def test_what_the_wire_gets_wrong_is_sent_again(fault: str, cause: str, made: Any) -> None:
    result, stats = made(**{fault: RATE})
    assert stats["faults"][fault] > 0
    assert result.reading.retried == {cause: stats["faults"][fault]}
    assert result.reading.requests == stats["requests"]
    assert (result.state, result.made, result.failed) == ("finished", ROWS, 0)


@pytest.mark.parametrize(("fault", "cause"), [("refuse", "refused"), ("schema", "schema")])
def test_what_a_model_gets_wrong_is_found_by_the_checks(fault: str, cause: str, made: Any) -> None:
    result, stats = made(**{fault: RATE})
    assert stats["faults"][fault] > 0
    assert result.found == {cause: stats["faults"][fault]}
    assert result.made == ROWS


def test_a_refused_cell_fails_by_name_and_what_reads_it_needs_it(made: Any) -> None:
    result, _ = made(refuse=RATE)
    refused = result.causes["ticket"]["refused"]
    assert result.causes["urgency"]["needs"] == refused
    assert result.state == "short"
    assert result.exit_code == 3
    rows = {row["row"]: row for row in result.rows()}
    assert sorted(rows) == list(range(ROWS))
    failed = [row for row in rows.values() if row["errors"] and "ticket" in row["errors"]]
    assert len(failed) == refused
    for row in failed:
        assert row["ticket"] is None
        assert row["errors"]["ticket"].startswith("refused: ")
        assert row["errors"]["urgency"] == "needs: ticket"
        assert row["errors"]["recipe.keep"] == "keep: needs verdict"
        assert row["kept"] is False


def test_faults_that_outlast_the_attempts_leave_the_cell_with_their_name(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_ATTEMPTS", "2")
    result, stats = made(5, **{"500": 1.0})
    assert result.state == "short"
    assert result.causes["ticket"] == {"server_error": 5}
    assert result.causes["verdict"] == {"needs": 5}
    assert result.reading.requests == stats["requests"] == 10
