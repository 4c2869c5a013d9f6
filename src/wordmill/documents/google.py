"""How Google is asked: addresses, tokens, and an error's words.

Of the handful of endpoints that documents need, each is a request through `outbound`; a library for
all of Google's services would be a hundred megabytes. A token comes from somebody's refresh token
(RFC 6749, 6) or from a service account's key (RFC 7523).
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode

from wordmill.errors import ConfigError, ExportError
from wordmill.outbound import Failure, Limits, Response, send
from wordmill.secrets import scrub

FILE_SCOPE: Final = "https://www.googleapis.com/auth/drive.file"
DRIVE_SCOPE: Final = "https://www.googleapis.com/auth/drive"
_EARLY: Final = 60.0
"""Seconds before its end at which a token is no longer used."""
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIMITS: Final = Limits(connect=10, first_byte=60, total=120, reply=4 * 1024 * 1024)


class Addresses(NamedTuple):
    """Where Google answers."""

    authorize: str = "https://accounts.google.com/o/oauth2/v2/auth"
    token: str = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address
    revoke: str = "https://oauth2.googleapis.com/revoke"
    api: str = "https://www.googleapis.com/drive/v3"
    upload: str = "https://www.googleapis.com/upload/drive/v3/files"

    @classmethod
    def at(cls, url: str | None) -> "Addresses":
        """The same at a server that stands in for Google's."""
        if not url:
            return cls()
        root = url.rstrip("/")
        return cls(
            f"{root}/o/oauth2/v2/auth", f"{root}/token", f"{root}/revoke", f"{root}/drive/v3",
            f"{root}/upload/drive/v3/files",
        )  # fmt: skip


class Revoked(ConfigError):
    """Google no longer takes what a token was made from."""


class Tokens(Protocol):
    """Whose tokens requests go with."""

    def get(self, *, fresh: bool = False) -> str:
        """A token that is good now; a new one with `fresh`. Raises Revoked, ExportError."""


class Client(NamedTuple):
    """Who asks Google for tokens of people. Secret; never shown."""

    id: str
    secret: str | None

    def form(self) -> dict[str, str]:
        """What says so in a request."""
        return {"client_id": self.id} | ({"client_secret": self.secret} if self.secret else {})


class _Kept:
    """A token until shortly before its end. Safe from any thread."""

    def __init__(self, ask: Callable[[], Mapping[str, Any]]) -> None:
        self._ask, self._lock = ask, threading.Lock()
        self._token, self._ends = "", 0.0

    def get(self, *, fresh: bool = False) -> str:
        """See Tokens."""
        with self._lock:
            if fresh or not self._token or time.monotonic() > self._ends:
                told = self._ask()
                token, lasts = told.get("access_token"), told.get("expires_in", 3600)
                if not isinstance(token, str) or not isinstance(lasts, int | float):
                    raise ExportError("Google gave no token, and did not say why.")
                self._token, self._ends = token, time.monotonic() + lasts - _EARLY
            return self._token


def of_person(addresses: Addresses, client: Client, refresh: str) -> Tokens:
    """Tokens out of the refresh token that somebody gave."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh, **client.form()}
    return _Kept(lambda: token(addresses, form, (refresh, client.secret or "")))


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """An account that is no person's. key: RSA, in PEM; secret."""

    email: str
    key: str
    key_id: str = ""

    @classmethod
    def of(cls, text: str) -> "ServiceAccount":
        """From the JSON that Google gives for it. Raises ConfigError."""
        try:
            known = json.loads(text)
            found = cls(
                known["client_email"], known["private_key"], known.get("private_key_id", "")
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                "gdrive_service_account is no key of a service account: it is the JSON that Google "
                "gives for it, best as a file that WORDMILL_GDRIVE_SERVICE_ACCOUNT_FILE names."
            ) from error
        found.sign(b"")
        return found

    def sign(self, text: bytes) -> bytes:
        """RS256 (RFC 7518, 3.3). Raises ConfigError for a key that is none."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(self.key.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError("The private_key of gdrive_service_account is damaged.") from error
        if not isinstance(key, RSAPrivateKey):
            raise ConfigError("The private_key of gdrive_service_account is no RSA key.")
        return key.sign(text, PKCS1v15(), SHA256())

    def tokens(self, addresses: Addresses) -> Tokens:
        """Its tokens."""
        return _Kept(lambda: self._ask(addresses))

    def _ask(self, addresses: Addresses) -> Mapping[str, Any]:
        at = int(time.time())
        head = {"alg": "RS256", "typ": "JWT"} | ({"kid": self.key_id} if self.key_id else {})
        claims = {
            "iss": self.email, "scope": DRIVE_SCOPE, "aud": addresses.token, "iat": at,
            "exp": at + 3600,
        }  # fmt: skip
        signed = b".".join(_coded(json.dumps(part).encode()) for part in (head, claims))
        jwt = b".".join((signed, _coded(self.sign(signed)))).decode()
        return token(addresses, {"grant_type": _GRANT, "assertion": jwt}, (jwt,))


def token(
    addresses: Addresses, form: Mapping[str, str], secrets: tuple[str, ...]
) -> Mapping[str, Any]:
    """What Google's token endpoint answers to a form. secrets: what no error may repeat.

    Raises Revoked when the grant is no longer good, ExportError when there is no answer.
    """
    answer = send(
        "POST", addresses.token, body=urlencode(form).encode(), limits=LIMITS,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    if isinstance(answer, Failure):
        raise ExportError(f"Google does not answer ({answer.kind}: {answer.detail}).")
    told = as_json(answer)
    if answer.status == 200 and told:
        return told
    code = str(told.get("error", ""))
    words = scrub(str(told.get("error_description") or code or answer.status), secrets)[:200]
    if code in ("invalid_grant", "unauthorized_client"):
        raise Revoked(f"Google no longer lets Wordmill into this Drive ({words}).")
    raise ExportError(f"Google gave no token: {words}.")


def as_json(answer: Response) -> Mapping[str, Any]:
    """An answer's object; {} where it is none."""
    try:
        told = json.loads(answer.body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def reasons(told: Mapping[str, Any]) -> tuple[frozenset[str], str]:
    """Of an error of the API: its reasons, as `rateLimitExceeded`, and its words."""
    error = told.get("error")
    if not isinstance(error, dict):
        return frozenset(), ""
    listed = error.get("errors")
    each = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    found = frozenset(str(one.get("reason", "")) for one in each)
    return found, scrub(str(error.get("message", "")))[:200]


def _coded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
