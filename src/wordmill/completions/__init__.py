"""One request to a model now: for a turn, for the API, for a command.

Everything that asks a model outside of a run goes through here, so that keys, limits, retries,
quotas and the ledger exist once. `Completions` is what a process opens once.
"""

from wordmill.completions.answer import Answer, Delta
from wordmill.completions.completions import Completions
from wordmill.completions.lanes import Lane

__all__ = ["Answer", "Completions", "Delta", "Lane"]
