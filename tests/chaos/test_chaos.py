"""The short form of `make chaos`; the seed is fixed, so a failure comes again."""

from pathlib import Path

import pytest

from tests.chaos.run import chaos
from tests.servers.consumer import program


@pytest.mark.once
@pytest.mark.timeout(600)
def test_each_request_has_one_record_whatever_dies(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder: Path = tmp_path_factory.mktemp("chaos")
    found = chaos(folder, program(), seed=11, count=5_000, seconds=50.0, patience=400.0)
    assert found.answered + found.failed == 5_000
    assert found.answered > 4_500
