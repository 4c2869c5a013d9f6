"""A project folder, and the `wordmill` command in this process."""

from collections.abc import Callable

import pytest

from tests.cli.typed import Typed, type_command
from tests.runs.conftest import project

__all__ = ["Type", "project"]

Type = Callable[..., Typed]


@pytest.fixture
def wordmill(capsys: pytest.CaptureFixture[str]) -> Type:
    """`wordmill ARGUMENTS`."""
    return lambda *arguments: type_command(capsys, *map(str, arguments))
