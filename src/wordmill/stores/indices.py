"""The indices of Elasticsearch: what is in them, when new ones begin, which of them go.

    results   a document a line of a batch     events   a document for each thing that happened
    batches   a document a batch

All of it is made by the process that comes first; to make it again changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import orjson
from elastic_transport import ConnectionTimeout, TransportError
from elasticsearch import (
    ApiError,
    AuthenticationException,
    BadRequestError,
    Elasticsearch,
    UnsupportedProductError,
)

from wordmill.errors import ConfigError
from wordmill.stores.base import OPEN

SECONDS: Final = 30.0
"""That an answer may take."""
LONGEST: Final = 8000
"""Characters of a name by which a line is found."""
DAY: Final = 86400.0

_NAME: Final = {"type": "keyword", "ignore_above": LONGEST}
_KEPT: Final = {"type": "keyword", "index": False, "doc_values": False}
_MOMENT: Final = {"type": "date", "format": "epoch_millis"}
_WHOSE: Final = dict.fromkeys(("batch", "owner", "dataset", "source"), _NAME)

RESULTS: Final[Mapping[str, Any]] = {
    **_WHOSE,
    **dict.fromkeys(("custom_id", "status", "model"), _NAME),
    **{name: {"type": "long"} for name in ("line", "input_tokens", "output_tokens")},
    **{name: {"type": "integer"} for name in ("block", "attempts")},
    "ended": _MOMENT,
    **{name: {"type": "double"} for name in ("seconds", "money")},
    "cached": {"type": "boolean"},
    # Its words, made by `wordmill._engine.words`.
    "text": {"type": "text", "analyzer": "whitespace", "index_options": "docs", "norms": False},
    # Exactly as they were: not indexed field by field.
    "request": _KEPT,
    "result": _KEPT,
}
BATCHES: Final[Mapping[str, Any]] = {
    **_WHOSE,
    **dict.fromkeys(("state", "index"), _NAME),
    "forgotten": {"type": "boolean"},
    "configuration": {"type": "object", "enabled": False},
}
EVENTS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("batch", "owner", "kind", "source"), _NAME),
    "at": _MOMENT,
    "message": {"type": "text", "index": False},
    "detail": {"type": "object", "enabled": False},
}
_SETTINGS: Final = {
    "number_of_shards": 1,
    "auto_expand_replicas": "0-1",
    "refresh_interval": "30s",  # whoever looks asks for it; in between, writing is all that counts
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How large and old an index becomes before the next one begins."""

    documents: int = 50_000_000
    bytes: int = 30_000_000_000
    days: float = 30.0


class Indices:
    """Those of one prefix. Raises ApiError, TransportError."""

    def __init__(self, client: Elasticsearch, prefix: str, limits: Limits) -> None:
        self._client, self._limits = client, limits
        self.results, self.batches, self.events = (
            f"{prefix}-{name}" for name in ("results", "batches", "events")
        )

    def make(self) -> None:
        """All that is not there."""
        for alias, fields in ((self.results, RESULTS), (self.events, EVENTS)):
            mappings = {"dynamic": False, "properties": fields}
            self._client.indices.put_index_template(
                name=alias, index_patterns=[f"{alias}-*"], priority=500,
                template={"settings": _SETTINGS, "mappings": mappings},
            )  # fmt: skip
            if not self._client.indices.exists_alias(name=alias):
                found = sorted(self._client.indices.get(index=f"{alias}-*"))
                name = found[-1] if found else f"{alias}-000001"
                self._create(name)
                for one in {*found, name}:
                    self._client.indices.put_alias(
                        index=one, name=alias, is_write_index=one == name
                    )
            self._client.indices.put_mapping(index=alias, properties=fields)
        if not self._client.indices.exists(index=self.batches):
            self._create(self.batches, {"dynamic": False, "properties": BATCHES})
        self._client.indices.put_mapping(index=self.batches, properties=BATCHES)
        # Another process may have made them a moment ago.
        every = f"{self.results},{self.batches},{self.events}"
        self._client.cluster.health(index=every, wait_for_status="yellow", timeout="20s")

    def current(self, alias: str) -> str:
        """The index behind an alias that new things go to."""
        found = self._client.indices.get_alias(name=alias).body
        behind = {name: told["aliases"][alias] for name, told in found.items()}
        writing = [name for name, told in behind.items() if told.get("is_write_index")]
        return str(writing[0] if writing else max(behind))

    def ensure(self, index: str) -> None:
        """An index of results that a batch keeps to is there, and is searched."""
        self._create(index)
        if not self._client.indices.exists_alias(name=self.results, index=index):
            self._client.indices.put_alias(index=index, name=self.results, is_write_index=False)

    def _create(self, name: str, mappings: Mapping[str, Any] | None = None) -> None:
        """With its template's mapping, or with this one and the settings of all."""
        if self._client.indices.exists(index=name):
            return
        settings = None if mappings is None else _SETTINGS
        try:
            self._client.indices.create(index=name, mappings=mappings, settings=settings)
        except BadRequestError as error:
            if error.error != "resource_already_exists_exception":
                raise

    def roll(self) -> list[str]:
        """Begin the next index where one is large or old; the new ones."""
        limits = self._limits
        conditions = {
            "max_docs": limits.documents,
            "max_size": f"{limits.bytes}b",
            "max_age": f"{round(limits.days * DAY * 1000)}ms",
        }
        self._client.indices.refresh(index=f"{self.results},{self.events}")
        told = [
            self._client.indices.rollover(alias=alias, conditions=conditions)
            for alias in (self.results, self.events)
        ]
        return [one["new_index"] for one in told if one["rolled_over"]]

    def retain(self, before: float | None, documents: int | None) -> list[str]:
        """Remove indices whose last line is older, and the oldest beyond so many lines.

        One that new batches go to stays, and one to which the lines of a batch still come.
        """
        gone = []
        parts = self.parts()
        left = sum(one[1] for one in parts if one[0].startswith(f"{self.results}-"))
        for name, lines, _, open_ in parts:
            if open_:
                continue
            result = name.startswith(f"{self.results}-")
            last = self._last(name, "ended" if result else "at")
            old = before is not None and (last is None or last < before)
            many = result and documents is not None and left > documents
            if not (old or many) or (result and self._wanted(name)):
                continue
            if result:
                left -= lines
                self._forget(name)
            self._client.indices.delete(index=name, ignore_unavailable=True)
            gone.append(name)
        return gone

    def parts(self) -> list[tuple[str, int, int, bool]]:
        """Name, documents, bytes, whether new ones go there; the oldest first; not `batches`."""
        both = f"{self.results},{self.events}"
        self._client.indices.refresh(index=both)
        told = self._client.indices.stats(index=both, metric="docs,store")["indices"]
        open_ = {self.current(alias) for alias in (self.results, self.events)}
        return [
            (name, int(one["primaries"]["docs"]["count"]),
             int(one["primaries"]["store"]["size_in_bytes"]), name in open_)
            for name, one in sorted(told.items())
        ]  # fmt: skip

    def trouble(self) -> str:
        """What is wrong with the cluster, a sentence, or ""."""
        names = f"{self.results},{self.events},{self.batches}"
        blocked = self._client.indices.get_settings(
            index=names, name="index.blocks.*", flat_settings=True
        )
        for index, told in blocked.items():
            for block, on in told["settings"].items():
                if on == "true":
                    return _blocked(f"{index} has {block}")
        if self._client.cluster.health(index=names)["status"] == "red":
            return "A part of the index is not there (the cluster is red): see to its nodes."
        return ""

    def _last(self, index: str, name: str) -> float | None:
        told = self._client.search(
            index=index, size=0, aggregations={"last": {"max": {"field": name}}}
        )
        last = told["aggregations"]["last"]["value"]
        return None if last is None else float(last) / 1000

    def _wanted(self, index: str) -> bool:
        """Whether lines still come to an index."""
        self._client.indices.refresh(index=self.batches)
        still = {"bool": {"filter": [{"term": {"index": index}}, {"terms": {"state": list(OPEN)}}]}}
        return int(self._client.count(index=self.batches, query=still)["count"]) > 0

    def _forget(self, index: str) -> None:
        """Write down that the lines of the batches that are in it are not missing."""
        while True:
            self._client.indices.refresh(index=self.batches)
            found = self._client.search(
                index=self.batches, query={"term": {"index": index}}, size=1000, source=False
            )["hits"]["hits"]
            if not found:
                return
            doc = orjson.dumps({"doc": {"forgotten": True, "index": ""}})
            operations: list[Any] = []
            for one in found:
                operations += [orjson.dumps({"update": {"_id": one["_id"]}}), doc]
            self._client.bulk(index=self.batches, operations=operations)


def connected(url: str) -> Elasticsearch:
    """A client. Its errors hold no password. Raises ConfigError for what is no address."""
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError) as error:
        raise ConfigError(
            "elasticsearch_url must be an address, as https://user:password@host:9200."
        ) from error
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    user = None
    if parts.username is not None:
        user = (unquote(parts.username), unquote(parts.password or ""))
    return Elasticsearch(
        f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}",
        basic_auth=user, request_timeout=SECONDS, max_retries=1, retry_on_timeout=False,
        retry_on_status=(), http_compress=False, connections_per_node=16,
    )  # fmt: skip


def said(error: ApiError | TransportError | Mapping[str, Any]) -> str:
    """What went wrong, a sentence with what to do; a mapping is an item of a bulk's answer."""
    if isinstance(error, UnsupportedProductError):
        return (
            "What answers at elasticsearch_url is no Elasticsearch 8 or 9 (nor is OpenSearch one)."
        )
    if isinstance(error, ConnectionTimeout):
        return f"Elasticsearch gave no answer within {SECONDS:g} seconds."
    if isinstance(error, TransportError):
        return "Elasticsearch cannot be reached: is it running, and is elasticsearch_url right?"
    if isinstance(error, Mapping):
        status, told = error.get("status"), error.get("error", {})
    else:
        status = error.status_code
        told = error.body.get("error", {}) if isinstance(error.body, dict) else {}
    if not isinstance(told, Mapping):
        told = {"type": str(told)}
    kind, reason = told.get("type", ""), told.get("reason", "")
    if kind == "cluster_block_exception":
        return _blocked(reason)
    if isinstance(error, AuthenticationException) or status in (401, 403):
        return f"Elasticsearch refuses the user of elasticsearch_url ({status})."
    if status == 429:
        return "Elasticsearch has more to do than it can (429): it is tried again."
    if kind == "index_not_found_exception":
        return "The indices are gone: they are made again, and `wordmill index rebuild` fills them."
    return f"Elasticsearch: {status} {kind}: {reason}"[:1000].rstrip(": ") + "."


def _blocked(reason: str) -> str:
    if "flood-stage" in reason or "read_only_allow_delete" in reason:
        return (
            "Elasticsearch takes no documents: its disk is nearly full. Free some of it, or let "
            "go of old lines (`wordmill index retain`); it goes on by itself."
        )
    return f"Elasticsearch takes no documents: the index is read-only ({reason.strip('.;[] ')})."
