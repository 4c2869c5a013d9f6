"""A model on a machine of ours, run by a model server: this one's, or one elsewhere.

A thin client: the server speaks OpenAI's API. This machine's own is started when it is first needed
(see `local_start`) and is found anew for each request, so that it may have been started again
meanwhile. Answers are remembered under a name and the revision of the model, not under the port of
the day: an updated model does not answer with the words of the one before.
"""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from wordmill.errors import ConfigError
from wordmill.outbound import Failure, Limits, send
from wordmill.providers.base import Credential, KeySource, Model, Place, no_keys
from wordmill.providers.local_start import address, read
from wordmill.providers.openai import OpenAI
from wordmill.settings import Settings
from wordmill.types import Value

IDENTITY: Final = "local:"
"""How the base URL of a model of this machine begins; its revision follows."""
KEY: Final = "WORDMILL_MODEL_SERVER_KEY"
AT_ONCE: Final = 64
"""Requests of a run or a batch that are sent at the same time."""
PERSON: Final = "X-Wordmill-Person"
KNOWN: Final = 30.0
"""Seconds for which what a model can do is not asked again."""


class Local(OpenAI):
    """Its requests say whose they are, so that the server can be fair."""

    tells: ClassVar[bool] = True

    def __init__(self, model: Model, settings: Settings, keys: KeySource = no_keys) -> None:
        super().__init__(model, settings, keys)
        self._can: tuple[float, Mapping[str, Any]] | None = None

    @property
    def identity(self) -> str:
        """The same in every process."""
        return self.model.base_url

    @property
    def free(self) -> bool:
        """Nobody is paid."""
        return True

    @property
    def _here(self) -> bool:
        """Whether it is a model of this machine, or of a server that settings name."""
        return self.model.base_url.startswith(IDENTITY)

    @property
    def _own(self) -> bool:
        """Whether this machine's own server answers, which nobody named."""
        return self._here and self.settings.model_server_url is None

    def address(self) -> str:
        """The base URL: the model's own, the one that is set, or that of this machine's server."""
        if not self._here:
            return self.model.base_url
        return self.settings.model_server_url or f"{address(self.settings).url}/v1"

    def credential(self) -> Credential | None:
        """The server's key: this machine's is in the data folder."""
        if not self._here:
            return super().credential()
        if self._own:
            # The same before and after a start, so that nothing is started to know it.
            written = read(self.settings.home)
            return None if written is None else Credential(written.token, "the server's own key")
        key = self.settings.model_server_key
        return None if key is None else Credential(key, "the setting model_server_key")

    def secrets(self) -> Iterable[str]:
        """See Provider; the server's own key is one of them."""
        yield from super().secrets()
        written = read(self.settings.home)
        for key in (self.settings.model_server_key, written and written.token):
            if key:
                yield key

    def whose(self, person: str) -> dict[str, str]:
        """See Provider."""
        return {PERSON: person}

    def marked(self, body: Mapping[str, Any], person: str, request: str) -> Mapping[str, Any]:
        """See Provider."""
        return {**body, "user": f"{person}/{request}"}

    def place(self, request: str) -> Place | None:
        """See Provider."""
        try:
            found = self._get(self.address(), "/waiting")["waiting"].get(request)
            return None if found is None else Place(**found)
        except (KeyError, TypeError, AttributeError):
            return None  # no server of ours, though it was named as one

    def notes(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """See Provider. The engine hands on no headers, so what the server says in one for each
        answer is asked of its list of models, where it is the same.
        """
        now = time.monotonic()
        if self._can is None or now - self._can[0] > KNOWN:
            found = self._capabilities()
            self._can = (now, found) if found else None
        can = self._can[1] if self._can else {}
        roles = {message.get("role") for message in body.get("messages") or ()}
        if can.get("system_role") is False and not roles & {"system", "developer"}:
            return ()
        said = can.get("notes")
        return tuple(map(str, said)) if isinstance(said, list) else ()

    def _capabilities(self) -> Mapping[str, Any]:
        """Of the model, as its worker told them; empty where it is not loaded. Nothing is started
        for it.
        """
        there = read(self.settings.home) if self._own else None
        if self._own and there is None:
            return {}
        try:
            base = f"{there.url}/v1" if there else self.address()
            models = self._get(base, "/models")["data"]
            found = next(one for one in models if one["id"] == self.model.model)["capabilities"]
        except (KeyError, TypeError, StopIteration):
            return {}
        return found if isinstance(found, dict) else {}

    def _get(self, base: str, path: str) -> Any:
        """What the server says at a path below its base URL; None where it does not."""
        credential = self.credential()
        headers = {"Authorization": f"Bearer {credential.key}"} if credential else {}
        answer = send(
            "GET",
            base + path,
            headers=headers,
            limits=Limits(connect=2.0, first_byte=2.0, total=3.0),
            direct=self._own,
            allowed=self.settings.private_hosts if self.model.guarded else None,
        )
        if isinstance(answer, Failure) or answer.status != 200:
            return None
        try:
            return json.loads(answer.body)
        except ValueError:
            return None

    def lane(self, person: str | None = None) -> dict[str, Value]:
        """See Provider. Who waits in the queue is not given up early."""
        lane = super().lane(person)
        lane["first_byte_seconds"] = lane["total_seconds"]
        if person is not None:
            # Work in numbers: enough for every slot, and no long queue whose time runs out.
            lane["concurrency"] = lane["concurrency"] or AT_ONCE
        return lane

    def reference(self, person: str) -> Value:
        """See Provider."""
        if not self._here:
            return super().reference(person)
        return {"env": KEY} if self.settings.model_server_key else None

    def plan(self, person: str) -> dict[str, Value]:
        """See Provider. Other processes cannot count on a server that ends with this one.

        Raises ConfigError where the setting `model_server_url` names none.
        """
        if self._own:
            raise ConfigError(
                "The models of this machine answer beside one process, where consumers do not "
                "find them: start `wordmill model-server` and set WORDMILL_MODEL_SERVER_URL to its "
                "address, as http://127.0.0.1:8600/v1."
            )
        return super().plan(person)
