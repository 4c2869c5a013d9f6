"""Numbers: bounds, distributions, grids, balance; and what is refused."""

from collections import Counter
from statistics import mean, median, stdev

import pytest

from tests.columns.filled import cells, filled, maker
from wordmill.columns.number import Number
from wordmill.errors import RecipeError, RecipeErrors
from wordmill.types import Value


def test_whole_bounds_give_integers_with_both_ends() -> None:
    drawn = cells(Number(min=1, max=6), range(6000))
    counts = Counter(drawn)
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    assert all(type(number) is int for number in drawn)
    assert all(count == pytest.approx(1000, rel=0.12) for count in counts.values())


def test_floats_lie_between_the_bounds() -> None:
    drawn = cells(Number(min=0.5, max=2), range(2000))
    assert all(0.5 <= number <= 2 for number in drawn)
    assert mean(drawn) == pytest.approx(1.25, abs=0.03)
    assert all(isinstance(number, float) for number in cells(Number(min=0, max=1, as_="float")))


def test_a_step_is_a_grid_without_the_noise_of_binary_fractions() -> None:
    assert set(cells(Number(min=0.1, max=0.75, step=0.2), range(200))) == {0.1, 0.3, 0.5, 0.7}
    assert set(cells(Number(min=10, max=30, step=5), range(200))) == {10, 15, 20, 25, 30}
    assert set(cells(Number(min=1, max=1), range(5))) == {1}
    assert cells(Number(min=1.5, max=1.5), range(2)) == [1.5, 1.5]
    snapped = cells(
        Number(distribution="normal", mean=0, std=1, step=0.25, min=-1, max=1), range(500)
    )
    assert set(snapped) == {-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1}


def test_rounding() -> None:
    drawn = cells(Number(min=0, max=1, round=2), range(500))
    assert all(number == round(number, 2) for number in drawn)
    assert any(number != round(number, 1) for number in drawn)


@pytest.mark.parametrize(
    ("column", "middle", "spread"),
    [
        (Number(distribution="normal", mean=100, std=15), 100, 15),
        (Number(distribution="normal", mean=100, std=15, as_="integer"), 100, 15),
        (Number(distribution="exponential", mean=5), 5, 5),
        (Number(distribution="poisson", mean=4), 4, 2),
        (Number(distribution="poisson", mean=2500), 2500, 50),
    ],
)
def test_distributions_have_their_mean_and_spread(
    column: Number, middle: float, spread: float
) -> None:
    drawn = cells(column, range(4000))
    assert mean(drawn) == pytest.approx(middle, rel=0.05)
    assert stdev(drawn) == pytest.approx(spread, rel=0.06)


def test_a_lognormal_has_its_median() -> None:
    drawn = cells(Number(distribution="lognormal", median=40, sigma=0.6), range(4000))
    assert median(drawn) == pytest.approx(40, rel=0.05)
    assert min(drawn) > 0


@pytest.mark.parametrize(
    "options",
    [
        {"distribution": "normal", "mean": 0, "std": 10, "min": 5, "max": 6},
        {"distribution": "normal", "mean": 0, "std": 10, "min": 25, "max": 60},
        {"distribution": "exponential", "mean": 1, "min": 5, "max": 6},
        {"distribution": "lognormal", "median": 1, "sigma": 1, "min": 5, "max": 6},
        {"distribution": "poisson", "mean": 3, "min": 5, "max": 6},
        {"distribution": "normal", "mean": 0, "std": 10, "min": 5, "max": 6, "as": "integer"},
    ],
)
def test_bounds_cut_a_distribution(options: dict[str, Value]) -> None:
    drawn = cells(Number(**options), range(400))
    assert all(options["min"] <= number <= options["max"] for number in drawn)
    assert len(set(drawn)) > 1


def test_balanced_takes_one_number_from_each_tenth_in_ten_rows() -> None:
    drawn = cells(Number(min=0.0, max=1.0, draw="balanced"), range(100))
    for start in range(0, 100, 10):
        assert sorted(int(number * 10) for number in drawn[start : start + 10]) == list(range(10))
    normal = cells(Number(distribution="normal", mean=0, std=1, draw="balanced"), range(100))
    assert sum(number < 0 for number in normal) == 50


def test_balanced_integers_are_dealt_like_values() -> None:
    assert Counter(cells(Number(min=1, max=6, draw="balanced"), range(60))) == dict.fromkeys(
        range(1, 7), 10
    )
    many = cells(Number(min=1, max=5000, draw="balanced"), range(1000))
    assert Counter((number - 1) // 500 for number in many) == dict.fromkeys(range(10), 100)


COLUMNS = {
    "a": Number(min=1, max=6, draw="balanced"),
    "b": Number(min=0.0, max=1.0, draw="balanced"),
    "c": Number(distribution="poisson", mean=4),
}


@pytest.mark.parametrize("window", [1, 7, 512])
def test_a_row_is_the_same_in_any_window_and_order(window: int) -> None:
    rows = filled(COLUMNS, range(600))
    assert filled(COLUMNS, range(600), window=window) == rows
    assert filled(COLUMNS, range(599, -1, -1), window=window)[::-1] == rows


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "Number: a uniform number needs `min`."),
        ({"min": 1}, "Number: a uniform number needs `max`."),
        ({"min": 2, "max": 1}, "Number: min 2 is above max 1."),
        ({"min": 1, "max": 2, "mean": 1},
         "Number: a uniform number has no `mean`; it has min, max."),
        ({"distribution": "normal", "mean": 1}, "Number: a normal number needs `std`."),
        ({"distribution": "normal", "mean": 1, "std": 0},
         "Number: std: must be more than 0.0, not 0."),
        ({"distribution": "poisson", "mean": -1},
         "Number: the mean is above 0 and at most 1,000,000, not -1."),
        ({"min": 0, "max": 1, "as": "integer", "step": 0.5},
         "Number: an integer has a whole `step`, not 0.5."),
        ({"min": 0, "max": 1, "as": "integer", "round": 1},
         "Number: `round` is for floats, and this is an integer."),
        ({"min": 0, "max": 1e30, "as": "integer"},
         "Number: an integer has at most 64 bits, and `max` is 1e+30."),
        ({"min": float("inf"), "max": 2}, "Number: min: must be a finite number, not inf."),
        ({"min": 0, "max": 1, "distribution": "gauss"}, "Number: distribution: cannot be 'gauss'."),
    ],
)  # fmt: skip
def test_options_that_are_refused(options: dict[str, Value], sentence: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        Number(**options)
    assert str(caught.value.errors[0]).startswith(sentence.removesuffix("."))


@pytest.mark.parametrize("options", [
    {"min": True, "max": 2}, {"min": 0, "max": 2, "round": False},
    {"distribution": "normal", "mean": 1, "std": True},
])  # fmt: skip
def test_true_is_no_number(options: dict[str, Value]) -> None:
    (name,) = [name for name, value in options.items() if isinstance(value, bool)]
    with pytest.raises(RecipeError) as caught:
        Number(**options)
    assert str(caught.value) == (
        f"Number: {name}: must be a number, not {str(options[name]).lower()}."
    )


def test_bounds_that_leave_nothing_are_refused() -> None:
    column = Number(distribution="normal", mean=0, std=1, min=50)
    with pytest.raises(RecipeError) as caught:
        maker({"x": column}, "x")
    assert str(caught.value) == (
        "columns.x: next to nothing of this normal distribution lies between 50 and inf."
    )
    with pytest.raises(RecipeError) as caught:
        maker({"x": Number(distribution="poisson", mean=1, min=900)}, "x")
    assert str(caught.value) == (
        "columns.x: next to nothing of this poisson distribution lies between 900 and inf."
    )


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (Number(distribution="lognormal", median=1e308, sigma=10), "a number of JSON"),
        (Number(distribution="normal", mean=0, std=1.7e308), "a number of JSON"),
        (Number(distribution="normal", mean=0, std=1e19, as_="integer"), "an integer of 64 bits"),
    ],
)
def test_ends_beyond_what_can_be_stored_are_refused(column: Number, kind: str) -> None:
    with pytest.raises(RecipeError) as caught:
        maker({"x": column}, "x")
    assert str(caught.value) == (
        f"columns.x: the ends of this {column.distribution} distribution are beyond what {kind} "
        "can hold: give it a `min` and a `max`."
    )


def test_the_largest_floats_are_bounds_too() -> None:
    drawn = cells(Number(min=-1.7e308, max=1.7e308), range(500))
    assert all(-1.7e308 <= number <= 1.7e308 for number in drawn)
    assert min(drawn) < -1e308 < 1e308 < max(drawn)


def test_the_schema_of_its_values() -> None:
    assert Number(min=1, max=2).value_schema() == {"type": "integer"}
    assert Number(min=1, max=2.5).value_schema() == {"type": "number"}
    assert Number(min=1, max=2).needs() == frozenset()
