"""The documentation is what it says: generated pages are fresh, links lead somewhere."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Type, project, wordmill
from tests.runs.conftest import Project
from wordmill._engine import Rehearsal

__all__ = ["project", "wordmill"]

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def test_generated_pages_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, "scripts/docs.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_every_link_to_a_file_leads_to_one():
    broken = []
    for page in PAGES:
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        broken += [
            f"{page.relative_to(ROOT)}: {target}"
            for target in targets
            if "://" not in target and not (page.parent / target).exists()
        ]
    assert broken == []


def test_every_page_is_reached_from_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [
        str(page.relative_to(ROOT / "docs"))
        for page in (ROOT / "docs").rglob("*.md")
        if page.name != "README.md"
        and f"({page.relative_to(ROOT / 'docs').as_posix()})" not in index
    ]
    assert missing == []


def test_the_commands_of_the_first_page_work(
    wordmill: Type, rehearse: Callable[..., Rehearsal], project: Project
):
    (commands,) = re.findall(r"```sh\n(export OPENAI_.*?)```", README.read_text(), re.DOTALL)
    url = f"http://127.0.0.1:{rehearse().port}/v1"
    typed = [shlex.split(line, comments=True) for line in commands.splitlines()]
    lines = [words[1:] for words in typed if words and words[0] == "wordmill"]
    assert len(lines) >= 8
    for words in lines:
        done = wordmill(*" ".join(words).replace("--provider openai", f"--base-url {url}").split())
        assert done.code == 0, (words, done.err)


def test_the_first_page_shows_the_example_as_it_is():
    (shown,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    example = (ROOT / "examples" / "tickets.yaml").read_text(encoding="utf-8")
    assert example.endswith(shown)
