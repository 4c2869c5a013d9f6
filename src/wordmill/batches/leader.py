"""One process of many that leads: by a lock which PostgreSQL holds while its connection lives."""

import threading
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from wordmill.database import Database
from wordmill.errors import StorageError

_TAKE: Final = text("SELECT pg_try_advisory_lock(8606214937283259501)")
_STILL: Final = text("SELECT 1")


class Leader:
    """The lock. Used by one thread; `leads` may be read by any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._leads = threading.Event()

    @property
    def leads(self) -> bool:
        """Whether this process led when it last looked."""
        return self._leads.is_set()

    def lead(self) -> bool:
        """Whether this process leads now, which it does if no other one does.

        Raises StorageError when the database does not answer; then nobody knows.
        """
        try:
            if self._connection is None:
                engine = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
                self._connection = engine.connect()
            if self.leads:
                self._connection.execute(_STILL)
            elif self._connection.execute(_TAKE).scalar():
                self._leads.set()
        except SQLAlchemyError as error:
            self.resign()
            raise StorageError(
                f"The database {self._database.where} does not answer: {type(error).__name__}. "
                "It is tried again."
            ) from error
        return self.leads

    def resign(self) -> None:
        """Lead no more."""
        self._leads.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # what goes back to the pool would keep the lock
            connection.close()
