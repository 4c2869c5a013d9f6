"""Every operation of the OpenAPI meets what nobody would send on purpose, and none falls over."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.api.conftest import Server

# The events of an answer never end while it is written; the rest is asked with made-up values.
_LEFT_OUT = "/api/messages/{message}/events"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not asked made-up things."""
    monkeypatch.setenv("WORDMILL_HUB_OFFLINE", "1")


def test_no_operation_falls_over(offline: None, server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    headers = {"authorization": f"Bearer {server.keys['ann']}"}
    tried = set()

    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path == _LEFT_OUT:
            continue
        tried.add(operation.label)

        @settings(
            max_examples=12,
            deadline=None,
            phases=[Phase.generate],
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            answer = case.call(headers=headers, timeout=20)
            assert answer.status_code != 500, f"{case.method} {case.path}: {answer.text[:300]}"
            assert "A fault of Wordmill" not in answer.text

        ask()
    assert len(tried) > 60
