"""Oneself, one's keys, and for admins everybody, over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field

from wordmill.accounts import Scope
from wordmill.channels.api.auth import Admins, Reads, Talks, house_of
from wordmill.channels.api.shared import Json, Limit, Sent, shown
from wordmill.errors import InvalidInput

router = APIRouter(prefix="/api")


@router.get("/me", tags=["Me"])
def me(caller: Reads) -> Json:
    """Who this key or session belongs to."""
    return shown(caller.person)


@router.get("/me/usage", tags=["Me"])
def usage(caller: Reads, request: Request) -> Json:
    """What is used of this day and month, and the quotas."""
    used = house_of(request).accounts.ledger.used(caller.person.id)
    return {
        period: {
            **one.amount._asdict(),
            "ends": one.ends.isoformat(),
            "quota": one.quota._asdict() if one.quota else None,
        }
        for period, one in used.items()
    }


class NewKey(Sent):
    """A key to be made."""

    name: str = Field(min_length=1, max_length=200, examples=["notebook"])
    scopes: list[Scope] | None = None
    days: float | None = Field(default=None, gt=0, le=36_500)


@router.get("/keys", tags=["Me"])
def keys(caller: Reads, request: Request) -> list[Json]:
    """One's API keys, without their secrets."""
    return [shown(key) for key in house_of(request).accounts.keys.all(caller.person)]


@router.post("/keys", status_code=201, tags=["Me"])
def make_key(new: NewKey, caller: Talks, request: Request) -> Json:
    """Make a key; its secret is shown this once."""
    until = datetime.now(UTC) + timedelta(days=new.days) if new.days else None
    held = caller.key.scopes if caller.key else None
    wanted = new.scopes or (list(held) if held else None)
    if held is not None and not set(wanted or ()) <= set(held):
        raise InvalidInput("A key cannot make one that may do more than itself.", "scopes")
    keys = house_of(request).accounts.keys
    made = (
        keys.create(caller.person, new.name, expires=until)
        if wanted is None
        else keys.create(caller.person, new.name, wanted, until)
    )
    return {**shown(made[0]), "secret": made[1]}


@router.delete("/keys/{key}", status_code=204, tags=["Me"])
def revoke_key(key: str, caller: Talks, request: Request) -> None:
    """Revoke a key."""
    house_of(request).accounts.keys.revoke(caller.person, key)


class NewPerson(Sent):
    """Somebody to be added."""

    email: str
    name: str = ""
    password: str | None = None
    role: Literal["admin", "member", "pending"] = "member"


class PersonChange(Sent):
    """What is to be different."""

    name: str | None = None
    role: Literal["admin", "member", "pending"] | None = None
    disabled: bool | None = None


class NewQuota(Sent):
    """The most in a period; null bounds nothing."""

    requests: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    money: float | None = Field(default=None, ge=0, allow_inf_nan=False)


@router.get("/people", tags=["People"])
def people(caller: Admins, request: Request) -> list[Json]:
    """Everybody."""
    return [shown(one) for one in house_of(request).accounts.people.all(caller.person)]


@router.post("/people", status_code=201, tags=["People"])
def addshown(new: NewPerson, caller: Admins, request: Request) -> Json:
    """Add somebody."""
    made = house_of(request).accounts.people.create(
        caller.person, new.email, new.name, new.password, new.role
    )
    return shown(made)


@router.patch("/people/{person}", tags=["People"])
def changeshown(person: str, new: PersonChange, caller: Admins, request: Request) -> Json:
    """Change somebody's name or role, or disable them."""
    values = new.model_dump(exclude_unset=True)
    return shown(house_of(request).accounts.people.change(caller.person, person, **values))


@router.delete("/people/{person}", status_code=204, tags=["People"])
def removeshown(person: str, caller: Admins, request: Request) -> None:
    """Remove an account and all that is theirs."""
    house_of(request).accounts.people.remove(caller.person, person)


@router.put("/people/{person}/quota/{period}", status_code=204, tags=["People"])
def set_quota(
    person: str, period: Literal["day", "month"], new: NewQuota, caller: Admins, request: Request
) -> None:
    """Somebody's quota; `everybody` holds for all without one of their own."""
    who = "" if person == "everybody" else person
    house_of(request).accounts.ledger.set_quota(caller.person, who, period, **new.model_dump())


@router.get("/audit", tags=["People"])
def audit(caller: Admins, request: Request, limit: Limit = 100) -> list[Json]:
    """What was done, the newest first."""
    found = house_of(request).accounts.audit.entries(caller.person, limit=limit)
    return [shown(one) for one in found]
