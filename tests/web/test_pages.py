"""What the pages say and do, without a browser: each is run as Streamlit would run it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.servers import tiny_models
from tests.web.bench import ADMIN, PASSWORD
from wordmill.accounts import LOCAL_PERSON, Person, catalog_of
from wordmill.backends.templates import FOLDED
from wordmill.batches import Wish as BatchWish
from wordmill.batches.outbox import DeadBlock
from wordmill.batches.queues import Queue, Standing
from wordmill.channels.house import House, open_house
from wordmill.channels.web import parts, place
from wordmill.channels.web.views import chat_write
from wordmill.chat.turns import Call
from wordmill.commands.language import Proposal
from wordmill.models import checked
from wordmill.runs.desk import Wish
from wordmill.settings import load, table

Drawn = Callable[..., AppTest]


@pytest.fixture
def house(home: Path) -> Iterator[House]:
    with open_house(load()) as found:
        place.enter(found)
        yield found


@pytest.fixture
def ann(house: House) -> Person:
    return house.accounts.people.create(LOCAL_PERSON, ADMIN, "Ann", PASSWORD, "admin")


@pytest.fixture
def bob(house: House, ann: Person) -> Person:
    return house.accounts.people.create(ann, "bob@example.org", "Bob", PASSWORD, "member")


@pytest.fixture
def drawn(house: House, monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """A page as a person sees it. Who that is, the cookie says; here the test does."""

    def draw(page: str, who: Person) -> AppTest:
        monkeypatch.setattr(place, "person", lambda: who)
        app = AppTest.from_string(
            f"from wordmill.channels.web.views import {page}\n{page}.show()", default_timeout=20
        ).run()
        assert not app.exception
        return app

    return draw


def words(app: AppTest) -> str:
    shown = [*app.title, *app.markdown, *app.caption, *app.error, *app.info, *app.success]
    return "\n".join(str(one.value) for one in shown).replace("\\", "")


def labelled(elements: object, label: str) -> object:
    (found,) = [one for one in elements if one.label == label]  # type: ignore[attr-defined]
    return found


def test_a_member_does_not_see_the_people(drawn: Drawn, bob: Person) -> None:
    app = drawn("people", bob)
    assert "This page is for admins." in words(app)
    assert not app.dataframe


def test_an_admin_adds_somebody(drawn: Drawn, house: House, ann: Person) -> None:
    app = drawn("people", ann)
    labelled(app.text_input, "E-mail").set_value("cem@example.org")
    labelled(app.text_input, "Name").set_value("Cem")
    labelled(app.text_input, "Password").set_value(PASSWORD)
    labelled(app.button, "Add").click()
    app.run()
    assert not app.error
    assert "cem@example.org" in [one.email for one in house.accounts.people.all(ann)]


def test_a_refusal_is_said_and_the_page_goes_on(drawn: Drawn, house: House, ann: Person) -> None:
    app = drawn("people", ann)
    labelled(app.text_input, "E-mail").set_value("no address")
    labelled(app.text_input, "Name").set_value("Cem")
    labelled(app.text_input, "Password").set_value(PASSWORD)
    labelled(app.button, "Add").click()
    app.run()
    assert len(app.error) == 1
    assert not app.exception
    assert labelled(app.expander, "What was done")
    assert len(house.accounts.people.all(ann)) == 1


def test_a_model_is_tried_and_added(drawn: Drawn, house: House, ann: Person) -> None:
    app = drawn("models", ann)
    labelled(app.button, "Try it").click().run()
    assert len(app.success) == 1
    labelled(app.text_input, "Name").set_value("near")
    labelled(app.text_input, "Its name there").set_value("mock-1")
    labelled(app.text_input, "Address").set_value("http://127.0.0.1:9/v1")
    labelled(app.button, "Add").click()
    app.run()
    assert not app.error
    assert "near" in house.catalog.names()


def test_a_member_cannot_add_models(drawn: Drawn, bob: Person) -> None:
    app = drawn("models", bob)
    assert not [one for one in app.button if one.label == "Add"]
    assert "An admin can add models." in words(app)


def test_a_server_that_a_batch_named_is_removed_by_its_owner_alone(
    drawn: Drawn, house: House, ann: Person, bob: Person
) -> None:
    catalog = catalog_of(house.database, house.settings, bob.id)
    plain = checked({"name": "m", "base_url": "http://127.0.0.1:9/v1", "model": "m"})
    catalog.keep_private(replace(plain, name="m@http://127.0.0.1:9/v1"))
    named = "Servers that your batches named"
    assert named not in [one.label for one in drawn("models", ann).expander]
    app = drawn("models", bob)
    assert labelled(app.expander, named)
    app.button(key="private remove").click().run()
    assert named not in [one.label for one in app.expander]
    assert house.private_models(bob) == []


class Conducting:
    """A conductor with nothing to say of itself."""

    def trouble(self) -> str | None:
        return None

    def wake(self) -> None: ...

    def stop(self) -> None: ...


def test_blocks_that_were_given_up_are_named_and_tried_again(
    drawn: Drawn, house: House, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = house.files.begin(ann.id, "asked.jsonl")
    upload.write(b"{}\n")
    batch, _new = house.batches.order(ann.id, BatchWish(file=upload.commit("batch").id))
    left = [DeadBlock(3, 769, 256, 5, "fast", "Each of 5 consumers that took it ended <b>.")]
    monkeypatch.setattr(house, "conductor", Conducting())
    monkeypatch.setattr(house.queues, "dead", lambda owner, name: left if name == batch.id else [])
    seen = Standing((Queue("fast", 2, 1, None),), (), "RabbitMQ does not answer.")
    monkeypatch.setattr(house.queues, "standing", lambda: seen)
    again: list[str] = []
    monkeypatch.setattr(
        house.queues, "replay", lambda owner, name, blocks: again.append(name) or left.clear()
    )
    app = drawn("batches", ann)
    assert "Blocks given up: 1." in words(app)
    assert "256 lines from line 769: Each of 5 consumers" in words(app)
    assert labelled(app.expander, "Queues and workers")
    assert "RabbitMQ does not answer." in [one.value.replace("\\", "") for one in app.warning]
    labelled(app.button, "Try them again").click().run()
    assert again == [batch.id]
    assert "given up" not in words(app)


def test_what_a_recipe_declares_becomes_fields(drawn: Drawn, ann: Person) -> None:
    app = drawn("generate", ann)
    assert labelled(app.number_input, "Number of scenarios").value == 20
    assert labelled(app.number_input, "Actions").value == 3
    (judge,) = [one for one in app.toggle if one.label.startswith("**Judge**")]
    assert judge.value is True
    before = next(one for one in words(app).splitlines() if "requests" in one)
    labelled(app.number_input, "Actions").set_value(6).run()
    after = next(one for one in words(app).splitlines() if "requests" in one)
    assert before != after


def test_a_recipe_of_ones_own_is_checked_while_it_is_written(drawn: Drawn, ann: Person) -> None:
    app = drawn("generate", ann)
    app.button_group[0].set_value("own").run()
    assert not app.error
    labelled(app.text_area, "Recipe").set_value("name: x\ncolumns: {a: {type: nothing}}").run()
    assert len(app.error) == 1
    assert "nothing" in app.error[0].value
    assert not [one for one in app.button if one.label == "Start"]


def test_an_api_key_is_shown_once_and_works(drawn: Drawn, house: House, bob: Person) -> None:
    app = drawn("settings", bob)
    labelled(app.text_input, "Name").set_value("notebook")
    labelled(app.button, "Make a key").click()
    app.run()
    (secret,) = [one.value for one in app.code if one.value.startswith("wm-")]
    person, key = house.accounts.keys.check(secret)
    assert (person.id, key.scopes) == (bob.id, ("chat", "runs", "read"))
    app.run()
    assert not [one for one in app.code if one.value.startswith("wm-")]
    assert "notebook" in words(app)


def save(app: AppTest, form: str) -> None:
    """Press the button Save of a form."""
    (button,) = [one for one in app.button if one.label == "Save" and one.form_id == form]
    button.click()


def test_each_setting_says_where_it_comes_from_and_whether_it_is_locked(
    drawn: Drawn, house: House, ann: Person
) -> None:
    app = drawn("settings", ann)
    (shown,) = [one.value for one in app.dataframe if "origin" in one.value]
    by_name = shown.set_index("name")
    assert set(by_name.index) == {one.name for one in table()}
    assert by_name.loc["home", "origin"] == "environment (WORDMILL_HOME)"
    assert by_name.loc["home", "locked"]
    assert by_name.loc["default_max_tokens", "origin"] == "default"
    assert not by_name.loc["default_max_tokens", "locked"]
    choice = app.selectbox(key="which setting")
    assert "home" not in choice.options
    choice.set_value("default_max_tokens").run()
    app.text_input(key="value default_max_tokens").set_value("many")
    save(app, "set default_max_tokens")
    app.run()
    assert len(app.error) == 1
    app.text_input(key="value default_max_tokens").set_value("512")
    save(app, "set default_max_tokens")
    app.run()
    assert not app.error
    assert load().default_max_tokens == 512


def test_the_drawer_says_where_each_value_comes_from(
    drawn: Drawn, house: House, ann: Person
) -> None:
    conversation = house.conversations.create(ann, title="Mills", model="rehearsal")
    house.chat.parameters.set(ann, "rehearsal", "temperature", "0.3")
    house.chat.set_here(ann, conversation.id, "seed", "5")
    app = drawn("chat", ann)
    app.query_params["c"] = conversation.id
    app.run()
    app.button(key=f"drawer {conversation.id}").click().run()
    (shown,) = [one.value for one in app.dataframe if "Setting" in one.value]
    origin = dict(zip(shown["Setting"], shown["Where it comes from"], strict=True))
    assert origin["temperature"] == "you, with this model"
    assert origin["seed"] == "this conversation"
    assert origin["top_k"] == "the mode top-k+top-p, the default"
    assert origin["max_tokens"] == "the model's default"


def test_a_command_is_run_and_an_unknown_one_is_named(
    drawn: Drawn, house: House, ann: Person
) -> None:
    app = drawn("chat", ann)
    app.chat_input[0].set_value("/commands").run()
    assert "set-prompt" in words(app)
    assert house.conversations.all(ann).items == ()
    app.chat_input[0].set_value("--set-prompt Speak like a miller.").run()
    (made,) = house.conversations.all(ann).items
    assert made.system == "Speak like a miller."
    assert made.id in app.query_params["c"]
    app.chat_input[0].set_value("/modls").run()
    assert "models" in app.error[0].value
    labelled(app.button, "Close").click().run()
    assert not app.error


def test_plain_words_are_proposed_as_a_command_and_asked_about(
    drawn: Drawn, house: House, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposal = Proposal("set-input-buffer-size", {"n": 3}, "set-input-buffer-size 3", "Do it?")
    monkeypatch.setattr(chat_write, "propose", lambda *_: proposal)
    app = drawn("chat", ann)
    app.chat_input[0].set_value("use only the last three messages").run()
    assert "Do it?" in words(app)
    labelled(app.button, "Yes, do that").click().run()
    values = house.chat.parameters.effective(ann, "rehearsal")
    assert values["input-buffer-size"] == 3
    app.chat_input[0].set_value("use only the last three messages").run()
    labelled(app.button, "No, send it as a message").click().run()
    (made,) = house.conversations.all(ann).items
    said = house.conversations.branch(ann, made.id)
    assert said[0].text == "use only the last three messages"


def test_a_thumb_is_asked_for_its_reason(drawn: Drawn, house: House, ann: Person) -> None:
    conversation = house.conversations.create(ann)
    house.conversations.add(ann, conversation.id, "user", "Why?", door="test")
    answer = house.conversations.add(ann, conversation.id, "assistant", "So.", door="test")
    app = drawn("chat", ann)
    app.query_params["c"] = conversation.id
    app.run()
    app.feedback(key=f"rate {answer.id}").set_value(0).run()
    assert house.conversations.ratings(ann, conversation.id)[answer.id].score == -1
    (reasons,) = [one for one in app.button_group if "wrong?" in one.label]
    reasons.set_value("wrong")
    labelled(app.text_input, "Comment").set_value("It is thus.")
    labelled(app.button, "Send").click()
    app.run()
    said = house.conversations.ratings(ann, conversation.id)[answer.id]
    assert (said.score, said.reason, said.comment) == (-1, "wrong", "It is thus.")
    assert "It is wrong: It is thus." in words(app)
    app.feedback(key=f"rate {answer.id}").set_value(None).run()
    assert house.conversations.ratings(ann, conversation.id) == {}


def test_a_call_of_a_tool_is_shown_whole_before_the_yes(
    drawn: Drawn, house: House, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = house.conversations.create(ann)
    house.conversations.add(ann, conversation.id, "user", "Look.", door="test")
    call = {"type": "tool_call", "id": "1", "name": "look", "arguments": '{"at": "mill"}'}
    house.conversations.add(ann, conversation.id, "assistant", "", door="test", parts=[call])
    part = {"type": "tool_result", "id": "1", "name": "look", "server": "s", "tool": "look"}
    message = house.conversations.add(
        ann, conversation.id, "tool", "", door="test", parts=[part], state="waiting"
    )
    decided = []
    monkeypatch.setattr(house.chat, "asks", lambda *_: [
        Call(message.id, "1", "eyes", "look", '{"at": "mill"}')
    ])  # fmt: skip
    monkeypatch.setattr(house.chat, "confirm", lambda *given: decided.append(given[1:]))
    app = drawn("chat", ann)
    app.query_params["c"] = conversation.id
    app.run()
    assert "wants to call look of the server eyes" in words(app).replace("*", "")
    assert '"at": "mill"' in app.code[-1].value
    labelled(app.button, "Not this").click().run()
    assert decided == [(message.id, None, False)]


def test_a_new_conversation_begins_with_a_real_model(
    drawn: Drawn, house: House, ann: Person
) -> None:
    app = drawn("chat", ann)
    assert labelled(app.selectbox, "Model").value == "rehearsal"
    assert "Only the rehearsal model is here" in words(app)
    near = {"name": "near", "model": "x", "base_url": "http://127.0.0.1:9/v1"}
    house.add_model(ann, checked(near))
    app = drawn("chat", ann)
    assert labelled(app.selectbox, "Model").value == "near"
    assert "Only the rehearsal model is here" not in words(app)


def test_the_rows_of_a_run_are_filtered_and_looked_at(
    drawn: Drawn, house: House, ann: Person
) -> None:
    run = house.start_run(ann, Wish(recipe="rlhi", rows=8, model="rehearsal"))
    _until(lambda: house.desk(ann).registry.get(run.id).state == "finished")
    app = drawn("explore", ann)
    assert "8 of 8 rows" in words(app)
    shown = app.dataframe[0].value
    assert not shown["severity"].str.startswith("{").any()
    scope = shown["scope"][0]
    labelled(app.multiselect, "Only where").set_value(["scope"]).run()
    labelled(app.multiselect, "Scope").set_value([scope]).run()
    assert set(app.dataframe[0].value["scope"]) == {scope}
    assert "Considerations" in words(app)
    assert "Suffering" in words(app)
    app.button_group[0].set_value("actions").run()
    assert "24 of 24 rows" in words(app)
    labelled(app.button, "Make the file").click().run()
    assert not app.error


def test_rows_that_lack_something_can_be_begun_with(
    drawn: Drawn, house: House, ann: Person
) -> None:
    run = house.start_run(ann, Wish(recipe="rlhi", rows=3000, model="rehearsal"))
    _until(lambda: house.desk(ann).registry.get(run.id).state == "running")
    house.cancel_run(ann, run.id)
    _until(lambda: house.desk(ann).registry.get(run.id).state == "cancelled")
    app = drawn("generate", ann)
    (rest,) = [one for one in app.selectbox if "of an earlier run" in one.label]
    assert rest.value is None
    assert "lack something" in rest.options[0]
    rest.set_value(run.id).run()
    assert labelled(app.number_input, "Number of scenarios").value == 3000
    assert labelled(app.button, "Go on")


def test_a_key_for_openai_is_enough_to_generate_with_it(
    drawn: Drawn, house: House, ann: Person, bob: Person
) -> None:
    app = drawn("generate", ann)
    assert app.selectbox(key="run model").value == "rehearsal"
    labelled(app.text_input, "OpenAI key").set_value("sk-of-ann")
    labelled(app.button, "Use it").click()
    app.run()
    assert not app.error
    assert app.selectbox(key="run model").value == "gpt-4o-mini"
    assert house.has_key(ann, "gpt-4o-mini")
    assert not house.has_key(bob, "gpt-4o-mini")
    app = drawn("generate", bob)
    app.selectbox(key="run model").set_value("gpt-4o-mini").run()
    labelled(app.text_input, "API key for gpt-4o-mini").set_value("sk-of-bob").run()
    assert house.has_key(bob, "gpt-4o-mini")


def test_prices_are_changed(drawn: Drawn, house: House, ann: Person) -> None:
    house.add_model(ann, checked({"name": "near", "model": "x", "base_url": "http://127.0.0.1:9"}))
    app = drawn("models", ann)
    labelled(app.selectbox, "Name").set_value("near").run()
    [one for one in app.number_input if one.label == "Price of a million tokens in"][-1].set_value(
        2
    )
    labelled(app.button, "Save").click()
    app.run()
    assert not app.error
    assert house.catalog.get("near").price_in == 2


def test_a_code_lets_somebody_choose_a_password(
    drawn: Drawn, house: House, ann: Person, bob: Person
) -> None:
    app = drawn("people", ann)
    app.button(key=f"code {ann.id}").click().run()
    (link,) = [one.value for one in app.code]
    code = link.partition("code=")[2]
    other = "another horse battery staple"
    assert house.accounts.people.redeem(code, other).id == ann.id


def test_a_tool_server_is_allowed_and_taken_back(drawn: Drawn, house: House, ann: Person) -> None:
    app = drawn("models", ann)
    app.session_state["tools"] = True
    app.run()
    labelled(app.text_input, "Program with its arguments, or address").set_value("cat -u 'a b'")
    app.text_input[-2].set_value("files")
    labelled(app.button, "Allow").click()
    app.run()
    assert not app.error
    (server,) = house.chat.tools.all(ann)
    assert (server.target, server.arguments, server.trusted) == ("cat", ("-u", "a b"), False)
    labelled(app.toggle, "Trusted").set_value(True).run()
    assert house.chat.tools.all(ann)[0].trusted
    app.button(key="no files").click().run()
    assert house.chat.tools.all(ann) == []


def _until(true: Callable[[], bool], most: float = 60.0) -> None:
    end = time.monotonic() + most
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_last_messages_and_the_earlier_ones(drawn: Drawn, house: House, ann: Person) -> None:
    conversation = house.conversations.create(ann)
    for number in range(60):
        house.conversations.add(ann, conversation.id, "user", f"message {number}", door="test")
    app = drawn("chat", ann)
    app.query_params["c"] = conversation.id
    app.run()
    assert len(app.chat_message) == 50
    labelled(app.button, "Earlier").click().run()
    assert len(app.chat_message) == 60
    assert not [one for one in app.button if one.label == "Earlier"]


@pytest.mark.parametrize("language", ["en", "de"])
def test_what_was_done_otherwise_for_an_answer_is_said_below_it(
    drawn: Drawn, house: House, ann: Person, language: str
) -> None:
    add, talk = house.conversations.add, house.conversations.create(ann)
    asked = add(ann, talk.id, "user", "Hello", door="test")
    sent = {"dropped": 0, "degraded": [FOLDED, "the server refused `top_k`"]}
    answer = add(ann, talk.id, "assistant", "", parent=asked.id, door="test", state="answering")
    house.conversations.finish(answer.id, "done", text="Hi.", sent=sent)
    app = drawn("chat", house.accounts.people.change(ann, ann.id, language=language))
    app.query_params["c"] = talk.id
    app.run()
    folded = {"en": FOLDED, "de": "Die Gesprächsvorlage dieses Modells kennt keine Systemrolle:"}
    assert folded[language] in words(app)
    assert "the server refused `top_k`" in words(app)


def test_somebody_elses_conversation_is_not_there(
    drawn: Drawn, house: House, ann: Person, bob: Person
) -> None:
    conversation = house.conversations.create(ann)
    house.conversations.add(ann, conversation.id, "user", "a secret", door="test")
    app = drawn("chat", bob)
    app.query_params["c"] = conversation.id
    app.run()
    assert not app.chat_message
    assert "secret" not in words(app)
    assert "What shall we talk about?" in words(app)


def test_the_search_finds_and_marks(drawn: Drawn, house: House, ann: Person) -> None:
    conversation = house.conversations.create(ann)
    house.conversations.add(ann, conversation.id, "user", "red apples and pears", door="test")
    app = drawn("chat", ann)
    labelled(app.text_input, "Search").set_value("apples").run()
    assert "red **apples** and pears" in words(app)
    labelled(app.text_input, "Search").set_value("plums").run()
    assert "Nothing was found." in words(app)


def test_nothing_was_made_yet(drawn: Drawn, ann: Person) -> None:
    assert "the page Generate makes the first run" in words(drawn("explore", ann))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![x](http://e/)", "[x](http://e/)"),
        ("!![x](http://e/)", "[x](http://e/)"),
        ("`a` ![x][r] `b`", "`a` [x][r] `b`"),
        ("`vec![1]` and vec![1]", "`vec![1]` and vec[1]"),
        ("```rust\nvec![1]\n```\n![x](y)", "```rust\nvec![1]\n```\n[x](y)"),
        ("~~~\nvec![1]", "~~~\nvec![1]"),
        ("\\`![x](y)`", "\\`[x](y)`"),
        ("`open\n![x](y) `", "`open\n[x](y) `"),
        ("a ! [x]", "a ! [x]"),
        ("wow!", "wow!"),
        ("from $5 to $10", "from \\$5 to \\$10"),
        ("$x^2$ and $$y$$", "$x^2$ and $$y$$"),
        ("$![x](y)$", "\\$[x](y)\\$"),
    ],
)
def test_pictures_of_a_model_become_links(text: str, shown: str) -> None:
    assert parts.markdown(text) == shown


@pytest.mark.parametrize(
    ("amount", "said"),
    [(0, "$0"), (0.00002, "$0.00002"), (0.0031, "$0.0031"), (1234.5, "$1,234.50")],
)
def test_money_is_never_written_with_an_exponent(amount: float, said: str) -> None:
    assert parts.money(amount) == said


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537 Chrome/156 Safari/537", "Chrome, Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/156 Safari/537 Edg/156.0", "Edge, Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X) Version/19 Safari/605", "Safari, Mac OS"),
        ("python-httpx/0.28", "python-httpx/0.28"),
        ("", "?"),
    ],
)
def test_a_user_agent_in_two_words(agent: str, said: str) -> None:
    assert parts.program(agent) == said


def test_the_models_of_this_machine_for_an_admin_and_for_a_member(
    drawn: Drawn, house: House, ann: Person, bob: Person, tmp_path: Path
) -> None:
    house.shelf.take(ann, tiny_models.build(tmp_path / "tiny"))
    app = drawn("models", ann)
    app.segmented_control[0].set_value("here").run()
    assert not app.exception
    assert "Yes: it takes" in words(app)
    assert {"Load", "Unload", "Remove it"} <= {one.label for one in app.button}
    labelled(app.text_input, "Threads").set_value("3")
    labelled(app.button, "Save").click()
    app.run()
    assert house.shelf.find("tiny").threads == 3
    app = drawn("models", bob)
    assert app.segmented_control[0].options == ["All", "On this machine", "Disk"]
    app.segmented_control[0].set_value("here").run()
    assert not app.exception
    assert "Yes: it takes" in words(app)
    assert [one.label for one in app.button] == []
