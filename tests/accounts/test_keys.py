from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.accounts.conftest import PASSWORD
from tests.accounts.refusing import said
from wordmill import database as tables
from wordmill.accounts import LOCAL_PERSON, Accounts, Person
from wordmill.accounts.keys import MOST
from wordmill.database import Database, now
from wordmill.errors import Forbidden, InvalidInput, NotFound, Unauthenticated, UnknownName
from wordmill.secrets import KEY_FILE
from wordmill.settings import Settings, load

BAD = "This API key is not good: it is unknown, has expired or was revoked."


def test_a_key_opens_its_person(accounts: Accounts, bob: Person, kept: Callable[[], str]) -> None:
    key, secret = accounts.keys.create(bob, "notebook")
    assert secret.startswith("wm-")
    assert len(secret) == 46
    assert (key.person, key.name, key.start) == (bob.id, "notebook", secret[:9])
    assert (key.scopes, key.expires, key.used) == (("chat", "runs", "read"), None, None)
    person, found = accounts.keys.check(secret, "10.0.0.1")
    assert (person, found) == (bob, key)
    assert secret not in kept()
    assert secret[9:] not in kept()
    (listed,) = accounts.keys.all(bob)
    assert listed.used is not None
    assert accounts.keys.create(bob, "notebook")[1] != secret  # several, also of one name


@pytest.mark.parametrize(
    "secret",
    ["", "wm-", "wm-x", "sk-abcdefgh", "wm-" + "A" * 43, "wm-" + "A" * 5000, "wm-\0", "wm-\ud800",
     "wm-' OR 1=1 --"],
)  # fmt: skip
def test_what_is_no_key(accounts: Accounts, bob: Person, secret: str) -> None:
    accounts.keys.create(bob, "notebook")
    with said(Unauthenticated, BAD):
        accounts.keys.check(secret)


def test_checking_is_one_question(
    accounts: Accounts, bob: Person, statements: list[str], later: Callable[..., None]
) -> None:
    _, secret = accounts.keys.create(bob, "notebook")
    accounts.keys.check(secret)
    statements.clear()
    for _ in range(20):
        accounts.keys.check(secret)
    assert len(statements) == 20
    assert all(statement.startswith("SELECT") for statement in statements)
    later(tables.api_keys, seconds=61)
    statements.clear()
    for _ in range(20):
        accounts.keys.check(secret)
    assert len([one for one in statements if one.startswith("UPDATE")]) == 1


def test_the_database_alone_tries_no_key(
    accounts: Accounts, bob: Person, database: Database, settings: Settings
) -> None:
    """With another key file, as in a backup that was stolen without it, nothing fits."""
    _, secret = accounts.keys.create(bob, "notebook")
    (settings.home / KEY_FILE).unlink()
    with pytest.raises(Unauthenticated):
        Accounts(database, settings).keys.check(secret)


def test_scopes(accounts: Accounts, ann: Person, bob: Person) -> None:
    keys = accounts.keys
    key, secret = keys.create(ann, "reader", ["read"])
    person, found = keys.check(secret)
    found.require("read")
    for scope in ("chat", "runs", "admin"):
        with said(
            Forbidden,
            "The API key 'reader' may not do this: it has the scopes read, and this needs "
            f"{scope}.",
        ):
            found.require(scope)  # type: ignore[arg-type]
    assert person.role == "member"  # what it opens is no admin
    assert key.scopes == ("read",)
    _, secret = keys.create(ann, "boss", ["admin", "chat", "chat"])
    person, found = keys.check(secret)
    assert (person.role, found.scopes) == ("admin", ("chat", "admin"))
    found.require("read")
    with said(Forbidden, "Only an admin's API key can have the scope `admin`."):
        keys.create(bob, "boss", ["admin"])
    with said(UnknownName, "There is no scope 'chats'. Did you mean 'chat'?"):
        keys.create(bob, "x", ["chats"])
    with said(InvalidInput, "An API key has at least one scope of chat, runs, read, admin."):
        keys.create(bob, "x", [])


def test_an_admins_key_is_none_any_more_when_its_person_is_not(
    accounts: Accounts, ann: Person, bob: Person
) -> None:
    boss = accounts.people.change(ann, bob.id, role="admin")
    _, secret = accounts.keys.create(boss, "boss", ["admin"])
    accounts.people.change(ann, bob.id, role="member")
    assert accounts.keys.check(secret)[0].role == "member"


def test_what_ends_a_key(
    accounts: Accounts, ann: Person, bob: Person, later: Callable[..., None]
) -> None:
    keys = accounts.keys
    brief, secret = keys.create(bob, "brief", expires=now() + timedelta(days=90))
    later(tables.api_keys, days=89, hours=23)
    assert keys.check(secret)[1].id == brief.id
    later(tables.api_keys, hours=2)
    with said(Unauthenticated, BAD):
        keys.check(secret)

    gone, secret = keys.create(bob, "gone")
    keys.revoke(bob, gone.id)
    with said(Unauthenticated, BAD):
        keys.check(secret)
    with pytest.raises(NotFound):
        keys.revoke(bob, gone.id)

    _, secret = keys.create(bob, "kept")
    for change in ({"disabled": True}, {"role": "pending"}):
        accounts.people.change(ann, bob.id, **change)  # type: ignore[arg-type]
        with said(Unauthenticated, BAD):
            keys.check(secret)
        accounts.people.change(ann, bob.id, disabled=False, role="member")
        assert keys.check(secret)
    with said(InvalidInput, "An API key expires after it is made."):
        keys.create(bob, "late", expires=now() - timedelta(seconds=1))
    assert [key.name for key in keys.all(bob)] == ["kept", "brief"]
    assert keys.revoke_all(bob, bob.id) == 2
    assert keys.all(bob) == []


def test_others_keys_are_not_there(accounts: Accounts, ann: Person, bob: Person) -> None:
    keys = accounts.keys
    key, secret = keys.create(ann, "hers")
    own, _ = keys.create(bob, "his")
    calls: list[Callable[[], object]] = [
        lambda: keys.revoke(bob, key.id),
        lambda: keys.revoke(bob, "\0"),
        lambda: keys.revoke(bob, "\ud800"),
        lambda: keys.all(bob, ann.id),
        lambda: keys.all(bob, ""),
        lambda: keys.create(ann, "for her", actor=bob),
        lambda: keys.create(LOCAL_PERSON.__class__(
            "gone", "g@b.c", "g", "member", None, False, now()), "x"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert keys.check(secret)
    assert [one.name for one in keys.all(ann, "")] == ["his", "hers"]
    made, _ = keys.create(bob, "made for him", actor=ann)
    assert made.person == bob.id
    keys.revoke(ann, own.id)


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\nb\0", "\ud800"])
def test_names(accounts: Accounts, bob: Person, name: str) -> None:
    with pytest.raises(InvalidInput):
        accounts.keys.create(bob, name)


def test_there_is_an_end_to_them(accounts: Accounts, bob: Person) -> None:
    for at in range(MOST):
        accounts.keys.create(bob, f"key {at}")
    with said(InvalidInput, "There are 100 API keys already. Revoke one first."):
        accounts.keys.create(bob, "one more")


def test_what_is_noted(accounts: Accounts, ann: Person, bob: Person) -> None:
    key, secret = accounts.keys.create(bob, "ci", ["chat"])
    for _ in range(3):
        accounts.keys.check(secret, "10.0.0.1")
    accounts.keys.revoke(bob, key.id)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            accounts.keys.check(secret, "10.0.0.2")
    noted = [
        (entry.person, entry.action, entry.address, entry.detail)
        for entry in reversed(accounts.audit.entries(bob))
        if entry.subject == key.id
    ]
    assert noted == [
        (bob.id, "key made", "", {"owner": bob.id, "scopes": ["chat"], "expires": None}),
        (bob.id, "key used", "10.0.0.1", {}),
        (bob.id, "key revoked", "", {}),
        (bob.id, "key refused", "10.0.0.2", {"why": "revoked"}),
    ]


def test_a_key_outlives_a_password(accounts: Accounts, ann: Person, bob: Person) -> None:
    _, secret = accounts.keys.create(bob, "ci")
    accounts.people.set_password(bob, bob.id, "brave new owl", current=PASSWORD)
    assert accounts.keys.check(secret)[0] == bob


def test_keys_go_on_without_the_key_file_when_the_setting_holds_it(
    database: Database, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_SECRET_KEY", "a key of thirty-two letters, or more")
    settings = load()
    (settings.home / KEY_FILE).unlink(missing_ok=True)
    _, secret = Accounts(database, settings).keys.create(ann, "ci")
    assert Accounts(database, load()).keys.check(secret)
    assert not (settings.home / KEY_FILE).exists()
