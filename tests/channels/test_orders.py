"""Commands in rooms, linking, guests, tools, long work. Numbers: those of docs/channels.md."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.channels.conftest import ANN, BEN, Talk, known
from tests.channels.surface import Service, said
from tests.commands.conftest import ordered
from tests.servers.talking import Talking
from wordmill.accounts import LOCAL_PERSON, Person
from wordmill.accounts.identities import is_guest
from wordmill.channels.house import House
from wordmill.channels.rooms.base import Place, Quoted, Reaction
from wordmill.commands import COMMANDS, language
from wordmill.errors import Conflict, Forbidden
from wordmill.runs.desk import Wish

Make = Callable[..., Talk]
COMPANY = {"direct": False, "place": Place("!room", "$root")}


def say(door: Talk, text: str, sender: str = ANN, **values: object) -> str:
    """The last notice after something was said."""
    door.hear(said(text, sender, **values))
    door.settle()
    found = door.service.notices()
    return found[-1] if found else ""


def test_every_command_of_the_registry_is_understood(talk: Make, ann: Person) -> None:
    door = talk()
    for command in COMMANDS:
        before = len(door.service.shown) + len(door.service.given)
        door.hear(said(f"--{command.name}"))
        door.settle()
        assert len(door.service.shown) + len(door.service.given) > before, command.name
    assert "There is no command" not in "\n".join(door.service.notices())


def test_an_en_dash_of_a_phone_counts_only_before_a_name(
    talk: Make, ann: Person, model: Talking
) -> None:
    door = talk()
    assert "answers here" in say(door, "–models")
    say(door, "– said the man – and left")
    assert model.asked[-1]["messages"][-1]["content"] == "– said the man – and left"


def test_a_command_in_company_needs_to_be_meant_for_us(talk: Make, ann: Person) -> None:
    door = talk()
    say(door, "--models", **COMMANDS_ELSEWHERE)
    assert door.service.shown == {}
    assert "mock" in say(door, "--models", mentions_us=True, **COMMANDS_ELSEWHERE)


COMMANDS_ELSEWHERE = {"direct": False, "place": Place("!room", "$x")}


def test_what_is_private_is_not_said_in_company(talk: Make, ann: Person) -> None:
    door = talk()
    assert "for you alone" in say(door, "--usage", mentions_us=True, **COMPANY)
    assert "This day" in say(door, "--usage")


def test_somebody_elses_conversation_is_theirs(
    talk: Make, house: House, ann: Person, ben: Person
) -> None:
    door = talk()
    say(door, "Hello", mentions_us=True, **COMPANY)
    for line in (
        "--set-prompt You are a pirate.",
        "--reset-chat",
        "--export",
        "--new",
        "--title x",
    ):
        assert "belongs to somebody else" in say(door, line, BEN, **COMPANY)
    assert "mock" in say(door, "--models", BEN, **COMPANY)
    conversation = house.conversations.all(ann).items[0]
    assert conversation.system == ""


def test_settings_of_one_do_not_leak_to_another(talk: Make, ann: Person, ben: Person) -> None:
    """Fault 1 of the bot that was: everybody had one object of settings."""
    door = talk()
    say(door, "--set-config temperature 0.1")
    assert "0.1" in say(door, "--config")
    assert (
        "You changed no setting" in say(door, "--config", BEN, place=Place("!ben"))
        or "no setting" in door.service.notices("!ben")[-1]
    )


def test_money_is_spent_only_after_a_yes(talk: Make, house: House, ann: Person) -> None:
    door = talk()
    assert "Shall I do this?" in say(door, "--generate rlhi 2")
    assert house.desk(ann).registry.all() == []
    assert say(door, "no") == "Left as it is."
    say(door, "--generate rlhi 2")
    assert "has begun" in say(door, "yes")
    (run,) = house.desk(ann).registry.all()
    assert run.rows == 2


def test_a_yes_by_a_reaction_counts_for_whoever_was_asked(
    talk: Make, house: House, ann: Person, ben: Person
) -> None:
    door = talk()
    say(door, "--generate rlhi 2")
    (question,) = [one for one in door.service.shown.values() if "Shall I" in one.text]
    door.sign(Reaction("$r1", question.place, BEN, "Ben", question.id, "up"))
    door.settle()
    assert house.desk(ann).registry.all() == []
    door.sign(Reaction("$r2", question.place, ANN, "Ann", question.id, "up"))
    door.settle()
    assert len(house.desk(ann).registry.all()) == 1


def test_the_end_of_a_run_is_told_where_it_was_asked_for_also_after_a_restart(
    talk: Make, house: House, ann: Person
) -> None:
    house.conversations.create(ann, model="rehearsal")
    begun = house.conversations.all(ann).items[0].id
    door = talk()
    say(door, f"--use {begun}")
    say(door, "--generate rlhi 2")
    assert "has begun" in door.service.notices()[-1]
    door.close()
    again = talk(door.service)
    again.until(lambda: any("is finished" in one for one in again.service.notices()), 90)
    assert "2 of 2 rows" in again.service.notices()[-1]
    again.until(lambda: again.service.given)
    ((_, name, data),) = again.service.given
    assert name.endswith(".png")
    assert data.startswith(b"\x89PNG")


def test_a_run_that_was_begun_on_the_web_is_told_where_somebody_asks(
    talk: Make, house: House, ann: Person, model: Talking
) -> None:
    held = threading.Event()

    def answer(_: dict[str, Any]) -> Iterator[str]:
        held.wait(60)
        yield "Well."

    model.say = answer
    run = house.start_run(ann, Wish(recipe="rlhi", rows=2, model="mock"))
    door = talk()
    told = f"The run `{run.id}` is "
    assert told not in say(door, f"--run {run.id}")
    held.set()
    door.until(lambda: any(one.startswith(told) for one in door.service.notices()), 60)


def test_a_batch_that_was_ordered_on_the_web_is_told_where_somebody_asks_also_after_a_restart(
    talk: Make, house: House, ann: Person, model: Talking
) -> None:
    held = threading.Event()

    def answer(body: dict[str, Any]) -> Iterator[str]:
        held.wait(60)
        yield json.dumps({"mood": body["messages"][-1]["content"]})

    model.say = answer
    house.change_model(LOCAL_PERSON, "mock", price_out=100_000.0)
    batch = ordered(house, ann, "mock", "mock", dataset="letters")
    door = talk()
    asked = say(door, f"--batch {batch.id}")
    assert f"`{batch.id}`" in asked
    assert "completed" not in asked
    door.close()
    again = talk(door.service)
    held.set()
    again.until(lambda: again.service.given, 90)
    told = again.service.notices()[-1]
    assert told.startswith(
        f"The batch `{batch.id}` is completed: 2 of 2 requests of `letters` answered, $"
    )
    assert told.endswith(f" `--batch {batch.id}` tells more.")
    ((_, name, data),) = again.service.given
    assert name == f"{batch.id}.png"
    assert data.startswith(b"\x89PNG")
    before = len(again.service.notices())
    say(again, f"--batch {batch.id}")  # it has ended: nothing more is owed
    assert again.door.records.owed("report") == []
    assert len(again.service.notices()) == before + 1


def test_linking_by_a_code_from_the_web(talk: Make, house: House, admin: Person) -> None:
    person = house.accounts.people.create(admin, "cem@example.org", "Cem", "a long one, this")
    door = talk()
    assert "I do not know you yet" in say(door, "Hello", "@cem:example.org")
    code = house.accounts.identities.code(person)
    assert "here you are Cem" in say(door, f"--link {code}", "@cem:example.org")
    assert "not good" in say(door, f"--link {code}", "@eve:example.org")
    say(door, "Hello", "@cem:example.org")
    assert door.service.texts() == ["You said: Hello"]


def test_linking_by_a_code_from_the_chat(talk: Make, house: House, admin: Person) -> None:
    person = house.accounts.people.create(admin, "cem@example.org", "Cem", "a long one, this")
    door = talk()
    code = say(door, "--link", "@cem:example.org").split("`")[1]
    linked = house.accounts.identities.accept(person, code)
    assert linked.subject == "@cem:example.org"
    say(door, "Hello", "@cem:example.org")
    assert door.service.texts() == ["You said: Hello"]
    assert "in a direct room" in say(
        door, "--link", "@dan:example.org", mentions_us=True, **COMPANY
    )


def test_the_same_localpart_on_two_servers_is_two_people(
    talk: Make, house: House, ann: Person, admin: Person
) -> None:
    """Fault 10 of the bot that was: a person was a localpart."""
    other = known(house, admin, "@ann:another.example.net")
    door = talk()
    say(door, "Hello", place=Place("!one"))
    say(door, "Hello", "@ann:another.example.net", place=Place("!two"))
    assert len(house.conversations.all(ann).items) == 1
    assert len(house.conversations.all(other).items) == 1


def test_a_stranger_is_refused_politely_and_once(talk: Make, house: House, admin: Person) -> None:
    door = talk()
    for _ in range(3):
        say(door, "Hello", BEN)
    assert len(door.service.notices()) == 1


def test_a_guest_has_an_account_with_a_small_quota_and_no_runs(
    talk: Make, house: House, admin: Person
) -> None:
    door = talk(guests=True, guest_requests=2)
    for text in ("One", "Two", "Three"):
        say(door, text, BEN)
    assert door.service.texts()[:2] == ["You said: One", "You said: Two"]
    assert "quota of 2 requests a day is used up" in door.service.texts()[2]
    assert "Guests cannot use" in say(door, "--generate rlhi 2", BEN)
    (guest,) = [one for one in house.accounts.people.all(admin) if is_guest(one)]
    assert guest.name == "Ben (guest)"


def test_a_guest_who_links_is_a_guest_no_more(talk: Make, house: House, admin: Person) -> None:
    door = talk(guests=True)
    say(door, "Hello", BEN)
    person = house.accounts.people.create(admin, "ben@example.org", "Ben", "a long one, this")
    say(door, f"--link {house.accounts.identities.code(person)}", BEN)
    found = house.accounts.identities.find("matrix", BEN)
    assert found is not None
    assert found.id == person.id
    (guest,) = [one for one in house.accounts.people.all(admin) if is_guest(one)]
    assert guest.disabled


def test_somebody_who_is_disabled_is_not_let_in_as_a_guest(
    talk: Make, house: House, admin: Person, ann: Person
) -> None:
    house.accounts.people.change(admin, ann.id, disabled=True)
    door = talk(guests=True)
    assert "disabled" in say(door, "Hello")
    assert door.service.texts() == []


def test_a_linked_account_is_not_taken_by_another(
    house: House, admin: Person, ann: Person, ben: Person
) -> None:
    code = house.accounts.identities.code(ben)
    with pytest.raises(Conflict, match="linked to an account already"):
        house.accounts.identities.redeem(code, "matrix", ANN)


def test_a_command_by_name_does_what_the_typed_one_does(
    talk: Make, house: House, ann: Person
) -> None:
    door = talk()
    incoming = said("")
    outcome = door.do(door.door.invoke(incoming, "models", {}))
    assert "mock" in outcome.text
    begun = door.do(door.door.invoke(said(""), "new", {}))
    led = door.door.records.led(Place("!room"))
    assert led is not None
    assert led.conversation == begun.conversation
    with pytest.raises(Forbidden):
        door.do(door.door.invoke(replace(incoming, sender=BEN), "models", {}))


def test_a_file_comes_as_a_file(talk: Make, ann: Person) -> None:
    door = talk()
    say(door, "Hello")
    say(door, "--export")
    ((_, name, data),) = door.service.given
    assert name == "hello.md"
    assert b"You said: Hello" in data


def test_a_row_goes_with_the_next_message(
    talk: Make, house: House, ann: Person, model: Talking
) -> None:
    run = house.start_run(ann, Wish(recipe="rlhi", rows=2, model="rehearsal"))
    door = talk()
    door.until(lambda: house.desk(ann).registry.get(run.id).state == "finished", 90)
    say(door, f"--use {run.id} 0")
    say(door, "What is this?")
    assert "row-0.json" in str(model.asked[-1]["messages"][-1])


def test_a_fault_in_one_message_keeps_nobody_from_an_answer(
    talk: Make, house: House, ann: Person, ben: Person, model: Talking
) -> None:
    """Fault 7 of the bot that was: after one failure nobody got answers again."""
    door = talk()
    model.refuse = lambda body: (500, "Broken.") if "break" in str(body) else None
    door.hear(said("break"), said("Hello", BEN, place=Place("!ben")))
    door.settle()
    assert door.service.texts("!ben") == ["You said: Hello"]
    assert "⚠" in door.service.texts()[0]


def test_a_second_message_before_the_first_answer_gets_an_answer_of_its_own(
    talk: Make, ann: Person, model: Talking
) -> None:
    """Fault 9 of the bot that was: the second message took the first one's answer."""
    door = talk()
    first, second = said("One"), said("Two")
    door.hear(first, second)
    door.settle()
    shown = {one.reply_to: one.text for one in door.service.shown.values()}
    assert shown == {first.event: "You said: One", second.event: "You said: Two"}


def test_line_breaks_and_code_arrive_as_they_were(talk: Make, ann: Person, model: Talking) -> None:
    """Fault 9 of the bot that was, its other half."""
    text = "Here:\n\n```python\ndef f():\n    return 1\n```\n\nDone."
    model.say = lambda _: [text]
    door = talk()
    say(door, "Show me")
    assert door.service.texts() == [text]


def test_a_reply_with_nothing_else_is_a_message(talk: Make, ann: Person, model: Talking) -> None:
    door = talk()
    say(door, "", replied=Quoted("$q", "Ben", "What is six times seven?"), mentions_us=True)
    assert "six times seven" in str(model.asked[-1]["messages"][-1])


def test_a_bare_mention_says_what_there_is(talk: Make, ann: Person) -> None:
    door = talk()
    assert "--help" in say(door, "", mentions_us=True)


def test_a_service_is_only_a_surface() -> None:
    """What tests stand on promises what the protocol does."""
    from wordmill.channels.rooms.base import Surface

    surface: Surface = Service()
    assert surface.kind == "matrix"


def test_a_row_of_a_finished_run_tells_no_end(
    talk: Make, house: House, ann: Person, model: Talking
) -> None:
    run = house.start_run(ann, Wish(recipe="rlhi", rows=2, model="rehearsal"))
    door = talk()
    door.until(lambda: house.desk(ann).registry.get(run.id).state == "finished", 90)
    say(door, f"--use {run.id} 0")
    assert door.door.records.owed("report") == []
    assert not any("is finished" in one for one in door.service.notices())


def means(command: str, *arguments: str) -> Callable[[dict[str, Any]], list[str]]:
    """A model to which every message that may mean a command means this one."""

    def answer(body: dict[str, Any]) -> list[str]:
        if "response_format" in body:
            return [json.dumps({"command": command, "arguments": arguments})]
        return [f"You said: {body['messages'][-1]['content']}"]

    return answer


def test_what_it_costs_is_said_of_a_command_in_plain_language_too(
    talk: Make, house: House, ann: Person, model: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "_PATIENCE", 60.0)
    model.say = means("generate", "rlhi", "20")
    door = talk()
    asked = say(door, "--generate rlhi 20")
    plain = say(door, "make me a dataset of 20 rows")
    price = asked.removesuffix("Shall I do this? Answer `yes` or `no`.").strip()
    assert len(price) > 10
    assert plain.startswith(price)
    assert "`--generate rlhi 20`" in plain
    assert house.desk(ann).registry.all() == []


def test_a_guess_at_a_command_that_may_not_be_given_is_a_message(
    talk: Make, ann: Person, ben: Person, model: Talking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "_PATIENCE", 60.0)
    model.say = means("reset-chat")
    door = talk()
    say(door, "Hello", mentions_us=True, **COMPANY)
    say(door, "please reset the conversation", BEN, **COMPANY)
    assert door.service.texts()[-1] == "You said: Ben: please reset the conversation"
    assert door.service.notices() == []


def test_whoever_is_alone_with_us_has_a_conversation_of_their_own(
    talk: Make, house: House, ann: Person, ben: Person, model: Talking
) -> None:
    """Ann was there before, or was a guest before she linked an account."""
    door = talk()
    say(door, "A secret")
    assert "belongs to somebody else" not in say(door, "--new", BEN)
    say(door, "Hello", BEN)
    assert "secret" not in str(model.asked[-1])
    assert len(house.conversations.all(ben).items) >= 1
    assert [one.role for one in house.conversations.branch(ann, _only(house, ann))] == [
        "user", "assistant",
    ]  # fmt: skip


def _only(house: House, person: Person) -> str:
    (found,) = house.conversations.all(person).items
    return found.id


def test_a_guest_who_has_linked_an_account_is_not_stuck(
    talk: Make, house: House, admin: Person
) -> None:
    door = talk(guests=True)
    say(door, "Hello", BEN)
    person = house.accounts.people.create(admin, "ben@example.org", "Ben", "a long one, this")
    say(door, f"--link {house.accounts.identities.code(person)}", BEN)
    assert "belongs to somebody else" not in say(door, "--new", BEN)
    assert "belongs to somebody else" not in say(door, "--title Mine", BEN)
