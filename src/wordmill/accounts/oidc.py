"""Signing in at an OpenID provider: authorization code with PKCE, state and nonce checked.

Somebody is known by the provider's address and its id of them (issuer and subject), never by an
e-mail address alone. An account that is there already is opened only by who is signed in to it and
links it, or, where the setting `oidc_link` allows it, by an address that the provider has verified;
then all that opened it before ends, because it may have been made by somebody else.

Everything goes through `outbound`; the state of a sign-in lies in the database for ten minutes and
holds no secret: verifier and nonce follow from it and this house's key.
"""

import hmac
import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import timedelta
from threading import Lock
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus, urlencode, urlsplit

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from wordmill import database as tables
from wordmill.accounts import audit, codes
from wordmill.accounts.identities import link
from wordmill.accounts.people import People, checked_email, checked_name
from wordmill.accounts.rows import PERSON, end_sessions, find_person, is_name, person_of, printable
from wordmill.accounts.types import Person, Role
from wordmill.database import Database, now
from wordmill.errors import ConfigError, ExtraMissing, InvalidInput, Unauthenticated
from wordmill.secrets import derived, scrub
from wordmill.settings import Settings

STATE: Final = "oidc"
_LASTS: Final = timedelta(minutes=10)
_FRESH: Final = 3600.0
"""Seconds for which the provider's description and its keys are believed."""

_AGAIN: Final = 60.0
"""Seconds after which keys are asked for again when one is not known."""

_ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""Signatures with a public key; neither none nor a shared secret."""

_LEEWAY: Final = 60
"""Seconds by which clocks may differ."""


class OidcStart(NamedTuple):
    """Where to send the browser, and what it must bring back: in a cookie that only HTTP sees."""

    url: str
    state: str


class OidcFinish(NamedTuple):
    """Who came back, and where they had wanted to go."""

    person: Person
    back: str


class _Claims(NamedTuple):
    """What the provider says of somebody, checked."""

    subject: str
    email: str
    verified: bool
    name: str


class Oidc:
    """The one provider of the settings. Safe from any thread."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._people = People(database, settings)
        self._issuer = (settings.oidc_issuer or "").rstrip("/")
        self._lock = Lock()
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}

    @property
    def configured(self) -> bool:
        """Whether there is a provider to sign in at."""
        return bool(self._issuer and self._settings.oidc_client_id)

    @property
    def name(self) -> str:
        """What its button says."""
        return self._settings.oidc_name

    def begin(
        self, redirect_uri: str, *, back: str = "/", person: Person | None = None
    ) -> OidcStart:
        """Begin a sign-in, or the linking of `person`, who is signed in already.

        redirect_uri: the address of this house that the provider sends the browser back to, as it
        is registered there.  back: where to go afterwards.
        Raises ConfigError when there is no provider or it does not answer.
        """
        if not self.configured:
            raise ConfigError(
                "There is no OpenID provider: set WORDMILL_OIDC_ISSUER and WORDMILL_OIDC_CLIENT_ID."
            )
        with _needed():
            from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # type: ignore[import-untyped]
            from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
        endpoint = self._endpoint("authorization_endpoint")
        with self._database.begin() as connection:
            state = codes.make(
                connection, STATE, _LASTS,
                person=person.id if person else None, redirect_uri=redirect_uri, back=back,
            )  # fmt: skip
        url = prepare_grant_uri(
            endpoint,
            self._settings.oidc_client_id,
            "code",
            redirect_uri=redirect_uri,
            scope="openid email profile",
            state=state,
            nonce=self._follows(state, "nonce"),
            code_challenge=create_s256_code_challenge(self._follows(state, "verifier")),
            code_challenge_method="S256",
        )
        return OidcStart(str(url), state)

    def finish(self, query: Mapping[str, str], state: str, *, address: str = "") -> OidcFinish:
        """Who the provider sent back; their session is then `sessions.open(person, how="oidc")`.

        query: the parameters with which the browser came.  state: what its cookie holds.
        Raises Unauthenticated for whatever does not fit together, and for somebody who may not
        come in.
        """
        query = {name: printable(value) for name, value in query.items()}
        state = printable(state)
        if not state or not hmac.compare_digest(query.get("state", "").encode(), state.encode()):
            raise Unauthenticated("This sign-in began in another browser, or too long ago. Again?")
        with self._database.begin() as connection:
            begun = codes.use(connection, STATE, state)
        if begun is None:
            raise Unauthenticated("This sign-in took too long, or was used already. Begin again.")
        if query.get("error"):
            raise self._refused(query.get("error_description") or query["error"])
        if query.get("iss", self._issuer).rstrip("/") != self._issuer:  # RFC 9207
            raise self._refused("the answer came from another provider")
        try:
            claims = self._claims(state, query.get("code", ""), begun.detail["redirect_uri"])
        except ConfigError as error:
            raise self._refused(str(error)) from error
        with self._database.begin() as connection:
            person = self._person(connection, claims, begun.person, address)
        return OidcFinish(person, begun.detail["back"])

    # The provider -----------------------------------------------------------------------------

    def _claims(self, state: str, code: str, redirect_uri: str) -> _Claims:
        with _needed():
            from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
            from joserfc import jwt
            from joserfc.errors import JoseError
            from joserfc.jwk import KeySet
        answer = self._exchange(code, redirect_uri, self._follows(state, "verifier"))
        token, access = answer.get("id_token"), answer.get("access_token")
        if not isinstance(token, str):
            raise self._refused("it sent no id_token")
        try:
            try:
                read = jwt.decode(token, KeySet.import_key_set(self._keys(0)), list(_ALGORITHMS))
            except (JoseError, ValueError):  # the keys may have been changed since
                keys = KeySet.import_key_set(self._keys(_AGAIN))
                read = jwt.decode(token, keys, list(_ALGORITHMS))
            client = self._settings.oidc_client_id
            claims = CodeIDToken(
                read.claims,
                read.header,
                options={
                    "iss": {"essential": True, "values": [self._issuer, self._issuer + "/"]},
                    "aud": {"essential": True, "value": client},
                    "nonce": {"essential": True},
                },
                params={
                    "nonce": self._follows(state, "nonce"),
                    "client_id": client,
                    "access_token": access,
                },
            )
            claims.validate(leeway=_LEEWAY)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise self._refused(f"its id_token is not good ({error})") from error
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not is_name(subject):
            raise self._refused("it does not say who you are")
        told = dict(claims)
        if "email" not in told and isinstance(access, str):
            told |= self._userinfo(access, subject)
        return _Claims(
            subject,
            str(told.get("email") or ""),
            told.get("email_verified") in (True, "true"),
            str(told.get("name") or ""),
        )

    def _exchange(self, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        settings = self._settings
        client, secret = settings.oidc_client_id or "", settings.oidc_client_secret
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        methods = self._described().get("token_endpoint_auth_methods_supported")
        if secret is None:
            form["client_id"] = client
        elif isinstance(methods, list) and "client_secret_basic" not in methods:
            form |= {"client_id": client, "client_secret": secret}
        else:
            pair = f"{quote_plus(client)}:{quote_plus(secret)}"
            headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        return self._ask(
            "POST", self._endpoint("token_endpoint"), headers, urlencode(form).encode()
        )

    def _userinfo(self, access: str, subject: str) -> dict[str, Any]:
        if "userinfo_endpoint" not in self._described():
            return {}
        headers = {"Authorization": f"Bearer {access}"}
        told = self._ask("GET", self._endpoint("userinfo_endpoint"), headers)
        if told.get("sub") != subject:
            raise self._refused("it told of somebody else")
        return told

    def _described(self) -> dict[str, Any]:
        url = self._issuer + "/.well-known/openid-configuration"
        found = self._remembered(url, _FRESH)
        if str(found.get("issuer", "")).rstrip("/") != self._issuer:
            raise ConfigError(
                f"{url} describes {found.get('issuer')!r}: give oidc_issuer exactly as it is there."
            )
        return found

    def _endpoint(self, name: str) -> str:
        url = self._described().get(name)
        fine = isinstance(url, str) and _is_safe(url)
        if not isinstance(url, str) or not fine:
            raise ConfigError(f"The OpenID provider {self._issuer} gives no usable {name}.")
        return url

    def _keys(self, older: float) -> Any:
        """The provider's public keys; asked for again when they are `older` than that (seconds)."""
        return self._remembered(self._endpoint("jwks_uri"), older or _FRESH)

    def _remembered(self, url: str, fresh: float) -> dict[str, Any]:
        with self._lock:
            kept = self._kept.get(url)
        if kept is not None and time.monotonic() - kept[0] < fresh:
            return kept[1]
        if not _is_safe(url):
            raise ConfigError(f"{url} is no https address: an OpenID provider has to have one.")
        found = self._ask("GET", url, {})
        with self._lock:
            self._kept[url] = (time.monotonic(), found)
        return found

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> dict[str, Any]:
        # Here, because every command imports this module and few send anything from Python.
        from wordmill.outbound import Failure, Limits, send

        answer = send(
            method, url, headers={"Accept": "application/json", **headers}, body=body,
            limits=Limits(connect=10, first_byte=15, total=30, reply=1024 * 1024),
        )  # fmt: skip
        if isinstance(answer, Failure):
            raise ConfigError(f"{url} does not answer ({answer.kind}: {answer.detail}).")
        try:
            found = json.loads(answer.text)
        except ValueError:
            found = None
        if answer.status != 200 or not isinstance(found, dict):
            words = found.get("error_description") or found.get("error") if found else ""
            told = f": {scrub(str(words))[:200]}" if words else ""
            raise ConfigError(f"{url} answered with {answer.status}{told}.")
        return found

    def _follows(self, state: str, purpose: str) -> str:
        """43 characters that nobody can tell from the state alone."""
        key = derived(self._settings, f"oidc {purpose}")
        return urlsafe_b64encode(hmac.digest(key, state.encode(), "sha256")).rstrip(b"=").decode()

    def _refused(self, why: str) -> Unauthenticated:
        return Unauthenticated(f"Signing in with {self.name} did not work: {scrub(why)[:300]}")

    # The person -------------------------------------------------------------------------------

    def _person(
        self, connection: Connection, claims: _Claims, wanting: str | None, address: str
    ) -> Person:
        """The account of whoever came: theirs already, linked now, or made."""
        identities = tables.identities.c
        query = (
            select(*PERSON)
            .join_from(tables.identities, tables.people, identities.person == tables.people.c.id)
            .where(identities.provider == self._issuer, identities.subject == claims.subject)
        )
        row = connection.execute(query).mappings().one_or_none()
        if wanting is not None:
            if row is not None and row["id"] != wanting:
                raise Unauthenticated(f"This {self.name} account opens another account here.")
            if row is None:
                link(connection, wanting, self._issuer, claims.subject)
            return find_person(connection, wanting)
        if row is not None:
            return person_of(row)
        try:
            email = checked_email(claims.email)
        except InvalidInput as error:
            raise self._refused("it gives no e-mail address of yours") from error
        people = tables.people.c
        there = connection.execute(select(people.id).where(people.email == email)).scalar()
        if there is None:
            return self._made(connection, claims, email, address)
        if not (self._settings.oidc_link and claims.verified):
            raise self._refused(
                "it is linked to no account here. Sign in with your password and link it on the "
                "page Settings, or ask an admin"
            )
        self._take_over(connection, there, claims, address)
        return find_person(connection, there)

    def _made(self, connection: Connection, claims: _Claims, email: str, address: str) -> Person:
        how = self._settings.oidc_sign_up
        someone = connection.execute(select(tables.people.c.id).limit(1)).first()
        if how == "closed" or someone is None:
            raise self._refused("it is linked to no account here. Ask an admin for one")
        role: Role = "pending" if how == "pending" else "member"
        try:
            name = checked_name(claims.name[:200])
        except InvalidInput:
            name = email.partition("@")[0]
        person = self._people.insert(connection, email, name, None, role, "", address)
        link(connection, person.id, self._issuer, claims.subject)
        return person

    def _take_over(
        self, connection: Connection, person: str, claims: _Claims, address: str
    ) -> None:
        """From now on the provider vouches; what opened the account before ends."""
        keys = tables.api_keys.c
        end_sessions(connection, person)
        connection.execute(
            update(tables.api_keys)
            .where(keys.person == person, keys.revoked.is_(None))
            .values(revoked=now())
        )
        connection.execute(delete(tables.identities).where(tables.identities.c.person == person))
        connection.execute(
            update(tables.people).where(tables.people.c.id == person).values(password=None)
        )
        link(connection, person, self._issuer, claims.subject)
        audit.write(connection, person, "account opened by its address", person, address)


class _needed:  # reads as a word where it is used
    """Says which extra is missing."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ImportError):
            raise ExtraMissing("Signing in at an OpenID provider", "web") from error


def _is_safe(url: str) -> bool:
    """https, or this machine."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local))
