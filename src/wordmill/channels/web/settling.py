"""What the pages need that takes long to load, loaded when the first person comes.

A server that only programs speak to never pays for it: that is a fifth of its memory.
"""

import gc
import threading
from functools import cache
from importlib import import_module

_HEAVY = ("altair", "numpy", "pandas", "pyarrow")


def freeze() -> None:
    """Take what is loaded now out of the garbage collector's sight: it stays for good.

    Streamlit collects garbage after every run of a page, and that takes longer the more there is.
    """
    gc.collect()
    gc.freeze()


@cache
def settle() -> None:
    """Load all of it; once."""
    for name in _HEAVY:
        import_module(name)
    freeze()


def settle_beside() -> None:
    """Begin to load it, while somebody is on the way to a page."""
    threading.Thread(target=settle, name="wordmill-settle", daemon=True).start()
