"""Measure Wordmill and what it is compared with, all against one bare server.

    benchmarks/run.py                  ours, the hyper client, aiohttp, limits, the rehearsal model
    benchmarks/run.py --peers          the Python tools too (installed on first use)
    benchmarks/run.py --only memory    1 million requests and rows; not part of the others
    benchmarks/run.py --quick          few requests, one round: all works and counts right
    benchmarks/run.py --docs           write what was measured last into docs/benchmarks.md

Prints tables and figures, keeps every run in build/bench/NAME.json. Exit code 1, and a sentence
each, when a figure is missed or a run went wrong; with --quick only the latter counts.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench import contestants, inputs, report, scenarios, servers, targets
from bench.places import BUILD, ROOT
from bench.scenarios import Run, Scenario
from bench.targets import Figure

GROUPS = ("server", "speed", "latency", "limits", "again", "rehearsal", "memory")
ALL = tuple(contestants.BY_NAME)
USUAL = tuple(group for group in GROUPS if group != "memory")


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    peers: bool
    quick: bool
    rounds: int
    only: tuple[str, ...]
    tools: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the file that keeps the results."""
        parts = ["bench", *(["peers"] if self.peers else []), *(["quick"] if self.quick else [])]
        parts += () if self.only == USUAL else self.only
        parts += () if self.tools == ALL else ("some-tools",)
        return "-".join(parts)


def plan(options: Options) -> list[tuple[Scenario, int]]:
    """Scenarios with their rounds, in order."""
    chosen: list[tuple[Scenario, int]] = []
    if "speed" in options.only:
        chosen.append((scenarios.SPEED, options.rounds))
    if "latency" in options.only:
        chosen.append((scenarios.LATENCY, options.rounds))
    if options.peers:
        chosen = [(scenario.with_peers(), rounds) for scenario, rounds in chosen]
    if "latency" in options.only:
        chosen.append((scenarios.WIDE, options.rounds))
    if "limits" in options.only:
        chosen.append((scenarios.LIMITED, 1))
    if "memory" in options.only:
        chosen += [(scenarios.SMALL, 1), (scenarios.LARGE, 1)]
    chosen = [(scenario.only(options.tools), rounds) for scenario, rounds in chosen]
    return [
        (scenario.short() if options.quick else scenario, rounds) for scenario, rounds in chosen
    ]


def cores() -> tuple[set[int], set[int]]:
    """One core for a server and the others for its load; the same where there is one only."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def server_figures(server: servers.Server, options: Options) -> list[Figure]:
    """That the bare server is not what limits the others."""
    server.reset()
    mine, theirs = cores()
    os.sched_setaffinity(server.process.pid, mine)
    rate = servers.load(server.url, inputs.body_file(), theirs, _seconds(options))["rate"]
    os.sched_setaffinity(server.process.pid, mine | theirs)
    return [Figure("bare server, answers/s on one core", rate, targets.SERVER_RATE, "more")]


def rehearsal_figures(options: Options) -> list[Figure]:
    """What the rehearsal model gives on one core."""
    mine, theirs = cores()
    found = []
    with servers.rehearsal_server(mine) as server:
        for kind, schema, target in (
            ("text", False, targets.REHEARSAL_TEXT),
            ("a schema", True, targets.REHEARSAL_SCHEMA),
        ):
            body = inputs.body_file(schema=schema)
            counts = servers.load(server.url, body, theirs, _seconds(options))
            what = f"rehearsal model, answers/s on one core, {kind}"
            rate = 0.0 if counts["failed"] else counts["rate"]
            found.append(Figure(what, rate, target, "more"))
    return found


def _seconds(options: Options) -> float:
    return 0.3 if options.quick else 3.0


def run(options: Options) -> report.Report:
    """Everything that was asked for."""
    servers.build()
    chosen = plan(options)
    taking_part = {one.name: one for scenario, _ in chosen for one, _ in scenario.entries}
    contestants.install(taking_part.values())
    runs: list[Run] = []
    figures: list[Figure] = []
    if "rehearsal" in options.only:
        figures += rehearsal_figures(options)
    with servers.bare_server() as server, scenarios.fresh_folder() as home:
        if "server" in options.only:
            figures += server_figures(server, options)
        if "recipe" in taking_part:
            contestants.make_home(home, server.base_url)
        for scenario, rounds in chosen:
            runs += scenarios.play(scenario, rounds, server, home)
        if "again" in options.only:
            runs += scenarios.play_again(200 if options.quick else 20_000, server)
    inputs.remove_large()
    return report.Report(
        machine=report.machine(),
        judged=not options.quick,
        versions={name: one.versions() for name, one in taking_part.items()},
        runs=runs,
        figures=[*figures, *targets.figures(targets.Runs(runs))],
    )


def faults(done: report.Report) -> list[str]:
    """A sentence for all that is not as it must be."""
    found = [f"{one.contestant}, {one.scenario}: {one.fault}." for one in done.runs if one.fault]
    if done.judged:
        found += [f"Missed: {figure}." for figure in done.figures if not figure.met]
    return found


def write_docs() -> None:
    """Fill docs/benchmarks.md from what is kept."""
    kept = {name: BUILD / f"{name}.json" for name in ("bench", "bench-peers", "bench-memory")}
    found = {name: report.read(file) for name, file in kept.items() if file.exists()}
    report.write_page(ROOT / "docs" / "benchmarks.md", found)


def main(arguments: Sequence[str]) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", action="store_true", help="the Python tools too")
    parser.add_argument(
        "--quick", action="store_true", help="few requests, nothing judged but counts"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="alternating runs; 5")
    parser.add_argument(
        "--only", default=",".join(USUAL), metavar="GROUP,...", help=", ".join(GROUPS)
    )
    parser.add_argument("--tools", default=",".join(ALL), metavar="TOOL,...", help=", ".join(ALL))
    parser.add_argument(
        "--inputs", type=int, metavar="N", help="write a file of N requests, no more"
    )
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md, no more")
    asked = parser.parse_args(arguments)
    if asked.inputs:
        print(
            inputs.requests_file(asked.inputs), inputs.body_file(), inputs.recipe_file(), sep="\n"
        )
        return 0
    if asked.docs:
        write_docs()
        return 0
    only, tools = tuple(asked.only.split(",")), tuple(asked.tools.split(","))
    for kind, names, known in (("group", only, GROUPS), ("tool", tools, ALL)):
        if unknown := set(names) - set(known):
            parser.error(f"there is no {kind} {min(unknown)!r}: {', '.join(known)}")
    rounds = 1 if asked.quick else asked.rounds
    options = Options(asked.peers, asked.quick, rounds, only, tools)
    try:
        done = run(options)
    except (RuntimeError, TimeoutError) as error:  # a server or a model that is not there
        print(error, file=sys.stderr)
        return 1
    done.write(BUILD / f"{options.name}.json")
    print(report.text(done))
    found = faults(done)
    well = "All is as it must be." if done.judged else "Every run counted right."
    print("\n" + "\n".join(found or [well]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
