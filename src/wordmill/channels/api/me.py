"""Oneself over HTTP: who one is, what one used, one's keys and sign-ins."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request
from pydantic import Field

from wordmill.accounts import Scope
from wordmill.accounts.ledger import Ledger
from wordmill.accounts.types import Session
from wordmill.channels.api.auth import COOKIE, Reads, Talks, house_of
from wordmill.channels.api.shared import Json, Sent, shown
from wordmill.errors import InvalidInput

router = APIRouter(prefix="/api", tags=["Me"])


class MyChange(Sent):
    """What is to be different. language: as `de`; empty is the browser's."""

    name: str | None = None
    language: str | None = None


class NewPassword(Sent):
    """Another password, and the one until now."""

    password: str
    current: str = ""


class NewKey(Sent):
    """A key to be made. scopes: what it may do; none: all but `admin`.  days: until it ends."""

    name: str = Field(min_length=1, max_length=200)
    scopes: list[Scope] | None = None
    days: float | None = Field(default=None, gt=0, le=36_500)


@router.get("/me")
def me(caller: Reads) -> Json:
    """Who this key or session belongs to."""
    return shown(caller.person)


@router.patch("/me")
def change_me(new: MyChange, caller: Talks, request: Request) -> Json:
    """Change one's name or language."""
    values = new.model_dump(exclude_unset=True)
    people = house_of(request).accounts.people
    return shown(people.change(caller.person, caller.person.id, **values))


@router.put("/me/password", status_code=204)
def set_password(new: NewPassword, caller: Talks, request: Request) -> None:
    """Choose another password. Every session ends but the one that asks."""
    house_of(request).accounts.people.set_password(
        caller.person, caller.person.id, new.password, current=new.current,
        keep=request.cookies.get(COOKIE, ""),
    )  # fmt: skip


@router.get("/me/usage")
def usage(caller: Reads, request: Request) -> Json:
    """What is used of this day and month, and the quotas."""
    return spent(house_of(request).accounts.ledger, caller.person.id)


@router.get("/me/sessions")
def sessions(caller: Reads, request: Request) -> list[Json]:
    """One's sign-ins that are open."""
    return [session_shown(one) for one in house_of(request).accounts.sessions.all(caller.person)]


@router.delete("/me/sessions", status_code=200)
def sign_out_elsewhere(caller: Talks, request: Request) -> Json:
    """End all of one's sign-ins, but for the one that asks; how many."""
    keep = request.cookies.get(COOKIE, "")
    ended = house_of(request).accounts.sessions.revoke_all(caller.person, keep=keep)
    return {"ended": ended}


@router.delete("/sessions/{session}", status_code=204)
def end_session(session: str, caller: Talks, request: Request) -> None:
    """End a sign-in."""
    house_of(request).accounts.sessions.revoke(caller.person, session)


@router.get("/keys")
def keys(caller: Reads, request: Request) -> list[Json]:
    """One's API keys, without their secrets."""
    return [shown(key) for key in house_of(request).accounts.keys.all(caller.person)]


@router.post("/keys", status_code=201)
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


@router.delete("/keys/{key}", status_code=204)
def revoke_key(key: str, caller: Talks, request: Request) -> None:
    """Revoke a key."""
    house_of(request).accounts.keys.revoke(caller.person, key)


@router.get("/provider-keys")
def provider_keys(caller: Reads, request: Request) -> list[Json]:
    """The models for which a key is stored: one's own, or everybody's. Never the keys."""
    found = house_of(request).accounts.provider_keys.models(caller.person)
    return [shown(one) for one in found]


def spent(ledger: Ledger, person: str) -> Json:
    """What somebody used of each period, and what bounds it."""
    return {
        period: {
            **one.amount._asdict(),
            "ends": one.ends.isoformat(),
            "quota": one.quota._asdict() if one.quota else None,
        }
        for period, one in ledger.used(person).items()
    }


def session_shown(session: Session) -> Json:
    """A sign-in; its id opens nothing."""
    made = shown(session)
    return {"id": made.pop("digest"), **made}
