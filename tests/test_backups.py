import json
import sqlite3
import threading
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import insert, select, text

from wordmill import backups, database
from wordmill.database import new_id, now, open_database
from wordmill.errors import StorageError
from wordmill.migrations.upgrade import configuration
from wordmill.settings import Settings, load


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    return load()


def quiet(_: str) -> None:
    pass


def message(conversation: str, said: str) -> dict[str, Any]:
    return {
        "id": new_id(), "conversation": conversation, "role": "user", "state": "done",
        "text": said, "reasoning": "", "parts": [], "author": "local", "door": "web",
        "created": now(), "updated": now(),
    }  # fmt: skip


def fill(settings: Settings, messages: int = 3) -> str:
    conversation = new_id()
    with open_database(settings) as opened, opened.begin() as connection:
        connection.execute(
            insert(database.conversations).values(
                id=conversation,
                owner="local",
                title="Grüße\u2028",
                titled_by="",
                tags=["a", "b"],
                pinned=True,
                archived=False,
                system="",
                settings={"temperature": 0.5},
                created=now(),
                updated=now(),
            )
        )
        for number in range(messages):
            connection.execute(
                insert(database.messages).values(message(conversation, f"harvest {number}"))
            )
        connection.execute(
            insert(database.provider_keys).values(
                owner="", model="m", sealed=b"\x00\xff sealed", created=now()
            )
        )
    folder = settings.home / "attachments"
    folder.mkdir()
    (folder / "one").write_bytes(b"picture")
    (settings.home / "secret.key").write_bytes(b"opens everything")
    (settings.home / "cache.db").write_bytes(b"made again")
    return conversation


def rows(settings: Settings) -> dict[str, list[object]]:
    with open_database(settings) as opened, opened.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in database.metadata.sorted_tables
        }


def elsewhere(tmp_path: Path) -> Settings:
    return load({"home": str(tmp_path / "other")})


def test_what_comes_back_is_what_was_there(settings: Settings, tmp_path: Path) -> None:
    fill(settings)
    made = backups.back_up(settings, tmp_path / "all.zip", tell=quiet)
    assert (made.rows["messages"], made.files, made.with_key) == (3, 1, False)
    assert (tmp_path / "all.zip").stat().st_mode & 0o777 == 0o600
    other = elsewhere(tmp_path)
    assert backups.restore(other, tmp_path / "all.zip", tell=quiet) == made
    assert rows(other) == rows(settings)
    assert (other.home / "attachments" / "one").read_bytes() == b"picture"
    assert not (other.home / "secret.key").exists()
    with closing(sqlite3.connect(other.home / "wordmill.db")) as connection:
        found = connection.execute(
            "SELECT count(*) FROM messages_fts WHERE messages_fts MATCH 'harvest'"
        ).fetchone()
    assert found == (3,)


def test_a_backup_goes_to_postgresql_and_back(
    settings: Settings, tmp_path: Path, postgres_url: str
) -> None:
    conversation = fill(settings)
    made = backups.back_up(settings, tmp_path / "lite.zip", tell=quiet)
    server = load({"home": str(tmp_path / "server"), "database_url": postgres_url})
    assert backups.restore(server, tmp_path / "lite.zip", tell=quiet) == made
    assert rows(server) == rows(settings)
    with open_database(server) as opened, opened.begin() as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM messages WHERE search @@ plainto_tsquery('simple', 'harvest')"
        ).scalar()
        last = max(connection.execute(select(database.messages.c.number)).scalars())
        connection.execute(insert(database.messages).values(message(conversation, "one more")))
        numbers = list(connection.execute(select(database.messages.c.number)).scalars())
    assert found == 3
    assert max(numbers) == last + 1

    again = backups.back_up(server, tmp_path / "server.zip", tell=quiet)
    assert again.rows["messages"] == 4
    other = elsewhere(tmp_path)
    backups.restore(other, tmp_path / "server.zip", tell=quiet)
    assert rows(other) == rows(server)
    with pytest.raises(StorageError) as caught:
        backups.restore(
            load({"home": str(tmp_path / "third"), "database_url": postgres_url}),
            tmp_path / "server.zip",
            tell=quiet,
        )
    assert "is not empty: name another in WORDMILL_DATABASE_URL." in str(caught.value)


def test_the_key_comes_only_when_it_is_asked_for(settings: Settings, tmp_path: Path) -> None:
    fill(settings)
    backups.back_up(settings, tmp_path / "all.zip", with_key=True, tell=quiet)
    other = elsewhere(tmp_path)
    assert backups.restore(other, tmp_path / "all.zip", tell=quiet).with_key
    assert (other.home / "secret.key").read_bytes() == b"opens everything"
    assert (other.home / "secret.key").stat().st_mode & 0o777 == 0o600


def test_a_backup_shows_one_moment_while_others_write(settings: Settings, tmp_path: Path) -> None:
    conversation = fill(settings)
    stop = threading.Event()

    def write() -> None:
        with open_database(settings) as opened:
            while not stop.is_set():
                with opened.begin() as connection:
                    # A pair in two tables, in one transaction: a backup has both or neither.
                    said = message(conversation, "pair")
                    connection.execute(insert(database.messages).values(said))
                    connection.execute(
                        insert(database.feedback).values(
                            message=said["id"],
                            person="local",
                            score=1,
                            created=now(),
                            updated=now(),
                        )
                    )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            path = tmp_path / f"{number}.zip"
            made = backups.back_up(settings, path, tell=quiet)
            assert made.rows["messages"] - 3 == made.rows["feedback"]
            assert backups.verify(path, tell=quiet) == made
    finally:
        stop.set()
        writer.join()
    assert made.rows["feedback"] > 0


def test_a_live_sqlite_file_is_copied_whole(settings: Settings, tmp_path: Path) -> None:
    fill(settings)
    folder = settings.home / "runs" / "r"
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "records.db")) as live:
        live.execute("PRAGMA journal_mode = WAL")
        live.execute("CREATE TABLE t (x)")
        live.execute("INSERT INTO t VALUES (7)")
        live.commit()  # still in the -wal file
        backups.back_up(settings, tmp_path / "all.zip", tell=quiet)
    other = elsewhere(tmp_path)
    backups.restore(other, tmp_path / "all.zip", tell=quiet)
    with closing(sqlite3.connect(other.home / "runs" / "r" / "records.db")) as copy:
        assert copy.execute("SELECT x FROM t").fetchall() == [(7,)]


def test_nothing_is_written_over(settings: Settings, tmp_path: Path) -> None:
    fill(settings)
    path = tmp_path / "all.zip"
    backups.back_up(settings, path, tell=quiet)
    with pytest.raises(StorageError) as caught:
        backups.back_up(settings, path, tell=quiet)
    assert str(caught.value) == f"{path} is there already: name another file, or remove it."
    with pytest.raises(StorageError) as caught:
        backups.restore(settings, path, tell=quiet)
    assert str(caught.value) == (
        f"The data folder {settings.home} is not empty. Name a new one in WORDMILL_HOME, "
        "or move this one away: nothing is written over."
    )


@pytest.mark.parametrize("harm", ["changed", "missing", "cut", "none", "escape", "newer"])
def test_a_damaged_backup_writes_nothing(settings: Settings, tmp_path: Path, harm: str) -> None:
    fill(settings)
    whole, path = tmp_path / "whole.zip", tmp_path / "harmed.zip"
    backups.back_up(settings, whole, tell=quiet)
    if harm == "cut":
        path.write_bytes(whole.read_bytes()[:-200])
    elif harm == "none":
        path.write_text("not a zip")
    else:
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                data = source.read(name)
                if name == "files/attachments/one":
                    data = data if harm != "changed" else b"forgery"
                    if harm == "missing":
                        continue
                if name == "manifest.json":
                    manifest = json.loads(data)
                    if harm == "escape":
                        manifest["parts"]["files/../../out"] = {"sha256": "", "size": 0}
                    if harm == "newer":
                        manifest["schema"] = "9999"
                    data = json.dumps(manifest).encode()
                target.writestr(name, data)
    words = {
        "changed": "is damaged: files/attachments/one is not what was written.",
        "missing": "is damaged: files/attachments/one cannot be read",
        "cut": "is no backup of Wordmill",
        "none": "is no backup of Wordmill",
        "escape": "is no backup of Wordmill: it holds 'files/../../out'.",
        "newer": "which is newer (schema 9999; this one knows",
    }
    other = elsewhere(tmp_path)
    with pytest.raises(StorageError) as caught:
        backups.restore(other, path, tell=quiet)
    assert words[harm] in str(caught.value)
    assert not other.home.exists()


def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.home.mkdir(mode=0o700)
    engine = database._engine(settings.database_url, settings.home / "wordmill.db")
    with engine.connect() as connection, connection.begin():
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(
            text("INSERT INTO settings (name, value, updated) VALUES ('cache', 'no', :now)"),
            {"now": now().isoformat(sep=" ")},
        )
    engine.dispose()
    with monkeypatch.context() as patch:  # as the Wordmill of then would have written it
        patch.setattr(backups, "HEAD", "0002")
        patch.setattr(backups, "open_database", lambda s: database.open_at(s, "0002"))
        backups.back_up(settings, tmp_path / "old.zip", tell=quiet)
    other = elsewhere(tmp_path)
    assert backups.restore(other, tmp_path / "old.zip", tell=quiet).schema == "0002"
    with open_database(other) as opened, opened.read() as connection:
        assert database.revision(connection) == database.HEAD
        assert connection.execute(select(database.settings.c.name)).scalars().all() == ["cache"]
