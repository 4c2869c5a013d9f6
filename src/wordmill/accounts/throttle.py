"""Tries that are counted: after the first few each failure doubles the wait for the next.

Counted in the database, before the try is made, so that fifty at once are fifty. The counts are of
names, whether or not somebody has them: who is told to wait learns nothing.
"""

import hashlib
import ipaddress
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import delete, insert, select, update

from wordmill.accounts.rows import printable
from wordmill.database import Database, now
from wordmill.database import throttles as table
from wordmill.errors import TooMany

LONGEST: Final = 900
"""Seconds that one waits at most."""

_SERIES: Final = timedelta(days=1)
"""Failures older than that are forgotten."""


class Counted(NamedTuple):
    """What tries are counted for. `free`: failures before one has to wait."""

    key: str
    free: int


def of_account(email: str) -> Counted:
    """Tries at an account, whoever makes them."""
    return Counted("account:" + hashlib.sha256(email.encode("utf-8", "replace")).hexdigest(), 5)


def of_address(address: str, what: str = "address", free: int = 20) -> Counted | None:
    """Tries from an address, of IPv6 from one customer's network. None where there is none."""
    if not address:
        return None
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Counted(f"{what}:{printable(address)[:100]}", free)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return Counted(f"{what}:{found.ipv4_mapped}", free)
        return Counted(f"{what}:{ipaddress.ip_network((found, 64), strict=False)}", free)
    return Counted(f"{what}:{found}", free)


class Throttle:
    """The counts. Safe from any thread and process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def attempt(self, *counted: Counted | None) -> None:
        """Count a try as failed, before it is made. Raises TooMany, which counts nothing."""
        keys = {one.key: one.free for one in counted if one is not None}
        with self._database.begin() as connection:
            moment = now()
            this = table.c.key.in_(keys)
            rows = {row.key: row for row in connection.execute(select(table).where(this))}
            waits = [row.until - moment for row in rows.values() if row.until is not None]
            longest = max(waits, default=timedelta()).total_seconds()
            if longest > 0:
                raise TooMany(
                    f"Too many tries. The next one counts in {_spoken(longest)}.", longest
                )
            connection.execute(delete(table).where(this))
            for key, free in keys.items():
                row, failures, since = rows.get(key), 1, moment
                if row is not None and moment - row.since <= _SERIES:
                    failures, since = row.failures + 1, row.since
                over = failures - free
                wait = min(2.0 ** min(over - 1, 20), LONGEST) if over > 0 else None
                connection.execute(
                    insert(table).values(
                        key=key,
                        failures=failures,
                        since=since,
                        until=None if wait is None else moment + timedelta(seconds=wait),
                    )
                )

    def passed(self, account: Counted, address: Counted | None = None) -> None:
        """The try was good: the account's failures are forgotten, the address has one less."""
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.key == account.key))
            if address is not None:
                connection.execute(
                    update(table)
                    .where(table.c.key == address.key, table.c.failures > 0)
                    .values(failures=table.c.failures - 1, until=None)
                )
            connection.execute(delete(table).where(table.c.since < now() - 2 * _SERIES))


def _spoken(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 120 else f"{round(whole / 60)} min"
