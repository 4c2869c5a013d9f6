"""People: who has an account, in which role.

The first account is an admin's and has the id `local`, so that all that the command line made
before is that person's. There is an admin from then on: the last one can be neither removed nor
disabled nor made something else, however many try at once.

`sessions` and `keys` say who is there now; here nothing is checked but the right to change.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final, get_args

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from wordmill import database as tables
from wordmill.accounts import audit, codes, passwords
from wordmill.accounts.rows import PERSON, end_sessions, find_person, is_name, person_of
from wordmill.accounts.throttle import Throttle, of_account, of_address
from wordmill.accounts.types import LOCAL_PERSON, ROLES, Person, Role, need_admin
from wordmill.database import LOCAL, Database, new_id, now
from wordmill.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Unauthenticated,
    UnknownName,
)
from wordmill.settings import Settings

FIRST_ADMIN: Final = "first admin"
RESET: Final = "password"
_DAY: Final = timedelta(days=1)

_EMAIL: Final = re.compile(r"[^@\s<>\"',;:\\()\[\]]{1,64}@[^@\s<>\"',;:\\()\[\]]{1,255}")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class People:
    """The accounts. Safe from any thread and process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._throttle = Throttle(database)
        self._removed: list[Callable[[Person], object]] = []

    # Looking ----------------------------------------------------------------------------------

    def none(self) -> bool:
        """Whether nobody is there yet."""
        with self._database.read() as connection:
            return _nobody(connection)

    def get(self, person: str) -> Person:
        """The person of that id. Raises NotFound."""
        with self._database.read() as connection:
            return find_person(connection, person)

    def by_email(self, email: str) -> Person:
        """The person of that address, however it is capitalised. Raises NotFound."""
        wanted = normal(email)
        query = select(*PERSON).where(tables.people.c.email == wanted)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none() if is_name(wanted) else None
        if row is None:
            raise NotFound("person", email)
        return person_of(row)

    def local(self) -> Person:
        """Whoever runs the command line on this machine: may do what an admin may.

        The first admin, once there is one.
        """
        try:
            found = self.get(LOCAL)
        except NotFound:
            return LOCAL_PERSON
        return replace(found, role="admin", disabled=False)

    def all(self, actor: Person) -> list[Person]:
        """Everybody, by e-mail address. Raises Forbidden for anybody but an admin."""
        need_admin(actor, "see who has an account")
        with self._database.read() as connection:
            query = select(*PERSON).order_by(tables.people.c.email)
            return [person_of(row) for row in connection.execute(query).mappings()]

    # Making -----------------------------------------------------------------------------------

    def create(
        self,
        actor: Person | None,
        email: str,
        name: str = "",
        password: str | None = None,
        role: Role = "member",
    ) -> Person:
        """A new account. actor: an admin; None for Wordmill itself.

        password: None for one that signs in elsewhere, or chooses it with a `reset` code.
        Raises Forbidden, InvalidInput, Conflict for an address that has an account.
        """
        if actor is not None:
            need_admin(actor, "add people")
        email, name = checked_email(email), checked_name(name or email.partition("@")[0])
        _check_role(role)
        hashed = self._hashed(password, email, name)
        with self._database.begin() as connection:
            if _nobody(connection) and role != "admin":
                raise InvalidInput("The first account is an admin's: give it that role.", "role")
            return self.insert(connection, email, name, hashed, role, _id(actor))

    def sign_up(self, *, email: str, name: str, password: str, address: str = "") -> Person:
        """An account that somebody makes for themselves, as the setting `sign_up` allows.

        While an admin has to let people in (role `pending`), nobody learns from the answer whether
        the address has an account already. Raises Forbidden, InvalidInput, Conflict, TooMany.
        """
        how = self._settings.sign_up
        if how == "closed" or self.none():
            raise Forbidden("Nobody can sign up here. Ask an admin for an account.")
        email, name = checked_email(email), checked_name(name)
        password = passwords.check(password, email, name)
        self._throttle.attempt(of_address(address, "sign-up", 10))
        hashed = passwords.hashed(password)
        role: Role = "pending" if how == "pending" else "member"
        try:
            with self._database.begin() as connection:
                return self.insert(connection, email, name, hashed, role, "", address)
        except Conflict:
            if role == "pending":
                return Person(new_id(), email, name, role, None, False, now())
            raise

    def first_admin_code(self) -> str | None:
        """A new one-time code that makes the first admin, good for a day; None once there are
        people. The codes before it are good no more.
        """
        with self._database.begin() as connection:
            if not _nobody(connection):
                return None
            codes.forget(connection, FIRST_ADMIN)
            return codes.make(connection, FIRST_ADMIN, _DAY)

    def first_admin(
        self, code: str, *, email: str, name: str, password: str, address: str = ""
    ) -> Person:
        """The first account, with the code from the log.

        Raises Unauthenticated for a wrong code, Conflict when somebody is there already,
        InvalidInput, TooMany.
        """
        email, name = checked_email(email), checked_name(name)
        password = passwords.check(password, email, name)
        self._throttle.attempt(of_address(address, FIRST_ADMIN, 10))
        hashed = passwords.hashed(password)
        with self._database.begin() as connection:
            if not _nobody(connection):
                raise Conflict("There is an admin already. Ask for an account.")
            if codes.use(connection, FIRST_ADMIN, code) is None:
                raise Unauthenticated(
                    "This code is not good (any more). The newest one stands in the server's log; "
                    "a restart writes another."
                )
            return self.insert(connection, email, name, hashed, "admin", "", address)

    def from_settings(self) -> Person | None:
        """The first admin from `admin_email` and `admin_password`; None where there is nothing to
        do. Raises InvalidInput for values that cannot be used.
        """
        settings = self._settings
        if settings.admin_email is None or not self.none():
            return None
        if settings.admin_password is None:
            raise InvalidInput(
                "admin_email is set and admin_password is not: set WORDMILL_ADMIN_PASSWORD, or "
                "WORDMILL_ADMIN_PASSWORD_FILE to the name of a file that holds it."
            )
        email = checked_email(settings.admin_email)
        hashed = self._hashed(settings.admin_password, email)
        with self._database.begin() as connection:
            if not _nobody(connection):  # another process was faster
                return None
            name = email.partition("@")[0]
            return self.insert(connection, email, name, hashed, "admin", "")

    # Changing ---------------------------------------------------------------------------------

    def change(
        self,
        actor: Person,
        person: str,
        *,
        name: str | None = None,
        language: str | None = None,
        email: str | None = None,
        role: Role | None = None,
        disabled: bool | None = None,
        address: str = "",
    ) -> Person:
        """Change what is given. Name and language are one's own; the rest needs an admin.

        language: "" is the browser's.  A person who is disabled, or whose role is `pending`, is
        signed out at once; every other role counts from the next click.
        Raises NotFound, Forbidden, InvalidInput, Conflict (also for the last admin).
        """
        if any(value is not None for value in (email, role, disabled)):
            need_admin(actor, "change addresses and roles, or disable people")
        _only_own(actor, person)
        values: dict[str, object] = {}
        if name is not None:
            values["name"] = checked_name(name)
        if language is not None:
            values["language"] = _checked_language(language)
        if email is not None:
            values["email"] = checked_email(email)
        if role is not None:
            _check_role(role)
            values["role"] = role
        if disabled is not None:
            values["disabled"] = disabled
        with self._database.begin() as connection:
            before = find_person(connection, person)
            if before.admin and (role not in (None, "admin") or disabled):
                _keep_an_admin(connection, before)
            if values:
                with _taken(str(values.get("email", ""))):
                    connection.execute(
                        update(tables.people).where(tables.people.c.id == person).values(**values)
                    )
            if disabled or role == "pending":
                end_sessions(connection, person)
            for field in sorted(values.keys() & {"email", "role", "disabled"}):
                was = getattr(before, field)
                if was != values[field]:
                    audit.write(
                        connection, actor.id, f"{field} changed", person, address,
                        was=was, now=values[field],
                    )  # fmt: skip
            return find_person(connection, person)

    def set_password(
        self,
        actor: Person | None,
        person: str,
        password: str,
        *,
        current: str | None = None,
        keep: str = "",
        address: str = "",
    ) -> None:
        """Give a person another password. Every session ends but that of the token `keep`.

        actor: the person, who must know the `current` one; or an admin, for others; or None, who
        holds the machine.  Raises Unauthenticated, Forbidden, NotFound, InvalidInput, TooMany.
        """
        if actor is not None:
            _only_own(actor, person)
        with self._database.read() as connection:
            found = find_person(connection, person)
            query = select(tables.people.c.password).where(tables.people.c.id == person)
            old = connection.execute(query).scalar()
        password = passwords.check(password, found.email, found.name)
        if actor is not None and actor.id == person and old is not None:
            account = of_account(found.email)
            self._throttle.attempt(account)
            if not passwords.fits(old, current or ""):
                raise Unauthenticated("The current password is another one.")
            self._throttle.passed(account)
        hashed = passwords.hashed(password)
        with self._database.begin() as connection:
            self._set(connection, person, hashed, keep)
            audit.write(connection, _id(actor), "password changed", person, address)

    def reset(self, actor: Person, person: str) -> str:
        """A one-time code with which the person chooses a password, good for a day. Admins only."""
        need_admin(actor, "let people choose another password")
        with self._database.begin() as connection:
            find_person(connection, person)
            codes.forget(connection, RESET, person)
            audit.write(connection, actor.id, "password code made", person)
            return codes.make(connection, RESET, _DAY, person=person)

    def redeem(self, code: str, password: str, *, address: str = "") -> Person:
        """Choose a password with a code of `reset`. Every session ends.

        Raises Unauthenticated for a code that is not good, InvalidInput, TooMany.
        """
        password = passwords.check(password)
        self._throttle.attempt(of_address(address, RESET, 10))
        hashed = passwords.hashed(password)
        with self._database.begin() as connection:
            used = codes.use(connection, RESET, code)
            if used is None or used.person is None:
                raise Unauthenticated("This code is not good (any more). Ask an admin for another.")
            found = find_person(connection, used.person)
            passwords.check(password, found.email, found.name)
            self._set(connection, found.id, hashed, "")
            audit.write(connection, found.id, "password changed", found.id, address, by="code")
            return found

    # Removing ---------------------------------------------------------------------------------

    def when_removed(self, call: Callable[[Person], object]) -> None:
        """Have `call` remove what else is a person's, when the person is. It may be repeated."""
        self._removed.append(call)

    def remove(self, actor: Person, person: str, *, address: str = "") -> None:
        """Remove an account and all that is its own; what it used stays in the ledger, without a
        name. One's own, or any for an admin. Raises NotFound, Forbidden, Conflict (last admin).
        """
        _only_own(actor, person)
        with self._database.begin() as connection:
            found = find_person(connection, person)
            if found.admin:
                _keep_an_admin(connection, found)
            # First nobody can act as this person any more; if what follows is interrupted, the
            # account is disabled, and can be removed again.
            connection.execute(
                update(tables.people).where(tables.people.c.id == person).values(disabled=True)
            )
            end_sessions(connection, person)
        for call in self._removed:
            call(found)
        with self._database.begin() as connection:
            for table, column in (
                (tables.provider_keys, tables.provider_keys.c.owner),
                (tables.quotas, tables.quotas.c.person),
                (tables.person_models, tables.person_models.c.person),
                (tables.codes, tables.codes.c.person),
                (tables.people, tables.people.c.id),
            ):
                connection.execute(delete(table).where(column == person))
            audit.write(connection, actor.id, "person removed", person, address, role=found.role)

    # Inside -----------------------------------------------------------------------------------

    def _hashed(self, password: str | None, *own: str) -> str | None:
        return None if password is None else passwords.hashed(passwords.check(password, *own))

    def insert(
        self,
        connection: Connection,
        email: str,
        name: str,
        hashed: str | None,
        role: Role,
        by: str,
        address: str = "",
    ) -> Person:
        """The row of a new account, in a transaction that is open; everything is checked already.

        by: the id of who makes it; "" for the person. Raises Conflict.
        """
        person = LOCAL if _nobody(connection) else new_id()
        with _taken(email):
            connection.execute(
                insert(tables.people).values(
                    id=person, email=email, name=name, role=role, password=hashed, language=None,
                    settings={}, disabled=False, created=now(),
                )
            )  # fmt: skip
        audit.write(connection, by or person, "person added", person, address, role=role)
        return find_person(connection, person)

    def _set(self, connection: Connection, person: str, hashed: str, keep: str) -> None:
        connection.execute(
            update(tables.people).where(tables.people.c.id == person).values(password=hashed)
        )
        codes.forget(connection, RESET, person)
        end_sessions(connection, person, keep)


def normal(email: str) -> str:
    """An address as it is stored and looked for."""
    return unicodedata.normalize("NFC", email.strip()).lower()


def checked_email(email: str) -> str:
    """The address as it is stored. Raises InvalidInput for what cannot be one."""
    found = normal(email)
    if not _EMAIL.fullmatch(found) or not found.isprintable() or len(found) > 320:
        raise InvalidInput(f"{email[:80]!r} is no e-mail address, as ann@example.org.", "email")
    return found


def checked_name(name: str) -> str:
    """The name as it is stored. Raises InvalidInput for one that is empty, long or unprintable."""
    found = " ".join(unicodedata.normalize("NFC", name).split())
    if not 0 < len(found) <= 200 or not found.isprintable():
        raise InvalidInput("A name has 1 to 200 characters that can be printed.", "name")
    return found


def _checked_language(language: str) -> str | None:
    if language and (not _LANGUAGE.fullmatch(language) or len(language) > 16):
        raise InvalidInput(f"{language[:20]!r} is no language, as `en` or `de`.", "language")
    return language or None


def _check_role(role: str) -> None:
    if role not in get_args(Role):
        raise UnknownName("role", role, ROLES)


def _id(actor: Person | None) -> str:
    return LOCAL if actor is None else actor.id


def _only_own(actor: Person, person: str) -> None:
    """Somebody else is not there, for anybody but an admin."""
    if actor.id != person and not actor.admin:
        raise NotFound("person", person)


def _nobody(connection: Connection) -> bool:
    return connection.execute(select(tables.people.c.id).limit(1)).first() is None


def _keep_an_admin(connection: Connection, person: Person) -> None:
    query = (
        select(func.count())
        .select_from(tables.people)
        .where(
            tables.people.c.role == "admin",
            tables.people.c.disabled.is_(False),
            tables.people.c.id != person.id,
        )
    )
    if not connection.execute(query).scalar_one():
        raise Conflict(
            f"{person.email} is the last admin: without one nobody could let others in. "
            "Make somebody else an admin first."
        )


class _taken:  # reads as a word where it is used
    """Turns the database's word for an address that is taken into ours."""

    def __init__(self, email: str) -> None:
        self._email = email

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, IntegrityError):
            raise Conflict(f"There is an account for {self._email} already.") from error
