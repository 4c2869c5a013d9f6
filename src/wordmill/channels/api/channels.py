"""Channels over HTTP, for admins; and the chat accounts that are one's own, for everybody."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from wordmill.channels.api.auth import Admins, Reads, Talks, house_of
from wordmill.channels.api.shared import Json, Sent, shown
from wordmill.channels.rooms.accounts import ChannelAccounts, load
from wordmill.channels.rooms.trial import tried

router = APIRouter(prefix="/api", tags=["Channels"])


class NewChannel(Sent):
    """A channel to be added. options and secrets: as the kind wants them."""

    name: str = Field(min_length=1, max_length=40)
    kind: str
    options: dict[str, Any] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)


class ChannelChange(Sent):
    """What is to be different; an option of null is taken back."""

    options: dict[str, Any] | None = None
    secrets: dict[str, str] | None = None
    enabled: bool | None = None


class Code(Sent):
    """A code that a chat gave."""

    code: str = Field(min_length=1, max_length=100)


@router.get("/channels")
def channels(caller: Admins, request: Request) -> list[Json]:
    """All channels and how each is, without secrets."""
    return [shown(one) for one in _accounts(request).all(caller.person)]


@router.post("/channels", status_code=201)
def add(new: NewChannel, caller: Admins, request: Request) -> Json:
    """Add a channel; `invitation` says what to do at the service."""
    made = _accounts(request).add(caller.person, new.name, new.kind, new.options, new.secrets)
    return {**shown(made), "invitation": load(made.kind).invitation(made.options)}


@router.patch("/channels/{channel}")
def change(channel: str, new: ChannelChange, caller: Admins, request: Request) -> Json:
    """Change a channel; it is started anew."""
    made = _accounts(request).change(
        caller.person, channel, options=new.options, hidden=new.secrets, enabled=new.enabled
    )
    return shown(made)


@router.delete("/channels/{channel}", status_code=204)
def remove(channel: str, caller: Admins, request: Request) -> None:
    """Forget a channel with its keys; conversations stay."""
    _accounts(request).remove(caller.person, channel)


@router.post("/channels/{channel}/test")
def test(channel: str, caller: Admins, request: Request) -> list[Json]:
    """Try a channel out; one that runs says how it is."""
    return [shown(one) for one in tried(_accounts(request), caller.person, channel)]


@router.get("/me/identities")
def identities(caller: Reads, request: Request) -> list[Json]:
    """Where one is known: chat accounts, and accounts for signing in."""
    return [shown(one) for one in house_of(request).accounts.identities.all(caller.person)]


@router.post("/me/identities/code", status_code=201)
def code(caller: Talks, request: Request) -> Json:
    """A one-time code to be typed in a chat, after `--link`."""
    return {"code": house_of(request).accounts.identities.code(caller.person)}


@router.post("/me/identities", status_code=201)
def accept(new: Code, caller: Talks, request: Request) -> Json:
    """Link the chat account that was given this code by `--link`."""
    return shown(house_of(request).accounts.identities.accept(caller.person, new.code))


@router.delete("/me/identities/{provider}/{subject}", status_code=204)
def unlink(provider: str, subject: str, caller: Talks, request: Request) -> None:
    """Forget a link of one's own."""
    house_of(request).accounts.identities.unlink(caller.person, provider, subject)


def _accounts(request: Request) -> ChannelAccounts:
    house = house_of(request)
    return ChannelAccounts(house.database, house.settings)
