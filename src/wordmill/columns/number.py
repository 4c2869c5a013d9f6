"""`number`: an integer or a float from a distribution.

    age:   {type: number, min: 18, max: 90}
    price: {type: number, distribution: lognormal, median: 40, sigma: 0.6, max: 500, round: 2}

Every distribution is drawn through its quantile function, so a bound cuts it exactly (what lies
outside is not drawn and then thrown away), and `draw: balanced` can take one number from each
tenth of it in every ten rows.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from statistics import NormalDist
from typing import Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from wordmill.columns.base import Column, Context, Filler
from wordmill.columns.plain import LEAST, MOST
from wordmill.columns.sampling import Deck, Stream, below, exact
from wordmill.errors import RecipeError
from wordmill.types import CellError, Row, Value

_STRATA = 10
_DEALT = 1000  # so many numbers, at most, are dealt like values of a category
_PART = 1e-9  # the part of a distribution that must lie between its bounds
_SMALLEST, _LARGEST = 2.0**-54, 1 - 2.0**-53  # that a quantile is asked for

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "uniform": ("min", "max"),
    "normal": ("mean", "std"),
    "lognormal": ("median", "sigma"),
    "poisson": ("mean",),
    "exponential": ("mean",),
}


class Number(Column):
    """A number.

    min, max: bounds, both included.
    distribution: `uniform` (between the bounds), `normal` (mean, std), `lognormal` (median, and
        sigma, the standard deviation of the logarithm), `poisson` (mean), `exponential` (mean).
    as: `integer` or `float`; without it, integer for a poisson and for uniform whole bounds.
    step: only min (or 0), min + step, min + 2 step, ...   round: digits after the point.
    draw: `random`, or `balanced`: every ten rows hold one number of each tenth; a uniform choice
        among up to 1,000 numbers is dealt like a balanced category.
    """

    model_config = ConfigDict(populate_by_name=True)

    type: Literal["number"] = "number"
    min: int | FiniteFloat | None = None
    max: int | FiniteFloat | None = None
    distribution: Literal["uniform", "normal", "lognormal", "poisson", "exponential"] = "uniform"
    mean: int | FiniteFloat | None = None
    std: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    median: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    sigma: float | None = Field(default=None, gt=0, le=10)
    as_: Literal["integer", "float"] | None = Field(default=None, alias="as")
    step: int | float | None = Field(default=None, gt=0, allow_inf_nan=False)
    round: int | None = Field(default=None, ge=0, le=15)
    draw: Literal["random", "balanced"] = "random"

    @model_validator(mode="after")
    def _fits(self) -> "Number":
        given = {
            name
            for name in ("min", "max", "mean", "std", "median", "sigma")
            if getattr(self, name) is not None
        }
        wanted = _OPTIONS[self.distribution]
        for name in wanted:
            if name not in given:
                raise ValueError(f"a {self.distribution} number needs `{name}`")
        for name in sorted(given - {*wanted, "min", "max"}):
            raise ValueError(
                f"a {self.distribution} number has no `{name}`; it has "
                + ", ".join(dict.fromkeys((*wanted, "min", "max")))
            )
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.distribution in ("poisson", "exponential") and not 0 < (self.mean or 0) <= 1e6:
            raise ValueError(f"the mean is above 0 and at most 1,000,000, not {self.mean}")
        if self.integer:
            for name in ("min", "max", "step"):
                bound = getattr(self, name)
                if bound is not None and bound != int(bound):
                    raise ValueError(f"an integer has a whole `{name}`, not {bound}")
                if bound is not None and not LEAST <= bound <= MOST:
                    raise ValueError(f"an integer has at most 64 bits, and `{name}` is {bound}")
            if self.round is not None:
                raise ValueError("`round` is for floats, and this is an integer")
        return self

    @property
    def integer(self) -> bool:
        """Whether the numbers are integers."""
        if self.as_ is not None:
            return self.as_ == "integer"
        whole = all(isinstance(part, int | None) for part in (self.min, self.max, self.step))
        return self.distribution == "poisson" or (
            self.distribution == "uniform" and whole and self.round is None
        )

    def needs(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def prepare(self, context: Context) -> Filler:
        """The maker."""
        if self.distribution == "uniform" and (self.integer or self.step is not None):
            return _OnGrid(self, context)
        return _FromQuantiles(self, context)

    def value_schema(self) -> Mapping[str, Any]:
        """An integer or a number."""
        return {"type": "integer" if self.integer else "number"}


class _OnGrid(Filler):
    """Uniform over the numbers min, min + step, ... up to max."""

    def __init__(self, column: Number, context: Context) -> None:
        step = column.step or 1
        self._count = int((exact(column.max or 0) - exact(column.min or 0)) // exact(step)) + 1
        self._number = _snapped(column, step)
        self._deck = None
        if column.draw == "balanced" and self._count <= _DEALT:
            self._deck = Deck(context.seed, context.name, (1,) * self._count)
        self._strata = column.draw == "balanced"
        self._draws = _Draws(context, self._strata)

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A number a row."""
        numbers = [row["row"] for row in rows]
        number, count = self._number, self._count
        if self._deck is not None:
            return [number(index) for index in self._deck.indexes(numbers)]
        if self._strata:
            last = count - 1
            return [number(min(last, int(u * count))) for u in self._draws.units(numbers)]
        return [number(below(word, count)) for word in self._draws.words(numbers)]


class _Draws:
    """Words by row, and the same as numbers between 0 and 1, one from each tenth if balanced."""

    def __init__(self, context: Context, strata: bool) -> None:
        self.words = Stream(context.seed, context.name).words
        self._deck = Deck(context.seed, context.name, (1,) * _STRATA) if strata else None

    def units(self, rows: Sequence[int]) -> list[float]:
        """Numbers above 0 and below 1."""
        units = [((word >> 11) + 0.5) * 2.0**-53 for word in self.words(rows)]
        if self._deck is None:
            return units
        strata = self._deck.indexes(rows)
        return [(stratum + u) / _STRATA for stratum, u in zip(strata, units, strict=True)]


class _FromQuantiles(Filler):
    """From a distribution, between its bounds."""

    def __init__(self, column: Number, context: Context) -> None:
        where = f"columns.{context.name}"
        self._quantile = _quantile(column, where)
        self._finish = _finisher(column)
        for u in (_SMALLEST, _LARGEST):
            if not self._fits(u, column.integer):
                kind = "an integer of 64 bits" if column.integer else "a number of JSON"
                raise RecipeError(
                    f"the ends of this {column.distribution} distribution are beyond what {kind} "
                    "can hold: give it a `min` and a `max`.",
                    where,
                )
        self._draws = _Draws(context, column.draw == "balanced")

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A number a row."""
        quantile, finish = self._quantile, self._finish
        units = self._draws.units([row["row"] for row in rows])
        return [finish(quantile(u)) for u in units]

    def _fits(self, u: float, integer: bool) -> bool:
        try:
            number = self._finish(self._quantile(u))
        except OverflowError:
            return False
        return LEAST <= number <= MOST if integer else math.isfinite(number)


def _snapped(column: Number, step: float) -> Callable[[int], float]:
    """From a place on the grid to its number, without the noise of binary fractions."""
    base = column.min or 0
    if column.integer:
        whole, stride = int(base), int(step)
        return lambda place: whole + place * stride
    digits = max(_digits(base), _digits(step)) if column.round is None else column.round
    return lambda place: round(base + place * step, digits)


def _digits(number: float) -> int:
    """Digits after the point, as the number is written."""
    exponent = Decimal(str(number)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _finisher(column: Number) -> Callable[[float], float]:
    """From a quantile to the number as the recipe wants it: on the grid, rounded, in bounds."""
    low = -math.inf if column.min is None else column.min
    high = math.inf if column.max is None else column.max
    if column.step is not None:
        step, base = column.step, column.min or 0
        on_grid = _snapped(column, step)
        last = math.inf if column.max is None else (exact(column.max) - exact(base)) // exact(step)
        first = -math.inf if column.min is None else 0
        return lambda x: on_grid(int(max(first, min(last, round((x - base) / step)))))
    if column.integer:
        return lambda x: int(max(low, min(high, round(x))))
    digits = column.round
    if digits is None:
        return lambda x: float(max(low, min(high, x)))
    return lambda x: float(max(low, min(high, round(x, digits))))


def _quantile(column: Number, where: str) -> Callable[[float], float]:
    """The quantile function of the distribution between its bounds: (0, 1) -> a number.

    Raises RecipeError where next to nothing of it lies between them.
    """
    if column.distribution == "uniform":
        least, most = float(column.min or 0), float(column.max or 0)
        if math.isinf(most - least):
            return lambda u: least * (1 - u) + most * u
        return lambda u: least + u * (most - least)
    # An integer is rounded: half a unit more on both sides gives the ends their fair share.
    margin = 0.5 if column.integer and column.distribution != "poisson" else 0.0
    low = -math.inf if column.min is None else column.min - margin
    high = math.inf if column.max is None else column.max + margin
    if column.distribution == "poisson":
        return _poisson(float(column.mean or 0), low, high, where)
    cumulative, inverse = _continuous(column)
    start, end = cumulative(low), cumulative(high)
    if end - start < _PART:
        raise _nothing_left(column.distribution, low, high, where)
    return lambda u: inverse(min(_LARGEST, max(_SMALLEST, start + u * (end - start))))


def _continuous(
    column: Number,
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Cumulative distribution and its inverse."""
    if column.distribution == "exponential":
        mean = float(column.mean or 0)
        return (
            lambda x: -math.expm1(-x / mean) if x > 0 else 0.0,
            lambda u: -mean * math.log1p(-u),
        )
    if column.distribution == "lognormal":
        normal = NormalDist(math.log(column.median or 1), column.sigma or 1)
        return (
            lambda x: 0.0 if x <= 0 else normal.cdf(math.log(x)) if x < math.inf else 1.0,
            lambda u: math.exp(normal.inv_cdf(u)),
        )
    normal = NormalDist(float(column.mean or 0), column.std or 1)
    return normal.cdf, normal.inv_cdf


def _poisson(mean: float, low: float, high: float, where: str) -> Callable[[float], float]:
    """A table of the counts that matter: 12 standard deviations, never fewer than 40 counts."""
    reach = 12 * math.sqrt(mean) + 40
    first = math.ceil(max(0, low, mean - reach))
    last = math.floor(min(high, mean + reach))
    parts = [
        math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
        for count in range(first, last + 1)
    ]
    bounds = list(accumulate(parts))
    if not bounds or bounds[-1] < _PART:
        raise _nothing_left("poisson", low, high, where)
    return lambda u: first + min(bisect_right(bounds, u * bounds[-1]), len(bounds) - 1)


def _nothing_left(name: str, low: float, high: float, where: str) -> RecipeError:
    return RecipeError(
        f"next to nothing of this {name} distribution lies between {low:g} and {high:g}.", where
    )
