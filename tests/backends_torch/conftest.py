"""The fixtures of the other engines. Only the environment with torch runs these tests."""

from importlib.util import find_spec

from tests.backends.conftest import keeping, plain

__all__ = ["keeping", "plain"]

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
