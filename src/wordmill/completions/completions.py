"""Asks one thing of one model, with the keys, the quota and the ledger of whoever asks."""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from wordmill._engine import EngineFault, Stream
from wordmill.accounts import Accounts, Amount, Person
from wordmill.completions.answer import Answer, reply_of
from wordmill.completions.bodies import as_sent, fitted, length, shape_of
from wordmill.completions.lanes import Lane, Lanes
from wordmill.database import Database
from wordmill.errors import EngineError, ModelFailed
from wordmill.providers.base import Provider
from wordmill.settings import Settings
from wordmill.telemetry import ended
from wordmill.types import Reply, Usage

DEGRADATIONS: Final = 6
"""How often a request is made simpler because a server refuses something."""

CUT_OFF: Final = ("cancelled", "cut", "dropped", "timeout", "too_large")
"""Errors after which a server may have worked, and asks to be paid."""
LOOK: Final = 0.2
"""Seconds between looks whether an answer is still wanted."""
BYTES: Final = 4
"""Characters of a token, about."""

Json = Mapping[str, Any]

_OPERATIONS: Final = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
"""What is done by each path, in the words of OpenTelemetry's conventions."""


class Completions:
    """All live requests of a process. Safe from any thread; `close` it at the end."""

    def __init__(self, database: Database, settings: Settings, accounts: Accounts) -> None:
        self._settings, self._accounts = settings, accounts
        self.lanes = Lanes(database, settings)

    def stream(
        self, person: Person, model: str, body: Json, *, door: str, subject: str | None = None
    ) -> Answer:
        """Ask, and have the answer piece by piece.

        body: as OpenAI's chat completions; its `model` is not looked at.
        subject: what it is for, in the ledger.
        Raises UnknownName, KeyMissing, QuotaReached, EngineError.
        """
        lane = self.lanes.take(person.id, model)
        try:
            shape = shape_of(model, body)
            reservation = self._accounts.ledger.reserve(person.id, self._estimate(body, lane))
        except BaseException:
            self.lanes.release(lane)
            raise
        provider, left = lane.provider, [DEGRADATIONS]
        name = secrets.token_hex(8)
        asked = [provider.dialect]

        def begin() -> tuple[Stream, Json]:
            asked[0] = provider.dialect
            made = fitted(provider, shape, body)
            try:
                marked = json.dumps(provider.marked(made, person.id, name)).encode()
                stream = lane.engine.stream(model, provider.path("chat"), marked)
                return stream, as_sent(provider, made)
            except EngineFault as fault:
                raise EngineError(f"The engine ended: {fault}") from fault

        def again(detail: str) -> str | None:
            left[0] -= 1
            if left[0] < 0:
                return None
            simpler = provider.degrade(shape, detail, asked[0])
            return None if simpler is None else simpler.sentence

        def counted(reply: Reply, came: int) -> Reply:
            """A server that is cut off says nothing of what it used, and still has it paid."""
            usage = reply.usage
            if reply.error not in CUT_OFF or usage.input or usage.output:
                return reply
            if not came and reply.error != "cancelled":
                return reply
            usage = Usage(max(1, length(body) // BYTES), -(-came // BYTES), estimated=True)
            price = provider.model
            cost = (usage.input * price.price_in + usage.output * price.price_out) / 1e6
            return replace(reply, usage=usage, cost=reply.cost + cost)

        def close(answer: Answer) -> None:
            self.lanes.release(lane)
            reply = answer.reply
            _tell(person, model, provider, reply, door, "chat", answer.seconds, answer.first)
            reservation.settle(
                door,
                model if reply is None else reply.model,
                requests=1 if reply is None else max(1, reply.attempts),
                input_tokens=0 if reply is None else reply.usage.input,
                output_tokens=0 if reply is None else reply.usage.output,
                money=0.0 if reply is None else reply.cost,
                subject=subject,
            )

        try:
            return Answer(lane, begin, again, counted, close, lambda: provider.place(name))
        except BaseException:
            self.lanes.release(lane)
            reservation.release()
            raise

    def ask(
        self, person: Person, model: str, body: Json, *, door: str, subject: str | None = None
    ) -> tuple[Reply, Json | None]:
        """Ask, and have the whole answer: the reply, and the server's own words where they say
        more than a text. Raises as `stream`, and ModelFailed.
        """
        answer = self.stream(person, model, body, door=door, subject=subject)
        for _ in answer:
            pass
        reply = answer.reply
        if reply is None:
            raise ModelFailed(model, "dropped", "the answer ended without a record")
        if reply.error is not None:
            raise ModelFailed(model, reply.error, reply.detail)
        return reply, answer.body

    def post(
        self,
        person: Person,
        model: str,
        path: str,
        body: Json,
        *,
        door: str,
        unwanted: Callable[[], bool] = lambda: False,
    ) -> tuple[Reply, Json]:
        """Another operation of the model's server (`embeddings`, `rerank`, a literal path).

        unwanted: asked now and then whether nobody waits for it any more.  Raises as `ask`.
        """
        lane, began = self.lanes.take(person.id, model), time.monotonic()
        try:
            with self._accounts.ledger.reserve(person.id, self._estimate(body, lane)) as reserved:
                provider = lane.provider
                told = {k: v for k, v in body.items() if k != "stream"}
                marked = provider.marked(told, person.id, secrets.token_hex(8))
                sent = json.dumps(marked).encode()
                try:
                    asked = lane.engine.stream(model, provider.path(path), sent, whole=True)
                    while asked.next(LOOK) is not None:
                        if unwanted():
                            asked.cancel()
                    record = asked.record()
                except EngineFault as fault:
                    raise EngineError(f"The engine ended: {fault}") from fault
                if record is None:
                    raise ModelFailed(model, "dropped", "the answer ended without a record")
                reply = reply_of(record)
                seconds = time.monotonic() - began
                _tell(person, model, provider, reply, door, path, seconds)
                reserved.settle(
                    door,
                    reply.model,
                    requests=max(1, reply.attempts),
                    input_tokens=reply.usage.input,
                    output_tokens=reply.usage.output,
                    money=reply.cost,
                )
        finally:
            self.lanes.release(lane)
        if reply.error is not None:
            raise ModelFailed(model, reply.error, reply.detail)
        raw = record.bodies[0]
        return reply, json.loads(raw) if raw else {}

    def notes(self, person: Person, model: str, body: Json) -> tuple[str, ...]:
        """Sentences on what a model's server makes of a request, as an answer's `notes`.

        Raises as `stream`.
        """
        lane = self.lanes.take(person.id, model)
        try:
            return lane.provider.notes(body)
        finally:
            self.lanes.release(lane)

    def close(self) -> None:
        """Close every engine; what is on its way ends."""
        self.lanes.close()

    def _estimate(self, body: Json, lane: Lane) -> Amount:
        """The most that a request can take, as far as it is bounded."""
        model = lane.provider.model
        read = length(body) // 3
        bound = body.get("max_tokens") or body.get("max_completion_tokens")
        said = bound if isinstance(bound, int) else self._settings.default_max_tokens
        money = (read * model.price_in + said * model.price_out) / 1e6
        return Amount(requests=1, tokens=read + said, money=money)


def _tell(
    person: Person,
    model: str,
    provider: Provider,
    reply: Reply | None,
    door: str,
    path: str,
    seconds: float,
    first: float | None = None,
) -> None:
    """The log's record of a request, and its span."""
    ended(
        "completion",
        seconds,
        operation=_OPERATIONS.get(path, path),
        person=person.id,
        door=door,
        model=model,
        provider=provider.model.provider,
        answered=None if reply is None else reply.model,
        first=first,
        input_tokens=None if reply is None else reply.usage.input,
        output_tokens=None if reply is None else reply.usage.output,
        attempts=None if reply is None else reply.attempts,
        cached=None if reply is None else reply.cached,
        finish=None if reply is None else reply.finish,
        error="dropped" if reply is None else reply.error,
    )
