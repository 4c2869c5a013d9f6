"""The rehearsal model: an OpenAI-compatible server of our own, started when it is first needed.

One server a process, on a port that the system chose, without network, weights or key. It is
spoken to like any other server. Its answers are remembered under a name, not under the port.
"""

import atexit
import json
from threading import Lock
from typing import TYPE_CHECKING

from wordmill.providers.base import Credential
from wordmill.providers.openai import OpenAI

if TYPE_CHECKING:
    from wordmill._engine import Rehearsal

IDENTITY = "rehearsal:"


class RehearsalProvider(OpenAI):
    """Nobody thinks here; nothing is paid for."""

    @property
    def identity(self) -> str:
        """The same in every process."""
        return IDENTITY

    @property
    def rehearsal(self) -> bool:
        """Its rows are marked."""
        return True

    def address(self) -> str:
        """The base URL of this process's server; the first call starts it."""
        return f"http://127.0.0.1:{server().port}/v1"

    def credential(self) -> Credential | None:
        """None is wanted."""
        return None


_lock = Lock()
_running: "list[Rehearsal]" = []


def server() -> "Rehearsal":
    """This process's server; the first call starts it, the end of the process stops it."""
    from wordmill._engine import Rehearsal

    with _lock:
        if not _running:
            config = {"host": "127.0.0.1", "port": 0, "latency_ms": 0, "errors": {}}
            _running.append(Rehearsal(json.dumps({**config, "limit": None, "seed": 0})))
            atexit.register(stop)
        return _running[0]


def stop() -> None:
    """Stop the server, if there is one; the next use starts another."""
    with _lock:
        while _running:
            _running.pop().stop()
