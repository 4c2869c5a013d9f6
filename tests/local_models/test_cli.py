"""`wordmill models search|fit|fetch|...`, as a person types it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.typed import Typed, type_command
from tests.servers import tiny_models
from tests.servers.hub import Hub
from wordmill.settings import Settings

Models = Callable[..., Typed]
START = "from wordmill.cli import main; main()"
WEIGHTS = "?" * 64 + ".incomplete"
COMMAND = [sys.executable, "-c", START, "models", "fetch", "ann/tiny"]


@pytest.fixture
def models(settings: Settings, capsys: pytest.CaptureFixture[str], hub: Hub, llama: Path) -> Models:
    """`wordmill models ARGUMENTS`, with one model on the hub."""
    hub.put("ann/tiny", llama, downloads=1234)
    return lambda *arguments: type_command(capsys, "models", *map(str, arguments))


def test_from_the_search_to_the_end(models: Models, hub: Hub, tmp_path: Path) -> None:
    assert models("search", "tiny", "--max", "1M") == Typed(
        0,
        "model     parameters  task             licence     downloads\n"
        "ann/tiny  140K        text-generation  apache-2.0  1,234\n",
        "",
    )
    assert models("search", "tiny", "--min", "1M").out.splitlines()[1:] == []
    card = models("card", "ann/tiny").out
    assert card.startswith("# A tiny model\n")
    fit = models("fit", "ann/tiny", "--context", 128)
    assert fit.out.startswith("Yes: it takes 840 MB of memory (561 kB of weights as float32, 65.5")
    assert "\nint8       149 kB   32.8 kB  210 MB  yes   openvino\n" in fit.out
    done = models("fetch", "ann/tiny")
    assert (done.code, done.out) == (0, "tiny is here: 583 kB, apache-2.0.\n")
    assert re.search(r"^tiny +local +tiny +local:[0-9a-f]{12} ", models("list").out, re.MULTILINE)
    assert json.loads(models("fit", "tiny", "--json").out)["verdict"] == "yes"
    assert models("set", "tiny", "threads=2", "pinned=yes", "dtype=bf16").out == (
        "threads: 2\npinned: yes\ndtype: bfloat16\n"
    )
    assert models("set", "tiny", "threads").err == (
        "error: 'threads' is not written NAME=VALUE, as threads=4.\n"
    )
    assert models("update", "tiny", "--check").out == "Nothing is newer than tiny.\n"
    newer = tiny_models.build(tmp_path / "newer", seed=1)
    hub.put("ann/tiny", newer, "Better \x1b[31mwords")
    told = models("update", "tiny", "--check").out
    assert "tiny has an update, 561 kB to fetch:" in told
    assert "\x1b" not in told
    assert models("update", "tiny").code == 0
    assert "again." in models("rollback", "tiny").out
    used = json.loads(models("disk", "--json").out)["revisions"]
    assert {one["models"][0] for one in used} == {"tiny"}
    commit = hub.repositories["ann/tiny"].commits[-1].sha
    freed = models("disk", "--delete", f"ann/tiny@{commit[:8]}")
    assert freed.out == f"Deleted ann/tiny@{commit[:8]}: 561 kB are free again.\n"
    assert models("remove", "tiny").out.startswith("Removed tiny; ")
    assert models("disk").out.splitlines()[1:] == []


def test_what_is_unfinished_can_be_thrown_away(
    models: Models, hub: Hub, settings: Settings
) -> None:
    hub.faults.spoil = {"model.safetensors"}
    assert "came with another checksum" in models("fetch", "ann/tiny").err
    assert "ann/tiny" in models("disk").out
    assert models("disk", "--delete", "ann/tiny").out.startswith("Deleted ann/tiny: 2")
    assert models("disk").out.splitlines()[1:] == []
    assert list((settings.home / "models").glob("models--*")) == []


def test_a_folder_of_ones_own(models: Models, llama: Path) -> None:
    added = models("import", llama, "--name", "own")
    assert added.out == f"Added own: LlamaForCausalLM, safetensors at {llama}.\n"
    shown = models("show", "own").out
    assert re.search(r"^kept as +safetensors float32$", shown, re.MULTILINE)
    assert re.search(r"^threads +auto$", shown, re.MULTILINE)


def test_what_goes_wrong_is_a_sentence(models: Models, hub: Hub) -> None:
    for arguments, words in (
        (("fetch", "../../x"), "error: '../../x' is no repository of the hub: they are written"),
        (("fetch", "ann/none"), "error: The hub has no ann/none, or is private; a token opens"),
        (("fit", "none"), "error: There is no local model 'none'."),
        (("search", "x", "--max", "big"), "'big' is no number of parameters, as 135M or 7B."),
        (("load", "none"), "error: There is no local model 'none'."),
        (("disk", "--delete", "ann/tiny@ffff"), "error: Of ann/tiny, no revision begins with"),
    ):
        said = models(*arguments)
        assert said.code == 2
        assert words in said.err
    models("fetch", "ann/tiny")
    assert models("load", "tiny").err.startswith("error: No model server runs on this machine:")
    assert models("loaded").err == "No model is loaded: the first request to one loads it.\n"


def test_ctrl_c_pauses_and_the_same_command_goes_on(
    models: Models, hub: Hub, settings: Settings
) -> None:
    hub.faults.rate = 150_000
    process = subprocess.Popen(
        COMMAND,
        env={**os.environ, "WORDMILL_HOME": str(settings.home)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    folder, until = settings.home / "models", time.monotonic() + 60
    while not any(part.stat().st_size for part in folder.rglob(WEIGHTS)):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Paused: what has come is kept. The same command goes on there." in said
    hub.faults.rate = None
    hub.log.clear()
    assert re.search(r"^ann/tiny +unfinished ", models("disk").out, re.MULTILINE)
    assert models("fetch", "ann/tiny").code == 0
    assert "unfinished" not in models("disk").out
    (span,) = [one.span for one in hub.log if one.store]
    assert span is not None
    assert span.startswith("bytes=")


def test_a_fetch_whose_parent_is_killed_ends_too(
    models: Models,
    hub: Hub,
    settings: Settings,
) -> None:
    hub.faults.rate = 50_000
    process = subprocess.Popen(
        COMMAND,
        env={**os.environ, "WORDMILL_HOME": str(settings.home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder, until = settings.home / "models", time.monotonic() + 60
    while not any(part.stat().st_size for part in folder.rglob(WEIGHTS)):
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.wait()
    hub.faults.rate = None
    # The child holds the file while it lives; when the next one may have it, it has ended.
    while (done := models("fetch", "ann/tiny")).code != 0:
        assert "is being fetched by another process" in done.err
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "tiny is here" in done.out
