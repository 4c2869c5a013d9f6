"""`--from RUN`: what an earlier run made is given, and only the rest is asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import Project
from tests.servers.imperfect import Asked, Told, completion, serving
from wordmill._engine import Rehearsal
from wordmill.datasets import open_dataset
from wordmill.errors import RunError, UnknownName
from wordmill.recipes import Recipe
from wordmill.runs.door import generate

ACTIONS = """\
name: deeds
model: mock
parameters: {{actions: {{type: integer, default: {n}}}}}
columns:
  place: {{type: category, values: [harbour, school, mill]}}
  story: {{type: prompt, prompt: "A story about a {{{{ place }}}}."}}
  deeds:
    type: candidates
    n: "{{{{ parameters.actions }}}}"
    prompt: "What to do? {{{{ story }}}}"
  score: {{type: judge, each: deeds, scores: {{good: "0 to 4"}}}}
  pairs: {{type: judge, pairwise: deeds}}
"""


def deeds(n: int) -> Recipe:
    return Recipe.from_yaml(ACTIONS.format(n=n))


def fitting(asked: Asked) -> Told:
    """An answer that fits what is asked for."""
    wanted = json.dumps(asked.body.get("response_format", ""))
    if '"good"' in wanted:
        return completion('{"reason": "So it is.", "good": 3}')
    if '"winner"' in wanted:
        return completion('{"reason": "So it is.", "winner": "tie"}')
    return completion("Mend the nets.")


def values(folder: Path) -> list[dict[str, Any]]:
    return [{"row": row, "items": items} for row, items in open_dataset(folder).walk()]


def test_missing_items_are_added_and_the_others_stay(
    project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    first = generate(deeds(2), rows=6, out="two", cache=False)
    before = json.loads(server.stats())["requests"]
    assert before == first.reading.requests == 6 * (1 + 2 + 2 + 2)

    more = generate(deeds(4), rows=7, out="four", rest_of="deeds-1", cache=False)
    assert more.state == "finished"
    added = 6 * (2 + 2 + 12) + (1 + 4 + 4 + 12)
    assert more.reading.requests == added
    assert json.loads(server.stats())["requests"] == before + added

    old, new = values(Path("two")), values(Path("four"))
    assert len(new) == 7
    for was, now in zip(old, new, strict=False):
        assert now["row"]["story"] == was["row"]["story"]
        assert now["items"]["deeds"][:2] == was["items"]["deeds"]
        assert [item["item"] for item in now["items"]["deeds"]] == [0, 1, 2, 3]
        assert all(item["score"]["good"] in range(5) for item in now["items"]["deeds"])
        assert len(now["items"]["pairs"]) == 6
        old_cells, new_cells = was["row"]["lineage"]["cells"], now["row"]["lineage"]["cells"]
        assert new_cells["story"] == old_cells["story"]
        assert new_cells["deeds"][:2] == old_cells["deeds"]
        assert len(new_cells["deeds"]) == 4


def test_failed_cells_and_failed_items_are_made(project: Project) -> None:
    """The first run's server refuses every third question; the second's answers all."""

    def sulk(asked: Asked) -> Told:
        if len(server.asked) % 3 == 0:
            return completion("I'm sorry, but I can't help with that.")
        return fitting(asked)

    recipe = deeds(3)
    with serving(sulk) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        first = generate(recipe, rows=4, out="first", cache=False)
    assert first.state == "short"
    failed = first.failed
    assert failed > 0

    with serving(fitting) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        second = generate(recipe, rows=4, out="second", rest_of="deeds-1", cache=False)
        asked = len(server.asked)
    assert second.state == "finished", second.causes
    assert second.failed == 0
    assert 0 < asked < 4 * (1 + 3 + 3 + 6)
    for was, now in zip(values(Path("first")), values(Path("second")), strict=True):
        if was["row"]["story"] is not None:
            assert now["row"]["story"] == was["row"]["story"]
        for old, new in zip(was["items"]["deeds"], now["items"]["deeds"], strict=False):
            if old["error"] is None:
                assert new["text"] == old["text"]
            assert new["error"] is None
            assert new["score"] is not None


def test_a_pair_that_failed_is_judged_again(project: Project) -> None:
    """One question about one pair is refused: its row's pairs are asked again, and no other's."""

    def sulk(asked: Asked) -> Told:
        judging = '"winner"' in json.dumps(asked.body.get("response_format", ""))
        told.append(judging)
        if judging and sum(told) == 1:
            return completion("I'm sorry, but I can't help with that.")
        return fitting(asked)

    told: list[bool] = []
    recipe = deeds(3)
    with serving(sulk) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        first = generate(recipe, rows=3, out="first", cache=False)
    assert first.causes == {"pairs": {"refused": 1}}
    with serving(fitting) as server:
        project.model("mock", f"{server.url}/v1", concurrency=1)
        second = generate(recipe, rows=3, out="second", rest_of="deeds-1", cache=False)
        assert len(server.asked) == 6
    assert (second.state, second.failed) == ("finished", 0)
    assert all(
        pair["error"] is None for row in values(Path("second")) for pair in row["items"]["pairs"]
    )


def test_what_is_computed_again_and_the_same_makes_nothing_new(
    project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    columns = {
        "size": {"type": "category", "values": [None, 1]},
        "text": {"type": "template", "template": "{{ size }}", "when": "size is not none"},
        "note": {"type": "prompt", "prompt": "A note of {{ size }} or {{ text }}."},
    }
    generate(Recipe("notes", model="mock", columns=columns), rows=10, out="a")
    again = Recipe("notes", model="mock", columns=columns)
    same = generate(again, rows=10, out="b", rest_of="notes-1", cache=False)
    assert same.reading.requests == 0
    columns["text"]["template"] = "{{ size }}!"
    del columns["text"]["when"]
    other = generate(
        Recipe("notes", model="mock", columns=columns), rows=10, out="c", rest_of="notes-1",
        cache=False,
    )  # fmt: skip
    nulls = sum(row["size"] is None for row in other.rows())
    assert 0 < other.reading.requests == nulls < 10


def test_a_column_that_the_earlier_run_had_not_is_made(
    project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    columns = {"note": {"type": "prompt", "prompt": "A note."}}
    generate(Recipe("notes", model="mock", columns=columns), rows=5, out="a")
    columns["title"] = {"type": "prompt", "prompt": "A title for: {{ note }}"}
    more = generate(
        Recipe("notes", model="mock", columns=columns), out="b", rest_of="notes-1", cache=False
    )
    assert more.reading.requests == 5
    assert more.made == 5


def test_a_run_that_is_not_there_or_made_nothing(project: Project) -> None:
    columns = {"mood": {"type": "category", "values": ["calm", "angry"]}}
    recipe = Recipe("moods", columns=columns)
    generate(recipe, rows=3)
    with pytest.raises(UnknownName) as error:
        generate(recipe, rows=3, out="b", rest_of="mods-1")
    assert str(error.value).startswith("There is no run 'mods-1'. Did you mean 'moods-1'?")
    assert not Path("b").exists()


def test_a_run_goes_on_as_it_began(project: Project, rehearse: Callable[..., Rehearsal]) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    advice = "or name another folder with `--out OTHER`."
    generate(deeds(2), rows=3, out="a", budget="4requests")
    with pytest.raises(RunError) as refused:
        generate(deeds(2), rows=3, out="a", rest_of="deeds-1")
    assert str(refused.value) == (
        "a holds the unfinished run deeds-1, which was begun without `--from` and goes on so: "
        f"leave `--from deeds-1` out, {advice}"
    )
    generate(deeds(2), rows=3, out="b", rest_of="deeds-1", budget="1requests")
    with pytest.raises(RunError) as refused:
        generate(deeds(2), rows=3, out="b", rest_of="deeds-2")
    assert str(refused.value) == (
        "b holds the unfinished run deeds-2, which was begun with `--from deeds-1` and goes on "
        f"so: leave `--from deeds-2` out, {advice}"
    )
    done = generate(deeds(2), rows=3, out="b", rest_of="deeds-1", budget="99requests")
    assert done.state == "finished"


def test_the_rows_of_a_run_at_work_are_not_read(
    project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(latency_ms=500, seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1", concurrency=1)
    path = project.recipe(ACTIONS.format(n=2))
    process = project.start("generate", str(path), "--rows", "50")
    while not json.loads(server.stats())["requests"]:
        assert process.poll() is None
    with pytest.raises(RunError, match="The run deeds-1 is still at work"):
        generate(deeds(3), rows=5, out="b", rest_of="deeds-1")
    process.kill()
    process.communicate()


def test_a_run_goes_on_when_the_one_it_adds_to_is_gone(
    project: Project, rehearse: Callable[..., Rehearsal]
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    first = generate(deeds(2), rows=6, out="two", cache=False)
    short = generate(
        deeds(3), rest_of=first.run, out="three", cache=False, budget="6requests", concurrency=1
    )
    assert (short.state, short.why) == ("short", "ceiling")
    kept = {row["row"]: row["story"] for row in first.rows()}
    assert project.run("runs", "remove", first.run, "--yes").code == 0
    done = project.run("resume", short.run, "--budget", "999requests", "--json")
    assert done.code == 0, done.err
    assert {row["row"]: row["story"] for row in open_dataset(Path("three")).table().rows()} == kept
    # One deed more, its score, and the pairs again, in both orders: the stories were given.
    assert json.loads(server.stats())["requests"] == 6 * (1 + 2 + 2 + 2) + 6 * (1 + 1 + 6)


def test_rows_are_picked_one_by_one(project: Project, rehearse: Callable[..., Rehearsal]) -> None:
    """Scenarios first, then the actions of some of them."""
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    first = generate(deeds(0), rows=6, out="bare", cache=False)
    before = values(project.folder / "bare")
    assert [row["row"]["row"] for row in before] == list(range(6))
    asked = json.loads(server.stats())["requests"]
    assert asked == 6
    generate(deeds(2), out="some", rest_of=first.run, picked=[4, 1], cache=False)
    after = values(project.folder / "some")
    for row, earlier in zip(after, (before[4], before[1]), strict=True):
        assert row["row"]["story"] == earlier["row"]["story"]
        assert row["row"]["place"] == earlier["row"]["place"]
    assert json.loads(server.stats())["requests"] - asked == 2 * (2 + 2 + 2)


@pytest.mark.parametrize(
    ("picked", "words"),
    [
        ((6,), "has no row 6"),
        ((-1,), "has no row -1"),
        ((1, 1), "at most 10,000 can be, each once"),
        (tuple(range(10_001)), "10,001 rows are picked"),
    ],
)
def test_rows_that_cannot_be_picked(
    project: Project, rehearse: Callable[..., Rehearsal], picked: tuple[int, ...], words: str
) -> None:
    server = rehearse(seed=1)
    project.model("mock", f"http://127.0.0.1:{server.port}/v1")
    first = generate(deeds(0), rows=6, out="bare", cache=False)
    with pytest.raises(RunError, match=words):
        generate(deeds(2), out="some", rest_of=first.run, picked=picked)
    assert not (project.folder / "some").exists()


def test_rows_are_picked_from_a_run(project: Project) -> None:
    with pytest.raises(RunError, match="name it with `--from RUN`"):
        generate(deeds(2), out="some", picked=[1])
