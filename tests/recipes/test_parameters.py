import pytest

from wordmill import Parameter, RecipeError
from wordmill.types import Value


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        (Parameter("integer"), "12", 12),
        (Parameter("integer", min=1, max=3), " 3 ", 3),
        (Parameter("number"), "0.5", 0.5),
        (Parameter("number"), "1e2", 100.0),
        (Parameter("number"), "3", 3),
        (Parameter("string"), "12", "12"),
        (Parameter("boolean"), "yes", True),
        (Parameter("boolean"), "False", False),
        (Parameter("choice", choices=["a", 2]), "2", 2),
    ],
)
def test_a_text_is_read_by_the_type(parameter: Parameter, text: str, value: Value) -> None:
    found = parameter.read(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("parameter", "text", "sentence"),
    [
        (Parameter("integer"), "x", "must be a whole number, not 'x'."),
        (Parameter("integer"), "1.5", "must be a whole number, not '1.5'."),
        (Parameter("integer", min=1, max=3), "4", "must be a whole number from 1 to 3, not 4."),
        (Parameter("number", min=0.5), "0.4", "must be a number of at least 0.5, not 0.4."),
        (Parameter("number"), "nan", "must be a number, not 'nan'."),
        (Parameter("number"), "1.2.3", "must be a number, not '1.2.3'."),
        (Parameter("string", max=2), "abc", "must be text of at most 2 characters, not 'abc'."),
        (Parameter("string"), "a\0", "must be text, not 'a\\x00'."),
        (Parameter("boolean"), "maybe", "must be true or false, not 'maybe'."),
        (Parameter("choice", choices=["a", 2]), "b", "must be one of a, 2, not 'b'."),
    ],
)
def test_what_does_not_fit_is_a_sentence(parameter: Parameter, text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        parameter.read(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"type": "int"}, "Parameter: type: cannot be 'int'. Did you mean 'integer'?"),
        (
            {"type": "integer", "default": "x"},
            "Parameter: must be a whole number, not 'x'.",
        ),
        ({"type": "choice"}, "Parameter: `choices` and `type: choice` go together."),
        ({"choices": ["a"]}, "Parameter: `choices` and `type: choice` go together."),
        ({"type": "boolean", "min": 1}, "Parameter: a boolean has no `min` and no `max`."),
        ({"type": "integer", "min": 3, "max": 1}, "Parameter: `min` 3 is above `max` 1."),
    ],
)
def test_a_declaration_that_cannot_be_is_a_sentence(options: Value, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Parameter(**options)
    assert str(caught.value) == sentence


def test_values_are_checked_as_they_are() -> None:
    assert Parameter("integer").checked(3.0) == 3
    assert Parameter("string").checked("") == ""
    for value in (True, "3", float("nan"), [3]):
        with pytest.raises(ValueError):
            Parameter("integer").checked(value)
    with pytest.raises(ValueError):
        Parameter("choice", choices=[1]).checked(True)
