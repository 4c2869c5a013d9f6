"""The channels that are configured: what they are told, their secrets, what they keep, their state.

Admins only. Which process runs a channel is settled by a lease, because an account that two of them
listen with would answer everything twice.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.engine import RowMapping

from wordmill import plugins, secrets
from wordmill.accounts import Audit, Person, need_admin
from wordmill.channels.rooms.admission import Policy
from wordmill.channels.rooms.base import Channel, Field, Json
from wordmill.database import Database, now
from wordmill.database import channels as table
from wordmill.errors import (
    ConfigError,
    Conflict,
    ExtraMissing,
    InvalidInput,
    NotFound,
    UnknownName,
)
from wordmill.settings import Settings
from wordmill.storage import said

LEASE: Final = 30.0
"""Seconds for which a process holds a channel without saying so again."""

_TAKEN: Final = ("batches", "web")
"""Parts of a server that say how they are beside the channels."""
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class Configured:
    """A channel as it is configured.

    options: without secrets.  status: what it last said of itself.  secret_names: which secrets
    are stored.  running: a process holds it now.
    """

    name: str
    kind: str
    options: Json
    secret_names: tuple[str, ...]
    enabled: bool
    status: Json
    running: bool
    created: datetime
    updated: datetime

    @property
    def policy(self) -> Policy:
        """Who may talk there."""
        return Policy.of(self.options)


class ChannelAccounts:
    """The table of channels. Safe from any thread and process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._audit = Audit(database)

    # For admins.

    def all(self, actor: Person) -> list[Configured]:
        """All of them, by name. Raises Forbidden."""
        need_admin(actor, "see the channels")
        return self.listed()

    def get(self, actor: Person, name: str) -> Configured:
        """One of them. Raises Forbidden, NotFound."""
        need_admin(actor, "see the channels")
        return _read(self._row(name), self._settings)

    def add(
        self,
        actor: Person,
        name: str,
        kind: str,
        options: Json,
        hidden: Mapping[str, str],
        *,
        enabled: bool = True,
    ) -> Configured:
        """A new channel. hidden: its secrets.

        Raises Forbidden, InvalidInput, UnknownName, Conflict.
        """
        need_admin(actor, "add channels")
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name[:80]!r} is no name of a channel: small letters, digits and dashes, "
                "a letter first, at most 40.",
                "name",
            )
        if name in _TAKEN:
            raise InvalidInput(
                f"{name!r} is what a part of Wordmill is called; choose another.", "name"
            )
        options, hidden = self.checked(kind, options, hidden)
        at = now()
        with self._database.begin() as connection:
            if connection.execute(select(table.c.name).where(table.c.name == name)).first():
                raise Conflict(f"There is a channel {name!r} already. Remove it first.")
            connection.execute(
                insert(table).values(
                    name=name, kind=kind, options=options, sealed=self._seal(name, hidden),
                    memory=None, enabled=enabled, status={}, marker=None, holder=None,
                    lease_until=None, created=at, updated=at,
                )
            )  # fmt: skip
        self._audit.note(actor.id, "channel added", name)
        return self.get(actor, name)

    def change(
        self,
        actor: Person,
        name: str,
        *,
        options: Json | None = None,
        hidden: Mapping[str, str] | None = None,
        enabled: bool | None = None,
    ) -> Configured:
        """Change options (those given, None takes one back), secrets or whether it runs.

        A running one is started anew. Raises Forbidden, NotFound, InvalidInput.
        """
        need_admin(actor, "change channels")
        row = self._row(name)
        values: dict[str, Any] = {"updated": now()}
        if options is not None or hidden is not None:
            merged = {**row["options"], **(options or {})}
            kept = {**self.secrets_of(name), **(hidden or {})}
            told = {key: value for key, value in merged.items() if value is not None}
            values["options"], kept = self.checked(row["kind"], told, kept)
            values["sealed"] = self._seal(name, kept)
        if hidden and (before := self.memory(name).read()):  # what is given anew is used anew
            self.memory(name).write({**before, "given": ""})
        if enabled is not None:
            values["enabled"] = enabled
        with self._database.begin() as connection:
            connection.execute(update(table).where(table.c.name == name).values(values))
        self._audit.note(actor.id, "channel changed", name)
        return self.get(actor, name)

    def remove(self, actor: Person, name: str) -> None:
        """Forget a channel, its keys and what it heard; conversations stay.

        Raises Forbidden, NotFound.
        """
        need_admin(actor, "remove channels")
        self._row(name)
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.name == name))
        folder = self._folder(name)
        if folder.is_dir():
            with said(folder):
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
        self._audit.note(actor.id, "channel removed", name)

    # For the manager.

    def listed(self) -> list[Configured]:
        """All of them, by name; nobody is asked."""
        with self._database.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.name)).mappings()
            return [_read(row, self._settings) for row in rows]

    def hold(self, name: str, holder: str) -> bool:
        """Take a channel for a process, or keep it; whether it is this one's now."""
        at = now()
        mine = (
            update(table)
            .where(table.c.name == name)
            .where(
                or_(table.c.holder == holder, table.c.holder.is_(None), table.c.lease_until < at)
            )
            .values(holder=holder, lease_until=at + timedelta(seconds=LEASE))
        )
        with self._database.begin() as connection:
            return bool(connection.execute(mine).rowcount)

    def let_go(self, name: str, holder: str) -> None:
        """Give a channel back, for another process to take at once."""
        mine = update(table).where(table.c.name == name, table.c.holder == holder)
        with self._database.begin() as connection:
            connection.execute(mine.values(holder=None, lease_until=None))

    def tell(self, name: str, status: Json) -> None:
        """What a channel says of itself now."""
        with self._database.begin() as connection:
            connection.execute(update(table).where(table.c.name == name).values(status=status))

    def secrets_of(self, name: str) -> dict[str, str]:
        """The secrets of a channel, open. Raises NotFound, ConfigError."""
        sealed = self._row(name)["sealed"]
        if sealed is None:
            return {}
        found: dict[str, str] = json.loads(
            secrets.unseal(self._settings, sealed, f"channels:{name}")
        )
        return found

    def memory(self, name: str) -> "SealedMemory":
        """What a channel keeps between starts."""
        return SealedMemory(self._database, self._settings, name, self._folder(name))

    def checked(
        self, kind: str, options: Json, hidden: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Options and secrets as they are stored. Raises UnknownName, InvalidInput, ConfigError."""
        if kind not in set(plugins.names("channels")):
            raise UnknownName("kind of channel", kind, plugins.names("channels"))
        fields = {field.name: field for field in fields_of(kind)}
        own = {key: value for key, value in options.items() if key in fields}
        policy = Policy.of({key: value for key, value in options.items() if key not in fields})
        for name, value in (*own.items(), *hidden.items()):
            if name not in fields or fields[name].secret != (name in hidden):
                raise InvalidInput(f"A channel of the kind {kind} has no {name!r}.", name)
            if not isinstance(value, str) or not 0 < len(value) <= 5000:
                raise InvalidInput(f"{name} must be a text.", name)
        for field in fields.values():
            if field.needed and field.name not in own and field.name not in hidden:
                raise InvalidInput(f"{field.name} is missing: {field.help}", field.name)
        return {**own, **policy.as_json()}, dict(hidden)

    def _row(self, name: str) -> RowMapping:
        with self._database.read() as connection:
            query = select(table).where(table.c.name == name)
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound("channel", name)
        return row

    def _seal(self, name: str, hidden: Mapping[str, str]) -> bytes:
        return secrets.seal(self._settings, json.dumps(dict(hidden)), f"channels:{name}")

    def _folder(self, name: str) -> Path:
        return self._settings.home / "channels" / name


class SealedMemory:
    """A `Memory`: sealed in the row of the channel, with a private folder beside the database."""

    def __init__(self, database: Database, settings: Settings, name: str, folder: Path) -> None:
        self._database, self._settings = database, settings
        self._name, self._folder = name, folder

    def read(self) -> dict[str, Any]:
        """What was written last; {} at first. Raises ConfigError for another key."""
        query = select(table.c.memory).where(table.c.name == self._name)
        with self._database.read() as connection:
            sealed = connection.execute(query).scalar()
        if sealed is None:
            return {}
        opened: dict[str, Any] = json.loads(secrets.unseal(self._settings, sealed, self._place))
        return opened

    def write(self, value: Json) -> None:
        """Instead of what was there."""
        sealed = secrets.seal(self._settings, json.dumps(dict(value)), self._place)
        with self._database.begin() as connection:
            mine = update(table).where(table.c.name == self._name)
            connection.execute(mine.values(memory=sealed))

    def key(self) -> str:
        """A password for stores of its own."""
        return secrets.derived(self._settings, self._place).hex()

    def folder(self) -> str:
        """A private folder, made now. Raises StorageError."""
        with said(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(self._folder)

    @property
    def _place(self) -> str:
        return f"channel memory:{self._name}"


def load(kind: str) -> type[Channel]:
    """The class of a kind. Raises UnknownName, ConfigError where its extra is not installed."""
    try:
        found: type[Channel] = plugins.load("channels", kind)
    except ConfigError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise ExtraMissing(f"The channel {kind}", kind) from error
        raise
    return found


def fields_of(kind: str) -> Sequence[Field]:
    """What a kind of channel has to be told."""
    return load(kind).FIELDS


def _read(row: RowMapping, settings: Settings) -> Configured:
    hidden = ()
    if row["sealed"] is not None:
        hidden = tuple(
            sorted(json.loads(secrets.unseal(settings, row["sealed"], f"channels:{row['name']}")))
        )
    return Configured(
        name=row["name"], kind=row["kind"], options=row["options"], secret_names=hidden,
        enabled=row["enabled"], status=row["status"],
        running=row["lease_until"] is not None and row["lease_until"] > now(),
        created=row["created"], updated=row["updated"],
    )  # fmt: skip
