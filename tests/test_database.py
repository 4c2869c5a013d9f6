import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, inspect, select, text
from sqlalchemy.engine import Connection

from wordmill import database
from wordmill.database import HEAD, Database, open_database
from wordmill.errors import ConfigError, StorageError
from wordmill.migrations.upgrade import configuration
from wordmill.settings import Settings, load


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    return load()


@pytest.fixture
def anywhere(settings: Settings, either_empty_database: str) -> Settings:
    """On SQLite, and on PostgreSQL."""
    return load()


def job(name: str, **values: object) -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "id": name, "kind": "run", "owner": "local", "state": "waiting", "fence": 1,
        "payload": {"rows": 3}, "progress": {}, "created": now, "updated": now, **values,
    }  # fmt: skip


def names(opened: Database) -> list[str]:
    with opened.read() as connection:
        return list(connection.execute(select(database.jobs.c.id).order_by("id")).scalars())


def test_the_first_opening_makes_it(anywhere: Settings) -> None:
    with open_database(anywhere) as opened:
        with opened.begin() as connection:
            connection.execute(database.jobs.insert().values(job("a")))
        assert names(opened) == ["a"]
    with open_database(anywhere) as again:
        assert names(again) == ["a"]


def test_the_data_folder_is_private(settings: Settings) -> None:
    open_database(settings).close()
    assert settings.home.stat().st_mode & 0o777 == 0o700
    assert sorted(file.name for file in settings.home.iterdir()) == ["wordmill.db"]


def not_search(_: object, name: str | None, kind: str, *rest: object) -> bool:
    """Full-text search is made by the migrations alone."""
    return not (
        str(name).startswith(("messages_fts", "ix_messages_search"))
        or (kind, name) == ("column", "search")
    )


def test_the_migrations_make_what_the_tables_say(anywhere: Settings) -> None:
    with open_database(anywhere) as opened, opened.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": not_search, "compare_type": True}
        )
        assert compare_metadata(context, database.metadata) == []
        keys = {  # which the comparison takes no account of
            (table, key["name"])
            for (_, table), found in inspect(connection).get_multi_foreign_keys().items()
            for key in found
        }
    assert keys == {
        (table.name, key.name)
        for table in database.metadata.sorted_tables
        for key in table.foreign_key_constraints
    }
    assert ScriptDirectory.from_config(configuration()).get_current_head() == HEAD


def test_the_migrations_can_be_undone_one_by_one(anywhere: Settings) -> None:
    def tables(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}

    with open_database(anywhere) as opened:
        with opened.begin() as connection:
            config = configuration()
            config.attributes["connection"] = connection
            seen = [tables(connection)]
            while seen[-1]:
                command.downgrade(config, "-1")
                seen.append(tables(connection))
        with opened.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)
            assert tables(connection) == seen[0]
    assert seen[-3:] == [{"models", "runs", "jobs", "settings"}, {"models", "runs", "jobs"}, set()]


def test_wal_foreign_keys_and_a_patient_lock(settings: Settings) -> None:
    with open_database(settings) as opened, opened.read() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        ]
    assert pragmas == ["wal", 1, 10_000]


def test_times_keep_their_zone(anywhere: Settings) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, timezone(timedelta(hours=2)))
    with open_database(anywhere) as opened:
        with opened.begin() as connection:
            connection.execute(database.jobs.insert().values(job("a", lease_until=moment)))
        with opened.read() as connection:
            found = connection.execute(
                select(database.jobs.c.lease_until, database.jobs.c.payload)
            ).one()
    assert found.lease_until == moment
    assert found.lease_until.tzinfo is UTC
    assert found.payload == {"rows": 3}


def test_a_time_without_a_zone_is_refused(anywhere: Settings) -> None:
    naive = datetime(2026, 1, 2)
    with (
        open_database(anywhere) as opened,
        pytest.raises(StorageError, match="has no time zone"),
        opened.begin() as connection,
    ):
        connection.execute(database.jobs.insert().values(job("a", created=naive)))


def interrupted(connection: Connection) -> None:
    connection.execute(database.jobs.insert().values(job("a")))
    raise KeyError


def test_an_exception_undoes_a_transaction(anywhere: Settings) -> None:
    with open_database(anywhere) as opened:
        with pytest.raises(KeyError), opened.begin() as connection:
            interrupted(connection)
        assert names(opened) == []


def test_what_the_database_refuses_is_a_sentence(
    anywhere: Settings, either_empty_database: str
) -> None:
    with open_database(anywhere) as opened:
        with opened.begin() as connection:
            connection.execute(database.jobs.insert().values(job("a")))
        with pytest.raises(StorageError) as caught, opened.begin() as connection:
            connection.execute(database.jobs.insert().values(job("a")))
    words = {
        "sqlite": "UNIQUE constraint failed: jobs.id",
        "postgresql": 'duplicate key value violates unique constraint "pk_jobs"',
    }
    assert str(caught.value) == f"The database {opened.where}: {words[either_empty_database]}."


def test_one_reads_and_then_writes_at_a_time(anywhere: Settings) -> None:
    """Counting up what was read loses nothing, whoever else does the same."""
    with open_database(anywhere) as opened:
        with opened.begin() as connection:
            connection.execute(database.jobs.insert().values(job("a", fence=0)))

        def count() -> None:
            for _ in range(20):
                with opened.begin() as connection:
                    fence = connection.execute(select(database.jobs.c.fence)).scalar_one()
                    connection.execute(database.jobs.update().values(fence=fence + 1))

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with opened.read() as connection:
            assert connection.execute(select(database.jobs.c.fence)).scalar_one() == 80


def test_who_reads_sees_one_moment(anywhere: Settings) -> None:
    with open_database(anywhere) as opened, opened.read() as reading:
        count = select(func.count()).select_from(database.jobs)
        assert reading.execute(count).scalar_one() == 0
        with opened.begin() as connection:
            connection.execute(database.jobs.insert().values(job("a")))
        assert reading.execute(count).scalar_one() == 0
        assert names(opened) == ["a"]


def test_a_lock_is_waited_for_and_then_given_up(
    anywhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 50)
    with (
        open_database(anywhere) as opened,
        opened.begin(),
        pytest.raises(StorageError) as caught,
        opened.begin(),
    ):
        raise AssertionError("two write at once")
    assert str(caught.value).startswith(f"The database {opened.where}: another process held it ")


def test_threads_that_write_wait_for_each_other(anywhere: Settings) -> None:
    with open_database(anywhere) as opened:

        def write(part: int) -> None:
            for number in range(20):
                with opened.begin() as connection:
                    connection.execute(select(database.jobs.c.id)).all()
                    connection.execute(database.jobs.insert().values(job(f"{part}-{number:02}")))

        threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(names(opened)) == 80


def test_many_open_a_new_home_at_once(anywhere: Settings) -> None:
    faults: list[BaseException] = []

    def first() -> None:
        try:
            open_database(anywhere).close()
        except StorageError as error:
            faults.append(error)

    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with open_database(anywhere) as opened:
        assert names(opened) == []


def _plain(value: Any) -> Any:
    """As the driver takes it."""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return json.dumps(value) if isinstance(value, dict) else value


def older(settings: Settings, revision: str) -> None:
    """A database of an older schema that holds one job."""
    settings.home.mkdir(mode=0o700)
    engine = database._engine(settings.database_url, settings.home / "wordmill.db")
    with engine.connect() as connection, connection.begin():
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        row = {name: _plain(value) for name, value in job("old").items()}
        columns = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO jobs ({columns}) VALUES ({values})"), row)
    engine.dispose()


def test_an_older_schema_is_copied_and_brought_up_to_date(settings: Settings) -> None:
    older(settings, "0001")
    with open_database(settings) as opened:
        assert names(opened) == ["old"]
        with opened.read() as connection:
            assert database.revision(connection) == HEAD
    copy = settings.home / f"wordmill.db.before-{HEAD}"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert kept.execute("SELECT id FROM jobs").fetchall() == [("old",)]


def older_on_postgresql(settings: Settings) -> None:
    """A PostgreSQL database of the first schema that holds one job."""
    engine = database._engine(settings.database_url, None)
    with engine.connect() as connection, connection.begin():
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        row = {name: _plain(value) for name, value in job("old").items()}
        places = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({places})"), row)
    engine.dispose()


def test_postgresql_keeps_the_tables_as_they_were(
    settings: Settings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_DATABASE_URL", postgres_url)
    older_on_postgresql(load())
    with open_database(load()) as opened:
        assert names(opened) == ["old"]
        with opened.read() as connection:
            assert database.revision(connection) == HEAD
            kept = f'"before_{HEAD}"'
            jobs = connection.execute(text(f"SELECT id FROM {kept}.jobs")).scalars().all()
            schema = connection.execute(text(f"SELECT * FROM {kept}.alembic_version")).scalar()
    assert (jobs, schema) == (["old"], "0001")


def test_a_migration_that_fails_changes_nothing_on_postgresql_either(
    settings: Settings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_DATABASE_URL", postgres_url)
    older_on_postgresql(load())
    engine = database._engine(postgres_url, None)
    with engine.begin() as connection:
        # The table that a later migration is about to make is in its way.
        connection.execute(text("CREATE TABLE conversations (x int)"))
    with pytest.raises(StorageError, match='relation "conversations" already exists'):
        open_database(load())
    with engine.begin() as connection:
        assert database.revision(connection) == "0001"
        schemas = (
            "SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE 'before%'"
        )
        assert connection.execute(text(schemas)).scalar() == 0
        connection.execute(text("DROP TABLE conversations"))
    engine.dispose()
    open_database(load()).close()


def test_a_migration_that_fails_changes_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    older(settings, "0001")
    with closing(sqlite3.connect(settings.home / "wordmill.db")) as connection:
        # The table that the migration is about to make is in its way.
        connection.execute("CREATE TABLE settings (x)")
    with pytest.raises(StorageError) as caught:
        open_database(settings)
    assert str(caught.value) == (
        f"The database {settings.home}/wordmill.db: table settings already exists."
    )
    with closing(sqlite3.connect(settings.home / "wordmill.db")) as connection:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        assert rows == [("0001",)]


def test_a_first_opening_that_fails_leaves_an_empty_file(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr("alembic.op.create_index", fail)
        with pytest.raises(KeyError):
            open_database(settings)
    with closing(sqlite3.connect(settings.home / "wordmill.db")) as connection:
        assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []
    open_database(settings).close()


def test_a_newer_schema_is_refused(settings: Settings) -> None:
    open_database(settings).close()
    with closing(sqlite3.connect(settings.home / "wordmill.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError) as caught:
        open_database(settings)
    assert str(caught.value) == (
        f"The database {settings.home}/wordmill.db has the schema 9999, which is newer than this "
        f"Wordmill's ({HEAD}). Upgrade Wordmill, or name another folder in WORDMILL_HOME."
    )


def test_a_database_of_something_else_is_left_alone(settings: Settings) -> None:
    settings.home.mkdir()
    with closing(sqlite3.connect(settings.home / "wordmill.db")) as connection:
        connection.execute("CREATE TABLE recipes (x)")
    with pytest.raises(StorageError) as caught:
        open_database(settings)
    assert str(caught.value) == (
        f"The database {settings.home}/wordmill.db is not Wordmill's: it holds the tables recipes. "
        "Name another in WORDMILL_DATABASE_URL, or another folder in WORDMILL_HOME."
    )


def test_a_file_that_is_no_database(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "wordmill.db").write_text("words, and more than sixteen of them" * 100)
    with pytest.raises(StorageError) as caught:
        open_database(settings)
    assert str(caught.value) == (
        f"The database {settings.home}/wordmill.db: the file is not an SQLite database. "
        "Move it away, or name another folder in WORDMILL_HOME."
    )


def test_a_home_that_cannot_be_made(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        open_database(load({"home": str(tmp_path / "file" / "home")}))
    assert str(caught.value) == (
        f"The data folder {tmp_path}/file/home cannot be made: Not a directory. "
        "Name another in WORDMILL_HOME."
    )


def test_a_folder_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none/x.db"
    with pytest.raises(StorageError) as caught:
        open_database(load({"database_url": url}))
    assert str(caught.value) == (
        f"The database {tmp_path}/none/x.db: the file cannot be opened or made. Is its folder "
        "there and writable? WORDMILL_HOME names another."
    )


def test_addresses_that_are_none(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="database_url is no address of a database"):
        open_database(load({"database_url": "nonsense"}))
    with pytest.raises(ConfigError) as caught:
        open_database(load({"database_url": "postgresql+pg8000://mill:hunter2@db/mill"}))
    assert str(caught.value) == (
        "database_url needs the Python package 'pg8000'. Install it, "
        "or leave database_url empty for an SQLite file in the data folder."
    )


def test_opening_does_not_import_alembic(settings: Settings) -> None:
    open_database(settings).close()
    code = (
        "import sys; from wordmill.settings import load; from wordmill.database import "
        f"open_database; open_database(load({{'home': {str(settings.home)!r}}})); "
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_connection_that_comes_back_after_the_close_is_closed_too(anywhere: Settings) -> None:
    opened = open_database(anywhere)
    with opened.read() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        opened.close()
        connection.execute(text("SELECT 1"))
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError)):
        raw.cursor().execute("SELECT 1")
