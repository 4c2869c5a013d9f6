"""Where this machine's model server is; started where it is needed and not there.

The server writes its address and its token into a file of the data folder that only its owner can
read. Whoever needs it keeps a connection open, and a server that was started this way ends when
nobody does any more, however they ended. So the workbench and a command beside it share one server,
and neither leaves one behind.
"""

import http.client
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from wordmill.errors import ConfigError
from wordmill.outbound import Failure, Limits, send
from wordmill.settings import Settings

log = logging.getLogger(__name__)

FILE: Final = "model-server.json"
LOG: Final = "model-server.log"
PATIENCE: Final = 60.0
"""Seconds that the server has to come up."""
LOOK: Final = 0.05
LONGEST: Final = 4 << 20
"""Bytes of the log after which a start begins a new one."""
RETURNS: Final = 5
"""How often it is started again after it was lost, until somebody asks for it again."""
WAIT: Final = 5.0
"""Seconds to reach it."""
MODULE: Final = "wordmill.model_server.serving"


class Address(NamedTuple):
    """Where it is: `http://127.0.0.1:PORT`, and what is sent as a bearer token."""

    url: str
    token: str


class _Hold:
    """An open connection that says that this process needs the server."""

    def __init__(self, address: Address, connection: http.client.HTTPConnection) -> None:
        self.address, self.process = address, os.getpid()
        self._connection = connection
        self.alive = True

    def wait(self) -> None:
        """Until the server is gone."""
        try:
            while self._connection.sock is not None and self._connection.sock.recv(64):
                pass
        except OSError:
            log.debug("the connection to the model server broke")
        self.alive = False
        self._connection.close()

    def close(self) -> None:
        """This process needs it no longer."""
        self.alive = False
        self._connection.close()


_lock = threading.Lock()
_holds: dict[Path, _Hold] = {}


def address(settings: Settings) -> Address:
    """The model server of the data folder, started if it is not there.

    Raises ConfigError in its own words when it does not come up.
    """
    with _lock:
        hold = _holds.get(settings.home)
        if hold is None or not hold.alive or hold.process != os.getpid():
            hold = _holds[settings.home] = _held(settings)
            watch = threading.Thread(
                target=_watch, args=(settings, hold), name="wordmill-model-server", daemon=True
            )
            watch.start()
        return hold.address


def found(settings: Settings) -> Address | None:
    """The model server of the data folder, if it runs. Nothing is started or held."""
    written = read(settings.home)
    if written is None:
        return None
    answer = send(
        "GET",
        f"{written.url}/v1/waiting",
        headers=bearer(written),
        limits=Limits(connect=WAIT, first_byte=WAIT, total=WAIT),
        direct=True,
    )
    there = not isinstance(answer, Failure) and answer.status == 200
    return written if there else None


def release(settings: Settings) -> None:
    """This process needs the server no longer."""
    with _lock:
        hold = _holds.pop(settings.home, None)
        if hold is not None:
            hold.close()


def read(home: Path) -> Address | None:
    """What the file says, whether or not it still holds."""
    try:
        told = json.loads((home / FILE).read_text(encoding="utf-8"))
        return Address(str(told["url"]), str(told["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(home: Path, where: Address) -> None:
    """Say where the server is, to whoever may read the data folder's secrets."""
    home.mkdir(parents=True, exist_ok=True)
    beside = home / f"{FILE}.new"
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(where._asdict(), file)
    beside.replace(home / FILE)


def _watch(settings: Settings, hold: _Hold) -> None:
    """Start the server again where it is lost while this process still needs it."""
    hold.wait()
    for _ in range(RETURNS):
        with _lock:
            if _holds.get(settings.home) is not hold:
                return  # released, or somebody has seen to it
        log.warning("the model server is gone, and is started again")
        try:
            address(settings)
        except ConfigError as error:
            log.error("%s", error)
            time.sleep(1.0)
        else:
            return


def _held(settings: Settings) -> _Hold:
    written = read(settings.home)
    hold = None if written is None else _hold(written)
    return hold or _started(settings)


def _started(settings: Settings) -> _Hold:
    settings.home.mkdir(parents=True, exist_ok=True)
    file = settings.home / LOG
    if file.exists() and file.stat().st_size > LONGEST:
        file.unlink()
    with file.open("ab") as told:
        begun = told.tell()
        child = subprocess.Popen(  # noqa: S603 (our own module, no shell)
            [sys.executable, "-m", MODULE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=told,
            env={**os.environ, "WORDMILL_HOME": str(settings.home)},
            start_new_session=True,
        )
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ended = child.poll()
        written = read(settings.home)
        hold = None if written is None else _hold(written)
        if hold is not None:
            threading.Thread(target=child.wait, daemon=True).start()  # so that no zombie stays
            return hold
        if ended:
            break
        time.sleep(LOOK)
    words = _last_words(file, begun)
    raise ConfigError(
        f"The model server did not come up: {words or 'it said nothing'} ({file} says more)."
    )


def _hold(where: Address) -> _Hold | None:
    """A held connection; None where no server of ours is there."""
    parts = urlsplit(where.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=WAIT)
    try:
        connection.request("GET", "/admin/hold", headers=bearer(where))
        answer = connection.getresponse()
        if answer.status == 200 and connection.sock is not None:
            connection.sock.settimeout(None)
            return _Hold(where, connection)
    except (OSError, http.client.HTTPException):
        log.debug("no model server at %s", where.url)
    connection.close()
    return None


def bearer(where: Address) -> Mapping[str, str]:
    """The header by which the server knows us."""
    return {"Authorization": f"Bearer {where.token}"}


def _last_words(file: Path, begun: int) -> str:
    try:
        with file.open("rb") as told:
            told.seek(begun)
            lines = told.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:500] if lines else ""
