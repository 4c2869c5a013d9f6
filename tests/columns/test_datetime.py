"""Moments: on their grid, in their zone, after another; and what is refused."""

from datetime import date, datetime, timedelta

import pytest

from tests.columns.filled import cell, cells, filled, maker
from wordmill.columns.datetime import Datetime
from wordmill.columns.number import Number
from wordmill.columns.template import Template
from wordmill.errors import RecipeError, RecipeErrors
from wordmill.types import CellError, Value


def test_dates_between_two_with_both_ends() -> None:
    drawn = cells(Datetime(start="2024-02-27", end="2024-03-01"), range(200))
    assert set(drawn) == {"2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"unit": "week"}, {"2024-01-01", "2024-01-08", "2024-01-15"}),
        ({"unit": "day", "step": 7}, {"2024-01-01", "2024-01-08", "2024-01-15"}),
        ({"unit": "hour", "step": 168},
         {"2024-01-01T00:00:00", "2024-01-08T00:00:00", "2024-01-15T00:00:00"}),
        ({"unit": "week", "format": "%d.%m.%y"}, {"01.01.24", "08.01.24", "15.01.24"}),
        ({"unit": "hour", "step": 168, "timezone": "UTC"},
         {"2024-01-01T00:00:00+00:00", "2024-01-08T00:00:00+00:00", "2024-01-15T00:00:00+00:00"}),
    ],
)  # fmt: skip
def test_the_grid(options: dict[str, Value], expected: set[str]) -> None:
    column = Datetime(start="2024-01-01", end="2024-01-15", **options)
    assert set(cells(column, range(100))) == expected


def test_seconds_fill_a_day() -> None:
    drawn = cells(
        Datetime(start="2024-01-01T00:00:00", end="2024-01-01T23:59:59", unit="second"), range(500)
    )
    assert len(set(drawn)) > 490
    assert {datetime.fromisoformat(text).date() for text in drawn} == {date(2024, 1, 1)}


def test_days_keep_the_time_of_day_and_hours_do_not_when_summer_time_begins() -> None:
    span = {"start": "2024-03-30T12:00:00", "end": "2024-03-31T13:00:00", "timezone": "Europe/Rome"}
    assert set(cells(Datetime(**span, unit="day"), range(50))) == {
        "2024-03-30T12:00:00+01:00",
        "2024-03-31T12:00:00+02:00",
    }
    assert set(cells(Datetime(**span, unit="hour", step=24), range(50))) == {
        "2024-03-30T12:00:00+01:00",
        "2024-03-31T13:00:00+02:00",
    }


def test_offsets_are_read_into_the_zone() -> None:
    column = Datetime(
        start="2024-01-01T00:00:00Z", end="2024-01-01T00:00:00Z", timezone="Asia/Tokyo", unit="hour"
    )
    assert cells(column, [0]) == ["2024-01-01T09:00:00+09:00"]


def test_after_another() -> None:
    columns = {
        "ordered": Datetime(start="2024-01-01", end="2024-12-31"),
        "paid": Datetime(after="ordered", gap={"min": 1, "max": 3}),
        "sent": Datetime(after="paid", gap={"max": 48}, unit="hour", step=12),
    }
    gaps, hours = set(), set()
    for row in filled(columns, range(300)):
        gaps.add((date.fromisoformat(row["paid"]) - date.fromisoformat(row["ordered"])).days)
        hours.add(datetime.fromisoformat(row["sent"]) - datetime.fromisoformat(row["paid"]))
    assert gaps == {1, 2, 3}
    assert hours == {timedelta(hours=count) for count in (0, 12, 24, 36, 48)}
    assert columns["paid"].needs() == {"ordered"}


def test_after_a_moment_in_a_format_of_its_own() -> None:
    columns = {
        "ordered": Datetime(start="2024-01-05", end="2024-01-05", format="%d/%m/%Y"),
        "paid": Datetime(after="ordered", gap={"min": 2, "max": 2}, format="%d/%m/%Y"),
    }
    assert filled(columns, [0])[0]["paid"] == "07/01/2024"


def test_after_what_is_no_date() -> None:
    column = Datetime(after="said", gap={"max": 1})
    assert cell(column, {"said": None}) is None
    assert cell(column, {"said": "soon"}) == CellError(
        "sampling", "said = 'soon' cannot be read as a date"
    )
    far = Datetime(after="said", gap={"min": 9, "max": 9})
    assert cell(far, {"said": "9999-12-30"}) == CellError(
        "sampling", "9 units after 9999-12-30 is past the year 9999"
    )
    with pytest.raises(RecipeError) as caught:
        maker({"said": Number(min=1, max=2), "x": Datetime(after="said", gap={"max": 1})}, "x")
    assert str(caught.value) == (
        "columns.x.after: 'said' makes values of the type 'integer', and `after` counts from a "
        "date."
    )


def test_after_a_template() -> None:
    columns = {
        "day": Template("2024-01-{{ '%02d' | format(row + 1) }}"),
        "next": Datetime(after="day", gap={"min": 1, "max": 1}),
    }
    assert [row["next"] for row in filled(columns, range(3))] == [
        "2024-01-02",
        "2024-01-03",
        "2024-01-04",
    ]


@pytest.mark.parametrize("window", [1, 7, 512])
def test_a_row_is_the_same_in_any_window_and_order(window: int) -> None:
    columns = {
        "a": Datetime(start="2024-01-01", end="2024-12-31", unit="minute"),
        "b": Datetime(after="a", gap={"max": 99}, unit="second"),
    }
    rows = filled(columns, range(300))
    assert filled(columns, range(300), window=window) == rows
    assert filled(columns, range(299, -1, -1), window=window)[::-1] == rows


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "Datetime: a datetime needs `start` and `end`, or `after` and `gap`."),
        ({"start": "2024-01-01"},
         "Datetime: a datetime needs `start` and `end`, or `after` and `gap`."),
        ({"start": "2024-01-02", "end": "2024-01-01"},
         "Datetime: start 2024-01-02 is later than end 2024-01-01."),
        ({"start": "yesterday", "end": "2024-01-01"},
         "Datetime: start: 'yesterday' is no date; write 2024-01-31 or 2024-01-31T18:30:00."),
        ({"start": "2024-01-01", "end": "2024-01-02T00:00:00Z"},
         "Datetime: start and end both have an offset from UTC, or neither has."),
        ({"after": "x"},
         "Datetime: `after` needs a `gap`: {min: 1, max: 14}, in units of the column."),
        ({"after": "x", "gap": {"max": 1}, "start": "2024-01-01"},
         "Datetime: a datetime has `start` and `end`, or `after` and `gap`."),
        ({"start": "2024-01-01", "end": "2024-01-02", "gap": {"max": 1}},
         "Datetime: a `gap` belongs to `after`, the column that it is counted from."),
        ({"after": "x", "gap": {"min": 3, "max": 1}}, "Datetime: gap: min 3 is above max 1."),
        ({"start": "2024-01-01", "end": "2024-01-02", "timezone": "Rome"},
         "Datetime: timezone: there is no time zone 'Rome'; names are as in Europe/Rome or UTC."),
        ({"start": "0001-01-01", "end": "2024-01-02", "timezone": "Asia/Tokyo"},
         ("Datetime: 0001-01-01 00:00:00 in its time zone is outside the years 1 to 9999 of "
          "UTC.")),
        ({"start": "2024-01-01", "end": "2024-01-02", "unit": "month"},
         "Datetime: unit: cannot be 'month'. Did you mean 'minute'?"),
    ],
)  # fmt: skip
def test_options_that_are_refused(options: dict[str, Value], sentence: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        Datetime(**options)
    assert str(caught.value.errors[0]) == sentence


def test_the_schema_of_its_values() -> None:
    span = {"start": "2024-01-01", "end": "2024-01-02"}
    assert Datetime(**span).value_schema() == {"type": "string", "format": "date"}
    assert Datetime(**span, unit="hour").value_schema() == {"type": "string", "format": "date-time"}
    assert Datetime(**span, format="%Y").value_schema() == {"type": "string"}
