"""`wordmill chat` in a terminal, `wordmill ask` in a pipe, and a model that says what we want."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.servers.talking import Talking, talking
from tests.shell.terminal import Terminal, running

WORDMILL = (sys.executable, "-c", "from wordmill.cli import main; main()")
READY = "Enter sends"
"""What stands below the first prompt."""

Sit = Callable[..., Terminal]
Ask = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Talking]:
    """The server behind the default model; `say` may be changed."""
    with talking(lambda body: [f"You said: {body['messages'][-1]['content']}"]) as talk:
        (tmp_path / ".git").mkdir()
        (tmp_path / "wordmill.toml").write_text(
            f'default_model = "mock"\n[models.mock]\nbase_url = "{talk.url}"\nmodel = "mock-1"\n'
        )
        yield talk


KEPT = ("PATH", "LD_LIBRARY_PATH", "WORDMILL_DATABASE_URL")


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {
        **kept,
        "HOME": str(home.parent),
        "WORDMILL_HOME": str(home),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


@pytest.fixture
def sit(model: Talking, environment: dict[str, str], tmp_path: Path) -> Iterator[Sit]:
    """`wordmill chat ARGUMENTS` at a terminal; ended with the test."""
    with ExitStack() as stack:

        def start(
            *arguments: str, command: str = "chat", ready: str = READY, **options
        ) -> Terminal:
            more = options.pop("environment", {})
            opened: AbstractContextManager[Terminal] = running(
                *WORDMILL,
                command,
                *arguments,
                environment={**environment, **more},
                folder=tmp_path,
                **options,
            )
            terminal = stack.enter_context(opened)
            if ready:
                terminal.wait(ready)
            return terminal

        yield start


@pytest.fixture
def ask(model: Talking, environment: dict[str, str], tmp_path: Path) -> Ask:
    """`wordmill ask ARGUMENTS` in a pipe; `piped` comes in."""

    def start(*arguments: str, piped: bytes = b"", command: str = "ask"):
        return subprocess.run(
            [*WORDMILL, command, *arguments],
            input=piped, capture_output=True, env=environment, cwd=tmp_path, timeout=60,
            check=False,
        )  # fmt: skip

    return start
