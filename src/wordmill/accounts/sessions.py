"""Sessions: who is signed in, from where.

A session is 32 random bytes that only the browser has; here is their SHA-256. Every use looks the
row and its person up again, so that signing out, a new role and a disabled account count at once.
A session ends when it was not used for a while, and for good after a longer one.
"""

import os
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.engine import Connection

from wordmill import database as tables
from wordmill.accounts import audit, passwords
from wordmill.accounts.people import normal
from wordmill.accounts.rows import PERSON, digest_of, is_name, person_of, printable
from wordmill.accounts.throttle import Throttle, of_account, of_address
from wordmill.accounts.types import Person, Session
from wordmill.database import Database, now
from wordmill.errors import InvalidInput, NotFound, StorageError, Unauthenticated
from wordmill.settings import Settings

WRONG: Final = "The e-mail address or the password is wrong."
ENDED: Final = "This session has ended. Sign in again."

_NOTED: Final = timedelta(minutes=1)
"""How exactly it is known when a session was last used."""

_KEPT: Final = timedelta(days=30)
"""How long it is remembered that a person signed in from an address."""

_SHOWN: Final = [
    tables.sessions.c[name]
    for name in ("digest", "person", "address", "agent", "created", "seen", "expires")
]


class Sessions:
    """The sign-ins. Safe from any thread and process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._throttle = Throttle(database)
        self._idle = timedelta(seconds=settings.session_idle)
        self._longest = timedelta(seconds=settings.session_longest)

    def sign_in(self, email: str, password: str, address: str = "", agent: str = "") -> str:
        """A new session's token.

        Raises Unauthenticated and TooMany, in the same words and after the same time whether or
        not there is such an account.
        """
        email = normal(email[:1000])
        if not is_name(email):
            email = ""  # nobody's
        with self._database.read() as connection:
            query = select(
                *PERSON, tables.people.c.password, self._known(address).label("known")
            ).where(tables.people.c.email == email)
            row = connection.execute(query).mappings().one_or_none()
        # From where the person has signed in before, nobody else's failures are in the way.
        account, place = of_account(email), of_address(address)
        own = of_account(f"{email} {address}") if row is not None and row["known"] else account
        self._throttle.attempt(own, place)
        fits = passwords.fits(row["password"] if row else None, password)
        if row is None or not fits:
            self._refused(row["id"] if row else "", address, "wrong")
            raise Unauthenticated(WRONG)
        person = person_of(row)
        self._throttle.passed(own, place)
        try:
            _may(person)
        except Unauthenticated:
            self._refused(person.id, address, "disabled" if person.disabled else "pending")
            raise
        if passwords.outdated(row["password"]):
            self._rehash(person, password, row["password"])
        return self.open(person, address, agent)

    def open(
        self, person: Person, address: str = "", agent: str = "", how: str = "password"
    ) -> str:
        """A session for somebody who has proved in another way (`how`) who they are; its token.

        Raises Unauthenticated for an account that is disabled or not let in yet.
        """
        _may(person)
        token = urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        moment = now()
        with self._database.begin() as connection:
            connection.execute(
                insert(tables.sessions).values(
                    digest=digest_of(token),
                    person=person.id,
                    address=printable(address)[:100],
                    agent=printable(agent)[:500],
                    created=moment,
                    seen=moment,
                    expires=moment + min(self._idle, self._longest),
                )
            )
            connection.execute(
                update(tables.people).where(tables.people.c.id == person.id).values(seen=moment)
            )
            connection.execute(
                delete(tables.sessions).where(tables.sessions.c.expires < moment - _KEPT)
            )
            audit.write(connection, person.id, "signed in", person.id, address, how=how)
        return token

    def check(self, token: str) -> Person:
        """Who the token's session belongs to, as that person is now.

        Raises Unauthenticated for a session that is unknown, over or revoked, and for a person who
        is disabled or not let in.
        """
        if not 0 < len(token) <= 100:
            raise Unauthenticated("Nobody is signed in. Sign in first.")
        columns = tables.sessions.c
        query = (
            select(*PERSON, columns.seen.label("last"), columns.expires, columns.revoked,
                   columns.created.label("begun"))
            .join_from(tables.sessions, tables.people, columns.person == tables.people.c.id)
            .where(columns.digest == digest_of(token))
        )  # fmt: skip
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        moment = now()
        if row is None or row["revoked"] is not None or row["expires"] <= moment:
            raise Unauthenticated(ENDED)
        person = person_of(row)
        _may(person)
        if moment - row["last"] > min(_NOTED, self._idle / 4):
            self._seen(token, person, moment, row["begun"])
        return person

    def sign_out(self, token: str) -> None:
        """End the token's session. Harmless when repeated, and for a token that is none."""
        self._end(digest_of(token), None, "signed out")

    def all(self, actor: Person, person: str | None = None) -> list[Session]:
        """The sessions that are open, the newest first: one's own; an admin's question may be
        about another `person`. Raises NotFound.
        """
        person = actor.id if person is None else person
        if (person != actor.id and not actor.admin) or not is_name(person):
            raise NotFound("person", person)
        columns = tables.sessions.c
        query = (
            select(*_SHOWN)
            .where(columns.person == person, columns.revoked.is_(None), columns.expires > now())
            .order_by(columns.created.desc())
        )
        with self._database.read() as connection:
            return [Session(**row) for row in connection.execute(query).mappings()]

    def revoke(self, actor: Person, digest: str) -> None:
        """End a session of one's own, or anybody's for an admin. Raises NotFound."""
        if not is_name(digest) or not self._end(digest, actor, "session revoked"):
            raise NotFound("session", digest[:12])

    def revoke_all(self, actor: Person, person: str | None = None, keep: str = "") -> int:
        """End all of a person's sessions but that of the token `keep`; how many."""
        ended = [one for one in self.all(actor, person) if one.digest != digest_of(keep)]
        for one in ended:
            self._end(one.digest, actor, "session revoked")
        return len(ended)

    def _known(self, address: str) -> ColumnElement[bool]:
        columns = tables.sessions.c
        found = select(columns.digest).where(
            columns.person == tables.people.c.id,
            columns.address == (printable(address)[:100] or "nowhere"),
        )
        return found.exists()

    def _refused(self, person: str, address: str, why: str) -> None:
        with self._database.begin() as connection:
            audit.write(connection, person, "sign-in refused", person, address, why=why)

    def _rehash(self, person: Person, password: str, old: str) -> None:
        try:
            new = passwords.hashed(passwords.check(password))
        except InvalidInput:  # as it was made under older rules
            return
        with self._database.begin() as connection:
            connection.execute(
                update(tables.people)
                .where(tables.people.c.id == person.id, tables.people.c.password == old)
                .values(password=new)
            )

    def _seen(self, token: str, person: Person, moment: datetime, begun: datetime) -> None:
        """Who looks is let in, even where this cannot be noted."""
        with suppress(StorageError), self._database.begin() as connection:
            connection.execute(
                update(tables.sessions)
                .where(tables.sessions.c.digest == digest_of(token))
                .values(seen=moment, expires=min(moment + self._idle, begun + self._longest))
            )
            connection.execute(
                update(tables.people).where(tables.people.c.id == person.id).values(seen=moment)
            )

    def _end(self, digest: str, actor: Person | None, action: str) -> bool:
        columns = tables.sessions.c
        query = select(columns.person).where(columns.digest == digest, columns.revoked.is_(None))
        if actor is not None and not actor.admin:
            query = query.where(columns.person == actor.id)
        with self._database.begin() as connection:
            owner: str | None = connection.execute(query).scalar()
            if owner is None:
                return False
            _revoke(connection, digest)
            audit.write(connection, actor.id if actor else owner, action, owner)
        return True


def _revoke(connection: Connection, digest: str) -> None:
    connection.execute(
        update(tables.sessions).where(tables.sessions.c.digest == digest).values(revoked=now())
    )


def _may(person: Person) -> None:
    if person.disabled:
        raise Unauthenticated("This account is disabled. Ask an admin.")
    if person.role == "pending":
        raise Unauthenticated("An admin has to let you in first. Come back later.")
