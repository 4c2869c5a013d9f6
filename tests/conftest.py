"""Fixtures that all tests share: a home of one's own, a rehearsal server, an engine."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wordmill import _engine


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder; nothing of the person's own settings reaches a test."""
    for name in [name for name in os.environ if name.startswith("WORDMILL_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("WORDMILL_HOME", str(folder))
    return folder


@pytest.fixture
def rehearse() -> Iterator[Callable[..., _engine.Rehearsal]]:
    """Start rehearsal servers, each on a port the system chose; stopped at the end."""
    started = []

    def start(**options: Any) -> _engine.Rehearsal:
        server = _engine.Rehearsal(json.dumps(options))
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()
