"""What each command does, against a real house."""

import json
from dataclasses import replace

import pytest

from tests.commands.conftest import branch, ended, ordered, run, said
from wordmill.commands import Context
from wordmill.errors import (
    ConfigError,
    Conflict,
    InvalidInput,
    NotFound,
    UnknownName,
    WordmillError,
)


def test_nothing_has_been_said_yet(context):
    for line in ("/reset-chat", "/stop", "/retry", "/continue", "/undo", "/fork", "/title",
                 "/document-title", "/export", "/input-messages"):  # fmt: skip
        with pytest.raises(InvalidInput, match="Nothing has been said here yet"):
            run(context, line)


def test_commands_and_help(context):
    outcome = run(context, "/help")
    assert "- `/set-config NAME VALUE` - Set a setting, for you and this model." in outcome.text
    assert "swap-model" in outcome.data["commands"]
    assert run(context, "/commands --undo").text.startswith("`/undo` - Take back")
    assert run(replace(context, mark="--"), "--help undo").text.startswith("`--undo` - Take back")
    with pytest.raises(UnknownName, match="Did you mean 'undo'"):
        run(context, "/commands und")


def test_new_begins_another_and_leaves_the_one_before(talk):
    begun = run(talk, "/new")
    assert begun.text == "A new conversation."
    assert begun.conversation not in (None, talk.conversation_id)
    assert branch(talk) == ["How are you?", "Hello there."]
    again = run(replace(talk, conversation_id=begun.conversation), "/new")
    assert (again.text, again.conversation) == (
        "Nothing has been said in this conversation yet: it is new.",
        None,
    )


def test_a_new_temporary_conversation_is_not_kept(context, house, ada):
    begun = run(replace(context, temporary=True), "/new")
    assert begun.text == "A new conversation; nothing of it is kept."
    assert not house.conversations.all(ada).items


def test_reset_chat_begins_a_branch_and_keeps_the_old_one(talk, house, ada, model):
    before = house.conversations.branch(ada, talk.conversation_id)
    outcome = run(talk, "/reset-chat")
    assert outcome.text == (
        "The conversation begins anew. The 2 messages before stay as another branch."
    )
    assert outcome.data["left"] == before[-1].id
    assert branch(talk) == []
    said(talk, "And now?")
    assert model.asked[-1]["messages"] == [{"role": "user", "content": "And now?"}]
    house.conversations.switch(ada, before[-1].id)
    assert branch(talk) == ["How are you?", "Hello there."]


def test_set_prompt_begins_a_branch_with_it_and_keeps_the_old_one(talk, house, ada, model):
    before = house.conversations.branch(ada, talk.conversation_id)
    assert run(talk, "/prompt").text == ("There is no system prompt. `/set-prompt TEXT` sets one.")
    outcome = run(talk, "--set-prompt You are a pirate.\nBe – brief.")
    assert outcome.text == (
        "The system prompt is set, and the conversation begins anew. "
        "The 2 messages before stay as another branch."
    )
    assert run(talk, "/prompt").text == "The system prompt:\n\n> You are a pirate.\n> Be – brief."
    said(talk, "Hello?")
    assert model.asked[-1]["messages"] == [
        {"role": "system", "content": "You are a pirate.\nBe – brief."},
        {"role": "user", "content": "Hello?"},
    ]
    house.conversations.switch(ada, before[-1].id)
    assert branch(talk) == ["How are you?", "Hello there."]


def test_set_prompt_before_anything_is_said_begins_a_conversation(context, house, ada):
    outcome = run(context, "/set-prompt Be brief.")
    assert outcome.text == "The system prompt is set, and the conversation begins anew."
    assert house.conversations.get(ada, outcome.conversation).system == "Be brief."


def test_stop_keeps_what_there_is(talk, house, ada, model):
    def slowly(body):
        for number in range(1000):
            yield f"word{number} "
            yield 0.02

    model.say = slowly
    turn = house.chat.send(ada, talk.conversation_id, "Go on for long.", door="shell")
    for event in house.chat.watch(ada, turn.answer):
        if "word3" in event.text:
            break
    outcome = run(talk, "/stop")
    assert outcome.text == "Stopped. What there was of the answer is kept."
    assert outcome.data["stopped"] == [turn.answer]
    assert ended(talk, turn.answer).startswith("word0 word1 word2 word3")
    assert house.conversations.message(ada, turn.answer).state == "stopped"
    with pytest.raises(Conflict, match="Nothing is being answered"):
        run(talk, "/stop")


def test_retry_answers_once_more_beside_the_old_answer(talk, house, ada, model):
    model.say = lambda body: ["Another answer."]
    outcome = run(talk, "/retry")
    assert ended(talk, outcome.answer) == "Another answer."
    assert branch(talk) == ["How are you?", "Another answer."]
    texts = [one.text for one in house.conversations.siblings(ada, outcome.answer)]
    assert texts == ["Hello there.", "Another answer."]


def test_continue_goes_on_where_the_answer_ended(talk, model):
    model.say = lambda body: [" And more."]
    outcome = run(talk, "/continue")
    assert ended(talk, outcome.answer) == "Hello there. And more."
    sent = model.asked[-1]["messages"]
    assert sent[-2] == {"role": "assistant", "content": "Hello there."}


def test_undo_takes_back_a_question_and_its_answer(talk, house, ada):
    more = said(talk, "Tell me more.")
    outcome = run(more, "/undo")
    assert outcome.text == "Taken back:\n\n> Tell me more."
    assert branch(more) == ["How are you?", "Hello there."]
    run(more, "/undo")
    with pytest.raises(Conflict, match="nothing to undo"):
        run(more, "/undo")
    house.conversations.switch(ada, outcome.data["left"])
    assert branch(more)[-2] == "Tell me more."


def test_fork_goes_on_in_a_copy(talk):
    outcome = run(talk, "/fork")
    copy = replace(talk, conversation_id=outcome.conversation)
    assert branch(copy) == branch(talk)
    said(copy, "Only here.")
    assert len(branch(talk)) == 2


def test_title_and_document_title(talk, house, ada):
    house.conversations.change(ada, talk.conversation_id, title="", titled_by="")
    assert run(talk, "/title").text == "The conversation has no title yet."
    assert run(talk, "/document-title").text == (
        "The document has no title yet. `/set-document-title TEXT` sets one."
    )
    assert run(talk, "/title A `fine` day").text == (
        "The conversation is called ``A `fine` day`` now."
    )
    assert run(talk, "/document-title").text == (
        "The document is called ``A `fine` day``, as the conversation."
    )
    assert run(talk, "/set-document-title Report").text == "The document is called `Report` now."
    assert run(talk, "/document-title").text == "The document is called `Report`."
    assert house.conversations.get(ada, talk.conversation_id).titled_by == "person"


def test_the_model_and_another_one(talk, house, ada, model):
    server = model.url.split("/")[2]
    assert run(talk, "/model").text == f"`mock` answers: mock-1 at {server}."
    assert f"- `mock`: mock-1 at {server} (answers here)" in run(talk, "/models").text
    assert run(talk, "/models").data["models"] == ["mock", "rehearsal"]
    with pytest.raises(UnknownName, match="Did you mean 'rehearsal'"):
        run(talk, "/swap-model rehersal")
    assert run(talk, "/swap-model rehearsal").text == "`rehearsal` answers from now on."
    asked = len(model.asked)
    said(talk, "Who are you now?")
    assert len(model.asked) == asked
    assert run(talk, "/new").conversation is not None
    fresh = house.conversations.get(ada, run(talk, "/new").conversation)
    assert fresh.model == "rehearsal"


def test_how_many_messages_a_model_gets(talk, model):
    assert run(talk, "/input-buffer-size").text == (
        "A model gets as many of the last messages as fit into its window."
    )
    outcome = run(talk, "/set-input-buffer-size 2")
    assert outcome.text == "A model gets the last 2 messages, if they fit."
    said(talk, "One more.")
    assert [one["content"] for one in model.asked[-1]["messages"]] == ["One more."]
    run(talk, "/set-input-buffer-size 0")
    assert run(talk, "/input-buffer-size").data == {"input_buffer_size": None}
    for wrong in ("-1", "ten", "1.5", ""):
        with pytest.raises(InvalidInput, match="Write it as `/set-input-buffer-size N`"):
            run(talk, f"/set-input-buffer-size {wrong}")


def test_input_messages_are_what_was_sent(talk, model):
    outcome = run(talk, "/input-messages")
    asked = next(body for body in model.asked if body["messages"][-1]["content"] == "How are you?")
    assert outcome.data["sent"]["messages"] == asked["messages"]
    assert outcome.text.startswith("Sent for the last answer:\n\n```json\n{")
    assert json.loads(outcome.text.split("```")[1].removeprefix("json")) == outcome.data["sent"]
    # "How are you?" is 12 bytes, and a message 4 tokens; the server says 7.
    assert outcome.text.endswith("```\n\n7 tokens by an estimate (exact, says the server).")


def test_decoding_modes(talk):
    assert run(talk, "/decoding-mode").text == "The decoding mode is `top-k+top-p`."
    assert "- `greedy`\n" in run(talk, "/decoding-modes").text
    assert run(talk, "/set-decoding-mode greedy").text == (
        "The decoding mode is `greedy` now; it was `top-k+top-p`."
    )
    assert "- `greedy` (holds here)" in run(talk, "/decoding-modes").text
    with pytest.raises(UnknownName, match="Did you mean 'greedy'"):
        run(talk, "/set-decoding-mode gredy")
    with pytest.raises(InvalidInput, match="cannot do the mode beam-search"):
        run(talk, "/set-decoding-mode beam-search")


def test_settings_are_of_the_person_and_the_model(talk):
    assert run(talk, "/config").text == "You changed no setting."
    assert run(talk, "/set-config temperature 0.25").text == (
        "`temperature` is `0.25` now; it was not set."
    )
    assert run(talk, "/config").data["settings"] == {
        "temperature": {"value": 0.25, "from": "you, with this model"}
    }
    run(talk, "/swap-model rehearsal")
    assert run(talk, "/config").data["settings"] == {}
    run(talk, "/swap-model mock")
    assert "temperature" in run(talk, "/config").data["settings"]
    with pytest.raises(InvalidInput, match="temperature is a number from 0 to 2, not '9'"):
        run(talk, "/set-config temperature 9")
    with pytest.raises(UnknownName, match="Did you mean 'temperature'"):
        run(talk, "/set-config temprature 1")
    assert run(talk, "/set-config temperature default").text == (
        "`temperature` is not set now; it was `0.25`."
    )
    full = run(talk, "/config-full")
    assert "seed" in full.data["settings"]
    lines = full.text.splitlines()
    assert all(line.replace("\\|", "").count("|") == 5 for line in lines), full.text


def test_the_tool_servers_of_a_conversation(talk, house, ada):
    assert run(talk, "/tools").text == "There are no tool servers: an admin can allow some."
    house.chat.tools.add(ada, "files", "http", "https://tools.example.org/mcp")
    assert run(talk, "/tools").text == "- `files`"
    assert run(talk, "/tools files").text == "- `files` (used here)"
    assert run(talk, "/tools").data == {"tools": ["files"], "servers": ["files"]}
    with pytest.raises(UnknownName, match="Did you mean 'files'"):
        run(talk, "/tools file")
    assert run(talk, "/tools none").data["tools"] == []


def test_export(talk):
    outcome = run(talk, "/export")
    assert (outcome.file.name[-3:], outcome.file.media_type) == (".md", "text/markdown")
    assert "How are you?" in outcome.file.data.decode()
    whole = run(talk, "/export JSON")
    assert json.loads(whole.file.data)["messages"][0]["text"] == "How are you?"
    with pytest.raises(InvalidInput, match="markdown, docx, odt, pdf or json"):
        run(talk, "/export xls")


def test_the_name_of_an_exported_file_is_only_a_name(talk):
    run(talk, "/set-document-title ../../etc/passwd: a „test“ " + "x" * 300)
    assert run(talk, "/export").file.name == ("etc-passwd-a-test-" + "x" * 42 + ".md")
    run(talk, "/set-document-title ///")
    assert run(talk, "/export").file.name == "conversation.md"


@pytest.mark.parametrize("line", ["/set-gdrive-folder x"])
def test_what_is_not_there_yet_says_so(talk, line):
    with pytest.raises(ConfigError, match=r"This installation"):
        run(talk, line)


def test_status_usage_and_whoami(context, talk):
    assert run(context, "/status").text == (
        "- Model: `mock`\n- Conversation: none yet\n- Commands in plain language: on"
    )
    status = run(talk, "/status")
    assert status.data["messages"] == 2
    assert status.data["open"] == []
    assert "- Nothing is being answered" in status.text
    usage = run(talk, "/usage")
    assert usage.data["day"]["requests"] >= 1
    assert "- This conversation: 7 tokens in, 2 out" in usage.text
    assert run(talk, "/whoami").text == "You are local, admin, at the door `shell`."
    rehearsing = replace(context, model="rehearsal")
    assert run(rehearsing, "/status").text.endswith(
        "off, because the model `rehearsal` makes up its words"
    )


def test_a_run_is_made_shown_and_used(context, house, ada):
    assert run(context, "/runs").text == "You have no runs yet. `/generate rlhi 20` makes one."
    with pytest.raises(InvalidInput, match="You have no runs yet"):
        run(context, "/run")
    rehearsing = replace(context, model="rehearsal")
    begun = run(rehearsing, "/generate rlhi 2 actions=1")
    assert begun.data["rows"] == 2
    assert "2 rows of `rlhi`" in begun.text
    name = begun.data["run"]
    for _ in range(600):
        if house.desk(ada).registry.get(name).state == "finished":
            break
        house._runs._closed.wait(0.05)
    shown = run(context, f"/run {name}")
    assert f"`{name}` finished: 2 of 2 rows of rlhi" in shown.text
    assert run(context, "/run").data["run"] == name
    assert f"- `{name}` finished" in run(context, "/runs").text
    used = run(context, f"/use {name} 1")
    (attachment,) = used.attachments
    found = house.conversations.attachments.get(ada, attachment)
    assert json.loads(found.text) == used.data["values"]
    with pytest.raises(InvalidInput, match="has no row 7"):
        run(context, f"/use {name} 7")
    with pytest.raises(UnknownName):
        run(context, "/use nothing")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/generate nothing", "There is no built-in recipe 'nothing'"),
        ("/generate rlhi 0", "rows must be a whole number of 1 or more"),
        ("/generate rlhi 2 actions", "'actions' is no parameter: write it as `actions=3`"),
        ("/generate rlhi 2 actions=13", "actions"),
        ("/generate rlhi 2 acts=1", "actions"),
    ],
)
def test_a_run_that_cannot_be_is_refused(context, line, sentence):
    with pytest.raises(Exception, match=sentence):
        run(replace(context, model="rehearsal"), line)


def test_another_person_finds_nothing(talk, house, ada):
    people, password = house.accounts.people, "a long enough one"
    admin = people.create(ada, "ada@example.org", "Ada", password, "admin")
    ben = people.create(admin, "ben@example.org", "Ben", password, "member")
    other = Context(ben, house, "shell", talk.conversation_id)
    for command in (
        "reset-chat", "prompt", "set-prompt x", "stop", "retry", "continue", "undo", "fork",
        "title", "title x", "tools", "tools none", "model", "swap-model mock", "config",
        "input-messages", "export", "document-title", "set-document-title x", "status", "usage",
        "new",
    ):  # fmt: skip
        with pytest.raises(NotFound, match="no conversation"):
            run(other, f"/{command}")
    assert branch(talk) == ["How are you?", "Hello there."]


def test_link_both_ways(house, context):
    from wordmill.accounts import LOCAL_PERSON

    ann = house.accounts.people.create(
        LOCAL_PERSON, "ann@example.org", "Ann", "a long one, this", "admin"
    )
    mine = replace(context, person=ann)
    code = run(mine, "/link").data["code"]
    assert house.accounts.identities.redeem(code, "matrix", "@ann:example.org").id == ann.id
    other = house.accounts.identities.offer("discord", "4711")
    assert "given to `4711` on Discord" in run(mine, f"/link {other}").text
    assert len(house.accounts.identities.all(ann)) == 1
    assert run(mine, f"/link {other} yes").text == "Linked: `4711` on Discord is you."
    assert len(house.accounts.identities.all(ann)) == 2


def test_use_goes_on_with_another_conversation(house, context, talk):
    begun = house.conversations.create(context.person, title="Trips")
    listed = run(talk, "/conversations")
    assert begun.id in listed.text
    assert run(talk, f"/use {begun.id}").conversation == begun.id
    with pytest.raises(WordmillError):
        run(talk, "/use nothing-of-mine")


def test_batches_are_listed_and_one_is_shown(house, ada, context):
    assert run(context, "/batches").text.startswith("You have no batches yet. ")
    with pytest.raises(InvalidInput, match="You have no batches yet"):
        run(context, "/batch")
    first = ordered(house, ada, "rehearsal", "rehearsal", dataset="letters").id
    last = ordered(house, ada, "nobody").id
    for _ in range(600):
        if all(one.ended for one in house.batches.all(ada.id)):
            break
        house._batches._closed.wait(0.05)
    assert run(context, "/batch").data["batch"] == last
    assert "- line 1: `" in run(context, "/batch").text
    shown = run(context, f"/batch {first}")
    assert shown.text == f"`{first}` completed: 2 of 2 requests of `letters` answered"
    assert (shown.data["answered"], shown.data["state"]) == (2, "completed")
    listed = run(context, "/batches")
    assert [one["batch"] for one in listed.data["batches"]] == [last, first]
    assert f"- `{first}` completed: 2 of 2" in listed.text
    people = house.accounts.people
    admin = people.create(ada, "ada@example.org", "Ada", "a long one, this", "admin")
    ben = people.create(admin, "ben@example.org", "Ben", "a long one, this")
    with pytest.raises(NotFound):
        run(replace(context, person=ben), f"/batch {first}")
