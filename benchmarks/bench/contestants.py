"""Who is measured: how each is called, where it lives, and which version it is.

All but the recipe follow `drivers/contract.py`; the recipe is the command line as a person types
it, and its dataset is checked here.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Literal

from bench.inputs import recipe_file
from bench.places import BENCHMARKS, BINARIES, DRIVERS, MANIFEST, ROOT, SETUP, VENVS
from drivers import contract

Group = Literal["ours", "limit", "client", "data tool"]
WORDMILL = Path(sys.executable).parent / "wordmill"


@dataclass(frozen=True)
class Contestant:
    """One tool. `packages`: distributions whose versions are printed, the tool itself first.

    environment: variables for its process; "{output}" stands for the output folder.
    venv: its folder below build/bench/venvs, or "" for what needs none.
    """

    name: str
    group: Group
    packages: tuple[str, ...] = ()
    venv: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    def command(self, job: contract.Job) -> list[str | Path]:
        """What to run for a job."""
        if self.name == "recipe":
            command: list[str | Path] = [WORDMILL, "generate", recipe_file()]
            command += ["--rows", str(job.requests), "--out", job.output / "dataset"]
            return [*command, "--concurrency", str(job.concurrency)]
        options = ["--base-url", job.base_url, "--input", str(job.input)]
        if self.name == "hyper":
            return [BINARIES / "hyper-client", *options, "--connections", str(job.concurrency)]
        python = VENVS / self.venv / "bin" / "python" if self.venv else Path(sys.executable)
        options += ["--output", str(job.output), "--requests", str(job.requests)]
        options += ["--concurrency", str(job.concurrency)]
        return [python, DRIVERS / f"{self.name.replace('-', '_')}_driver.py", *options]

    def variables(self, output: Path) -> dict[str, str]:
        """The environment for a run that writes to `output`."""
        own = {name: value.format(output=output) for name, value in self.environment}
        return {"PYTHONPATH": str(BENCHMARKS), **own}

    def versions(self) -> str:
        """`name version` of its packages, as installed."""
        if self.name == "hyper":
            return f"hyper {_locked('hyper')}, tokio {_locked('tokio')}"
        if not self.venv:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            return f"wordmill {project['version']}"
        (folder,) = (VENVS / self.venv / "lib").glob("python*/site-packages")
        found = _installed(distributions(path=[str(folder)]))
        return ", ".join(f"{name} {found.get(name, 'absent')}" for name in self.packages)


def _installed(found: Iterable[Distribution]) -> Mapping[str, str]:
    return {one.metadata["Name"].lower().replace("_", "-"): one.version for one in found}


def _locked(crate: str) -> str:
    lines = MANIFEST.with_name("Cargo.lock").read_text().splitlines()
    at = lines.index(f'name = "{crate}"')
    return lines[at + 1].split('"')[1]


_TABLES = ("TIKTOKEN_CACHE_DIR", str(VENVS / "tiktoken"))
_OFFLINE = (("HF_HUB_OFFLINE", "1"), ("HF_HUB_DISABLE_TELEMETRY", "1"))
_LITELLM = (("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("LITELLM_TELEMETRY", "False"))

ENGINE = Contestant("engine", "ours")
RECIPE = Contestant(
    "recipe", "ours", environment=(("WORDMILL_HOME", "{output}/home"), ("NO_COLOR", "1"))
)
HYPER = Contestant("hyper", "limit")
AIOHTTP = Contestant("aiohttp", "client", ("aiohttp", "orjson"), "aiohttp")
PEERS = (
    Contestant("openai", "client", ("openai",), "openai"),
    Contestant("litellm", "client", ("litellm", "openai"), "litellm", _LITELLM),
    Contestant(
        "curator",
        "data tool",
        ("bespokelabs-curator", "litellm", "aiohttp"),
        "curator",
        (
            _TABLES,
            *_OFFLINE,
            *_LITELLM,
            ("TELEMETRY_ENABLED", "false"),
            ("CURATOR_DISABLE_RICH_DISPLAY", "1"),
            ("HF_HOME", "{output}/hf"),
        ),
    ),
    Contestant(
        "data-designer",
        "data tool",
        ("data-designer",),
        "data-designer",
        (
            _TABLES,
            *_OFFLINE,
            ("NEMO_TELEMETRY_ENABLED", "false"),
            ("DATA_DESIGNER_HOME", "{output}/home"),
        ),
    ),
    Contestant(
        "distilabel",
        "data tool",
        ("distilabel", "openai"),
        "distilabel",
        (*_OFFLINE, ("HF_HOME", "{output}/hf"), ("DISTILABEL_LOG_LEVEL", "WARNING")),
    ),
)
BY_NAME = {one.name: one for one in (ENGINE, RECIPE, HYPER, AIOHTTP, *PEERS)}


def install(contestants: Iterable[Contestant]) -> None:
    """Make the environments of those that need one; what is there costs nothing."""
    venvs = sorted({one.venv for one in contestants if one.venv})
    if venvs:
        environment = {**os.environ, "PYTHON": sys.executable}
        subprocess.run([str(SETUP), *venvs], check=True, env=environment)


def make_home(folder: Path, base_url: str) -> None:
    """A data folder for the recipe, with the bare server as its only model."""
    command = [str(WORDMILL), "models", "add", contract.MODEL, "--provider", "openai"]
    command += ["--base-url", base_url, "--model", contract.MODEL]
    environment = {**os.environ, "WORDMILL_HOME": str(folder)}
    added = subprocess.run(command, env=environment, capture_output=True, text=True)
    if added.returncode:
        raise RuntimeError(f"`wordmill models add` failed: {added.stderr.strip()}")


def prepare(contestant: Contestant, output: Path, home: Path) -> None:
    """What a run needs in its output folder before it starts: nothing, or a fresh data folder."""
    if contestant is RECIPE:
        shutil.copytree(home, output / "home")


def counts(contestant: Contestant, job: contract.Job, printed: str) -> dict[str, float]:
    """answers, mismatched and (but for a recipe, which ends with its dataset) last.

    Raises ValueError when the driver did not print its line.
    """
    if contestant is RECIPE:
        return check_dataset(job)
    for line in reversed(printed.splitlines()):
        if line.startswith("{"):
            found: dict[str, float] = json.loads(line)
            return found
    raise ValueError(f"{contestant.name} printed no counts: {printed[-400:]!r}")


def check_dataset(job: contract.Job) -> dict[str, float]:
    """Read a recipe's Parquet files: row n must hold the answer to the prompt of row n."""
    import pyarrow.parquet

    tally = contract.Tally(job.requests)
    for file in sorted((job.output / "dataset" / "data").glob("*.parquet")):
        for group in pyarrow.parquet.ParquetFile(file).iter_batches(columns=["row", "text"]):
            for row, text in zip(*(column.to_pylist() for column in group.columns), strict=True):
                tally.take(row, text)
    return {"answers": tally.answers, "mismatched": tally.mismatched}
