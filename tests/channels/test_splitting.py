"""Long texts go in parts: nothing lost, nothing doubled, no part too large, fences balanced."""

import re
import time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as some

from wordmill.channels.rooms.splitting import (
    SMALLEST,
    characters,
    growing,
    parts,
    split,
    utf8_bytes,
    utf16_units,
)

LINES = some.sampled_from([
    "", " ", "```", "```python", "~~~", "~~~~ text", "````", "  ```rust", "> ```", "- ```sh",
    "- a point", "  - one below", "# A heading", "A sentence. And another one! Really?",
    "    indented code", "x" * 75, "| a | b |", "你好。世界！" * 7, "👨‍👩‍👧‍👦" * 9, "🇩🇪" * 11,
    "e\u0301\u0323" * 20, "def f(x):", "    return {", "``", "`", "```not `a` fence", "1. ",
    "word " * 14, "\t\ttabs", "\r", "see ```py", "مرحبا بالعالم",
])  # fmt: skip
TEXTS = some.lists(LINES, max_size=25).map("\n".join) | some.text(max_size=300)
LIMITS = some.integers(SMALLEST, 200)
MEASURES = some.sampled_from([characters, utf8_bytes, utf16_units])


def unbalanced(text: str) -> bool:
    """Whether a fence is open at the end: written anew, from what a reader of Markdown does."""
    fence = None
    for line in text.split("\n"):
        bare = re.sub(r"^(?:[ \t>]|(?:[-*+]|\d{1,9}[.)])[ \t])*", "", line)
        marks = re.match(r"`{3,}|~{3,}", bare)
        if fence is None and marks and not (marks[0][0] == "`" and "`" in bare[marks.end() :]):
            fence = marks[0]
        elif fence and re.fullmatch(rf"[ \t>]*{fence}{fence[0]}*\s*", line):
            fence = None
    return fence is not None


def sayable(text: str) -> str:
    """Lone surrogates cannot be sent anywhere."""
    return text.encode("utf-8", "ignore").decode()


@given(TEXTS, LIMITS, MEASURES)
@settings(max_examples=300, deadline=None, derandomize=True)
@example("```\n" + "x" * 500, 40, characters)
@example("a\n```\n" + "\n" * 90 + "b\n```", 40, characters)
@example(" " * 300 + "x", 40, characters)
@example("`" * 300, 40, characters)
@example("a" + "\u0301" * 300, 40, utf8_bytes)
def test_nothing_is_lost_or_doubled_and_no_part_is_too_large(text, limit, measure):
    text = sayable(text)
    made = list(parts(text, limit, measure))
    assert "".join(part.body + part.gap for part in made) == text
    assert all(part.gap.strip() == "" for part in made)
    assert all(measure(part.text) <= limit for part in made)
    assert all(part.body in part.text for part in made)
    assert [part.text for part in made if part.text.strip()] == split(text, limit, measure)


@given(some.lists(LINES.filter(lambda line: len(line) <= 16), max_size=40), some.integers(64, 200))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_fences_are_closed_in_each_part_and_opened_in_the_next(lines, limit):
    text = "\n".join(lines)
    assert not any(unbalanced(part) for part in split(text, limit))


@given(TEXTS, LIMITS, MEASURES, some.data())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_text_that_grows_changes_its_last_part_alone(text, limit, measure, data):
    text = sayable(text)
    before = growing(text[: data.draw(some.integers(0, len(text)))], limit, measure)
    after = growing(text, limit, measure)
    assert before[:-1] == after[: max(0, len(before) - 1)]
    assert len(before) <= max(len(after), 1) or before == after


@given(some.lists(some.text("abcdefgh", min_size=1, max_size=30), max_size=80), LIMITS)
@settings(deadline=None, derandomize=True)
def test_words_stay_whole(words, limit):
    made = split(" ".join(words), limit)
    assert " ".join(made).split() == words


@given(
    some.text("e\u0301\u0323👍🏽🇩🇪🇫🇷👩‍🔬각\u1100\u1161", max_size=200), some.integers(SMALLEST, 90)
)
@settings(deadline=None, derandomize=True)
def test_what_is_seen_as_one_character_stays_whole(text, limit):
    from wcwidth import iter_graphemes

    whole = list(iter_graphemes(text))
    assume(all(len(one) <= 20 for one in whole))
    made = [one for part in parts(text, limit) for one in iter_graphemes(part.body)]
    assert made == whole


def test_a_short_text_is_one_message():
    assert split("Hello, *world*.", 2000) == ["Hello, *world*."]
    assert split("  \n\n", 2000) == []
    assert split("", 2000) == []


def test_code_goes_on_with_its_language():
    code = "\n".join(f"line_{number} = {number}" for number in range(8))
    made = split(f"See:\n\n```python\n{code}\n```\n\nThat is it.", 100)
    assert made == [
        (
            "See:\n\n```python\nline_0 = 0\nline_1 = 1\nline_2 = 2\nline_3 = 3\nline_4 = 4\n"
            "line_5 = 5\nline_6 = 6\n```"
        ),
        "```python\nline_7 = 7\n```\n\nThat is it.",
    ]


def test_code_in_a_list_is_opened_again_at_its_depth():
    text = (
        "1. First:\n   ```sh\n"
        + "\n".join(f"   echo {n}" for n in range(10))
        + "\n   ```\n2. Done."
    )
    first, second = split(text, 100)
    assert first.endswith("\n   ```")
    assert second.startswith("   ```sh\n   echo ")
    assert second.endswith("\n   ```\n2. Done.")


def test_paragraphs_are_preferred_to_lines_and_lines_to_sentences_and_those_to_words():
    first, rest = "x" * 40, "y" * 30
    assert split(f"{first}\n\nline\n{rest}", 66)[0] == first
    assert split(f"{first}\nIt ends. And {rest}", 66)[0] == first
    assert split(f"{first} ab. and more {rest}", 66)[0] == f"{first} ab."
    assert split(f"{first} and {rest}", 66)[0] == f"{first} and"
    assert split("你" * 30 + "。" + "好" * 30, 50)[0] == "你" * 30 + "。"
    assert split("x" * 70, 66) == ["x" * 66, "x" * 4]


def test_an_answer_cut_off_in_code_is_closed():
    assert split("```py\nx = 1", 2000) == ["```py\nx = 1\n```"]
    assert growing("```py\nx = 1\n``", 2000) == ["```py\nx = 1\n```"]


def test_a_limit_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="a limit of 39 is too small: 40 is the least"):
        split("text", 39)


def test_a_megabyte_is_split_in_linear_time():
    def taken(text: str) -> float:
        begun = time.process_time()
        assert all(len(part) <= 2000 for part in split(text, 2000))
        return time.process_time() - begun

    for text in (
        "word " * 200_000,
        "x" * 1_000_000,
        "```\n" + "code()\n" * 150_000,
        "a\u0301" * 500_000,
    ):
        assert taken(text) < 10, text[:10]
