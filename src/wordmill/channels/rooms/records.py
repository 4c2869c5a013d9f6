"""What a channel has heard and is to say, in the database: so that nothing is lost or said twice.

What was said to us is written down before it is handled, and an answer before it is sent, under a
name that stays the same (`nonce`) and by which the service knows it again. Whoever starts after a
crash finds what was not finished.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import RowMapping

from wordmill import database as tables
from wordmill.channels.rooms.base import Incoming, Place
from wordmill.database import Database, now

Kind: TypeAlias = Literal["answer", "report"]
State: TypeAlias = Literal["open", "sent", "failed"]

KEPT_DAYS: Final = 30.0
"""Events that are older are forgotten; the catch-up marker keeps them from coming again."""
_RECENT: Final = 200
"""Answers of a room that are looked through for a message of ours."""

_events, _answers, _places = (
    tables.channel_events,
    tables.channel_answers,
    tables.channel_places,
)


@dataclass(frozen=True, slots=True)
class Led:
    """The conversation that is led in a place, and whose it is."""

    conversation: str
    person: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Something that is to be said.

    event: what it answers.  message: of the conversation; of a report, the run or batch.
    begun: messages that are shown already while it grows.  remotes: the service's ids of them all.
    fresh: nobody has tried to say it yet.
    """

    event: str
    kind: Kind
    state: State
    place: Place
    person: str
    conversation: str | None
    message: str
    nonce: str
    begun: int
    remotes: tuple[str, ...]
    fresh: bool = False

    def named(self, part: str) -> str:
        """The transaction id of a part of it."""
        return f"{self.nonce}{part}"


class Records:
    """Those of one channel. Safe from any thread."""

    def __init__(self, database: Database, channel: str) -> None:
        self._database, self.channel = database, channel

    # What was heard.

    def hear(self, heard: Sequence[Incoming]) -> list[Incoming]:
        """Write down what came, to be handled; those that were not known yet, in order.

        What was sealed and can be read now is not known yet.
        """
        if not heard:
            return []
        at, names = now(), [one.event for one in heard]
        known = select(_events.c.event).where(
            _events.c.channel == self.channel, _events.c.event.in_(names)
        )
        with self._database.begin() as connection:
            connection.execute(delete(_events).where(self._sealed(names)))
            seen = set(connection.execute(known).scalars())
            fresh: dict[str, Incoming] = {}
            for one in heard:
                if one.event not in seen:
                    fresh.setdefault(one.event, one)
            if fresh:
                rows = [
                    {
                        "channel": self.channel, "event": one.event, "state": "received",
                        "payload": one.as_json(), "at": one.at, "received": at, "message": None,
                    }
                    for one in fresh.values()
                ]  # fmt: skip
                connection.execute(insert(_events), rows)
        return list(fresh.values())

    def unhandled(self) -> list[Incoming]:
        """What was heard and not handled, in the order in which it came."""
        query = (
            select(_events.c.payload)
            .where(_events.c.channel == self.channel, _events.c.state == "received")
            .order_by(_events.c.received, _events.c.at)
        )
        with self._database.read() as connection:
            return [Incoming.of(payload) for payload in connection.execute(query).scalars()]

    def seal(self, event: str, at: datetime, source: Mapping[str, Any]) -> None:
        """Keep a message that cannot be read yet, as the service gave it, until it can be."""
        same = and_(_events.c.channel == self.channel, _events.c.event == event)
        with self._database.begin() as connection:
            if connection.execute(select(_events.c.event).where(same)).first() is None:
                connection.execute(
                    insert(_events).values(
                        channel=self.channel, event=event, state="sealed", payload=dict(source),
                        at=at, received=now(), message=None,
                    )
                )  # fmt: skip

    def sealed(self) -> list[Mapping[str, Any]]:
        """What cannot be read yet, in the order in which it came."""
        query = (
            select(_events.c.payload)
            .where(_events.c.channel == self.channel, _events.c.state == "sealed")
            .order_by(_events.c.received, _events.c.at)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def unseal(self, events: Sequence[str]) -> None:
        """These need not be kept any more."""
        with self._database.begin() as connection:
            connection.execute(delete(_events).where(self._sealed(events)))

    def _sealed(self, events: Sequence[str]) -> Any:
        return and_(
            _events.c.channel == self.channel,
            _events.c.state == "sealed",
            _events.c.event.in_(events),
        )

    def knows(self, events: Sequence[str]) -> set[str]:
        """Which of these were heard before."""
        query = select(_events.c.event).where(
            _events.c.channel == self.channel, _events.c.event.in_(events)
        )
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def once(self, event: str, at: datetime) -> bool:
        """Note an event that needs no handling later, as a reaction; whether it is new."""
        with self._database.begin() as connection:
            same = and_(_events.c.channel == self.channel, _events.c.event == event)
            if connection.execute(select(_events.c.event).where(same)).first():
                return False
            connection.execute(
                insert(_events).values(
                    channel=self.channel, event=event, state="handled", payload=None, at=at,
                    received=now(), message=None,
                )
            )  # fmt: skip
            return True

    def handled(self, event: str, message: str | None = None) -> None:
        """It needs nothing more. message: what it became in a conversation."""
        values: dict[str, Any] = {"state": "handled", "payload": None, "message": message}
        same = and_(_events.c.channel == self.channel, _events.c.event == event)
        with self._database.begin() as connection:
            connection.execute(update(_events).where(same).values(values))

    def became(self, event: str) -> str | None:
        """The message of a conversation that an event became."""
        same = and_(_events.c.channel == self.channel, _events.c.event == event)
        with self._database.read() as connection:
            return connection.execute(select(_events.c.message).where(same)).scalar()

    def waiting(self) -> int:
        """How much was heard and is not handled, and is to be said and is not sent."""
        heard = select(func.count()).where(
            _events.c.channel == self.channel, _events.c.state == "received"
        )
        unsaid = select(func.count()).where(
            _answers.c.channel == self.channel,
            _answers.c.state == "open",
            _answers.c.kind == "answer",
        )
        with self._database.read() as connection:
            counts = [connection.execute(query).scalar_one() for query in (heard, unsaid)]
        return int(sum(counts))

    def forget_old(self) -> None:
        """Forget what was handled long ago."""
        before = now() - timedelta(days=KEPT_DAYS)
        old = and_(
            _events.c.channel == self.channel,
            _events.c.state.in_(("handled", "sealed")),
            _events.c.received < before,
        )
        said = and_(
            _answers.c.channel == self.channel,
            _answers.c.state != "open",
            _answers.c.updated < before,
        )
        with self._database.begin() as connection:
            connection.execute(delete(_events).where(old))
            connection.execute(delete(_answers).where(said))

    # Up to when.

    def marker(self) -> datetime | None:
        """By the service's clock, up to when everything was heard; None at first."""
        query = select(tables.channels.c.marker).where(tables.channels.c.name == self.channel)
        with self._database.read() as connection:
            return connection.execute(query).scalar()

    def mark(self, at: datetime) -> None:
        """Everything up to then was heard. It never goes back."""
        mine = tables.channels.c.name == self.channel
        with self._database.begin() as connection:
            before = connection.execute(select(tables.channels.c.marker).where(mine)).scalar()
            if before is None or before < at:
                connection.execute(update(tables.channels).where(mine).values(marker=at))

    # Which place is which conversation.

    def led(self, place: Place) -> Led | None:
        """The conversation of a place."""
        query = select(_places.c.conversation, _places.c.person).where(self._here(place))
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Led(row.conversation, row.person)

    def latest(self, room: str, person: str) -> Place | None:
        """The place of a room in which this person's conversation was led last."""
        query = (
            select(_places.c.place)
            .where(_places.c.channel == self.channel, _places.c.person == person)
            .where(or_(_places.c.place == room, _places.c.place.startswith(f"{room} ")))
            .order_by(_places.c.updated.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            key = connection.execute(query).scalar()
        return None if key is None else Place.of(key)

    def lead(self, place: Place, led: Led) -> None:
        """From now on this conversation is led there."""
        values = {"conversation": led.conversation, "person": led.person, "updated": now()}
        with self._database.begin() as connection:
            changed = connection.execute(update(_places).where(self._here(place)).values(values))
            if not changed.rowcount:
                connection.execute(
                    insert(_places).values(channel=self.channel, place=place.key, **values)
                )

    def _here(self, place: Place) -> Any:
        return and_(_places.c.channel == self.channel, _places.c.place == place.key)

    # What is to be said.

    def owe(
        self,
        event: str,
        kind: Kind,
        place: Place,
        person: str,
        message: str,
        conversation: str | None = None,
    ) -> Answer:
        """Write down something to be said, once for each event; what was written down."""
        at = now()
        with self._database.begin() as connection:
            found = connection.execute(select(_answers).where(self._answer(event))).mappings()
            row = found.one_or_none()
            if row is None:
                values: dict[str, Any] = {
                    "channel": self.channel, "event": event, "kind": kind, "state": "open",
                    "place": place.key, "person": person, "conversation": conversation,
                    "message": message, "nonce": self.nonce(event), "begun": 0,
                    "remotes": [], "created": at, "updated": at,
                }  # fmt: skip
                connection.execute(insert(_answers).values(values))
                return replace(_read(values), fresh=True)
        return _read(row)

    def nonce(self, event: str) -> str:
        """The transaction id of the answer to an event: the same one at each start."""
        return hashlib.sha256(f"{self.channel}\0{event}".encode()).hexdigest()[:20]

    def change(self, event: str, **values: Any) -> None:
        """Change state, begun, remotes or message of what is to be said."""
        values["updated"] = now()
        with self._database.begin() as connection:
            connection.execute(update(_answers).where(self._answer(event)).values(values))

    def owed(self, kind: Kind) -> list[Answer]:
        """What is still to be said, oldest first."""
        query = (
            select(_answers)
            .where(
                _answers.c.channel == self.channel,
                _answers.c.state == "open",
                _answers.c.kind == kind,
            )
            .order_by(_answers.c.created)
        )
        with self._database.read() as connection:
            return [_read(row) for row in connection.execute(query).mappings()]

    def answer_to(self, event: str) -> Answer | None:
        """What answers an event."""
        with self._database.read() as connection:
            found = connection.execute(select(_answers).where(self._answer(event))).mappings()
            row = found.one_or_none()
        return None if row is None else _read(row)

    def shown(self, room: str, remote: str) -> Answer | None:
        """The answer of which a message of ours in a room is a part, of the last ones there."""
        here = _answers.c.place.startswith(room, autoescape=True)
        query = (
            select(_answers)
            .where(_answers.c.channel == self.channel, here, _answers.c.kind == "answer")
            .order_by(_answers.c.created.desc())
            .limit(_RECENT)
        )
        with self._database.read() as connection:
            for row in connection.execute(query).mappings():
                if remote in row["remotes"]:
                    return _read(row)
        return None

    def _answer(self, event: str) -> Any:
        return and_(_answers.c.channel == self.channel, _answers.c.event == event)


def _read(row: RowMapping | Mapping[str, Any]) -> Answer:
    return Answer(
        event=row["event"], kind=row["kind"], state=row["state"], place=Place.of(row["place"]),
        person=row["person"], conversation=row["conversation"], message=row["message"],
        nonce=row["nonce"], begun=row["begun"], remotes=tuple(row["remotes"]),
    )  # fmt: skip
