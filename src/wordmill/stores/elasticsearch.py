"""An index of results in Elasticsearch: plain indices behind aliases, for all processes together.

    <prefix>-results-000001 ...   a document a line, <batch>-<line>; alias <prefix>-results
    <prefix>-batches              a document a batch: state, labels, configuration, index
    <prefix>-events-000001 ...    what happened; alias <prefix>-events

A batch keeps to the index that it began with, so that a repeat overwrites itself after a roll-over.
Scripts, lifecycle policies, data streams and delete-by-query are not asked for, so that any build
of Elasticsearch does.

The client is that of version 8: it asks for answers as 8 gives them, which 8 and 9 both do, where
9's own client is refused by 8. `indices` has the mappings and the life of indices.
"""

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import orjson
from elastic_transport import TransportError
from elasticsearch import ApiError, ConflictError, NotFoundError
from elasticsearch import Elasticsearch as Client

from wordmill._engine import words
from wordmill.errors import StorageError
from wordmill.stores.base import (
    PERCENTILES,
    Entry,
    Event,
    Hit,
    Json,
    Kind,
    Part,
    Point,
    Query,
    Scope,
    Standing,
    Statistics,
    Store,
    Whose,
    excerpt,
    stretch,
    text_of,
)
from wordmill.stores.indices import Indices, Limits, connected, said

PIECE: Final = 4 << 20
"""Bytes of documents that are sent at once."""
TRIES: Final = 5
PAGE: Final = 5000
BUSY: Final = (429, 503)

_SHOWN: Final = (
    "batch", "line", "custom_id", "status", "model", "ended", "seconds", "attempts", "cached",
    "block",
)  # fmt: skip


class Elasticsearch(Store):
    """See the module.

    url: with user and password where they are wanted.  prefix: of the names of all indices.
    fed: consumers write the lines themselves.
    """

    shared = True

    def __init__(
        self, url: str, prefix: str = "wordmill", *, fed: bool = False, limits: Limits | None = None
    ) -> None:
        self.fed = fed
        self._client = connected(url)
        self._indices = Indices(self._client, prefix, limits or Limits())
        self._ready = False
        self._making = threading.Lock()
        self._places: dict[str, str] = {}
        self._unseen: set[str] = set()
        """Aliases behind which something was written that a search does not see yet."""

    def open(self) -> None:
        """See Store."""
        self._doubt()
        with self._asked():
            pass

    def close(self) -> None:
        """See Store."""
        self._client.close()

    def place(self, whose: Whose) -> str:
        """See Store."""
        with self._asked() as client:
            known = self._places.get(whose.batch)
            if known is not None and whose.index in ("", known):
                return known
            found = self._described(client, whose.batch).get("index") or whose.index
            if not found:
                found = self._indices.current(self._indices.results)
            self._indices.ensure(found)
            head = {**_labels(whose), "index": found}
            try:
                client.create(index=self._indices.batches, id=whose.batch, document=head)
            except ConflictError:
                # Somebody else was first, or it is there without an index: what is there holds.
                there = self._described(client, whose.batch).get("index")
                if there:
                    found = there
                else:
                    client.update(index=self._indices.batches, id=whose.batch, doc=head)
            self._places[whose.batch] = found
            return found

    def describe(self, whose: Whose, state: str, facts: Json) -> None:
        """See Store."""
        doc = {**_labels(whose), "state": state, "configuration": dict(facts)}
        with self._asked() as client:
            client.update(
                index=self._indices.batches, id=whose.batch, doc=doc, doc_as_upsert=True,
                retry_on_conflict=5,
            )  # fmt: skip

    def add(self, whose: Whose, block: int, entries: Sequence[Entry]) -> None:
        """See Store."""
        index = self.place(whose)
        labels = _labels(whose)
        with self._asked() as client:
            made = (
                (orjson.dumps({"create": {"_id": f"{whose.batch}-{one.line}"}}),
                 orjson.dumps(labels | _document(one)))
                for one in entries
            )  # fmt: skip
            for some in _pieces(made):
                _told(client, index, some)
            self._unseen.add(self._indices.results)

    def count(self, owner: str, batch: str) -> int:
        """See Store."""
        with self._asked() as client:
            client.indices.refresh(index=self._indices.results)
            found = client.count(index=self._indices.results, query=_of(owner, batch))
            return int(found["count"])

    def blocks(self, owner: str, batch: str) -> Mapping[int, int]:
        """See Store."""
        found: dict[int, int] = {}
        with self._asked() as client:
            client.indices.refresh(index=self._indices.results)
            by: dict[str, Any] = {
                "size": PAGE,
                "sources": [{"block": {"terms": {"field": "block"}}}],
            }
            while True:
                told = client.search(
                    index=self._indices.results, query=_of(owner, batch), size=0,
                    aggregations={"blocks": {"composite": by}},
                )["aggregations"]["blocks"]  # fmt: skip
                for bucket in told["buckets"]:
                    found[bucket["key"]["block"]] = bucket["doc_count"]
                if "after_key" not in told:
                    return found
                by["after"] = told["after_key"]

    def search(
        self, scope: Scope, query: Query, *, after: tuple[str, int] | None = None, limit: int = 50
    ) -> list[Hit]:
        """See Store."""
        wanted = query.words()
        must = [{"term": {"owner": scope.owner}}, *_conditions(query, wanted)]
        labels = {name: getattr(scope, name) for name in ("batch", "dataset", "source")}
        must += [{"term": {name: one}} for name, one in labels.items() if one is not None]
        with self._asked(self._indices.results) as client:
            found = client.search(
                index=self._indices.results, query={"bool": {"filter": must}}, size=limit,
                sort=[{"batch": "desc"}, {"line": "asc"}], search_after=after and list(after),
                source_includes=[*_SHOWN, "request", "result"], track_total_hits=False,
            )  # fmt: skip
        return [_hit(one["_source"], wanted) for one in found["hits"]["hits"]]

    def whole(self, owner: str, batch: str, line: int) -> tuple[str, str] | None:
        """See Store."""
        query = _of(owner, batch, {"term": {"line": line}})
        with self._asked(self._indices.results) as client:
            found = client.search(
                index=self._indices.results,
                query=query,
                size=1,
                source_includes=["request", "result"],
            )["hits"]["hits"]
        return (found[0]["_source"]["request"], found[0]["_source"]["result"]) if found else None

    def statistics(self, owner: str, batch: str) -> Statistics:
        """See Store."""
        sums = ("input_tokens", "output_tokens", "money")
        sent = [{"range": {"attempts": {"gt": 0}}}]
        asked: dict[str, Any] = {
            **{name: {"sum": {"field": name}} for name in sums},
            "cached": {"filter": {"term": {"cached": True}}},
            "sent": {
                "filter": {"bool": {"filter": sent}},
                "aggs": {"attempts": {"sum": {"field": "attempts"}}},
            },
            "slow": {
                "filter": {"bool": {"filter": [*sent, {"term": {"cached": False}}]}},
                "aggs": {"seconds": _percentiles(PERCENTILES)},
            },
            "status": {"terms": {"field": "status", "size": 1000}},
            "model": {"terms": {"field": "model", "size": 1000}},
        }
        with self._asked(self._indices.results) as client:
            told = client.search(
                index=self._indices.results, query=_of(owner, batch), size=0, aggregations=asked,
                track_total_hits=True,
            )  # fmt: skip
        lines, found = int(told["hits"]["total"]["value"]), told["aggregations"]
        statuses, models = (_counts(found[name]) for name in ("status", "model"))
        completed = statuses.pop("ok", 0)
        models.pop("", None)
        tried = found["sent"]
        return Statistics(
            lines=lines,
            completed=completed,
            failed=lines - completed,
            cached=found["cached"]["doc_count"],
            retried=int(tried["attempts"]["value"]) - tried["doc_count"],
            input_tokens=int(found["input_tokens"]["value"]),
            output_tokens=int(found["output_tokens"]["value"]),
            money=float(found["money"]["value"]),
            latency={
                round(float(one["key"])): float(one["value"])
                for one in found["slow"]["seconds"]["values"]
                if one["value"] is not None
            },
            causes=statuses,
            models=models,
        )

    def series(self, owner: str, batch: str, points: int = 60) -> list[Point]:
        """See Store."""
        query, index = _of(owner, batch), self._indices.results
        ends = {"first": {"min": {"field": "ended"}}, "last": {"max": {"field": "ended"}}}
        with self._asked(index) as client:
            told = client.search(index=index, query=query, size=0, aggregations=ends)
            first, last = (told["aggregations"][name]["value"] for name in ("first", "last"))
            if first is None:
                return []
            step = stretch(int(first), int(last), points)
            stretches = {
                "date_histogram": {
                    "field": "ended", "fixed_interval": f"{step}ms",
                    "offset": f"+{int(first) % step}ms", "min_doc_count": 1,
                },
                "aggs": {
                    **{
                        name: {"sum": {"field": name}}
                        for name in ("input_tokens", "output_tokens", "money")
                    },
                    "completed": {"filter": {"term": {"status": "ok"}}},
                    "seconds": _percentiles((50, 95)),
                },
            }  # fmt: skip
            told = client.search(
                index=index, query=query, size=0, aggregations={"stretches": stretches}
            )
        return [_point(one) for one in told["aggregations"]["stretches"]["buckets"]]

    def note(self, whose: Whose, events: Sequence[Event]) -> None:
        """See Store."""
        made = map(_telling, (_noted(whose, one) for one in events))
        with self._asked() as client:
            for some in _pieces(made):
                _told(client, self._indices.events, some)
            self._unseen.add(self._indices.events)

    def events(
        self,
        owner: str,
        batch: str,
        *,
        after: str = "",
        limit: int = 100,
        kinds: Sequence[Kind] = (),
        newest: bool = False,
    ) -> list[Event]:
        """See Store."""
        more = [{"terms": {"kind": list(kinds)}}] if kinds else []
        order = "desc" if newest else "asc"
        with self._asked(self._indices.events) as client:
            found = client.search(
                index=self._indices.events, query=_of(owner, batch, *more), size=limit,
                sort=[{"at": order}, {"_seq_no": {"order": order, "unmapped_type": "long"}}],
                search_after=[int(one) for one in after.split("-")] if after else None,
                track_total_hits=False,
            )["hits"]["hits"]  # fmt: skip
        events = [_event(one["_source"], one["sort"]) for one in found]
        return events[::-1] if newest else events

    def forgotten(self, batch: str) -> bool:
        """See Store."""
        with self._asked() as client:
            return bool(self._described(client, batch).get("forgotten"))

    def remember(self, batch: str) -> None:
        """See Store."""
        if self.forgotten(batch):
            with self._asked() as client:
                client.update(index=self._indices.batches, id=batch, doc={"forgotten": False})

    def retain(self, before: float | None, documents: int | None) -> list[str]:
        """See Store."""
        with self._asked():
            gone = self._indices.retain(before, documents)
            self._places.clear()
            return gone

    def roll(self) -> list[str]:
        """See Store."""
        with self._asked():
            return self._indices.roll()

    def standing(self) -> Standing:
        """See Store."""
        with self._asked():
            parts = [Part(*one) for one in self._indices.parts()]
            return Standing("Elasticsearch", parts, self._indices.trouble())

    def remove(self, batch: str) -> None:
        """See Store."""
        self._places.pop(batch, None)
        with self._asked() as client:
            for alias in (self._indices.results, self._indices.events):
                client.indices.refresh(index=alias)
                self._delete(client, alias, {"term": {"batch": batch}})
            client.options(ignore_status=404).delete(index=self._indices.batches, id=batch)

    def _delete(self, client: Client, alias: str, query: Json) -> None:
        """What fits goes, a page at a time, of the moment at which this began."""
        moment = client.open_point_in_time(index=alias, keep_alive="2m")["id"]
        try:
            last: list[Any] | None = None
            while True:
                page = client.search(
                    pit={"id": moment, "keep_alive": "2m"}, query=query, size=PAGE, source=False,
                    sort=["_shard_doc"], search_after=last, track_total_hits=False,
                )["hits"]["hits"]  # fmt: skip
                if not page:
                    return
                ids = ({"_index": one["_index"], "_id": one["_id"]} for one in page)
                gone = [(orjson.dumps({"delete": one}), b"") for one in ids]
                _told(client, None, gone)
                self._unseen.add(alias)
                last = page[-1]["sort"]
        finally:
            client.close_point_in_time(id=moment)

    def _described(self, client: Client, batch: str) -> dict[str, Any]:
        try:
            found = client.get(index=self._indices.batches, id=batch)
        except NotFoundError as error:
            if "found" in error.body:
                return {}
            raise
        return dict(found["_source"])

    @contextmanager
    def _asked(self, alias: str | None = None) -> Iterator[Client]:
        """The client; what goes wrong is said in words.

        alias: what is read, in which all shall be seen that was written here.
        """
        try:
            if not self._ready:
                with self._making:
                    self._indices.make()
                    self._ready = True
            if alias in self._unseen:
                self._unseen.discard(alias)
                self._client.indices.refresh(index=alias)
            yield self._client
        except StorageError:
            self._doubt()
            raise
        except (ApiError, TransportError) as error:
            self._doubt()
            raise StorageError(said(error)) from error

    def _doubt(self) -> None:
        """Indices may have been removed, or this is another cluster: look again at the next use."""
        self._ready = False
        self._places.clear()


def _labels(whose: Whose) -> dict[str, Any]:
    made = {"batch": whose.batch, "owner": whose.owner}
    for name in ("dataset", "source"):
        if (value := getattr(whose, name)) is not None:
            made[name] = value
    return made


def _document(one: Entry) -> dict[str, Any]:
    return {
        "custom_id": one.custom_id, "status": one.status, "model": one.model, "line": one.line,
        "block": one.block, "attempts": one.attempts, "input_tokens": one.input_tokens,
        "output_tokens": one.output_tokens, "ended": round(one.ended * 1000),
        "seconds": one.seconds, "money": one.money, "cached": one.cached,
        "request": one.request, "result": one.result, "text": words(one.text),
    }  # fmt: skip


def _of(owner: str, batch: str, *more: Json) -> dict[str, Any]:
    return {"bool": {"filter": [{"term": {"owner": owner}}, {"term": {"batch": batch}}, *more]}}


def _conditions(query: Query, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    if wanted:
        yield {"match": {"text": {"query": " ".join(wanted), "operator": "and"}}}
    for name in ("status", "model", "custom_id"):
        if (value := getattr(query, name)) is not None:
            yield {"term": {name: value}}
    if query.failed is not None:
        good = {"term": {"status": "ok"}}
        yield {"bool": {"must_not": good}} if query.failed else good
    between = {"gte": query.since, "lte": query.until}
    asked = {name: round(value * 1000) for name, value in between.items() if value is not None}
    if asked:
        yield {"range": {"ended": {**asked, "format": "epoch_millis"}}}


def _hit(found: Mapping[str, Any], wanted: Sequence[str]) -> Hit:
    text = text_of(found["request"].encode(), orjson.loads(found["result"]))
    return Hit(
        batch=found["batch"], line=found["line"], custom_id=found["custom_id"],
        status=found["status"], model=found["model"], ended=found["ended"] / 1000,
        seconds=found["seconds"], attempts=found["attempts"], cached=found["cached"],
        block=found["block"], excerpt=excerpt(text, wanted),
    )  # fmt: skip


def _point(bucket: Mapping[str, Any]) -> Point:
    lines, completed = bucket["doc_count"], bucket["completed"]["doc_count"]
    half, most = (float(one["value"]) for one in bucket["seconds"]["values"])
    return Point(
        at=bucket["key"] / 1000, completed=completed, failed=lines - completed,
        input_tokens=int(bucket["input_tokens"]["value"]),
        output_tokens=int(bucket["output_tokens"]["value"]),
        money=float(bucket["money"]["value"]), p50=half, p95=most,
    )  # fmt: skip


def _noted(whose: Whose, one: Event) -> bytes:
    return orjson.dumps({
        "batch": whose.batch, "owner": whose.owner, "at": round(one.at * 1000), "kind": one.kind,
        "source": one.source, "message": one.message, "detail": one.detail,
    })  # fmt: skip


def _telling(document: bytes) -> "Told":
    """Known by what is in it, so that it is there once when it is told twice."""
    name = hashlib.sha256(document).hexdigest()[:32]
    return orjson.dumps({"create": {"_id": name}}), document


def _event(found: Mapping[str, Any], place: Sequence[int]) -> Event:
    return Event(
        at=found["at"] / 1000, kind=cast(Kind, found["kind"]), source=found.get("source", ""),
        message=found.get("message", ""), detail=found.get("detail") or {},
        cursor="-".join(map(str, place)),
    )  # fmt: skip


def _percentiles(wanted: Sequence[int]) -> dict[str, Any]:
    return {"percentiles": {"field": "seconds", "percents": list(wanted), "keyed": False}}


def _counts(terms: Mapping[str, Any]) -> dict[str, int]:
    return {bucket["key"]: bucket["doc_count"] for bucket in terms["buckets"]}


Told = tuple[bytes, bytes]
"""What is to be done, and the document (empty where there is none)."""


def _pieces(made: Iterator[Told]) -> Iterator[list[Told]]:
    some: list[Told] = []
    size = 0
    for one in made:
        some.append(one)
        size += len(one[1])
        if size > PIECE:
            yield some
            some, size = [], 0
    if some:
        yield some


def _told(client: Client, index: str | None, waiting: Sequence[Told]) -> None:
    """Have documents written or removed. What is there already, or gone, is well.

    Those that Elasticsearch has no room for now go again, some times. Raises StorageError for one
    that it will never take, ApiError.
    """
    pause = 0.1
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause)
            pause *= 2
        operations: list[Any] = [part for one in waiting for part in one if part]
        try:
            reply = client.bulk(
                index=index, operations=operations,
                filter_path="errors,items.*.status,items.*.error.type,items.*.error.reason",
            )  # fmt: skip
        except ApiError as error:
            if error.status_code in BUSY and attempt + 1 < TRIES:
                continue
            raise
        if not reply["errors"]:
            return
        again, why = [], {}
        for one, item in zip(waiting, reply["items"], strict=True):
            (told,) = item.values()
            if told["status"] < 300 or told["status"] == 409 or "error" not in told:
                continue
            if told["status"] not in BUSY:
                raise StorageError(said(told))
            again.append(one)
            why = told
        if not again:
            return
        waiting = again
    raise StorageError(said(why))
