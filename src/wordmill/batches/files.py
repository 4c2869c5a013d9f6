"""Files that people send and batches write: a row each, the bytes in the storage."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import and_, delete, insert, select

from wordmill.batches.types import File
from wordmill.database import Database, new_id, now
from wordmill.database import files as table
from wordmill.errors import InvalidInput, NotFound
from wordmill.storage import Storage, Writer

LONGEST_NAME: Final = 500
PURPOSES: Final = ("batch", "user_data")
"""Of files that people send."""


class Upload:
    """A file that is coming: `write` its pieces, then `commit`; `abort` leaves nothing."""

    def __init__(self, files: "Files", owner: str, name: str, most: int) -> None:
        self._files, self._most, self.bytes = files, most, 0
        self._values = {"id": f"file-{new_id()}", "owner": owner, "name": name}
        self._place = f"files/{self._values['id']}"
        self._digest = hashlib.sha256()
        self._writer: Writer = files.storage.create(self._place)

    def write(self, data: bytes) -> None:
        """The next piece. Raises InvalidInput when it grows too long, StorageError."""
        self.bytes += len(data)
        if self.bytes > self._most:
            self.abort()
            raise InvalidInput(f"The file is longer than {self._most:,} bytes.", "file")
        self._digest.update(data)
        self._writer.write(data)

    def commit(self, purpose: str = "batch") -> File:
        """It is whole. Raises InvalidInput for a purpose that files do not have, StorageError."""
        if purpose not in PURPOSES:
            self.abort()
            raise InvalidInput(f"purpose is one of {', '.join(PURPOSES)}.", "purpose")
        self._writer.commit()
        return self._files.keep(
            {
                **self._values,
                "purpose": purpose,
                "bytes": self.bytes,
                "digest": self._digest.hexdigest(),
                "place": self._place,
            }
        )

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `commit`."""
        self._writer.abort()


class Files:
    """All files. Safe from any thread."""

    def __init__(self, database: Database, storage: Storage, most: int) -> None:
        """most: bytes of one file."""
        self._database, self.storage, self._most = database, storage, most

    def begin(self, owner: str, name: str) -> Upload:
        """Begin to take a file. Raises InvalidInput, StorageError."""
        if not 1 <= len(name) <= LONGEST_NAME or "\0" in name:
            raise InvalidInput(f"A file's name has 1 to {LONGEST_NAME} characters.", "file")
        return Upload(self, owner, name, self._most)

    def keep(self, values: Mapping[str, Any]) -> File:
        """Write down a file whose bytes are in the storage; one of that id is replaced."""
        values = {**values, "created": now()}
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.id == values["id"]))
            connection.execute(insert(table).values(values))
        return File(**values)

    def get(self, owner: str, file: str) -> File:
        """A file of a person. Raises NotFound."""
        query = select(table).where(table.c.id == file, table.c.owner == owner)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound("file", file)
        return File(**row)

    def all(
        self, owner: str, *, purpose: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[File]:
        """The files of a person, the newest first. after: the id of the last one seen."""
        query = select(table).where(table.c.owner == owner)
        if purpose is not None:
            query = query.where(table.c.purpose == purpose)
        if after is not None:
            seen = self.get(owner, after)
            older = and_(table.c.created == seen.created, table.c.id < seen.id)
            query = query.where((table.c.created < seen.created) | older)
        query = query.order_by(table.c.created.desc(), table.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [File(**row) for row in connection.execute(query).mappings()]

    def remove(self, owner: str, file: str) -> None:
        """Forget a file. Raises NotFound, StorageError."""
        found = self.get(owner, file)
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.id == file, table.c.owner == owner))
        if found.place.startswith("files/"):
            self.storage.remove(found.place)

    def content(self, file: File) -> Iterator[bytes]:
        """The bytes of a file that somebody sent."""
        return self.storage.read(file.place)
