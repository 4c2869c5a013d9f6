import threading
from collections.abc import Callable

import pytest
from sqlalchemy import update

from tests.accounts.conftest import PASSWORD
from tests.accounts.refusing import said, tries_until_slowed
from wordmill import database as tables
from wordmill.accounts import Accounts, Person, passwords
from wordmill.accounts.throttle import of_address
from wordmill.database import Database
from wordmill.errors import NotFound, TooMany, Unauthenticated
from wordmill.settings import load

WRONG = "The e-mail address or the password is wrong."


def test_in_and_out(accounts: Accounts, ann: Person, kept: Callable[[], str]) -> None:
    token = accounts.sessions.sign_in(" ANN@example.org", PASSWORD, "10.0.0.1", "Firefox\n\x1b[1m")
    assert len(token) == 43
    assert accounts.sessions.check(token) == ann
    (session,) = accounts.sessions.all(ann)
    assert (session.person, session.address, session.agent) == ("local", "10.0.0.1", "Firefox[1m")
    assert token not in kept()
    accounts.sessions.sign_out(token)
    accounts.sessions.sign_out(token)
    with said(Unauthenticated, "This session has ended. Sign in again."):
        accounts.sessions.check(token)
    assert accounts.sessions.all(ann) == []
    assert [entry.action for entry in accounts.audit.entries(ann)][:2] == [
        "signed out",
        "signed in",
    ]


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "x" * 10_000, "\0", "\ud800", "' OR 1=1 --"])
def test_what_is_no_session(accounts: Accounts, ann: Person, token: str) -> None:
    with pytest.raises(Unauthenticated):
        accounts.sessions.check(token)
    accounts.sessions.sign_out(token)


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ann@example.org", "wrong"), ("nobody@example.org", PASSWORD), ("", ""),
        ("ann@example.org", ""), ("\0", "\0"), ("\ud800@b.c", "\ud800"), ("x" * 5000, "y" * 5000),
        ("ann@example.org' --", PASSWORD), ("ann@example.org", PASSWORD.upper()),
    ],
)  # fmt: skip
def test_one_answer_for_all_that_is_wrong(
    accounts: Accounts, ann: Person, email: str, password: str
) -> None:
    with said(Unauthenticated, WRONG) as caught:
        accounts.sessions.sign_in(email, password, "10.0.0.1")
    assert str(caught.value) == WRONG


def test_only_who_knows_the_password_learns_more(
    accounts: Accounts, ann: Person, bob: Person
) -> None:
    accounts.people.change(ann, bob.id, disabled=True)
    with said(Unauthenticated, WRONG):
        accounts.sessions.sign_in("bob@example.org", "wrong")
    with said(Unauthenticated, "This account is disabled. Ask an admin."):
        accounts.sessions.sign_in("bob@example.org", PASSWORD)


def test_an_account_without_a_password(accounts: Accounts, ann: Person) -> None:
    accounts.people.create(ann, "sso@example.org")
    for password in ("", PASSWORD, "None"):
        with said(Unauthenticated, WRONG):
            accounts.sessions.sign_in("sso@example.org", password)


def test_a_session_ends_when_it_is_not_used(
    accounts: Accounts, ann: Person, later: Callable[..., None]
) -> None:
    token = accounts.sessions.sign_in("ann@example.org", PASSWORD)
    for _ in range(4):  # 44 hours, with a use every 11
        later(tables.sessions, hours=11)
        assert accounts.sessions.check(token) == ann
    later(tables.sessions, hours=12, minutes=1)
    with pytest.raises(Unauthenticated):
        accounts.sessions.check(token)


def test_a_session_ends_for_good_after_a_week(
    accounts: Accounts, ann: Person, later: Callable[..., None]
) -> None:
    token = accounts.sessions.sign_in("ann@example.org", PASSWORD)
    for _ in range(16):
        later(tables.sessions, hours=10)
        assert accounts.sessions.check(token) == ann
    later(tables.sessions, hours=10)  # 170 of 168
    with pytest.raises(Unauthenticated):
        accounts.sessions.check(token)


def test_the_times_are_settings(
    database: Database, ann: Person, later: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORDMILL_SESSION_IDLE", "5m")
    sessions = Accounts(database, load()).sessions
    token = sessions.sign_in("ann@example.org", PASSWORD)
    later(tables.sessions, minutes=6)
    with pytest.raises(Unauthenticated):
        sessions.check(token)


def test_looking_costs_one_question(accounts: Accounts, ann: Person, statements: list[str]) -> None:
    token = accounts.sessions.sign_in("ann@example.org", PASSWORD)
    statements.clear()
    for _ in range(10):
        accounts.sessions.check(token)
    assert len(statements) == 10
    assert all(statement.startswith("SELECT") for statement in statements)


def test_one_ends_another(accounts: Accounts, ann: Person, bob: Person) -> None:
    sessions = accounts.sessions
    here, there = (sessions.sign_in("bob@example.org", PASSWORD) for _ in range(2))
    digest = next(one.digest for one in sessions.all(bob) if sessions.check(here))
    with pytest.raises(NotFound):
        sessions.all(bob, ann.id)
    (mine,) = [sessions.sign_in("ann@example.org", PASSWORD)]
    (own,) = sessions.all(ann)
    for wrong in (own.digest, "0" * 64, "\0", ""):
        with pytest.raises(NotFound):
            sessions.revoke(bob, wrong)
    assert sessions.check(mine) == ann
    assert digest in [one.digest for one in sessions.all(ann, bob.id)]
    assert sessions.revoke_all(bob, keep=here) == 1
    assert sessions.check(here) == bob
    with pytest.raises(Unauthenticated):
        sessions.check(there)
    (left,) = sessions.all(bob)
    sessions.revoke(ann, left.digest)  # an admin may
    with pytest.raises(Unauthenticated):
        sessions.check(here)


def test_a_hash_is_made_anew_when_its_parameters_have_changed(
    accounts: Accounts, ann: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "TIME", 2)
    passwords._hasher.cache_clear()
    accounts.sessions.sign_in("ann@example.org", PASSWORD)
    with database.read() as connection:
        (stored,) = connection.execute(tables.people.select().with_only_columns(
            tables.people.c.password)).scalars()  # fmt: skip
    assert ",t=2," in stored
    assert accounts.sessions.sign_in("ann@example.org", PASSWORD)


# Too many tries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("email", ["ann@example.org", "nobody@example.org"])
def test_an_account_is_slowed_down_whether_or_not_it_is_there(
    accounts: Accounts, ann: Person, email: str, later: Callable[..., None]
) -> None:
    for at in range(6):
        with said(Unauthenticated, WRONG):
            accounts.sessions.sign_in(email, "wrong", f"10.0.{at}.1")  # another one each time
    for wait in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900):
        with said(TooMany, "Too many tries. The next one counts in ") as caught:
            accounts.sessions.sign_in(email, PASSWORD, "10.0.9.9")
        assert isinstance(caught.value, TooMany)
        assert wait - 0.9 < caught.value.seconds <= wait
        later(tables.throttles, seconds=wait)
        with said(Unauthenticated, WRONG):
            accounts.sessions.sign_in(email, "wrong", f"10.1.{wait % 250}.1")


def test_the_wait_has_a_bound_and_is_forgotten_after_a_day(
    accounts: Accounts, ann: Person, database: Database, later: Callable[..., None]
) -> None:
    with pytest.raises(Unauthenticated):
        accounts.sessions.sign_in("ann@example.org", "wrong")
    with database.begin() as connection:
        connection.execute(update(tables.throttles).values(failures=500))
    with pytest.raises(Unauthenticated):
        accounts.sessions.sign_in("ann@example.org", "wrong")
    with said(TooMany, "The next one counts in 15 min.") as caught:
        accounts.sessions.sign_in("ann@example.org", PASSWORD)
    assert isinstance(caught.value, TooMany)
    assert 890 < caught.value.seconds <= 900
    later(tables.throttles, hours=25)
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            accounts.sessions.sign_in("ann@example.org", "wrong")
    assert accounts.sessions.sign_in("ann@example.org", PASSWORD)


def test_a_good_try_forgets_the_failures(accounts: Accounts, ann: Person) -> None:
    for _ in range(4):
        for _ in range(4):
            with pytest.raises(Unauthenticated):
                accounts.sessions.sign_in("ann@example.org", "wrong", "10.0.0.1")
        accounts.sessions.sign_in("ann@example.org", PASSWORD, "10.0.0.1")


def test_an_address_is_slowed_down_over_all_accounts(accounts: Accounts, ann: Person) -> None:
    emails = iter(f"p{at}@example.org" for at in range(100))
    tried = tries_until_slowed(
        50, Unauthenticated, lambda: accounts.sessions.sign_in(next(emails), "x", "10.0.0.1")
    )
    assert tried == 21
    with pytest.raises(TooMany):  # and may not come in, even with the right password
        accounts.sessions.sign_in("ann@example.org", PASSWORD, "10.0.0.1")
    assert accounts.sessions.sign_in("ann@example.org", PASSWORD, "10.0.0.2")


def test_an_own_account_does_not_buy_more_tries(
    accounts: Accounts, ann: Person, bob: Person
) -> None:
    """Whoever can sign in somewhere cannot take back failures at others by doing so."""
    emails = iter(f"p{at}@example.org" for at in range(100))

    def one_of_each() -> None:
        accounts.sessions.sign_in("bob@example.org", PASSWORD, "10.0.0.1")
        accounts.sessions.sign_in(next(emails), "x", "10.0.0.1")

    assert tries_until_slowed(50, Unauthenticated, one_of_each) <= 21


def test_nobody_is_locked_out_by_others(accounts: Accounts, ann: Person) -> None:
    accounts.sessions.sign_in("ann@example.org", PASSWORD, "192.0.2.7")
    for at in range(6):
        with pytest.raises(Unauthenticated):
            accounts.sessions.sign_in("ann@example.org", "wrong", f"10.0.{at}.1")
    with pytest.raises(TooMany):
        accounts.sessions.sign_in("ann@example.org", PASSWORD, "10.0.99.1")
    assert accounts.sessions.sign_in("ann@example.org", PASSWORD, "192.0.2.7")
    tried = tries_until_slowed(
        20,
        Unauthenticated,
        lambda: accounts.sessions.sign_in("ann@example.org", "wrong", "192.0.2.7"),
    )
    assert tried == 6


def test_fifty_at_once_are_fifty(accounts: Accounts, ann: Person) -> None:
    gate, outcomes = threading.Barrier(50), []

    def guess(at: int) -> None:
        gate.wait()
        try:
            accounts.sessions.sign_in("ann@example.org", f"wrong {at}", f"10.0.{at}.1")
        except TooMany:
            outcomes.append("slowed")
        except Unauthenticated:
            outcomes.append("tried")

    threads = [threading.Thread(target=guess, args=(at,)) for at in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 50
    # Six, and what a second or two of waiting allows.
    assert 6 <= outcomes.count("tried") <= 10


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("a socket", "another", False),
    ],
)
def test_what_one_address_is(one: str, other: str, same: bool) -> None:
    assert (of_address(one) == of_address(other)) is same
    assert of_address("") is None


def test_what_is_noted(accounts: Accounts, ann: Person) -> None:
    """Of somebody without an account not even the address that was typed: it may be a password."""
    for email in ("ann@example.org", "hunter2hunter2"):
        with pytest.raises(Unauthenticated):
            accounts.sessions.sign_in(email, "wrong", "10.0.0.1")
    noted = [
        (entry.person, entry.subject, entry.address, entry.detail)
        for entry in accounts.audit.entries(ann, action="sign-in refused")
    ]
    assert noted == [
        ("", "", "10.0.0.1", {"why": "wrong"}),
        ("local", "local", "10.0.0.1", {"why": "wrong"}),
    ]
