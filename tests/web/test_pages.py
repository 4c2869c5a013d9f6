"""What the pages say and do, without a browser: each is run as Streamlit would run it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.web.bench import ADMIN, PASSWORD
from wordmill.accounts import LOCAL_PERSON, Person
from wordmill.channels.house import House, open_house
from wordmill.channels.web import parts, place
from wordmill.settings import load

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


def test_what_a_recipe_declares_becomes_fields(drawn: Drawn, ann: Person) -> None:
    app = drawn("generate", ann)
    assert labelled(app.number_input, "Number of scenarios").value == 20
    assert labelled(app.number_input, "Actions").value == 3
    assert labelled(app.toggle, "Judge").value is True
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
    (secret,) = [one.value for one in app.code]
    assert house.accounts.keys.check(secret)[0].id == bob.id
    app.run()
    assert not app.code


def test_what_is_set_outside_is_locked(drawn: Drawn, ann: Person) -> None:
    app = drawn("settings", ann)
    locked = {one.label: one.disabled for one in app.text_input}
    assert locked["default_max_tokens"] is False
    assert locked["home"] is True
    labelled(app.text_input, "default_max_tokens").set_value("many").run()
    app.button(key="save default_max_tokens").click().run()
    assert len(app.error) == 1


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
    ],
)
def test_pictures_of_a_model_become_links(text: str, shown: str) -> None:
    assert parts.markdown(text) == shown


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
