import pickle
from collections.abc import Callable

import pytest

from wordmill import Category, Judge, Prompt, RecipeError
from wordmill.columns.base import Column
from wordmill.columns.faults import path_of, place
from wordmill.errors import RecipeErrors


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Prompt(), "Prompt: the option 'prompt' is missing."),
        (
            lambda: Prompt("x", promt="y"),
            "Prompt: there is no option 'promt'. Did you mean 'prompt' or 'parameters'?",
        ),
        (lambda: Prompt(3), 'Prompt: prompt: must be text, not 3. Put it in quotes: "3".'),
        (
            lambda: Prompt("x", parameters={"temperature": 3}),
            "Prompt: parameters.temperature: must be at most 2.0, not 3.",
        ),
        (
            lambda: Prompt("x", parameters={"temprature": 1}),
            "Prompt: parameters: there is no option 'temprature'. Did you mean 'temperature'?",
        ),
        (
            lambda: Prompt("x", parameters={"temperature": "hot"}),
            "Prompt: parameters.temperature: must be a number, not 'hot'.",
        ),
        (lambda: Prompt("x", again="no"), "Prompt: again: must be a whole number, not 'no'."),
        (lambda: Prompt("x", again=-1), "Prompt: again: must be at least 0, not -1."),
        (lambda: Prompt("x", examples=3), "Prompt: examples: must be a list, not 3."),
        (
            lambda: Prompt("x", examples=[{"user": "a"}]),
            "Prompt: examples[0]: the option 'assistant' is missing.",
        ),
        (
            lambda: Prompt("x", checks=["refusals"]),
            "Prompt: checks[0]: cannot be 'refusals'. Did you mean 'refusal'?",
        ),
        (
            lambda: Prompt("x", choices={"a": 1}),
            "Prompt: choices: must be a list or text, not {'a': 1}.",
        ),
        (
            lambda: Prompt("x", choices=["a", "b"], schema={}),
            "Prompt: `choices` and `schema` exclude each other: an `enum` does both.",
        ),
        (
            lambda: Prompt("x", parameters={"extra": {"n": 3}}),
            (
                "Prompt: parameters.extra: 'n' is not for `extra`: "
                "a column of type candidates has the option `n`."
            ),
        ),
        (
            lambda: Judge("x", scores={"a": "good?"}),
            (
                "Judge: scores.a: 'good?' does not begin with a scale. Write `0 to 4, what it "
                "means`, or {min: 0, max: 4, help: what it means}."
            ),
        ),
        (
            lambda: Prompt("x", "y"),
            "Prompt: of its options, only 'prompt' may come without a name.",
        ),
        (lambda: Prompt("x", prompt="y"), "Prompt got its option 'prompt' twice."),
    ],
)
def test_a_fault_is_a_sentence_with_the_nearest_name(
    make: Callable[[], Column], sentence: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        make()
    assert str(caught.value) == sentence


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(RecipeErrors) as caught:
        Prompt(prompt=3, again="x", modle="m")
    assert [error.message for error in caught.value.each] == [
        "Prompt: again: must be a whole number, not 'x'.",
        'Prompt: prompt: must be text, not 3. Put it in quotes: "3".',
        "Prompt: there is no option 'modle'. Did you mean 'model'?",
    ]
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.each[1].message == caught.value.each[1].message


def test_the_main_option_may_come_first() -> None:
    assert Category(["a", "b"]) == Category(values=["a", "b"])
    assert Prompt("x", again=1) == Prompt(prompt="x", again=1)


def test_paths_are_written_and_read_back() -> None:
    for path in [(), ("a",), ("examples", 0, "user"), ("a", "b", 12)]:
        assert path_of(place(path)) == path
