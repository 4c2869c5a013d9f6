"""Datasets that tests read: written once."""

from dataclasses import replace

import pytest

from tests.datasets.made import SCENARIOS, SUMMARY, TICKETS, as_bytes, scenario, ticket
from wordmill.datasets import Dataset, DatasetWriter, open_dataset


@pytest.fixture(scope="session")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """2,500 tickets in three shards."""
    folder = tmp_path_factory.mktemp("tickets")
    with DatasetWriter(folder, TICKETS, shard_rows=1000) as writer:
        writer.add(as_bytes([ticket(row, size=60) for row in range(2500)]))
        writer.finish(replace(SUMMARY, wanted=2500))
    return open_dataset(folder)


@pytest.fixture(scope="session")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 rehearsed scenarios with three actions each, in three shards."""
    folder = tmp_path_factory.mktemp("scenarios")
    with DatasetWriter(folder, SCENARIOS, shard_rows=25) as writer:
        writer.add(as_bytes([scenario(row, model="rehearsal") for row in range(60)]))
        writer.finish(replace(SUMMARY, wanted=60))
    return open_dataset(folder)
