"""Functions that batches hand their answers to: only of modules that an admin allows.

Each runs in a child of its own (`calling`), which can be ended: a function that takes too long for
one answer costs that answer and no other. It gets none of our variables and secrets.
"""

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from wordmill import processes
from wordmill.errors import InvalidInput
from wordmill.settings import Settings
from wordmill.types import CellError, Value

LONGEST: Final = 16 << 20
"""Bytes that a function may return."""
START: Final = 30.0
"""Seconds that its module may take to be imported."""
KIND: Final = "post"
"""The kind of error of an answer that a function did not take."""


def checked(path: str, settings: Settings) -> tuple[str, str]:
    """The module and the name of `package.module:function`.

    Raises InvalidInput for another form, and for a module that is not allowed.
    """
    module, _, name = path.partition(":")
    if not name.isidentifier() or not all(map(str.isidentifier, module.split("."))):
        raise InvalidInput("post is a function, written package.module:function.", "post")
    allowed = settings.batch_functions
    if not any(module == one or module.startswith(f"{one}.") for one in allowed):
        raise InvalidInput(
            f"The module {module} is not among those that an admin allows batches to call (the "
            "setting batch_functions).",
            "post",
        )
    return module, name


class Functions:
    """The children of one batch. Used by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children: dict[str, _Child] = {}

    def call(self, path: str, given: Value) -> Value | CellError:
        """What the function makes of a value. Raises InvalidInput as `checked`."""
        module, name = checked(path, self._settings)
        child = self._children.get(path)
        if child is None:
            child = self._children[path] = _Child(module, name)
        answer = child.ask(given, self._settings.batch_function_seconds)
        if child.ended:
            del self._children[path]
        return answer

    def close(self) -> None:
        """End all children."""
        for child in self._children.values():
            child.end()
        self._children.clear()


class _Child:
    def __init__(self, module: str, name: str) -> None:
        program = str(Path(__file__).with_name("calling.py"))
        folders = json.dumps([str(Path(folder).resolve()) for folder in sys.path if folder])
        self._name = f"{module}:{name}"
        self._new = True
        self._process = subprocess.Popen(  # noqa: S603 (no shell; the admin allowed the module)
            processes.bounded(sys.executable, ["-I", program, folders, module, name]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=processes.environment(),
            bufsize=0,
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        self._process.kill()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                with suppress(OSError):
                    end.close()
        self._process.wait()

    def ask(self, given: Value, seconds: float) -> Value | CellError:
        line = json.dumps(given).encode() + b"\n"
        try:
            if self._new:
                self._told(b"", START)
                self._new = False
            told = self._told(line, seconds)
        except TimeoutError:
            self.end()
            what = (
                f"took longer than {START:g} s to import"
                if self._new
                else (f"took longer than {seconds:g} s")
            )
            return CellError(KIND, f"{self._name} {what}")
        except OSError as error:
            self.end()
            return CellError(KIND, f"{self._name} ended: {error}")
        if "error" in told:
            return CellError(KIND, str(told["error"]))
        return told["value"]

    def _told(self, line: bytes, seconds: float) -> dict[str, Value]:
        """Send a line and wait for one. Raises TimeoutError, OSError."""
        until = time.monotonic() + seconds
        source, sink = self._process.stdout, self._process.stdin
        if source is None or sink is None:
            raise OSError("it has no pipes")
        os.set_blocking(sink.fileno(), False)
        answer = bytearray()
        while not answer.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            readable, writable, _ = select.select([source], [sink] if line else [], [], left)
            if writable:
                line = line[os.write(sink.fileno(), line[:65536]) :]
            if readable:
                piece = os.read(source.fileno(), 65536)
                answer += piece
                if not piece:
                    raise OSError("it exited")
                if len(answer) > LONGEST:
                    raise OSError(f"it returned more than {LONGEST:,} bytes")
        told: dict[str, Value] = json.loads(answer)
        return told
