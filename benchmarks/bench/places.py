"""Where the benchmarks keep what they make: everything under `build/bench`, nothing elsewhere."""

from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent
ROOT = BENCHMARKS.parent
BUILD = ROOT / "build" / "bench"
TARGET = BUILD / "target"
BINARIES = TARGET / "release"
VENVS = BUILD / "venvs"
DRIVERS = BENCHMARKS / "drivers"
SETUP = BENCHMARKS / "peers" / "setup.sh"
MANIFEST = BENCHMARKS / "servers" / "Cargo.toml"
