"""The channels that are configured: by command, page and API; run, stopped, told about."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import update

from tests.channels.conftest import PASSWORD
from tests.channels.surface import Service
from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.rooms import accounts as rooms
from wordmill.channels.rooms import manager, trial
from wordmill.channels.rooms.accounts import ChannelAccounts
from wordmill.channels.rooms.admission import Policy
from wordmill.channels.rooms.base import Check
from wordmill.channels.rooms.manager import Manager
from wordmill.cli.channels import channels as command
from wordmill.database import channels, now
from wordmill.errors import Conflict, Forbidden, InvalidInput, NotFound, UnknownName

OPTIONS = {"homeserver": "http://127.0.0.1:9", "user": "@mill:example.org"}
SECRETS = {"password": "hidden and long"}


@pytest.fixture
def accounts(house: House) -> ChannelAccounts:
    return ChannelAccounts(house.database, house.settings)


def test_only_an_admin_sees_and_changes_channels(
    accounts: ChannelAccounts, admin: Person, ann: Person
) -> None:
    accounts.add(admin, "team", "matrix", OPTIONS, SECRETS)
    for act in (
        lambda: accounts.all(ann),
        lambda: accounts.get(ann, "team"),
        lambda: accounts.add(ann, "mine", "matrix", OPTIONS, SECRETS),
        lambda: accounts.change(ann, "team", enabled=False),
        lambda: accounts.remove(ann, "team"),
    ):
        with pytest.raises(Forbidden):
            act()


def test_secrets_are_sealed_and_never_shown(
    accounts: ChannelAccounts, admin: Person, house: House
) -> None:
    made = accounts.add(admin, "team", "matrix", OPTIONS, SECRETS)
    assert made.secret_names == ("password",)
    assert "hidden" not in repr(made)
    assert accounts.secrets_of("team") == SECRETS
    for file in house.settings.home.rglob("*.db*"):
        assert b"hidden and long" not in file.read_bytes()


@pytest.mark.parametrize(
    ("name", "options", "hidden", "error"),
    [
        ("Team", OPTIONS, SECRETS, "no name of a channel"),
        ("batches", OPTIONS, SECRETS, "a part of Wordmill"),
        ("team", {"homeserver": "http://x"}, SECRETS, "user is missing"),
        ("team", {**OPTIONS, "guests": "perhaps"}, SECRETS, "true or false"),
        ("team", {**OPTIONS, "guest_requests": "-4"}, SECRETS, "whole number from 0"),
        ("team", OPTIONS, {"passwort": "x"}, "has no 'passwort'"),
        ("team", {**OPTIONS, "password": "open"}, {}, "has no 'password'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    accounts: ChannelAccounts, admin: Person, name: str, options: Any, hidden: Any, error: str
) -> None:
    with pytest.raises(InvalidInput, match=error):
        accounts.add(admin, name, "matrix", options, hidden)


def test_names_and_kinds(accounts: ChannelAccounts, admin: Person) -> None:
    accounts.add(admin, "team", "matrix", OPTIONS, SECRETS)
    with pytest.raises(Conflict):
        accounts.add(admin, "team", "matrix", OPTIONS, SECRETS)
    with pytest.raises(UnknownName):
        accounts.add(admin, "other", "telegraph", OPTIONS, SECRETS)
    with pytest.raises(NotFound):
        accounts.get(admin, "nothing")


def test_options_are_changed_and_taken_back(accounts: ChannelAccounts, admin: Person) -> None:
    accounts.add(admin, "team", "matrix", {**OPTIONS, "prefix": "!ai", "allow": "a,b"}, SECRETS)
    assert accounts.get(admin, "team").policy == Policy(prefix="!ai", allow=("a", "b"))
    changed = accounts.change(admin, "team", options={"prefix": None, "guests": True})
    assert changed.policy == Policy(allow=("a", "b"), guests=True)
    assert accounts.secrets_of("team") == SECRETS


def test_one_process_holds_a_channel(accounts: ChannelAccounts, admin: Person) -> None:
    accounts.add(admin, "team", "matrix", OPTIONS, SECRETS)
    assert accounts.hold("team", "a:1:x")
    assert accounts.hold("team", "a:1:x")
    assert not accounts.hold("team", "b:2:y")
    accounts.let_go("team", "a:1:x")
    assert accounts.hold("team", "b:2:y")


def test_what_is_kept_is_gone_with_the_channel(
    accounts: ChannelAccounts, admin: Person, house: House
) -> None:
    accounts.add(admin, "team", "matrix", OPTIONS, SECRETS)
    memory = accounts.memory("team")
    memory.write({"token": "abc"})
    assert memory.read() == {"token": "abc"}
    folder = Path(memory.folder())
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "store.db").write_text("x")
    accounts.remove(admin, "team")
    assert not folder.exists()


def test_one_whose_server_is_away_is_tried_again_and_readiness_says_so(
    accounts: ChannelAccounts, admin: Person, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts.remove(admin, "chat")
    accounts.add(admin, "team", "matrix", OPTIONS, SECRETS)
    with Manager(house):
        until = time.monotonic() + 30
        while not (words := house.troubled_channels().get("team")):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert "does not answer" in words
        assert accounts.get(admin, "team").running
        accounts.change(admin, "team", enabled=False)
        while accounts.get(admin, "team").running:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert house.troubled_channels() == {}


class Silent:
    """A channel that hears nothing, and may take its time to end."""

    def __init__(self, *_: object) -> None:
        self.surface = Service()

    async def run(self, door: object, ready: Callable[[], None]) -> None:
        ready()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1.5 if slow else 0.0)

    async def check(self) -> list[Check]:
        return [Check("all", True, "It is.")]


slow: list[bool] = []


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def running(name: str) -> bool:
    return any(one.name == f"wordmill-{name}" for one in threading.enumerate())


def test_what_another_process_has_ends_here_and_keeps_nobody_waiting(
    accounts: ChannelAccounts, admin: Person, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "load", lambda _: Silent)
    monkeypatch.setattr(manager, "LEASE", 0.6)
    monkeypatch.setattr(rooms, "LEASE", 0.6)
    monkeypatch.setattr(manager, "LOOK", 0.02)
    monkeypatch.setattr("tests.channels.test_manager.slow", [True])
    accounts.remove(admin, "chat")
    for name in ("team", "other"):
        accounts.add(admin, name, "matrix", OPTIONS, SECRETS)
    with Manager(house):
        until(lambda: running("team") and running("other"))
        with house.database.begin() as connection:
            mine = update(channels).where(channels.c.name == "team")
            later = now() + timedelta(hours=1)
            connection.execute(mine.values(holder="another", lease_until=later))
        until(lambda: "team" not in house.channels)
        assert running("team")  # it takes its time
        while running("team"):
            assert accounts.get(admin, "other").running
            time.sleep(0.02)
        assert running("other")


def test_a_check_that_takes_long_keeps_the_channel(
    accounts: ChannelAccounts, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another wants it all the while that the check runs, for one and a half times the lease."""
    taken: list[bool] = []

    class Wanted(Silent):
        async def check(self) -> list[Check]:
            end = time.monotonic() + 1.5 * rooms.LEASE
            while time.monotonic() < end:
                taken.append(await asyncio.to_thread(accounts.hold, "team", "another"))
                await asyncio.sleep(0.02)
            return await super().check()

    monkeypatch.setattr(trial, "load", lambda _: Wanted)
    monkeypatch.setattr(trial, "LEASE", 3.0)
    monkeypatch.setattr(rooms, "LEASE", 3.0)
    accounts.add(admin, "team", "matrix", OPTIONS, SECRETS, enabled=False)
    assert [one.name for one in trial.tried(accounts, admin, "team")] == ["all"]
    assert taken
    assert not any(taken)
    assert accounts.hold("team", "another")


@pytest.fixture
def run(house: House, admin: Person) -> Callable[..., str]:
    def invoke(*words: str, given: str = "") -> str:
        result = CliRunner().invoke(command, words, input=given, catch_exceptions=False)
        return result.output

    return invoke


def test_the_commands(run: Callable[..., str], accounts: ChannelAccounts, admin: Person) -> None:
    accounts.remove(admin, "chat")
    told = [f"--set={name}={value}" for name, value in OPTIONS.items()]
    added = run("add", "matrix", "team", *told, "--set", "guests=true", given="hidden and long\n")
    assert "NOT  connection: The homeserver does not answer" in added
    assert "Invite `@mill:example.org` into a room" in added
    assert "The channel team is added." in added
    assert accounts.secrets_of("team") == SECRETS
    assert "not running" in run("list")
    assert json.loads(run("list", "--json"))[0]["name"] == "team"
    assert "team (matrix): not running" in run("status")
    assert "NOT  connection" in run("test", "team")
    assert "recovery" in run("options", "matrix")
    assert "is changed" in run("add", "matrix", "team", "--replace", "--set", "prefix=!ai")
    assert accounts.get(admin, "team").policy.prefix == "!ai"
    assert "Removed team." in run("remove", "team", "--yes")
    assert accounts.all(admin) == []


def test_the_page_says_whose_code_it_is_before_it_links(
    house: House, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamlit.testing.v1 import AppTest

    from wordmill.channels.web import place

    place.enter(house)
    monkeypatch.setattr(place, "person", lambda: ann)
    identities = house.accounts.identities

    def entered() -> AppTest:
        app = AppTest.from_string(
            "from wordmill.channels.web import place\n"
            "from wordmill.channels.web.views import settings_chats\n"
            "settings_chats.chat_accounts(place.house(), place.person(), str)",
            default_timeout=30,
        ).run()
        app.text_input[0].set_value(identities.offer("matrix", "@eve:example.org"))
        next(one for one in app.button if one.label == "Link").click()
        app.run()
        assert not app.exception
        assert "@eve:example.org on Matrix" in app.warning[0].value.replace("\\", "")
        assert identities.find("matrix", "@eve:example.org") is None
        return app

    def pressed(app: AppTest, label: str) -> None:
        next(one for one in app.button if one.label == label).click()
        app.run()
        assert not app.warning

    pressed(entered(), "No, that is somebody else")
    assert identities.find("matrix", "@eve:example.org") is None
    pressed(entered(), "Yes, that is me")
    assert identities.find("matrix", "@eve:example.org") == ann


def test_the_page(house: House, accounts: ChannelAccounts, admin: Person, ann: Person,
                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from streamlit.testing.v1 import AppTest

    from wordmill.channels.web import place

    accounts.remove(admin, "chat")
    place.enter(house)

    def drawn(who: Person) -> AppTest:
        monkeypatch.setattr(place, "person", lambda: who)
        app = AppTest.from_string(
            "from wordmill.channels.web.views import channels\nchannels.show()", default_timeout=30
        ).run()
        assert not app.exception
        return app

    assert "for admins" in drawn(ann).error[0].value
    app = drawn(admin)
    app.selectbox[0].set_value("matrix").run()
    fields = {one.label: one for one in app.text_input}
    fields["Name"].set_value("team")
    fields["Homeserver"].set_value("http://127.0.0.1:9")
    fields["User"].set_value("@mill:example.org")
    fields["Password"].set_value("hidden and long")
    next(one for one in app.button if one.label == "Add").click()
    app.run()
    assert "The homeserver does not answer" in app.error[0].value  # it was tried out
    (made,) = accounts.all(admin)
    assert made.enabled
    assert (made.name, made.kind) == ("team", "matrix")
    app = drawn(admin)
    assert "team" in "".join(str(one.value) for one in app.markdown)
    next(one for one in app.button if one.label == "Stop").click()
    app.run()
    assert not accounts.get(admin, "team").enabled
    assert PASSWORD
