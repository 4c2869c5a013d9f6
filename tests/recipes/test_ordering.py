from wordmill.recipes.ordering import circles, ordered


def needs(**columns: str) -> dict[str, frozenset[str]]:
    return {name: frozenset(reads.split()) for name, reads in columns.items()}


def test_a_column_comes_after_what_it_reads_and_else_as_written() -> None:
    assert ordered(needs(d="a", a="", c="b", b="", e="")) == ("a", "d", "b", "c", "e")
    assert ordered(needs(a="", b="", c="")) == ("a", "b", "c")
    assert ordered(needs(a="b", b="c", c="d", d="")) == ("d", "c", "b", "a")


def test_a_long_chain_needs_no_recursion() -> None:
    names = [f"c{n}" for n in range(5_000)]
    chain = {name: frozenset([after]) for name, after in zip(names, [*names[1:], ""], strict=True)}
    chain[names[-1]] = frozenset()
    assert ordered(chain) == tuple(reversed(names))


def test_circles_are_told_with_their_steps() -> None:
    found = circles(needs(a="b x", b="c", c="a", me="me", x="", after="a", pair="two", two="pair"))
    assert [str(fault) for fault in found] == [
        (
            "columns.a: no column of a circle can be made first: 'a' needs 'b', 'b' needs 'c', "
            "'c' needs 'a'."
        ),
        "columns.me: the column 'me' needs itself.",
        (
            "columns.pair: no column of a circle can be made first: 'pair' needs 'two', "
            "'two' needs 'pair'."
        ),
    ]
    assert circles(needs(a="b", b="")) == []


def test_circles_that_share_a_column_are_told_once() -> None:
    found = circles(needs(a="b c", b="a", c="a"))
    assert [fault.path for fault in found] == [("columns", "a")]
