"""Quantiles of times, without the times."""

import json
import random

import pytest

from wordmill.runs.latencies import Latencies


def test_quantiles_are_within_one_percent() -> None:
    generator = random.Random(3)
    times = [generator.lognormvariate(0, 2) for _ in range(10_001)]
    latencies = Latencies()
    for start in range(0, len(times), 100):
        latencies.add(times[start : start + 100])
    ordered = sorted(times)
    latencies = Latencies(json.loads(json.dumps(latencies.counts())))
    assert latencies.number == 10_001
    assert latencies.quantile(0.5) == pytest.approx(ordered[5000], rel=0.0101)
    assert latencies.quantile(0.95) == pytest.approx(ordered[9500], rel=0.0101)
    assert latencies.quantile(0) == pytest.approx(ordered[0], rel=0.0101)
    assert latencies.quantile(1) == pytest.approx(ordered[-1], rel=0.0101)


def test_none_and_what_took_no_time() -> None:
    latencies = Latencies()
    assert latencies.quantile(0.5) is None
    latencies.add([0.0, 0.0])
    assert (latencies.number, latencies.quantile(0.5)) == (0, None)
