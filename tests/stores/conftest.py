"""Stores of both kinds, and lines to put into them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.elasticsearch import Server
from wordmill.settings import load
from wordmill.storage import Folder
from wordmill.stores.base import Entry, Store, Whose, text_of
from wordmill.stores.elasticsearch import Elasticsearch
from wordmill.stores.sqlite import Sqlite

BEGAN = 1_700_000_000.0


@pytest.fixture(params=["sqlite", "elasticsearch"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """The test runs on each kind of store."""
    made: Store
    if request.param == "sqlite":
        made = Sqlite(Folder(load().home))
    else:
        made = request.getfixturevalue("elastic")
    yield made
    made.close()


@pytest.fixture
def elastic(elasticsearch_server: Server, elasticsearch_prefix: str) -> Iterator[Elasticsearch]:
    """An empty store in Elasticsearch."""
    made = Elasticsearch(elasticsearch_server.url, elasticsearch_prefix)
    yield made
    made.close()


def whose(batch: str = "batch_1", owner: str = "bob", **more: Any) -> Whose:
    """A batch of somebody's."""
    return Whose(batch, owner, **more)


def entry(line: int, asked: str = "Hello", answered: str = "Well met", **more: Any) -> Entry:
    """A line, a second after the one before it."""
    status = more.get("status", "ok")
    request = {"model": "m", "messages": [{"role": "user", "content": asked}]}
    body = {"choices": [{"message": {"role": "assistant", "content": answered}}]}
    good = status == "ok"
    result = {
        "response": {"status_code": 200, "body": body} if good else None,
        "error": None if good else {"code": status, "message": answered},
    }
    kept = json.dumps(request, ensure_ascii=False)
    made: dict[str, Any] = {
        "line": line, "custom_id": f"r{line}", "status": "ok", "model": "m",
        "ended": BEGAN + line, "seconds": line / 10, "input_tokens": 3, "output_tokens": 5,
        "money": 0.25, "attempts": 1, "cached": False, "text": text_of(kept.encode(), result),
        "block": (line - 1) // 10, "request": kept,
        "result": json.dumps(result, ensure_ascii=False),
    }  # fmt: skip
    return Entry(**(made | more))


def put(store: Store, owned: Whose, *entries: Entry) -> None:
    """Add lines, block by block."""
    for block in sorted({one.block for one in entries}):
        store.add(owned, block, [one for one in entries if one.block == block])
