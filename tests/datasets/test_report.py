"""The report: a page of its own that says what is in the rows."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.made import SUMMARY, TICKETS, as_bytes, ticket
from wordmill.datasets import ColumnInfo, Dataset, DatasetInfo, DatasetWriter
from wordmill.datasets.pages import count, duration, money, percent, plural, rate

VOID = {"meta", "rect", "line"}


class Page(HTMLParser):
    """Text and tags of a page; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.pieces: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def page_of(folder: Path, info: DatasetInfo, records: list[dict[str, Any]], **summary: Any) -> Page:
    with DatasetWriter(folder, info) as writer:
        writer.add(as_bytes(records))
        writer.finish(replace(SUMMARY, **summary))
    return Page((folder / "report.html").read_text())


def one(schema: dict[str, Any], values: list[Any], kind: str = "prompt") -> dict[str, Any]:
    return {
        "info": DatasetInfo(name="one", columns=(ColumnInfo("value", kind, schema),)),
        "records": [{"row": n, "values": {"value": v}} for n, v in enumerate(values)],
    }


def test_what_the_page_says(tickets: Dataset) -> None:
    page = Page((tickets.folder / "report.html").read_text())
    for words in (
        "tickets Customers write about what they bought.",
        "2026-11-21 02:00 run 3f9a seed 7 recipe 5f5f5f5f5f5f mock (mock-1)",
        "requests 400 3 cached, 0 joined",
        "tokens 109,000 48,000 in, 61,000 out",
        "money $0.04 time 12 s 200 rows/s",
        "75 with something that failed",
        "urgency schema 50 schema: /level is not an integer",
        "those put right by asking again included: schema 100, refused 25.",
        "2 of 2 values drawn thinnest: phone",
        "2 of 3 values drawn never drawn: sad",
        "mood × product 2 combinations never drawn",
        "exact repeats: 0 % 25 null",
        "10 rows in full",
    ):
        assert words in page.text, words
    assert "Rehearsed" not in page.text


def test_counts_of_the_outcome_add_up(tickets: Dataset) -> None:
    page = Page((tickets.folder / "report.html").read_text())
    found = re.search(
        r"([\d,]+) whole and kept ([\d,]+) turned down by verdict.realism >= 2 ([\d,]+) with",
        page.text,
    )
    assert found is not None
    whole, down, failed = (int(n.replace(",", "")) for n in found.groups())
    rows = [ticket(row, size=60) for row in range(2500)]
    assert failed == sum(bool(row["errors"]) for row in rows)
    assert down == sum(row["kept"] is False and not row["errors"] for row in rows)
    assert whole + down + failed == 2500


def test_linked_tables_have_their_own_part(scenarios: Dataset) -> None:
    page = Page((scenarios.folder / "report.html").read_text())
    for words in (
        "Rehearsed. 60 of 60 rows hold answers of the rehearsal model: plausible filler",
        "actions 180 items, 3 a row",
        "comparison 168 items, 2.80 a row",
        "balanced 60 inaction 60 short-sighted 60",
        "suffering mean",
        "actions section 6 section: no heading ACTION",
        "score rehearsal 174 174",
        "never drawn: Critical",
        "6 of 6 values drawn each 10 times",
    ):
        assert words in page.text, words


def test_nothing_is_fetched_or_run(scenarios: Dataset) -> None:
    html = (scenarios.folder / "report.html").read_text()
    page = Page(html)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "form", "base"})
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [name for name, _ in page.attributes if name in ("src", "href", "action")]
    assert not re.findall(r"https?://|url\(|@import", html)
    assert (
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
    ) in html


def test_texts_of_models_stay_texts(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"
    made = ticket(0)
    made["values"]["ticket"] = evil
    made["values"]["verdict"]["reason"] = evil
    made["values"]["product"] = evil
    made["errors"] = {"mood": f"refused: {evil}"}
    info = replace(TICKETS, name=evil, description=evil, keep=evil, run=evil)
    page = page_of(tmp_path, info, [made] * 1, ended=evil, started=evil)
    assert page.tags.isdisjoint({"script", "img"})
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(evil) >= 6


def test_scores_are_shown_on_their_whole_scale(tmp_path: Path) -> None:
    schema = {"type": "integer", "minimum": 0, "maximum": 4}
    page = page_of(tmp_path, **one(schema, [1, 1, 3]))
    assert "mean 1.67 median 1 from 1 to 3 0 1: 2 2 1 2 3: 1 1 3 4" in page.text


def test_lengths_are_a_histogram(tmp_path: Path) -> None:
    page = page_of(tmp_path, **one({"type": "string"}, ["x" * n for n in range(1, 101)]))
    assert "median 50 characters, 90 % between 5 and 95, longest 100" in page.text
    assert "0 to 4: 4" in page.text
    assert "95 to 99: 5" in page.text


def test_openings_and_repeats(tmp_path: Path) -> None:
    texts = [f"In a small town {n} people" for n in range(30)] + ["The same again."] * 10
    page = page_of(tmp_path, **one({"type": "string"}, texts))
    assert "exact repeats: 22 %" in page.text
    assert "most repeated openings In a small town 30 The same again. 10" in page.text


def test_many_values_are_not_all_drawn(tmp_path: Path) -> None:
    words = [f"word {n}" for n in range(3000)]
    page = page_of(tmp_path, **one({"enum": words}, words[:200] + words[:1], "category"))
    assert "200 of 3,000 values drawn word 0 2" in page.text
    assert "and 2,992 more values, 192 times in all" in page.text


def test_numbers_are_a_histogram(tmp_path: Path) -> None:
    values = [n / 10 for n in range(-500, 500)]
    page = page_of(tmp_path, **one({"type": "number"}, values, "number"))
    assert "mean -0.05 median -0.1 from -50 to 49.90" in page.text
    assert "-50 to -45: 50" in page.text


def test_one_number_alone(tmp_path: Path) -> None:
    page = page_of(tmp_path, **one({"type": "number"}, [2.5], "number"))
    assert "mean 2.50 median 2.50 from 2.50 to 2.50" in page.text


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("number", [1e17]),
        ("number", [1e300, 1e300]),
        ("number", [-1.7e308, 0.0, 1.7e308]),
        ("number", [5e-324, 1e-323]),
        ("integer", [2**63 - 1, -(2**63)]),
        ("integer", [2**53 + 1] * 30),
    ],
)
def test_the_largest_and_the_smallest_numbers(
    tmp_path: Path, kind: str, values: list[float]
) -> None:
    page = page_of(tmp_path, **one({"type": kind}, values, "number"))
    assert f"from {count(min(values))} to {count(max(values))}" in page.text


def test_lists_are_counted_and_looked_into(tmp_path: Path) -> None:
    schema = {"type": "array", "items": {"type": "string", "enum": ["red", "blue"]}}
    page = page_of(tmp_path, **one(schema, [["red"], ["red", "blue"], [], None]))
    assert "(items) mean 1 median 1 from 0 to 2 1 null" in page.text
    assert "2 of 2 values given thinnest: blue (1) red 2 blue 1" in page.text


def test_columns_without_values_are_named(tmp_path: Path) -> None:
    page = page_of(tmp_path, **one({"type": "string"}, [None, None]))
    assert "Without any value: value." in page.text


def test_a_category_of_objects_is_known_by_its_value(tmp_path: Path) -> None:
    entries = [{"value": "Serious", "rank": 6}, {"value": "Minor", "rank": 1}]
    schema = {
        "type": "object",
        "properties": {"value": {"enum": ["Serious", "Minor"]}, "rank": {"enum": [6, 1]}},
    }
    page = page_of(tmp_path, **one(schema, [entries[0]] * 3 + [entries[1]], "category"))
    assert "value category 2 of 2 values drawn thinnest: Minor (1) Serious 3 Minor 1" in page.text


def test_a_very_long_text_is_cut_on_the_page(tmp_path: Path) -> None:
    page_of(tmp_path, **one({"type": "string"}, ["x" * 2_000_000]))
    html = (tmp_path / "report.html").read_text()
    assert "[... 1,980,000 more characters]" in html
    assert len(html) < 100_000


def test_a_dataset_without_rows_has_a_report(tmp_path: Path) -> None:
    page = page_of(tmp_path, TICKETS, [])
    assert "rows 0" in page.text


def test_very_many_columns_are_bounded(tmp_path: Path) -> None:
    info = DatasetInfo(
        name="wide",
        columns=tuple(ColumnInfo(f"c{n}", "prompt", {"type": "string"}) for n in range(100)),
    )
    record = {"row": 0, "values": {f"c{n}": f"text {n}" for n in range(100)}}
    page = page_of(tmp_path, info, [record])
    assert "20 more parts of columns are not pictured." in page.text


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (count(12500), "12,500"),
        (count(2.0), "2"),
        (count(0.25), "0.25"),
        (count(1234.5), "1,234.50"),
        (percent(0), "0 %"),
        (percent(1), "100 %"),
        (percent(0.0004), "< 0.1 %"),
        (percent(0.9996), "> 99.9 %"),
        (percent(0.034), "3.4 %"),
        (percent(0.34), "34 %"),
        (money(0, "USD"), "$0.00"),
        (money(0.31, "USD"), "$0.31"),
        (money(0.000042, "USD"), "$0.000042"),
        (money(12, "EUR"), "12.00 EUR"),
        (duration(0.84), "0.8 s"),
        (duration(59.7), "1 min 0 s"),
        (duration(185), "3 min 5 s"),
        (duration(7800), "2 h 10 min"),
        (plural(1, "row"), "1 row"),
        (rate(8412.3), "8,412"),
        (rate(1.26), "1.3"),
        (plural(2000, "row"), "2,000 rows"),
    ],
)
def test_numbers_for_people(said: str, words: str) -> None:
    assert said == words
