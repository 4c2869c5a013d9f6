"""What can be asked and ordered beside answers: loaded models, their figures, load, unload, pin."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from wordmill.model_server import memory
from wordmill.model_server.metrics import shown
from wordmill.model_server.pool import Pool
from wordmill.model_server.served import Refused, Served

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"
ORDERS: Final = ("load", "unload", "restart", "pin", "unpin")


class Admin:
    """Answers of `/metrics` and `/admin/...`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def answer(
        self, method: str, path: str, query: bytes, body: bytes
    ) -> tuple[int, bytes, bytes]:
        """Status, content and content type. Raises Refused.

        GET /admin/models; GET /admin/metrics?model=&since=; GET /metrics for Prometheus;
        POST /admin/{load,unload,restart,pin,unpin} with `{"model": NAME}`. `restart` takes what
        the name means now, and loses no request; `load` is also what warms a model up.
        """
        if method == "GET" and path == "/metrics":
            return 200, self._pool.metrics.prometheus(self._gauges()).encode(), TEXT
        if method == "GET" and path == "/admin/models":
            return 200, orjson.dumps(self._all()), JSON
        if method == "GET" and path == "/admin/metrics":
            asked = parse_qs(query.decode("latin-1"))
            return 200, orjson.dumps(self._history(asked)), JSON
        order = path.removeprefix("/admin/")
        if method == "POST" and order in ORDERS:
            return 200, orjson.dumps(await self._do(order, _name(body))), JSON
        raise Refused(f"There is no {method} {path} here.", 404, None)

    async def _do(self, order: str, name: str) -> Mapping[str, Any]:
        pool = self._pool
        if order == "unload":
            unloaded = await asyncio.shield(pool.unload(name))
            return {"model": name, "unloaded": unloaded}
        if order == "load":
            served = await asyncio.shield(pool.load(name))
        elif order == "restart":
            served = await asyncio.shield(pool.swap(name))
        else:
            served = await pool.model(name)
            served.pinned = order == "pin"
            if order == "pin":
                await asyncio.shield(pool.load(name))
        return self._one(served)

    def _all(self) -> Mapping[str, Any]:
        models = [self._one(served) for _, served in sorted(self._pool.models.items())]
        return {
            "models": models,
            "memory": self._pool.used(),
            "memory_ceiling": self._pool.limits.memory,
            "memory_free": memory.free(),
        }

    def _one(self, served: Served) -> dict[str, Any]:
        worker = served.worker
        told = {} if worker is None else {**worker.told, "port": None}
        latest = self._pool.metrics.history(served.name)[-1:]
        return {
            "name": served.name,
            "state": served.state,
            "trouble": served.trouble,
            "pinned": served.pin,
            "pid": None if worker is None else worker.pid,
            "since": None if worker is None else worker.since,
            "engine": told.get("engine"),
            "why": "" if worker is None else worker.model.why,
            "device": told.get("device"),
            "dtype": told.get("dtype"),
            "context": told.get("context"),
            "slots": 0 if worker is None else worker.slots,
            "running": served.running,
            "waiting": len(served.queue),
            "workers": len(served.processes),
            "memory": sum(one.resident() for one in served.processes),
            "load_seconds": served.load_seconds,
            "answer_seconds": served.answer_seconds,
            "now": latest[0] if latest else None,
            "total": shown(self._pool.metrics.total(served.name)),
        }

    def _history(self, asked: Mapping[str, list[str]]) -> Mapping[str, Any]:
        try:
            since = float(asked.get("since", ["0"])[0])
        except ValueError as error:
            raise Refused("`since` is a number of Unix seconds.", 400, None) from error
        names = asked.get("model") or sorted(self._pool.models)
        metrics = self._pool.metrics
        return {
            name: {
                "history": metrics.history(name, since),
                "people": metrics.people(name),
                "total": shown(metrics.total(name)),
            }
            for name in names
        }

    def _gauges(self) -> Mapping[str, Mapping[str, float]]:
        models = self._pool.models.items()
        return {
            "loaded": {name: float(one.worker is not None) for name, one in models},
            "running": {name: float(one.running) for name, one in models},
            "waiting": {name: float(len(one.queue)) for name, one in models},
            "slots": {name: float(one.worker.slots if one.worker else 0) for name, one in models},
            "memory_bytes": {
                name: float(sum(each.resident() for each in one.processes)) for name, one in models
            },
            "batch": self._latest("batch"),
            "cache_use": self._latest("cache"),
        }

    def _latest(self, what: str) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for name in self._pool.models:
            samples = self._pool.metrics.history(name)
            if samples and samples[-1].get(what) is not None:
                found[name] = float(samples[-1][what])
        return found


def _name(body: bytes) -> str:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"The body is not JSON: {error}.", 400, None) from error
    name = told.get("model") if isinstance(told, dict) else None
    if not isinstance(name, str):
        raise Refused("The body must be an object with the name of a model.", 400, None)
    return name
