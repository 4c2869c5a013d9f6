"""Who asks: a personal API key, or the session of the web workbench.

A session's cookie travels with requests that a page of somebody else makes, so with it everything
but reading needs the header that only our own pages can send: `X-Wordmill: 1`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from wordmill.accounts import ApiKey, Person, Scope
from wordmill.channels.house import House
from wordmill.errors import Forbidden, NotFound, Unauthenticated

COOKIE = "wordmill"
HEADER = "x-wordmill"
DOOR = "x-wordmill-door"
CLIENTS = ("shell",)
"""Doors that reach a house through this one, and say so."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is known. key: None for a session.  said: the door that a client names."""

    person: Person
    key: ApiKey | None
    said: str = ""

    @property
    def door(self) -> str:
        """For the ledger."""
        if self.key is None:
            return "web"
        return self.said if self.said in CLIENTS else "api"


def house_of(request: Request) -> House:
    """The house of the application."""
    house: House = request.app.state.house
    return house


def _caller(request: Request) -> Caller:
    """Raises Unauthenticated."""
    accounts = house_of(request).accounts
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    address = request.client.host if request.client else ""
    if kind.lower() == "bearer" and secret.strip():
        person, key = accounts.keys.check(secret.strip(), address)
        return Caller(person, key, request.headers.get(DOOR, ""))
    token = request.cookies.get(COOKIE, "")
    if token:
        person = accounts.sessions.check(token)
        if request.method not in ("GET", "HEAD") and HEADER not in request.headers:
            raise Forbidden("A request with a session that changes something needs X-Wordmill: 1.")
        return Caller(person, None)
    raise Unauthenticated(
        "Who are you? Send a key of the page Settings as `Authorization: Bearer wm-...`."
    )


def needs(scope: Scope) -> Callable[[Request], Caller]:
    """A dependency: somebody who is known, whose key may do this."""

    def checked(request: Request) -> Caller:
        caller = _caller(request)
        if caller.person.role == "pending":
            raise Forbidden("An admin has to let you in first.")
        if caller.key is not None:
            caller.key.require(scope)
        for kind, name in request.path_params.items():
            if "\0" in str(name):  # nothing is called so, and not every database can look for it
                raise NotFound(kind, str(name))
        return caller

    return checked


Talks = Annotated[Caller, Depends(needs("chat"))]
Reads = Annotated[Caller, Depends(needs("read"))]
Works = Annotated[Caller, Depends(needs("runs"))]
Admins = Annotated[Caller, Depends(needs("admin"))]
