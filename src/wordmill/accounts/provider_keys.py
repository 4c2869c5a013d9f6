"""Keys of providers: somebody's own, and everybody's; sealed where they are stored.

A key is bound to the address of its model: when the model is given another address, the key is not
sent there, but asked for again. What is stored is never shown; it can only be replaced or removed.
"""

import json
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, delete, insert, or_, select

from wordmill import database as tables
from wordmill.accounts import audit
from wordmill.accounts.rows import is_name
from wordmill.accounts.types import Person, StoredKey, need_admin
from wordmill.database import LOCAL, Database, now
from wordmill.database import provider_keys as table
from wordmill.errors import InvalidInput, NotFound, UnknownName
from wordmill.models import Catalog
from wordmill.providers.base import Keys, Model
from wordmill.secrets import seal, unseal
from wordmill.settings import Settings

EVERYBODY: Final = ""
MOST: Final = 10_000


class ProviderKeys:
    """The stored keys. Safe from any thread and process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._catalog = Catalog(database, settings)

    def set(self, actor: Person, model: str, key: str, *, everyone: bool = False) -> None:
        """Store the key for a model of the catalog: one's own, or everybody's (admins).

        Raises UnknownName for the model, Forbidden, InvalidInput for what cannot be sent.
        """
        if everyone:
            need_admin(actor, "store a key for everybody")
        entry, key = self._catalog.get(model), key.strip()
        if entry.provider == "rehearsal":
            raise InvalidInput(f"The model {model!r} is the rehearsal model, which wants no key.")
        if not 0 < len(key) <= MOST or not key.isprintable() or not key.isascii():
            raise InvalidInput(
                "This is no API key: it is empty, or holds a line break or a letter that is not "
                "ASCII. Was more or less copied than the key?",
                "key",
            )
        owner = EVERYBODY if everyone else actor.id
        plain = json.dumps({"key": key, "address": entry.base_url})
        sealed = seal(self._settings, plain, _place(owner, model))
        with self._database.begin() as connection:
            _store(connection, owner, model, sealed)
            audit.write(connection, actor.id, "provider key stored", model, everyone=everyone)

    def lend(self, person: str, of: str, to: Model) -> bool:
        """Let a private model have a person's own key of another one; whether it got it.

        A key is bound to its server: the two addresses have the same scheme, host and port.
        Raises ConfigError for a key that cannot be opened any more.
        """
        if not self.fits(person, of, to.base_url):
            return False
        key = self.of(person)(self._catalog.get(of)).own
        plain = json.dumps({"key": key, "address": to.base_url})
        with self._database.begin() as connection:
            sealed = seal(self._settings, plain, _place(person, to.name))
            _store(connection, person, to.name, sealed)
        return True

    def fits(self, person: str, of: str, address: str) -> bool:
        """Whether a person's own key of a model may go to an address."""
        try:
            model = self._catalog.get(of)
        except UnknownName:
            return False
        is_there = self.of(person)(model).own is not None
        return is_there and _server(model.base_url) == _server(address)

    def remove(self, actor: Person, model: str, *, everyone: bool = False) -> None:
        """Forget a stored key. Raises NotFound, Forbidden."""
        if everyone:
            need_admin(actor, "remove everybody's key")
        if not is_name(model):
            raise NotFound("stored key of the model", model)
        owner = EVERYBODY if everyone else actor.id
        query = delete(table).where(table.c.owner == owner, table.c.model == model)
        with self._database.begin() as connection:
            if not connection.execute(query).rowcount:
                raise NotFound("stored key of the model", model)
            audit.write(connection, actor.id, "provider key removed", model, everyone=everyone)

    def models(self, person: Person) -> list[StoredKey]:
        """The models for which the person has a stored key, and those for which everybody has."""
        query = select(table).where(or_(table.c.owner == person.id, table.c.owner == EVERYBODY))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.model, table.c.owner)).all()
        return [StoredKey(row.model, row.owner == EVERYBODY, row.created) for row in rows]

    def find(self, person: str, model: str | Model) -> str | None:
        """The stored key that a person's requests to the model go with: their own, or everybody's.

        Raises UnknownName for the model, ConfigError for a key that cannot be opened any more.
        """
        keys = self.of(person)(self._catalog.get(model) if isinstance(model, str) else model)
        return keys.own or keys.shared

    def of(self, person: str) -> Callable[[Model], Keys]:
        """What a catalog needs to find the keys of one person; looked up at each use."""
        return lambda model: self._keys(person, model)

    def _keys(self, person: str, model: Model) -> Keys:
        query = select(table.c.owner, table.c.sealed).where(
            table.c.model == model.name, table.c.owner.in_([person, EVERYBODY])
        )
        with self._database.read() as connection:
            sealed = {row.owner: row.sealed for row in connection.execute(query)}
        return Keys(self._open(sealed, person, model), self._open(sealed, EVERYBODY, model))

    def _open(self, sealed: dict[str, bytes], owner: str, model: Model) -> str | None:
        if owner not in sealed:
            return None
        plain = json.loads(unseal(self._settings, sealed[owner], _place(owner, model.name)))
        if plain["address"] != model.base_url:
            return None  # the model is elsewhere now, and the key was not given for that place
        return str(plain["key"])


def catalog_of(database: Database, settings: Settings, person: str = LOCAL) -> Catalog:
    """The models with the keys of a person: whoever runs the command line, without one."""
    return Catalog(database, settings, ProviderKeys(database, settings).of(person), person)


def _store(connection: Connection, owner: str, model: str, sealed: bytes) -> None:
    connection.execute(delete(table).where(table.c.owner == owner, table.c.model == model))
    connection.execute(insert(table).values(owner=owner, model=model, sealed=sealed, created=now()))


def _server(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def _place(owner: str, model: str) -> str:
    return f"{tables.provider_keys.name}:{owner}:{model}"
