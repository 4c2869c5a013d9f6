"""The device's own store, as the library keeps it, where several accounts run in one process.

The library's tables are bound to a database for the whole process while something is read or
written, so what two threads do at once would land in the store of one of them. Here only one does
something at a time; it takes milliseconds.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from nio.store import DefaultStore

_ALONE: Final = threading.RLock()


def _alone(act: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(act)
    def inner(*arguments: Any, **named: Any) -> Any:
        with _ALONE:
            return act(*arguments, **named)

    return inner


_ACTS: Final = {
    name: act
    for name in dir(DefaultStore)
    if (not name.startswith("__") or name == "__post_init__")
    and callable(act := getattr(DefaultStore, name))
}

Store: Final[type[Any]] = type(
    "Store", (DefaultStore,), {name: _alone(act) for name, act in _ACTS.items()}
)
"""The library's, used by one thread at a time. Raises as it does."""
