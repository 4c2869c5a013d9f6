"""Redis behind batches and runs: what they share, and what is said when it is away."""

import json
import logging
from pathlib import Path

import pytest

from tests.batches.conftest import line, run
from tests.servers import redis
from wordmill.channels.house import open_house
from wordmill.settings import load
from wordmill.sharing import Sharing, shared

RECIPE = """\
name: small
seed: 7
model: rehearsal
columns:
  topic: {type: category, values: [bread, rain]}
  text: {type: prompt, prompt: "Write about {{ topic }}."}
"""


def test_without_a_server_nothing_is_shared_and_nothing_is_said() -> None:
    settings = load()
    assert shared(settings, answers=True) is None
    sharing = Sharing(settings)
    assert (sharing.configured, sharing.trouble(), sharing.warnings(), sharing.counts()) == (
        False, None, (), {},
    )  # fmt: skip


def test_an_answer_to_a_batch_or_a_run_is_known_in_another_data_folder(
    redis_server: redis.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server.client() as connection:
        connection.flushall()
    monkeypatch.setenv("WORDMILL_REDIS_URL", redis_server.url)
    lines = tmp_path / "asked.jsonl"
    lines.write_text("".join(line(f"r{n}") + "\n" for n in range(5)))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    cached = []
    for name in ("one", "other"):
        monkeypatch.setenv("WORDMILL_HOME", str(tmp_path / name))
        assert run("batch", "submit", lines).code == 0
        [batch] = json.loads(run("batch", "list", "--json").out)
        answers = run("batch", "results", batch["id"]).out.splitlines()
        out = tmp_path / f"{name} rows"
        made = json.loads(run("generate", recipe, "--rows", "5", "--out", out, "--json").out)
        of_batch = sum(json.loads(one)["wordmill"]["cached"] for one in answers)
        cached.append((of_batch, made["requests"]["cached"]))
    assert cached == [(0, 0), (5, 5)]


def test_a_server_that_is_away_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WORDMILL_REDIS_URL", "redis://:hidden@127.0.0.1:1/0")
    with caplog.at_level(logging.WARNING), open_house(load()) as house:
        trouble = house.sharing.trouble()
    assert trouble is not None
    assert trouble.startswith("Redis at 127.0.0.1:1: ")
    assert trouble.endswith("Until it is back each process keeps to its share of every limit, and "
                            "no answer is looked up there.")  # fmt: skip
    assert trouble in caplog.text
    assert "hidden" not in caplog.text


def test_settings_that_do_not_suit_are_told_at_the_start() -> None:
    with redis.serving(lasting=False) as server:
        sharing = Sharing(load({"redis_url": server.url}))
        [words] = sharing.warnings()
        assert "Set `appendonly yes`." in words
        assert sharing.trouble() is None
        assert sharing.counts() == {"works": 1.0}
