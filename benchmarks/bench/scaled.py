"""The parts of `scale.py`: the path through the queue, the submit, shared limits, the load."""

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import amqp
import httpx
import openai
from tests.servers.cluster import Cluster, serving

from bench import inputs
from bench.places import DRIVERS, ROOT
from bench.targets import Figure
from drivers.contract import MODEL

CONSUMER: Final = ROOT / "target/release/wordmill-consumer"
OF_BULK: Final = 50.0
"""Percent of the speed of `_bulk` alone."""
OF_NAIVE: Final = 20.0
SUBMITTED: Final = 40_000
RESIDENT: Final = 300
MINUTE_LIMIT: Final = 6_000
USED: Final = 97.0
STATUS: Final = 0.100
"""Seconds that 99 of 100 status calls take at most, while a batch runs."""
CHUNK: Final = 1_000
"""Documents of one `_bulk` request."""


# The path


def path(folder: Path, quick: bool) -> list[Figure]:
    """Requests a second through everything, beside `_bulk` alone and a naive consumer."""
    requests, messages, rounds = (1_000, 50, 1) if quick else (150_000, 3_000, 3)
    through: list[float] = []
    bulk: list[float] = []
    naive: list[float] = []
    with serving(folder, CONSUMER, model=MODEL, limits=("--concurrency", "256")) as cluster:
        for part in ("worker", "consumer 2"):
            cluster.parts[part].kill()
        if not quick:  # Java compiles what is used often, and it is not that which is measured
            end(cluster, ordered(cluster, inputs.requests_file(20_000, named=True)))
        file = inputs.requests_file(requests, named=True)
        for number in range(rounds):
            batch = ordered(cluster, file, cache=False)
            end(cluster, batch)
            through.append(rate(cluster, batch, requests))
            documents = list(stored(cluster, batch))
            if len(documents) != requests:
                raise RuntimeError(f"{len(documents):,} of {requests:,} results are in the index.")
            bulk.append(bulk_alone(cluster, documents, f"bench-bulk-{number}"))
            naive.append(naive_consumer(cluster, documents[:messages], f"bench-naive-{number}"))
            print(
                f"  round {number + 1}: path {through[-1]:,.0f}/s, _bulk alone {bulk[-1]:,.0f}/s, "
                f"one document a message {naive[-1]:,.0f}/s"
            )
    share = statistics.median(through) / statistics.median(bulk) * 100
    times = statistics.median(through) / statistics.median(naive)
    return [
        Figure("path, share of what _bulk alone does", share, OF_BULK, "more", " %"),
        Figure("path, times a consumer of one document a message", times, OF_NAIVE, "more", "x"),
    ]


def ordered(cluster: Cluster, file: Path, **more: Any) -> str:
    """Send a file and order its batch; its id."""
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{cluster.port}/v1", api_key=cluster.key)
    with file.open("rb") as source:
        sent = client.files.create(file=source, purpose="batch")
    order = {"file": sent.id, "endpoint": "/v1/chat/completions", **more}
    answer = httpx.post(
        f"http://127.0.0.1:{cluster.port}/api/batches", json=order, timeout=60,
        headers={"Authorization": f"Bearer {cluster.key}"},
    )  # fmt: skip
    return str(answer.raise_for_status().json()["id"])


def told(cluster: Cluster, batch: str) -> dict[str, Any]:
    """What the API says of a batch; nothing while it does not answer."""
    return cluster.asked(cluster.port, f"/v1/batches/{batch}") or {"status": "unknown"}


def state(cluster: Cluster, batch: str) -> str:
    """Its state. Raises RuntimeError when it went wrong."""
    found = told(cluster, batch)
    if found["status"] in ("failed", "expired", "cancelled"):
        raise RuntimeError(f"The batch is {found['status']}: {found['errors']}")
    return str(found["status"])


def end(cluster: Cluster, batch: str) -> None:
    """Wait until a batch is completed."""
    cluster.wait(lambda: state(cluster, batch) == "completed", 900, 0.5)


def rate(cluster: Cluster, batch: str, requests: int) -> float:
    """Requests a second, from when the blocks were there to be published until all are done."""
    times = cluster.asked(cluster.port, f"/api/batches/{batch}")["times"]
    return requests / float(times["finalizing"] - times["in_progress"])


def stored(cluster: Cluster, batch: str) -> Iterator[dict[str, Any]]:
    """The documents of a batch, as the consumer wrote them."""
    search = Search(cluster)
    search.post("/wordmill-results/_refresh")
    point = search.post("/wordmill-results/_pit?keep_alive=5m")["id"]
    after: list[Any] | None = None
    while True:
        body: dict[str, Any] = {
            "size": 5_000, "query": {"term": {"batch": batch}}, "sort": [{"_shard_doc": "asc"}],
            "pit": {"id": point, "keep_alive": "5m"}, "track_total_hits": False,
        }  # fmt: skip
        if after is not None:
            body["search_after"] = after
        hits = search.post("/_search", body)["hits"]["hits"]
        if not hits:
            return
        yield from (hit["_source"] for hit in hits)
        after = hits[-1]["sort"]


class Search:
    """One connection to Elasticsearch."""

    def __init__(self, cluster: Cluster) -> None:
        address = urlsplit(cluster.servers["elasticsearch"].url)
        self._connection = http.client.HTTPConnection(str(address.hostname), address.port)

    def post(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """A request. body: text to be sent as it is, or what becomes JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        read = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{path}: {answer.status} {read[:500]!r}")
        return json.loads(read) if read else {}


def like_results(cluster: Cluster, index: str) -> None:
    """An index of one shard with the mapping of the results."""
    search = Search(cluster)
    mapping = search.post("/wordmill-results/_mapping", method="GET")
    body = {
        "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "30s"},
        "mappings": next(iter(mapping.values()))["mappings"],
    }
    search.post(f"/{index}", body, "PUT")


def bulk_alone(cluster: Cluster, documents: Sequence[dict[str, Any]], index: str) -> float:
    """Documents a second by `_bulk`, made beforehand, over two connections."""
    like_results(cluster, index)
    chunks = []
    for start in range(0, len(documents), CHUNK):
        lines = bytearray()
        for document in documents[start : start + CHUNK]:
            name = f"{document['batch']}-{document['line']}"
            lines += json.dumps({"index": {"_id": name}}).encode() + b"\n"
            lines += json.dumps(document).encode() + b"\n"
        chunks.append(bytes(lines))
    waiting = iter(chunks)
    lock = threading.Lock()

    def send() -> None:
        search = Search(cluster)
        while True:
            with lock:
                chunk = next(waiting, None)
            if chunk is None:
                return
            if search.post(f"/{index}/_bulk", chunk)["errors"]:
                raise RuntimeError("A document was refused.")

    began = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(send) for _ in range(2)]:
            done.result()
    seconds = time.perf_counter() - began
    Search(cluster).post(f"/{index}", method="DELETE")
    return len(documents) / seconds


def naive_consumer(cluster: Cluster, documents: Sequence[dict[str, Any]], index: str) -> float:
    """Messages a second, one after another: take, ask, update the document, acknowledge.

    The documents are there beforehand, without their answers; a message holds a document's id.
    """
    like_results(cluster, index)
    search = Search(cluster)
    for document in documents:
        name = f"{document['batch']}-{document['line']}"
        search.post(f"/{index}/_doc/{name}", {**document, "result": ""}, "PUT")
    broker = urlsplit(cluster.servers["broker"].url)
    provider = http.client.HTTPConnection("127.0.0.1", cluster.rehearsal_port)
    with amqp.Connection(
        f"{broker.hostname}:{broker.port}", str(broker.username), str(broker.password)
    ) as connection:
        channel = connection.channel()
        channel.queue_declare(index, durable=True, auto_delete=False)
        for number in range(len(documents)):
            channel.basic_publish(amqp.Message(str(number), delivery_mode=2), routing_key=index)
        began = time.perf_counter()
        for _ in documents:
            message = None
            while message is None:
                message = channel.basic_get(index)
            document = documents[int(message.body)]
            body = json.dumps({**json.loads(document["request"]), "model": "rehearsal"}).encode()
            provider.request(
                "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"}
            )
            answer = provider.getresponse().read().decode()
            name = f"{document['batch']}-{document['line']}"
            search.post(f"/{index}/_update/{name}", {"doc": {"result": answer}})
            channel.basic_ack(message.delivery_tag)
        seconds = time.perf_counter() - began
        channel.queue_delete(index)
    search.post(f"/{index}", method="DELETE")
    return len(documents) / seconds


# The submit


def submit(folder: Path, quick: bool) -> list[Figure]:
    """Lines a second from the upload to the queue, and what the server's memory grows to."""
    lines = 5_000 if quick else 1_000_000
    with serving(folder, CONSUMER, model=MODEL) as cluster:
        for part in ("worker", "consumer 1", "consumer 2"):
            cluster.parts[part].kill()
        file = inputs.requests_file(lines, named=True)
        before = cluster.parts["api"].megabytes()
        began = time.perf_counter()
        batch = ordered(cluster, file)
        uploaded = time.perf_counter() - began
        cluster.wait(lambda: state(cluster, batch) == "in_progress", 300)
        seconds = time.perf_counter() - began
        resident = cluster.parts["api"].megabytes("VmHWM")
        print(f"  upload {uploaded:.1f} s, in all {seconds:.1f} s; {before:.0f} MB at rest")
    inputs.remove_large()
    return [
        Figure("submit, lines a second to the queue", lines / seconds, SUBMITTED, "more"),
        Figure("submit, resident", resident, RESIDENT, "less", " MB"),
    ]


# Shared limits


def limits(folder: Path, quick: bool) -> list[Figure]:
    """Two consumers share a limit of requests a minute, a budget and a quota."""
    window, minutes = (10.0, 0.5) if quick else (60.0, 3.0)
    count = int(MINUTE_LIMIT * minutes)
    with serving(folder, CONSUMER, model=MODEL, limits=("--rpm", str(MINUTE_LIMIT))) as cluster:
        batch = ordered(cluster, inputs.requests_file(count, named=True))
        seen = watched(cluster, lambda: state(cluster, batch) == "completed")
        most, used = windows(seen, window)
        allowed = MINUTE_LIMIT * window / 60
        budget = count // 10
        before = seen[-1][1]
        capped = ordered(
            cluster, inputs.requests_file(count, named=True), budget={"requests": budget},
            cache=False,
        )  # fmt: skip
        end(cluster, capped)
        spent = int(cluster.asked(cluster.rehearsal_port, "/stats")["requests"]) - before
    return [
        Figure(f"two consumers, most in {window:g} s", most, allowed, "less"),
        Figure("two consumers, of the limit used", used / allowed * 100, USED, "more", " %"),
        Figure("two consumers, requests of a budget", spent, budget, "less"),
    ]


def watched(cluster: Cluster, ended: Callable[[], bool]) -> list[tuple[float, int]]:
    """How many requests the provider had counted, ten times a second, until something is so."""
    seen = []
    checked = 0.0
    while True:
        counted = cluster.asked(cluster.rehearsal_port, "/stats")
        now = time.monotonic()
        seen.append((now, int(counted["requests"])))
        if now - checked > 1.0:
            checked = now
            if ended():
                return seen
        time.sleep(0.1)


def windows(seen: Sequence[tuple[float, int]], length: float) -> tuple[float, float]:
    """The most that was counted in any window of so many seconds, and the mean of those in which
    there was work to the end (scaled to the length).
    """
    most = 0.0
    start = 0
    first = next(number for number, (_, count) in enumerate(seen) if count > seen[0][1])
    last = next(number for number, (_, count) in enumerate(seen) if count == seen[-1][1])
    for at, count in seen:
        while seen[start][0] < at - length:
            start += 1
        most = max(most, count - seen[start][1])
    (began, low), (over, high) = seen[first], seen[last]
    return most, (high - low) / max(0.1, over - began) * length


# The load


def load(folder: Path, quick: bool) -> list[Figure]:
    """How long status calls take while 200 clients poll and stream and a batch runs."""
    requests, clients, seconds = (5_000, 20, 5.0) if quick else (1_000_000, 200, 60.0)
    with serving(
        folder, CONSUMER, ("--latency", "200ms"), MODEL, limits=("--concurrency", "1024")
    ) as cluster:
        batch = ordered(cluster, inputs.requests_file(requests, named=True))
        cluster.wait(lambda: state(cluster, batch) == "in_progress", 300)
        before = told(cluster, batch)["request_counts"]["completed"]
        with ThreadPoolExecutor(2) as pool:
            polling = pool.submit(called, cluster, [batch], clients // 2, seconds)
            talking = pool.submit(called, cluster, ["--talk", MODEL], clients // 2, seconds)
            times, first = sorted(polling.result()), sorted(talking.result())
        done = told(cluster, batch)["request_counts"]["completed"] - before
        print(
            f"  {len(times):,} status calls, half within {statistics.median(times):.3f} s; "
            f"{len(first):,} answers streamed, half of the first pieces within "
            f"{statistics.median(first):.3f} s; {done / seconds:,.0f} requests/s of the batch"
        )
    inputs.remove_large()
    return [
        Figure("status calls, 99th percentile", times[int(len(times) * 0.99)], STATUS, "less", " s")
    ]


def called(cluster: Cluster, what: list[str], clients: int, seconds: float) -> list[float]:
    """Seconds of the calls that clients in a process of their own made (`drivers/clients.py`)."""
    command = [
        sys.executable, DRIVERS / "clients.py", f"http://127.0.0.1:{cluster.port}", *what,
        "--clients", str(clients), "--seconds", str(seconds),
    ]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "CLIENTS_KEY": cluster.key}, capture_output=True, check=True
    )
    found: list[float] = json.loads(done.stdout)
    return found
