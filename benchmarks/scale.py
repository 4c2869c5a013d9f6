"""A batch through RabbitMQ, a consumer and Elasticsearch, beside what limits it and what is naive.

    benchmarks/scale.py                    all figures
    benchmarks/scale.py --only path        one part: path, submit, limits, load
    benchmarks/scale.py --quick            few lines: all works, speed is not judged

path: requests a second from the queue to the index, beside (a) the same documents sent to
Elasticsearch by `_bulk` and nothing else, and (b) a consumer that takes a message, asks, updates
its document, acknowledges, and takes the next. Rounds alternate; each figure is a median.
submit: a million lines of 1 KB, from the upload to the queue. limits: two consumers share 6,000
requests a minute, a budget and a quota. load: 200 clients poll and stream while a batch runs.

RabbitMQ, Redis, PostgreSQL and Elasticsearch are started for it, on this machine. Exit code 1, and
a sentence each, when a figure is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import scaled  # noqa: E402 - it needs the root on the path

PARTS = {
    "path": scaled.path,
    "submit": scaled.submit,
    "limits": scaled.limits,
    "load": scaled.load,
}


def main(arguments: list[str]) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few lines, speed is not judged")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    chosen = parser.parse_args(arguments)
    os.umask(0o022)  # Elasticsearch runs as somebody else
    build = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "wordmill-consumer"]
    subprocess.run(build, cwd=ROOT, check=True)
    figures = []
    for name in chosen.only.split(","):
        with tempfile.TemporaryDirectory(prefix="wordmill-bench-") as folder:
            figures += PARTS[name](Path(folder), chosen.quick)
    missed = [figure for figure in figures if not figure.met and not chosen.quick]
    for figure in figures:
        print(f"  {'MISSED' if figure in missed else 'met   '}  {figure}")
    print("All is as it must be." if not missed else f"Missed: {len(missed)} figures.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
