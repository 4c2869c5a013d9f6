"""Slash commands, menus of messages and buttons on Discord."""

import io
import re
import zipfile
from typing import Any

from tests.discord.conftest import Mill
from tests.servers.discord import EPHEMERAL, Asking, buttons
from tests.servers.gdrive import GDrive, connect
from wordmill.channels.discord import slash
from wordmill.commands import COMMANDS, Context


def told(mill: Mill, asking: Asking) -> str:
    """What was answered, once it is there."""

    def look() -> str:
        return "\n".join(one["content"] for one in mill.service.told(asking) if one["content"])

    return mill.service.until(look)


def registered(mill: Mill) -> Any:
    return mill.service.until(lambda: mill.bot.commands)


def test_all_commands_of_the_registry_are_registered_and_once_alone(running: Mill) -> None:
    commands = registered(running)
    names = {one["name"] for one in commands if one["type"] == slash.SLASH}
    assert names == {command.name for command in COMMANDS}
    menus = [one["name"] for one in commands if one["type"] == slash.MENU]
    assert menus == ["Save to Google Docs", "Save as Word", "Retry", "Rate"]
    running.stop()
    running.start()
    asked = "applications/.*/commands"
    running.service.until(
        lambda: len([one for one in running.service.calls if re.search(asked, one.path)]) == 3
    )
    assert len(running.bot.registrations) == 1
    running.stop()
    running.bot.commands[0]["description"] = "Somebody changed it."
    running.start()
    running.service.until(lambda: len(running.bot.registrations) == 2)


def test_arguments_are_those_of_the_registry(running: Mill) -> None:
    commands = {one["name"]: one for one in registered(running)}
    number = commands["set-input-buffer-size"]["options"][0]
    assert (number["type"], number["min_value"], number["required"]) == (4, 0, True)
    mode = commands["set-decoding-mode"]["options"][0]
    modes = running.house.chat.parameters.modes()
    assert [one["value"] for one in mode["choices"]] == list(modes)
    assert commands["swap-model"]["options"][0]["autocomplete"] is True
    assert commands["new"]["description"] == "Begin a new conversation."
    german = {"de": "Eine neue Unterhaltung beginnen."}
    assert commands["new"]["description_localizations"] == german
    told = commands["set-config"]["options"][0]["description_localizations"]
    assert told == {"de": "Ihr Name, etwa temperature."}
    context = Context(running.admin, running.house, "discord")
    assert slash.differs(list(commands.values()), slash.wanted(context)) is False


def test_a_command_is_acknowledged_at_once_and_answered_for_all(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    asking = service.slash(running.bot, "model", ann, service.general)
    assert "`mock` answers" in told(running, asking)
    assert asking.answered_after < 3.0
    assert asking.first is not None
    assert asking.first["type"] == 5
    assert not asking.private


def test_status_says_whom_the_bot_answers(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    room = running.direct(ann)
    service.say(room, ann, "--status")
    said = service.until(lambda: running.answers(room))[0]
    assert f"I am `wordmill ({running.bot.id})` here, and answer everything" in said
    asking = service.slash(running.bot, "status", ann, service.general)
    assert "answer mentions, replies, my own threads" in told(running, asking)


def test_what_is_private_is_for_one_person_alone(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    asking = service.slash(running.bot, "whoami", ann, service.general)
    assert "You are Ann" in told(running, asking)
    assert asking.private
    assert running.answers() == []


def test_a_stranger_links_an_account_from_either_side(running: Mill) -> None:
    service = running.service
    eve = service.add_user("eve")
    registered(running)
    refused = service.slash(running.bot, "model", eve, service.general)
    assert "I do not know you yet" in told(running, refused)
    assert all(one["flags"] & EPHEMERAL for one in service.told(refused))
    assert service.said_by(running.bot.id) == []
    asking = service.slash(running.bot, "link", eve, service.general)
    assert asking.bot
    code = re.search(r"`([^`]+)`", told(running, asking))
    assert code is not None
    person = running.house.accounts.people.create(
        running.admin, "eve@example.org", "Eve", "a long one, this"
    )
    running.house.accounts.identities.accept(person, code[1])
    again = service.slash(running.bot, "whoami", eve, service.general)
    assert "You are Eve" in told(running, again)


def test_values_are_suggested_while_they_are_typed(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    found = service.complete(running.bot, "swap-model", ann, service.general, "name", name="mo")
    assert [one["value"] for one in found] == ["mock"]
    asking = service.slash(running.bot, "swap-model", ann, service.general, name="rehearsal")
    assert "`rehearsal` answers from now on." in told(running, asking)
    stranger = service.add_user("eve")
    assert (
        service.complete(running.bot, "swap-model", stranger, service.general, "name", name="")
        == []
    )


def test_what_is_wrong_is_said_to_whoever_asked(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    asking = service.slash(
        running.bot, "set-config", ann, service.general, name="temperature", value="hot"
    )
    text = told(running, asking)
    assert text.startswith("⚠ ")
    assert "temperature" in text
    assert running.answers() == []


def test_a_command_in_company_is_on_the_conversation_led_last_there(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    service.say(service.general, ann, f"{running.mention} hi")
    running.hears("You said: ann: hi")
    asking = service.slash(running.bot, "set-prompt", ann, service.general, text="Be brief.")
    assert "The system prompt is set" in told(running, asking)
    service.say(service.general, ann, "again", reply_to=running.service.told(asking)[0]["id"])
    service.until(lambda: len(running.model.asked) == 2)
    assert running.conversations(ann) == 1
    first, last = running.model.asked[-1]["messages"]
    assert first == {"role": "system", "content": "Be brief."}
    assert last["content"].endswith("\n\nann: again")


def test_a_conversation_from_elsewhere_goes_on_in_a_reply(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    person = running.people[ann]
    began = running.house.conversations.create(person)
    running.house.conversations.add(person, began.id, "user", "said on the web", door="web")
    asking = service.slash(running.bot, "use", ann, service.general, run=began.id)
    told(running, asking)
    service.say(service.general, ann, "and here", reply_to=service.told(asking)[0]["id"])
    service.until(lambda: running.model.asked)
    assert "ann: and here" in str(running.model.asked[-1]["messages"])
    assert "said on the web" in str(running.model.asked[-1]["messages"])


def test_retry_by_button_and_menu(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    room = running.direct(ann)
    service.say(room, ann, "hi")
    answer = running.hears("You said: hi", room)
    running.model.say = lambda _: ["Second."]
    service.click(answer["id"], "🔁", ann)
    second = running.hears("Second.", room)
    running.model.say = lambda _: ["Third."]
    asking = service.menu(running.bot, "Retry", ann, second["id"])
    running.hears("Third.", room)
    assert told(running, asking) == "Trying again."
    assert running.conversations(ann) == 1


def test_rating_by_button_and_menu(running: Mill) -> None:
    ann, ben, service = running.knows("ann"), running.knows("ben"), running.service
    registered(running)
    service.say(service.general, ann, f"{running.mention} hi")
    answer = running.hears("You said: ann: hi")
    conversations, person = running.house.conversations, running.people[ann]
    conversation = conversations.all(person).items[0].id

    def scores() -> list[int]:
        return [one.score for one in conversations.ratings(person, conversation).values()]

    service.click(answer["id"], "👎", ann)
    running.wait(lambda: scores() == [-1])
    asking = service.menu(running.bot, "Rate", ann, answer["id"])
    assert told(running, asking) == "How was this answer?"
    assert asking.private
    service.click(service.told(asking)[0]["id"], "👍", ann)
    running.wait(lambda: scores() == [1])
    refused = service.click(answer["id"], "👎", ben)
    assert told(running, refused) == "⚠ This conversation belongs to somebody else."
    assert scores() == [1]
    assert service.messages[answer["id"]]["content"] == "You said: ann: hi"


def test_a_message_that_is_no_answer_has_nothing_to_retry(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    said = service.say(service.general, ann, "mine")
    asking = service.menu(running.bot, "Retry", ann, said)
    assert told(running, asking) == "⚠ This message is no answer of mine."


def test_an_answer_is_saved_as_word_for_whoever_asked_alone(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    running.model.say = lambda _: ["# Tea\n\nBoil water."]
    room = running.direct(ann)
    service.say(room, ann, "one")
    first = running.hears("# Tea\n\nBoil water.", room)
    running.model.say = lambda _: ["Something else."]
    service.say(room, ann, "two")
    running.hears("Something else.", room)
    asking = service.menu(running.bot, "Save as Word", ann, first["id"])
    service.until(lambda: any(one["attachments"] for one in service.told(asking)))
    (file,) = next(one["attachments"] for one in service.told(asking) if one["attachments"])
    assert file["filename"].endswith(".docx")
    with zipfile.ZipFile(io.BytesIO(service.files[file["id"]][1])) as opened:
        text = opened.read("word/document.xml").decode()
    assert "Boil water." in text
    assert "Something else." not in text
    assert all(one["flags"] & EPHEMERAL for one in service.told(asking))


def test_an_answer_that_was_tried_again_is_saved_as_it_stands_there(mill: Mill) -> None:
    ann, ben, service = mill.knows("ann"), mill.knows("ben"), mill.service
    mill.configure(deny=ben)
    mill.start()
    registered(mill)
    mill.model.say = lambda _: ["The first."]
    service.say(service.general, ann, f"{mill.mention} one")
    first = mill.hears("The first.")
    mill.model.say = lambda _: ["The second."]
    service.click(first["id"], "🔁", ann)
    mill.hears("The second.")
    asking = service.menu(mill.bot, "Save as Word", ann, first["id"])
    service.until(lambda: any(one["attachments"] for one in service.told(asking)))
    (file,) = next(one["attachments"] for one in service.told(asking) if one["attachments"])
    with zipfile.ZipFile(io.BytesIO(service.files[file["id"]][1])) as opened:
        text = opened.read("word/document.xml").decode()
    assert "The first." in text
    assert "The second." not in text
    refused = service.menu(mill.bot, "Save as Word", ben, first["id"])
    assert told(mill, refused) == "⚠ You may not talk to me here."
    assert service.complete(mill.bot, "swap-model", ben, service.general, "name", name="mo") == []


def test_saving_to_google_docs_says_what_is_missing(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    room = running.direct(ann)
    service.say(room, ann, "one")
    answer = running.hears("You said: one", room)
    asking = service.menu(running.bot, "Save to Google Docs", ann, answer["id"])
    assert "Google Drive" in told(running, asking)


def test_saving_to_google_docs_gives_the_link(google: GDrive, running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    connect(running.house, running.people[ann])
    room = running.direct(ann)
    service.say(room, ann, "one")
    answer = running.hears("You said: one", room)
    service.say(room, ann, "two")
    running.hears("You said: two", room)
    asking = service.menu(running.bot, "Save to Google Docs", ann, answer["id"])
    text = told(running, asking)
    (made,) = google.documents()
    assert f"https://docs.google.com/document/d/{made['id']}/edit" in text
    assert asking.private
    with zipfile.ZipFile(io.BytesIO(google.data[made["id"]])) as opened:
        document = opened.read("word/document.xml").decode()
    assert "You said: one" in document
    assert "You said: two" not in document


def test_money_is_spent_after_a_yes_alone(running: Mill) -> None:
    ann, service = running.knows("ann"), running.service
    registered(running)
    desk = running.house.desk(running.people[ann])
    asking = service.slash(running.bot, "generate", ann, service.general, recipe="rlhi", rows=3)
    text = told(running, asking)
    assert "Shall I do this?" in text
    assert desk.registry.all() == []
    (question,) = service.told(asking)
    assert [one["label"] for one in buttons(question)] == ["Yes", "No"]
    service.click(question["id"], "Yes", ann)
    running.wait(lambda: desk.registry.all())
