"""The values of accounts: frozen, and without I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, TypeAlias

from wordmill.database import LOCAL
from wordmill.errors import Forbidden

Role: TypeAlias = Literal["admin", "member", "pending"]
ROLES: Final[tuple[Role, ...]] = ("admin", "member", "pending")

Scope: TypeAlias = Literal["chat", "runs", "read", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("chat", "runs", "read", "admin")
"""What an API key may do, all of it within what its person may.

chat: talk to models, through /v1 too, and keep conversations.  runs: start, cancel and export runs.
read: see what the person has, and change nothing.  admin: what needs an admin.
"""

Period: TypeAlias = Literal["day", "month"]
PERIODS: Final[tuple[Period, ...]] = ("day", "month")
"""Of quotas: they begin and end at midnight UTC."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account. `email` is lower case; `language` None is the browser's."""

    id: str
    email: str
    name: str
    role: Role
    language: str | None
    disabled: bool
    created: datetime

    @property
    def admin(self) -> bool:
        """Whether this person may do what needs an admin."""
        return self.role == "admin" and not self.disabled


LOCAL_PERSON: Final = Person(
    LOCAL, "", "local", "admin", None, False, datetime(1970, 1, 1, tzinfo=UTC)
)
"""Whoever runs the command line on this machine, while there are no accounts."""


def need_admin(person: Person, what: str) -> None:
    """Raise Forbidden for anybody but an admin. `what` ends the sentence: `change roles`."""
    if not person.admin:
        raise Forbidden(f"Only an admin may {what}.")


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in. `digest` names it and opens nothing."""

    digest: str
    person: str
    address: str
    agent: str
    created: datetime
    seen: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A personal key without its secret. `start`: the first characters, by which one knows it."""

    id: str
    person: str
    name: str
    start: str
    scopes: tuple[Scope, ...]
    created: datetime
    expires: datetime | None
    used: datetime | None
    revoked: datetime | None

    def require(self, scope: Scope) -> None:
        """Raise Forbidden when the key may not do this. `read` is part of every scope."""
        if scope not in self.scopes and scope != "read":
            raise Forbidden(
                f"The API key {self.name!r} may not do this: it has the scopes "
                f"{', '.join(self.scopes)}, and this needs {scope}."
            )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a person is elsewhere. `provider`: an OIDC issuer, `matrix` or `discord`."""

    provider: str
    subject: str
    person: str
    created: datetime


class Amount(NamedTuple):
    """What is used, or may be. `tokens`: read and written together; `money` as prices are."""

    requests: int = 0
    tokens: int = 0
    money: float = 0.0


class Quota(NamedTuple):
    """The most in a period; None bounds nothing. `own`: the person's, not everybody's."""

    period: Period
    requests: int | None
    tokens: int | None
    money: float | None
    own: bool


@dataclass(frozen=True, slots=True)
class Used:
    """What a person used since `begins`, and what bounds it until `ends`."""

    period: Period
    begins: datetime
    ends: datetime
    amount: Amount
    quota: Quota | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the audit log. `person` "" is nobody that is known."""

    id: str
    at: datetime
    person: str
    action: str
    subject: str
    address: str
    detail: dict[str, object]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A provider's key that is stored, without it. `everyone`: it is not one person's."""

    model: str
    everyone: bool
    created: datetime
