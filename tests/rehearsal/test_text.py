"""Free text, and the forms that a prompt can ask for."""

import json
import math
import re
from collections import Counter

import openai
import pytest

from tests.rehearsal.asked import Rehearse, ask, chat, say, text_of
from wordmill._engine import Rehearsal


def test_a_text_is_english_and_differs_row_by_row(server: Rehearsal) -> None:
    texts = [say(server, f"Customer {n} writes about a laptop and its charger.") for n in range(50)]
    assert len(set(texts)) == 50
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=\.)\s+", text)]
    assert len(set(sentences)) > len(sentences) * 0.97
    for sentence in sentences:
        assert re.fullmatch(r"[A-Z][A-Za-z',: ’-]+\.", sentence), sentence
    assert all(60 <= len(text.split()) <= 140 for text in texts)
    assert sum("laptop" in text or "charger" in text for text in texts) > 40


def test_the_same_request_gets_the_same_text(rehearse: Rehearse) -> None:
    first, same, other = rehearse(seed=1), rehearse(seed=1), rehearse(seed=2)
    text = say(first, "hello")
    assert say(first, "hello") == text
    assert say(same, "hello") == text
    assert say(other, "hello") != text
    # Of two ways to write a request both are the same; of two seeds or models they are not.
    loose = json.dumps(chat("hello"), indent=3).replace('"hello"', '"h\\u0065llo"')
    assert text_of(ask(first, loose.encode())) == text
    assert say(first, "hello", seed=1) != text
    assert text_of(ask(first, {**chat("hello"), "model": "other"})) != text
    assert say(first, "hello", temperature=0.5, user="x") == text


def test_content_may_be_parts(server: Rehearsal) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    parts = [{"type": "text", "text": "hello"}, picture]
    body = {**chat(""), "messages": [{"role": "user", "content": parts}]}
    assert text_of(ask(server, body)) == say(server, "hello")


def test_several_choices_differ(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(**chat("hello", n=5))
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3, 4]
    texts = [choice.message.content or "" for choice in reply.choices]
    assert len(set(texts)) == 5
    assert reply.usage is not None
    assert reply.usage.completion_tokens == sum(math.ceil(len(text) / 4) for text in texts)


def test_usage_is_plausible_and_stable(server: Rehearsal) -> None:
    usage = ask(server, chat("x" * 400)).body["usage"]
    assert usage["prompt_tokens"] == 100 + 4 + 3
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert ask(server, chat("x" * 400)).body["usage"] == usage


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_an_answer_ends_with_its_tokens(server: Rehearsal, field: str) -> None:
    whole = say(server, "hello")
    reply = ask(server, chat("hello", **{field: 12}))
    (choice,) = reply.body["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == whole[:48]
    assert reply.body["usage"]["completion_tokens"] == 12
    enough = ask(server, chat("hello", **{field: 4096})).body["choices"][0]
    assert (enough["finish_reason"], enough["message"]["content"]) == ("stop", whole)


def test_an_answer_ends_at_a_stop_word(server: Rehearsal) -> None:
    whole = say(server, "hello")
    assert say(server, "hello", stop=[". ", "never"]) == whole.partition(". ")[0]
    assert say(server, "hello", stop="the ") == whole.partition("the ")[0]


def test_choices_are_answered_with_one_of_them(server: Rehearsal) -> None:
    prompt = "How does it sound? {}\nAnswer with exactly one of: calm, very angry, sad"
    counts = Counter(say(server, prompt.format(n)) for n in range(300))
    assert set(counts) == {"calm", "very angry", "sad"}
    assert min(counts.values()) > 60


def test_headings_lists_scores_and_lengths_are_kept(server: Rehearsal) -> None:
    text = say(server, "What to do? Use the headings CONSIDERATIONS and ACTION.")
    assert re.fullmatch(r"CONSIDERATIONS\n[^\n]{80,}\n\nACTION\n[^\n]{80,}", text)
    text = say(server, "Give me a numbered list of three ideas.")
    assert re.fullmatch(r"1\. [^\n]+\n2\. [^\n]+\n3\. [^\n]+", text)
    text = say(server, "Rate it on a scale from 0 to 4. Answer with a single number.")
    assert text in "01234"
    assert say(server, "Say it in one sentence.").count(".") == 1
    assert len(say(server, "Answer with one word.").split()) == 1
    assert 240 < len(say(server, "Tell it in 300 words.").split()) < 360
    assert len(say(server, "Give it a title.").split()) < 9
