import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.accounts.refusing import said
from wordmill import database as tables
from wordmill.accounts import EVERYBODY, Accounts, Amount, Ledger, Person, Quota
from wordmill.accounts.ledger import _bounds
from wordmill.database import Database, new_id
from wordmill.errors import Forbidden, InvalidInput, NotFound, QuotaReached, UnknownName


def note(database: Database, person: str, at: datetime, **used: float) -> None:
    """A line of the ledger, of that time."""
    values = {"requests": 1, "input_tokens": 0, "output_tokens": 0, "money": 0.0, **used}
    with database.begin() as connection:
        connection.execute(
            tables.ledger.insert().values(
                id=new_id(), at=at, person=person, door="web", model="m", subject=None, **values
            )
        )


def amount(ledger: Ledger, person: Person, period: str = "month") -> Amount:
    return ledger.used(person.id)[period].amount  # type: ignore[index]


def test_without_a_quota_everything_goes(
    accounts: Accounts, bob: Person, statements: list[str]
) -> None:
    statements.clear()
    for _ in range(10):
        accounts.ledger.check(bob.id, Amount(10**6, 10**12, 1e9))
    assert len(statements) == 10  # one small question each


def test_every_door_is_one_ledger(accounts: Accounts, ann: Person, bob: Person) -> None:
    ledger = accounts.ledger
    ledger.charge(bob.id, "web", "gpt", input_tokens=10, output_tokens=5, money=0.25)
    ledger.charge(bob.id, "api", "gpt", input_tokens=1, output_tokens=1, money=0.5)
    ledger.charge(bob.id, "run", "gpt", requests=40, input_tokens=100, output_tokens=200)
    ledger.charge(ann.id, "web", "gpt")
    assert amount(ledger, bob) == amount(ledger, bob, "day") == Amount(42, 317, 0.75)
    assert ledger.by_person(ann) == {bob.id: Amount(42, 317, 0.75), ann.id: Amount(1, 0, 0.0)}
    with pytest.raises(Forbidden):
        ledger.by_person(bob)
    assert ledger.used("nobody")["day"].amount == Amount()


@pytest.mark.parametrize(
    ("bound", "charge", "sentence"),
    [
        ({"requests": 3}, {"requests": 3}, "The quota of 3 requests a day is used up."),
        ({"tokens": 100}, {"input_tokens": 60, "output_tokens": 40},
         "The quota of 100 tokens a day is used up."),
        ({"money": 0.5}, {"money": 0.5}, "The quota of 0.5 money a day is used up."),
        ({"requests": 0}, {"requests": 0}, "The quota of 0 requests a day is used up."),
    ],
)  # fmt: skip
def test_a_quota_that_is_used_up(
    accounts: Accounts, ann: Person, bob: Person, bound: dict[str, float],
    charge: dict[str, int], sentence: str,
) -> None:  # fmt: skip
    ledger = accounts.ledger
    ledger.set_quota(ann, bob.id, "day", **bound)  # type: ignore[arg-type]
    if bound != {"requests": 0}:
        ledger.check(bob.id)
    ledger.charge(bob.id, "api", "m", **{"requests": 0, **charge})  # type: ignore[arg-type]
    with said(QuotaReached, sentence) as caught:
        ledger.check(bob.id)
    assert str(caught.value).endswith("; an admin can raise it.")
    assert isinstance(caught.value, QuotaReached)
    assert 0 < caught.value.seconds <= 86400
    ledger.check(ann.id)


def test_what_does_not_fit_any_more(accounts: Accounts, ann: Person, bob: Person) -> None:
    ledger = accounts.ledger
    ledger.set_quota(ann, bob.id, "month", tokens=1000)
    ledger.charge(bob.id, "api", "m", input_tokens=700)
    ledger.check(bob.id, Amount(1, 300))
    with said(
        QuotaReached,
        "The quota of 1,000 tokens a month does not hold this: 300 are left and this needs 301.",
    ):
        ledger.check(bob.id, Amount(1, 301))


def test_own_before_everybodys(accounts: Accounts, ann: Person, bob: Person) -> None:
    ledger = accounts.ledger
    ledger.set_quota(ann, EVERYBODY, "day", requests=1)
    ledger.set_quota(ann, EVERYBODY, "month", requests=50)
    ledger.set_quota(ann, bob.id, "day", requests=2)
    assert ledger.quotas(bob, bob.id) == [
        Quota("day", 2, None, None, True), Quota("month", 50, None, None, False),
    ]  # fmt: skip
    for person, most in ((bob, 2), (ann, 1)):
        for _ in range(most):
            ledger.check(person.id)
            ledger.charge(person.id, "web", "m")
        with said(QuotaReached, f"The quota of {most} requests a day is used up."):
            ledger.check(person.id)
    ledger.set_quota(ann, ann.id, "day")  # three times None: free of everybody's
    ledger.check(ann.id)
    ledger.remove_quota(ann, ann.id, "day")
    with pytest.raises(QuotaReached):
        ledger.check(ann.id)
    ledger.set_quota(ann, bob.id, "day", requests=9)  # another one in its place
    ledger.check(bob.id)


def test_days_and_months_are_those_of_utc() -> None:
    night = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert _bounds("day", night) == (
        datetime(2026, 12, 31, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert _bounds("month", night) == (
        datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert _bounds("month", datetime(2028, 2, 29, tzinfo=UTC))[1] == datetime(
        2028, 3, 1, tzinfo=UTC
    )


def test_what_was_before_does_not_count(
    accounts: Accounts, ann: Person, bob: Person, database: Database
) -> None:
    ledger = accounts.ledger
    ledger.set_quota(ann, bob.id, "day", requests=1)
    used = ledger.used(bob.id)
    note(database, bob.id, used["day"].begins - timedelta(microseconds=1), requests=100)
    Ledger(database).check(bob.id)
    note(database, bob.id, used["day"].begins)
    with pytest.raises(QuotaReached):
        Ledger(database).check(bob.id)


def test_what_was_added_up_once_is_not_counted_twice(
    accounts: Accounts, bob: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes on; old lines are summed once, new ones each time, of other processes too."""
    from wordmill.accounts import ledger as module

    moment = datetime(2026, 5, 10, 12, tzinfo=UTC)
    monkeypatch.setattr(module, "now", lambda: moment)
    begun, expected = moment, 0
    for step in range(40):
        moment = begun + timedelta(seconds=37 * step)
        for back in (0, 20, 50):
            note(database, bob.id, moment - timedelta(seconds=back))
            expected += 1
        assert amount(accounts.ledger, bob).requests == expected
    moment = datetime(2026, 5, 11, 0, 0, 1, tzinfo=UTC)
    assert amount(accounts.ledger, bob, "day").requests == 0
    assert amount(accounts.ledger, bob).requests == expected
    moment = datetime(2026, 6, 1, 0, 0, 1, tzinfo=UTC)
    assert amount(accounts.ledger, bob).requests == 0
    assert len(accounts.ledger._tab(bob.id).summed) <= 2


def test_what_is_on_its_way_counts(accounts: Accounts, ann: Person, bob: Person) -> None:
    ledger = accounts.ledger
    ledger.set_quota(ann, bob.id, "day", tokens=100, requests=10)
    first = ledger.reserve(bob.id, Amount(1, 60))
    with pytest.raises(QuotaReached):
        ledger.reserve(bob.id, Amount(1, 41))
    with ledger.reserve(bob.id, Amount(1, 40)) as second, pytest.raises(QuotaReached):
        ledger.check(bob.id, Amount(1, 1))
    second.release()
    assert ledger.used(bob.id)["day"].amount == Amount()  # given back, nothing charged
    first.settle("api", "m", input_tokens=5, output_tokens=5, subject="c1")
    first.settle("api", "m", input_tokens=5, output_tokens=5)
    first.release()
    assert ledger.used(bob.id)["day"].amount == Amount(1, 10, 0.0)
    ledger.check(bob.id, Amount(1, 90))


def test_fifty_at_once_do_not_slip_under_a_ceiling(
    accounts: Accounts, ann: Person, bob: Person
) -> None:
    ledger = accounts.ledger
    ledger.set_quota(ann, EVERYBODY, "day", requests=7)
    gate, outcomes = threading.Barrier(50), []

    def ask() -> None:
        gate.wait()
        try:
            reservation = ledger.reserve(bob.id)
        except QuotaReached:
            outcomes.append(False)
            return
        outcomes.append(True)
        reservation.settle("api", "m", input_tokens=3)

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 43 + [True] * 7
    assert ledger.used(bob.id)["day"].amount == Amount(7, 21, 0.0)
    assert ledger._tab(bob.id).reserved == []


def test_a_reservation_without_a_quota_is_charged_all_the_same(
    accounts: Accounts, bob: Person
) -> None:
    accounts.ledger.reserve(bob.id).settle("web", "m", output_tokens=4, money=0.125)
    assert amount(accounts.ledger, bob) == Amount(1, 4, 0.125)


def test_a_charge_that_fails_gives_the_room_back(
    accounts: Accounts, ann: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = accounts.ledger
    ledger.set_quota(ann, bob.id, "day", requests=1)

    def broken(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(ledger, "charge", broken)
    with pytest.raises(OSError, match="the disk is full"):
        ledger.reserve(bob.id).settle("api", "m")
    ledger.check(bob.id)


def test_who_may_ask_and_set(accounts: Accounts, ann: Person, bob: Person) -> None:
    ledger = accounts.ledger
    calls: list[Callable[[], object]] = [
        lambda: ledger.set_quota(bob, bob.id, "day", requests=10**9),
        lambda: ledger.remove_quota(bob, EVERYBODY, "day"),
    ]
    for call in calls:
        with said(Forbidden, "Only an admin may set quotas."):
            call()
    calls = [
        lambda: ledger.quotas(bob, ann.id),
        lambda: ledger.quotas(bob, EVERYBODY),
        lambda: ledger.quotas(ann, "\0"),
        lambda: ledger.set_quota(ann, "nobody", "day", requests=1),
        lambda: ledger.set_quota(ann, "\ud800", "day", requests=1),
        lambda: ledger.remove_quota(ann, bob.id, "day"),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()
    with said(UnknownName, "There is no period 'week'. There are: day, month."):
        ledger.set_quota(ann, bob.id, "week", requests=1)  # type: ignore[arg-type]
    for bound in ({"requests": -1}, {"tokens": 2**60}, {"money": float("nan")}):
        with pytest.raises(InvalidInput):
            ledger.set_quota(ann, bob.id, "day", **bound)  # type: ignore[arg-type]
    assert ledger.quotas(bob, bob.id) == []
