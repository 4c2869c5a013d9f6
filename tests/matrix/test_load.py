"""The short form of `make chaos-channels`; the seed is fixed, so a failure comes again."""

from pathlib import Path

import pytest

from tests.matrix.load import load
from tests.servers import synapse


@pytest.mark.once
@pytest.mark.timeout(600)
def test_each_prompt_has_one_answer_in_its_place_whenever_the_server_is_killed(
    homeserver: synapse.Server, tmp_path: Path
) -> None:
    found = load(
        homeserver, tmp_path / "mill", messages=40, people=8, kills=2, seed=7, patience=300.0
    )
    assert found.faults == []
    assert found.kills == 2
