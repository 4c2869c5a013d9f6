"""`wordmill serve`: the workbench, the API and the workers, in one process on one port."""

import os
import signal
import sys
import threading
import time
import webbrowser
from types import FrameType
from typing import TYPE_CHECKING

import click

from wordmill.cli.settings import warn
from wordmill.errors import ConfigError, ExtraMissing
from wordmill.settings import Settings, load
from wordmill.telemetry import reporting

if TYPE_CHECKING:
    import uvicorn


@click.command()
@click.option("--host", help="The address to listen on. [default: 127.0.0.1]")
@click.option("--port", help="The port to listen on. [default: 8501]")
@click.option(
    "--open/--no-open", "show", default=None, help="Open a browser. [default: if one can]"
)
def serve(host: str | None, port: str | None, show: bool | None) -> None:
    """Serve the web workbench and the OpenAI-compatible API.

    The first start prints a link with a one-time code: whoever follows it becomes the admin.
    """
    settings = load({"host": host, "port": port}, serving=True)
    warn(settings)
    try:
        import uvicorn

        from wordmill.channels.api.app import make_app
        from wordmill.channels.house import open_house
        from wordmill.channels.rooms.manager import Manager
        from wordmill.channels.web.mount import mount
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("wordmill"):
            raise
        raise ExtraMissing("The web workbench", "web") from error
    stopping = _Stopping(settings.grace_seconds)
    with reporting(settings), open_house(settings, stopping.left) as house:
        app = make_app(house)
        mount(app, house)
        address = f"http://{shown(settings.host)}:{settings.port}"
        code = house.accounts.first_admin_code()
        first = address if code is None else f"{address}/first?code={code}"
        click.echo(f"Wordmill is at {address}, its API at {address}/v1.")
        if code is not None:
            click.echo(f"Nobody is here yet. Become the admin: {first}")
        if _elsewhere(settings):
            click.echo(
                "It listens for other machines too: put TLS before it, and name it in "
                "WORDMILL_HOSTS.",
                err=True,
            )
        if show if show is not None else _can_show():
            threading.Timer(1.0, webbrowser.open, [first]).start()
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=stopping.answers,
        )
        try:
            with Manager(house):
                stopping.run(uvicorn.Server(config))
        except SystemExit as error:  # uvicorn's word for a port that cannot be had
            raise ConfigError(
                f"The port {settings.port} of {settings.host} cannot be had. Is Wordmill running "
                "already? --port names another."
            ) from error


class _Stopping:
    """The time from the signal to the end of the process: half of it for what is being sent to
    somebody, the rest for what the server itself works on.
    """

    def __init__(self, grace: float) -> None:
        self._grace, self._asked = grace, 0.0

    @property
    def answers(self) -> int:
        """Whole seconds for answers on their way to a client."""
        return max(1, round(self._grace / 2))

    def run(self, server: "uvicorn.Server") -> None:
        """Serve until SIGTERM or SIGINT, and note when that came."""
        taken = server.handle_exit

        def asked(sig: int, frame: FrameType | None) -> None:
            self._asked = self._asked or time.monotonic()
            taken(sig, frame)

        # uvicorn takes the signals while it serves, and raises them again when it has ended: with
        # the system's own handler that would be the end of the process, and nothing put away.
        signals = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, asked) for number in signals}
        server.handle_exit = asked  # type: ignore[method-assign]  # looked up on the instance
        try:
            server.run()
        finally:
            signal.signal(signal.SIGINT, before[signal.SIGINT])  # who cannot wait says so again

    def left(self) -> float:
        """Seconds of the grace that are left."""
        gone = time.monotonic() - self._asked if self._asked else 0.0
        return max(1.0, self._grace - gone)


def shown(host: str) -> str:
    """As an address that a browser on this machine can open."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  # it is recognised here, not chosen
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _elsewhere(settings: Settings) -> bool:
    own = settings.host in ("127.0.0.1", "localhost", "::1")
    return not own and not settings.hosts


def _can_show() -> bool:
    if not sys.stdout.isatty():
        return False
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
