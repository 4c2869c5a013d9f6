"""What of a conversation a model is sent: as much as it reads; what is missing is said."""

import base64

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tests.chat.talk import Talk
from tests.chat.test_attachments import png
from wordmill.models import checked


@pytest.fixture
def talk(house, me) -> Talk:
    return Talk.begun(house, me, system="Be brief.")


def change(house, model, **fields: object) -> None:
    """Describe the model differently from now on."""
    house.catalog.remove("mock")
    house.catalog.add(checked({"name": "mock", "base_url": model.url, "model": "mock-1", **fields}))


def sent(body) -> list[str]:
    return [message["content"] for message in body["messages"]]


def test_what_does_not_fit_is_left_out_whole_and_said(house, me, talk, model):
    model.read = lambda body: sum(4 + len(text) // 5 for text in sent(body))
    change(house, model, context=200)  # 50 of them for the answer
    answers = [talk.say(f"Question {number}. {'x' * 100}") for number in range(6)]
    answer = answers[-1]
    asked = sent(model.asked[-1])
    assert asked[0] == "Be brief."
    assert asked[-1].startswith("Question 5.")
    turns = [text for text in asked if text.startswith("Question")]
    assert 2 <= len(turns) < 6
    assert len(asked) == 1 + 2 * len(turns) - 1  # each question with its answer, but for the last
    assert answer.sent["dropped"] == 11 - (len(asked) - 1)
    assert answer.sent["counted"] == "estimate"
    assert answers[0].sent["estimate_error"] > 0.1  # five letters in a token there
    assert abs(answer.sent["estimate_error"]) < 0.05  # which is known by now
    assert house.chat.sent(me, answer.id) == model.asked[-1]
    assert len(talk.branch()) == 12  # nothing of it is gone


def test_its_own_tokenizer_counts_where_it_is_there(house, me, talk, model):
    made = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    made.pre_tokenizer = Whitespace()
    folder = house.settings.home / "tokenizers"
    folder.mkdir(parents=True)
    made.save(str(folder / "mock.json"))
    change(house, model, context=200)
    for number in range(6):
        answer = talk.say(f"Question {number}. {'x' * 100}")
    # A question is four words and a stop here: by their bytes they did not fit.
    assert len(model.asked[-1]["messages"]) == 12
    assert (answer.sent["dropped"], answer.sent["counted"]) == (0, "tokenizer")
    assert answer.sent["estimate_error"] > 0  # the server says 7, whatever it gets


def test_at_most_so_many_messages_for_one_conversation_and_for_all(house, me, talk, model):
    house.chat.parameters.set(me, "mock", "input-buffer-size", 3)
    for number in range(4):
        talk.say(f"Question {number}.")
    assert sent(model.asked[-1]) == ["Be brief.", "Question 2.", "Hello there.", "Question 3."]
    assert "input-buffer-size" not in model.asked[-1]
    house.chat.set_here(me, talk.id, "input-buffer-size", 1)
    answer = talk.say("Question 4.")
    assert sent(model.asked[-1]) == ["Be brief.", "Question 4."]
    assert answer.sent["dropped"] == 8
    other = Talk.begun(house, me)
    for number in range(3):
        other.say(f"Question {number}.")
    assert len(model.asked[-1]["messages"]) == 3


def test_a_window_that_nobody_told_is_learnt_from_the_refusal(house, me, talk, model):
    def refuse(body):
        if sum(map(len, sent(body))) > 300:
            return 400, "This model's maximum context length is 80 tokens. Shorten the prompt."
        return None

    model.refuse = refuse
    model.read = lambda body: sum(4 + len(text) // 4 for text in sent(body))
    for number in range(5):
        answer = talk.say(f"Question {number}. {'x' * 60}")
        assert answer.state == "done"
    assert answer.sent["dropped"] > 0
    assert sent(model.asked[-1])[0] == "Be brief."
    refused = len(model.asked)
    talk.say("Another one.")
    assert len(model.asked) == refused + 1  # it is known by now


def test_a_picture_goes_to_a_model_that_sees_and_a_note_to_one_that_does_not(
    house, me, talk, model
):
    picture = png(4, 4)
    store = house.conversations.attachments

    def attached() -> str:
        return store.add(me, "cat.png", picture).id

    def note() -> str:
        file = store.add(me, "note.txt", b"Buy milk.")
        assert not file.image
        return file.id

    talk.say("What is that?", attachments=[attached(), note()])
    text, image = model.asked[-1]["messages"][-1]["content"]
    assert text == {
        "type": "text",
        "text": "[File note.txt]\nBuy milk.\n[End of note.txt]\n\nWhat is that?",
    }
    assert image["image_url"]["url"] == (
        "data:image/png;base64," + base64.b64encode(picture).decode()
    )
    change(house, model, without=["vision"])
    answer = talk.say("And that?", attachments=[attached()])
    assert sent(model.asked[-1])[-1] == (
        "[The picture cat.png was attached, but you cannot see it.]\n\nAnd that?"
    )
    assert house.chat.sent(me, answer.id) == model.asked[-1]


def test_a_model_that_turns_out_to_be_blind_gets_the_note(house, me, talk, model):
    def refuse(body):
        if any(isinstance(message["content"], list) for message in body["messages"]):
            return 400, "This model does not support image input."
        return None

    model.refuse = refuse
    file = house.conversations.attachments.add(me, "cat.png", png(4, 4))
    answer = talk.say("What is that?", attachments=[file.id])
    assert (answer.state, answer.text) == ("done", "Hello there.")
    assert "but you cannot see it" in sent(model.asked[-1])[-1]
    assert len(model.asked) == 2


def test_ten_thousand_messages_do_not_make_a_turn_slow(house, me, model):
    import time

    from sqlalchemy import insert, update

    from wordmill.database import conversations, messages, new_id, now

    talk = Talk.begun(house, me)
    above, rows = None, []
    for number in range(10_000):
        name, at = new_id(), now()
        rows.append(
            {
                "id": name, "conversation": talk.id, "parent": above, "state": "done",
                "role": "assistant" if number % 2 else "user", "text": f"Message {number}.",
                "reasoning": "", "parts": [], "author": "", "door": "web", "created": at,
                "updated": at,
            }
        )  # fmt: skip
        above = name
    with house.database.begin() as connection:
        connection.execute(insert(messages), rows)
        same = conversations.c.id == talk.id
        connection.execute(update(conversations).where(same).values(head=above))
    change(house, model, context=4000)
    began = time.monotonic()
    answer = talk.say("And now?")
    seconds = time.monotonic() - began
    assert answer.state == "done"
    assert answer.sent["dropped"] > 9000
    assert answer.timing["first"] < 5
    assert seconds < 10  # about 0.5 on a machine that does nothing else
