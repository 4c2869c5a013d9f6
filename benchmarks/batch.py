"""A batch on one machine: validated, sent, kept on the disk; and how fast lines are validated.

    benchmarks/batch.py                all figures
    benchmarks/batch.py --quick        few lines: all works, speed is not judged

The bare server answers at once. Each figure is the median of the rounds; the time of a batch is
from its order to its end, as the batch itself says. Prints the figures; exit code 1, and a
sentence each, when one is missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import inputs, servers
from bench.targets import Figure
from drivers import contract

RATE = 20_000
"""Requests a second, from the order to the last result on the disk."""
VALIDATED = 40_000
"""Lines a second that are validated and cut into blocks."""
RESIDENT = 300
"""Megabytes that validating a million lines may take."""

PROGRAM = str(Path(sys.executable).parent / "wordmill")
VALIDATE = Path(__file__).parent / "drivers" / "validate_driver.py"


def main(arguments: list[str]) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few lines, speed is not judged")
    quick = parser.parse_args(arguments).quick
    rounds, sent, validated = (1, 2_000, 5_000) if quick else (3, 100_000, 1_000_000)
    servers.build()
    rates = []
    with servers.bare_server() as server:
        for _ in range(rounds):
            server.reset()
            told = whole_batch(server, inputs.requests_file(sent, named=True))
            if told["counts"]["completed"] != sent:
                print(f"The batch answered {told['counts']['completed']:,} of {sent:,} requests.")
                return 1
            times = told["times"]
            rates.append(sent / (times["completed"] - times["validating"]))
    done = subprocess.run(
        [sys.executable, str(VALIDATE), str(inputs.requests_file(validated, named=True))],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    counted = json.loads(done.stdout)
    figures = [
        Figure("batch, requests a second to the disk", statistics.median(rates), RATE, "more"),
        Figure("lines validated a second", counted["rate"], VALIDATED, "more"),
        Figure("validating, resident", counted["megabytes"], RESIDENT, "less", " MB"),
    ]
    for figure in figures:
        print(figure)
    missed = [figure for figure in figures if not figure.met and not quick]
    for figure in missed:
        print(f"Missed: {figure}")
    inputs.remove_large()
    return 1 if missed else 0


def whole_batch(server: servers.Server, file: Path) -> dict[str, Any]:
    """Order a batch in a home of its own, and see it to its end; what it says of itself."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "WORDMILL_HOME": home}

        def run(*words: str) -> str:
            command = [PROGRAM, *words]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
            if done.returncode:
                raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
            return done.stdout

        run(
            "models", "add", contract.MODEL, "--provider", "openai", "--base-url", server.base_url,
            "--model", contract.MODEL, "--concurrency", "256",
        )  # fmt: skip
        run("batch", "submit", str(file))
        told: list[dict[str, Any]] = json.loads(run("batch", "list", "--json"))
        return told[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
