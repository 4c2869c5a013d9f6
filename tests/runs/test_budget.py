import pytest

from wordmill.errors import ConfigError
from wordmill.runs.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5usd", Budget(money=5.0)),
        ("$2.50", Budget(money=2.5)),
        ("200000tokens", Budget(tokens=200_000)),
        ("200,000 tokens", Budget(tokens=200_000)),
        ("200k tokens", Budget(tokens=200_000)),
        ("1.5M tokens", Budget(tokens=1_500_000)),
        ("1 request", Budget(requests=1)),
        ("5usd,200000tokens, 1000requests", Budget(1000, 200_000, 5.0)),
    ],
)
def test_a_budget_is_read(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget
    assert parse_budget(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("5", "'5' is no budget. Write it as 5usd, 200000tokens, 1000requests"),
        ("5 euro", "'5 euro' is no budget."),
        ("", "'' is no budget."),
        ("0usd", "A budget of '0usd' would send nothing."),
        ("-3usd", "'-3usd' is no budget."),
        ("1.5requests", "'1.5requests': there are no parts of requests."),
        ("1usd,2usd", "The budget '1usd,2usd' names money twice."),
    ],
)
def test_what_is_no_budget_is_told(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_budget(text)
    assert str(error.value).startswith(sentence)
    assert str(error.value).endswith("or several of them with a comma.")


def test_new_ceilings_leave_the_others() -> None:
    earlier = Budget(requests=10, money=1.0)
    assert Budget(money=2.0).or_else(earlier) == Budget(requests=10, money=2.0)
    assert Budget().or_else(earlier) == earlier
    assert not Budget()
    assert Budget(tokens=1).ceilings() == {"tokens": 1}
