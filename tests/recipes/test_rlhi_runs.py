"""Whole runs of the built-in recipe `rlhi`, as a person starts them, against real servers."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest

from wordmill.cli import wordmill
from wordmill.columns.checks import as_an_ai, refused
from wordmill.datasets import Dataset, export, open_dataset
from wordmill.recipes import Recipe
from wordmill.types import Row

IMPERATIVES = {"suffering", "prosperity", "understanding"}


def run(*words: str) -> int:
    """`wordmill WORDS`; its exit code."""
    return wordmill.main(list(words), prog_name="wordmill", standalone_mode=False) or 0


def generate(out: Path, *words: str, model: str = "rehearsal", recipe: str = "rlhi") -> Dataset:
    """A dataset that `wordmill generate` made whole."""
    assert run("generate", recipe, "--model", model, "--out", str(out), *words) == 0
    return open_dataset(out)


def rows(dataset: Dataset, table: str) -> list[Row]:
    return list(dataset.tables[table].rows())


def by_row(items: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for item in items:
        found.setdefault(item["row"], []).append(item)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """Twelve scenarios with three actions each, and all that can be said about them."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORDMILL_HOME", str(folder / "home"))
        options = ("--scenarios", "12", "--actions", "3", "--compare", "--evaluate", "--decompose")
        yield generate(folder / "dataset", *options)


def test_every_cell_of_both_tables_has_a_value(whole: Dataset) -> None:
    scenarios, actions = rows(whole, "scenarios"), rows(whole, "actions")
    assert len(scenarios) == 12
    assert len(actions) == 36
    for row in scenarios:
        assert row["errors"] is None
        assert row["kept"] is True
        for column in ("word", "scope", "region", "category", "domain", "scenario"):
            assert isinstance(row[column], str)
            assert row[column]
        assert row["severity"]["rank"] in range(1, 13)
    for item in actions:
        assert item["error"] is None
        assert item["evaluation"] is None, "no result was given"
        for column in ("text", "considerations", "action", "scores", "forecast", "plan"):
            assert item[column], column


def test_an_action_is_split_at_its_headings(whole: Dataset) -> None:
    for item in rows(whole, "actions"):
        assert "CONSIDERATIONS" in item["text"]
        assert item["considerations"] in item["text"]
        assert item["action"] in item["text"]
        assert "ACTION:" not in item["considerations"]


def test_verdicts_follow_their_schemas(whole: Dataset) -> None:
    for item in rows(whole, "actions"):
        scores = item["scores"]
        assert scores.keys() == {*IMPERATIVES, "overall", "reason"}
        assert all(scores[name] in range(5) for name in (*IMPERATIVES, "overall"))
        forecast = item["forecast"]
        assert forecast.keys() == {*IMPERATIVES, "stakeholders"}
        changes = {"much less", "less", "same", "more", "much more"}
        assert {forecast[name]["change"] for name in IMPERATIVES} <= changes
        assert 2 <= len(forecast["stakeholders"]) <= 6
        outcomes = {each["outcome"] for each in forecast["stakeholders"]}
        assert outcomes <= {"better", "same", "worse"}
        assert 3 <= len(item["plan"]["tasks"]) <= 10
        assert all(task.keys() == {"who", "task", "done_when"} for task in item["plan"]["tasks"])


def test_every_pair_is_compared_in_both_orders(whole: Dataset) -> None:
    pairs = by_row(rows(whole, "comparisons"))
    assert sorted(pairs) == list(range(12))
    for compared in pairs.values():
        assert [(pair["first"], pair["second"]) for pair in compared] == [(0, 1), (0, 2), (1, 2)]
        for pair in compared:
            assert pair["winner"] in ("first", "second", "tie")
            assert pair["agree"] or pair["winner"] == "tie"


def test_the_kinds_of_action_are_balanced_over_rows_and_places(whole: Dataset) -> None:
    actions = rows(whole, "actions")
    assert set(Counter(item["variant"] for item in actions).values()) == {6}
    for place in range(3):
        kinds = Counter(item["variant"] for item in actions if item["item"] == place)
        assert set(kinds.values()) == {2}
    for items in by_row(actions).values():
        assert len({item["variant"] for item in items}) == 3


def test_tables_are_joined_by_id(whole: Dataset) -> None:
    actions = by_row(rows(whole, "actions"))
    for row in rows(whole, "scenarios"):
        number = row["row"]
        assert row["actions"] == [f"{number}-{item}" for item in range(3)]
        assert [item["id"] for item in actions[number]] == row["actions"]


def test_balanced_actions_are_examples_to_learn(whole: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "sft.jsonl"
    written = export(whole, "sft", file)
    texts = {row["row"]: row["scenario"] for row in rows(whole, "scenarios")}
    wanted = [
        {
            "messages": [
                {"role": "user", "content": texts[item["row"]]},
                {"role": "assistant", "content": item["text"]},
            ]
        }
        for item in rows(whole, "actions")
        if item["variant"] == "balanced"
    ]
    assert [orjson.loads(line) for line in file.read_bytes().splitlines()] == wanted
    assert written.rows == len(wanted) == 6


def test_agreed_comparisons_are_preferences(whole: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "dpo.jsonl"
    export(whole, "dpo", file)
    texts = {row["row"]: row["scenario"] for row in rows(whole, "scenarios")}
    actions = by_row(rows(whole, "actions"))
    wanted = []
    for pair in rows(whole, "comparisons"):
        if not pair["agree"] or pair["winner"] == "tie":
            continue
        chosen, rejected = pair["first"], pair["second"]
        if pair["winner"] == "second":
            chosen, rejected = rejected, chosen
        items = actions[pair["row"]]
        wanted.append(
            {
                "prompt": [{"role": "user", "content": texts[pair["row"]]}],
                "chosen": [{"role": "assistant", "content": items[chosen]["text"]}],
                "rejected": [{"role": "assistant", "content": items[rejected]["text"]}],
            }
        )
    assert wanted, "the rehearsal judge never agrees with itself"
    assert [orjson.loads(line) for line in file.read_bytes().splitlines()] == wanted


def test_without_options_only_scenarios_actions_and_scores_are_asked_for(tmp_path: Path) -> None:
    dataset = generate(tmp_path / "d", "--scenarios", "2")
    actions = rows(dataset, "actions")
    assert len(actions) == 6
    for item in actions:
        assert item["scores"]
        assert item["forecast"] is item["plan"] is item["evaluation"] is None
    assert dataset.manifest.requests.sent == 2 * (1 + 3 + 3)


def test_a_result_that_is_given_is_evaluated_instead_of_forecast(tmp_path: Path) -> None:
    dataset = generate(
        tmp_path / "d", "--scenarios", "2", "--evaluate", "--result", "It came to nothing."
    )
    for item in rows(dataset, "actions"):
        assert item["forecast"] is None
        assert item["evaluation"].keys() == {"explanation", "success"}
        assert isinstance(item["evaluation"]["success"], bool)
        assert item["evaluation"]["explanation"]


def test_more_actions_keep_those_that_are_there(tmp_path: Path, home: Path) -> None:
    few = generate(tmp_path / "few", "--scenarios", "3", "--actions", "2", "--no-cache")
    more = generate(tmp_path / "more", "--actions", "4", "--from", few.manifest.run, "--no-cache")
    assert [row["scenario"] for row in rows(more, "scenarios")] == [
        row["scenario"] for row in rows(few, "scenarios")
    ]
    earlier, later = by_row(rows(few, "actions")), by_row(rows(more, "actions"))
    for number, items in earlier.items():
        assert later[number][:2] == items
        assert len(later[number]) == 4
        assert len({item["variant"] for item in later[number]}) == 4
    assert more.manifest.requests.sent == 3 * (2 + 2), "two actions and their scores a scenario"


def test_a_copy_follows_its_own_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("new", "mine", "--recipe", "rlhi") == 0
    scope = tmp_path / "mine" / "axes" / "scope.yaml"
    kept = [line for line in scope.read_text().splitlines() if "Online" not in line]
    scope.write_text("\n".join([*kept, "  - Household", ""]))
    dataset = generate(tmp_path / "d", "--scenarios", "17", recipe="mine")
    scopes = {row["scope"] for row in rows(dataset, "scenarios")}
    assert "Household" in scopes
    assert "Online" not in scopes


# Whom an answer belongs to ---------------------------------------------------------------------


class Backwards(BaseHTTPRequestHandler):
    """An OpenAI server that answers the latest question first, and repeats what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []
    lock: ClassVar[threading.Lock] = threading.Lock()
    answered: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        asked: dict[str, Any] = json.loads(self.rfile.read(size))
        prompt = asked["messages"][-1]["content"]
        with self.lock:
            place = len(self.asked)
            self.asked.append(prompt)
        time.sleep(max(0.02, 0.6 - 0.02 * place))
        if prompt.startswith("word: "):
            lines = dict(line.split(": ", 1) for line in prompt.splitlines())
            text = f"This is about {lines['word']} in {lines['region']}. " + "So it goes. " * 20
        else:
            scenario = prompt.partition("\n")[0]
            text = f"CONSIDERATIONS:\nI read: {scenario}\n\nACTION:\nI answer question {place}."
        with self.lock:
            self.answered.append(place)
        body = json.dumps(
            {
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": text},
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def backwards() -> Iterator[type[Backwards]]:
    """A server whose answers come in reverse order, as the model `backwards` of the catalog."""
    Backwards.asked.clear()
    Backwards.answered.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Backwards) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        added = run(
            "models", "add", "backwards", "--base-url", url, "--model", "m", "--concurrency", "64"
        )
        assert added == 0
        yield Backwards
        server.shutdown()


def test_an_action_stays_with_its_scenario_when_replies_come_in_reverse_order(
    backwards: type[Backwards], tmp_path: Path
) -> None:
    dataset = generate(tmp_path / "d", "--scenarios", "12", "--judge", "false", model="backwards")
    assert backwards.answered != sorted(backwards.answered)
    scenarios = rows(dataset, "scenarios")
    actions = by_row(rows(dataset, "actions"))
    for row in scenarios:
        assert row["scenario"].startswith(f"This is about {row['word']} in {row['region']}. ")
        for item in actions[row["row"]]:
            assert item["considerations"] == f"I read: {row['scenario']}"
    said = [item["action"] for items in actions.values() for item in items]
    assert len(set(said)) == 36


def test_refusals_and_texts_as_an_ai_are_found(tmp_path: Path, rehearse: Any) -> None:
    """Each fault of the server is found, no more and no fewer."""
    server = rehearse(errors={"refuse": 0.1, "as-an-ai": 0.1}, seed=3)
    url = f"http://127.0.0.1:{server.port}/v1"
    assert run("models", "add", "moody", "--base-url", url, "--model", "rehearsal") == 0
    out = tmp_path / "d"
    code = run(
        "generate", "rlhi", "--model", "moody", "--out", str(out),
        "--scenarios", "40", "--judge", "false",
    )  # fmt: skip
    assert code == 3
    dataset = open_dataset(out)
    given = json.loads(server.stats())["faults"]
    found: Counter[str] = Counter()
    for row in rows(dataset, "scenarios"):
        found.update(row["lineage"].get("found") or {})
    assert found == {"refused": given["refuse"], "as_an_ai": given["as-an-ai"]}
    assert min(found.values()) > 3
    for item in rows(dataset, "actions"):
        if item["error"]:
            assert item["error"].partition(":")[0] in ("refused", "as_an_ai")
            assert item["text"] is None
        else:
            assert refused(item["text"]) is None
            assert as_an_ai(item["text"]) is None


# The examples ----------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[2] / "examples" / "rlhi"


def test_the_example_with_known_results_runs_as_it_is(tmp_path: Path) -> None:
    dataset = generate(tmp_path / "d", "--rows", "4", recipe=str(EXAMPLES / "results"))
    found = rows(dataset, "rows")
    assert len(found) == 4
    assert all(isinstance(row["evaluation"]["success"], bool) for row in found)


def test_the_example_with_axes_of_its_own_runs_as_it_is(tmp_path: Path) -> None:
    dataset = generate(tmp_path / "d", "--rows", "20", recipe=str(EXAMPLES / "school"))
    places = Counter(row["place"] for row in rows(dataset, "rows"))
    assert places["classroom"] == 6
    assert places["way home"] == 4
    assert len(rows(dataset, "responses")) == 40
    assert len(rows(dataset, "choice")) == 20


def test_every_example_is_a_recipe_that_is_valid() -> None:
    found = sorted(path.parent.name for path in EXAMPLES.glob("*/recipe.yaml"))
    assert found == ["results", "school"]
    for name in found:
        assert Recipe.load(EXAMPLES / name).columns
