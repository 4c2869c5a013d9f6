"""The command line, with the rehearsal model behind it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

WORDMILL = [str(Path(sys.executable).with_name("wordmill"))]


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run(*words: str | Path, seconds: float = 60) -> Done:
    """A command, to its end."""
    done = subprocess.run(
        [*WORDMILL, *map(str, words)],
        capture_output=True, text=True, timeout=seconds, env=os.environ, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def line(name: str, model: str = "rehearsal", **body: Any) -> str:
    """A request."""
    asked = {"messages": [{"role": "user", "content": f"Say {name}."}], "max_tokens": 20}
    return json.dumps({"custom_id": name, "body": {"model": model, **asked, **body}})


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of requests."""

    def write(*lines: str, name: str = "asked.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(one + "\n" for one in lines))
        return path

    return write
