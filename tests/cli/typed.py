"""The `wordmill` command as a person types it, in this process."""

import sys
from typing import NamedTuple
from unittest.mock import patch

import pytest

from wordmill.cli import main


class Typed(NamedTuple):
    code: int
    out: str
    err: str


def type_command(capsys: pytest.CaptureFixture[str], *arguments: str) -> Typed:
    """Run `wordmill ARGUMENTS`."""
    capsys.readouterr()
    with patch.object(sys, "argv", ["wordmill", *arguments]), pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return Typed(ended.value.code, out, err)
