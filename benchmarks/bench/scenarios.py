"""What is run: scenarios, each with its contestants in turn, several rounds of them.

A round runs every contestant once, so that a change of the machine's mood meets all alike
(A B A B ..., not A A B B); whoever reads takes medians over the rounds.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import contestants, inputs
from bench.contestants import AIOHTTP, ENGINE, HYPER, PEERS, RECIPE, Contestant
from bench.measure import measure
from bench.places import BUILD
from bench.servers import Server
from drivers import contract


@dataclass(frozen=True)
class Scenario:
    """A way that the server behaves, and who meets it with how many requests.

    latency: milliseconds.  limit: requests that the server takes at once, 0 for any number.
    concurrency: 0 leaves it to the contestant.
    """

    name: str
    latency: int
    concurrency: int
    entries: tuple[tuple[Contestant, int], ...]
    limit: int = 0

    def ideal(self, requests: int) -> float:
        """Seconds that the requests need when every place is always taken; 0 at no latency."""
        return requests * self.latency / 1000 / self.concurrency if self.concurrency else 0.0

    def with_peers(self, requests: int = 5_000) -> "Scenario":
        """The same with the Python peers."""
        return replace(self, entries=self.entries + tuple((peer, requests) for peer in PEERS))

    def only(self, names: Collection[str]) -> "Scenario":
        """The same with the named contestants alone."""
        entries = tuple(entry for entry in self.entries if entry[0].name in names)
        return replace(self, entries=entries)

    def short(self) -> "Scenario":
        """The same with few requests: shows that all works, not how fast."""
        entries = tuple((one, max(100, requests // 100)) for one, requests in self.entries)
        return replace(self, entries=entries)


SPEED = Scenario(
    "0 ms x 256",
    latency=0,
    concurrency=256,
    entries=((HYPER, 100_000), (ENGINE, 100_000), (RECIPE, 20_000), (AIOHTTP, 20_000)),
)
LATENCY = Scenario(
    "200 ms x 256",
    latency=200,
    concurrency=256,
    entries=((HYPER, 20_000), (ENGINE, 20_000), (RECIPE, 20_000), (AIOHTTP, 20_000)),
)
WIDE = Scenario(
    "200 ms x 2,048",
    latency=200,
    concurrency=2_048,
    entries=((HYPER, 100_000), (ENGINE, 100_000), (AIOHTTP, 100_000)),
)
LIMITED = Scenario(
    "50 ms, 8 at once", latency=50, concurrency=0, entries=((ENGINE, 4_000),), limit=8
)
SMALL = Scenario(
    "10 thousand", latency=0, concurrency=256, entries=((ENGINE, 10_000), (RECIPE, 10_000))
)
LARGE = Scenario(
    "1 million", latency=0, concurrency=256, entries=((ENGINE, 1_000_000), (RECIPE, 1_000_000))
)

ONCE, AGAIN = "all requests", "the same records again"


@dataclass(frozen=True)
class Run:
    """One run of one contestant. Seconds and bytes; `fault` is "" or says what went wrong.

    window: first request at the server to last answer kept (for a recipe: to the end of the
    process, when the dataset stands).  first: spawn to first request.  cpu: of the whole tree.
    by_second: [answers, 429s] that the server gave in each second from the first request.
    """

    scenario: str
    contestant: str
    requests: int
    ideal: float
    answers: int
    wall: float
    window: float
    first: float
    cpu: float
    rss: int
    server_cpu: float
    foreign: float
    sent: int
    repeated: int
    highest_concurrency: int
    connections: int
    by_second: Sequence[Sequence[int]]
    fault: str = ""

    @property
    def rate(self) -> float:
        """Answers a second within the window."""
        return self.answers / self.window if self.window > 0 else 0.0

    @property
    def whole_rate(self) -> float:
        """Answers a second of the whole process."""
        return self.answers / self.wall if self.wall > 0 else 0.0

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds for 1,000 requests."""
        return self.cpu * 1000 / self.requests

    @property
    def over_ideal(self) -> float:
        """The window as a multiple of the ideal."""
        return self.window / self.ideal if self.ideal else 0.0

    @property
    def whole_over_ideal(self) -> float:
        """The whole process as a multiple of the ideal."""
        return self.wall / self.ideal if self.ideal else 0.0


def play(scenario: Scenario, rounds: int, server: Server, home: Path) -> Iterator[Run]:
    """All runs of a scenario, round by round. home: see `contestants.make_home`."""
    for turn in range(rounds):
        for contestant, requests in scenario.entries:
            with fresh_folder() as folder:
                contestants.prepare(contestant, folder, home)
                yield run(scenario, contestant, requests, server, folder, turn)


def play_again(requests: int, server: Server) -> Iterator[Run]:
    """The engine twice on the same records: the second run proves that all answers were kept."""
    with fresh_folder() as folder:
        for name in (ONCE, AGAIN):
            yield run(Scenario(name, 0, 256, ()), ENGINE, requests, server, folder, 0)


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """An empty folder for one run, on the disk where everything else is."""
    runs = BUILD / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=runs, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def run(
    scenario: Scenario,
    contestant: Contestant,
    requests: int,
    server: Server,
    output: Path,
    turn: int,
) -> Run:
    """One run against the server, which is reset first."""
    job = contract.Job(
        base_url=server.base_url,
        input=inputs.requests_file(requests),
        output=output,
        concurrency=scenario.concurrency,
        requests=requests,
    )
    server.reset(scenario.latency, scenario.limit)
    before = server.cpu()
    measured = measure(
        contestant.command(job), output, contestant.variables(output), [server.process.pid]
    )
    server_cpu = server.cpu() - before
    stats = server.stats()
    fault, counts = "", {"answers": 0.0, "mismatched": 0.0}
    if measured.code:
        words = " ".join((measured.errors or measured.output).split())[-400:]
        fault = f"exit code {measured.code}: {words}"
    else:
        try:
            counts = contestants.counts(contestant, job, measured.output)
        except (ValueError, OSError) as error:
            fault = str(error)
    lost = requests - counts["answers"] - counts["mismatched"]
    if not fault and (lost or counts["mismatched"]):
        fault = f"{lost:.0f} answers lost, {counts['mismatched']:.0f} to another request"
    began = stats["first_request"] or measured.started
    done = Run(
        scenario=scenario.name,
        contestant=contestant.name,
        requests=requests,
        ideal=scenario.ideal(requests),
        answers=int(counts["answers"]),
        wall=measured.wall,
        window=counts.get("last", measured.ended) - began,
        first=began - measured.started,
        cpu=measured.cpu,
        rss=measured.rss,
        server_cpu=server_cpu,
        foreign=measured.foreign,
        sent=stats["requests"],
        repeated=stats["repeated"],
        highest_concurrency=stats["highest_concurrency"],
        connections=stats["connections"],
        by_second=stats["by_second"],
        fault=fault,
    )
    print(
        f"{scenario.name}, round {turn + 1}, {contestant.name}: "
        + (
            fault
            or f"{done.rate:,.0f} requests/s, {done.wall:.2f} s, {done.cpu_per_1000:.3f} CPU s/1k"
        ),
        file=sys.stderr,
        flush=True,
    )
    return done
