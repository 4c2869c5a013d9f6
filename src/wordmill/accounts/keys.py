"""API keys: personal, several each, shown once.

A key is `wm-` and 32 random bytes. Here is its HMAC-SHA256 under a key of this house, so that the
database alone neither gives a key away nor lets one be tried; checking is one SELECT. A key has
scopes, and without the scope `admin` its person is no admin for whoever uses it.
"""

import hashlib
import hmac
import os
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final, cast

from sqlalchemy import RowMapping, insert, or_, select, update

from wordmill import database as tables
from wordmill.accounts import audit
from wordmill.accounts.people import checked_name
from wordmill.accounts.rows import PERSON, is_name, person_of
from wordmill.accounts.types import SCOPES, ApiKey, Person, Scope
from wordmill.database import Database, new_id, now
from wordmill.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    StorageError,
    Unauthenticated,
    UnknownName,
)
from wordmill.secrets import derived
from wordmill.settings import Settings

PREFIX: Final = "wm-"
DEFAULT_SCOPES: Final[tuple[Scope, ...]] = ("chat", "runs", "read")
MOST: Final = 100
"""Keys of a person that are good at once."""

_NOTED: Final = timedelta(minutes=1)
"""How exactly it is known when a key was last used."""

_BAD: Final = (
    "This API key is not good: it is unknown, has expired or was revoked. "
    "The page Settings makes another, or `wordmill keys create NAME`."
)
_KEY: Final = [
    tables.api_keys.c[name].label(f"key_{name}")
    for name in ("id", "person", "name", "start", "scopes", "created", "expires", "used", "revoked")
]


class ApiKeys:
    """The keys. Safe from any thread and process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._pepper: bytes | None = None
        self._refused: dict[str, datetime] = {}
        self._lock = Lock()

    def create(
        self,
        person: Person,
        name: str,
        scopes: Iterable[str] = DEFAULT_SCOPES,
        expires: datetime | None = None,
        *,
        actor: Person | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key of the person, and its secret, which is nowhere else.

        actor: an admin who makes it for the person; the person without it.
        Raises UnknownName for a scope, InvalidInput, Forbidden, NotFound for a person without an
        account.
        """
        actor = actor or person
        if actor.id != person.id and not actor.admin:
            raise NotFound("person", person.id)
        name, wanted = checked_name(name), _checked_scopes(scopes)
        if "admin" in wanted and not person.admin:
            raise Forbidden("Only an admin's API key can have the scope `admin`.")
        if expires is not None and expires <= now():
            raise InvalidInput("An API key expires after it is made.", "expires")
        secret = PREFIX + urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        digest = self._digest(secret)
        key = ApiKey(
            new_id(), person.id, name, secret[: len(PREFIX) + 6], wanted, now(), expires, None, None
        )
        with self._database.begin() as connection:
            people = tables.people.c
            query = select(people.id).where(people.id == person.id)
            if connection.execute(query).scalar() is None:
                raise NotFound("person", person.email or person.id)
            if len(connection.execute(self._live(person.id)).all()) >= MOST:
                raise InvalidInput(f"There are {MOST} API keys already. Revoke one first.")
            connection.execute(
                insert(tables.api_keys).values(
                    id=key.id, person=key.person, name=key.name, start=key.start, digest=digest,
                    scopes=list(key.scopes), created=key.created, expires=key.expires,
                )
            )  # fmt: skip
            audit.write(
                connection, actor.id, "key made", key.id,
                owner=person.id, scopes=key.scopes, expires=expires,
            )  # fmt: skip
        return key, secret

    def check(self, secret: str, address: str = "") -> tuple[Person, ApiKey]:
        """Whose key this is, and what it may do. The person is an admin only with that scope.

        One SELECT; once a minute it is also noted that the key was used.
        Raises Unauthenticated, in the same words for every key that is not good.
        """
        if not secret.startswith(PREFIX) or len(secret) > 100:
            raise Unauthenticated(_BAD)
        query = (
            select(*PERSON, *_KEY)
            .join_from(
                tables.api_keys, tables.people, tables.api_keys.c.person == tables.people.c.id
            )
            .where(tables.api_keys.c.digest == self._digest(secret))
        )
        with self._database.look() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise Unauthenticated(_BAD)
        person, key, moment = person_of(row), _key_of(row), now()
        why = _why_not(person, key, moment)
        if why:
            self._note_refused(key, address, why, moment)
            raise Unauthenticated(_BAD)
        if key.used is None or moment - key.used > _NOTED:
            self._note_used(key, address, moment)
        if "admin" not in key.scopes and person.admin:
            person = replace(person, role="member")
        return person, key

    def all(self, actor: Person, person: str | None = None) -> list[ApiKey]:
        """The keys that were not revoked, the newest first, expired ones too: one's own; an admin
        may ask for another `person`, or with "" for everybody. Raises NotFound.
        """
        person = actor.id if person is None else person
        if (person != actor.id and not actor.admin) or not is_name(person):
            raise NotFound("person", person)
        query = select(*_KEY).where(tables.api_keys.c.revoked.is_(None))
        if person:
            query = query.where(tables.api_keys.c.person == person)
        with self._database.read() as connection:
            query = query.order_by(tables.api_keys.c.id.desc())
            return [_key_of(row) for row in connection.execute(query).mappings()]

    def revoke(self, actor: Person, key: str) -> None:
        """End a key at once: one's own, or anybody's for an admin. Raises NotFound."""
        if not is_name(key):
            raise NotFound("API key", key)
        columns = tables.api_keys.c
        query = update(tables.api_keys).where(columns.id == key, columns.revoked.is_(None))
        if not actor.admin:
            query = query.where(columns.person == actor.id)
        with self._database.begin() as connection:
            if not connection.execute(query.values(revoked=now())).rowcount:
                raise NotFound("API key", key)
            audit.write(connection, actor.id, "key revoked", key)

    def revoke_all(self, actor: Person, person: str) -> int:
        """End every key of a person; how many. Raises NotFound."""
        found = self.all(actor, person)
        for key in found:
            with suppress(NotFound):
                self.revoke(actor, key.id)
        return len(found)

    def _live(self, person: str) -> Any:
        columns = tables.api_keys.c
        return select(columns.id).where(columns.person == person, columns.revoked.is_(None))

    def _digest(self, secret: str) -> str:
        with self._lock:
            if self._pepper is None:
                self._pepper = derived(self._settings, "api keys")
        return hmac.new(self._pepper, secret.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _note_used(self, key: ApiKey, address: str, moment: datetime) -> None:
        """Whoever asks is let in, even where this cannot be noted."""
        columns = tables.api_keys.c
        query = update(tables.api_keys).where(
            columns.id == key.id, or_(columns.used.is_(None), columns.used < moment - _NOTED)
        )
        with suppress(StorageError), self._database.begin() as connection:
            first = key.used is None or key.used.date() != moment.date()
            if connection.execute(query.values(used=moment)).rowcount and first:
                audit.write(connection, key.person, "key used", key.id, address)

    def _note_refused(self, key: ApiKey, address: str, why: str, moment: datetime) -> None:
        with self._lock:
            last = self._refused.get(key.id)
            if last is not None and moment - last < _NOTED:
                return
            self._refused[key.id] = moment
        with suppress(StorageError), self._database.begin() as connection:
            audit.write(connection, key.person, "key refused", key.id, address, why=why)


def _checked_scopes(scopes: Iterable[str]) -> tuple[Scope, ...]:
    wanted = set(scopes)
    for scope in sorted(wanted):
        if scope not in SCOPES:
            raise UnknownName("scope", scope, SCOPES)
    if not wanted:
        raise InvalidInput(f"An API key has at least one scope of {', '.join(SCOPES)}.", "scopes")
    return tuple(scope for scope in SCOPES if scope in wanted)


def _key_of(row: RowMapping) -> ApiKey:
    return ApiKey(
        row["key_id"],
        row["key_person"],
        row["key_name"],
        row["key_start"],
        tuple(cast(list[Scope], row["key_scopes"])),
        row["key_created"],
        row["key_expires"],
        row["key_used"],
        row["key_revoked"],
    )


def _why_not(person: Person, key: ApiKey, moment: datetime) -> str:
    if key.revoked is not None:
        return "revoked"
    if key.expires is not None and key.expires <= moment:
        return "expired"
    if person.disabled:
        return "disabled"
    return "pending" if person.role == "pending" else ""
