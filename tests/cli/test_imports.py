"""`wordmill import`: exports of others at the command line."""

import json
from pathlib import Path

import pytest

from tests.chat.test_importing import BREAD, CLAUDE
from tests.cli.conftest import Type
from wordmill.accounts import Accounts
from wordmill.chat.conversations import Conversations
from wordmill.database import open_database
from wordmill.settings import load


@pytest.fixture
def export(tmp_path: Path) -> Path:
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps([BREAD, CLAUDE]), encoding="utf-8")
    return file


def titles(email: str | None = None) -> list[str]:
    settings = load()
    with open_database(settings) as database:
        people = Accounts(database, settings).people
        who = people.local() if email is None else people.by_email(email)
        return sorted(one.title for one in Conversations(database, settings).all(who).items)


def test_the_same_file_twice_makes_nothing_twice(wordmill: Type, export: Path) -> None:
    first = wordmill("import", export)
    assert first.code == 0, first.err
    assert first.out == f"{export}: 2 new, 0 grown, 0 known already; 6 messages.\n"
    assert first.err == (
        "'Rain': content of the unknown kind 'hologram'.\n"
        "'Rain': the file 'photo.png' is not in the export.\n"
    )
    again = wordmill("import", export)
    assert again.out == f"{export}: 0 new, 0 grown, 2 known already; 0 messages.\n"
    assert titles() == ["Bread", "Rain"]


def test_they_become_somebodys(wordmill: Type, export: Path) -> None:
    settings = load()
    with open_database(settings) as database:
        people = Accounts(database, settings).people
        ann = people.create(None, "ann@example.org", "Ann", "correct horse 7", "admin")
        people.create(ann, "bob@example.org", "Bob", "correct horse 8")
    assert wordmill("import", export, "--person", "bob@example.org").code == 0
    assert titles("bob@example.org") == ["Bread", "Rain"]
    assert titles() == []
    done = wordmill("import", export, "--person", "bop@example.org")
    assert done.code != 0
    assert "bob@example.org" in done.err


def test_what_is_no_export_is_said(wordmill: Type, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Buy milk.")
    done = wordmill("import", file)
    assert done.code != 0
    assert done.out == ""
    assert done.err.count("\n") <= 2
    assert "JSON" in done.err
    assert wordmill("import", tmp_path / "none.json").code != 0
