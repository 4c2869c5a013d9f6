"""Titles: the model makes one, once, and a person's own is never replaced."""

import pytest

from tests.chat.talk import Talk, until
from wordmill.chat.titles import LONGEST, cleaned


@pytest.fixture
def talk(house, me, model) -> Talk:
    object.__setattr__(house.settings, "titles", True)
    model.say = lambda body: [
        '**"Baking bread."**' if "title" in body["messages"][-1]["content"] else "With flour."
    ]
    return Talk.begun(house, me)


def title(talk: Talk) -> tuple[str, str]:
    found = talk.house.conversations.get(talk.person, talk.id)
    return found.title, found.titled_by


def test_the_model_gives_a_title_after_the_first_answer_and_only_then(talk, model):
    talk.say("How do I bake bread?")
    until(lambda: title(talk) == ("Baking bread", "model"))
    assert len(model.asked) == 2
    assert model.asked[1]["messages"][:2] == [
        {"role": "user", "content": "How do I bake bread?"},
        {"role": "assistant", "content": "With flour."},
    ]
    talk.say("And then?")
    jobs = talk.house.jobs
    until(lambda: not jobs.all(talk.person.id, open_only=True))
    assert len(model.asked) == 3
    used = talk.house.accounts.ledger.used(talk.person.id)["day"].amount
    assert used.requests == 3  # a title is paid for like anything else


def test_what_a_person_wrote_stays(talk, model):
    talk.house.conversations.change(talk.person, talk.id, title="Mine", titled_by="person")
    talk.say("How do I bake bread?")
    until(lambda: not talk.house.jobs.all(talk.person.id, open_only=True))
    assert title(talk) == ("Mine", "person")
    assert len(model.asked) == 1


def test_a_temporary_conversation_gets_none(house, me, model, talk):
    other = Talk.begun(house, me, temporary=True)
    other.say("A secret.")
    assert len(model.asked) == 1
    assert house.jobs.all(me.id, kind="title") == []


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Baking bread", "Baking bread"),
        ('Title: "Baking bread."\n\nIs that good?', "Baking bread"),
        ("<think>What is it about?</think>\n\n## Baking bread", "Baking bread"),
        ("„Brot backen“", "Brot backen"),
        (" \n ", ""),
        ("word " * 40, ("word " * 15).strip() + "…"),
    ],
)
def test_a_title_is_what_is_left_of_an_answer(text, clean):
    assert cleaned(text) == clean
    assert len(cleaned(text)) <= LONGEST
