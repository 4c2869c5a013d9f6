"""Programs of others, started with what they need and no more.

Nothing goes through a shell. A program gets a folder of its own, the few variables that any program
wants, and ceilings on what it may take; it sees none of our secrets. This file is also the small
program that sets the ceilings and then becomes the other one, so that nothing of ours runs between
a fork and it.
"""

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ATTACHED = "--attached"
_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2): the signal that a process gets when its parent ends."""
_FIRST_TO_GO = "800"
"""Of 1000: how gladly the system ends a process where memory is short."""
_LATER = 5
"""Of 19: enough to come after a page that somebody waits for, and not to starve."""
_KEPT = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "USER")


@dataclass(frozen=True)
class Ceilings:
    """Of one process. memory: bytes of data that it may have.  file: bytes of one file that it
    writes.  files: open at once.
    """

    memory: int = 4 * 1024**3
    file: int = 1024**3
    files: int = 1024


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program of others gets of our variables, and what is meant for it."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, **(extra or {})}


def give_way() -> None:
    """Let this thread, and threads that it starts, come after others for the processor; on Linux,
    where a thread has a priority of its own.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LATER)


def found(program: str) -> str | None:
    """Where a program is: its path, if it is there and may be run."""
    return shutil.which(program, path=os.environ.get("PATH", os.defpath))


def bounded(program: str, arguments: Sequence[str], ceilings: Ceilings | None = None) -> list[str]:
    """The command that runs a program under ceilings. program: as `found` gave it."""
    most = ceilings or Ceilings()
    numbers = [str(number) for number in (most.memory, most.file, most.files)]
    # -I: nothing of the current folder or of our variables; -S: no site, so it starts at once.
    return [sys.executable, "-I", "-S", __file__, *numbers, program, *arguments]


def attached(command: Sequence[str]) -> list[str]:
    """The command that runs a process of our own which ends with the one that starts it, however
    that ends, and which the system ends first where memory is short (both on Linux alone).
    """
    return [sys.executable, "-I", "-S", __file__, _ATTACHED, str(os.getpid()), *command]


def _bound(resource_: int, most: int) -> None:
    hard = resource.getrlimit(resource_)[1]
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource_, (least, least))


def _become(arguments: Sequence[str]) -> None:
    memory, file, files = (int(number) for number in arguments[:3])
    command = list(arguments[3:])
    os.umask(0o077)
    _bound(resource.RLIMIT_CORE, 0)
    # Data and not addresses: what runs JavaScript reserves addresses that it never uses.
    _bound(resource.RLIMIT_DATA, memory)
    _bound(resource.RLIMIT_FSIZE, file)
    _bound(resource.RLIMIT_NOFILE, files)
    os.execve(command[0], command, dict(os.environ))  # noqa: S606 (no shell is what is wanted)


def _attach(arguments: Sequence[str]) -> None:
    parent, command = int(arguments[0]), list(arguments[1:])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write(_FIRST_TO_GO)
    if os.getppid() != parent:
        raise SystemExit(1)  # it has ended meanwhile
    os.execve(command[0], command, dict(os.environ))  # noqa: S606 (no shell is what is wanted)


if __name__ == "__main__":
    if sys.argv[1] == _ATTACHED:
        _attach(sys.argv[2:])
    _become(sys.argv[1:])
