"""Cross-signing: the account's identity, made once and kept, and our device signed by it.

Clients send no keys to a device that its owner has not signed, and show what it says as untrusted.
So there is a master key and a self-signing key. They are made at the first start, sealed with the
channel, and put into the server's secret storage under the recovery passphrase if one is given. An
identity that the account already has and whose keys we have not is never replaced: it is said, and
the channel goes on with a device that is not verified.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nio import AsyncClient
from nio.api import Api

from wordmill.channels.matrix import vault
from wordmill.channels.matrix.calls import ask, refused
from wordmill.errors import ChannelError, ConfigError

MASTER: Final = "m.cross_signing.master"
SIGNING: Final = "m.cross_signing.self_signing"
VERIFIED: Final = "on, and this device is verified (cross-signed)"


@dataclass(frozen=True, slots=True)
class Identity:
    """The private keys, each of 32 bytes in unpadded Base64."""

    master: str
    signing: str

    @classmethod
    def new(cls) -> "Identity":
        """A fresh one."""
        return cls(_seed(Ed25519PrivateKey.generate()), _seed(Ed25519PrivateKey.generate()))


@dataclass(frozen=True, slots=True)
class State:
    """How it stands. identity: the keys, where we have them.  words: for people.
    trouble: what an admin should do; "" for nothing.  stored: it lies in the secret storage too.
    """

    identity: Identity | None
    words: str
    trouble: str = ""
    stored: bool = False


async def ensure(
    client: AsyncClient, kept: Identity | None, stored: bool, password: str, passphrase: str,
    keep: Callable[[Identity], None],
) -> State:  # fmt: skip
    """Have our device signed by the account's identity, which is made if there is none.

    kept: what was kept from an earlier start.  stored: it lay in the secret storage then.
    keep: writes new keys down; asked before the server hears of them, as they cannot be had again.
    Raises ChannelError when the server does not do its part, ConfigError for the passphrase.
    """
    found = await _published(client)
    theirs = _public_of(found.get("master_keys", {}).get(client.user_id))
    if kept is None and passphrase:
        kept = await _restored(client, passphrase)
        stored = kept is not None
    if kept is not None and theirs is not None and _public(kept.master) != theirs:
        return State(
            kept, "on, but this device is not verified",
            "The account has got another identity since its keys were kept here: remove the "
            "channel and add it again with the recovery passphrase, or reset the identity in the "
            "client that made the other one.",
        )  # fmt: skip
    if kept is None and theirs is not None:
        return State(
            None, "on, but this device is not verified",
            "The account has an identity whose keys are not here: give the channel the recovery "
            "passphrase of that account. It is never replaced without being asked.",
        )  # fmt: skip
    if kept is None:
        kept = Identity.new()
        keep(kept)
    if theirs is None:
        await _publish(client, kept, password)
        found = await _published(client)
    await _sign_device(client, kept, found)
    if passphrase and not stored:
        secrets = {MASTER: kept.master, SIGNING: kept.signing}
        await vault.store(client, passphrase, secrets)
        stored = True
    return State(kept, VERIFIED, stored=stored)


async def _restored(client: AsyncClient, passphrase: str) -> Identity | None:
    master = await vault.restore(client, passphrase, MASTER)
    signing = await vault.restore(client, passphrase, SIGNING)
    return Identity(master, signing) if master and signing else None


async def _published(client: AsyncClient) -> dict[str, Any]:
    """What the server knows of our keys."""
    status, found = await ask(
        client, "POST", "/_matrix/client/v3/keys/query", {"device_keys": {client.user_id: []}}
    )
    if status != 200:
        raise refused(status, found)
    return found


async def _publish(client: AsyncClient, identity: Identity, password: str) -> None:
    """Give the server the public keys, for the first time."""
    master = _key(client.user_id, "master", identity.master)
    signing = _key(client.user_id, "self_signing", identity.signing)
    signing["signatures"] = {
        client.user_id: {f"ed25519:{_public(identity.master)}": _signed(identity.master, signing)}
    }
    body: dict[str, Any] = {"master_key": master, "self_signing_key": signing}
    path = "/_matrix/client/v3/keys/device_signing/upload"
    status, found = await ask(client, "POST", path, body)
    if status == 401 and "session" in found and password:  # the server wants the password again
        body["auth"] = {
            "type": "m.login.password", "session": found["session"], "password": password,
            "identifier": {"type": "m.id.user", "user": client.user_id},
        }  # fmt: skip
        status, found = await ask(client, "POST", path, body)
    if status == 401:
        raise ConfigError(
            "The homeserver wants the account's password before it takes an identity: give it to "
            "the channel once."
        )
    if status != 200:
        raise refused(status, found)


async def _sign_device(client: AsyncClient, identity: Identity, found: Mapping[str, Any]) -> None:
    """Sign our device, unless it is signed already."""
    device = found.get("device_keys", {}).get(client.user_id, {}).get(client.device_id)
    if device is None:
        raise ChannelError("The homeserver does not know the keys of this device yet.")
    name = f"ed25519:{_public(identity.signing)}"
    if name in device.get("signatures", {}).get(client.user_id, {}):
        return
    bare = {key: value for key, value in device.items() if key not in ("signatures", "unsigned")}
    signature = {client.user_id: {name: _signed(identity.signing, bare)}}
    body = {client.user_id: {client.device_id: {**bare, "signatures": signature}}}
    status, answer = await ask(client, "POST", "/_matrix/client/v3/keys/signatures/upload", body)
    if status != 200:
        raise refused(status, answer)
    if failures := answer.get("failures"):
        raise ChannelError(f"The homeserver does not take the device's signature: {failures}.")


def _key(user: str, usage: str, seed: str) -> dict[str, Any]:
    public = _public(seed)
    return {"user_id": user, "usage": [usage], "keys": {f"ed25519:{public}": public}}


def _signed(seed: str, value: Mapping[str, Any]) -> str:
    return _text(_private(seed).sign(Api.to_canonical_json(dict(value)).encode()))


def _public_of(key: Mapping[str, Any] | None) -> str | None:
    return next(iter(key["keys"].values()), None) if key else None


def _public(seed: str) -> str:
    return _text(_private(seed).public_key().public_bytes_raw())


def _private(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed + "=" * (-len(seed) % 4)))


def _seed(key: Ed25519PrivateKey) -> str:
    return _text(key.private_bytes_raw())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
