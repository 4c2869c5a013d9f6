import pytest

from wordmill.columns.checks import as_an_ai, refused

REFUSALS = [
    "I'm sorry, but I can't help with that request.",
    "I’m sorry, but I can’t help with that.",
    "I cannot assist with that. If there is something else you need, I would be glad to help.",
    "I'm unable to provide that content, as it goes against my guidelines.",
    "Sorry, I can't do that.",
    "I apologize, but I cannot fulfill this request.",
    "Unfortunately, I am not able to write this.",
    "As an AI language model, I cannot help with that.",
    "I must respectfully decline.",
    "I'm sorry, but as an AI language model I cannot create that.",
    "I'm afraid I can't help with that.",
    "I won't be able to help with this one.",
    "I understand your request, but I cannot provide that.",
    "My apologies, but I can't continue with this.",
    "I do not feel comfortable generating it.",
    "Your request goes against my guidelines.",
    '"I am sorry, I cannot comply."',
]
ANSWERS = [
    "I'm sorry, but I can't find my order 4411 anywhere.",
    "I cannot believe how good the screen is.",
    "Sorry to bother you, my laptop won't start.",
    "I am unable to turn on the phone.",
    "I can't get the phone to charge; please help.",
    "We cannot stay in this house any longer.",
    "As a customer of ten years, I can't accept this.",
    "I am sorry that it took so long. Here is the answer.",
    "I understand. The answer is 4.",
    "I'm sorry, I can't log in to my account, can you help?",
    "I have to refuse delivery, the box is torn.",
    "The guard said: I'm sorry, but I can't help with that.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_found(text: str) -> None:
    fault = refused(text)
    assert fault is not None
    assert str(fault) == f"refused: {text}"


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_no_refusal(text: str) -> None:
    assert refused(text) is None


def test_a_long_refusal_is_shortened() -> None:
    fault = refused("I cannot assist with that. " + "Really. " * 100)
    assert fault is not None
    assert len(fault.detail) == 120
    assert fault.detail.endswith("...")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("As an AI language model, I do not have opinions.", "as an ai language model"),
        ("Well, as an AI, I think so.", "as an ai"),
        ("I am an AI assistant.", "i am an ai assistant"),
        ("I'm just an AI", "i'm just an ai"),
        ("As a large language model trained by", "as a large language model"),
        ("Speaking as an artificial intelligence, yes.", "as an artificial intelligence"),
    ],
)
def test_a_text_that_speaks_as_an_ai_is_found(text: str, words: str) -> None:
    assert str(as_an_ai(text)) == f'as_an_ai: the text says "{words}"'


@pytest.mark.parametrize(
    "text",
    ["He works on AI, as an engineer.", "As an aide to the mayor,", "I am an airline pilot."],
)
def test_a_text_about_ai_is_none(text: str) -> None:
    assert as_an_ai(text) is None
