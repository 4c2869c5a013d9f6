"""Tiny models for the engines, made once: plain ones on the spot, converted ones in build/."""

import os
import subprocess
from collections.abc import Callable, Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from tests.servers import tiny_models
from wordmill.backends.base import Backend, Load, Options

ROOT = Path(__file__).parent.parent.parent
CONVERTED = ROOT / "build" / "tiny-openvino"
CONVERTER = ROOT / "build" / "venv-openvino-convert" / "bin" / "python"

Folders = Callable[[str], Path]


@pytest.fixture(scope="session")
def converted() -> Path:
    """Folders of OpenVINO's form, by family. Made by the converter's own environment, and kept."""
    CONVERTED.mkdir(parents=True, exist_ok=True)
    with (CONVERTED / "lock").open("w") as lock:
        flock(lock, LOCK_EX)  # the workers of pytest are processes
        if not (CONVERTED / "ready").exists():
            if not CONVERTER.exists():
                words = "scripts/local-models has not been run: there is no converter for OpenVINO"
                if os.environ.get("CI"):
                    raise AssertionError(words)
                pytest.skip(words)
            program = ROOT / "tests" / "servers" / "tiny_openvino.py"
            subprocess.run(
                [CONVERTER, program, CONVERTED], check=True, capture_output=True, timeout=600
            )
    return CONVERTED / "openvino"


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Folders of Hugging Face's layout, by family; `broken` has NaN in it."""
    place = tmp_path_factory.mktemp("plain")

    def folder(family: str) -> Path:
        made = place / family
        if not made.exists():
            broken = family == "broken"
            tiny_models.build(made, "llama" if broken else family, broken=broken)
        return made

    return folder


class Kept:
    """Loaded engines of a session, by model and options: each is loaded once."""

    def __init__(self, load: Load, folder: Folders) -> None:
        self._load, self._folder = load, folder
        self._held: dict[tuple[str, Options], Backend] = {}

    def __call__(self, family: str, options: Options) -> Backend:
        key = (family, options)
        if key not in self._held:
            self._held[key] = self._load(self._folder(family), options)
        return self._held[key]

    def close(self) -> None:
        for engine in self._held.values():
            engine.close()


@pytest.fixture(scope="session")
def keeping() -> Iterator[Callable[[Load, Folders], Kept]]:
    """Makes a `Kept` and closes it at the end."""
    made: list[Kept] = []

    def keep(load: Load, folder: Folders) -> Kept:
        made.append(Kept(load, folder))
        return made[-1]

    yield keep
    for one in made:
        one.close()
