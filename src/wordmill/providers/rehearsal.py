"""The rehearsal model: an OpenAI-compatible server of our own, started when it is first needed.

One server a process, on a port that the system chose, without network, weights or key. It is
spoken to like any other server. Its answers are remembered under a name, not under the port.
"""

import atexit
import json
from threading import Lock
from typing import TYPE_CHECKING

from wordmill.errors import ConfigError
from wordmill.providers.base import Credential
from wordmill.providers.openai import OpenAI
from wordmill.types import Value

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
        """The base URL that is set, or that of this process's server, started at the first call."""
        return self.settings.rehearsal_url or f"http://127.0.0.1:{server().port}/v1"

    def plan(self, person: str) -> dict[str, Value]:
        """See Provider. Other processes cannot count on this one's server.

        Raises ConfigError where the setting `rehearsal_url` names none.
        """
        if self.settings.rehearsal_url is None:
            raise ConfigError(
                "The rehearsal model answers inside one process, where consumers do not find it: "
                "start `wordmill rehearse` beside them and set WORDMILL_REHEARSAL_URL to its "
                "address, as http://127.0.0.1:8400/v1."
            )
        return super().plan(person)

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
