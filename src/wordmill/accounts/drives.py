"""Whose Google Drive somebody's documents go to: their own, or the shared drive of a company.

A person connects their own Drive on the page Settings: authorization code with PKCE, a state that
is bound to their session, and a refresh token that is sealed where it is stored. A service account,
which an admin sets up, puts documents into folders of one shared drive, for everybody who names
such a folder; it never looks beyond that drive.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from threading import Lock
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlencode

from sqlalchemy import delete, insert, select, update

from wordmill.accounts import audit, codes
from wordmill.accounts.identities import is_guest
from wordmill.accounts.rows import printable
from wordmill.accounts.types import Person
from wordmill.database import Database, now
from wordmill.database import drives as table
from wordmill.documents.drive import Drive, Place, folder_id
from wordmill.documents.google import (
    DRIVE_SCOPE,
    FILE_SCOPE,
    LIMITS,
    Addresses,
    Client,
    Revoked,
    ServiceAccount,
    Tokens,
    of_person,
    token,
)
from wordmill.errors import ConfigError, InvalidInput, NotFound, Unauthenticated
from wordmill.outbound import send
from wordmill.secrets import derived, seal, unseal
from wordmill.settings import Settings

T = TypeVar("T")

STATE: Final = "drive"
HOME_FOLDER: Final = "Wordmill"
"""What the folder is called that is made in a person's own Drive."""
_LASTS: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Connection:
    """A Drive that a person has connected. account: whose it is.  ended: when Google ended it."""

    account: str
    created: datetime
    ended: datetime | None


class Start(NamedTuple):
    """Where to send the browser, and what it must bring back: in a cookie that only HTTP sees."""

    url: str
    state: str


class Drives:
    """The connections. Safe from any thread; one object a process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._addresses = Addresses.at(settings.gdrive_url)
        self._lock = Lock()
        self._service: Tokens | None = None
        self._tokens: dict[str, tuple[bytes, Tokens]] = {}

    @property
    def offered(self) -> bool:
        """Whether people can connect their own."""
        return bool(self._settings.gdrive_client_id)

    @property
    def shared(self) -> bool:
        """Whether there is a service account."""
        return bool(self._settings.gdrive_service_account and self._settings.gdrive_drive)

    @property
    def service_account(self) -> str:
        """What a folder is shared with for it: its e-mail address; "" where there is none."""
        account = self._settings.gdrive_service_account
        return ServiceAccount.of(account).email if account and self.shared else ""

    def status(self, person: Person) -> Connection | None:
        """The Drive that somebody has connected."""
        query = select(table).where(table.c.person == person.id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Connection(row.account, row.created, row.ended)

    def reached(self, person: Person) -> bool:
        """Whether there is a Drive for somebody's documents."""
        return (self.shared and not is_guest(person)) or self.status(person) is not None

    # Connecting

    def begin(self, person: Person, redirect_uri: str) -> Start:
        """Begin to connect a person's Drive. redirect_uri: as it is registered at Google.

        Raises ConfigError where an admin has not set it up.
        """
        client = self._client()
        with self._database.begin() as connection:
            codes.forget(connection, STATE, person.id)
            state = codes.make(
                connection, STATE, _LASTS, person=person.id, redirect_uri=redirect_uri
            )
        challenge = urlsafe_b64encode(sha256(self._verifier(state).encode()).digest())
        asked = {
            "client_id": client.id, "redirect_uri": redirect_uri, "response_type": "code",
            "scope": self._scope, "state": state, "access_type": "offline", "prompt": "consent",
            "code_challenge": challenge.rstrip(b"=").decode(), "code_challenge_method": "S256",
        }  # fmt: skip
        return Start(f"{self._addresses.authorize}?{urlencode(asked)}", state)

    def finish(self, person: Person, query: Mapping[str, str], state: str) -> Connection:
        """Keep what Google sent the browser back with.

        person: who is signed in now.  state: what the browser's cookie holds.
        Raises Unauthenticated for what does not fit together or was refused, ExportError where
        Google does not answer.
        """
        query = {name: printable(value) for name, value in query.items()}
        state = printable(state)
        if not state or not hmac.compare_digest(query.get("state", "").encode(), state.encode()):
            raise Unauthenticated("This was begun in another browser, or too long ago. Again?")
        with self._database.begin() as connection:
            begun = codes.use(connection, STATE, state)
        if begun is None or begun.person != person.id:
            raise Unauthenticated("This took too long, or was begun by somebody else. Begin again.")
        if query.get("error"):
            raise Unauthenticated("Google connected nothing: the question was answered with no.")
        client = self._client()
        form = {
            "grant_type": "authorization_code", "code": query.get("code", ""),
            "redirect_uri": begun.detail["redirect_uri"], "code_verifier": self._verifier(state),
            **client.form(),
        }  # fmt: skip
        try:
            told = token(self._addresses, form, (form["code"], client.secret or ""))
        except Revoked as error:
            raise Unauthenticated(f"Google connected nothing. {error}") from error
        refresh = told.get("refresh_token")
        if not isinstance(refresh, str) or self._scope not in str(told.get("scope", "")).split():
            raise Unauthenticated(
                "Google did not grant what is needed: leave the box for Google Drive ticked."
            )
        tokens = of_person(self._addresses, client, refresh)
        account = Drive(self._addresses, tokens).account()[:320]
        before = self.status(person)
        old = self._forgotten(person) if before and before.account != account else None
        self._keep(person, refresh, account)
        self._revoke(old)
        return Connection(account, now(), None)

    def disconnect(self, person: Person) -> None:
        """Forget a person's Drive, and have Google forget the token. Raises NotFound."""
        refresh = self._forgotten(person)
        gone = delete(table).where(table.c.person == person.id)
        with self._database.begin() as connection:
            if not connection.execute(gone).rowcount:
                raise NotFound("connected Google Drive", person.name)
            audit.write(connection, person.id, "drive disconnected")
        self._revoke(refresh)

    def _forgotten(self, person: Person) -> str | None:
        """A token that is to be revoked."""
        try:
            return self._refresh(person)
        except ConfigError:  # the key is another one now: it can be forgotten all the same
            return None

    def _revoke(self, refresh: str | None) -> None:
        """Have Google forget all that an account has granted to us."""
        if refresh is not None:  # what it answers changes nothing here
            send(
                "POST", self._addresses.revoke, body=urlencode({"token": refresh}).encode(),
                headers={"Content-Type": "application/x-www-form-urlencoded"}, limits=LIMITS,
            )  # fmt: skip

    def forget(self, person: Person) -> None:
        """The connection of somebody whose account is removed."""
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.person == person.id))

    # Using

    def place(self, person: Person, link: str) -> Place:
        """The folder that a share link leads to, as a person may use it.

        Raises InvalidInput for a link to anything else, ConfigError where no Drive is connected,
        ExportError where Google does not answer.
        """
        if self.status(person) is not None:
            wanted = folder_id(link)
            return self._own(person, lambda drive: drive.folder(wanted))
        found = self._company(person).folder(folder_id(link))
        if found.id != self._drive_id and found.drive != self._drive_id:
            raise InvalidInput(
                f"The folder {found.name!r} is not in the shared drive that this Wordmill may use.",
                "link",
            )
        return found

    def use(self, person: Person, act: Callable[[Drive, str], T], folder: str | None) -> T:
        """Do something with the Drive and the folder of a person's documents.

        folder: its id; None for the one that Wordmill makes in a Drive of the person's own.
        Raises ConfigError where no Drive is connected or none is chosen, and as `act`.
        """
        if self.status(person) is not None:
            return self._own(person, lambda drive: act(drive, folder or self._home(person, drive)))
        drive = self._company(person)
        if folder is None:
            raise ConfigError("No folder of Google Drive is chosen for your documents.")
        found = drive.folder(folder)  # it may have been moved elsewhere since
        if found.id != self._drive_id and found.drive != self._drive_id:
            raise InvalidInput(
                f"The folder {found.name!r} is no longer in the shared drive of this Wordmill."
            )
        return act(drive, folder)

    def _own(self, person: Person, act: Callable[[Drive], T]) -> T:
        refresh = self._refresh(person)
        if refresh is None:
            raise ConfigError(_ENDED)
        tokens = self._tokens_of(person, refresh)
        try:
            return act(Drive(self._addresses, tokens))
        except Revoked as error:
            ended = update(table).where(table.c.person == person.id).values(ended=now())
            with self._database.begin() as connection:
                connection.execute(ended)
            raise ConfigError(f"{error} {_AGAIN}") from error

    def _tokens_of(self, person: Person, refresh: str) -> Tokens:
        """Kept between documents, as long as the connection is the same one."""
        mark = sha256(refresh.encode()).digest()
        with self._lock:
            known = self._tokens.get(person.id)
            if known is None or known[0] != mark:
                known = (mark, of_person(self._addresses, self._client(), refresh))
                self._tokens[person.id] = known
            return known[1]

    def _home(self, person: Person, drive: Drive) -> str:
        """The folder that was made for the person's documents, or is made now."""
        query = select(table.c.home).where(table.c.person == person.id)
        with self._database.read() as connection:
            home = connection.execute(query).scalar()
        if home:
            try:
                return drive.folder(home).id
            except InvalidInput:  # the person removed it
                home = None
        made = drive.make_folder(HOME_FOLDER).id
        with self._database.begin() as connection:
            connection.execute(update(table).where(table.c.person == person.id).values(home=made))
        return made

    def _company(self, person: Person) -> Drive:
        """The shared drive, which is for those who have an account of their own."""
        if is_guest(person):
            raise ConfigError("Guests have no Google Drive here. Link your account.")
        settings = self._settings
        if not settings.gdrive_service_account or not settings.gdrive_drive:
            raise ConfigError(_NONE_CONNECTED if self.offered else _NOT_SET_UP)
        with self._lock:
            if self._service is None:
                account = ServiceAccount.of(settings.gdrive_service_account)
                self._service = account.tokens(self._addresses)
            return Drive(self._addresses, self._service)

    @property
    def _drive_id(self) -> str:
        try:
            return folder_id(self._settings.gdrive_drive or "")
        except InvalidInput as error:
            raise ConfigError(f"The setting gdrive_drive names no shared drive. {error}") from error

    @property
    def _scope(self) -> str:
        return DRIVE_SCOPE if self._settings.gdrive_scope == "drive" else FILE_SCOPE

    def _client(self) -> Client:
        settings = self._settings
        if not settings.gdrive_client_id:
            raise ConfigError(_NOT_SET_UP)
        return Client(settings.gdrive_client_id, settings.gdrive_client_secret)

    def _verifier(self, state: str) -> str:
        """43 characters that nobody can tell from the state alone (RFC 7636)."""
        key = derived(self._settings, "drive verifier")
        made = hmac.digest(key, state.encode(), "sha256")
        return urlsafe_b64encode(made).rstrip(b"=").decode()

    def _refresh(self, person: Person) -> str | None:
        """The token that is stored; None where none is, or Google has ended it."""
        query = select(table.c.sealed).where(table.c.person == person.id, table.c.ended.is_(None))
        with self._database.read() as connection:
            sealed = connection.execute(query).scalar()
        return None if sealed is None else unseal(self._settings, sealed, _place(person))

    def _keep(self, person: Person, refresh: str, account: str) -> None:
        sealed = seal(self._settings, refresh, _place(person))
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.person == person.id))
            connection.execute(
                insert(table).values(
                    person=person.id, sealed=sealed, account=account, created=now()
                )
            )
            audit.write(connection, person.id, "drive connected", account)


_AGAIN: Final = "Connect it again on the page Settings, under Documents."
_ENDED: Final = f"Your Google Drive is no longer connected: Google ended that. {_AGAIN}"
_NONE_CONNECTED: Final = (
    "Your Google Drive is not connected. The page Settings connects it, under Documents."
)
_NOT_SET_UP: Final = (
    "This installation is not connected to Google Drive. An admin sets it up with gdrive_client_id "
    "or gdrive_service_account; documents can be had as files all the same."
)


def _place(person: Person) -> str:
    return f"{table.name}:{person.id}"
