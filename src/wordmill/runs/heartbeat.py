"""A thread that tells the registry how far a run is, and hears when somebody cancels it."""

import threading
from collections.abc import Mapping
from types import TracebackType

from wordmill.errors import StorageError
from wordmill.runs.registry import Lease, Registry
from wordmill.types import Value

SECONDS = 0.5


class Heartbeat:
    """Beats while it is entered. counts: the newest that it was told."""

    def __init__(self, registry: Registry, lease: Lease) -> None:
        self.counts: Mapping[str, Value] = dict(lease.run.counts)
        self._registry, self._lease = registry, lease
        self._asked = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def tell(self, counts: Mapping[str, Value]) -> None:
        """Say these counts at the next beat."""
        self.counts = counts

    @property
    def asked(self) -> bool:
        """Whether the run was cancelled from elsewhere, or taken over by another process."""
        return self._asked.is_set()

    def _beat(self) -> None:
        while not self._over.wait(SECONDS):
            try:
                if self._registry.beat(self._lease, self.counts):
                    self._asked.set()
            except StorageError:
                # A full disk or a locked database is the run's to report when it ends; missing
                # a beat harms nothing, since the lock says who works on a run.
                continue

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
