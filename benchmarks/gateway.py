"""What the gateway adds: time to the first token, and many streams at once.

    benchmarks/gateway.py              both figures
    benchmarks/gateway.py --quick      few requests: all works, nothing is judged but the words

The same rehearsal server is asked directly and through `wordmill serve`, in turn, one request at a
time, over connections that stay open. Then many stream at once through the one process, and every
answer must be, word for word, what the server says directly. Prints the figures; exit code 1, and
a sentence each, when one is missed.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from bench import servers
from bench.measure import cpu_seconds

ADDED: float = 5.0
"""Milliseconds that the median first token may come later."""
STREAMS: int = 300
"""Answers that stream at once."""

LONG = "12s"
"""What each of many answers takes: the last one begins before the first one ends."""
MOST_SAID = 20
"""Faults that are printed; the last ones are the missed figures."""

PROGRAM = str(Path(sys.executable).parent / "wordmill")
MODEL = "bench"


@dataclass
class Heard:
    """A streamed answer. first, seconds: from the request on.  begun, ended: of one clock."""

    question: str
    begun: float
    first: float = 0.0
    ended: float = 0.0
    texts: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    finishes: list[str] = field(default_factory=list)
    fault: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)

    def hear(self, line: bytes) -> bool:
        """One line of the stream; whether it was the last."""
        if not line.startswith(b"data: "):
            return False
        if line.startswith(b"data: [DONE]"):
            return True
        chunk = json.loads(line[6:])
        if "error" in chunk:
            self.fault = str(chunk["error"])
            return True
        self.names.add(chunk["id"])
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                self.first = self.first or time.perf_counter() - self.begun
                self.texts.append(text)
            if choice["finish_reason"]:
                self.finishes.append(choice["finish_reason"])
        return False

    def check(self) -> None:
        """Note when it is not one whole answer."""
        if not self.fault and (len(self.names) != 1 or self.finishes != ["stop"]):
            self.fault = f"{len(self.names)} answers in one, ended by {self.finishes}"


class Connection:
    """HTTP/1.1, one request after another, as little in between as can be."""

    def __init__(self, url: str, key: str = "none") -> None:
        self._url, self._key = urlsplit(url), key
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> "Connection":
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(
            self._url.hostname, self._url.port, limit=1 << 20
        )
        return self

    async def ask(self, question: str) -> Heard:
        """Stream one answer."""
        body = {
            "model": MODEL,
            "stream": True,
            "messages": [{"role": "user", "content": question}],
        }
        data = json.dumps(body).encode()
        head = (
            f"POST {self._url.path}/chat/completions HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            f"Authorization: Bearer {self._key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        heard = Heard(question, time.perf_counter())
        self._writer.write(head.encode() + data)
        status = await self._reader.readline()
        if b" 200 " not in status:
            heard.fault = status.decode().strip()
            return heard
        while (await self._reader.readline()).strip():
            pass
        ended = False
        while size := int(await self._reader.readline(), 16):
            piece = await self._reader.readexactly(size + 2)
            for line in piece[:-2].split(b"\n"):
                ended = heard.hear(line) or ended
        await self._reader.readline()
        heard.ended = time.perf_counter()
        if not ended:
            heard.fault = heard.fault or "it ended without [DONE]"
        heard.check()
        return heard

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


@contextmanager
def gateway(upstream: str) -> Iterator[tuple[str, str, int]]:
    """`wordmill serve` with one model, in a data folder of its own: address, key, process."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "wordmill.toml").write_text(
            f'[models.{MODEL}]\nbase_url = "{upstream}"\nmodel = "{MODEL}"\n'
        )
        port = servers.free_port()
        plain = {name: v for name, v in os.environ.items() if not name.startswith("WORDMILL_")}
        environment = {
            **plain,
            "WORDMILL_HOME": f"{folder}/home",
            "WORDMILL_ADMIN_EMAIL": "bench@example.org",
            "WORDMILL_ADMIN_PASSWORD": "a password of the bench",
            "WORDMILL_LOG_FORMAT": "json",
        }
        command = [PROGRAM, "serve", "--port", str(port), "--no-open"]
        with (
            (Path(folder) / "log").open("w") as log,
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log
            ) as process,
        ):
            try:
                _wait(f"http://127.0.0.1:{port}/health/ready", process)
                made = [PROGRAM, "keys", "create", "bench", "--person", "bench@example.org"]
                key = subprocess.run(
                    made, cwd=folder, env=environment, check=True, capture_output=True, text=True
                ).stdout.strip()
                yield f"http://127.0.0.1:{port}/v1", key, process.pid
            finally:
                process.terminate()
                process.wait(30)


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while True:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError) as error:
            if time.monotonic() > end or process.poll() is not None:
                raise TimeoutError(f"{process.args!r} does not answer: {error}") from error
            time.sleep(0.05)


async def first_tokens(direct: str, through: str, key: str, rounds: int) -> list[list[Heard]]:
    """Pairs of answers to the same question: direct, through the gateway."""
    first, second = await Connection(direct).open(), await Connection(through, key).open()
    pairs = []
    for number in range(rounds + 20):
        question = f"Tell me story number {number}."
        order = (first, second) if number % 2 else (second, first)
        heard = [await one.ask(question) for one in order]
        pairs.append(heard if number % 2 else heard[::-1])
    first.close()
    second.close()
    return pairs[20:]  # the first ones open connections and load what is needed


async def at_once(through: str, key: str, streams: int) -> list[Heard]:
    """Many streams at the same time, each over its own connection.

    One answer goes before: the engine sends a model three requests until it knows that it answers.
    """
    first = await Connection(through, key).open()
    await first.ask("Tell me nothing.")
    first.close()
    connections = [await Connection(through, key).open() for _ in range(streams)]
    heard = await asyncio.gather(
        *(one.ask(f"Tell me tale number {number}.") for number, one in enumerate(connections))
    )
    for one in connections:
        one.close()
    return heard


async def directly(url: str, questions: list[str]) -> list[Heard]:
    """What the server itself says."""
    connection = await Connection(url).open()
    heard = [await connection.ask(question) for question in questions]
    connection.close()
    return heard


def overlap(heard: list[Heard]) -> int:
    """The most that were streaming at one moment: their first word had come, not their last."""
    moments = [(one.begun + one.first, 1) for one in heard] + [(one.ended, -1) for one in heard]
    open_now = most = 0
    for _, change in sorted(moments):
        open_now += change
        most = max(most, open_now)
    return most


def main(arguments: list[str]) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few requests, speed is not judged")
    quick = parser.parse_args(arguments).quick
    rounds, streams = (20, 30) if quick else (400, STREAMS)
    found: list[str] = []
    everywhere = os.sched_getaffinity(0)
    with (
        servers.rehearsal_server(everywhere) as server,
        gateway(server.base_url) as (through, key, _),
    ):
        pairs = asyncio.run(first_tokens(server.base_url, through, key, rounds))
    found += [f"{one.question} {one.fault}." for pair in pairs for one in pair if one.fault]
    found += [
        f"{direct.question} The answers differ." for direct, ours in pairs
        if direct.text != ours.text
    ]  # fmt: skip
    direct, ours = ([1000 * pair[side].first for pair in pairs] for side in (0, 1))
    added = statistics.median(ours) - statistics.median(direct)
    print(
        f"first token, median of {rounds}: direct {statistics.median(direct):.2f} ms, through the "
        f"gateway {statistics.median(ours):.2f} ms; added {added:.2f} ms, at most {ADDED:.0f}"
    )
    print(
        f"first token, 95th percentile: direct {_late(direct):.2f} ms, through the gateway "
        f"{_late(ours):.2f} ms"
    )
    if added > ADDED and not quick:
        found.append(f"Missed: the gateway adds {added:.2f} ms to the first token.")

    with servers.rehearsal_server(everywhere, "--latency", LONG) as slow:
        with gateway(slow.base_url) as (through, key, pid):
            used = cpu_seconds(pid)
            heard = asyncio.run(at_once(through, key, streams))
            used = cpu_seconds(pid) - used
        upstream = slow.stats()
    with servers.rehearsal_server(everywhere) as server:
        wanted = asyncio.run(directly(server.base_url, [one.question for one in heard]))
    for one, right in zip(heard, wanted, strict=True):
        if one.fault or one.text != right.text:
            found.append(f"{one.question} {one.fault or 'Not what the server said'}.")
    most = overlap(heard)
    took = max(one.ended for one in heard) - min(one.begun for one in heard)
    chunks = sum(len(one.texts) for one in heard)
    print(
        f"{streams} streams: {most} at one moment, {chunks:,} chunks in {took:.1f} s, "
        f"{used:.1f} s of CPU; first tokens from {min(one.first for one in heard):.2f} to "
        f"{max(one.first for one in heard):.2f} s; the server had "
        f"{upstream['highest_concurrency']} requests at one moment"
    )
    if most < streams and not quick:
        found.append(f"Missed: {most} streams at once, not {streams}.")
    print("\n".join(found[-MOST_SAID:] or ["All is as it must be."]))
    return 1 if found else 0


def _late(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
