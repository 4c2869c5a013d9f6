"""All that a data folder holds, in one file, and back.

A backup is a zip: each table as JSON lines, each file as it is, and `manifest.json`, which counts
the rows and gives the SHA-256 of every part. The tables are read in one transaction, so they all
show the same moment, while others go on working; a backup of SQLite can be restored into PostgreSQL
and back. Search indexes are not in it: they are made anew from what was said.

Left out: the key that opens stored secrets (`secret.key`), unless it is asked for, so that a lost
backup gives no key away; and the cache, which is an index of the runs' records.
"""

import base64
import hashlib
import json
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, Final

from sqlalchemy import MetaData, Table, func, select
from sqlalchemy.engine import Connection

from wordmill.database import HEAD, Database, open_at, open_database
from wordmill.errors import StorageError
from wordmill.secrets import KEY_FILE
from wordmill.settings import Settings, load, sqlite_url
from wordmill.storage import WholeFile, said
from wordmill.types import Value

MANIFEST: Final = "manifest.json"
_CHUNK: Final = 1 << 20
_ROWS: Final = 1000
_SQLITE: Final = b"SQLite format 3\0"
_SKIPPED: Final = ("wordmill.db", "cache.db", "models/")
"""Files of the data folder that begin so: the database goes as tables, and the weights of models
are fetched again."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """What a backup holds: rows by table, files, their bytes, and whether the key is in it."""

    created: datetime
    version: str
    schema: str
    rows: dict[str, int]
    files: int
    size: int
    with_key: bool


def back_up(settings: Settings, path: Path, *, with_key: bool = False, tell: Tell) -> Summary:
    """Write the backup `path`, whole or not at all, while others go on working.

    tell: hears what is being written.  Raises StorageError for a file that is there already.
    """
    if path.exists():
        raise StorageError(f"{path} is there already: name another file, or remove it.")
    parts: dict[str, dict[str, Value]] = {}
    with (
        open_database(settings) as database,
        WholeFile(path, "Nothing was left behind.") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
    ):
        rows = _write_tables(database, archive, parts, tell)
        files = _write_files(settings.home, archive, parts, with_key, tell)
        manifest = {
            "wordmill": version("wordmill"),
            "created": datetime.now(UTC).isoformat(),
            "schema": HEAD,
            "rows": rows,
            "with_key": with_key,
            "parts": parts,
        }
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
    path.chmod(0o600)
    return _summary(manifest, files)


def restore(settings: Settings, path: Path, *, tell: Tell) -> Summary:
    """Fill an empty data folder (and database) from a backup, checked part by part.

    Raises StorageError for a folder or database that holds something, a damaged backup, and one of
    a newer Wordmill.
    """
    home = settings.home
    if home.exists() and any(home.iterdir()):
        raise StorageError(
            f"The data folder {home} is not empty. Name a new one in WORDMILL_HOME, "
            "or move this one away: nothing is written over."
        )
    with _open(path) as archive:
        manifest = _manifest(archive, path)
        _check_parts(archive, manifest, path, tell)
        with said(home):
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _read_tables(settings, archive, manifest, tell)
        files = _read_files(home, archive, manifest, tell)
        return _summary(manifest, files)


def verify(path: Path, *, tell: Tell) -> Summary:
    """Restore a backup into a folder of its own, count everything, and remove that again.

    Raises StorageError with what is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="wordmill-verify-") as folder:
        home = Path(folder) / "home"
        settings = load({"home": str(home), "database_url": sqlite_url(home)})
        summary = restore(settings, path, tell=tell)
        with open_database(settings) as database, database.read() as connection:
            counted = {name: _count(connection, table) for name, table in _tables(connection)}
    wrong = [
        f"{name}: {counted.get(name, 0)} instead of {rows}"
        for name, rows in summary.rows.items()
        if summary.schema == HEAD and counted.get(name, 0) != rows
    ]
    if wrong:
        raise StorageError(f"{path} does not restore whole: {'; '.join(wrong)} rows.")
    return summary


def _write_tables(
    database: Database, archive: zipfile.ZipFile, parts: dict[str, dict[str, Value]], tell: Tell
) -> dict[str, int]:
    counts: dict[str, int] = {}
    with database.read() as connection:
        for name, table in _tables(connection):
            tell(f"table {name}")
            count = 0
            with _Part(archive, f"tables/{name}.jsonl", parts) as part:
                result = connection.execution_options(yield_per=_ROWS).execute(select(table))
                for row in result.mappings():
                    line = {column: _plain(value) for column, value in row.items()}
                    part.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                    count += 1
            counts[name] = count
    return counts


def _tables(connection: Connection) -> Iterator[tuple[str, Table]]:
    """The tables as the database has them, those that others point to first.

    What belongs to Alembic or to a search index is not among them, nor are computed columns.
    """
    found = MetaData()
    found.reflect(connection, only=lambda name, _: not name.startswith("messages_fts"))
    for table in found.sorted_tables:
        if table.name != "alembic_version":
            computed = [column for column in table.columns if column.computed is not None]
            for column in computed:
                table._columns.remove(column)
            yield table.name, table


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _plain(value: Value) -> Value:
    """As JSON; times, bytes and JSON columns are marked, so that they come back as they were."""
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return {"time": moment.isoformat()}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict | list):
        return {"json": value}
    return value


def _value(plain: Value, sqlite: bool) -> Value:
    match plain:
        case {"time": str(text)}:
            moment = datetime.fromisoformat(text)
            return moment.replace(tzinfo=None) if sqlite else moment
        case {"bytes": str(text)}:
            return base64.b64decode(text)
        case {"json": value}:
            return value
    return plain


def _write_files(
    home: Path,
    archive: zipfile.ZipFile,
    parts: dict[str, dict[str, Value]],
    with_key: bool,
    tell: Tell,
) -> int:
    count = 0
    for file in sorted(home.rglob("*")):
        name = file.relative_to(home).as_posix()
        if not file.is_file() or file.is_symlink() or not _kept(name, with_key):
            continue
        tell(name)
        try:
            _write_file(file, archive, f"files/{name}", parts)
        except FileNotFoundError:
            continue  # removed by somebody since it was listed
        count += 1
    return count


def _kept(name: str, with_key: bool) -> bool:
    if name == KEY_FILE:
        return with_key
    last = PurePosixPath(name).name
    return not (
        name.startswith(_SKIPPED)
        or last.endswith((".part", ".lock", "-wal", "-shm", "-journal"))
        or last.startswith(".")
    )


def _write_file(
    file: Path, archive: zipfile.ZipFile, name: str, parts: dict[str, dict[str, Value]]
) -> None:
    with file.open("rb") as source:
        head = source.read(len(_SQLITE))
        if head == _SQLITE:
            # Somebody may write to it now: SQLite itself makes the copy.
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "copy"
                with closing(sqlite3.connect(file)) as live, closing(sqlite3.connect(copy)) as db:
                    live.backup(db)
                with copy.open("rb") as whole, _Part(archive, name, parts) as part:
                    part.copy(whole)
            return
        source.seek(0)
        with _Part(archive, name, parts) as part:
            part.copy(source)


class _Part:
    """One member of the archive, hashed as it is written."""

    def __init__(
        self, archive: zipfile.ZipFile, name: str, parts: dict[str, dict[str, Value]]
    ) -> None:
        self._name, self._parts = name, parts
        self._hash, self._size = hashlib.sha256(), 0
        self._out = archive.open(name, "w", force_zip64=True)

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)
        self._out.write(data)

    def copy(self, source: IO[bytes]) -> None:
        while data := source.read(_CHUNK):
            self.write(data)

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()
        self._parts[self._name] = {"sha256": self._hash.hexdigest(), "size": self._size}


def _open(path: Path) -> zipfile.ZipFile:
    with said(path):
        try:
            return zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise StorageError(f"{path} is no backup of Wordmill: {error}.") from error


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Value]:
    try:
        found = json.loads(archive.read(MANIFEST))
        schema, parts, rows = found["schema"], found["parts"], found["rows"]
        known = isinstance(parts, dict) and isinstance(rows, dict) and isinstance(schema, str)
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise StorageError(f"{path} is no backup of Wordmill: its manifest is missing.") from error
    if not known:
        raise StorageError(f"{path} is no backup of Wordmill: its manifest cannot be read.")
    if schema > HEAD:
        raise StorageError(
            f"{path} was made by Wordmill {found.get('wordmill')}, which is newer "
            f"(schema {schema}; this one knows {HEAD}). Restore it with that version."
        )
    for name in parts:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or pure.parts[0] not in ("tables", "files"):
            raise StorageError(f"{path} is no backup of Wordmill: it holds {name!r}.")
    return dict(found)


def _check_parts(
    archive: zipfile.ZipFile, manifest: dict[str, Value], path: Path, tell: Tell
) -> None:
    """Nothing is written before every hash is right."""
    for name, told in manifest["parts"].items():
        tell(f"checking {name}")
        found = hashlib.sha256()
        try:
            with archive.open(name) as part:
                while data := part.read(_CHUNK):
                    found.update(data)
        except (KeyError, zipfile.BadZipFile, OSError, EOFError) as error:
            raise StorageError(f"{path} is damaged: {name} cannot be read ({error}).") from error
        if found.hexdigest() != told["sha256"]:
            raise StorageError(f"{path} is damaged: {name} is not what was written.")


def _read_tables(
    settings: Settings, archive: zipfile.ZipFile, manifest: dict[str, Value], tell: Tell
) -> None:
    with open_at(settings, manifest["schema"]) as database, database.begin() as connection:
        sqlite = connection.dialect.name == "sqlite"
        tables = dict(_tables(connection))
        if any(_count(connection, table) for table in tables.values()):
            raise StorageError(
                f"The database {database.where} is not empty: name another in "
                "WORDMILL_DATABASE_URL. Nothing is written over."
            )
        for name, table in tables.items():
            if f"tables/{name}.jsonl" not in manifest["parts"]:
                continue
            tell(f"table {name}")
            rows: list[dict[str, Value]] = []
            with archive.open(f"tables/{name}.jsonl") as lines:
                for line in lines:
                    row = json.loads(line)
                    rows.append({key: _value(plain, sqlite) for key, plain in row.items()})
                    if len(rows) == _ROWS:
                        connection.execute(table.insert(), rows)
                        rows.clear()
            if rows:
                connection.execute(table.insert(), rows)
        _advance_numbers(connection, tables)
    open_database(settings).close()  # brings an older schema up to date


def _advance_numbers(connection: Connection, tables: dict[str, Table]) -> None:
    """PostgreSQL counts in sequences of its own, which know nothing of what was put in."""
    if connection.dialect.name != "postgresql" or "messages" not in tables:
        return
    connection.exec_driver_sql(
        "SELECT setval(pg_get_serial_sequence('messages', 'number'), "
        "GREATEST((SELECT COALESCE(MAX(number), 1) FROM messages), 1))"
    )


def _read_files(
    home: Path, archive: zipfile.ZipFile, manifest: dict[str, Value], tell: Tell
) -> int:
    count = 0
    for name in manifest["parts"]:
        if not name.startswith("files/"):
            continue
        target = home / name.removeprefix("files/")
        tell(name.removeprefix("files/"))
        with archive.open(name) as part, WholeFile(target) as file:
            while data := part.read(_CHUNK):
                file.write(data)
        target.chmod(0o600)
        count += 1
    return count


def _summary(manifest: dict[str, Value], files: int) -> Summary:
    return Summary(
        created=datetime.fromisoformat(manifest["created"]),
        version=str(manifest["wordmill"]),
        schema=manifest["schema"],
        rows=manifest["rows"],
        files=files,
        size=sum(part["size"] for part in manifest["parts"].values()),
        with_key=bool(manifest["with_key"]),
    )
