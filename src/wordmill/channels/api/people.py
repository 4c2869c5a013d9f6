"""Everybody, for admins, over HTTP: accounts, quotas, sign-ins, and what was done."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field

from wordmill.accounts.types import Period
from wordmill.channels.api.auth import Admins, house_of
from wordmill.channels.api.me import session_shown, spent
from wordmill.channels.api.shared import Json, Limit, Sent, shown

router = APIRouter(prefix="/api", tags=["People"])

EVERYBODY = "everybody"
Role = Literal["admin", "member", "pending"]


class NewPerson(Sent):
    """Somebody to be added."""

    email: str
    name: str = ""
    password: str | None = None
    role: Role = "member"


class PersonChange(Sent):
    """What is to be different."""

    name: str | None = None
    email: str | None = None
    role: Role | None = None
    disabled: bool | None = None


class NewQuota(Sent):
    """The most in a period; null bounds nothing."""

    requests: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    money: float | None = Field(default=None, ge=0, allow_inf_nan=False)


@router.get("/people")
def people(caller: Admins, request: Request) -> list[Json]:
    """Everybody."""
    return [shown(one) for one in house_of(request).accounts.people.all(caller.person)]


@router.post("/people", status_code=201)
def add(new: NewPerson, caller: Admins, request: Request) -> Json:
    """Add somebody."""
    made = house_of(request).accounts.people.create(
        caller.person, new.email, new.name, new.password, new.role
    )
    return shown(made)


@router.patch("/people/{person}")
def change(person: str, new: PersonChange, caller: Admins, request: Request) -> Json:
    """Change somebody's name, address or role, or disable them."""
    values = new.model_dump(exclude_unset=True)
    return shown(house_of(request).accounts.people.change(caller.person, person, **values))


@router.delete("/people/{person}", status_code=204)
def remove(person: str, caller: Admins, request: Request) -> None:
    """Remove an account and all that is theirs."""
    house_of(request).accounts.people.remove(caller.person, person)


@router.post("/people/{person}/reset", status_code=201)
def reset(person: str, caller: Admins, request: Request) -> Json:
    """A one-time code with which somebody chooses another password; shown this once."""
    return {"code": house_of(request).accounts.people.reset(caller.person, person)}


@router.get("/people/{person}/sessions")
def sessions(person: str, caller: Admins, request: Request) -> list[Json]:
    """Somebody's sign-ins that are open."""
    found = house_of(request).accounts.sessions.all(caller.person, person)
    return [session_shown(one) for one in found]


@router.get("/people/{person}/keys")
def keys(person: str, caller: Admins, request: Request) -> list[Json]:
    """Somebody's API keys, without their secrets."""
    return [shown(key) for key in house_of(request).accounts.keys.all(caller.person, person)]


@router.get("/people/{person}/usage")
def usage(person: str, caller: Admins, request: Request) -> Json:
    """What somebody used of this day and month, and their quotas."""
    accounts = house_of(request).accounts
    accounts.ledger.quotas(caller.person, person)  # says who may ask
    return spent(accounts.ledger, accounts.people.get(person).id)


@router.get("/usage")
def everybodys_usage(caller: Admins, request: Request, period: Period = "month") -> Json:
    """What each person used in this period, by id."""
    found = house_of(request).accounts.ledger.by_person(caller.person, period)
    return {person: amount._asdict() for person, amount in found.items()}


@router.put("/people/{person}/quota/{period}", status_code=204)
def set_quota(person: str, period: Period, new: NewQuota, caller: Admins, request: Request) -> None:
    """Somebody's quota; `everybody` holds for all without one of their own."""
    ledger = house_of(request).accounts.ledger
    ledger.set_quota(caller.person, _who(person), period, **new.model_dump())


@router.delete("/people/{person}/quota/{period}", status_code=204)
def remove_quota(person: str, period: Period, caller: Admins, request: Request) -> None:
    """Forget somebody's quota: everybody's holds again, or none."""
    house_of(request).accounts.ledger.remove_quota(caller.person, _who(person), period)


@router.get("/audit")
def audit(
    caller: Admins,
    request: Request,
    limit: Limit = 100,
    person: str | None = None,
    action: str | None = None,
    before: datetime | None = None,
) -> list[Json]:
    """What was done, the newest first; `before` a moment, for those that follow."""
    found = house_of(request).accounts.audit.entries(
        caller.person, person=person, action=action, before=before, limit=limit
    )
    return [shown(one) for one in found]


def _who(person: str) -> str:
    return "" if person == EVERYBODY else person
