"""From the hub to the shelf: searched, weighed, fetched, found by name."""

from pathlib import Path

from tests.servers.hub import Hub
from wordmill.database import LOCAL, Database
from wordmill.local_models import find
from wordmill.local_models.local_models import Ask, LocalModels
from wordmill.models import Catalog
from wordmill.settings import Settings


def never() -> bool:
    return False


def ignored(_: object) -> None: ...


def test_searched_weighed_fetched_listed_and_found_by_its_name(
    hub: Hub, llama: Path, models: LocalModels, database: Database, settings: Settings
) -> None:
    commit = hub.put("ann/tiny-llama", llama, downloads=7)
    (found,) = models.search("tiny")
    assert (found.repository, found.license, found.parameters) == (
        "ann/tiny-llama", "apache-2.0", 139_584,
    )  # fmt: skip
    planned = models.plan(Ask("ann/tiny-llama"))
    assert planned.fit.verdict == "yes"
    assert (planned.facts.architecture, planned.facts.layers) == ("LlamaForCausalLM", 2)
    heard = []
    model = models.fetch(Ask("ann/tiny-llama"), LOCAL, heard.append, never)
    assert heard[-1]["bytes"] == heard[-1]["of"] == planned.size
    assert (model.name, model.revision, model.follows) == ("tiny-llama", commit, "main")
    assert find(database, settings, "tiny-llama") == model
    assert (model.path / "config.json").read_bytes() == (llama / "config.json").read_bytes()
    assert model.facts.template
    entry = Catalog(database, settings).get("tiny-llama")
    assert (entry.provider, entry.context) == ("local", 512)
