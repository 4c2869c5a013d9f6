"""The program `wordmill-consumer`, and processes of it."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]


def program() -> Path:
    """Where it was built, last. Skips where it was not; fails in CI."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"))
    built = [target / profile / "wordmill-consumer" for profile in ("release", "debug")]
    found = [path for path in built if path.is_file()]
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    words = "wordmill-consumer is not built: `make consumer` does it."
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


class Consumer:
    """A process of it, with these settings in its environment."""

    def __init__(self, settings: Mapping[str, str], log: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WORDMILL_")}
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [program()], env={**environment, **settings}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """All that it said."""
        return self._log.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds: float = 60) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)
