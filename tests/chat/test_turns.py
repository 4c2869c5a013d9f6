"""Turns: said, answered by a real server, kept, watched, stopped, said again."""

import threading
import time

import pytest

from tests.chat.talk import Talk, until
from wordmill.chat.types import ENDED
from wordmill.errors import Conflict, InvalidInput, NotFound, UnknownName
from wordmill.models import checked


@pytest.fixture
def talk(house, me) -> Talk:
    return Talk.begun(house, me, system="Be brief.")


def slowly(*pieces: str, pause: float = 0.02):
    """A model that says these pieces one after the other."""
    return lambda _: [one for piece in pieces for one in (piece, pause)]


def for_ever(_):
    """A model that does not come to an end."""
    while True:
        yield "word "
        yield 0.02


def test_a_turn_is_asked_answered_and_kept_with_what_it_took(talk, model):
    turn = talk.send("How are you?")
    answer = talk.ended(turn.answer)
    assert (answer.state, answer.text, answer.finish) == ("done", "Hello there.", "stop")
    assert answer.usage == {"input": 7, "output": 2, "estimated": False, "cost": 0.0}
    assert 0 < answer.timing["first"] < 60
    assert answer.model == "mock"
    assert talk.branch() == [("user", "How are you?"), ("assistant", "Hello there.")]
    assert [one["content"] for one in model.asked[0]["messages"]] == ["Be brief.", "How are you?"]
    until(lambda: talk.house.jobs.get("local", turn.job).state == "done")
    used = talk.house.accounts.ledger.used(talk.person.id)["day"].amount
    assert (used.requests, used.tokens) == (1, 9)


def test_what_was_sent_is_shown_exactly(talk, model):
    first = talk.say("One.")
    second = talk.say("Two.")
    assert talk.house.chat.sent(talk.person, first.id) == model.asked[0]
    assert talk.house.chat.sent(talk.person, second.id) == model.asked[1]
    assert len(model.asked[1]["messages"]) == 4
    assert model.asked[1]["model"] == "mock-1"
    question = talk.house.conversations.message(talk.person, second.parent)
    with pytest.raises(Conflict, match="Nothing was sent for this message"):
        talk.house.chat.sent(talk.person, question.id)


def test_it_is_shown_exactly_where_the_dialect_made_other_messages_of_it(talk, model):
    model.say = lambda _: [60.0, "too late"]  # nothing comes of the first answer
    talk.house.catalog.remove("mock")
    fields = {"name": "mock", "base_url": model.url, "model": "mock-1", "without": ["system"]}
    talk.house.catalog.add(checked(fields))
    turn = talk.send("One.")
    until(lambda: model.asked)
    talk.house.chat.stop(talk.person, talk.id)
    assert talk.ended(turn.answer).state == "stopped"
    model.say = lambda body: ["Yes."]
    second = talk.say("Two.")
    assert talk.house.chat.sent(talk.person, second.id) == model.asked[-1]
    assert model.asked[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nOne.\n\nTwo."}]


def test_an_answer_is_seen_and_kept_while_it_grows(talk, model):
    model.say = slowly("One ", "two ", "three ", "four.", pause=0.3)
    turn = talk.send("Count.")
    seen: list[str] = []
    for event in talk.house.chat.watch(talk.person, turn.answer):
        seen.append(event.text)
        if "three" in "".join(seen):
            found = talk.message(turn.answer)
            assert found.state == "answering"
            assert found.text.startswith("One ")
            break
    answer = talk.ended(turn.answer)  # leaving it ended nothing
    assert (answer.state, answer.text) == ("done", "One two three four.")
    assert len([one for one in seen if one]) >= 3


def test_several_may_watch_come_late_and_take_it_up_again(talk, model):
    gate = threading.Event()

    def say(_):
        yield "abc"
        while not gate.is_set():
            yield 0.01
        yield "def"

    model.say = say
    turn = talk.send("Go on.")
    until(lambda: talk.message(turn.answer).text == "abc")
    events: dict[str, list] = {}

    def watch(name: str, after: int) -> None:
        events[name] = list(talk.house.chat.watch(talk.person, turn.answer, after))

    threads = [
        threading.Thread(target=watch, args=(name, after))
        for name, after in (("whole", 0), ("late", 3), ("between", 1))
    ]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(10.0)
    text = {name: "".join(event.text for event in found) for name, found in events.items()}
    assert text == {"whole": "abcdef", "late": "def", "between": "bcdef"}
    assert events["between"][0].offset == 1
    assert {found[-1].state for found in events.values()} == {"done"}
    afterwards = list(talk.house.chat.watch(talk.person, turn.answer, 4))
    assert [(event.text, event.state) for event in afterwards] == [("ef", "done")]


def test_a_watcher_of_another_process_sees_it_through_the_database(open_here, model, me):
    here, there = open_here(), open_here()
    model.say = slowly("One ", "two ", "three.", pause=0.4)
    talk = Talk.begun(here, me)
    there.chat.close(1.0)  # only `here` works
    turn = talk.send("Count.")
    events = list(there.chat.watch(me, turn.answer))
    assert "".join(event.text for event in events) == "One two three."
    assert events[-1].state == "done"


def test_an_event_loop_watches_without_a_thread(talk, model):
    import asyncio

    model.say = slowly("One ", "two ", "three.", pause=0.1)
    turn = talk.send("Count.")

    async def watch() -> list:
        chat = talk.house.chat
        both = [chat.watch_async(talk.person, turn.answer) for _ in range(40)]
        before = threading.active_count()

        async def collected(events):
            return [event async for event in events]

        found = await asyncio.gather(*map(collected, both))
        assert threading.active_count() < before + 40
        return found

    for events in asyncio.run(watch()):
        assert "".join(event.text for event in events) == "One two three."
        assert events[-1].state == "done"


def test_stopping_closes_the_connection_and_keeps_what_there_is(talk, model):
    model.say = for_ever
    turn = talk.send("Talk.")
    until(lambda: len(talk.message(turn.answer).text) > 10)
    assert talk.house.chat.stop(talk.person, talk.id) == [turn.answer]
    answer = talk.ended(turn.answer)
    assert answer.state == "stopped"
    assert answer.text.startswith("word word ")
    until(lambda: model.hung_up == 1)  # the server saw it
    assert answer.usage["output"] == -(-len(answer.text) // 4)
    assert answer.usage["estimated"]
    used = talk.house.accounts.ledger.used(talk.person.id)["day"].amount
    assert used.requests == 1
    assert used.tokens > 0
    said = len(answer.text)
    time.sleep(0.2)
    assert len(talk.message(turn.answer).text) == said
    assert talk.house.chat.stop(talk.person, talk.id) == []
    model.say = lambda _: ["Further."]
    assert talk.say("Go on.").text == "Further."


def test_stopping_before_a_word_has_come(talk, model):
    model.say = lambda _: [60.0, "too late"]
    turn = talk.send("Talk.")
    until(lambda: model.asked)
    assert talk.house.chat.stop(talk.person, turn.answer) == [turn.answer]
    answer = talk.ended(turn.answer)
    assert (answer.state, answer.text) == ("stopped", "")
    until(lambda: model.hung_up == 1)


def test_stopping_at_the_moment_in_which_it_begins(talk, model, monkeypatch):
    """The message is seen to wait; by the time that it is stopped, its worker has begun with it."""
    model.say = lambda _: [60.0, "too late"]
    store, watching = talk.house.conversations, talk.house.chat._watching
    begin, finish, stopping = watching.begin, store.finish, threading.Event()

    def late_begin(*given):
        stopping.wait(60.0)
        begin(*given)

    def late_finish(message, state, **more):
        stopping.set()
        until(lambda: talk.message(message).state != "waiting", 60.0)
        return finish(message, state, **more)

    monkeypatch.setattr(watching, "begin", late_begin)
    monkeypatch.setattr(store, "finish", late_finish)
    turn = talk.send("Talk.")
    until(lambda: model.asked)
    assert talk.house.chat.stop(talk.person, turn.answer) == [turn.answer]
    assert talk.ended(turn.answer).state == "stopped"
    until(lambda: model.hung_up == 1)


def test_another_process_can_stop_it(open_here, model, me):
    here, there = open_here(), open_here()
    there.chat.close(1.0)
    model.say = for_ever
    talk = Talk.begun(here, me)
    turn = talk.send("Talk.")
    until(lambda: len(talk.message(turn.answer).text) > 10)
    assert there.chat.stop(me, turn.answer) == [turn.answer]
    answer = talk.ended(turn.answer)
    assert answer.state == "stopped"
    assert len(answer.text) > 10
    until(lambda: model.hung_up == 1)


def test_what_is_said_while_an_answer_runs_waits_and_is_seen_to(talk, model):
    gate = threading.Event()

    def say(body):
        while body["messages"][-1]["content"] == "First." and not gate.is_set():
            yield 0.01
        yield f"To {body['messages'][-1]['content']}"

    model.say = say
    first = talk.send("First.")
    until(lambda: talk.message(first.answer).state == "answering")
    second = talk.send("Second.")
    third = talk.send("Third.")
    open_ones = talk.house.conversations.open_messages(talk.person, talk.id)
    assert [(one.id, one.state) for one in open_ones] == [
        (first.answer, "answering"), (second.answer, "waiting"), (third.answer, "waiting"),
    ]  # fmt: skip
    assert len(model.asked) == 1
    gate.set()
    assert talk.ended(third.answer).text == "To Third."
    assert talk.branch() == [
        ("user", "First."), ("assistant", "To First."), ("user", "Second."),
        ("assistant", "To Second."), ("user", "Third."), ("assistant", "To Third."),
    ]  # fmt: skip
    assert len(model.asked[2]["messages"]) == 6


def test_what_waits_can_be_stopped_without_the_one_before_it(talk, model):
    model.say = for_ever
    first = talk.send("First.")
    until(lambda: talk.message(first.answer).text)
    second, third = talk.send("Second."), talk.send("Third.")
    assert talk.house.chat.stop(talk.person, second.answer) == [second.answer]
    assert talk.ended(second.answer).state == "stopped"
    assert talk.message(first.answer).state == "answering"
    assert talk.house.chat.stop(talk.person, talk.id) == [first.answer, third.answer]
    assert {talk.ended(one).state for one in (first.answer, third.answer)} == {"stopped"}
    assert model.questions == ["First."]


def test_other_conversations_do_not_wait(house, me, model):
    model.say = for_ever
    one, other = Talk.begun(house, me), Talk.begun(house, me)
    first = one.send("Talk.")
    until(lambda: one.message(first.answer).text)
    model.say = lambda _: ["Yes."]
    assert other.say("Are you there?").text == "Yes."
    house.chat.stop(me, one.id)


def test_answering_again_is_a_sibling(talk, model):
    first = talk.say("Say a number.")
    model.say = lambda _: ["Four."]
    again = talk.house.chat.regenerate(talk.person, first.id)
    assert talk.ended(again.answer).text == "Four."
    assert again.question == first.parent
    texts = [one.text for one in talk.house.conversations.siblings(talk.person, first.id)]
    assert texts == ["Hello there.", "Four."]
    assert talk.branch()[-1] == ("assistant", "Four.")
    assert model.asked[0]["messages"] == model.asked[1]["messages"]
    by_question = talk.house.chat.regenerate(talk.person, first.parent)
    talk.ended(by_question.answer)
    assert talk.message(by_question.answer).siblings == 3


def test_saying_it_differently_keeps_the_old_branch(talk, model):
    first = talk.say("One.")
    talk.say("Two.")
    turn = talk.house.chat.edit(talk.person, first.parent, "Another one.")
    talk.ended(turn.answer)
    assert talk.branch() == [("user", "Another one."), ("assistant", "Hello there.")]
    talk.house.conversations.switch(talk.person, first.id)
    assert len(talk.branch()) == 4
    with pytest.raises(Conflict, match="Only what a person said"):
        talk.house.chat.edit(talk.person, first.id, "No.")


def test_going_on_with_an_answer(talk, model):
    model.say = for_ever
    turn = talk.send("Tell me all.")
    until(lambda: talk.message(turn.answer).text)
    talk.house.chat.stop(talk.person, talk.id)
    first = talk.ended(turn.answer)
    model.say = lambda _: ["and the end."]
    again = talk.house.chat.continue_(talk.person, first.id)
    assert talk.ended(again.answer).text == first.text + "and the end."
    assert model.asked[-1]["messages"][-2:] == [
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "Continue exactly where you stopped, without repeating "
         "anything."},
    ]  # fmt: skip
    assert talk.house.chat.sent(talk.person, again.answer) == model.asked[-1]
    assert talk.message(again.answer).siblings == 2
    with pytest.raises(Conflict, match="Only an answer that has ended"):
        talk.house.chat.continue_(talk.person, first.parent)


def test_what_fails_is_said_charged_and_can_be_asked_again(talk, model):
    talk.house.catalog.remove("mock")
    talk.house.catalog.add(
        checked({"name": "mock", "base_url": "http://127.0.0.1:9/v1", "model": "mock-1"})
    )
    turn = talk.send("Are you there?")
    until(lambda: talk.message(turn.answer).state != "waiting")
    talk.house.chat.stop(talk.person, talk.id)
    assert talk.ended(turn.answer).state in ("stopped", "failed")
    talk.house.catalog.remove("mock")
    talk.house.catalog.add(checked({"name": "mock", "base_url": model.url, "model": "mock-1"}))
    again = talk.house.chat.regenerate(talk.person, turn.answer)
    assert talk.ended(again.answer).text == "Hello there."


def test_a_refusal_ends_the_answer_in_words(talk, model):
    model.refuse = lambda body: (400, "This model is for poems alone.")
    answer = talk.say("What is two and two?")
    assert answer.state == "failed"
    assert "This model is for poems alone." in answer.error
    assert talk.branch()[0] == ("user", "What is two and two?")
    used = talk.house.accounts.ledger.used(talk.person.id)["day"].amount
    assert used.requests == 1


def test_what_a_server_refuses_is_left_out_and_said(talk, model):
    def refuse(body):
        if "top_k" in body:
            return 400, "Unrecognized request argument supplied: top_k"
        return None

    model.refuse = refuse
    answer = talk.say("Hello?")
    assert (answer.state, answer.text) == ("done", "Hello there.")
    assert "refused `top_k`" in answer.sent["degraded"][0]
    assert talk.house.chat.sent(talk.person, answer.id) == model.asked[-1]
    assert "top_k" not in model.asked[-1]
    assert model.asked[-1]["top_p"] == 0.95


def test_reasoning_is_kept_apart(talk, model):
    model.say = lambda _: [{"reasoning_content": "Two and "}, {"reasoning_content": "two."}, "4."]
    answer = talk.say("What is two and two?")
    assert (answer.text, answer.reasoning) == ("4.", "Two and two.")
    model.say = lambda _: [
        "<th",
        "ink>\nHm, ",
        "hm.</thi",
        "nk>\n\n",
        "It is ",
        "<think>4</think>.",
    ]
    answer = talk.say("And now?")
    assert (answer.text, answer.reasoning) == ("It is <think>4</think>.", "Hm, hm.")
    assert model.asked[1]["messages"][2] == {"role": "assistant", "content": "4."}
    events = list(talk.house.chat.watch(talk.person, answer.id))
    assert (events[0].text, events[0].reasoning) == (answer.text, answer.reasoning)


def test_an_answer_that_follows_a_schema(talk, model):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    model.say = lambda _: ['{"n": ', "4}"]
    answer = talk.say("A number.", schema=schema)
    assert answer.parts == ({"type": "structured", "schema": schema, "value": {"n": 4}},)
    form = model.asked[0]["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"] == schema
    assert talk.house.chat.sent(talk.person, answer.id) == model.asked[0]
    again = talk.house.chat.regenerate(talk.person, answer.id)
    talk.ended(again.answer)
    assert "response_format" in model.asked[1]
    with pytest.raises(InvalidInput, match="this is no JSON schema"):
        talk.send("A number.", schema={"type": "nonsense"})


def test_models_side_by_side(talk, model):
    other = {"name": "other", "base_url": model.url, "model": "mock-2"}
    talk.house.catalog.add(checked(other))
    both = threading.Barrier(2, timeout=10)

    def say(body):
        both.wait()  # neither waits for the other's end
        return [f"I am {body['model']}."]

    model.say = say
    turn = talk.send("Who are you?", compare=["mock", "other"])
    found = [talk.ended(name) for name in turn.answers]
    assert [(one.model, one.text) for one in found] == [
        ("mock", "I am mock-1."), ("other", "I am mock-2."),
    ]  # fmt: skip
    assert [one.place for one in found] == [1, 2]
    assert talk.branch()[-1] == ("assistant", "I am mock-1.")
    preference = talk.house.conversations.prefer(
        talk.person, turn.question, turn.answers[1], [turn.answers[0]]
    )
    assert preference.chosen == turn.answers[1]
    with pytest.raises(InvalidInput, match="At most 6 models"):
        talk.send("Who?", compare=[f"m{number}" for number in range(7)])
    with pytest.raises(UnknownName, match="Did you mean 'other'"):
        talk.send("Who?", compare=["mock", "othr"])
    assert talk.branch()[-1] == ("assistant", "I am mock-1.")


def test_one_of_several_answers_is_stopped_alone(talk, model):
    talk.house.catalog.add(checked({"name": "other", "base_url": model.url, "model": "mock-2"}))
    model.say = lambda body: for_ever(body) if body["model"] == "mock-2" else slowly("a", "b")(body)
    turn = talk.send("Go.", compare=["mock", "other"])
    until(lambda: talk.message(turn.answers[1]).text)
    assert talk.house.chat.stop(talk.person, turn.answers[1]) == [turn.answers[1]]
    assert [talk.ended(name).state for name in turn.answers] == ["done", "stopped"]


def test_the_same_message_twice_is_one(talk, model):
    first = talk.send("Hello?", once="event-7")
    assert talk.send("Hello?", once="event-7") == first
    talk.ended(first.answer)
    assert talk.send("Hello?", once="event-7") == first
    assert len(model.asked) == 1
    assert len(talk.branch()) == 2


def test_what_was_said_before_a_crash_and_not_asked_yet_is_asked_once(talk, model):
    conversations = talk.house.conversations
    kept = conversations.add(
        talk.person, talk.conversation.id, "user", "Hello?", door="test", once="event-8"
    )
    turn = talk.send("Hello?", once="event-8")
    assert turn.question == kept.id
    talk.ended(turn.answer)
    assert len(talk.branch()) == 2


def test_a_temporary_conversation_is_answered_and_nothing_of_it_is_stored(house, me, model):
    talk = Talk.begun(house, me, temporary=True)
    turn = talk.send("A secret.")
    assert talk.ended(turn.answer).text == "Hello there."
    assert talk.house.chat.sent(me, turn.answer) == model.asked[0]
    assert house.jobs.all(me.id) == []
    with pytest.raises(NotFound):
        house.jobs.get(me.id, turn.job)
    with house.database.read() as connection:
        tables = connection.exec_driver_sql("SELECT count(*) FROM messages").scalar()
    assert tables == 0
    assert talk.say("And another.").state == "done"


def test_no_word_of_a_temporary_conversation_reaches_a_disk_or_the_log(
    open_here, me, model, home, caplog
):
    from sqlalchemy import text

    from wordmill.database import metadata

    model.say = lambda _: [{"reasoning_content": "thought-4711"}, "answer-4711"]
    house = open_here()
    talk = Talk.begun(house, me, temporary=True, system="prompt-4711")
    files = house.conversations.attachments
    file = files.add(me, "name-4711.txt", b"file-4711", conversation=talk.id)
    with caplog.at_level(0):
        answer = talk.say("question-4711", attachments=[file.id])
        model.refuse = lambda _: (400, "No question-4711 here.")
        assert talk.say("again-4711").state == "failed"
    assert (answer.text, answer.reasoning) == ("answer-4711", "thought-4711")
    with house.database.read() as connection:
        rows = [
            repr(row)
            for table in metadata.sorted_tables
            for row in connection.execute(text(f"SELECT * FROM {table.name}"))
        ]
    assert rows  # the ledger at least knows that something was asked
    assert [row for row in rows if "4711" in row] == []
    house.chat.close(5.0)
    house.completions.close()
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in kept if b"4711" in path.read_bytes() or "4711" in path.name] == []
    assert "4711" not in caplog.text


def test_somebody_elses_conversation_is_not_there(talk, house, model):
    other = house.accounts.people.create(None, "ben@example.org", "Ben", "correct horse 7", "admin")
    if other.id == talk.person.id:  # the first account is the one of the command line
        other = house.accounts.people.create(other, "eve@example.org", "Eve", "correct horse 7")
    answer = talk.say("Hello?")
    chat = house.chat
    for what in (
        lambda: chat.send(other, talk.id, "Hi.", door="web"),
        lambda: chat.stop(other, talk.id),
        lambda: chat.stop(other, answer.id),
        lambda: chat.watch(other, answer.id),
        lambda: chat.sent(other, answer.id),
        lambda: chat.regenerate(other, answer.id),
        lambda: chat.edit(other, answer.parent, "No."),
        lambda: chat.continue_(other, answer.id),
        lambda: chat.confirm(other, answer.id, None, True),
        lambda: chat.asks(other, talk.id),
        lambda: chat.use_tools(other, talk.id, []),
        lambda: chat.set_here(other, talk.id, "temperature", 1),
    ):
        with pytest.raises(NotFound):
            what()
    assert len(model.asked) == 1


def test_an_empty_message_is_refused_and_nothing_is_kept(talk):
    with pytest.raises(InvalidInput, match="the message is empty"):
        talk.send(" \n")
    assert talk.branch() == []


def test_a_quota_is_asked_before_and_the_answer_says_when_it_is_used_up(talk, model):
    ledger = talk.house.accounts.ledger
    ledger.set_quota(talk.person, talk.person.id, "day", requests=1)
    assert talk.say("One.").state == "done"
    answer = talk.say("Two.")
    assert answer.state == "failed"
    assert "The quota of 1 requests a day is used up" in answer.error
    assert len(model.asked) == 1


def test_a_conversation_that_is_removed_meanwhile_ends_its_answer(talk, model):
    model.say = for_ever
    turn = talk.send("Talk.")
    until(lambda: talk.message(turn.answer).text)
    talk.house.conversations.remove(talk.person, talk.id)
    until(lambda: model.hung_up == 1)
    until(lambda: talk.house.jobs.get("local", turn.job).state in ("done", "failed"))


def test_no_message_stays_open(talk, model):
    model.say = slowly("a", "b", "c")
    turns = [talk.send(f"{number}.") for number in range(5)]
    for turn in turns:
        talk.ended(turn.answer)
    everything = talk.house.conversations.tree(talk.person, talk.id)
    assert {one.state for one in everything} <= set(ENDED)


def test_what_two_say_at_once_is_answered_in_the_order_of_the_branch(talk, model, monkeypatch):
    jobs, put = talk.house.jobs, talk.house.jobs.put
    answered = threading.Event()

    def late(*args, **named):
        if not late.seen:
            late.seen = True
            answered.wait(1.5)  # another's job overtakes, if it can
        return put(*args, **named)

    late.seen = False
    monkeypatch.setattr(jobs, "put", late)
    turns = []
    threads = [
        threading.Thread(target=lambda text=text: turns.append(talk.send(text)))
        for text in ("One?", "Two?")
    ]
    threads[0].start()
    until(lambda: late.seen)
    threads[1].start()
    threads[1].join(1.0)
    for turn in turns:
        talk.ended(turn.answer)
    answered.set()
    for thread in threads:
        thread.join()
    assert [talk.ended(turn.answer).state for turn in turns] == ["done", "done"]
    assert [said for who, said in talk.branch() if who == "user"] == ["One?", "Two?"]
