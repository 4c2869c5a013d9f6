"""The page of models and the shelf behind it, with a model server on a stub worker."""

from pathlib import Path

import pytest

from tests.model_server.conftest import Start, library, start, until
from tests.servers import tiny_models
from tests.web.test_pages import Drawn, ann, bob, drawn, house, words
from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.errors import Forbidden

__all__ = ["ann", "bob", "drawn", "house", "library", "start"]


@pytest.fixture
def shelf_server(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model server that settings name, which has a model `tiny`."""
    server = start()
    monkeypatch.setenv("WORDMILL_MODEL_SERVER_URL", f"{server.where.url}/v1")
    monkeypatch.setenv("WORDMILL_MODEL_SERVER_KEY", server.where.token)


def test_what_is_loaded_is_shown_and_ordered(
    shelf_server: None, house: House, ann: Person, bob: Person, drawn: Drawn, tmp_path: Path
) -> None:
    shelf = house.shelf
    shelf.take(ann, tiny_models.build(tmp_path / "own"), "tiny")
    shelf.order(ann, "load", "tiny")
    (one,) = shelf.loaded().models  # type: ignore[union-attr]  # it runs
    assert (one.name, one.state) == ("tiny", "ready")
    shelf.set(ann, "tiny", {"pinned": "yes"})
    (one,) = shelf.loaded().models  # type: ignore[union-attr]
    assert one.pinned
    shelf.order(ann, "warm", "tiny")
    with pytest.raises(Forbidden, match="Only an admin may unload models"):
        shelf.order(bob, "unload", "tiny")
    until(lambda: len(shelf.history()["tiny"]["history"]) >= 2)
    assert shelf.people(ann)["tiny"]
    app = drawn("models", ann)
    app.segmented_control[0].set_value("here").run()
    assert not app.exception
    (used,) = [one.value for one in app.dataframe if "out" in one.value]
    assert dict(used[["model", "requests", "in", "out"]].iloc[0]) == {
        "model": "tiny", "requests": 1, "in": 7, "out": 1,
    }  # fmt: skip
    app = drawn("models", bob)
    app.segmented_control[0].set_value("here").run()
    assert not app.exception
    table = app.dataframe[0].value
    assert not any("out" in one.value for one in app.dataframe)
    assert list(table["state"]) == ["ready"]
    assert "that models may have are in use" in words(app)
    charts = [str(one.proto) for one in app.get("vega_lite_chart")]
    for title in ("Tokens a second", "Seconds to the first token", "Seconds between tokens"):
        assert any(title in one for one in charts), title
    shelf.order(ann, "unload", "tiny")
    assert shelf.loaded().models[0].state == "unloaded"  # type: ignore[union-attr]
    shelf.remove(ann, "tiny")
    assert shelf.all() == []
