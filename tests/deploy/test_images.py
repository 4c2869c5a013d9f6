"""The Dockerfile: linted, and what it runs is run here as it stands there."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.files import ROOT, dockerfile, ignored, packages
from tests.deploy.serving import environment, free_port, serving


def test_it_has_no_faults_that_the_linter_knows() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "Dockerfile"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_the_stages_build_on_each_other() -> None:
    stages = dockerfile()
    assert list(stages)[-1] == "production"  # what is built where none is named
    assert {"development", "test", "production", "consumer"} <= set(stages)
    for stage, lines in stages.items():
        for word, rest in lines:
            (source,) = re.findall(r"--from=(\S+)", rest) or [""]
            assert source == "" or source in stages, (stage, word, rest)


def test_what_is_copied_is_there_and_not_left_out() -> None:
    for lines in dockerfile().values():
        for word, rest in lines:
            if word == "COPY" and "--from" not in rest and rest != ". .":
                for name in rest.split()[:-1]:
                    assert (ROOT / name).exists()
                    assert not ignored(name)
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    needed = [name for name in tracked if name.startswith(("src/", "engine/", "tests/", "docs/"))]
    assert needed
    assert not any(map(ignored, needed))
    for name in (".env", "build/x", "target/x", ".venv/x", ".git/config", "wordmill.db"):
        assert ignored(name)


@pytest.mark.parametrize("stage", ["production", "consumer"])
def test_what_serves_is_not_root_and_is_watched(stage: str) -> None:
    lines = dockerfile()[stage]
    assert ("USER", "10001:10001") in lines
    assert any(word == "HEALTHCHECK" for word, _ in lines)
    assert not any(word == "ADD" for word, _ in lines)
    assert not re.search(r"(?i)(password|secret|token|key)=", json.dumps(lines))


def test_the_variants_and_the_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = [rest for word, rest in dockerfile()["build"] if rest.startswith("EXTRAS=")]
    assert set(extras[8:-1].split()) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("variant", ["base", "cpu", "gguf", "torch"])
def test_the_commands_that_install_are_good(variant: str, tmp_path: Path) -> None:
    """With --dry-run behind them: their words are understood, and the lock fits."""
    lines = dockerfile()["build"]
    (extras,) = [rest[8:-1] for _, rest in lines if rest.startswith("EXTRAS=")]
    commands = [rest for word, rest in lines if word == "RUN"]
    assert len(commands) == 2
    given = environment(
        EXTRAS=extras, VARIANT=variant, UV_PROJECT_ENVIRONMENT=str(tmp_path / "made"),
        UV_PYTHON=sys.executable, HOME=str(tmp_path), UV_CACHE_DIR=str(tmp_path / "cache"),
    )  # fmt: skip
    for command in commands:
        assert "uv sync --locked --no-dev" in command
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} --dry-run --offline"], cwd=ROOT, env=given,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Would install" in done.stderr
        assert "celery" in done.stderr
        assert "+ pytest" not in done.stderr


def test_a_variant_that_is_no_extra_is_refused(tmp_path: Path) -> None:
    command = [rest for word, rest in dockerfile()["build"] if word == "RUN"][-1]
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} --dry-run --offline"], cwd=ROOT, check=False,
        env=environment(EXTRAS="web", VARIANT="steam", HOME=str(tmp_path)),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "`steam` is not defined" in done.stderr


def test_the_tests_have_in_the_image_what_they_have_in_ci() -> None:
    (command,) = [rest for _, rest in dockerfile()["test"] if "apt-get install" in rest]
    added = re.findall(r"packages\+=\(([^)]+)\)", (ROOT / ".ci" / "run").read_text())
    ci = {package for some in added for package in some.split()}
    of_tools = {"build-essential", "git", "make"}  # a stage before brings gcc in its place
    assert packages(command) == ci - of_tools


def test_the_consumer_is_a_program_of_the_workspace() -> None:
    (command,) = [rest for word, rest in dockerfile()["build-consumer"] if word == "RUN"]
    (name,) = re.findall(r"--package (\S+)", command)
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    manifests = [tomllib.loads((ROOT / one / "Cargo.toml").read_text()) for one in members]
    (found,) = [one for one in manifests if one["package"]["name"] == name]
    assert [binary["name"] for binary in found["bin"]] == ["wordmill-consumer"]


def test_what_serves_writes_to_its_data_alone(tmp_path: Path) -> None:
    """As in the image: no right of root, a disk that is read, a folder for data and one for /tmp.

    Where mounting is not allowed to us, it is only seen that it needs no home.
    """
    production = dockerfile()["production"]
    (command,) = [json.loads(rest) for word, rest in production if word == "CMD"]
    (checked,) = [
        json.loads(rest.partition("CMD ")[2]) for word, rest in production if word == "HEALTHCHECK"
    ]
    assert checked == ["wordmill", "health"]
    (shown,) = [rest for word, rest in production if word == "ENV"]
    fixed = dict(one.split("=", 1) for one in shown.split() if one.startswith("WORDMILL_"))
    assert fixed == {
        "WORDMILL_HOME": "/data", "WORDMILL_HOST": "0.0.0.0", "WORDMILL_LOG_FORMAT": "json",
    }  # fmt: skip
    data, temporary = tmp_path / "data", tmp_path / "tmp"
    for one in (data, temporary):
        one.mkdir(mode=0o700)
    variables = environment(
        **{**fixed, "WORDMILL_HOME": str(data), "WORDMILL_HOST": "127.0.0.1"},
        WORDMILL_PORT=str(free_port()), HOME="/nonexistent", TMPDIR=str(temporary),
    )  # fmt: skip
    with serving([*_confined(tmp_path), *command], variables, tmp_path) as log:
        assert (data / "wordmill.db").exists()
    assert '"level": "error"' not in log.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "serve.log", "tmp"]


_CONFINE = """
mount --bind "$0" "$0" && mount -o remount,bind,ro / &&
if touch /left-behind; then rm /left-behind; exit 1; fi
exec setpriv --inh-caps=-all --bounding-set=-all --no-new-privs "$@"
"""


def _confined(folder: Path) -> list[str]:
    """What to put before a command so that it can write to this folder alone."""
    alone = ["unshare", "--mount", "--propagation", "private"]
    tried = subprocess.run([*alone, "mount", "--bind", folder, folder], capture_output=True)
    return [] if tried.returncode else [*alone, "sh", "-c", _CONFINE, str(folder)]
