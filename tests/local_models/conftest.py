"""A hub with models, and a house's database to put them into."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import tiny_models
from tests.servers.hub import Hub, open_hub
from wordmill.database import Database, open_database
from wordmill.local_models.local_models import LocalModels
from wordmill.settings import Settings, load

CARD = "---\nlicense: apache-2.0\n---\n# A tiny model\n\n<script>alert(1)</script> It is small.\n"
READER = "hf_reader_of_the_stand_in"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with open_hub(tmp_path / "hub") as opened:
        yield opened


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama and its card."""
    folder = tiny_models.build(tmp_path_factory.mktemp("models") / "llama")
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def settings(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("HF_TOKEN", "HF_TOKEN_FILE", "HF_HUB_OFFLINE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORDMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.chdir(tmp_path)
    return load()


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    with open_database(settings) as opened:
        yield opened


@pytest.fixture
def models(database: Database, settings: Settings) -> LocalModels:
    return LocalModels(database, settings)
