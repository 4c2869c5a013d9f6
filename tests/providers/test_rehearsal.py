import json
from pathlib import Path

from wordmill.models import REHEARSAL
from wordmill.providers import rehearsal
from wordmill.providers.rehearsal import IDENTITY, RehearsalProvider
from wordmill.settings import Settings


def provider() -> RehearsalProvider:
    return RehearsalProvider(REHEARSAL, Settings(home=Path("/nowhere")))


def test_one_server_a_process() -> None:
    first, second = provider(), provider()
    assert first.lane() == second.lane()
    lane = first.lane()
    assert lane["base_url"] == f"http://127.0.0.1:{rehearsal.server().port}/v1"
    assert (lane["model"], lane["key"], lane["seed"]) == ("rehearsal", None, True)
    assert first.rehearsal
    assert first.identity == IDENTITY


def test_it_answers_like_any_other() -> None:
    probe = provider().probe()
    assert probe.usable
    assert "rehearsal" in probe.names
    trial = provider().test()
    assert trial.passed
    assert trial.text
    assert trial.sentence.startswith("rehearsal works: rehearsal answered in ")


def test_it_can_be_stopped_and_started_again() -> None:
    before = provider().test()
    rehearsal.stop()
    rehearsal.stop()
    assert provider().test().text == before.text
    assert json.loads(rehearsal.server().stats())["requests"] == 1
