"""What several parts read of the tables of people and sessions, and do to them."""

import hashlib
from typing import Final, cast

from sqlalchemy import RowMapping, select, update
from sqlalchemy.engine import Connection

from wordmill import database as tables
from wordmill.accounts.types import Person, Role
from wordmill.database import now
from wordmill.errors import NotFound

PERSON: Final = [
    tables.people.c[name]
    for name in ("id", "email", "name", "role", "language", "disabled", "created")
]
"""What a `Person` is made of."""


def person_of(row: RowMapping) -> Person:
    """A person from the columns of `PERSON`."""
    return Person(
        row["id"],
        row["email"],
        row["name"],
        cast(Role, row["role"]),
        row["language"],
        row["disabled"],
        row["created"],
    )


def is_name(text: str) -> bool:
    """Whether something could be called so: no database is asked for what none can hold."""
    return len(text) <= 400 and text.isprintable()


def printable(text: str) -> str:
    """The text without what a terminal or a database would stumble over."""
    return "".join(letter for letter in text if letter.isprintable())


def find_person(connection: Connection, person: str) -> Person:
    """The person of that id. Raises NotFound."""
    query = select(*PERSON).where(tables.people.c.id == person)
    row = connection.execute(query).mappings().one_or_none() if is_name(person) else None
    if row is None:
        raise NotFound("person", person)
    return person_of(row)


def digest_of(token: str) -> str:
    """By which a session is known without its token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def end_sessions(connection: Connection, person: str, keep: str = "") -> None:
    """End all of a person's sessions but that of the token `keep`."""
    columns = tables.sessions.c
    connection.execute(
        update(tables.sessions)
        .where(
            columns.person == person,
            columns.revoked.is_(None),
            columns.digest != digest_of(keep),
        )
        .values(revoked=now())
    )
