"""`datetime`: a moment between two, or some time after another column's.

    ordered: {type: datetime, start: 2024-01-01, end: 2024-12-31, unit: hour, timezone: Europe/Rome}
    shipped: {type: datetime, after: ordered, gap: {min: 4, max: 72}, unit: hour}

Moments lie on a grid: `start`, and every `step` units from it. Weeks and days are counted on the
calendar, so that a time of day survives the change to summer time; hours, minutes and seconds are
counted as they pass.

A value is text: as ISO 8601 has it (only the date where the unit is days or weeks and no time of
day was given), or in `format`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wordmill.columns.base import Column, Context, Filler
from wordmill.columns.sampling import Stream, below
from wordmill.errors import RecipeError
from wordmill.types import CellError, Row, Value

_UNITS: Mapping[str, timedelta] = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}


class Gap(BaseModel):
    """How long after another moment, in units of the column, both ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: int = Field(default=0, ge=0, le=10**9)
    max: int = Field(ge=0, le=10**9)

    @model_validator(mode="after")
    def _in_order(self) -> "Gap":
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Datetime(Column):
    """A moment.

    start, end: ISO 8601, both included (`end` if the grid meets it).
    after, gap: instead of them: a datetime column, and how many units later.
    unit: `second`, `minute`, `hour`, `day` or `week`.  step: units between moments.
    timezone: an IANA name; start and end are read in it, and values carry its offset.
    format: as of strftime, for another text than ISO 8601.
    """

    type: Literal["datetime"] = "datetime"
    start: str | None = None
    end: str | None = None
    after: str | None = None
    gap: Gap | None = None
    unit: Literal["second", "minute", "hour", "day", "week"] = "day"
    step: int = Field(default=1, ge=1, le=10**9)
    timezone: str | None = None
    format: str | None = None

    @field_validator("start", "end")
    @classmethod
    def _moment(cls, text: str | None) -> str | None:
        if text is not None:
            _read(text)
        return text

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str | None) -> str | None:
        if name is not None:
            zone_of(name)
        return name

    @model_validator(mode="after")
    def _one_way(self) -> "Datetime":
        if self.after is not None:
            if self.gap is None:
                raise ValueError("`after` needs a `gap`: {min: 1, max: 14}, in units of the column")
            if self.start is not None or self.end is not None:
                raise ValueError("a datetime has `start` and `end`, or `after` and `gap`")
        elif self.gap is not None:
            raise ValueError("a `gap` belongs to `after`, the column that it is counted from")
        elif self.start is None or self.end is None:
            raise ValueError("a datetime needs `start` and `end`, or `after` and `gap`")
        else:
            start, end = self._span()
            if (start.tzinfo is None) != (end.tzinfo is None):
                raise ValueError("start and end both have an offset from UTC, or neither has")
            for moment in (start, end):
                _check_countable(moment)
            if start > end:
                raise ValueError(f"start {self.start} is later than end {self.end}")
        return self

    def _span(self) -> tuple[datetime, datetime]:
        zone = zone_of(self.timezone) if self.timezone else None
        return _placed(_read(self.start or ""), zone), _placed(_read(self.end or ""), zone)

    @property
    def only_dates(self) -> bool:
        """Whether values are dates without a time of day."""
        texts = [text for text in (self.start, self.end) if text]
        on_days = self.unit in ("day", "week") and self.after is None
        return on_days and all(len(text) <= 10 for text in texts)

    def needs(self) -> frozenset[str]:
        """The column of `after`."""
        return frozenset((self.after,)) if self.after else frozenset()

    def prepare(self, context: Context) -> Filler:
        """The maker."""
        other = context.columns.get(self.after) if self.after else None
        if other is not None and other.value_schema().get("type", "string") != "string":
            raise RecipeError(
                f"{self.after!r} makes values of the type {other.value_schema()['type']!r}, and "
                "`after` counts from a date.",
                f"columns.{context.name}.after",
            )
        return _Moments(self, context, other.format if isinstance(other, Datetime) else None)

    def value_schema(self) -> Mapping[str, Any]:
        """Text; in ISO 8601 where no format was given."""
        if self.format is not None or self.after is not None:
            return {"type": "string"}
        return {"type": "string", "format": "date" if self.only_dates else "date-time"}


def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name; ValueError in words if this system knows none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"there is no time zone {name!r}; names are as in Europe/Rome or UTC"
        ) from error


def _read(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no date; write 2024-01-31 or 2024-01-31T18:30:00") from error


def _placed(moment: datetime, zone: tzinfo | None) -> datetime:
    """A moment in the column's zone. Without one it keeps its own offset, if it has any."""
    if zone is None:
        return moment
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)


def _check_countable(moment: datetime) -> None:
    """Refuse the ends of the calendar, where UTC is in a year that there is not."""
    try:
        if moment.tzinfo is not None:
            moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(
            f"{moment.replace(tzinfo=None)} in its time zone is outside the years 1 to 9999 of UTC"
        ) from error


@dataclass(frozen=True, slots=True)
class _Clock:
    """Counts units from a moment, and writes moments down."""

    unit: timedelta
    calendar: bool
    format: str | None
    only_dates: bool

    def later(self, moment: datetime, units: int) -> datetime:
        """The moment so many units after another."""
        if self.calendar or moment.tzinfo is None:
            return moment + units * self.unit
        return (moment.astimezone(UTC) + units * self.unit).astimezone(moment.tzinfo)

    def written(self, moment: datetime) -> str:
        """A moment as text."""
        if self.format is not None:
            return moment.strftime(self.format)
        return moment.date().isoformat() if self.only_dates else moment.isoformat()


class _Moments(Filler):
    def __init__(self, column: Datetime, context: Context, other_format: str | None) -> None:
        unit = _UNITS[column.unit]
        self._words = Stream(context.seed, context.name).words
        self._clock = _Clock(unit, column.unit in ("day", "week"), column.format, column.only_dates)
        self._zone = zone_of(column.timezone) if column.timezone else None
        self._after, self._other_format = column.after, other_format
        self._format, self._step, self._start = column.format, column.step, datetime.min
        if column.gap is not None:
            self._first, span = column.gap.min, column.gap.max - column.gap.min
        else:
            self._start, end = column._span()
            self._first, span = 0, _units_between(self._start, end, self._clock)
        self._count = span // column.step + 1

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A moment a row."""
        words = self._words([row["row"] for row in rows])
        first, step, count, clock = self._first, self._step, self._count, self._clock
        units = [first + step * below(word, count) for word in words]
        if self._after is None:
            start = self._start
            return [clock.written(clock.later(start, number)) for number in units]
        return [self._cell(row, number) for row, number in zip(rows, units, strict=True)]

    def _cell(self, row: Row, units: int) -> Value | CellError:
        """A moment so many units after the one in another column; null after null."""
        text = row[self._after or ""]
        if text is None:
            return None
        try:
            if self._other_format is not None:
                moment = datetime.strptime(text, self._other_format)
            else:
                moment = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            return CellError("sampling", f"{self._after} = {text!r} cannot be read as a date"[:300])
        moment = _placed(moment, self._zone)
        try:
            moment = self._clock.later(moment, units)
        except OverflowError:
            return CellError("sampling", f"{units} units after {text} is past the year 9999")
        if self._format is None and len(text) <= 10 and self._clock.calendar:
            return moment.date().isoformat()
        return self._clock.written(moment)


def _units_between(start: datetime, end: datetime, clock: _Clock) -> int:
    """Whole units from start to end."""
    if clock.calendar:
        return (end.replace(tzinfo=None) - start.replace(tzinfo=None)) // clock.unit
    return (end - start) // clock.unit
