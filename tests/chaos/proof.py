"""What must be true when the last blow has fallen."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psycopg
import redis as redis_client

from tests.servers.cluster import PROVIDER_KEY, Cluster

# Seconds in which a block that came twice must be seen for what it is.
DRAINED = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """repeated: requests that the provider got beyond those that the records tell of."""

    answered: int
    failed: int
    sent: int
    repeated: int

    def __str__(self) -> str:
        return (
            f"{self.answered:,} answered, {self.failed:,} failed by name; "
            f"{self.sent:,} requests sent, {self.repeated:,} of them again after a kill"
        )


def look(cluster: Cluster, expected: Iterable[str], batch: str, files: list[bytes]) -> Found:
    """Check all of it. Raises AssertionError, with what is wrong."""
    records = [json.loads(line) for data in files for line in data.splitlines()]
    once(expected, records)
    indexed(cluster, batch, records)
    nothing_left(cluster)
    nothing_told(cluster)
    stats = cluster.asked(cluster.rehearsal_port, "/stats")
    sent = int(stats["requests"])
    failed = sum(one["error"] is not None for one in records)
    told = sum(one["wordmill"]["attempts"] for one in records)
    return Found(len(records) - failed, failed, sent, sent - told)


def once(expected: Iterable[str], records: list[dict[str, Any]]) -> None:
    """Every custom_id has exactly one record."""
    counts = Counter(one["custom_id"] for one in records)
    wanted = set(expected)
    lost, twice = wanted - counts.keys(), [name for name, times in counts.items() if times > 1]
    odd = counts.keys() - wanted
    assert not lost, f"{len(lost):,} are lost, as {sorted(lost)[:3]}"
    assert not twice, f"{len(twice):,} are there twice, as {sorted(twice)[:3]}"
    assert not odd, f"nobody asked for {sorted(odd)[:3]}"


def indexed(cluster: Cluster, batch: str, records: list[dict[str, Any]]) -> None:
    """Elasticsearch has the same results, each once."""
    _search(cluster, "/wordmill-results/_refresh", {})
    here = {
        hit["line"]: json.loads(hit["result"]) for hit in _all(cluster, "wordmill-results", batch)
    }
    assert len(here) == len(records), f"{len(here):,} in the index, {len(records):,} in the files"
    for one in records:
        assert here[one["wordmill"]["line"]] == one, f"another answer in the index: {one}"


def nothing_left(cluster: Cluster) -> None:
    """No file in the making, no message, no budget that somebody still holds."""
    parts = [path for path in cluster.home.rglob("*") if path.suffix == ".part"]
    assert not parts, f"left behind: {parts[:3]}"
    with suppress(TimeoutError):
        cluster.wait(lambda: not _messages(cluster), DRAINED)
    assert not (waiting := _messages(cluster)), f"messages are left: {waiting}"
    with psycopg.connect(cluster.servers["database"]) as connection:
        held = connection.execute("SELECT count(*) FROM grants").fetchone()
        open_blocks = connection.execute("SELECT count(*) FROM blocks WHERE NOT done").fetchone()
    assert held == (0,), f"{held} grants are left"
    assert open_blocks == (0,), f"{open_blocks} blocks are open"


def _messages(cluster: Cluster) -> list[str]:
    """Queues that hold any: a block that came twice is looked up once more, after the last."""
    rows = cluster.servers["broker"].control("list_queues", "messages", "name")
    return [line for line in rows.splitlines() if line[:1].isdigit() and line[0] != "0"]


def nothing_told(cluster: Cluster) -> None:
    """The provider's key is in no store and in no log."""
    secret = PROVIDER_KEY.encode()
    told = [name for name, data in _everything(cluster) if secret in data]
    assert not told, f"the provider's key is in {told[:5]}"


def _everything(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    for path in (path for path in cluster.folder.rglob("*") if path.is_file()):
        yield str(path), path.read_bytes()
    with psycopg.connect(cluster.servers["database"]) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        for (name,) in tables:
            for (row,) in connection.execute(f'SELECT t::text FROM "{name}" t'):  # type: ignore[arg-type]
                yield f"table {name}", row.encode()
    for index in ("wordmill-results", "wordmill-events", "wordmill-batches"):
        for hit in _all(cluster, index):
            yield f"index {index}", json.dumps(hit).encode()
    with redis_client.from_url(cluster.servers["redis"].url) as client:
        for key in client.scan_iter():
            yield f"Redis {key!r}", key + (client.dump(key) or b"")


def _all(cluster: Cluster, index: str, batch: str | None = None) -> Iterator[dict[str, Any]]:
    """All documents of an index, or those of a batch."""
    after: list[Any] | None = None
    point = _search(cluster, f"/{index}/_pit?keep_alive=2m", {})["id"]
    query = {"match_all": {}} if batch is None else {"term": {"batch": batch}}
    while True:
        body = {
            "size": 2000, "query": query, "pit": {"id": point, "keep_alive": "2m"},
            "sort": [{"_shard_doc": "asc"}], "track_total_hits": False,
        }  # fmt: skip
        found = _search(cluster, "/_search", body | ({"search_after": after} if after else {}))
        hits = found["hits"]["hits"]
        if not hits:
            return
        yield from (hit["_source"] for hit in hits)
        after = hits[-1]["sort"]


def _search(cluster: Cluster, path: str, body: dict[str, Any]) -> Any:
    request = Request(
        cluster.servers["elasticsearch"].url + path,
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def requests(path: Path, count: int) -> list[str]:
    """Write a file of requests; their names."""
    names = [f"line-{number:06}" for number in range(count)]
    with path.open("w") as file:
        for name in names:
            body = {
                "model": "mock",
                "messages": [{"role": "user", "content": f"Say something about {name}."}],
                "max_tokens": 30,
            }
            file.write(json.dumps({"custom_id": name, "body": body}) + "\n")
    return names
