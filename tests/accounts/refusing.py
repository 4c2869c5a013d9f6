"""What is refused, in which words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from wordmill.errors import TooMany, WordmillError


@contextmanager
def said(error: type[WordmillError], words: str) -> Iterator[pytest.ExceptionInfo[WordmillError]]:
    """The error is raised, and its sentences have these words."""
    with pytest.raises(error) as caught:
        yield caught
    assert words in str(caught.value)


def tries_until_slowed(most: int, error: type[WordmillError], call: Callable[[], object]) -> int:
    """How often a call fails with `error` before it is `TooMany`; fails when it never is."""
    for count in range(most):
        try:
            call()
        except TooMany:
            return count
        except error:
            continue
    pytest.fail(f"{most} tries, and never too many")
