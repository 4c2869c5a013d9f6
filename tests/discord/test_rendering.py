"""Markdown as Discord shows it."""

from hypothesis import given, settings
from hypothesis import strategies as some

from wordmill.channels.discord.rendering import MOST, render
from wordmill.channels.rooms.splitting import utf16_units

LINES = some.sampled_from([
    "", "text", "# One", "##### Five", "| a | b |", "|---|---|", "| 1 | 2 |", "```py", "````",
    "~~~", "```", ">>> all", "a || b", "![x](http://a/b.png)", "---", "`||`", "x" * 600, "-# small",
    "👍" * 300, "| a | b ||| c ||" * 40, "- [ ] task",
])  # fmt: skip


@given(some.lists(LINES, max_size=12).map("\n".join))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_a_message_that_fits_still_fits(text):
    while utf16_units(text) > MOST:
        text = text[: len(text) // 2]
    assert utf16_units(render(text)) <= MOST


def test_a_table_is_code_with_its_columns_below_each_other():
    table = "Prices:\n\n| fruit | price |\n|:--|--:|\n| apple | 1 |\n| banana split | 20 |\n\nDone."
    assert render(table) == (
        "Prices:\n\n```\nfruit        | price\n-------------+------\napple        | 1\n"
        "banana split | 20\n```\n\nDone."
    )


def test_what_discord_does_not_know_is_written_as_what_it_knows():
    assert render("#### Deep") == "**Deep**"
    assert render("### Third") == "### Third"
    assert render("![A cat](https://a.example/cat.png)") == "[A cat](https://a.example/cat.png)"
    assert render("~~~python\nx\n~~~") == "```python\nx\n```"
    assert render("````md\n```py\n```\n````") == "```md\n`\u200b``py\n`\u200b``\n```"


def test_marks_of_discord_alone_lose_their_meaning():
    assert render("a || b || c") == "a \\|\\| b \\|\\| c"
    assert render("`a || b`") == "`a || b`"
    assert render(">>> import this") == "\\>>> import this"
    assert render("```\na || b\n>>> x\n```") == "```\na || b\n>>> x\n```"
