"""What everybody uses, and how much they may: one ledger for every door.

A request is `reserve`d before it is sent and settled with what it really took. Until then it counts
with its estimate, in this process, so that fifty at once cannot all slip under a ceiling; what
another process has on its way does not count here. Days and months are those of UTC.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from threading import Lock
from types import TracebackType
from typing import Final

from sqlalchemy import ColumnElement, delete, func, insert, select

from wordmill import database as tables
from wordmill.accounts import audit
from wordmill.accounts.rows import find_person, is_name
from wordmill.accounts.types import PERIODS, Amount, Period, Person, Quota, Used, need_admin
from wordmill.database import LOCAL, Database, new_id, now
from wordmill.errors import InvalidInput, NotFound, QuotaReached, UnknownName

EVERYBODY: Final = ""
"""As a person: all who have no quota of their own for that period."""

ONE: Final = Amount(requests=1)

_MOST: Final = 2**53

_SETTLED: Final = timedelta(minutes=1)
"""Nothing is written any more with a time that long ago."""


class _Tab:
    """Of one person, in this process: what is reserved, and what was added up before.

    Everything here is under `lock`, and so is the moment in which a reservation becomes a line of
    the ledger: it is never counted twice, and never not.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.reserved: list[Amount] = []
        self.summed: dict[datetime, tuple[datetime, Amount]] = {}


class Ledger:
    """The ledger and the quotas. Safe from any thread; one object a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._tabs: dict[str, _Tab] = {}

    def check(self, person: str, estimate: Amount = ONE) -> None:
        """Raise QuotaReached when this does not fit into what the person may still use."""
        self.reserve(person, estimate).release()

    def reserve(self, person: str, estimate: Amount = ONE) -> "Reservation":
        """Room for what is about to be sent. Settle or release it; a `with` block releases it.

        Where no quota holds for the person, it costs one small SELECT. Raises QuotaReached.
        """
        quotas = self._quotas(person)
        if not quotas:
            return Reservation(self, person, None)
        tab = self._tab(person)
        with tab.lock:
            moment = now()
            for quota in quotas.values():
                begins, ends = _bounds(quota.period, moment)
                taken = _sum(self._used(tab, person, begins, moment), *tab.reserved)
                _refuse(quota, taken, estimate, (ends - moment).total_seconds())
            tab.reserved.append(estimate)
        return Reservation(self, person, estimate)

    def charge(
        self,
        person: str,
        door: str,
        model: str,
        *,
        requests: int = 1,
        input_tokens: int = 0,
        output_tokens: int = 0,
        money: float = 0.0,
        subject: str | None = None,
    ) -> None:
        """Write down what was used.

        door: web, shell, api, run, matrix, discord.  money: as prices are, without rounding.
        subject: the id of the conversation or run it was for.
        """
        with self._database.begin() as connection:
            connection.execute(
                insert(tables.ledger).values(
                    id=new_id(), at=now(), person=person, door=door, model=model, subject=subject,
                    requests=requests, input_tokens=input_tokens, output_tokens=output_tokens,
                    money=money,
                )
            )  # fmt: skip

    def used(self, person: str) -> dict[Period, Used]:
        """What a person used this day and this month, and what bounds it. Asks no questions."""
        quotas, moment, tab = self._quotas(person), now(), self._tab(person)
        found: dict[Period, Used] = {}
        for period in PERIODS:
            begins, ends = _bounds(period, moment)
            with tab.lock:
                used = self._used(tab, person, begins, moment)
            found[period] = Used(period, begins, ends, used, quotas.get(period))
        return found

    def by_person(self, actor: Person, period: Period = "month") -> dict[str, Amount]:
        """What each person used in this period, by id; those who used nothing are not in it.

        Raises Forbidden for anybody but an admin.
        """
        need_admin(actor, "see what others used")
        begins, _ = _bounds(_checked_period(period), now())
        columns = tables.ledger.c
        query = select(columns.person, *_SUMS).where(columns.at >= begins).group_by(columns.person)
        with self._database.read() as connection:
            return {
                row[0]: Amount(int(row[1]), int(row[2]), float(row[3]))
                for row in connection.execute(query)
            }

    def quotas(self, actor: Person, person: str) -> list[Quota]:
        """The quotas that hold for a person, or for EVERYBODY. One's own, or an admin's question.

        Raises NotFound.
        """
        if (person != actor.id and not actor.admin) or not is_name(person):
            raise NotFound("person", person)
        return list(self._quotas(person).values())

    def set_quota(
        self,
        actor: Person,
        person: str,
        period: Period,
        *,
        requests: int | None = None,
        tokens: int | None = None,
        money: float | None = None,
    ) -> None:
        """The most that a person, or EVERYBODY without a quota of their own, may use in a period.

        None bounds nothing: with three of them the person is free of everybody's quota.
        Raises Forbidden, NotFound, UnknownName for a period, InvalidInput.
        """
        need_admin(actor, "set quotas")
        period = _checked_period(period)
        for name, value in (("requests", requests), ("tokens", tokens), ("money", money)):
            if value is not None and not 0 <= value <= _MOST:
                raise InvalidInput(f"A quota of {name} is 0 or more, not {value:g}.", name)
        columns = tables.quotas.c
        with self._database.begin() as connection:
            if person not in (EVERYBODY, LOCAL):
                find_person(connection, person)
            connection.execute(
                delete(tables.quotas).where(columns.person == person, columns.period == period)
            )
            connection.execute(
                insert(tables.quotas).values(
                    person=person, period=period, requests=requests, tokens=tokens, money=money
                )
            )
            audit.write(
                connection, actor.id, "quota set", person,
                period=period, requests=requests, tokens=tokens, money=money,
            )  # fmt: skip

    def remove_quota(self, actor: Person, person: str, period: Period) -> None:
        """Forget a quota: everybody's holds again, or none. Raises Forbidden, NotFound."""
        need_admin(actor, "set quotas")
        columns = tables.quotas.c
        query = delete(tables.quotas).where(columns.person == person, columns.period == period)
        with self._database.begin() as connection:
            if not is_name(person + period) or not connection.execute(query).rowcount:
                raise NotFound("quota", f"{person or 'everybody'} per {period}")
            audit.write(connection, actor.id, "quota removed", person, period=period)

    def _quotas(self, person: str) -> dict[Period, Quota]:
        """Those that bound something: the person's own, and everybody's where there is none."""
        columns = tables.quotas.c
        query = select(tables.quotas).where(columns.person.in_([person, EVERYBODY]))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(columns.person)).all()
        held = {
            row.period: Quota(row.period, row.requests, row.tokens, row.money, row.person != "")
            for row in rows  # everybody's come first, and are replaced
        }
        return {
            period: held[period]
            for period in PERIODS
            if period in held and any(bound is not None for bound in held[period][1:4])
        }

    def _tab(self, person: str) -> _Tab:
        with self._lock:
            return self._tabs.setdefault(person, _Tab())

    def _used(self, tab: _Tab, person: str, begins: datetime, moment: datetime) -> Amount:
        """What was used since then. What lies further back than _SETTLED is added up only once."""
        columns = tables.ledger.c
        upto, sure = tab.summed.get(begins, (begins, Amount()))
        until = moment - _SETTLED if moment - upto > 2 * _SETTLED else upto

        def used(*when: ColumnElement[bool]) -> Amount:
            row = connection.execute(select(*_SUMS).where(columns.person == person, *when)).one()
            return Amount(int(row[0]), int(row[1]), float(row[2]))

        with self._database.read() as connection:
            late = used(columns.at >= until)
            if until > upto:
                sure = _sum(sure, used(columns.at >= upto, columns.at < until))
        if until > upto:
            current = {_bounds(period, moment)[0] for period in PERIODS}
            tab.summed = {at: kept for at, kept in tab.summed.items() if at in current}
            tab.summed[begins] = (until, sure)
        return _sum(sure, late)


class Reservation:
    """Room in a quota. `settle` writes what was used; `release` gives the room back. Either once;
    what comes after is without effect.
    """

    def __init__(self, ledger: Ledger, person: str, amount: Amount | None) -> None:
        self._ledger, self._person, self._amount = ledger, person, amount
        self._tab = ledger._tab(person)
        self._settled = False

    def settle(
        self,
        door: str,
        model: str,
        *,
        requests: int = 1,
        input_tokens: int = 0,
        output_tokens: int = 0,
        money: float = 0.0,
        subject: str | None = None,
    ) -> None:
        """Charge what was really used (as `Ledger.charge`) and give the room back."""
        if self._settled:
            return
        self._settled = True
        with self._tab.lock if self._amount is not None else nullcontext():
            try:
                self._ledger.charge(
                    self._person, door, model, requests=requests, input_tokens=input_tokens,
                    output_tokens=output_tokens, money=money, subject=subject,
                )  # fmt: skip
            finally:
                self._give_back()

    def release(self) -> None:
        """Give the room back without a charge. Harmless when repeated."""
        self._settled = True
        with self._tab.lock:
            self._give_back()

    def _give_back(self) -> None:
        amount, self._amount = self._amount, None
        if amount is not None:
            self._tab.reserved.remove(amount)

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


_SUMS: Final = (
    func.coalesce(func.sum(tables.ledger.c.requests), 0),
    func.coalesce(func.sum(tables.ledger.c.input_tokens + tables.ledger.c.output_tokens), 0),
    func.coalesce(func.sum(tables.ledger.c.money), 0.0),
)


def _sum(*amounts: Amount) -> Amount:
    return Amount(
        sum(one.requests for one in amounts),
        sum(one.tokens for one in amounts),
        sum(one.money for one in amounts),
    )


def _bounds(period: Period, moment: datetime) -> tuple[datetime, datetime]:
    """When the period of this moment begins, and when the next one does."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day, day + timedelta(days=1)
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def _checked_period(period: str) -> Period:
    for known in PERIODS:
        if period == known:
            return known
    raise UnknownName("period", period, PERIODS)


def _refuse(quota: Quota, taken: Amount, estimate: Amount, seconds: float) -> None:
    """Raise QuotaReached where nothing is left, or less than the estimate."""
    bounds: Mapping[str, tuple[float | None, float, float]] = {
        "requests": (quota.requests, taken.requests, estimate.requests),
        "tokens": (quota.tokens, taken.tokens, estimate.tokens),
        "money": (quota.money, taken.money, estimate.money),
    }
    for name, (most, used, more) in bounds.items():
        if most is None or (used < most and used + more <= most):
            continue
        hours = seconds / 3600
        when = f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
        when = when if hours >= 1 else f"{max(1, round(seconds / 60))} min"
        left = f"{_shown(most - used)} are left and this needs {_shown(more)}"
        raise QuotaReached(
            f"The quota of {_shown(most)} {name} a {quota.period} "
            + ("is used up" if used >= most else f"does not hold this: {left}")
            + f". It opens again in {when}; an admin can raise it.",
            seconds,
        )


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:,.4g}"
