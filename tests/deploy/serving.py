"""`wordmill serve` as a container runs it: a process of its own, told all by its environment."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def environment(**variables: str) -> dict[str, str]:
    """Nothing but what is given, and a PATH with our programs; uv is in the first environment."""
    path = os.pathsep.join((str(BIN), str(ROOT / ".venv" / "bin"), os.defpath))
    return {"PATH": path, "LANG": "C.UTF-8", **variables}


@contextmanager
def serving(words: Sequence[str], variables: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """Run it until `wordmill health` is content; its log.

    folder: where it runs and its log is.
    """
    log = folder / "serve.log"
    assert healthy(variables, folder).returncode == 1, "another one has its port"
    with log.open("ab") as output:
        process = subprocess.Popen(
            words, cwd=folder, env=dict(variables),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + 90
        while (said := healthy(variables, folder)).returncode:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text() + said.stderr
            time.sleep(0.2)
        yield log
    finally:
        process.terminate()
        try:
            process.wait(40)
        finally:
            process.kill()


def healthy(variables: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The health check of the image."""
    return subprocess.run(
        ["wordmill", "health"], cwd=folder, env=dict(variables), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
