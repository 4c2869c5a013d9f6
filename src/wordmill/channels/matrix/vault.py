"""The server's secret storage, which a passphrase opens: the identity survives the loss of a disk.

As the specification has it (m.secret_storage.v1.aes-hmac-sha2): a key made of the passphrase by
PBKDF2, each secret sealed with AES-CTR and HMAC-SHA-256 under keys that follow from it by HKDF and
the secret's name. Other clients of the account can open it too.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nio import AsyncClient

from wordmill.channels.matrix.calls import ask, part, refused
from wordmill.errors import ConfigError

ALGORITHM: Final = "m.secret_storage.v1.aes-hmac-sha2"
ROUNDS: Final = 500_000
_DEFAULT: Final = "m.secret_storage.default_key"
_MOST_ROUNDS: Final = 10_000_000


async def store(client: AsyncClient, passphrase: str, secrets: Mapping[str, str]) -> None:
    """Put secrets (names as `m.cross_signing.master`, values in Base64) under the passphrase.

    The storage that the account has is used; where it has none it is made.
    Raises ConfigError for a passphrase that does not open it.
    """
    name, key = await _opened(client, passphrase) or await _made(client, passphrase)
    for secret, value in secrets.items():
        found = await _read(client, secret) or {}
        sealed = {**found.get("encrypted", {}), name: sealed_with(key, secret, value)}
        await _write(client, secret, {"encrypted": sealed})


async def restore(client: AsyncClient, passphrase: str, secret: str) -> str | None:
    """A secret; None where the account has no storage, or not this secret in it.

    Raises ConfigError for a passphrase that does not open it.
    """
    opened = await _opened(client, passphrase)
    if opened is None:
        return None
    name, key = opened
    found = await _read(client, secret)
    sealed = (found or {}).get("encrypted", {}).get(name)
    return None if sealed is None else opened_with(key, secret, sealed)


def sealed_with(key: bytes, name: str, value: str) -> dict[str, str]:
    """A value under the storage's key, as the server keeps it."""
    first, second = _keys(key, name)
    nonce = bytearray(os.urandom(16))
    nonce[8] &= 0x7F  # some implementations count in 63 bits
    cipher = Cipher(AES(first), CTR(bytes(nonce))).encryptor()
    text = cipher.update(value.encode()) + cipher.finalize()
    return {
        "iv": _text(bytes(nonce)),
        "ciphertext": _text(text),
        "mac": _text(hmac.digest(second, text, "sha256")),
    }


def opened_with(key: bytes, name: str, sealed: Mapping[str, str]) -> str:
    """The value again. Raises ConfigError for another key."""
    first, second = _keys(key, name)
    text = _bytes(sealed["ciphertext"])
    if not hmac.compare_digest(hmac.digest(second, text, "sha256"), _bytes(sealed["mac"])):
        raise ConfigError(f"The recovery passphrase does not open the stored secret {name}.")
    cipher = Cipher(AES(first), CTR(_bytes(sealed["iv"]))).decryptor()
    return (cipher.update(text) + cipher.finalize()).decode()


async def _opened(client: AsyncClient, passphrase: str) -> tuple[str, bytes] | None:
    """The storage's name and key; None where the account has none."""
    default = await _read(client, _DEFAULT)
    name = (default or {}).get("key")
    if not isinstance(name, str):
        return None
    described = await _read(client, f"m.secret_storage.key.{name}")
    how = (described or {}).get("passphrase")
    if described is None or not isinstance(how, Mapping) or how.get("algorithm") != "m.pbkdf2":
        raise ConfigError(
            "The account's secret storage is opened by a key and by no passphrase: give the "
            "channel a passphrase in another client first."
        )
    rounds = int(how["iterations"])
    if not 0 < rounds <= _MOST_ROUNDS:
        raise ConfigError(f"The account's secret storage asks for {rounds:,} rounds.")
    bits = int(how.get("bits", 256))
    key = hashlib.pbkdf2_hmac(
        "sha512", passphrase.encode(), str(how["salt"]).encode(), rounds, bits // 8
    )
    if "mac" in described:
        proof = _proof(key, _bytes(described["iv"]))
        if not hmac.compare_digest(proof, _bytes(described["mac"])):
            raise ConfigError("The recovery passphrase does not open the account's secret storage.")
    return name, key


async def _made(client: AsyncClient, passphrase: str) -> tuple[str, bytes]:
    name, salt = base64.b32encode(os.urandom(20)).decode().lower(), _text(os.urandom(24))
    key = hashlib.pbkdf2_hmac("sha512", passphrase.encode(), salt.encode(), ROUNDS, 32)
    nonce = bytearray(os.urandom(16))
    nonce[8] &= 0x7F
    described = {
        "algorithm": ALGORITHM, "name": "Wordmill",
        "passphrase": {"algorithm": "m.pbkdf2", "iterations": ROUNDS, "salt": salt, "bits": 256},
        "iv": _text(bytes(nonce)), "mac": _text(_proof(key, bytes(nonce))),
    }  # fmt: skip
    await _write(client, f"m.secret_storage.key.{name}", described)
    await _write(client, _DEFAULT, {"key": name})
    return name, key


def _proof(key: bytes, nonce: bytes) -> bytes:
    """What shows that a key is the right one: the sealing of 32 zeros."""
    first, second = _keys(key, "")
    cipher = Cipher(AES(first), CTR(nonce)).encryptor()
    return hmac.digest(second, cipher.update(bytes(32)) + cipher.finalize(), "sha256")


def _keys(key: bytes, name: str) -> tuple[bytes, bytes]:
    both = HKDF(SHA256(), 64, bytes(32), name.encode()).derive(key)
    return both[:32], both[32:]


async def _read(client: AsyncClient, kind: str) -> dict[str, Any] | None:
    status, found = await ask(client, "GET", _path(client, kind))
    if status == 404:
        return None
    if status != 200:
        raise refused(status, found)
    return found


async def _write(client: AsyncClient, kind: str, content: Mapping[str, Any]) -> None:
    status, found = await ask(client, "PUT", _path(client, kind), content)
    if status != 200:
        raise refused(status, found)


def _path(client: AsyncClient, kind: str) -> str:
    return f"/_matrix/client/v3/user/{part(client.user_id)}/account_data/{part(kind)}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))
