"""Identifiers: in the form of random UUIDs, and functions of seed and row."""

import uuid

import pytest

from tests.columns.filled import cells, filled
from wordmill.columns.uuid import Uuid


def test_each_is_a_version_4_uuid() -> None:
    drawn = cells(Uuid(), range(2000))
    assert len(set(drawn)) == 2000
    for text in drawn:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)


@pytest.mark.parametrize("window", [1, 7, 512])
def test_a_row_is_the_same_in_any_window_and_order(window: int) -> None:
    columns = {"id": Uuid()}
    rows = filled(columns, range(300))
    assert filled(columns, range(300), window=window) == rows
    assert filled(columns, range(299, -1, -1), window=window)[::-1] == rows


def test_another_seed_gives_others() -> None:
    columns = {"id": Uuid()}
    assert filled(columns, [0], seed=8) != filled(columns, [0])


def test_its_schema() -> None:
    assert Uuid().value_schema() == {"type": "string", "format": "uuid"}
    assert Uuid().needs() == frozenset()
