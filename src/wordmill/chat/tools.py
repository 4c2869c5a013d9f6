"""Tools that a model may call: servers that an admin has allowed, which speak MCP.

A server is a program that is started here (`stdio`) or an address (`http`). A conversation names
those that it uses. What a server says of its tools, and what they give back, is text for the model
and nothing else; a call is shown and needs a person's yes, unless an admin trusts the server.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit

from sqlalchemy import delete, insert, select, update

from wordmill.accounts import Accounts, Person, need_admin
from wordmill.chat.inputs import checked, checked_line, cleaned
from wordmill.chat.tool_sessions import Reach, Sessions, check_address
from wordmill.database import Database, now
from wordmill.database import tool_servers as table
from wordmill.errors import (
    ConfigError,
    Conflict,
    InvalidInput,
    UnknownName,
    WordmillError,
)
from wordmill.processes import found
from wordmill.secrets import scrub, seal, unseal
from wordmill.settings import Settings

Transport: TypeAlias = Literal["stdio", "http"]
Json: TypeAlias = Mapping[str, Any]

FRESH: Final = 60.0
"""Seconds for which the list of a server's tools is believed."""
LIST: Final = 20.0
"""Seconds that a server may take to list them."""
CALL: Final = 120.0
"""Seconds that a call may take."""
MOST_TEXT: Final = 100_000
"""Characters of a result that a model gets."""
MOST_TOOLS: Final = 128
"""Functions in one request: more are refused by servers, and understood by no model."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A tool server. target: a program or an address; "" for whoever is no admin.

    secrets: the names of the variables or headers that it gets; their values are never shown.
    trusted: its calls need no yes.
    """

    name: str
    transport: Transport
    target: str
    arguments: tuple[str, ...]
    secrets: tuple[str, ...]
    trusted: bool
    enabled: bool


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of a server. schema: of its arguments."""

    server: str
    name: str
    description: str
    schema: Json


@dataclass(frozen=True, slots=True)
class Offer:
    """What a request offers. functions: as OpenAI has them.  owners: a function's server and tool.

    notes: sentences on what could not be offered.
    """

    functions: tuple[Json, ...] = ()
    owners: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave. failed: the tool says so, or it could not be called."""

    text: str
    failed: bool = False
    stopped: bool = False


class Tools:
    """The servers and what is called there. Safe from any thread; `close` it at the end."""

    def __init__(self, database: Database, settings: Settings, accounts: Accounts) -> None:
        self._database, self._settings, self._accounts = database, settings, accounts
        self._sessions = Sessions()
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, tuple[Tool, ...]]] = {}

    # What an admin allows.

    def all(self, person: Person) -> list[Server]:
        """The servers, by name; for whoever is no admin those that are on, without their places."""
        with self._database.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.name)).all()
        servers = [self._server(row) for row in rows if person.admin or row.enabled]
        return servers if person.admin else [_without_place(server) for server in servers]

    def add(
        self,
        actor: Person,
        name: str,
        transport: str,
        target: str,
        *,
        arguments: Sequence[str] = (),
        secrets: Mapping[str, str] | None = None,
        trusted: bool = False,
    ) -> Server:
        """Allow a server.

        target: a program of this machine, or an address.  arguments: of the program.
        secrets: variables of the program, or headers of the requests.
        Raises Forbidden, InvalidInput, Conflict for a name that is taken.
        """
        need_admin(actor, "allow tool servers")
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{name[:40]!r} is no name for a tool server: it has 1 to 32 small letters, digits "
                "and hyphens, and begins with a letter or digit.",
                "name",
            )
        target = checked_line(target, "target", 2000)
        given = [checked(one, "arguments", 2000) for one in arguments]
        if transport == "http":
            _check_url(target)
            if given:
                raise InvalidInput("A server at an address takes no arguments.", "arguments")
        elif transport == "stdio":
            if found(target) is None:
                raise InvalidInput(f"There is no program {target!r} on this server.", "target")
        else:
            raise InvalidInput(f"transport is stdio or http, not {transport[:40]!r}.", "transport")
        hidden = _checked_secrets(secrets or {})
        sealed = seal(self._settings, json.dumps(hidden), _place(name)) if hidden else None
        with self._database.begin() as connection:
            if connection.execute(select(table.c.name).where(table.c.name == name)).first():
                raise Conflict(f"There is a tool server {name!r} already. Remove it first.")
            connection.execute(
                insert(table).values(
                    name=name, transport=transport, target=target, arguments=given,
                    sealed=sealed, trusted=trusted, enabled=True, created=now(),
                )
            )  # fmt: skip
        self._accounts.audit.note(actor.id, "tool server added", name, trusted=trusted)
        return self._get(name)

    def change(
        self, actor: Person, name: str, *, trusted: bool | None = None, enabled: bool | None = None
    ) -> Server:
        """Trust it or not, turn it on or off. Raises Forbidden, UnknownName."""
        need_admin(actor, "change tool servers")
        given = {"trusted": trusted, "enabled": enabled}
        values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        self._get(name)
        if values:
            with self._database.begin() as connection:
                connection.execute(update(table).where(table.c.name == name).values(values))
            self._accounts.audit.note(actor.id, "tool server changed", name, **values)
        return self._get(name)

    def remove(self, actor: Person, name: str) -> None:
        """Allow it no more. Raises Forbidden, UnknownName."""
        need_admin(actor, "remove tool servers")
        self._get(name)
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.name == name))
        with self._lock:
            self._known.pop(name, None)
        self._sessions.forget(name)
        self._accounts.audit.note(actor.id, "tool server removed", name)

    # What is offered and called.

    def usable(self, names: Sequence[str]) -> list[str]:
        """These servers, checked. Raises UnknownName for one that is not there or off."""
        with self._database.read() as connection:
            known = set(connection.execute(select(table.c.name).where(table.c.enabled)).scalars())
        for name in names:
            if name not in known:
                raise UnknownName("tool server", str(name)[:100], known)
        return list(dict.fromkeys(names))

    def listed(self, server: str) -> tuple[Tool, ...]:
        """The tools of a server. Raises UnknownName, ConfigError when it does not answer."""
        found = self._get(server)
        if not found.enabled:
            raise ConfigError(f"The tool server {server!r} is turned off.")
        with self._lock:
            known = self._known.get(server)
        if known is not None and time.monotonic() - known[0] < FRESH:
            return known[1]

        async def ask(client: Any) -> list[Any]:
            tools: list[Any] = []
            cursor = None
            while len(tools) < 1000:
                page = await client.list_tools(cursor=cursor)
                tools += page.tools
                cursor = page.next_cursor
                if not cursor:
                    break
            return tools

        try:
            tools = self._sessions.do(self._reach(server), ask, LIST)
        except TimeoutError:
            raise ConfigError(
                f"The tool server {server!r} did not list its tools within {LIST:g} s."
            ) from None
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"The tool server {server!r}: {_short(error)}") from error
        made = tuple(
            Tool(
                server,
                cleaned(str(tool.name)),
                cleaned(str(tool.description or tool.title or ""))[:2000],
                dict(tool.input_schema),
            )
            for tool in tools
        )
        with self._lock:
            self._known[server] = (time.monotonic(), made)
        return made

    def offered(self, servers: Sequence[str]) -> Offer:
        """The tools of these servers as functions; of one that does not answer, a sentence."""
        functions: list[Json] = []
        owners: dict[str, tuple[str, str]] = {}
        notes: list[str] = []
        for server in servers:
            try:
                tools = self.listed(server)
            except WordmillError as error:
                notes.append(f"Without its tools: {error}")
                continue
            for tool in tools:
                name = _function(server, tool.name, owners)
                owners[name] = (server, tool.name)
                functions.append(
                    {
                        "type": "function",
                        "function": {
                            "name": name,
                            "description": tool.description,
                            "parameters": tool.schema,
                        },
                    }
                )
        if len(functions) > MOST_TOOLS:
            notes.append(
                f"Of {len(functions)} tools the first {MOST_TOOLS} were offered: name fewer tool "
                "servers in this conversation."
            )
        return Offer(tuple(functions[:MOST_TOOLS]), owners, tuple(notes))

    def trusted(self, server: str) -> bool:
        """Whether its calls need no yes. What is not there is not called, and needs none either."""
        query = select(table.c.trusted).where(table.c.name == server, table.c.enabled)
        with self._database.read() as connection:
            return connection.execute(query).scalar() is not False

    def call(
        self, server: str, tool: str, arguments: str, stop: Callable[[], bool] = lambda: False
    ) -> Result:
        """Call a tool. What goes wrong is a result too, since the model should hear of it.

        arguments: JSON text of an object.
        """
        try:
            given = json.loads(arguments or "{}")
        except ValueError:
            given = None
        if not isinstance(given, dict):
            return Result("The arguments are no JSON object, so nothing was called.", failed=True)
        try:
            if not server or not self._get(server).enabled:
                return Result(f"There is no tool {tool!r} here.", failed=True)
            reach = self._reach(server)
        except WordmillError as error:
            return Result(str(error), failed=True)
        hidden = list(reach.secrets.values())
        try:
            called = self._sessions.do(
                reach, lambda client: client.call_tool(tool, given), CALL, stop
            )
        except InterruptedError:
            return Result("It was stopped.", failed=True, stopped=True)
        except TimeoutError:
            return Result(f"The tool did not answer within {CALL:g} s.", failed=True)
        except Exception as error:  # noqa: BLE001 (the client raises what servers made it raise)
            return Result(scrub(_short(error), hidden), failed=True)
        return Result(scrub(_text(called), hidden), failed=bool(called.is_error))

    def close(self) -> None:
        """Close the connections; programs that were started end."""
        self._sessions.close()

    # Rows.

    def _get(self, name: str) -> Server:
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.name == name)).one_or_none()
            known = connection.execute(select(table.c.name)).scalars().all()
        if row is None:
            raise UnknownName("tool server", name[:100], known)
        return self._server(row)

    def _server(self, row: Any) -> Server:
        try:
            hidden = tuple(self._secrets(row))
        except ConfigError:
            hidden = ()  # the key they were sealed with is gone; a call will say it
        return Server(
            row.name, cast(Transport, row.transport), row.target, tuple(row.arguments), hidden,
            row.trusted, row.enabled,
        )  # fmt: skip

    def _secrets(self, row: Any) -> dict[str, str]:
        if row.sealed is None:
            return {}
        opened: dict[str, str] = json.loads(unseal(self._settings, row.sealed, _place(row.name)))
        return opened

    def _reach(self, name: str) -> Reach:
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.name == name)).one()
        return Reach(
            name, row.transport, row.target, tuple(row.arguments), _Hashed(self._secrets(row)),
            self._settings.home.absolute() / "tools" / name,
        )  # fmt: skip


class _Hashed(dict[str, str]):
    """Secrets as a part of a key: another value is another connection."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def _place(name: str) -> str:
    return f"{table.name}:{name}"


def _without_place(server: Server) -> Server:
    return Server(server.name, server.transport, "", (), (), server.trusted, server.enabled)


def _check_url(target: str) -> None:
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"{target[:80]!r} is no address: it begins with https://.", "target")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("Put a password into a header, and not into the address.", "target")
    try:
        check_address(parts.hostname)
    except InvalidInput as error:
        raise InvalidInput(f"{error}.", "target") from None
    except ValueError:
        pass  # a name: what it means is looked up, and checked, whenever it is reached


def _checked_secrets(secrets: Mapping[str, str]) -> dict[str, str]:
    made: dict[str, str] = {}
    for name, value in secrets.items():
        if not _VARIABLE.fullmatch(name):
            raise InvalidInput(f"{name[:40]!r} names no variable and no header.", "secrets")
        if not value.isprintable() or len(value) > 10_000:
            raise InvalidInput(f"The value of {name} holds a line break or is too long.", "secrets")
        made[name] = value
    return made


def _function(server: str, tool: str, taken: Mapping[str, Any]) -> str:
    """A name that every server takes: at most 64 letters, digits, hyphens and underscores."""
    base = re.sub(r"[^A-Za-z0-9_-]", "_", f"{server}__{tool}")[:60]
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def _text(called: Any) -> str:
    texts = []
    for part in called.content:
        if part.type == "text":
            texts.append(cleaned(part.text))
        elif part.type == "resource" and getattr(part.resource, "text", None):
            texts.append(cleaned(part.resource.text))
        else:
            texts.append(f"[{part.type}: not shown]")
    if not texts and called.structured_content is not None:
        texts.append(json.dumps(called.structured_content, ensure_ascii=False))
    text = "\n".join(texts)
    if len(text) > MOST_TEXT:
        return f"{text[:MOST_TEXT]}\n[{len(text) - MOST_TEXT:,} more characters are left out]"
    return text


def _short(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    words = " ".join(str(error).split()) or type(error).__name__
    return words[:500].rstrip(".") + "."
