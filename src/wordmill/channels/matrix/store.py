"""The device's own store, as the library keeps it, where several accounts run in one process.

The library's tables are bound to a database for the whole process while something is read or
written, so what two threads do at once would land in the store of one of them. Here only one does
something at a time; it takes milliseconds.

The library seals the keys of the device, and leaves the sync token as it is. Here it is sealed too.
"""

import base64
import hashlib
import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nio.store import DefaultStore

_NONCE: Final = 12
_ALONE: Final = threading.RLock()


def _alone(act: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(act)
    def inner(*arguments: Any, **named: Any) -> Any:
        with _ALONE:
            return act(*arguments, **named)

    return inner


def _save_sync_token(store: Any, token: str) -> None:
    nonce = os.urandom(_NONCE)
    sealed = nonce + _cipher(store).encrypt(nonce, token.encode(), store.user_id.encode())
    DefaultStore.save_sync_token(store, base64.b64encode(sealed).decode())


def _load_sync_token(store: Any) -> str | None:
    """None where there is none that the key opens: what was missed is read from the rooms then."""
    token = DefaultStore.load_sync_token(store)
    try:
        sealed = base64.b64decode(token or "", validate=True)
        nonce, text = sealed[:_NONCE], sealed[_NONCE:]
        return _cipher(store).decrypt(nonce, text, store.user_id.encode()).decode()
    except (InvalidTag, ValueError):
        return None


def _cipher(store: Any) -> AESGCM:
    """Of the key that seals the device's own."""
    return AESGCM(hashlib.sha256(b"sync token " + store.pickle_key.encode()).digest())


_ACTS: Final = {
    name: act
    for name in dir(DefaultStore)
    if (not name.startswith("__") or name == "__post_init__")
    and callable(act := getattr(DefaultStore, name))
} | {"save_sync_token": _save_sync_token, "load_sync_token": _load_sync_token}

Store: Final[type[Any]] = type(
    "Store", (DefaultStore,), {name: _alone(act) for name, act in _ACTS.items()}
)
"""The library's, used by one thread at a time. Raises as it does."""
