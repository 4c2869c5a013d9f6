"""Models on this machine: found on the hub, weighed, fetched, kept, quantized.

`model_server` runs them; here they are brought, checked and looked after. `find` gives the one of a
name in the catalog.
"""

from wordmill.local_models.registry import find
from wordmill.local_models.types import Facts, LocalModel

__all__ = ["Facts", "LocalModel", "find"]
