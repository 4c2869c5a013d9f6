"""What was measured, for people and for the page: text, Markdown and JSON of the same."""

import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.scenarios import AGAIN, ONCE, Run
from bench.targets import Figure, Runs, number

HEADER = (
    "tool",
    "requests",
    "requests/s",
    "wall s",
    "over ideal",
    "first s",
    "CPU s/1k",
    "peak MB",
    "foreign",
)
LOUD = 0.3
"""Cores of foreign work from which on a run reads as slower than it is."""


@dataclass(frozen=True)
class Report:
    """Everything about one call of the benchmarks.

    judged: False when there were too few requests for the figures to say anything.
    """

    machine: str
    judged: bool
    versions: Mapping[str, str]
    runs: Sequence[Run]
    figures: Sequence[Figure]

    def write(self, file: Path) -> None:
        """Keep it as JSON."""
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")


def read(file: Path) -> Report:
    """A report that `write` has kept."""
    kept = json.loads(file.read_text())
    return Report(
        machine=kept["machine"],
        judged=kept["judged"],
        versions=kept["versions"],
        runs=[Run(**run) for run in kept["runs"]],
        figures=[Figure(**figure) for figure in kept["figures"]],
    )


def machine() -> str:
    """One line about where this runs."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True)
    cores = len(os.sched_getaffinity(0))
    return (
        f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        + " ".join(rustc.stdout.split()[:2])
    )


def rows(runs: Sequence[Run], scenario: str) -> list[tuple[str, ...]]:
    """The table of a scenario: medians, a row a contestant, in the order they ran."""
    told = Runs(runs)
    names = dict.fromkeys(run.contestant for run in runs if run.scenario == scenario)
    table = []
    for name in names:
        good = told.of(scenario, name)
        if not good:
            fault = next(
                run.fault for run in runs if (run.scenario, run.contestant) == (scenario, name)
            )
            table.append((name, "failed: " + fault[-100:], *[""] * (len(HEADER) - 2)))
            continue
        table.append(
            (
                name,
                f"{good[0].requests:,}",
                f"{median(run.rate for run in good):,.0f}",
                f"{median(run.wall for run in good):.2f}",
                f"{median(run.over_ideal for run in good):.3f}" if good[0].ideal else "",
                f"{median(run.first for run in good):.2f}",
                f"{median(run.cpu_per_1000 for run in good):.3f}",
                f"{median(run.rss for run in good) / 1e6:.0f}",
                f"{median(run.foreign for run in good):.2f}",
            )
        )
    return table


def _title(runs: Sequence[Run], scenario: str) -> str:
    counted = Counter(run.contestant for run in runs if run.scenario == scenario)
    rounds = max(counted.values())
    return scenario + (f", medians of {rounds} alternating runs" if rounds > 1 else ", one run")


def scenarios(runs: Sequence[Run]) -> list[str]:
    """Names of the scenarios that have a table, in the order they ran."""
    return [
        name for name in dict.fromkeys(run.scenario for run in runs) if name not in (ONCE, AGAIN)
    ]


def text(report: Report) -> str:
    """For a terminal."""
    parts = [report.machine]
    if not report.judged:
        parts.append("too few requests for the figures to say anything")
    parts.append("")
    parts += [f"{name}: {words}" for name, words in report.versions.items()]
    for scenario in scenarios(report.runs):
        table = [HEADER, *rows(report.runs, scenario)]
        widths = [max(len(row[at]) for row in table if row[2]) for at in range(len(HEADER))]
        parts += ["", _title(report.runs, scenario)]
        for row in table:
            cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            parts.append("  " + row[0].ljust(max(widths[0], 13)) + "  " + "  ".join(cells).rstrip())
    parts += ["", "figures"]
    for figure in report.figures:
        verdict = ("met" if figure.met else "MISSED") if report.judged else ""
        parts.append(f"  {verdict:<8}{figure}")
    if loud := {run.scenario for run in report.runs if run.foreign > LOUD}:
        parts += [
            "",
            f"Others used more than {LOUD} cores meanwhile in: {', '.join(sorted(loud))}.",
        ]
    return "\n".join(parts)


def markdown(report: Report) -> str:
    """For docs/benchmarks.md."""
    parts = [f"{report.machine}."]
    for scenario in scenarios(report.runs):
        parts += [
            "",
            f"**{_title(report.runs, scenario)}**",
            "",
            _row(HEADER),
            _row(["---"] + ["--:"] * (len(HEADER) - 1)),
        ]
        parts += [_row(row) for row in rows(report.runs, scenario)]
    parts += ["", "| figure | measured | target | |", "|---|--:|--:|---|"]
    for figure in report.figures:
        bound = "≥" if figure.better == "more" else "≤"
        value, target = number(figure.value), number(figure.target)
        parts.append(
            _row(
                (
                    figure.what,
                    value + figure.unit,
                    f"{bound} {target}{figure.unit}",
                    "met" if figure.met else "missed",
                )
            )
        )
    parts += ["", "Versions: " + "; ".join(report.versions.values()) + "."]
    return "\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def write_page(page: Path, sections: Mapping[str, Report]) -> None:
    """Put reports into a page, each between `<!-- NAME -->` and `<!-- /NAME -->`."""
    words = page.read_text()
    for name, report in sections.items():
        opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = words.partition(opening)
        _, _, after = rest.partition(closing)
        words = f"{before}{opening}\n{markdown(report)}\n{closing}{after}"
    page.write_text(words)
