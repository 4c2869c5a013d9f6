"""Documents ranked by how well they answer a query, as clients of Jina and Cohere ask for it."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import Server
from tests.model_server.conftest import Library, Start, library, start
from tests.servers import tiny_models
from tests.servers.model_server import serving
from wordmill.channels.api import reranking
from wordmill.model_server.process import Command
from wordmill.model_server.serving import worker_command
from wordmill.models import checked
from wordmill.providers import local_start
from wordmill.settings import load

__all__ = ["library", "start"]

ROOT = Path(__file__).parent.parent.parent
TORCH = ROOT / "build" / "venv-torch" / "bin" / "python"

MILL = "a mill grinds grain"
FOX = "the fox is quick"
DOCUMENTS = [FOX, MILL, "grain is dear"]
WISH: dict[str, Any] = {"model": "ranker", "query": "a mill grinds", "documents": DOCUMENTS}


class Ranker(ThreadingHTTPServer):
    """A server that has /rerank.

    told: its answer.  status: of it.  asked: paths, bodies and keys so far.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: Any = None
        self.status = 200
        self.asked: list[tuple[str, dict[str, Any], str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Ranker

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body, self.headers.get("authorization", "")))
        data = json.dumps(self.server.told).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def ranked(*scores: tuple[int, Any], **more: Any) -> dict[str, Any]:
    """An answer with these scores by index."""
    results = [{"index": index, "relevance_score": score} for index, score in scores]
    return {"results": results, **more}


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ranker(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranker]:
    """The server behind the model `ranker`, which wants a key and is paid."""
    monkeypatch.setenv("RANKER_KEY", "a-key-of-the-house")
    with Ranker() as made:
        made.told = ranked((0, 0.1), (1, 0.9), (2, 0.4), usage={"total_tokens": 30})
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        entry = {
            "name": "ranker", "base_url": made.url, "model": "rank-1", "key_env": "RANKER_KEY",
            "price_in": 1.0,
        }  # fmt: skip
        server.house.catalog.add(checked(entry))
        yield made
        made.shutdown()


@pytest.fixture
def ask(server: Server) -> Ask:
    def asked(**changes: Any) -> httpx.Response:
        body = {name: value for name, value in {**WISH, **changes}.items() if value is not ...}
        with server.client("bob") as client:
            return client.post("/v1/rerank", json=body)

    return asked


def test_documents_are_ranked_whatever_the_server_leaves_to_its_client(
    ranker: Ranker, ask: Ask
) -> None:
    """It neither sorts nor counts the results nor hands documents back."""
    found = ask().json()
    assert found["id"].startswith("rerank-")
    assert found["usage"] == {"prompt_tokens": 30, "total_tokens": 30}
    assert found["model"] == "ranker"
    assert found["results"] == [
        {"index": 1, "relevance_score": 0.9},
        {"index": 2, "relevance_score": 0.4},
        {"index": 0, "relevance_score": 0.1},
    ]
    documents = [FOX, {"text": MILL}, {"text": "grain is dear", "title": "prices"}]
    short = ask(documents=documents, top_n=2, return_documents=True).json()
    assert short["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": MILL}},
        {"index": 2, "relevance_score": 0.4, "document": {"text": "grain is dear"}},
    ]
    plain = {"model": "rank-1", "query": WISH["query"], "documents": DOCUMENTS}
    assert ranker.asked == [
        ("/v1/rerank", plain, "Bearer a-key-of-the-house"),
        ("/v1/rerank", {**plain, "top_n": 2}, "Bearer a-key-of-the-house"),
    ]


def test_what_the_server_says_beside_it_is_handed_on(ranker: Ranker, ask: Ask) -> None:
    ranker.told = ranked(
        (1, 0.9), (0, 0.2), id="theirs", usage={"prompt_tokens": 40, "total_tokens": 40},
        meta={"billed_units": {"search_units": 1}}, model="rank-1",
    )  # fmt: skip
    for one in ranker.told["results"]:
        one["document"] = {"text": "as the server has it"}
    found = ask(top_n=2, max_tokens_per_doc=512, extra_body={"rank_fields": ["text"]}).json()
    assert (found["id"], found["model"]) == ("theirs", "ranker")
    assert found["meta"] == {"billed_units": {"search_units": 1}}
    assert found["results"][0] == {"index": 1, "relevance_score": 0.9}  # documents were not wanted
    assert ranker.asked[0][1]["rank_fields"] == ["text"]
    assert ranker.asked[0][1]["max_tokens_per_doc"] == 512


def test_it_is_charged_and_bounded_as_any_request(server: Server, ranker: Ranker, ask: Ask) -> None:
    ranker.told["usage"] = {"prompt_tokens": 40, "total_tokens": 40}
    assert ask().json()["usage"] == {"prompt_tokens": 40, "total_tokens": 40}
    with server.client("bob") as client:
        day = client.get("/api/me/usage").json()["day"]
    assert (day["requests"], day["tokens"]) == (1, 40)
    assert day["money"] == pytest.approx(40 / 1e6)
    ranker.told.pop("usage")  # it counts nothing: what was sent is estimated, and said
    guessed = ask().json()["usage"]
    assert guessed["total_tokens"] == guessed["prompt_tokens"] > 0
    ann, bob = server.people["ann"], server.people["bob"]
    server.house.accounts.ledger.set_quota(ann, bob.id, "day", requests=2)
    refused = ask()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")


MANY = "documents has at most 1,000 texts, not 1,001: send them in several requests."
SEVERAL = "documents is a list of at least one text, or object with a text."


@pytest.mark.parametrize(
    ("changes", "words", "field"),
    [
        ({"query": ...}, "query is missing: the text that documents are to answer.", "query"),
        ({"query": " "}, "query is missing: the text that documents are to answer.", "query"),
        ({"query": 5}, "query is a text, not 5.", "query"),
        ({"documents": ...}, SEVERAL, "documents"),
        ({"documents": []}, SEVERAL, "documents"),
        ({"documents": "one"}, SEVERAL, "documents"),
        (
            {"documents": ["a", {"image": "x"}]},
            "documents.1 is a text, or an object with a text.", "documents.1",
        ),
        ({"documents": ["a"] * 1001}, MANY, "documents"),
        ({"top_n": 0}, "top_n is a whole number from 1 to 1,000,000, not 0.", "top_n"),
        ({"extra_body": {"top_n": 0}}, "top_n is a whole number from 1 to 1,000,000.", "top_n"),
        ({"return_documents": 1}, "return_documents is true or false, not 1.", "return_documents"),
        (
            {"document": []},
            "There is no field 'document'. Did you mean 'documents' or 'return_documents'?",
            "document",
        ),
        ({"model": ...}, "model is missing: the name of a model of the catalog.", "model"),
        (
            {"model": "rehearsal"},
            reranking.REHEARSED, "model",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_ranked_is_a_sentence(
    ranker: Ranker, ask: Ask, changes: dict[str, Any], words: str, field: str
) -> None:
    answer = ask(**changes)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["message"], error["param"]) == (words, field)
    assert ranker.asked == []


def test_a_server_without_it_and_a_model_that_nobody_knows(ranker: Ranker, ask: Ask) -> None:
    ranker.status, ranker.told = 404, {"detail": "Not Found"}
    refused = ask()
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == (
        "The model 'ranker' gave no answer (rejected): HTTP 404: Not Found. Its server has no "
        "/rerank below the model's base URL: name a model of one that has."
    )
    assert ask(model="rankor").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"data": []}, "its answer has no list of results"),
        ([{"index": 0, "score": 1.0}], "its answer has no list of results"),
        ({"results": [5]}, "its answer has no list of results"),
        (ranked((3, 0.5)), "it ranks a document 3, of 3"),
        (ranked((0, "0.5")), "the document 0 has the relevance_score '0.5'"),
        ({"results": [{"index": 0}]}, "the document 0 has the relevance_score None"),
        (ranked((1, 0.5), (1, 0.6)), "it names a document twice"),
    ],
)
def test_an_answer_that_is_no_ranking_is_told_apart(
    ranker: Ranker, ask: Ask, told: Any, words: str
) -> None:
    ranker.told = told
    answer = ask()
    assert answer.status_code == 502
    sentence = f"The model 'ranker' gave no answer (invalid_json): {words}"
    assert answer.json()["error"]["message"] == sentence


def test_a_local_model_ranks(server: Server, library: Library, start: Start, ask: Ask) -> None:
    start()
    local = {"name": "ranker", "provider": "local", "model": "tiny"}
    server.house.catalog.add(checked(local))
    try:
        found = ask(top_n=1, return_documents=True).json()
        results = [{"index": 1, "relevance_score": 1.0, "document": {"text": MILL}}]
        assert (found["model"], found["results"]) == ("ranker", results)
        assert found["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    finally:
        local_start.release(load())


def test_a_true_model_ranks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    """From its folder to the API, with torch out of the environment that has it."""
    if not TORCH.exists():
        words = "scripts/local-models has not been run: there is no environment with torch"
        if os.environ.get("CI"):
            raise AssertionError(words)
        pytest.skip(words)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    folder = tiny_models.build(tmp_path / "ranker", "bert-ranker")
    command: Command = lambda model: [str(TORCH), *worker_command(model)[1:]]  # noqa: E731
    with serving({"tiny": folder}, command):
        local = {"name": "ranker", "provider": "local", "model": "tiny"}
        server.house.catalog.add(checked(local))
        found = ask().json()
        where = local_start.read(load().home)
        assert where is not None
        objects = [{"text": text} for text in DOCUMENTS]  # as a line of a batch may hold them
        direct = httpx.post(
            f"{where.url}/v1/rerank", headers=local_start.bearer(where),
            json={**WISH, "model": "tiny", "documents": objects},
        )  # fmt: skip
        assert direct.json()["results"] == found["results"]
        scores = [one["relevance_score"] for one in found["results"]]
        assert sorted(one["index"] for one in found["results"]) == [0, 1, 2]
        assert scores == sorted(scores, reverse=True)
        assert found["usage"]["total_tokens"] > 20
        with server.client("bob") as client:
            talk = {"model": "ranker", "messages": [{"role": "user", "content": "Hello"}]}
            refused = client.post("/v1/chat/completions", json=talk)
        assert (refused.status_code, "for rerank, not for chat." in refused.text) == (400, True)


def test_lines_of_a_batch_are_ranked(server: Server, ranker: Ranker) -> None:
    lines = [
        {"custom_id": f"r{n}", "method": "POST", "url": "/v1/rerank", "body": {**WISH, "top_n": n}}
        for n in (1, 2)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    with server.client("bob") as client:
        file = client.post(
            "/v1/files", files={"file": ("asked.jsonl", data)}, data={"purpose": "batch"}
        ).json()["id"]
        order = {
            "endpoint": "/v1/rerank", "input_file_id": file, "completion_window": "24h",
        }  # fmt: skip
        batch = client.post("/v1/batches", json=order).json()
        while batch["status"] not in ("completed", "failed", "expired"):
            batch = client.get(f"/v1/batches/{batch['id']}").json()
        assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}, batch
        told = client.get(f"/v1/files/{batch['output_file_id']}/content").text
        checks = {"schema": {"type": "object"}}
        wish = {"file": file, "endpoint": "/v1/rerank", "validate": checks}
        refused = client.post("/api/batches", json=wish)
    bodies = [json.loads(line)["response"]["body"] for line in told.splitlines()]
    assert [body["results"] for body in bodies] == [ranker.told["results"]] * 2
    assert {body["top_n"] for _, body, _ in ranker.asked} == {1, 2}
    words = "Embeddings and scores are no texts: they cannot be validated."
    assert refused.json()["error"]["message"] == words
