"""Engines for single requests, kept open: one for each model as somebody reaches it.

Two people who reach a model with the same key share its engine, and so its limits and its breaker;
somebody with a key of their own has an engine of their own. One that has not been used for a while
is closed.
"""

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

from wordmill._engine import Engine, EngineFault
from wordmill.accounts import catalog_of
from wordmill.database import Database
from wordmill.errors import EngineError
from wordmill.providers.base import Provider
from wordmill.settings import Settings
from wordmill.sharing import shared

IDLE: Final = 300.0
"""Seconds after which an unused engine is closed."""


@dataclass
class Lane:
    """A model as somebody reaches it. `providers`: by name, the model's own and its fallbacks'."""

    model: str
    engine: Engine
    providers: dict[str, Provider]
    used: float = field(default_factory=time.monotonic)
    users: int = 0

    @property
    def provider(self) -> Provider:
        """Of the model itself."""
        return self.providers[self.model]


class Lanes:
    """The open engines. Safe from any thread."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._lock = threading.Lock()
        self._open: dict[str, Lane] = {}

    def take(self, person: str, model: str) -> Lane:
        """The lane of a person's requests to a model; give it back with `release`.

        Raises UnknownName, ConfigError, KeyMissing, EngineError.
        """
        catalog = catalog_of(self._database, self._settings, person)
        providers = {one.name: catalog.provider(one.name) for one in catalog.chain(model)}
        config = json.dumps(
            {
                "records": None,
                "cache": None,
                "owner": person,
                "shared": shared(self._settings, answers=False),
                "lanes": [self._unhurried(provider.lane()) for provider in providers.values()],
            }
        )
        reached = json.dumps([model, json.loads(config)["lanes"]], sort_keys=True)
        with self._lock:
            self._close_idle()
            lane = self._open.get(reached)
            if lane is None:
                try:
                    engine = Engine(config)
                except EngineFault as fault:
                    raise EngineError(f"The engine cannot start: {fault}") from fault
                lane = self._open[reached] = Lane(model, engine, providers)
            lane.users += 1
            lane.used = time.monotonic()
            return lane

    def _unhurried(self, lane: dict[str, Any]) -> dict[str, Any]:
        """A run finds out by and by how much a server takes; here somebody waits for each answer,
        and a request is not held back on a guess. What a person has set holds.
        """
        return {**lane, "concurrency": lane["concurrency"] or self._settings.max_concurrency}

    def release(self, lane: Lane) -> None:
        """No longer needed, for now."""
        with self._lock:
            lane.users -= 1
            lane.used = time.monotonic()

    def all(self) -> list[Lane]:
        """Those that are open."""
        with self._lock:
            return list(self._open.values())

    def close(self) -> None:
        """Close all; what is on its way ends."""
        with self._lock:
            for lane in self._open.values():
                lane.engine.close()
            self._open.clear()

    def _close_idle(self) -> None:
        now = time.monotonic()
        old = [key for key, lane in self._open.items() if not lane.users and now - lane.used > IDLE]
        for key in old:
            self._open.pop(key).engine.close()
