import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest

from tests.cli.typed import Typed, type_command
from wordmill._engine import Engine
from wordmill.database import open_database, runs
from wordmill.models import REHEARSAL
from wordmill.providers.rehearsal import RehearsalProvider
from wordmill.settings import load

Cache = Callable[..., Typed]


@pytest.fixture
def typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cache:
    """`wordmill cache ARGUMENTS`, in an empty project."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: type_command(capsys, "cache", *arguments)


def run(name: str, answers: int, state: str = "finished") -> Path:
    """A run of that many answers, indexed by the cache; where its records are."""
    settings = load()
    records = settings.home / "runs" / name / "records.db"
    with open_database(settings) as database, database.begin() as connection:
        connection.execute(
            runs.insert().values(
                id=name, name=name, owner="local", recipe=name, digest="0" * 32, folder="/nowhere",
                rows=answers, state=state, counts={}, cancel_requested=False, fence=1,
                created=datetime.now(UTC),
            )
        )  # fmt: skip
    records.parent.mkdir(parents=True)
    config = {
        "records": str(records),
        "cache": str(settings.cache_file),
        "owner": "local",
        "lanes": [RehearsalProvider(REHEARSAL, settings).lane()],
    }
    engine = Engine(json.dumps(config))
    body = {"messages": [{"role": "user", "content": "\0"}], "max_tokens": 8}
    shape = engine.shape("rehearsal", "/chat/completions", json.dumps(body))
    texts = [f"{name} {number}" for number in range(answers)]
    assert engine.submit(shape, [*range(answers)], texts, [0] * answers, 5.0) == answers
    engine.finish()
    while not engine.idle:
        assert set(engine.poll(100, 1.0).errors) <= {None}
    engine.close()
    return records


def age(days: int) -> None:
    """Make all that is in the cache older."""
    with closing(sqlite3.connect(load().cache_file)) as connection, connection:
        connection.execute("UPDATE files SET used = used - ?", (days * 86400,))


def test_a_cache_that_is_not_there(typed: Cache, home: Path) -> None:
    assert typed("show") == Typed(0, f"The cache {home}/cache.db holds nothing.\n", "")
    assert typed("prune", "--older-than", "1d") == Typed(0, "Forgot 0 answers, 0 bytes.\n", "")
    assert typed("clear") == Typed(0, "Forgot 0 answers, 0 bytes.\n", "")
    assert not home.exists()


def test_what_is_in_it(typed: Cache, home: Path) -> None:
    run("a", 3)
    code, out, err = typed("show")
    assert (code, err) == (0, "")
    assert out.startswith(f"The cache {home}/cache.db holds 3 answers, ")
    shown = json.loads(typed("show", "--json").out)
    assert (shown["file"], shown["entries"]) == (f"{home}/cache.db", 3)
    assert shown["bytes"] > 0


def test_pruning_by_age(typed: Cache) -> None:
    old = run("a", 3)
    age(10)
    new = run("b", 2)
    assert typed("prune", "--older-than", "11d").out == "Forgot 0 answers, 0 bytes.\n"
    assert typed("prune", "--older-than", "9d").out.startswith("Forgot 3 answers, ")
    assert (old.exists(), new.exists()) == (False, True)


def test_pruning_as_the_settings_say(typed: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("prune") == Typed(
        2,
        "",
        "error: Nothing says how much of the cache to keep: give --older-than or --larger-than, "
        "or set cache_days or cache_bytes.\n",
    )
    run("a", 3)
    age(10)
    monkeypatch.setenv("WORDMILL_CACHE_DAYS", "9")
    assert typed("prune", "--larger-than", "1GB").out == "Forgot 0 answers, 0 bytes.\n"
    assert typed("prune").out.startswith("Forgot 3 answers, ")


def test_the_records_of_unfinished_runs_stay(typed: Cache) -> None:
    unfinished, finished = run("a", 3, "cancelled"), run("b", 2)
    assert typed("clear", "--yes").out.startswith("Forgot 2 answers, ")
    assert (unfinished.exists(), finished.exists()) == (True, False)


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 130, True), ("y", 0, False)])
def test_clearing_asks_first(
    typed: Cache, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: bool
) -> None:
    records = run("a", 2)
    monkeypatch.setattr("sys.stdin", StringIO(f"{answer}\n"))
    ended = typed("clear")
    assert (ended.code, records.exists()) == (code, left)
    assert ended.err.startswith("Forget 2 answers? Asking the same again will cost again. [y/N]: ")


@pytest.mark.parametrize(
    ("option", "text", "sentence"),
    [
        ("--older-than", "soon", "--older-than 'soon' is no age: write it as 30d or 12h."),
        ("--larger-than", "huge", "--larger-than 'huge' is no size: write it as 2GB."),
    ],
)
def test_bad_amounts(typed: Cache, option: str, text: str, sentence: str) -> None:
    assert typed("prune", option, text) == Typed(2, "", f"error: {sentence}\n")


def test_a_cache_that_is_broken(typed: Cache, home: Path) -> None:
    home.mkdir()
    (home / "cache.db").write_text("words, and more than sixteen of them" * 100)
    code, out, err = typed("show")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: The cache {home}/cache.db cannot be read: ")
