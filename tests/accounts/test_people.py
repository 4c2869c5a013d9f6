import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.accounts.conftest import PASSWORD
from tests.accounts.refusing import said, tries_until_slowed
from wordmill import database as tables
from wordmill.accounts import LOCAL_PERSON, Accounts, Person
from wordmill.accounts import people as module
from wordmill.database import Database, open_database
from wordmill.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Unauthenticated,
    UnknownName,
    WordmillError,
)
from wordmill.settings import Settings, load


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What each gave or raised, begun together."""
    gate = threading.Barrier(len(calls))
    found: list[object] = [None] * len(calls)

    def run(at: int, call: Callable[[], object]) -> None:
        gate.wait()
        try:
            found[at] = call()
        except WordmillError as error:
            found[at] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_the_first_admin_is_whoever_used_the_command_line_before(accounts: Accounts) -> None:
    assert accounts.people.none()
    assert accounts.people.local() == LOCAL_PERSON
    code = accounts.first_admin_code()
    assert code is not None
    ann = accounts.people.first_admin(
        code.lower().replace("-", " "),
        email=" Ann@Example.ORG ",
        name=" Ann  Example",
        password=PASSWORD,
    )
    assert (ann.id, ann.email, ann.name, ann.role) == (
        "local", "ann@example.org", "Ann Example", "admin",
    )  # fmt: skip
    assert not accounts.people.none()
    assert accounts.people.local() == ann == accounts.people.get("local")
    assert accounts.first_admin_code() is None


def test_a_code_is_good_once_and_only_the_newest(accounts: Accounts) -> None:
    old, new = accounts.first_admin_code(), accounts.first_admin_code()
    for code in (str(old), "", "AAAAA-AAAAA-AAAAA-AAAAA", "\0", "\ud800"):
        with said(Unauthenticated, "This code is not good (any more)."):
            accounts.people.first_admin(code, email="a@b.c", name="A", password=PASSWORD)
    with pytest.raises(InvalidInput):  # and a code is not used up by a bad password
        accounts.people.first_admin(str(new), email="a@b.c", name="A", password="short")
    accounts.people.first_admin(str(new), email="a@b.c", name="A", password=PASSWORD)
    with said(Conflict, "There is an admin already. Ask for an account."):
        accounts.people.first_admin(str(new), email="b@b.c", name="B", password=PASSWORD)


def test_a_code_is_good_for_a_day(accounts: Accounts, later: Callable[..., None]) -> None:
    code = str(accounts.first_admin_code())
    later(tables.codes, hours=24)
    with pytest.raises(Unauthenticated):
        accounts.people.first_admin(code, email="a@b.c", name="A", password=PASSWORD)


def test_guessing_the_code_is_slowed_down(accounts: Accounts) -> None:
    accounts.first_admin_code()
    tried = tries_until_slowed(
        20,
        Unauthenticated,
        lambda: accounts.people.first_admin(
            "WRONG", email="a@b.c", name="A", password=PASSWORD, address="10.0.0.1"
        ),
    )
    assert tried == 11


def test_only_one_can_be_the_first(accounts: Accounts) -> None:
    code = str(accounts.first_admin_code())
    found = at_once(
        *(
            lambda at=at: accounts.people.first_admin(  # type: ignore[misc]
                code, email=f"p{at}@b.c", name="P", password=PASSWORD
            )
            for at in range(16)
        )
    )
    assert sum(isinstance(one, Person) for one in found) == 1
    assert len(accounts.people.all(LOCAL_PERSON)) == 1


def test_the_first_admin_from_the_environment(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_ADMIN_EMAIL", "Root@Example.org")
    with said(InvalidInput, "admin_email is set and admin_password is not"):
        Accounts(database, load()).first_admin_code()
    monkeypatch.setenv("WORDMILL_ADMIN_PASSWORD", PASSWORD)
    accounts = Accounts(database, load())
    assert accounts.first_admin_code() is None
    assert accounts.people.get("local").email == "root@example.org"
    assert accounts.sessions.sign_in("root@example.org", PASSWORD)
    # Later starts leave everything as it is by then.
    accounts.people.change(LOCAL_PERSON, "local", email="boss@example.org")
    assert accounts.first_admin_code() is None
    assert [one.email for one in accounts.people.all(LOCAL_PERSON)] == ["boss@example.org"]


def test_the_first_account_is_an_admins(accounts: Accounts) -> None:
    with said(InvalidInput, "The first account is an admin's: give it that role."):
        accounts.people.create(LOCAL_PERSON, "a@b.c")
    assert accounts.people.none()


@pytest.mark.parametrize(
    "email",
    ["", "ann", "ann@", "@b.c", "a b@c.d", "a@b@c.d", "a\0@b.c", "a@b.c\nx", "<a@b.c>",
     "a" * 65 + "@b.c", "a@" + "b" * 300, "\ud800@b.c", "a,b@c.d"],
)  # fmt: skip
def test_what_is_no_address(accounts: Accounts, ann: Person, email: str) -> None:
    with said(InvalidInput, "is no e-mail address, as ann@example.org.") as caught:
        accounts.people.create(ann, email)
    assert caught.value.field == "email"
    with pytest.raises(NotFound):
        accounts.people.by_email(email)


def test_names_and_languages(accounts: Accounts, ann: Person) -> None:
    for name in ("", "  ", "x" * 201, "a\x1b[31m", "\ud800"):
        with said(InvalidInput, "A name has 1 to 200 characters"):
            accounts.people.change(ann, ann.id, name=name)
    for language in ("English", "de_DE", "x", "../de"):
        with said(InvalidInput, "is no language, as `en` or `de`."):
            accounts.people.change(ann, ann.id, language=language)
    assert accounts.people.change(ann, ann.id, name="Ånn", language="de-CH").language == "de-CH"
    assert accounts.people.change(ann, ann.id, language="").language is None


def test_an_address_has_one_account(accounts: Accounts, ann: Person, bob: Person) -> None:
    with said(Conflict, "There is an account for ann@example.org already."):
        accounts.people.create(ann, "ANN@example.org")
    with said(Conflict, "There is an account for ann@example.org already."):
        accounts.people.change(ann, bob.id, email="ann@example.org")
    found = at_once(*(lambda: accounts.people.create(ann, "new@b.c") for _ in range(8)))
    assert sum(isinstance(one, Person) for one in found) == 1


def test_what_a_member_may_not(accounts: Accounts, ann: Person, bob: Person) -> None:
    people = accounts.people
    refused: list[Callable[[], Any]] = [
        lambda: people.all(bob),
        lambda: people.create(bob, "c@b.c"),
        lambda: people.change(bob, bob.id, role="admin"),
        lambda: people.change(bob, bob.id, email="c@b.c"),
        lambda: people.change(bob, bob.id, disabled=False),
        lambda: people.change(bob, ann.id, role="member"),
        lambda: people.reset(bob, bob.id),
    ]
    for call in refused:
        with said(Forbidden, "Only an admin may "):
            call()
    hidden: list[Callable[[], Any]] = [
        lambda: people.change(bob, ann.id, name="X"),
        lambda: people.set_password(bob, ann.id, "another good one", current=PASSWORD),
        lambda: people.remove(bob, ann.id),
        lambda: people.change(ann, "nobody", name="X"),
        lambda: people.change(ann, "\0", name="X"),
        lambda: people.remove(ann, "\ud800"),
    ]
    for call in hidden:
        with pytest.raises(NotFound):
            call()
    with pytest.raises(UnknownName):
        people.change(ann, bob.id, role="owner")  # type: ignore[arg-type]
    assert [one.role for one in people.all(ann)] == ["admin", "member"]


def test_the_last_admin_stays(accounts: Accounts, ann: Person, bob: Person) -> None:
    people = accounts.people
    calls: list[Callable[[], Any]] = [
        lambda: people.remove(ann, ann.id),
        lambda: people.change(ann, ann.id, role="member"),
        lambda: people.change(ann, ann.id, role="pending"),
        lambda: people.change(ann, ann.id, disabled=True),
    ]
    for call in calls:
        with said(Conflict, "ann@example.org is the last admin"):
            call()
    people.change(ann, bob.id, role="admin")
    people.change(ann, bob.id, disabled=True)  # an admin who is kept out does not count
    for call in calls:
        with pytest.raises(Conflict):
            call()
    people.change(ann, bob.id, disabled=False)
    people.change(people.get(bob.id), ann.id, role="member")
    assert [one.role for one in people.all(people.get(bob.id))] == ["member", "admin"]


def test_the_last_admin_stays_however_many_try(
    accounts: Accounts, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, look = accounts.people, module._keep_an_admin

    def look_and_wait(*arguments: Any) -> None:
        """Time enough for the others to look as well, between the look and the deed."""
        look(*arguments)
        time.sleep(0.1)

    monkeypatch.setattr(module, "_keep_an_admin", look_and_wait)
    others = [people.create(ann, f"p{at}@b.c", role="admin") for at in range(3)]
    everybody = [ann, *others]
    ways: list[Callable[[Person], Any]] = [
        lambda one: people.change(one, one.id, role="member"),
        lambda one: people.change(one, one.id, disabled=True),
    ]
    for way in ways:
        found = at_once(*(lambda one=one, way=way: way(one) for one in everybody))  # type: ignore[misc]
        assert sum(isinstance(one, Conflict) for one in found) == 1, found
        left = [one for one in people.all(LOCAL_PERSON) if one.admin]
        assert len(left) == 1
        for one in everybody:
            people.change(LOCAL_PERSON, one.id, role="admin", disabled=False)
    found = at_once(*(lambda one=one: people.remove(one, one.id) for one in everybody))  # type: ignore[misc]
    assert sum(isinstance(one, Conflict) for one in found) == 1, found
    assert len(people.all(LOCAL_PERSON)) == 1


def test_whoever_is_kept_out_is_out_at_once(accounts: Accounts, ann: Person, bob: Person) -> None:
    sessions = accounts.sessions
    for change in ({"disabled": True}, {"role": "pending"}):
        token = sessions.sign_in("bob@example.org", PASSWORD)
        accounts.people.change(ann, bob.id, **change)  # type: ignore[arg-type]
        with pytest.raises(Unauthenticated):
            sessions.check(token)
        accounts.people.change(ann, bob.id, disabled=False, role="member")
        with pytest.raises(Unauthenticated):  # and the session does not come back
            sessions.check(token)


def test_a_role_counts_from_the_next_click(accounts: Accounts, ann: Person, bob: Person) -> None:
    token = accounts.sessions.sign_in("bob@example.org", PASSWORD)
    accounts.people.change(ann, bob.id, role="admin")
    assert accounts.sessions.check(token).admin
    accounts.people.change(ann, bob.id, role="member")
    assert not accounts.sessions.check(token).admin


@pytest.mark.parametrize("how", ["closed", "pending", "open"])
def test_signing_up(
    database: Database, ann: Person, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_SIGN_UP", how)
    accounts = Accounts(database, load())

    def sign_up(email: str) -> Person:
        return accounts.people.sign_up(email=email, name="Cy", password=PASSWORD)

    if how == "closed":
        with said(Forbidden, "Nobody can sign up here. Ask an admin"):
            sign_up("cy@b.c")
        return
    cy = sign_up("cy@b.c")
    assert cy.role == {"pending": "pending", "open": "member"}[how]
    with pytest.raises(InvalidInput):
        accounts.people.sign_up(email="d@b.c", name="D", password="short")
    if how == "pending":
        with said(Unauthenticated, "An admin has to let you in first."):
            accounts.sessions.sign_in("cy@b.c", PASSWORD)
        again = sign_up("ann@example.org")  # nobody learns that ann has an account
        assert (again.role, again.email) == ("pending", "ann@example.org")
        assert accounts.people.by_email("ann@example.org") == ann
        accounts.people.change(ann, cy.id, role="member")
    else:
        with pytest.raises(Conflict):
            sign_up("ann@example.org")
    assert accounts.sessions.check(accounts.sessions.sign_in("cy@b.c", PASSWORD)).id == cy.id


def test_nobody_signs_up_before_the_first_admin(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_SIGN_UP", "open")
    accounts = Accounts(database, load())
    with pytest.raises(Forbidden):
        accounts.people.sign_up(email="cy@b.c", name="Cy", password=PASSWORD)
    assert accounts.people.none()


def test_another_password(accounts: Accounts, ann: Person, bob: Person) -> None:
    people, sessions = accounts.people, accounts.sessions
    mine = sessions.sign_in("bob@example.org", PASSWORD)
    other = sessions.sign_in("bob@example.org", PASSWORD)
    for current in (None, "", "not this one"):
        with said(Unauthenticated, "The current password is another one."):
            people.set_password(bob, bob.id, "brave new owl", current=current)
    people.set_password(bob, bob.id, "brave new owl", current=PASSWORD, keep=mine)
    assert sessions.check(mine) == bob
    with pytest.raises(Unauthenticated):
        sessions.check(other)
    with pytest.raises(Unauthenticated):
        sessions.sign_in("bob@example.org", PASSWORD)
    people.set_password(ann, bob.id, "an admin's owl")
    with pytest.raises(Unauthenticated):
        sessions.check(mine)
    assert sessions.sign_in("bob@example.org", "an admin's owl")
    people.set_password(None, ann.id, "whoever holds the machine")
    assert sessions.sign_in("ann@example.org", "whoever holds the machine")


def test_guessing_the_current_password_is_slowed_down(accounts: Accounts, bob: Person) -> None:
    tried = tries_until_slowed(
        20,
        Unauthenticated,
        lambda: accounts.people.set_password(bob, bob.id, "brave new owl", current="wrong"),
    )
    assert tried == 6


def test_a_code_to_choose_a_password(
    accounts: Accounts, ann: Person, bob: Person, kept: Callable[[], str]
) -> None:
    people = accounts.people
    old, code = people.reset(ann, bob.id), people.reset(ann, bob.id)
    assert code not in kept()
    assert code.replace("-", "") not in kept()
    token = accounts.sessions.sign_in("bob@example.org", PASSWORD)
    for bad in (old, "", "x" * 10_000):
        with said(Unauthenticated, "Ask an admin for another."):
            people.redeem(bad, "brave new owl")
    with pytest.raises(InvalidInput):
        people.redeem(code, "short")
    with pytest.raises(InvalidInput):
        people.redeem(code, "bob@example.org")
    assert people.redeem(code, "brave new owl") == bob
    with pytest.raises(Unauthenticated):
        people.redeem(code, "brave new owl")
    with pytest.raises(Unauthenticated):
        accounts.sessions.check(token)
    assert accounts.sessions.sign_in("bob@example.org", "brave new owl")


def test_a_removed_account_takes_its_things_along(
    accounts: Accounts, ann: Person, bob: Person, database: Database
) -> None:
    accounts.keys.create(bob, "ci")
    accounts.ledger.set_quota(ann, bob.id, "day", requests=1)
    accounts.ledger.charge(bob.id, "web", "m")
    accounts.people.reset(ann, bob.id)
    token = accounts.sessions.sign_in("bob@example.org", PASSWORD)
    told: list[tuple[Person, bool]] = []
    accounts.people.when_removed(
        lambda person: told.append((person, accounts.people.get(person.id).disabled))
    )
    accounts.people.remove(bob, bob.id)
    assert told == [(bob, True)]  # nobody can act as bob any more when the rest is removed
    with pytest.raises(Unauthenticated):
        accounts.sessions.check(token)
    with database.read() as connection:
        for table, column in (
            (tables.people, "id"), (tables.sessions, "person"), (tables.api_keys, "person"),
            (tables.quotas, "person"), (tables.codes, "person"),
        ):  # fmt: skip
            query = table.select().where(table.c[column] == bob.id)
            assert connection.execute(query).all() == []
    assert accounts.ledger.by_person(ann)[bob.id].requests == 1


def test_a_removal_that_was_interrupted_can_be_repeated(
    accounts: Accounts, ann: Person, bob: Person
) -> None:
    broken = [True]

    def clear(_: Person) -> None:
        if broken:
            raise OSError("the disk is full")

    accounts.people.when_removed(clear)
    with pytest.raises(OSError, match="the disk is full"):
        accounts.people.remove(ann, bob.id)
    assert accounts.people.get(bob.id).disabled
    broken.clear()
    accounts.people.remove(ann, bob.id)
    assert accounts.people.all(ann) == [ann]


def test_the_command_line_may_do_everything_whatever_became_of_its_account(
    accounts: Accounts, ann: Person, bob: Person
) -> None:
    accounts.people.change(ann, bob.id, role="admin")
    accounts.people.change(bob_now(accounts, bob), ann.id, role="member", disabled=True)
    assert accounts.people.local().admin
    accounts.people.remove(accounts.people.local(), ann.id)
    assert accounts.people.local() == LOCAL_PERSON


def bob_now(accounts: Accounts, bob: Person) -> Person:
    return accounts.people.get(bob.id)


def test_what_is_noted(accounts: Accounts, ann: Person, bob: Person) -> None:
    accounts.people.change(ann, bob.id, role="admin", name="Robert", address="10.0.0.9")
    accounts.people.remove(ann, bob.id)
    noted = [
        (entry.person, entry.action, entry.subject, entry.address, entry.detail)
        for entry in reversed(accounts.audit.entries(ann))
    ]
    assert noted == [
        ("local", "person added", "local", "", {"role": "admin"}),
        ("local", "person added", bob.id, "", {"role": "member"}),
        ("local", "role changed", bob.id, "10.0.0.9", {"was": "member", "now": "admin"}),
        ("local", "person removed", bob.id, "", {"role": "admin"}),
    ]


def test_two_processes(settings: Settings, accounts: Accounts, ann: Person) -> None:
    """What one changes holds for the other at once: nothing is remembered."""
    token = accounts.sessions.sign_in("ann@example.org", PASSWORD)
    with open_database(settings) as other:
        elsewhere = Accounts(other, settings)
        assert elsewhere.sessions.check(token) == ann
        elsewhere.sessions.sign_out(token)
    with pytest.raises(Unauthenticated):
        accounts.sessions.check(token)
