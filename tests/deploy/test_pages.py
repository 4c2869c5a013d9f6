"""What the pages on scaling and deployment tell to type, to export and to set is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import ROOT, dockerfile
from wordmill import settings
from wordmill.cli import COMMANDS

PAGES = [ROOT / "docs" / "scaling.md", ROOT / "docs" / "deployment.md"]
OF_THE_CONSUMER = re.findall(
    r'(?:row|secret)\("(\w+)"', (ROOT / "engine" / "consumer" / "src" / "settings.rs").read_text()
)


def commands(page: Path) -> list[str]:
    """The lines of its shell blocks, joined where they go on, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    text = re.sub(r"\s+#.*", "", "".join(blocks).replace("\\\n", " "))
    return [line for line in text.splitlines() if line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_typed_is_there(page: Path) -> None:
    typed = "\n".join(commands(page))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake (?:-s )?([a-z-]+)", typed):
        assert re.search(rf"(?m)^{target}:.*## ", makefile), target
    named = re.findall(r"(?:^|[ =])wordmill ([a-z]+)\b", typed, re.MULTILINE)
    assert set(named) - {"serve", "wordmill", "grep"} <= set(COMMANDS)
    for path in re.findall(r"\b(?:deploy/[\w./]+|compose\.yaml|\.env\.example)", typed):
        assert (ROOT / path).exists(), path
    for stage in re.findall(r"--target (\S+)", typed):
        assert stage in dockerfile()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_set_is_a_setting(page: Path) -> None:
    known = {row.name for row in settings.table()} | set(OF_THE_CONSUMER)
    named = set(re.findall(r"\bWORDMILL_([A-Z_]+)\b", page.read_text(encoding="utf-8")))
    assert named
    assert {name.lower() for name in named} <= known


def test_what_is_set_in_the_chart_is_a_value() -> None:
    values = yaml.safe_load((ROOT / "deploy" / "chart" / "values.yaml").read_text())
    roots = "|".join(values)
    paths = {
        path
        for page in PAGES
        for path in re.findall(rf"(?:--set |`)((?:{roots})(?:\.\w+)*)", page.read_text())
    }
    assert {"existingSecret", "scale.enabled", "consumer.autoscaling.kind"} <= paths
    for path in paths:
        found: Any = values
        for part in path.split("."):
            assert path.startswith("settings.") or part in found, path
            found = found.get(part, {})


def test_what_python_and_rust_both_read_has_one_name() -> None:
    python = {row.name for row in settings.table()}
    own = {name for name in OF_THE_CONSUMER if name.startswith("consumer_")}
    assert set(OF_THE_CONSUMER) - own <= python
