"""Tools in a conversation: real servers that speak MCP, as a program and at an address."""

import json
import sys

import pytest

from tests.chat.talk import Talk, until
from tests.servers import tools as servers
from wordmill.accounts import Person
from wordmill.errors import Conflict, Forbidden, InvalidInput, UnknownName

SECRET = "hush-1234567890"


@pytest.fixture
def talk(house, me) -> Talk:
    return Talk.begun(house, me)


def allow(talk: Talk, name: str = "sums", **options) -> None:
    """An admin allows the program, and the conversation uses it."""
    talk.house.chat.tools.add(
        talk.person, name, "stdio", sys.executable, arguments=[servers.PROGRAM], **options
    )
    talk.house.chat.use_tools(talk.person, talk.id, [name])


def calling(*calls: tuple[str, dict]):
    """A model that makes these calls at once, and then says what came of them."""

    def say(body):
        results = [one["content"] for one in body["messages"] if one["role"] == "tool"]
        if results:
            yield "I heard: " + "; ".join(results)
            return
        yield "Let me see."
        for number, (name, arguments) in enumerate(calls):
            function = {"name": name, "arguments": json.dumps(arguments)}
            yield {
                "tool_calls": [
                    {"index": number, "id": f"c{number}", "type": "function", "function": function}
                ]
            }

    return say


def asked(talk: Talk, text: str = "What is it?", number: int = 1):
    """Ask something, and wait until that many calls wait for a yes."""
    turn = talk.send(text)
    until(lambda: len(talk.house.chat.asks(talk.person, talk.id)) == number, 60.0)
    return turn, talk.house.chat.asks(talk.person, talk.id)


def last(talk: Talk):
    return talk.house.conversations.branch(talk.person, talk.id)[-1]


def test_a_call_is_shown_and_made_after_a_yes(talk, model):
    allow(talk)
    model.say = calling(("sums__add", {"a": 40, "b": 2}))
    turn, (call,) = asked(talk)
    assert (call.server, call.tool, json.loads(call.arguments)) == (
        "sums",
        "add",
        {"a": 40, "b": 2},
    )
    offered = {one["function"]["name"]: one["function"] for one in model.asked[0]["tools"]}
    assert set(offered) == {"sums__add", "sums__token", "sums__wait", "sums__fail"}
    assert offered["sums__add"]["description"] == "The sum."
    assert offered["sums__add"]["parameters"]["required"] == ["a", "b"]
    assert len(model.asked) == 1  # nothing happened yet
    assert last(talk).state == "waiting"
    again = talk.house.chat.confirm(talk.person, call.message, call.id, True)
    assert again.answer == turn.answer
    texts = [event.text for event in talk.house.chat.watch(talk.person, turn.answer)]
    assert "".join(texts) == "Let me see.I heard: 42"
    assert [role for role, _ in talk.branch()] == ["user", "assistant", "tool", "assistant"]
    result = talk.message(call.message)
    assert (result.state, result.text, result.sent["allowed_by"]) == ("done", "42", "local")
    assert model.asked[1]["messages"][1]["tool_calls"][0]["function"]["name"] == "sums__add"
    assert model.asked[1]["messages"][2] == {"role": "tool", "tool_call_id": "c0", "content": "42"}
    assert talk.house.chat.sent(talk.person, last(talk).id) == model.asked[1]
    with pytest.raises(Conflict, match="answered already"):
        talk.house.chat.confirm(talk.person, call.message, call.id, True)


def test_a_no_is_told_to_the_model_and_nothing_is_called(talk, model):
    allow(talk)
    model.say = calling(("sums__add", {"a": 40, "b": 2}), ("sums__add", {"a": 1, "b": 1}))
    turn, (first, second) = asked(talk, number=2)
    talk.house.chat.confirm(talk.person, first.message, first.id, False)
    assert [one.id for one in talk.house.chat.asks(talk.person, talk.id)] == [second.id]
    talk.house.chat.confirm(talk.person, second.message, second.id, True)
    talk.ended(turn.answer)
    assert last(talk).text == "I heard: This call was not allowed by the person.; 2"


def test_a_trusted_server_needs_no_yes(talk, model):
    allow(talk, trusted=True)
    model.say = calling(("sums__add", {"a": 40, "b": 2}))
    turn = talk.send("What is it?")
    talk.ended(turn.answer)
    assert last(talk).text == "I heard: 42"


def test_the_same_at_an_address_with_a_header(talk, model):
    with servers.serving() as address:
        talk.house.chat.tools.add(
            talk.person, "far", "http", address.url, secrets={"Authorization": f"Bearer {SECRET}"}
        )
        talk.house.chat.use_tools(talk.person, talk.id, ["far"])
        model.say = calling(("far__add", {"a": 40, "b": 2}))
        turn, (call,) = asked(talk)
        talk.house.chat.confirm(talk.person, call.message, call.id, True)
        talk.ended(turn.answer)
        assert last(talk).text == "I heard: 42"
        assert {one["authorization"] for one in address.headers} == {f"Bearer {SECRET}"}
        talk.house.chat.tools.remove(talk.person, "far")


def test_a_program_gets_its_secrets_and_none_of_ours_and_the_model_sees_neither(
    talk, model, monkeypatch
):
    monkeypatch.setenv("OURS", "ours-1234567890")
    allow(talk, secrets={"TOKEN": SECRET}, trusted=True)
    assert talk.house.chat.tools.all(talk.person)[0].secrets == ("TOKEN",)
    model.say = calling(("sums__token", {}))
    talk.ended(talk.send("Which one?").answer)
    text = last(talk).text
    assert text.startswith("I heard: It is ")
    assert SECRET not in text
    assert SECRET not in json.dumps(model.asked)
    variables = int(text.split(", and ")[1].split()[0])
    assert variables < 12  # PATH, HOME, LANG and the like


def test_what_fails_is_told_to_the_model(talk, model):
    allow(talk, trusted=True)
    model.say = calling(("sums__fail", {}), ("sums__add", {"a": "x"}), ("nobody__knows", {}))
    talk.ended(talk.send("Try.").answer)
    text = last(talk).text
    assert "Error executing tool fail" in text
    assert "There is no tool 'nobody__knows' here." in text
    states = [one.state for one in talk.house.conversations.tree(talk.person, talk.id)]
    assert states.count("failed") == 3
    assert last(talk).state == "done"


def test_a_server_that_does_not_answer_is_said_and_the_answer_comes(talk, model):
    talk.house.chat.tools.add(talk.person, "gone", "http", "http://127.0.0.1:9/mcp")
    talk.house.chat.use_tools(talk.person, talk.id, ["gone"])
    answer = talk.say("Hello?")
    assert answer.text == "Hello there."
    assert "Without its tools: The tool server 'gone' does not answer" in answer.sent["degraded"][0]
    assert "tools" not in model.asked[0]


def test_a_call_can_be_stopped(talk, model):
    allow(talk, trusted=True)
    model.say = calling(("sums__wait", {"seconds": 600}))
    turn = talk.send("Wait.")
    tool = lambda: next(  # noqa: E731
        (one for one in talk.house.conversations.branch(talk.person, talk.id)
         if one.role == "tool"), None,
    )  # fmt: skip
    until(lambda: tool() is not None and tool().state == "answering", 60.0)
    assert tool().id in talk.house.chat.stop(talk.person, talk.id)
    talk.ended(turn.answer)
    assert tool().state == "stopped"


def test_who_goes_on_without_the_call_leaves_it(talk, model):
    allow(talk)
    model.say = calling(("sums__add", {"a": 40, "b": 2}))
    _, (call,) = asked(talk)
    model.say = lambda _: ["Never mind."]
    assert talk.say("Never mind.").text == "Never mind."
    assert talk.message(call.message).state == "stopped"
    assert talk.house.chat.asks(talk.person, talk.id) == []


def test_a_yes_is_heard_after_a_restart(open_here, me, model):
    talk = Talk.begun(open_here(), me)
    allow(talk)
    model.say = calling(("sums__add", {"a": 40, "b": 2}))
    turn, (call,) = asked(talk)
    talk.house.chat.close(5.0)
    there = open_here()
    assert there.chat.asks(me, talk.id) == [call]
    there.chat.confirm(me, call.message, call.id, True)
    found = Talk(there, me, talk.conversation)
    found.ended(turn.answer)
    assert last(found).text == "I heard: 42"


@pytest.fixture
def bob(house, me) -> Person:
    house.accounts.people.create(me, "ada@example.org", "Ada", "correct horse 7", "admin")
    return house.accounts.people.create(me, "bob@example.org", "Bob", "correct horse 7")


def test_only_what_an_admin_allowed_can_be_used(house, me, bob, talk):
    tools = house.chat.tools
    for forbidden in (
        lambda: tools.add(bob, "mine", "stdio", sys.executable),
        lambda: tools.change(bob, "sums", trusted=True),
        lambda: tools.remove(bob, "sums"),
    ):
        with pytest.raises(Forbidden):
            forbidden()
    allow(talk)
    (seen,) = tools.all(bob)
    assert (seen.name, seen.target, seen.arguments) == ("sums", "", ())
    theirs = Talk.begun(house, bob)
    with pytest.raises(UnknownName, match="Did you mean 'sums'"):
        house.chat.use_tools(bob, theirs.id, ["sum"])
    tools.change(me, "sums", enabled=False)
    assert tools.all(bob) == []
    with pytest.raises(UnknownName):
        house.chat.use_tools(bob, theirs.id, ["sums"])
    notes = [entry.action for entry in house.accounts.audit.entries(me)][:2]
    assert notes == ["tool server changed", "tool server added"]


@pytest.mark.parametrize(
    ("name", "transport", "target", "words"),
    [
        ("Sums", "stdio", sys.executable, "is no name for a tool server"),
        ("sums", "stdio", "no-such-program", "There is no program 'no-such-program'"),
        ("sums", "carrier-pigeon", "x", "transport is stdio or http"),
        ("sums", "http", "ftp://example.org", "is no address"),
        ("sums", "http", "http://a:b@example.org/mcp", "Put a password into a header"),
        ("sums", "http", "http://169.254.169.254/mcp", "no address at which a tool server may be"),
        ("sums", "http", "http://[fd00:ec2::254]/mcp", "no address at which a tool server may be"),
    ],
)
def test_what_is_no_tool_server(house, me, name, transport, target, words):
    with pytest.raises(InvalidInput, match=words):
        house.chat.tools.add(me, name, transport, target)
