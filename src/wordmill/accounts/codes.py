"""One-time codes: given out once, good for a while, used once. Only their digests are kept."""

import base64
import hashlib
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.engine import Connection

from wordmill.database import codes as table
from wordmill.database import now


class Used(NamedTuple):
    """What a code was made for."""

    person: str | None
    detail: Mapping[str, str]


def make(
    connection: Connection,
    purpose: str,
    lasts: timedelta,
    *,
    person: str | None = None,
    **detail: str,
) -> str:
    """A new code of 100 random bits, as `ABCDE-FGHIJ-KLMNO-PQRST`. Expired ones are forgotten."""
    moment = now()
    connection.execute(delete(table).where(table.c.expires < moment))
    letters = base64.b32encode(os.urandom(15)).decode()[:20]
    code = "-".join(letters[at : at + 5] for at in range(0, 20, 5))
    connection.execute(
        insert(table).values(
            digest=_digest(purpose, code),
            purpose=purpose,
            person=person,
            detail=detail,
            created=moment,
            expires=moment + lasts,
        )
    )
    return code


def look(connection: Connection, purpose: str, code: str) -> Used | None:
    """What it was made for; it stays good. None for one that is not good (any more)."""
    row = connection.execute(select(table).where(*_this(purpose, code))).one_or_none()
    return None if row is None or row.expires <= now() else Used(row.person, row.detail)


def use(connection: Connection, purpose: str, code: str) -> Used | None:
    """The same once: it is gone then."""
    found = look(connection, purpose, code)
    if found is not None:
        connection.execute(delete(table).where(*_this(purpose, code)))
    return found


def forget(connection: Connection, purpose: str, person: str | None = None) -> None:
    """All of a purpose; with `person`, only theirs."""
    query = delete(table).where(table.c.purpose == purpose)
    if person is not None:
        query = query.where(table.c.person == person)
    connection.execute(query)


def _this(purpose: str, code: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.digest == _digest(purpose, code), table.c.purpose == purpose


def _digest(purpose: str, code: str) -> str:
    """Of how it is meant: read aloud or typed, with or without its dashes."""
    meant = code[:100].strip().replace("-", "").replace(" ", "").upper()
    return hashlib.sha256(f"{purpose}:{meant}".encode("utf-8", "replace")).hexdigest()
