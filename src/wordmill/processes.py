"""Programs of others, started with what they need and no more.

Nothing goes through a shell. A program gets a folder of its own, the few variables that any program
wants, and ceilings on what it may take; it sees none of our secrets. This file is also the small
program that sets the ceilings and then becomes the other one, so that nothing of ours runs between
a fork and it.
"""

import os
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def found(program: str) -> str | None:
    """Where a program is: its path, if it is there and may be run."""
    return shutil.which(program, path=os.environ.get("PATH", os.defpath))


def bounded(program: str, arguments: Sequence[str], ceilings: Ceilings | None = None) -> list[str]:
    """The command that runs a program under ceilings. program: as `found` gave it."""
    most = ceilings or Ceilings()
    numbers = [str(number) for number in (most.memory, most.file, most.files)]
    # -I: nothing of the current folder or of our variables; -S: no site, so it starts at once.
    return [sys.executable, "-I", "-S", __file__, *numbers, program, *arguments]


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


if __name__ == "__main__":
    _become(sys.argv[1:])
