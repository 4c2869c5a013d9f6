"""Servers that a batch names by their addresses: private entries in the catalog of its owner.

A line, or the batch for all lines, names an address and perhaps a key by its name. Whoever may do
that gets an entry `model@address` (with a key `model@address@key`) that nobody else sees. Such a
model is asked at public addresses only and never through a proxy; what an address leads to is
looked at here, once, and by the engine again at every connection.

A key is bound to its server: a stored key goes only where its own model is, and a variable only to
the host that the setting `batch_keys` names with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from wordmill import outbound
from wordmill.accounts import Person, ProviderKeys, catalog_of
from wordmill.batches.functions import checked as checked_function
from wordmill.batches.python import check_of
from wordmill.batches.types import KINDS, WORDLESS, Wish
from wordmill.database import Database
from wordmill.errors import ConfigError, Forbidden, InvalidInput
from wordmill.models import checked
from wordmill.providers.base import Private
from wordmill.settings import Settings


class Servers:
    """What a person may name beside the catalog."""

    def __init__(self, database: Database, settings: Settings, person: Person) -> None:
        self._settings, self._person = settings, person
        self._keys = ProviderKeys(database, settings)
        self._catalog = catalog_of(database, settings, person.id)

    @property
    def allowed(self) -> bool:
        """Whether the person may name any."""
        who = self._settings.batch_urls
        return who == "members" or (who == "admins" and self._person.admin)

    def rules(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What the engine has to know of them. options: the batch's."""
        return {
            "servers": self.allowed,
            "keys": sorted(self._known()) if self.allowed else [],
            "url": options.get("url"),
            "key": options.get("key"),
        }

    def check(self, wish: Wish) -> None:
        """Whether a batch may be ordered so. Raises Forbidden, InvalidInput."""
        if wish.validate is not None:
            if KINDS.get(wish.endpoint) in WORDLESS:
                raise InvalidInput(
                    "Embeddings and scores are no texts: they cannot be validated.", "validate"
                )
            check_of(wish.validate)
        if wish.post is not None:
            checked_function(wish.post, self._settings)
        if wish.url is None:
            if wish.key is not None:
                raise InvalidInput("key goes with url: a model of the catalog has its own.", "key")
            return
        if not self.allowed:
            raise Forbidden(
                "Servers of one's own may not be asked here (the setting batch_urls): name a model "
                "of the catalog."
            )
        if wish.key is not None and wish.key not in self._known():
            raise InvalidInput(
                "key must name a stored key of yours for that server, or a variable that an admin "
                "allows (the setting batch_keys); it is never a key itself.",
                "key",
            )
        name = f"model@{wish.url}" + (f"@{wish.key}" if wish.key else "")
        try:
            self._entry(name)
        except (ConfigError, InvalidInput) as error:
            raise InvalidInput(str(error), "url") from error

    def enter(self, names: Iterable[str]) -> dict[str, str]:
        """Make the entries for names as the engine gives them; those that are refused, and why."""
        refused: dict[str, str] = {}
        for name in names:
            if "@http" not in name:
                continue
            try:
                if not self.allowed:
                    raise Forbidden("servers of one's own may not be asked here (batch_urls)")
                entry, stored = self._entry(name)
                self._catalog.keep_private(entry)
                if stored is not None:
                    self._keys.lend(self._person.id, stored, entry)
            except (ConfigError, Forbidden, InvalidInput) as error:
                refused[name] = str(error)
        return refused

    def _entry(self, name: str) -> tuple[Private, str | None]:
        """The entry, and the model whose stored key it gets. Raises ConfigError, InvalidInput."""
        model, _, rest = name.partition("@")
        url, _, key = rest.partition("@")
        plain = checked({"name": "private", "base_url": url, "model": model})
        variable, stored = None, None
        if key:
            variable, stored = self._key(key, plain.base_url)
        words = outbound.unwanted(plain.base_url, self._settings.private_hosts)
        if words is not None:
            raise InvalidInput(words, "url")
        entry = Private(**{**asdict(plain), "name": name, "key_env": variable})
        return entry, stored

    def _key(self, key: str, url: str) -> tuple[str | None, str | None]:
        """The variable or the model that a key's name means, where it may go to an address."""
        host = urlsplit(url).hostname
        for one in self._settings.batch_keys:
            variable, _, bound = one.partition("@")
            if variable == key:
                if bound.lower().strip("[]") == host:
                    return variable, None
                raise InvalidInput(f"The key in {variable} is for {bound} alone.", "key")
        if not self._keys.fits(self._person.id, key, url):
            raise InvalidInput(
                f"Your stored key of {key!r} is for that model's server alone.", "key"
            )
        return None, key

    def _known(self) -> set[str]:
        """Names that `key` may have."""
        variables = {one.partition("@")[0] for one in self._settings.batch_keys}
        own = (one.model for one in self._keys.models(self._person) if not one.everyone)
        return variables | {model for model in own if "@" not in model}
