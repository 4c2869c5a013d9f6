"""The command: see the package."""

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import tests.chaos as about
from tests.chaos.run import chaos

ROOT = Path(__file__).parents[2]


def main(arguments: list[str]) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=about.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=240.0, help="that blows fall")
    parser.add_argument("--patience", type=float, default=1200.0, help="seconds in all")
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}")
    folder = tempfile.mkdtemp(prefix="chaos-")
    try:
        chaos(
            Path(folder), ROOT / "target/release/wordmill-consumer", chosen.seed,
            chosen.requests, chosen.seconds, chosen.patience,
        )  # fmt: skip
    except (AssertionError, TimeoutError) as wrong:
        print(f"{wrong}\nThe logs are in {folder}; again with --seed {chosen.seed}.")
        return 1
    shutil.rmtree(folder)
    print("All is as it must be.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
