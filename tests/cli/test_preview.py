"""`wordmill preview`: rows in full, and what is sent, word for word."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Type
from tests.runs.conftest import SHORT, TICKETS, Project
from tests.servers.imperfect import Asked, Told, completion, serving
from wordmill._engine import Rehearsal


def test_rows_in_full_and_nothing_is_written(project: Project, wordmill: Type) -> None:
    project.recipe(SHORT)
    with serving(lambda _: completion("Dear all, " + "the boat leaves at noon. " * 6)) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        typed = wordmill("preview", "recipe.yaml")
    assert typed.code == 0
    lines = typed.out.splitlines()
    assert lines[0] == "row 0"
    assert lines[1] in ("  mood  calm", "  mood  angry")
    assert lines[2] == (
        "  note  Dear all, the boat leaves at noon. the boat leaves at noon. the boat"
    )
    assert lines[4].endswith("(mock, 2 tokens)") or lines[3].endswith("(mock, 2 tokens)")
    assert len([line for line in lines if line.startswith("row ")]) == 2
    assert max(map(len, lines)) <= 80
    assert typed.err.endswith(
        "2 requests, 0 from the cache, 14 tokens in, 4 out, $0.00. Nothing was written.\n"
    )
    assert not Path("datasets").exists()
    assert wordmill("runs", "list").out.startswith("There are no runs yet.")


def test_prompts_are_what_the_server_gets(project: Project, wordmill: Type) -> None:
    project.recipe(SHORT.replace("note: {", "note: {system: Be brief., "))
    with serving(lambda _: completion("Well.")) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        typed = wordmill("preview", "recipe.yaml", "-n", 1, "--prompts")
        (body,) = server.bodies
    lines = typed.out.splitlines()
    assert "  sent for note of row 0 to mock" in lines
    assert lines[lines.index("    system:") + 1] == "      Be brief."
    assert lines[lines.index("    user:") + 1] == f"      {body['messages'][1]['content']}"
    for name in ("model", "max_tokens", "seed"):
        assert f"    {name}: {json.dumps(body[name])}" in lines
    told = {line.strip().split(":")[0] for line in lines[lines.index("    system:") :]}
    assert set(body) - {"messages"} <= told


def test_a_cell_that_fails_is_shown_with_its_words(project: Project, wordmill: Type) -> None:
    project.recipe(SHORT)
    with serving(lambda _: completion("I'm sorry, but I can't help with that.")) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        typed = wordmill("preview", "recipe.yaml", "-n", 1)
    assert typed.code == 3
    assert "  note  [failed] refused: " in typed.out


def test_what_a_model_says_cannot_steer_the_terminal(project: Project, wordmill: Type) -> None:
    project.recipe(SHORT)
    with serving(lambda _: completion("Red \x1b[31malert\x07, \u202eright to left")) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        typed = wordmill("preview", "recipe.yaml", "-n", 1, "--prompts")
    assert "\x1b" not in typed.out
    assert "Red \\x1b[31malert\\x07, \\x202eright to left" in typed.out


def test_a_preview_asks_nothing_that_a_run_was_told(
    project: Project, rehearse: Callable[..., Rehearsal], wordmill: Type
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    project.recipe(TICKETS)
    wordmill("generate", "recipe.yaml", "--rows", 2)
    before = json.loads(server.stats())["requests"]
    again = wordmill("preview", "recipe.yaml", "-n", 2, "--json")
    assert again.code == 0
    records = [json.loads(line) for line in again.out.splitlines()]
    assert [record["row"] for record in records] == [0, 1]
    assert json.loads(server.stats())["requests"] == before


def test_only_so_many_rows_are_shown(project: Project, wordmill: Type) -> None:
    project.recipe(SHORT.replace("mock", "rehearsal"))
    assert wordmill("preview", "recipe.yaml", "-n", 1001) == (
        2,
        "",
        "error: A preview shows 1 to 1,000 rows, not 1,001.\n",
    )


def test_a_refused_key_ends_a_preview(project: Project, wordmill: Type) -> None:
    def refuse(asked: Asked) -> Told:
        return Told(401, {"error": {"message": "Incorrect API key provided."}})

    project.recipe(SHORT)
    with serving(refuse) as server:
        project.model("mock", f"{server.url}/v1", concurrency=8)
        typed = wordmill("preview", "recipe.yaml", "-n", 20)
        assert len(server.asked) == 3
    assert typed.code == 3
    assert "Short: " in typed.err
    assert "Incorrect API key provided" in typed.err
