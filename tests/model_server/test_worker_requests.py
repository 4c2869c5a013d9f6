"""What a body asks of an engine."""

import json
from typing import Any

import pytest

from wordmill.backends.base import MODES, Facts
from wordmill.chat.answering import _TOO_LONG
from wordmill.errors import InvalidInput
from wordmill.model_server.worker_requests import Chat, Completion, read, sampling

WAYS = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "typical_p": 0.5}
FACTS = Facts(
    "some", 100, 4, "cpu", "", frozenset(MODES) - {"typical_p"}, ends=frozenset({2}), ways=WAYS
)


def chat(**more: Any) -> Chat:
    body = {"messages": [{"role": "user", "content": "Hi"}], **more}
    return read(Chat, json.dumps(body).encode())


def test_what_the_makers_say_holds_where_the_request_says_nothing() -> None:
    made = sampling(FACTS, chat(), 10)
    assert (made.temperature, made.top_p, made.top_k) == (0.6, 0.9, 20)
    assert made.typical_p == 1.0  # the engine cannot do it, and nobody asked for it
    assert (made.max_tokens, made.ends) == (90, frozenset({2}))
    own = sampling(FACTS, chat(temperature=0, top_p=1, top_k=0, ignore_eos=True), 10)
    assert (own.temperature, own.top_p, own.top_k, own.ends) == (0.0, 1.0, 0, frozenset())
    assert own.greedy


def test_beams_draw_nothing_whatever_the_makers_say() -> None:
    made = sampling(FACTS, chat(num_beams=4), 10)
    assert (made.num_beams, made.top_k, made.greedy) == (4, 0, True)
    with pytest.raises(InvalidInput, match="goes without `temperature`"):
        sampling(FACTS, chat(num_beams=4, temperature=0.5), 10)


def test_the_two_names_of_the_bound_on_an_answer() -> None:
    assert sampling(FACTS, chat(max_tokens=5), 10).max_tokens == 5
    assert sampling(FACTS, chat(max_completion_tokens=6), 10).max_tokens == 6
    with pytest.raises(InvalidInput, match="Ask for at most 90, or shorten the prompt"):
        sampling(FACTS, chat(max_tokens=91), 10)
    with pytest.raises(InvalidInput, match="nothing is left for an answer") as refused:
        sampling(FACTS, chat(), 100)
    assert _TOO_LONG.search(str(refused.value))  # a conversation shortens itself then


def test_probabilities_are_asked_for_in_two_ways() -> None:
    assert sampling(FACTS, chat(logprobs=True), 1).logprobs == 0
    assert sampling(FACTS, chat(logprobs=True, top_logprobs=3), 1).logprobs == 3
    completion = read(Completion, b'{"prompt": "a", "logprobs": 2}')
    assert sampling(FACTS, completion, 1).logprobs == 2


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{", "The body is not JSON."),
        (b'{"messages": []}', "The field `messages` is wrong"),
        (b'{"messages": [{}], "extra": 1}', "does not know the field `extra`"),
        (b'{"messages": [{}], "temperature": "hot"}', "The field `temperature` is wrong"),
        (b'{"messages": [{}], "top_k": 1180591620717411303424}', "The field `top_k` is wrong"),
        (
            b'{"messages": [{}], "no_repeat_ngram_size": 1180591620717411303424}',
            "The field `no_repeat_ngram_size` is wrong",
        ),
        (b'{"messages": [{}], "length_penalty": 1e308}', "The field `length_penalty` is wrong"),
    ],
)
def test_a_body_that_is_wrong_is_a_sentence(raw: bytes, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(Chat, raw)
    assert words in str(refused.value)


@pytest.mark.parametrize("token", [-1, 2**31, 2**70])
def test_a_prompt_has_tokens_that_an_engine_can_hold(token: int) -> None:
    with pytest.raises(InvalidInput, match="The field `prompt"):
        read(Completion, json.dumps({"prompt": [1, token]}).encode())


def test_a_temperature_next_to_nothing_is_nothing() -> None:
    made = sampling(FACTS, chat(temperature=1e-40, top_k=5), 10)
    assert (made.temperature, made.greedy) == (0.0, True)
    assert sampling(FACTS, chat(temperature=0.01), 10).temperature == 0.01


def test_a_bias_names_tokens_by_number() -> None:
    assert sampling(FACTS, chat(logit_bias={"7": -100}), 1).logit_bias == {7: -100.0}
    with pytest.raises(InvalidInput, match="are numbers of tokens"):
        sampling(FACTS, chat(logit_bias={"the": 1}), 1)
    with pytest.raises(InvalidInput, match="is below 0 or too large"):
        sampling(FACTS, chat(logit_bias={str(2**70): 1}), 1)
