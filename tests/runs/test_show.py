import pytest

from wordmill.runs.show import by_cause, count, duration, money, rounded, row_lines, safe


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (4.6, "0:05"), (59.6, "1:00"), (754, "12:34"), (11_103, "3:05:03")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "$0.00"), (0.31, "$0.31"), (1234.5, "$1,234.50"), (0.0042, "$0.0042"),
     (0.00003, "$0.00003")],
)  # fmt: skip
def test_money(amount: float, shown: str) -> None:
    assert money(amount) == shown


def test_counts_and_causes() -> None:
    assert [count(number, "row") for number in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]
    assert by_cause({"dropped": 3, "throttled": 1200, "cut": 3, "none": 0}) == (
        "1,200 throttled, 3 cut, 3 dropped"
    )
    assert [rounded(number) for number in (7, 99, 104, 412_345)] == ["7", "99", "100", "410,000"]


def test_what_steers_a_terminal_is_shown() -> None:
    assert safe("a\x1b[2Jb\r\nc\td\x00\u202ee\ud800") == "a\\x1b[2Jb\nc\td\\x00\\x202ee\\ud800"


def test_a_row_in_full() -> None:
    record = {
        "row": 4,
        "kept": False,
        "values": {
            "mood": "calm",
            "note": "First line.\n\n" + "A long second paragraph that goes on and on. " * 3,
            "tags": ["a", "b"],
            "none": None,
            "level": {"level": 3, "sure": True},
            "deeds": [{"text": "Mend.", "error": None}, {"text": "Sail.", "error": "cut: x"}],
            "lost": None,
        },
        "errors": {"lost": "refused: no"},
        "lineage": {
            "note": {"model": "mock", "output_tokens": 1, "cached": True, "asked": 2},
        },
    }
    columns = ("mood", "note", "tags", "none", "level", "deeds", "lost")
    assert list(row_lines(record, columns, 60)) == [
        "row 4  (turned down)",
        "  mood   calm",
        "  note   First line.",
        "         ",
        "         A long second paragraph that goes on and on. A long",
        "         second paragraph that goes on and on. A long second",
        "         paragraph that goes on and on.",
        "         (mock, 1 token, from cache, asked 2 times)",
        "  tags   a, b",
        "  none   -",
        "  level",
        "      level  3",
        "      sure   true",
        "  deeds",
        "      0",
        "          text   Mend.",
        "          error  -",
        "      1",
        "          text   Sail.",
        "          error  cut: x",
        "  lost   [failed] refused: no",
    ]


def test_a_row_that_keep_cannot_judge() -> None:
    record = {"row": 3, "values": {}, "errors": {"recipe.keep": "keep: no"}, "kept": False}
    assert list(row_lines(record, ())) == ["row 3  (not kept: `keep` cannot judge it)"]
