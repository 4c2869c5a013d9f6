"""One process measured: time, CPU seconds and memory of its whole tree, and foreign load.

Linux only: `/proc` is where all of it stands. CPU seconds are those of the process and of every
descendant that was waited for. Memory is the peak of the resident sizes added up over the tree,
sampled every 50 ms, or the kernel's own high-water mark of one process where that is more.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAUSE = 0.05


@dataclass(frozen=True)
class Measured:
    """What a process used. Times in seconds, by `time.time()` where they are points in time.

    rss: bytes.  foreign: cores that others used meanwhile, on average; neither the process nor
    the harness nor the processes named as its `company`.
    """

    code: int
    started: float
    ended: float
    cpu: float
    rss: int
    foreign: float
    output: str
    errors: str

    @property
    def wall(self) -> float:
        """From spawn to exit."""
        return self.ended - self.started


def cpu_seconds(process: int) -> float:
    """User and system time of one living process and of its dead children."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * _TICK


def _busy() -> float:
    user, nice, system, _idle, _wait, irq, softirq = (
        int(field) for field in Path("/proc/stat").read_text().split(maxsplit=8)[1:8]
    )
    return (user + nice + system + irq + softirq) * _TICK


def _tree(root: int) -> list[int]:
    processes = [root]
    for process in processes:
        try:
            threads = list(Path(f"/proc/{process}/task").iterdir())
            for thread in threads:
                processes += map(int, (thread / "children").read_text().split())
        except OSError:  # it ended meanwhile
            continue
    return processes


def _memory(process: int) -> tuple[int, int]:
    """Resident size now and at its highest, in bytes."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0, 0
    sizes = dict.fromkeys(("VmRSS", "VmHWM"), 0)
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) * 1024
    return sizes["VmRSS"], sizes["VmHWM"]


class _Watch(threading.Thread):
    """Keeps the highest memory of a tree until it is told that the tree is gone."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.peak = 0
        self.gone = threading.Event()
        self.start()

    def run(self) -> None:
        while True:
            sizes = [_memory(process) for process in _tree(self.root)]
            self.peak = max(self.peak, sum(now for now, _ in sizes), *(high for _, high in sizes))
            if self.gone.wait(_PAUSE):
                return


def measure(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str],
    company: Sequence[int] = (),
    seconds: float = 900.0,
) -> Measured:
    """Run a command in an existing folder, to its end or for at most so many seconds (code -9).

    environment: added to this process's own.  company: processes that serve the measured one.
    """
    out, err = folder / "stdout", folder / "stderr"
    friends = (os.getpid(), *company)
    with out.open("wb") as stdout, err.open("wb") as stderr:
        busy = _busy() - sum(map(cpu_seconds, friends))
        started = time.time()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        watch = _Watch(process.pid)
        alarm = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            os.wait4(process.pid, 0)
            raise
        finally:
            ended = time.time()
            alarm.cancel()
            watch.gone.set()
            watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    # cpu_seconds(ourselves) holds the dead child's time too, so it is not taken off twice.
    foreign = (_busy() - sum(map(cpu_seconds, friends)) - busy) / (ended - started)
    return Measured(
        code=process.returncode,
        started=started,
        ended=ended,
        cpu=cpu,
        rss=watch.peak,
        foreign=max(0.0, foreign),
        output=out.read_text(errors="replace"),
        errors=err.read_text(errors="replace"),
    )
