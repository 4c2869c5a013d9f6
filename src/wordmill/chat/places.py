"""Where conversations lie: in the database, or, the temporary ones, in this process alone.

A temporary conversation has the same tables and the same queries, in an SQLite database that has
no file. Its ids begin with `tmp-`, and an id alone says where to look. Nothing of it is ever
written to a disk, and it ends with the process, after a day without a message, or when its owner
begins more than twenty.

There is one connection to the memory, so its transactions wait for each other.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import (
    Column,
    ColumnElement,
    LargeBinary,
    MetaData,
    QueuePool,
    String,
    Table,
    create_engine,
    delete,
    event,
    select,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from wordmill import database as tables
from wordmill.chat.types import TEMPORARY, is_temporary
from wordmill.database import Database, new_id, now
from wordmill.errors import InvalidInput
from wordmill.settings import Settings

MOST_TEMPORARY = 20
"""Temporary conversations of one person; with a further one the stalest ends."""
TEMPORARY_DAYS = 1.0
MEMORY_BYTES = 256 * 1024 * 1024
"""All temporary conversations of a process together."""

_IN_MEMORY = (
    tables.folders,
    tables.conversations,
    tables.messages,
    tables.attachments,
    tables.shares,
    tables.feedback,
    tables.preferences,
    tables.jobs,
)

contents = Table(
    "attachment_contents",
    MetaData(),
    Column("id", String(64), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
"""The bytes of the attachments of temporary conversations."""


class Places:
    """The database and the memory. Safe from any thread."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._memory: Database | None = None
        self._lock = threading.Lock()

    def at(self, name: str) -> Database:
        """Where the thing with that id lies."""
        return self.memory if is_temporary(name) else self.database

    @contextmanager
    def begin(self, name: str) -> Iterator[Connection]:
        """A transaction that writes, where the thing with that id lies."""
        with self.at(name).begin() as connection:
            yield connection

    @contextmanager
    def read(self, name: str) -> Iterator[Connection]:
        """A transaction that only reads, where the thing with that id lies."""
        with self.at(name).read() as connection:
            yield connection

    @property
    def memory(self) -> Database:
        """The temporary conversations; made when it is first wanted."""
        with self._lock:
            if self._memory is None:
                self._memory = _open_memory()
            return self._memory

    def close(self) -> None:
        """Forget the temporary conversations. The database belongs to others."""
        with self._lock:
            if self._memory is not None:
                self._memory.close()
                self._memory = None


class Stored:
    """What every part of the stored side holds."""

    places: Places
    settings: Settings


def new_name(beside: str = "") -> str:
    """A new id, for something that lies where the thing with the id `beside` does."""
    return TEMPORARY + new_id() if is_temporary(beside) else new_id()


def name_of_once(conversation: str, once: str) -> str:
    """The id of a message of a conversation that an idempotency key stands for: always the same."""
    digest = hashlib.sha256(f"{conversation}\0{once}".encode()).hexdigest()[:24]
    return TEMPORARY + digest if is_temporary(conversation) else digest


def check_room(connection: Connection, name: str) -> None:
    """Raises InvalidInput when something new would pass what the memory may hold."""
    if not is_temporary(name):
        return
    pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    free = connection.execute(text("PRAGMA freelist_count")).scalar_one()
    size = connection.execute(text("PRAGMA page_size")).scalar_one()
    if (pages - free) * size > MEMORY_BYTES:
        raise InvalidInput(
            f"The temporary conversations of this server fill the {MEMORY_BYTES // 2**20} MiB "
            "that they may. Remove some, or talk in one that is kept."
        )


def make_room(connection: Connection, owner: str) -> None:
    """End the stale temporary conversations, and the stalest of an owner who has too many."""
    known = tables.conversations
    stale = now() - timedelta(days=TEMPORARY_DAYS)
    ended = set(connection.execute(select(known.c.id).where(known.c.updated < stale)).scalars())
    ended.update(
        connection.execute(
            select(known.c.id)
            .where(known.c.owner == owner)
            .order_by(known.c.updated.desc(), known.c.id.desc())
            .offset(MOST_TEMPORARY - 1)
        ).scalars()
    )
    for name in ended:
        theirs = tables.attachments.c.conversation == name
        forget_contents(connection, theirs)
        connection.execute(delete(tables.attachments).where(theirs))
        connection.execute(delete(known).where(known.c.id == name))


def forget_contents(connection: Connection, condition: ColumnElement[bool]) -> None:
    """Let go of the bytes of the temporary attachments for whose rows `condition` holds."""
    names = select(tables.attachments.c.id).where(condition)
    connection.execute(delete(contents).where(contents.c.id.in_(names)))


def _open_memory() -> Database:
    engine = create_engine(
        "sqlite://",
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )
    event.listen(engine, "connect", _on_connect)
    with engine.begin() as connection:
        tables.metadata.create_all(connection, tables=list(_IN_MEMORY))
        contents.create(connection)
    return Database(engine, "of temporary conversations")


def _on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA temp_store = MEMORY")
    cursor.close()
