"""What the files of a deployment say, read as their readers read them."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def compose(path: str, given: Mapping[str, str]) -> dict[str, Any]:
    """A compose file with its variables filled in. KeyError with the words for one it wants."""

    def one(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        if name is None:
            return "$$"
        if given.get(name):
            return given[name]
        if kind == ":?":
            raise KeyError(name, word)
        return word or ""

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(one, value)
        if isinstance(value, list):
            return [filled(each) for each in value]
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        return value

    made = filled(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")))
    assert isinstance(made, dict)
    return made


def dockerfile() -> dict[str, list[tuple[str, str]]]:
    """Stage -> its instructions with what follows them; continued lines are joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ").splitlines()
    stages: dict[str, list[tuple[str, str]]] = {"": []}
    stage = ""
    for line in filter(None, map(str.strip, lines)):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.rpartition(" AS ")[2]
            stages[stage] = []
        stages[stage].append((word, " ".join(rest.split())))
    return stages


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file of ours out of the image's build."""
    top = path.split("/", 1)[0]
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    return f"!{top}" not in rules


def procfile() -> dict[str, str]:
    """Process -> its command."""
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines)


def packages(command: str) -> set[str]:
    """What an `apt-get install` names."""
    words = shlex.split(command.split("apt-get install", 1)[1].split("&&")[0])
    return {word for word in words if not word.startswith("-")}
