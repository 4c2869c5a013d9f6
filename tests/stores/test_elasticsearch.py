"""What only an Elasticsearch does: it goes away, is full, rolls over, refuses and is emptied."""

import itertools
import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.servers.elasticsearch import Server
from tests.stores.conftest import BEGAN, entry, put, whose
from wordmill.errors import ConfigError, StorageError
from wordmill.stores.base import Event, Query, Scope
from wordmill.stores.elasticsearch import Elasticsearch
from wordmill.stores.indices import Limits

pytestmark = pytest.mark.once

NEARLY_FULL = (
    "Elasticsearch takes no documents: its disk is nearly full. Free some of it, or let go of old "
    "lines (`wordmill index retain`); it goes on by itself."
)
AWAY = "Elasticsearch cannot be reached: is it running, and is elasticsearch_url right?"


def until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def refused(store: Elasticsearch, *, line: int = 1, **more: Any) -> str:
    try:
        put(store, whose(), entry(line, **more))
    except StorageError as error:
        return str(error)
    return ""


def count(server: Server, index: str) -> Any:
    server.ask("POST", f"/{index}/_refresh")
    return server.ask("GET", f"/{index}/_count")["count"]


def test_it_is_killed_and_comes_back(elasticsearch_server: Server, elastic: Elasticsearch) -> None:
    put(elastic, whose(), *(entry(n) for n in range(1, 21)))
    elasticsearch_server.kill()
    try:
        assert refused(elastic, line=21) == AWAY
        with pytest.raises(StorageError, match="cannot be reached"):
            elastic.search(Scope("bob", "batch_1"), Query("hello"))
    finally:
        elasticsearch_server.start()
    assert refused(elastic, line=21) == ""
    assert elastic.count("bob", "batch_1") == 21
    assert elastic.statistics("bob", "batch_1").lines == 21


def test_an_index_that_is_read_only_is_said_and_recovered_from(
    elasticsearch_server: Server, elastic: Elasticsearch, elasticsearch_prefix: str
) -> None:
    put(elastic, whose(), entry(1))
    index = f"/{elasticsearch_prefix}-results-000001/_settings"
    elasticsearch_server.ask("PUT", index, {"index.blocks.write": True})
    words = refused(elastic, line=2)
    assert words.startswith("Elasticsearch takes no documents: the index is read-only (")
    assert "index.blocks.write" in elastic.standing().trouble
    assert elastic.statistics("bob", "batch_1").lines == 1
    elasticsearch_server.ask("PUT", index, {"index.blocks.write": None})
    assert (refused(elastic, line=2), elastic.standing().trouble) == ("", "")
    elasticsearch_server.ask("PUT", index, {"index.blocks.read_only_allow_delete": True})
    assert refused(elastic, line=3) == NEARLY_FULL
    assert elastic.standing().trouble == NEARLY_FULL
    elasticsearch_server.ask("PUT", index, {"index.blocks.read_only_allow_delete": None})
    assert refused(elastic, line=3) == ""


def test_a_full_disk_is_said_and_recovered_from(
    elasticsearch_server: Server, elastic: Elasticsearch
) -> None:
    put(elastic, whose(), entry(1))
    lines = itertools.count(2)
    marks = {
        f"cluster.routing.allocation.disk.watermark.{name}": size
        for name, size in (("low", "9002tb"), ("high", "9001tb"), ("flood_stage", "9000tb"))
    }
    interval = {"cluster.info.update.interval": "10s"}
    elasticsearch_server.ask("PUT", "/_cluster/settings", {"persistent": marks | interval})
    try:
        until(lambda: refused(elastic, line=next(lines)) == NEARLY_FULL)
        assert elastic.statistics("bob", "batch_1").lines >= 1
    finally:
        gone = dict.fromkeys([*marks, *interval])
        elasticsearch_server.ask("PUT", "/_cluster/settings", {"persistent": gone})
    until(lambda: refused(elastic, line=next(lines)) == "")


def test_a_batch_keeps_to_its_index_when_the_next_one_begins(
    elasticsearch_server: Server, elasticsearch_prefix: str
) -> None:
    store = Elasticsearch(
        elasticsearch_server.url, elasticsearch_prefix, limits=Limits(documents=10)
    )
    first, second = (
        f"{elasticsearch_prefix}-results-000001",
        f"{elasticsearch_prefix}-results-000002",
    )
    assert store.place(whose()) == first
    put(store, whose(), *(entry(n) for n in range(1, 16)))
    assert store.roll() == [second]
    assert store.roll() == []
    again = Elasticsearch(elasticsearch_server.url, elasticsearch_prefix)
    put(again, whose(), *(entry(n) for n in range(11, 31)))
    put(again, whose("batch_2"), entry(1))
    assert (again.place(whose()), again.place(whose("batch_2"))) == (first, second)
    assert (count(elasticsearch_server, first), count(elasticsearch_server, second)) == (30, 1)
    hits = again.search(Scope("bob"), Query(), limit=100)
    assert [(hit.batch, hit.line) for hit in hits] == [
        ("batch_2", 1), *(("batch_1", n) for n in range(1, 31))
    ]  # fmt: skip
    store.close()
    again.close()


def test_old_indices_go_and_what_was_in_them_is_not_missed(
    elasticsearch_server: Server, elasticsearch_prefix: str
) -> None:
    store = Elasticsearch(
        elasticsearch_server.url, elasticsearch_prefix, limits=Limits(documents=1)
    )
    for number in (1, 2, 3):
        owned = whose(f"batch_{number}")
        at = BEGAN + 1000 * number
        store.add(owned, 0, [entry(n, ended=at) for n in range(1, 6)])
        store.note(owned, [Event(at, "log", "here", "one")])
        store.describe(owned, "completed" if number != 2 else "in_progress", {})
        assert len(store.roll()) == 2
    assert store.retain(BEGAN + 500, None) == []
    first = [f"{elasticsearch_prefix}-{name}-000001" for name in ("events", "results")]
    assert store.retain(BEGAN + 1500, None) == first
    assert (store.forgotten("batch_1"), store.forgotten("batch_2")) == (True, False)
    assert (store.count("bob", "batch_1"), store.count("bob", "batch_2")) == (0, 5)
    # Lines of the second still come; of the third there are more than may be kept.
    assert store.retain(None, 3) == [f"{elasticsearch_prefix}-results-000003"]
    store.remember("batch_1")
    assert store.forgotten("batch_1") is False
    put(store, whose("batch_1"), entry(1))
    assert store.place(whose("batch_1")) == f"{elasticsearch_prefix}-results-000004"
    store.close()


def test_a_cluster_that_was_emptied_is_made_again(
    elasticsearch_server: Server, elastic: Elasticsearch, elasticsearch_prefix: str
) -> None:
    put(elastic, whose(), entry(1))
    elasticsearch_server.wipe(elasticsearch_prefix)
    # The first to come finds them gone; the second, all made again.
    assert "The indices are gone" in refused(elastic)
    held = f"{elasticsearch_prefix}-results-000007"
    assert elastic.place(whose(index=held)) == held
    put(elastic, whose(index=held), entry(1))
    assert elastic.count("bob", "batch_1") == 1
    assert count(elasticsearch_server, held) == 1
    put(elastic, whose("batch_2"), entry(1))
    assert len(elastic.search(Scope("bob"), Query())) == 2


def test_a_document_that_cannot_be_is_a_sentence(elastic: Elasticsearch) -> None:
    assert refused(elastic, input_tokens=2**63).startswith(
        "Elasticsearch: 400 document_parsing_exception: "
    )


def test_no_document_is_written_field_by_field(
    elasticsearch_server: Server, elastic: Elasticsearch, elasticsearch_prefix: str
) -> None:
    put(elastic, whose(), entry(1))
    told: Any = elasticsearch_server.ask("GET", f"/{elasticsearch_prefix}-results/_mapping")
    (mapping,) = told.values()
    assert mapping["mappings"]["dynamic"] == "false"
    assert mapping["mappings"]["properties"]["request"] == {
        "type": "keyword", "index": False, "doc_values": False,
    }  # fmt: skip
    kept: Any = elasticsearch_server.ask("GET", f"/{elasticsearch_prefix}-results/_doc/batch_1-1")[
        "_source"
    ]
    assert json.loads(kept["request"])["messages"][0]["content"] == "Hello"
    assert kept["text"] == "hello well met"


@pytest.fixture
def stub() -> Iterator[ThreadingHTTPServer]:
    """What answers as an Elasticsearch would: `replies` are its answers to `_bulk`, in turn."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length", 0)))
            self.server.asked.append((self.command, self.path, data, dict(self.headers)))  # type: ignore[attr-defined]
            status, body = 200, {"acknowledged": True}
            if "_bulk" in self.path:
                status, body = self.server.replies.pop(0)  # type: ignore[attr-defined]
            elif self.server.down:  # type: ignore[attr-defined]
                status, body = self.server.down  # type: ignore[attr-defined]
            sent = b"" if self.command == "HEAD" else json.dumps(body).encode()
            self.send_response(status)
            if self.server.product:  # type: ignore[attr-defined]
                self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.replies, server.down, server.product = [], [], None, True  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def at(stub: ThreadingHTTPServer) -> Elasticsearch:
    return Elasticsearch(f"http://mill:s%40cret@127.0.0.1:{stub.server_port}")


def sent(stub: Any) -> list[list[str]]:
    """The ids of the documents of each `_bulk`."""
    asked = [data for _, path, data, _ in stub.asked if "_bulk" in path]
    return [[json.loads(one)["create"]["_id"] for one in data.splitlines()[::2]] for data in asked]


def test_each_document_of_a_bulk_is_treated_as_it_deserves(stub: Any) -> None:
    busy = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "full"}}
    away = {"status": 503, "error": {"type": "unavailable_shards_exception", "reason": "moving"}}
    there = {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": ""}}
    stub.replies = [
        (429, {"error": {"type": "circuit_breaking_exception", "reason": "much"}, "status": 429}),
        (200, {"errors": True, "items": [{"create": one} for one in
               ({"status": 201}, busy, there, away)]}),
        (200, {"errors": True, "items": [{"create": {"status": 201}}, {"create": away}]}),
        (200, {"errors": False, "items": [{"create": {"status": 201}}]}),
    ]  # fmt: skip
    store = at(stub)
    store._places["batch_1"] = "some"
    store.add(whose(), 0, [entry(n) for n in (1, 2, 3, 4)])
    every = [f"batch_1-{n}" for n in (1, 2, 3, 4)]
    assert sent(stub) == [every, every, ["batch_1-2", "batch_1-4"], ["batch_1-4"]]
    head = stub.asked[-1][3]
    assert head["authorization"].startswith("Basic ")
    store.close()


def test_what_is_refused_too_often_is_said(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    busy = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "full"}}
    stub.replies = [(200, {"errors": True, "items": [{"create": busy}]})] * 5
    store = at(stub)
    store._places["batch_1"] = "some"
    assert refused(store) == "Elasticsearch has more to do than it can (429): it is tried again."
    store.close()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "Elasticsearch refuses the user of elasticsearch_url (401)."),
        (500, "Elasticsearch: 500 broken: it fell over."),
        (502, "Elasticsearch: 502."),
    ],
)
def test_no_error_holds_the_password(stub: Any, status: int, words: str) -> None:
    stub.down = (
        status,
        {"error": {"type": "broken", "reason": "it fell over"}} if status == 500 else "",
    )
    store = at(stub)
    with pytest.raises(StorageError) as failed:
        store.open()
    assert str(failed.value) == words
    trace = "".join(traceback.format_exception(failed.value)) + repr(failed.value.__cause__)
    assert "cret" not in trace
    store.close()


def test_what_is_no_elasticsearch_is_said(stub: Any) -> None:
    stub.product = False
    store = at(stub)
    with pytest.raises(StorageError, match="is no Elasticsearch 8 or 9 \\(nor is OpenSearch one"):
        store.open()
    store.close()


@pytest.mark.parametrize("url", ["localhost", "ftp://a", "http://a:b:c"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="elasticsearch_url must be an address"):
        Elasticsearch(url)
