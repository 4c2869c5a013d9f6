"""What `make bench-local` makes of its figures; the ways themselves are measured, not tested."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import local

WAYS = {
    "naive": 20.0,
    "serve --continuous-batching": 100.0,
    "bare": 700.0,
    "openvino": 650.0,
    "transformers": 170.0,
}


def results(**other: float) -> local.Results:
    rates = {**WAYS, **other}
    return local.Results(
        machine="A machine",
        quick=False,
        weights=100_000_000,
        rates={way: {"1": [rate / 10], "32": [rate, rate, 1.0]} for way, rate in rates.items()},
        lates={way: {"1": [0.1], "32": [0.5, 0.5, 9.0]} for way in rates},
        bandwidth=[20e9, 10e9, 30e9],
    )


def test_medians_that_reach_the_figures_are_fine() -> None:
    found = local.figures(results())
    assert len(found) == 6
    assert all(one.met for one in found)


@pytest.mark.parametrize(
    ("way", "rate", "words"),
    [
        ("openvino", 290.0, "openvino against naive, 32 streams: 14.50 (at least 15)"),
        ("transformers", 100.0, "transformers against naive, 32 streams: 5.00 (at least 8)"),
        ("bare", 1300.0, "through HTTP against the bare engine, 32 streams: 0.50 (at least 0.9)"),
    ],
)
def test_a_figure_that_is_missed_is_a_sentence(way: str, rate: float, words: str) -> None:
    given = results(**{way: rate})
    assert any(words in str(one) for one in local.figures(given) if not one.met)
    assert any(line.startswith("- **missed**") for line in local.table(given).splitlines())


def test_a_first_token_that_comes_late_is_missed() -> None:
    given = results()
    given.lates["openvino"]["32"] = [1.0, 1.0, 0.2]
    (one,) = [one for one in local.figures(given) if not one.met]
    assert str(one) == "first token of openvino p95, 32 streams: 1.00 s (less than 1 s)"


def test_the_table_has_a_row_a_way_and_what_memory_gives() -> None:
    text = local.table(results())
    assert "Memory gives 20.0 GB/s, so one stream of bfloat16 weights 100 tokens a second" in text
    assert "| openvino | 65 | 0.10 | 650 | 0.50 |" in text


def test_the_late_first_token_is_the_95th_of_a_hundred() -> None:
    assert local.Told(1.0, [float(number) for number in range(1, 101)]).late == 96.0
