"""A server that refuses a field: it is left out, said once, and remembered by the run."""

from typing import Any

from tests.runs.conftest import Project
from tests.servers.imperfect import Asked, Told, completion, serving
from wordmill.recipes import Recipe
from wordmill.runs.door import generate
from wordmill.runs.progress import Silent

COLUMNS = {
    "note": {"type": "prompt", "prompt": "Note {{ row }}"},
    "level": {
        "type": "prompt",
        "prompt": "Level of {{ note }}",
        "schema": {
            "type": "object",
            "properties": {"level": {"type": "integer"}},
            "required": ["level"],
        },
    },
}


def refusal(words: str) -> Told:
    return Told(400, {"error": {"message": words, "type": "invalid_request_error"}})


def strict(asked: Asked) -> Told:
    """Knows neither seeds nor JSON schemas."""
    if "seed" in asked.body:
        return refusal("Unrecognized request argument supplied: seed")
    form = asked.body.get("response_format", {}).get("type")
    if form == "json_schema":
        return refusal("response_format type json_schema is not supported by this model")
    return completion('{"level": 3}' if "Level" in str(asked.body["messages"]) else "Well.")


def test_what_a_server_refuses_is_left_out_and_said_once(project: Project) -> None:
    recipe = Recipe("notes", model="mock", columns=COLUMNS)
    reporter = Silent()
    with serving(strict) as server:
        project.model("mock", f"{server.url}/v1", concurrency=4)
        result = generate(recipe, rows=30, reporter=reporter, cache=False)
        bodies: list[Any] = server.bodies
    assert result.state == "finished", result.causes
    assert result.degraded > 0
    said = [sentence for sentence in reporter.sentences if "Estimate" not in sentence]
    assert len(said) == 2
    assert "`seed`" in said[0]
    assert "json_schema" in said[1]
    refused = [body for body in bodies if "seed" in body]
    assert 1 <= len(refused) <= 8
    assert len(bodies) == 60 + result.degraded


def test_the_next_sitting_begins_with_what_was_learnt(project: Project) -> None:
    recipe = Recipe("notes", model="mock", columns=COLUMNS)
    with serving(strict) as server:
        project.model("mock", f"{server.url}/v1", concurrency=2)
        short = generate(recipe, rows=30, budget="40requests", cache=False)
        assert short.why == "ceiling"
        before = len(server.asked)
        reporter = Silent()
        done = generate(recipe, rows=30, budget="500requests", reporter=reporter, cache=False)
        later = server.bodies[before:]
    assert done.state == "finished", done.causes
    assert not [body for body in later if "seed" in body]
    assert not [
        body for body in later if body.get("response_format", {}).get("type") == "json_schema"
    ]
    assert reporter.sentences == [
        "Continuing the run notes-1: answers that it has are not paid again."
    ]


def test_a_refusal_that_nothing_helps_against_fails_the_cell(project: Project) -> None:
    recipe = Recipe("notes", model="mock", columns={"note": COLUMNS["note"]})
    with serving(lambda _: refusal("This prompt is too long for the model.")) as server:
        project.model("mock", f"{server.url}/v1", concurrency=2)
        result = generate(recipe, rows=3, cache=False)
        assert len(server.asked) == 3
    assert result.causes == {"note": {"rejected": 3}}
    errors = [row["errors"]["note"] for row in result.rows()]
    assert all("This prompt is too long for the model." in words for words in errors)
