"""For admins: the settings of this server and its tool servers, over HTTP."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field

from wordmill.channels.api.auth import Admins, Reads, house_of
from wordmill.channels.api.shared import Json, Sent, shown
from wordmill.settings import table

router = APIRouter(prefix="/api", tags=["Server"])


class ServerSetting(Sent):
    """A value, written as in the environment; empty takes it back."""

    value: str


class NewToolServer(Sent):
    """An MCP server to be allowed. target: a program of this machine, or an address."""

    name: str
    transport: Literal["stdio", "http"]
    target: str
    arguments: list[str] = Field(default_factory=list)
    secrets: dict[str, str] = Field(default_factory=dict)
    trusted: bool = False


class ToolServerChange(Sent):
    """What is to be different."""

    trusted: bool | None = None
    enabled: bool | None = None


@router.get("/settings")
def settings(caller: Admins, request: Request) -> list[Json]:
    """Every setting: its value (secrets masked), where it comes from, whether it is locked."""
    found = house_of(request).settings
    return [
        {
            "name": setting.name,
            "value": found.shown(setting.name),
            "default": setting.default,
            "unit": setting.row.unit,
            "help": setting.row.help,
            "expects": setting.row.kind.expects,
            "origin": (origin := found.origin(setting.name)),
            "locked": setting.row.early or origin not in ("default", "set in the UI"),
        }
        for setting in table()
    ]


@router.put("/settings/{name}", status_code=204)
def change_setting(name: str, new: ServerSetting, caller: Admins, request: Request) -> None:
    """Set something for this server; it holds from the next start."""
    house_of(request).change_setting(caller.person, name, new.value)


@router.get("/tools")
def tool_servers(caller: Reads, request: Request) -> list[Json]:
    """The tool servers that are allowed; to admins with their places."""
    return [shown(one) for one in house_of(request).chat.tools.all(caller.person)]


@router.post("/tools", status_code=201)
def add_tool_server(new: NewToolServer, caller: Admins, request: Request) -> Json:
    """Allow a tool server; the values of its secrets are never shown again."""
    values = new.model_dump(exclude={"name", "transport", "target"})
    tools = house_of(request).chat.tools
    return shown(tools.add(caller.person, new.name, new.transport, new.target, **values))


@router.get("/tools/{server}")
def tools_of(server: str, caller: Reads, request: Request) -> list[Json]:
    """The tools of a server; it is asked."""
    return [shown(tool) for tool in house_of(request).chat.tools.listed(server)]


@router.patch("/tools/{server}")
def change_tool_server(
    server: str, new: ToolServerChange, caller: Admins, request: Request
) -> Json:
    """Trust a server's calls or not, turn it on or off."""
    tools = house_of(request).chat.tools
    return shown(tools.change(caller.person, server, **new.model_dump()))


@router.delete("/tools/{server}", status_code=204)
def remove_tool_server(server: str, caller: Admins, request: Request) -> None:
    """Allow a tool server no more."""
    house_of(request).chat.tools.remove(caller.person, server)
