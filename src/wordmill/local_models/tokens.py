"""The token for the hub: HF_TOKEN, the file that HF_TOKEN_FILE names, or one stored encrypted.

A stored token belongs to one hub's address, and goes to no other.
"""

from typing import Final

from sqlalchemy import delete, insert, select

from wordmill.database import Database, now
from wordmill.database import hub_tokens as table
from wordmill.errors import InvalidInput
from wordmill.local_models.hub import HOME, Hub
from wordmill.secrets import seal, unseal
from wordmill.settings import Settings

VARIABLE: Final = "HF_TOKEN"
MOST: Final = 1000


class Tokens:
    """The token, wherever it is."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings

    @property
    def url(self) -> str:
        """The hub's address: the setting `hub_url`, HF_ENDPOINT, or the public hub."""
        given = self._settings.hub_url or self._settings.secret("HF_ENDPOINT")
        return (given or HOME).rstrip("/")

    def find(self) -> str | None:
        """The token for that address. Raises ConfigError for one that cannot be opened."""
        given = self._settings.secret(VARIABLE)
        if given:
            return _checked(given)
        query = select(table.c.sealed).where(table.c.hub == self.url)
        with self._database.read() as connection:
            sealed = connection.execute(query).scalar()
        return None if sealed is None else unseal(self._settings, sealed, self._place())

    def origin(self) -> str:
        """Where the token is from, in words; "" where there is none."""
        if self._settings.secret(VARIABLE):
            return f"the environment ({VARIABLE})"
        return "stored" if self.find() is not None else ""

    def store(self, token: str) -> str:
        """Try a token at the hub and keep it, encrypted; whose it is. Raises HubError."""
        token = _checked(token)
        name = Hub(self.url, token).who()
        sealed = seal(self._settings, token, self._place())
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.hub == self.url))
            connection.execute(insert(table).values(hub=self.url, sealed=sealed, created=now()))
        return name

    def remove(self) -> bool:
        """Forget the stored token; whether there was one."""
        with self._database.begin() as connection:
            query = delete(table).where(table.c.hub == self.url)
            return bool(connection.execute(query).rowcount)

    def _place(self) -> str:
        return f"hub_tokens:{self.url}"


def _checked(token: str) -> str:
    token = token.strip()
    if not 0 < len(token) <= MOST or not token.isprintable() or not token.isascii():
        raise InvalidInput(
            "This is no token of the hub: it is empty, or holds a line break or a letter that is "
            "not ASCII.",
            "token",
        )
    return token
