"""The page about rehearsing is true: its tables are whole, and its example runs."""

import re
from pathlib import Path

from tests.rehearsal.asked import Json, stats
from wordmill._engine import Rehearsal
from wordmill.cli.rehearse import rehearse as command

PAGE = (Path(__file__).parents[2] / "docs" / "rehearsal.md").read_text(encoding="utf-8")


def names(heading: str) -> list[str]:
    """What the first column of the table below a heading names."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def test_the_tables_are_whole(server: Rehearsal) -> None:
    assert names("What can go wrong") == Rehearsal.faults()
    assert sorted(names("What it counts")) == sorted(stats(server))


def test_every_option_is_in_the_page() -> None:
    told = set(re.findall(r"^\| `(--\w+) [A-Z]", PAGE, re.MULTILINE))
    assert told == {option for parameter in command.params for option in parameter.opts}


def test_the_example_runs(server: Rehearsal) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Json] = {"port": server.port}
    exec(compile(example, "rehearsal.md", "exec"), names)
    names["client"].close()
    assert stats(server)["answered"] == 1
