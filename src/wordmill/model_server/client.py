"""What others ask of the model server beside answers: what is loaded, and orders.

Small requests of the command line, the API and the page; answers of models go through the engine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from wordmill.errors import ConfigError, InvalidInput, ModelFailed
from wordmill.outbound import Failure, Limits, Response, send
from wordmill.providers import local_start
from wordmill.providers.local_start import Address
from wordmill.settings import Settings

LOOK: Final = Limits(connect=5.0, first_byte=10.0, total=15.0)
REPLY: Final = 64 << 20

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model as the server has it. Bytes, seconds, tokens a second.

    state: `unloaded`, `waiting`, `loading`, `ready`, `swapping`, `failed`.  trouble: what went
    wrong last, in words.  since: Unix seconds, when its worker came up.  now: the newest sample of
    its history.  total: its figures since the server's start.
    """

    name: str
    state: str
    trouble: str | None
    pinned: bool
    engine: str | None
    why: str
    device: str | None
    dtype: str | None
    context: int | None
    slots: int
    running: int
    waiting: int
    workers: int
    memory: int
    since: float | None
    load_seconds: float | None
    answer_seconds: float | None
    now: Json | None = None
    total: Json = field(default_factory=dict)

    @property
    def tokens_per_second(self) -> float:
        """That it writes now, over the last seconds."""
        return float(self.now["tokens_out"]) if self.now else 0.0


@dataclass(frozen=True)
class Overview:
    """All models that were asked for. memory: bytes that they have; ceiling: that they may have;
    free: that the machine has left.
    """

    models: tuple[Loaded, ...]
    memory: int
    ceiling: int
    free: int


class Client:
    """Asks a model server. Safe from any thread."""

    def __init__(self, where: Address, seconds: float = 600.0) -> None:
        self._where, self._seconds = where, seconds

    def overview(self) -> Overview:
        """What it has. Raises ConfigError when it does not answer."""
        told = self._get("/admin/models")
        known = Loaded.__dataclass_fields__
        models = tuple(
            Loaded(**{name: value for name, value in one.items() if name in known})
            for one in told["models"]
        )
        return Overview(models, told["memory"], told["memory_ceiling"], told["memory_free"])

    def history(self, model: str | None = None, since: float = 0.0) -> Json:
        """By model: `history` (samples, oldest first), `people` and `total`.

        since: Unix seconds.
        """
        asked = {"since": since, **({"model": model} if model is not None else {})}
        return self._get(f"/admin/metrics?{urlencode(asked)}")

    def load(self, model: str) -> Json:
        """Load a model, and wait until it is. Raises ModelFailed with the reason."""
        return self._order("load", model)

    def unload(self, model: str) -> bool:
        """End its worker when its answers have ended; whether there was one."""
        return bool(self._order("unload", model)["unloaded"])

    def restart(self, model: str) -> Json:
        """Replace its worker by one of what the name means now; no request is lost."""
        return self._order("restart", model)

    def pin(self, model: str, pinned: bool) -> Json:
        """Keep it loaded, or no longer."""
        return self._order("pin" if pinned else "unpin", model)

    def warm(self, model: str) -> float:
        """Load it, and let it say one token, so that the next one is not its first; seconds."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 1,
        }
        answer = self._send("POST", "/v1/chat/completions", body)
        seconds = answer.seconds
        if answer.status == 400:  # a model that only embeds
            answer = self._send("POST", "/v1/embeddings", {"model": model, "input": "Hello"})
            seconds += answer.seconds
        if answer.status == 400:  # or ranks: it is loaded by now
            self.load(model)
        else:
            self._good(answer, model)
        return seconds

    def _order(self, order: str, model: str) -> Json:
        answer = self._send("POST", f"/admin/{order}", {"model": model})
        return self._good(answer, model)

    def _get(self, path: str) -> Json:
        return self._good(self._send("GET", path), "")

    def _send(self, method: str, path: str, body: Json | None = None) -> Response:
        limits = LOOK
        if body is not None:
            limits = Limits(LOOK.connect, self._seconds, self._seconds, REPLY)
        answer = send(
            method,
            self._where.url + path,
            headers={**local_start.bearer(self._where), "Content-Type": "application/json"},
            body=None if body is None else json.dumps(body).encode(),
            limits=limits,
            direct=True,
        )
        if isinstance(answer, Failure):
            raise ConfigError(
                f"The model server at {self._where.url} does not answer ({answer.detail})."
            )
        return answer

    def _good(self, answer: Response, model: str) -> Json:
        try:
            told = json.loads(answer.body)
        except ValueError as error:
            raise ConfigError(
                f"What is at {self._where.url} is no model server: it answers "
                f"{answer.text[:100]!r}."
            ) from error
        if answer.status == 200 and isinstance(told, dict):
            return told
        words = told.get("error", {}).get("message", "") if isinstance(told, dict) else ""
        if answer.status in (400, 401, 404):
            raise InvalidInput(words or f"The model server says {answer.status}.")
        raise ModelFailed(model, "server_error", words or f"HTTP {answer.status}")


def client(settings: Settings) -> Client:
    """Of this machine's model server, started if it is not there. Raises ConfigError."""
    where = _named(settings) or local_start.address(settings)
    return Client(where, settings.local_load_seconds)


def running(settings: Settings) -> Client | None:
    """Of this machine's model server, if it runs; nothing is started."""
    where = _named(settings) or local_start.found(settings)
    return None if where is None else Client(where, settings.local_load_seconds)


def _named(settings: Settings) -> Address | None:
    url = settings.model_server_url
    if url is None:
        return None
    return Address(url.rstrip("/").removesuffix("/v1"), settings.model_server_key or "")
