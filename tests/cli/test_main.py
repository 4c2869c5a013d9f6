"""What holds for every command: names, help, and an output that nobody takes."""

import os
import subprocess
from pathlib import Path

import click
import pytest

from tests.cli.conftest import Type
from tests.runs.conftest import COMMAND, SHORT, Project
from wordmill.cli import CONTEXT
from wordmill.cli import wordmill as group


def test_an_unknown_command_has_a_near_name(wordmill: Type) -> None:
    typed = wordmill("generat", "rlhi")
    assert typed.code == 2
    assert typed.err.endswith("Error: There is no command 'generat'. Did you mean 'generate'?\n")


def groups(command: click.Group, path: str) -> list[tuple[str, click.Group]]:
    """The group and those below it, with what one types to come there."""
    found = [(path, command)]
    with click.Context(command, info_name=path) as context:
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if isinstance(below, click.Group):
                found += groups(below, f"{path} {name}")
    return found


@pytest.mark.parametrize(("path", "command"), groups(group, "wordmill"), ids=lambda x: str(x))
def test_lists_of_commands_fit_a_terminal(path: str, command: click.Group) -> None:
    with click.Context(command, info_name=path, terminal_width=80, **CONTEXT) as context:
        lines = command.get_help(context).splitlines()
    assert [line for line in lines[1:] if line.endswith("...")] == []
    assert max(map(len, lines)) <= 80


def test_nobody_reads_on(project: Project) -> None:
    """A closed pipe is no error, and a run's exit code stays what it is."""
    project.recipe(SHORT.replace("mock", "rehearsal"))
    for words, code in {
        ("settings",): 0,
        ("generate", "recipe.yaml", "--rows", "3", "--budget", "1requests"): 3,
    }.items():
        reading, writing = os.pipe()
        os.close(reading)
        process = project.start(*words, stdout=writing)
        os.close(writing)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in err, "Broken" in err) == (code, False, False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written_is_told(project: Project) -> None:
    with Path("/dev/full").open("w") as full:
        process = project.start("settings", stdout=full)
        _, err = process.communicate(timeout=60)
    assert err == "error: The output cannot be written: No space left on device.\n"
    assert process.returncode == 2


def test_no_output_at_all(project: Project) -> None:
    done = subprocess.run(["sh", "-c", f"{COMMAND} settings >&-"], check=False, timeout=60)
    assert done.returncode == 0
