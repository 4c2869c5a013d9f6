"""Whether the server lives, and whether it can do its work."""

import hmac
import json
import shutil

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from sqlalchemy import text

from wordmill.channels.api.auth import house_of
from wordmill.channels.house import House
from wordmill.channels.rooms.accounts import ChannelAccounts
from wordmill.errors import Unauthenticated, WordmillError

router = APIRouter(tags=["Health"])

LEAST_FREE = 50_000_000
"""Bytes of disk below which the server is not ready."""


@router.get("/health/live")
def live() -> dict[str, str]:
    """It answers."""
    return {"status": "ok"}


@router.get("/health/ready")
def ready(request: Request) -> JSONResponse:
    """It can work: database, disk, workers. 503 when not; a model or a door in trouble, or a Redis
    that is away, only degrades it.
    """
    house, checks = house_of(request), {}
    try:
        with house.database.read() as connection:
            connection.execute(text("SELECT 1"))
        checks["database"] = "ok"
    except WordmillError as error:
        checks["database"] = str(error)
    free = shutil.disk_usage(house.settings.home).free
    checks["disk"] = "ok" if free > LEAST_FREE else f"{free / 1e6:.0f} MB are free"
    checks["jobs"] = "ok" if house.working else "the workers have ended"
    bad = {name: words for name, words in checks.items() if words != "ok"}
    models, channels = house.trouble(), house.troubled_channels()
    sharing = house.sharing.trouble()
    if house.sharing.configured:
        checks["sharing"] = sharing or "ok"
    status = "unready" if bad else "degraded" if models or channels or sharing else "ok"
    shown = {"status": status, "checks": checks, "models": models, "channels": channels}
    if not bad and (rooms := _rooms(house)):
        shown["rooms"] = rooms
    return JSONResponse(shown, 503 if bad else 200)


def _rooms(house: House) -> dict[str, dict[str, object]]:
    """How each channel into chat rooms is, as it says itself."""
    told = ("connected", "last_event", "encryption", "waiting")
    return {
        one.name: {"kind": one.kind, "running": one.running}
        | {name: one.status.get(name) for name in told}
        for one in ChannelAccounts(house.database, house.settings).listed()
    }


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> PlainTextResponse:
    """For Prometheus, with the setting `metrics_token` as its bearer; 401 while that is not set."""
    house = house_of(request)
    _, _, given = request.headers.get("authorization", "").partition(" ")
    token = house.settings.metrics_token
    if not token or not hmac.compare_digest(given.encode(), token.encode()):
        raise Unauthenticated("Metrics need the setting metrics_token as a bearer token.")
    registry = CollectorRegistry()
    for name, (help_, labels, values) in _readings(house).items():
        gauge = Gauge(f"wordmill_{name}", help_, labels, registry=registry)
        for label, value in values:
            (gauge.labels(*label) if label else gauge).set(value)
    return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


Readings = list[tuple[tuple[str, ...], float]]
"""Values of labels, and what was read for them."""


def _readings(house: House) -> dict[str, tuple[str, list[str], Readings]]:
    """name -> (help, labels, readings): what the engines and the jobs say now."""
    shown = ("sent", "done", "in_flight", "queued", "backed_off", "p50", "p95")
    lanes: dict[str, Readings] = {name: [] for name in shown}
    for lane in house.completions.lanes.all():
        for model, counts in json.loads(lane.engine.metrics())["lanes"].items():
            for name in shown:
                lanes[name].append(((model,), float(counts[name] or 0)))
    readings = {
        f"model_{name}": (f"{name} of each model's open engines", ["model"], values)
        for name, values in lanes.items()
    }
    for name, count in house.sharing.counts().items():
        help_ = f"what this process shares in Redis: {name}"
        readings[f"sharing_{name}"] = (help_, [], [((), count)])
    jobs: Readings = [((kind, state), float(count)) for kind, state, count in house.jobs.counts()]
    return {**readings, "jobs": ("jobs by kind and state", ["kind", "state"], jobs)}
