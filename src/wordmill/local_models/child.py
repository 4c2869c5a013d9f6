"""Runs a part of ours in a process of its own: it is told one line and says lines of JSON.

So a long work can be ended at once and surely, and what it takes of memory goes with it.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from wordmill import errors
from wordmill.errors import StorageError, WordmillError
from wordmill.processes import Ceilings, bounded, environment

GRACE: Final = 5.0
"""Seconds that it has to end after it was told to."""
LOOK: Final = 0.2
"""Seconds between two questions whether to stop."""
_ANY: Final = 1 << 62
_PROXIES: Final = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy",
    "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip

Json = Mapping[str, Any]


def run(
    module: str,
    line: str,
    heard: Callable[[Json], None],
    stop: Callable[[], bool],
    *,
    python: str = sys.executable,
    arguments: Sequence[str] | None = None,
    extra: Mapping[str, str] | None = None,
    folder: Path | None = None,
    silent: bool = False,
) -> Json:
    """Run `python -m module` until it ends; the last line that it said.

    heard: each line before it.  stop: asked now and then; when it says yes, the process ends.
    arguments: instead of `-m module`.  silent: it says nothing, and that is well.
    Raises what the process says it raised, InterruptedError after a `stop`, StorageError for a
    process that says nothing.
    """
    passed = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    most = Ceilings(memory=_ANY, file=_ANY, files=4096)
    command = bounded(python, list(arguments or ("-m", module)), most)
    process = subprocess.Popen(  # noqa: S603 (our own interpreter, no shell)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment({**passed, **(extra or {})}), cwd=folder, start_new_session=True,
    )  # fmt: skip
    try:
        return _talk(process, line, heard, stop, silent)
    finally:
        _end(process)


def _talk(
    process: "subprocess.Popen[bytes]",
    line: str,
    heard: Callable[[Json], None],
    stop: Callable[[], bool],
    silent: bool,
) -> Json:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise StorageError("The process has no pipes.")
    with suppress(BrokenPipeError):  # it has ended already, and what it said is read below
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
    streams = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    out, faults = process.stdout.fileno(), b""
    last: Json = {}
    while streams:
        if stop():
            raise InterruptedError
        ready, _, _ = select.select(list(streams), [], [], LOOK)
        for one in ready:
            piece = os.read(one, 65536)
            if not piece:
                del streams[one]
                continue
            if one != out:
                faults = (faults + piece)[-4000:]
                continue
            *lines, streams[one] = (streams[one] + piece).split(b"\n")
            for text in lines:
                if last and "error" not in last:
                    heard(last)
                last = _read(text) or last
    status = process.wait()
    if "error" in last:
        raise _raised(last)
    if status != 0 or not (last or silent):
        words = faults.decode("utf-8", "replace").strip().splitlines()
        end = f"was ended by signal {-status}" if status < 0 else f"ended with {status}"
        raise StorageError(f"The process {end}" + (f": {words[-1][:500]}" if words else "."))
    return last


def _read(text: bytes) -> Json | None:
    """A line of ours; libraries print to the same place."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _raised(line: Json) -> WordmillError:
    kind = getattr(errors, str(line.get("kind")), None)
    simple = (errors.HubError, errors.StorageError, errors.Conflict, errors.InvalidInput)
    if isinstance(kind, type) and issubclass(kind, simple):
        return kind(str(line["error"]))
    return StorageError(str(line["error"]))


def _end(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
