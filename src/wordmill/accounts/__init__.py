"""Accounts: people, how they prove who they are, what they may use, and what is noted of it.

`Accounts` is what every door opens once and shares. Each part is a module of its own.
"""

from wordmill.accounts.audit import Audit
from wordmill.accounts.drives import Drives
from wordmill.accounts.identities import Identities
from wordmill.accounts.keys import ApiKeys
from wordmill.accounts.ledger import EVERYBODY, Ledger, Reservation
from wordmill.accounts.oidc import Oidc, OidcStart
from wordmill.accounts.people import People
from wordmill.accounts.provider_keys import ProviderKeys, catalog_of
from wordmill.accounts.sessions import Sessions
from wordmill.accounts.types import (
    LOCAL_PERSON,
    PERIODS,
    ROLES,
    SCOPES,
    Amount,
    ApiKey,
    Entry,
    Identity,
    Period,
    Person,
    Quota,
    Role,
    Scope,
    Session,
    StoredKey,
    Used,
    need_admin,
)
from wordmill.database import Database
from wordmill.settings import Settings

__all__ = [
    "EVERYBODY",
    "LOCAL_PERSON",
    "PERIODS",
    "ROLES",
    "SCOPES",
    "Accounts",
    "Amount",
    "ApiKey",
    "ApiKeys",
    "Audit",
    "Drives",
    "Entry",
    "Identities",
    "Identity",
    "Ledger",
    "Oidc",
    "OidcStart",
    "People",
    "Period",
    "Person",
    "ProviderKeys",
    "Quota",
    "Reservation",
    "Role",
    "Scope",
    "Session",
    "Sessions",
    "StoredKey",
    "Used",
    "catalog_of",
    "need_admin",
]


class Accounts:
    """All of it, on one database. Safe from any thread; one object a process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.people = People(database, settings)
        self.sessions = Sessions(database, settings)
        self.keys = ApiKeys(database, settings)
        self.provider_keys = ProviderKeys(database, settings)
        self.ledger = Ledger(database)
        self.audit = Audit(database)
        self.identities = Identities(database)
        self.oidc = Oidc(database, settings)
        self.drives = Drives(database, settings)

    def first_admin_code(self) -> str | None:
        """What a server does at its start while nobody is there: the first admin is made from the
        settings, or a one-time code is returned, to be shown in the log. None in all other cases.

        Raises InvalidInput for settings that cannot be used.
        """
        self.people.from_settings()
        return self.people.first_admin_code()
