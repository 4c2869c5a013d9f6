"""One worker: a process with one model, started, watched and ended.

It says in a line of JSON where it listens, once its model is loaded; it ends when its standard
input does, when it is told to, and when this process ends. What it wrote last to standard error
is kept, to say why it ended.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from wordmill import processes
from wordmill.local_models.fit import size
from wordmill.model_server import memory, relay
from wordmill.model_server.types import Described

log = logging.getLogger(__name__)

TOKEN: Final = "WORDMILL_WORKER_TOKEN"  # noqa: S105  # a variable's name
LINES: Final = 40
"""Of a worker's last words, that are kept."""
LONGEST: Final = 1 << 20
"""Bytes of a line."""
KNOW: Final = 2.0
"""Seconds that a lost worker's end may take to be known."""
TERM, KILL = 3.0, 2.0
"""Seconds that a worker has to end by itself, and after SIGTERM."""
WARMING: Final = [{"role": "user", "content": "Hello"}]
_PASSED: Final = re.compile(
    r"CUDA_|NVIDIA_|HIP_|ROCR_|HSA_|OMP_|MKL_|ONEDNN_|OPENVINO_|LD_LIBRARY_PATH$|PYTORCH_|TORCH_|VIRTUAL_ENV$"
)

_STAMP: Final = re.compile(r"^[\d.]+ [A-Z] +|^The engine failed: ")
"""What stands before the words in a line of llama.cpp's log, and in our own."""

Command: TypeAlias = Callable[[Described], Sequence[str]]
"""What is run for a model: a program and its arguments."""


class WorkerFailed(Exception):
    """A worker did not come up. The message is its last words.

    lasting: it said itself that it cannot, so that another try would say the same.  memory: because
    there is too little of it, the machine's or a card's.
    """

    def __init__(self, words: str, *, lasting: bool = False, memory: bool = False) -> None:
        super().__init__(words)
        self.lasting, self.memory = lasting, memory


class Process:
    """A worker that runs. Made by `start`."""

    def __init__(self, model: Described, child: asyncio.subprocess.Process, token: str) -> None:
        self.model, self.token = model, token
        self._child = child
        self._words: deque[str] = deque(maxlen=LINES)
        self._told_to = False
        self._reason = ""
        self.ending = False
        """Whether it said that it is about to end."""
        self.port = 0
        self.slots = 1
        """Requests that it answers at once."""
        self.told: Mapping[str, Any] = {}
        """What it said when its model was loaded."""
        self.running = 0
        """Answers that are asked of it and not yet given."""
        self.peak = 0
        """Bytes, the most that was seen."""
        self.asked: float | None = None
        """Since when a question has no answer (monotonic)."""
        self.since = time.time()
        self.shown: Mapping[str, Any] = {}
        """Its figures, as it last gave them."""
        self._reading = [asyncio.create_task(self._listen())]

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._child.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._child.returncode is not None

    @property
    def meant(self) -> bool:
        """Whether it was told to end."""
        return self._told_to

    def resident(self) -> int:
        """Bytes that it has in memory now."""
        now = 0 if self.ended else memory.resident(self.pid)
        self.peak = max(self.peak, now)
        return now

    async def wait(self) -> int:
        """Its return code, when it has ended; negative for a signal."""
        return await self._child.wait()

    def why(self) -> str:
        """How it ended, in words."""
        if self._reason:
            return self._reason
        code, short = self._child.returncode, self._short_words()
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            if name == "SIGKILL":
                had = f" with {size(self.peak)} of memory" if self.peak else ""
                return f"it was killed{had}; where memory is short, the system does that"
            if not short:
                return f"it was ended by the signal {name}"
        if short:
            return f"it ran out of memory ({short})"
        said = self.last_words()
        return f"it ended with the code {code}" + (f": {said}" if said else "")

    @property
    def short(self) -> bool:
        """Whether it ended for lack of memory, as far as that can be known."""
        killed = self._child.returncode == -signal.SIGKILL and not (self._reason or self._told_to)
        return killed or bool(self._short_words())

    def _short_words(self) -> str:
        """Of what it wrote last, what tells of a lack of memory; "" for nothing."""
        for line in reversed(self._words):
            if memory.is_short(line):
                return _STAMP.sub("", line.strip()).rstrip(".")[:500]
        return ""

    def last_words(self) -> str:
        """What it wrote last to standard error, in a line; "" for nothing."""
        for line in reversed(self._words):
            if line.strip():
                return line.strip()[:500]
        return ""

    async def get(self, path: str, seconds: float) -> Mapping[str, Any]:
        """What it says of itself. Raises WorkerLost, TimeoutError."""
        self.asked = self.asked or time.monotonic()
        async with asyncio.timeout(seconds):
            answer = await relay.ask(self.port, self.token, "GET", path)
            try:
                body = await answer.whole()
            finally:
                answer.close()
        self.asked = None
        try:
            value = json.loads(body)
        except ValueError as error:
            raise relay.WorkerLost("no JSON") from error
        return value if isinstance(value, dict) else {}

    async def warm(self) -> None:
        """Let it say one token, so that nobody waits for what is made at the first one.

        Raises WorkerLost when that is more than it can bear.
        """
        tasks = (self.told.get("capabilities") or {}).get("tasks", ["chat"])
        if "chat" not in tasks:
            return
        body = {"model": self.model.name, "messages": WARMING, "max_tokens": 1}
        answer = await relay.ask(
            self.port, self.token, "POST", "/v1/chat/completions", json.dumps(body).encode()
        )
        try:
            await answer.whole()  # a refusal is no fault of the worker's
        finally:
            answer.close()

    async def stop(self, patience: float = TERM) -> None:
        """End it: its input closes, then SIGTERM, then SIGKILL; to all that it started."""
        self._told_to = True
        if not self.ended:
            if self._child.stdin is not None:
                self._child.stdin.close()
            for number, seconds in ((None, patience), (signal.SIGTERM, KILL)):
                if number is not None:
                    self._signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._child.wait()
                if self.ended:
                    break
        self._signal(signal.SIGKILL)  # also what it may have started itself
        await self._child.wait()
        for task in self._reading:
            task.cancel()

    def kill(self, reason: str) -> None:
        """End it now. reason: why, as "it ..."."""
        self._reason = reason
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _listen(self) -> None:
        stderr = self._child.stderr
        while stderr is not None:
            try:
                line = await stderr.readline()
            except ValueError:  # longer than the buffer: it is dropped
                continue
            if not line:
                return
            self._words.append(line.decode("utf-8", "replace").rstrip())
            log.debug("%s: %s", self.model.name, self._words[-1])

    async def ready(self) -> None:
        """Wait until it says where it listens. Raises WorkerFailed."""
        stdout = self._child.stdout
        while stdout is not None:
            try:
                line = await stdout.readline()
            except ValueError:
                continue
            if not line:
                await self._over()
                raise WorkerFailed(self.why(), memory=self.short)
            try:
                told = json.loads(line)
            except ValueError:
                continue  # a library that prints
            if isinstance(told, dict) and "error" in told:
                words, short = str(told["error"]), bool(told.get("memory"))
                if not short:  # a library may have told nobody but standard error
                    await self._over()
                    if said := self._short_words():
                        words, short = f"there is not enough memory to load it ({said})", True
                raise WorkerFailed(words, lasting=True, memory=short)
            if isinstance(told, dict) and isinstance(told.get("port"), int):
                self.told, self.port = told, told["port"]
                self._reading.append(asyncio.create_task(self._drain()))
                return

    async def _over(self) -> None:
        """Wait until it has ended and its last words are read."""
        await asyncio.wait([asyncio.create_task(self.wait())], timeout=KILL)
        await asyncio.wait(self._reading, timeout=1.0)

    async def _drain(self) -> None:
        """Read on, so that what it prints does not fill the pipe."""
        while self._child.stdout is not None and await self._child.stdout.read(4096):
            pass


async def start(model: Described, command: Command, seconds: float) -> Process:
    """Start a worker and wait until its model is loaded. Raises WorkerFailed.

    seconds: that loading may take.
    """
    token = secrets.token_urlsafe(24)
    passed = {name: value for name, value in os.environ.items() if _PASSED.match(name)}
    extra = {**passed, TOKEN: token, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        if name in os.environ:
            extra[name] = os.environ[name]
    try:
        child = await asyncio.create_subprocess_exec(
            *processes.attached(command(model)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=processes.environment(extra),
            start_new_session=True,
            limit=LONGEST,
        )
    except OSError as error:
        raise WorkerFailed(f"its process cannot start: {error.strerror}") from error
    one = Process(model, child, token)
    try:
        async with asyncio.timeout(seconds):
            await one.ready()
            health = await one.get("/health", seconds)
            await one.warm()
    except TimeoutError as error:
        await one.stop(0.0)
        words = f"it was not loaded after {seconds:g} s (setting local_load_seconds)"
        raise WorkerFailed(words) from error
    except relay.WorkerLost as error:
        await asyncio.wait([asyncio.create_task(one.wait())], timeout=KNOW)
        words = one.why() if one.ended else f"it does not answer: {error}"
        short = one.ended and one.short
        await one.stop(0.0)
        raise WorkerFailed(words, memory=short) from error
    except BaseException:
        await one.stop(0.0)
        raise
    one.slots = _slots({**one.told, **health})
    one.resident()
    return one


def _slots(told: Mapping[str, Any]) -> int:
    slots = told.get("slots")
    if isinstance(slots, Mapping):
        slots = slots.get("all")
    return slots if isinstance(slots, int) and slots > 0 else 1
