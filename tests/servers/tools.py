"""Tool servers that speak MCP: a program, and the same at an address.

Run as a program it is the first; `serving` makes the second.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import MCPServer

PROGRAM = str(Path(__file__).resolve())


def made() -> MCPServer:
    server = MCPServer("tools")

    @server.tool()
    def add(a: int, b: int) -> int:
        """The sum."""
        return a + b

    @server.tool()
    def token() -> str:
        """What the server was given."""
        return f"It is {os.environ.get('TOKEN', 'nothing')}, and {len(os.environ)} variables."

    @server.tool()
    async def wait(seconds: float) -> str:
        """Comes back after a while."""
        await asyncio.sleep(seconds)
        return "Done."

    @server.tool()
    def fail() -> str:
        """Fails."""
        raise ValueError("the disk is on fire")

    return server


@dataclass
class Address:
    """url: where it is.  headers: of each request so far."""

    url: str
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Address]:
    """The tools over HTTP, on a port that the system chose."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = Address(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp")
    app = made().streamable_http_app()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            address.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        await app(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(noting, log_level="critical", lifespan="on"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield address
    finally:
        server.force_exit = server.should_exit = True
        thread.join(10.0)
        listening.close()


if __name__ == "__main__":
    made().run()
