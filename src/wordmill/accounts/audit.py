"""The audit log: who did what, from where, when. Written once, never changed here.

Sign-ins and refusals, roles, keys, deletions. No text of anybody's, no secret, no address of
somebody who has no account.
"""

from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from wordmill.accounts.rows import is_name, printable
from wordmill.accounts.types import Entry, Person
from wordmill.database import Database, new_id, now
from wordmill.database import audit as table
from wordmill.errors import Forbidden
from wordmill.secrets import scrub


def write(
    connection: Connection,
    person: str,
    action: str,
    subject: str = "",
    address: str = "",
    **detail: object,
) -> None:
    """Note it in a transaction that is open: with what it tells of, or not at all."""
    values = {name: _plain(value) for name, value in detail.items()}
    connection.execute(
        insert(table).values(
            id=new_id(),
            at=now(),
            person=person,
            action=action,
            subject=scrub(printable(subject))[:400],
            address=printable(address)[:100],
            detail=values,
        )
    )


class Audit:
    """The log. Safe from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(
        self, person: str, action: str, subject: str = "", address: str = "", **detail: object
    ) -> None:
        """Add a line.

        person: an id, or "" for nobody that is known.  action: a few words, as `key made`.
        subject: the id of what it was done to.  detail: plain values; what looks like a secret is
        taken out.
        """
        with self._database.begin() as connection:
            write(connection, person, action, subject, address, **detail)

    def entries(
        self,
        actor: Person,
        *,
        person: str | None = None,
        action: str | None = None,
        before: datetime | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """The newest lines first, at most `limit` (up to 1,000).

        An admin sees all of them, everybody else what is noted of themselves. Raises Forbidden.
        """
        if not actor.admin:
            if person not in (None, actor.id):
                raise Forbidden("Only an admin may see what is noted of others.")
            person = actor.id
        query = (
            select(table)
            .order_by(table.c.at.desc(), table.c.id.desc())
            .limit(max(1, min(limit, 1000)))
        )
        if not is_name((person or "") + (action or "")):
            return []
        if person is not None:
            query = query.where(table.c.person == person)
        if action is not None:
            query = query.where(table.c.action == action)
        if before is not None:
            query = query.where(table.c.at < before)
        with self._database.read() as connection:
            return [Entry(**row) for row in connection.execute(query).mappings()]


def _plain(value: object) -> object:
    if isinstance(value, str):
        return scrub(printable(value))[:1000]
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else scrub(str(value))
