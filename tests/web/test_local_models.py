"""The page of models, for those of this machine: from the hub's search to a model that is there."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.servers import tiny_models
from tests.servers.hub import Hub, open_hub
from tests.web.bench import ADMIN, PASSWORD, Bench
from tests.web.conftest import Server, served

pytestmark = pytest.mark.once

Opened = Callable[..., Bench]

CARD = """---
license: apache-2.0
---
# A tiny model

<script>document.title = "taken over"</script>
<img src=x onerror="document.title = 'taken over'">

![a picture](http://127.0.0.1:9/spy.png) It is **small**, and costs $5.
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    model = tiny_models.build(folder / "tiny")
    (model / "README.md").write_text(CARD)
    with open_hub(folder / "served") as opened:
        opened.put("ann/tiny-llama", model, downloads=1234)
        for number, name in enumerate(("qwen2", "gemma", "gpt2")):
            other = tiny_models.build(folder / name, name)
            opened.put(f"bob/tiny-{name}", other, downloads=number, license="mit")
        yield opened


@pytest.fixture(scope="module")
def server(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(
        tmp_path_factory.mktemp("server"),
        WORDMILL_ADMIN_EMAIL=ADMIN,
        WORDMILL_ADMIN_PASSWORD=PASSWORD,
        HF_ENDPOINT=hub.url,
    ) as found:
        yield found


def part(one: Bench, name: str) -> None:
    one.page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()


def look(one: Bench, model: str) -> None:
    one.go("/models")
    part(one, "From the hub")
    one.page.get_by_label("Model, as owner/name").fill(model)
    one.button("Look at it").click()


def test_a_model_is_found_weighed_fetched_and_kept(
    opened: Opened, signed_in: Any, hub: Hub
) -> None:
    one = opened(storage_state=signed_in)
    one.go("/models")
    part(one, "From the hub")
    one.page.get_by_label("Search the hub").fill("tiny")
    one.button("Search").click()
    expect(one.page.get_by_test_id("stDataFrame").first).to_be_visible()
    one.picture("models-hub-found")
    one.page.get_by_label("Model, as owner/name").fill("ann/tiny-llama")
    one.button("Look at it").click()
    expect(one.page.get_by_text("Yes: it takes")).to_be_visible()
    one.page.get_by_text("What its owner says").click()
    expect(one.page.get_by_role("heading", name="A tiny model")).to_be_visible()
    expect(one.page.get_by_text("and costs $5")).to_be_visible()
    one.picture("models-hub-one")
    assert one.page.title() != "taken over"
    hub.faults.rate = 120_000
    one.button("Fetch").click()
    expect(one.page.get_by_text(re.compile("Fetching tiny-llama: under way"))).to_be_visible()
    one.picture("models-fetching")
    one.button("Pause").click()
    expect(one.page.get_by_text(re.compile("Fetching tiny-llama: paused"))).to_be_visible()
    hub.faults.rate = None
    one.button("Go on").click()
    expect(one.page.get_by_text("LlamaForCausalLM")).to_be_visible()
    one.page.get_by_text("How it is run").click()
    one.page.get_by_label("Threads").fill("many")
    one.button("Save").click()
    expect(
        one.page.get_by_text("threads is a whole number from 1 to 1,024, not 'many'.")
    ).to_be_visible()
    one.page.get_by_label("Threads").fill("2")
    one.button("Save").click()
    expect(one.page.get_by_text("Saved.")).to_be_visible()
    one.picture("models-here")
    part(one, "Disk")
    expect(one.page.get_by_test_id("stDataFrame").first).to_be_visible()
    one.picture("models-disk")


def test_an_update_is_told_fetched_and_undone(
    opened: Opened, signed_in: Any, hub: Hub, tmp_path: Path
) -> None:
    hub.put("ann/changing", tiny_models.build(tmp_path / "one"))
    one = opened(storage_state=signed_in)
    look(one, "ann/changing")
    one.button("Fetch").click()
    expect(one.page.get_by_text("ann/changing @").first).to_be_visible()
    hub.put("ann/changing", tiny_models.build(tmp_path / "two", seed=2), "Better words")
    one.page.get_by_text("Updates").click()
    one.button("Look for an update").click()
    expect(one.page.get_by_text("An update exists")).to_be_visible()
    expect(one.page.get_by_text("Better words")).to_be_visible()
    expect(one.page.get_by_text("model.safetensors", exact=True)).to_be_visible()
    one.button("Update").click()
    back = one.page.get_by_role("button", name=re.compile("Go back to"))
    expect(back).to_be_visible()
    back.click()
    expect(one.page.get_by_text(re.compile("ann/changing @ "))).to_be_visible()


def test_what_cannot_be_used_is_said(opened: Opened, signed_in: Any) -> None:
    one = opened(storage_state=signed_in)
    look(one, "../../x")
    expect(one.page.get_by_text("'../../x' is no repository of the hub").first).to_be_visible()
    look(one, "ann/nothing")
    expect(one.page.get_by_text("The hub has no ann/nothing").first).to_be_visible()


def test_a_telephone_is_wide_enough(opened: Opened, signed_in: Any) -> None:
    one = opened(storage_state=signed_in, viewport={"width": 390, "height": 844}, has_touch=True)
    look(one, "bob/tiny-gemma")
    expect(one.page.get_by_text("Yes: it takes")).to_be_visible()
    one.picture("telephone-models-hub")
    assert one.too_wide == 0
    part(one, "On this machine")
    expect(one.page.get_by_text("Add a folder or a GGUF file of your own")).to_be_visible()
    one.picture("telephone-models-here")
    assert one.too_wide == 0
