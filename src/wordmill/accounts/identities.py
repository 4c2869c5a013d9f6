"""Who a person is elsewhere: at an OpenID provider, on Matrix, on Discord.

Known by the provider and the provider's own id (an issuer's subject, `@ann:example.org`, a number),
never by a name that is shown. A chat account is linked by a code: made where one is signed in and
typed where one wants to be known, or the other way round.

Whoever talks without an account of their own may be a guest: an account under an address that no
mail reaches, which ends when the chat account is linked to another.
"""

import hashlib
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from wordmill import database as tables
from wordmill.accounts import audit, codes
from wordmill.accounts.rows import PERSON, find_person, is_name, person_of
from wordmill.accounts.throttle import Throttle, of_address
from wordmill.accounts.types import Identity, Person
from wordmill.database import Database, now
from wordmill.database import identities as table
from wordmill.errors import Conflict, InvalidInput, NotFound, Unauthenticated

LINK: Final = "link"
OFFER: Final = "link from a chat"
GUESTS: Final = ".guest.invalid"
"""How the addresses of guests end; no mail is ever delivered to such a one."""
_LASTS: Final = timedelta(minutes=10)
_NOT_GOOD: Final = "This code is not good (any more). `--link` in the chat makes another."


class Identities:
    """The links. Safe from any thread and process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._throttle = Throttle(database)

    def find(self, provider: str, subject: str) -> Person | None:
        """Who that is, as the person is now; None for nobody, or somebody who may not come in."""
        query = (
            select(*PERSON)
            .join_from(table, tables.people, table.c.person == tables.people.c.id)
            .where(table.c.provider == provider, table.c.subject == subject)
        )
        with self._database.read() as connection:
            found = connection.execute(query) if is_name(subject) and is_name(provider) else None
            row = None if found is None else found.mappings().one_or_none()
        person = None if row is None else person_of(row)
        return None if person is None or person.disabled or person.role == "pending" else person

    def all(self, person: Person) -> list[Identity]:
        """Where a person is known."""
        query = select(table).where(table.c.person == person.id).order_by(table.c.created)
        with self._database.read() as connection:
            return [Identity(**row) for row in connection.execute(query).mappings()]

    def code(self, person: Person) -> str:
        """A one-time code that links a chat account to the person; good for ten minutes."""
        with self._database.begin() as connection:
            find_person(connection, person.id)
            codes.forget(connection, LINK, person.id)
            return codes.make(connection, LINK, _LASTS, person=person.id)

    def redeem(self, code: str, provider: str, subject: str) -> Person:
        """Link whoever typed the code. Raises Unauthenticated, Conflict, TooMany."""
        self._throttle.attempt(of_address(f"{provider}:{subject}", "link", 5))
        with self._database.begin() as connection:
            used = codes.use(connection, LINK, code)
            if used is None or used.person is None:
                raise Unauthenticated(
                    "This code is not good (any more). The page Settings makes another."
                )
            person = find_person(connection, used.person)
            _end_guest(connection, provider, subject)
            link(connection, person.id, provider, subject)
            return person

    def offer(self, provider: str, subject: str) -> str:
        """A one-time code for whoever talks there, to be entered where one is signed in; good for
        ten minutes. Raises TooMany.
        """
        self._throttle.attempt(of_address(f"{provider}:{subject}", "link", 5))
        with self._database.begin() as connection:
            return codes.make(connection, OFFER, _LASTS, provider=provider, subject=subject)

    def offered(self, person: Person, code: str) -> tuple[str, str]:
        """Provider and subject of the chat account that was given the code, which stays good: so
        that a person sees whose it is before they let it be them.

        Raises Unauthenticated, TooMany.
        """
        self._throttle.attempt(of_address(f"person:{person.id}", "link", 5))
        with self._database.read() as connection:
            known = codes.look(connection, OFFER, code)
        if known is None:
            raise Unauthenticated(_NOT_GOOD)
        return known.detail["provider"], known.detail["subject"]

    def accept(self, person: Person, code: str) -> Identity:
        """Link the chat account that was given the code.

        Raises Unauthenticated, Conflict, TooMany.
        """
        self._throttle.attempt(of_address(f"person:{person.id}", "link", 5))
        with self._database.begin() as connection:
            used = codes.use(connection, OFFER, code)
            if used is None:
                raise Unauthenticated(_NOT_GOOD)
            provider, subject = used.detail["provider"], used.detail["subject"]
            _end_guest(connection, provider, subject)
            link(connection, person.id, provider, subject)
            return Identity(provider, subject, person.id, now())

    def new_guests(self, provider: str) -> int:
        """How many guests have come there within a day."""
        query = (
            select(func.count())
            .select_from(table)
            .join(tables.people, table.c.person == tables.people.c.id)
            .where(table.c.provider == provider, table.c.created > now() - timedelta(days=1))
            .where(tables.people.c.email.endswith(GUESTS, autoescape=True))
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def join(self, person: Person, provider: str, subject: str) -> None:
        """Note that a guest's account is this chat account's. Raises Conflict."""
        with self._database.begin() as connection:
            link(connection, person.id, provider, subject)

    def unlink(self, person: Person, provider: str, subject: str) -> None:
        """Forget a link of one's own. Raises NotFound."""
        if not is_name(provider) or not is_name(subject):
            raise NotFound("link to", f"{provider} {subject}")
        query = delete(table).where(
            table.c.provider == provider, table.c.subject == subject, table.c.person == person.id
        )
        with self._database.begin() as connection:
            if not connection.execute(query).rowcount:
                raise NotFound("link to", f"{provider} {subject}")
            audit.write(connection, person.id, "unlinked", f"{provider} {subject}")


def guest_address(provider: str, subject: str) -> str:
    """The e-mail address of the account of a guest: the same one each time."""
    digest = hashlib.sha256(f"{provider}\0{subject}".encode()).hexdigest()[:24]
    return f"{digest}@{provider}{GUESTS}"


def is_guest(person: Person) -> bool:
    """Whether somebody talks in rooms alone, without an account of their own."""
    return person.email.endswith(GUESTS)


def _end_guest(connection: Connection, provider: str, subject: str) -> None:
    """Whoever gets an account of their own is no guest any more; the guest's is disabled."""
    query = (
        select(tables.people.c.id)
        .join_from(table, tables.people, table.c.person == tables.people.c.id)
        .where(table.c.provider == provider, table.c.subject == subject)
        .where(tables.people.c.email.endswith(GUESTS, autoescape=True))
    )
    known = is_name(provider) and is_name(subject)
    person = connection.execute(query).scalar() if known else None
    if person is not None:
        same = (table.c.provider == provider, table.c.subject == subject)
        connection.execute(delete(table).where(*same))
        ended = update(tables.people).where(tables.people.c.id == person).values(disabled=True)
        connection.execute(ended)


def link(connection: Connection, person: str, provider: str, subject: str) -> None:
    """Note who somebody is elsewhere. Raises Conflict when that is another person already."""
    if not 0 < len(subject) <= 300 or not subject.isprintable():
        raise InvalidInput("What is linked has 1 to 300 characters that can be printed.")
    try:
        connection.execute(
            insert(table).values(provider=provider, subject=subject, person=person, created=now())
        )
    except IntegrityError as error:
        raise Conflict(
            f"{subject} at {provider} is linked to an account already. Unlink it there first."
        ) from error
    audit.write(connection, person, "linked", f"{provider} {subject}")
