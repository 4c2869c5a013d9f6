"""Secrets: sealed where they are stored, taken out of what is logged or shown.

Sealing is AES-256-GCM under one key, which is made once and lies in `secret.key` in the data
folder, or is given by the setting `secret_key`. What is sealed is bound to the place where it is
stored, so that it opens nowhere else. What only has to be recognised (API keys) is kept as a digest
under a key `derived` from the same one.

Scrubbing has two nets: the exact values that are known (keys just used), in the forms in which a
server may give them back, and what looks like a key to anyone.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

from wordmill.errors import ConfigError
from wordmill.settings import Settings
from wordmill.storage import said, sync_folder

KEY_FILE: Final = "secret.key"
"""In the data folder; left out of backups unless it is asked for."""

_VERSION: Final = b"\x01"
_MARK: Final = 4
_NONCE: Final = 12

HIDDEN = "********"

_SHORTEST = 4
"""A shorter value would take harmless letters out of every text."""

_LOOKS = (
    # Authorization: Bearer abc, also inside JSON
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=*-]{6,}"), rf"\1\2{HIDDEN}"),
    # api_key=abc, "x-api-key": "abc", ?key=abc, access_token=abc, password: abc
    (
        re.compile(
            r"""(?ix)
            ( (?: [?&] key | \b (?:x-)? api[_-]?key | \b access[_-]?token | \b auth[_-]?token
                | \b client[_-]?secret | \b password )
              ["']? \s* [=:] \s* ["']? )
            [^\s"'&,;}{<>]{4,}
            """
        ),
        rf"\1{HIDDEN}",
    ),
    # https://user:password@host
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@:\"']*:[^\s/@\"']+@"), rf"\1{HIDDEN}@"),
    # Keys by their makers' prefixes, also when the server has starred their middle
    (
        re.compile(
            r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|github_pat|nvapi|pplx|r8|tgp|csk|fw)"
            r"[-_][A-Za-z0-9_*.-]{8,}"
        ),
        HIDDEN,
    ),
    (re.compile(r"\bwm-[A-Za-z0-9_-]{40,}"), HIDDEN),
    (re.compile(r"\bAIza[A-Za-z0-9_*-]{12,}"), HIDDEN),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), HIDDEN),
)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without secrets.

    secrets: known values; those shorter than four characters are not looked for. They are found
    as they are, as in a URL and as in JSON. What merely looks like a key goes too.
    """
    forms = {
        form
        for secret in secrets
        if len(secret) >= _SHORTEST
        for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
    }
    for form in sorted(forms, key=len, reverse=True):  # a longer one may hold a shorter one
        text = text.replace(form, HIDDEN)
    for pattern, instead in _LOOKS:
        text = pattern.sub(instead, text)
    return text


def seal(settings: Settings, text: str, place: str) -> bytes:
    """The text, so that only `unseal` with the same key and the same `place` reads it.

    place: where it will be stored, as `provider_keys:ANN:gpt`; no secret.
    Layout: version 1 (1 byte), mark of the key (4), nonce (12), ciphertext with its tag.
    Raises ConfigError or StorageError for a key that cannot be used.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, nonce = derived(settings, "seal"), os.urandom(_NONCE)
    head = _VERSION + _mark(key)
    return head + nonce + AESGCM(key).encrypt(nonce, text.encode(), head + place.encode())


def unseal(settings: Settings, sealed: bytes, place: str) -> str:
    """What `seal` was given. Raises ConfigError when the key or the place is another one."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = derived(settings, "seal")
    head, nonce = sealed[: 1 + _MARK], sealed[1 + _MARK : 1 + _MARK + _NONCE]
    if head != _VERSION + _mark(key):
        raise ConfigError(
            f"A stored secret ({place}) was sealed with another key than {_where(settings)}: "
            "put that one back, or enter the secret again."
        )
    try:
        opened = AESGCM(key).decrypt(nonce, sealed[1 + _MARK + _NONCE :], head + place.encode())
    except (InvalidTag, ValueError) as error:
        raise ConfigError(
            f"A stored secret ({place}) is damaged or was moved there. Enter it again."
        ) from error
    return opened.decode()


def derived(settings: Settings, purpose: str) -> bytes:
    """32 bytes that follow from the key, others for each purpose. The first call makes the key."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    given = settings.secret_key
    source = given.encode() if given else _key(settings.home / KEY_FILE)
    return HKDF(SHA256(), 32, b"wordmill", purpose.encode()).derive(source)


def _mark(key: bytes) -> bytes:
    """By which a key is known without being told."""
    return hashlib.sha256(b"mark" + key).digest()[:_MARK]


def _where(settings: Settings) -> str:
    return "the setting secret_key" if settings.secret_key else str(settings.home / KEY_FILE)


def _key(path: Path) -> bytes:
    with said(path):
        try:
            text = _read_key(path)
        except FileNotFoundError:
            _make_key(path)
            text = _read_key(path)
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(
            f"{path} is no key of Wordmill (44 characters of base64): put the right one back, or "
            "remove it; then stored keys of providers and API keys must be made anew."
        )
    return key


def _read_key(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        raise ConfigError(
            f"{path} opens every stored secret and may be read by others: chmod 600 {path}"
        )
    return path.read_text(encoding="ascii", errors="replace").strip()


def _make_key(path: Path) -> None:
    """Whole and under its name at once, and never over one that another process made meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.urandom(8).hex()}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(base64.b64encode(os.urandom(32)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(part, path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)
