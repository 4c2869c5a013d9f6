"""What of a conversation goes to a model: the last whole turns, and the prompt in any case."""

from collections.abc import Iterator

from wordmill.chat.context import Fitted, Turn, fit


def turns(*sizes: int) -> list[Turn]:
    """Turns of so many messages, the oldest first; each message is one word."""
    made = []
    for number, size in enumerate(sizes):
        names = [f"{number}.{place}" for place in range(size)]
        wires = tuple({"role": "user", "content": name} for name in names)
        made.append(Turn(tuple(names), wires))
    return made


def fitted(made: list[Turn], system: str = "", **options) -> Fitted:
    options = {"window": None, "answer": None, "buffer": None, **options}
    total = sum(len(turn.messages) for turn in made)
    return fit(reversed(made), total, system, count=lambda wires: 10 * len(wires), **options)


def test_without_a_bound_all_goes():
    found = fitted(turns(2, 2, 1), "Be brief.")
    assert found.ids == ("0.0", "0.1", "1.0", "1.1", "2.0")
    assert found.messages[0] == {"role": "system", "content": "Be brief."}
    assert (found.dropped, found.tokens) == (0, 60)


def test_whole_turns_go_the_oldest_first_and_the_prompt_stays():
    # 100 tokens, 25 of them for the answer and 10 for the prompt: 65 are six messages.
    found = fitted(turns(2, 3, 2, 1), "Be brief.", window=100)
    assert found.ids == ("1.0", "1.1", "1.2", "2.0", "2.1", "3.0")
    assert found.dropped == 2
    # A message less, and the whole turn of three goes.
    found = fitted(turns(2, 3, 2, 1), "Be brief.", window=99, answer=30)
    assert found.ids == ("2.0", "2.1", "3.0")
    assert found.dropped == 5
    assert found.messages[0]["role"] == "system"


def test_the_last_question_goes_even_where_it_does_not_fit():
    found = fitted(turns(2, 1), "Be brief.", window=5)
    assert found.ids == ("1.0",)
    assert [wire["content"] for wire in found.messages] == ["Be brief.", "1.0"]


def test_at_most_so_many_messages_and_the_prompt_beside_them():
    made = turns(2, 2, 2, 1)
    kept = {size: fitted(made, "Be brief.", buffer=size).ids for size in (1, 2, 3, 4, 5, 100)}
    assert kept == {
        1: ("3.0",),
        2: ("3.0",),
        3: ("2.0", "2.1", "3.0"),
        4: ("2.0", "2.1", "3.0"),
        5: ("1.0", "1.1", "2.0", "2.1", "3.0"),
        100: ("0.0", "0.1", "1.0", "1.1", "2.0", "2.1", "3.0"),
    }
    assert fitted(made, "Be brief.", buffer=1).messages[0]["content"] == "Be brief."


def test_room_is_kept_for_what_comes_after_the_messages_and_for_the_answer():
    beside = [{"role": "user", "content": "Go on."}]
    assert fitted(turns(1, 1, 1), window=100, answer=60).ids == ("0.0", "1.0", "2.0")
    assert fitted(turns(1, 1, 1), window=100, answer=60, beside=beside).dropped == 0
    assert fitted(turns(1, 1, 1), window=100, answer=70, beside=beside).dropped == 1
    assert fitted(turns(1, 1, 1), window=100, answer=80, beside=beside).dropped == 2


def test_a_long_past_is_not_looked_at():
    seen: list[int] = []

    def newest_first() -> Iterator[Turn]:
        for number in range(5000):
            seen.append(number)
            yield Turn((str(number),), ({"role": "user", "content": "word"},))

    found = fit(
        newest_first(), 5000, "", count=lambda wires: 10 * len(wires), window=1000, answer=0,
        buffer=None,
    )  # fmt: skip
    assert len(found.ids) == 100
    assert found.dropped == 4900
    assert len(seen) == 101
