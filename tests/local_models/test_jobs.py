"""A fetch outlives the server that began it."""

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import update

from tests.servers.hub import Hub
from wordmill.accounts import Person
from wordmill.channels.house import House, open_house
from wordmill.database import jobs
from wordmill.errors import Forbidden
from wordmill.jobs import ENDED
from wordmill.local_models.local_models import Ask
from wordmill.settings import Settings

WEIGHTS = "?" * 64 + ".incomplete"


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def local(house: House) -> Person:
    return house.accounts.people.local()


def test_a_server_that_ends_in_the_middle_gives_the_fetch_to_the_next(
    hub: Hub, llama: Path, settings: Settings
) -> None:
    hub.put("ann/tiny", llama)
    hub.faults.rate = 150_000
    with open_house(settings) as house:
        task = house.shelf.fetch(local(house), Ask("ann/tiny"))
        parts = house.shelf.models.folder
        until(lambda: any(one.stat().st_size for one in parts.rglob(WEIGHTS)))
        assert house.shelf.fetch(local(house), Ask("ann/tiny")).id == task.id  # not a second one
    hub.faults.rate = None
    hub.log.clear()
    with open_house(settings) as house:
        until(lambda: house.shelf.task(local(house), task.id).state == "done")
        assert [one.name for one in house.shelf.all()] == ["tiny"]
        assert house.accounts.audit.entries(local(house))[0].action == "model fetched"
    (span,) = [one.span for one in hub.log if one.store]
    assert span is not None
    assert span.startswith("bytes=")


def test_a_server_that_ends_when_all_is_done_but_the_note(
    hub: Hub, llama: Path, settings: Settings
) -> None:
    hub.put("ann/tiny", llama)
    with open_house(settings) as house:
        task = house.shelf.fetch(local(house), Ask("ann/tiny"))
        until(lambda: house.shelf.task(local(house), task.id).state == "done")
        with house.database.begin() as connection:  # as if it had been killed before
            connection.execute(update(jobs).values(state="waiting"))
    with open_house(settings) as house:
        until(lambda: house.shelf.task(local(house), task.id).state in ENDED)
        assert house.shelf.task(local(house), task.id).error is None


def test_rights_are_looked_at_when_it_is_done(hub: Hub, llama: Path, settings: Settings) -> None:
    hub.put("ann/tiny", llama)
    with open_house(settings) as house:
        people = house.accounts.people
        password = "a long one, this"
        ann = people.create(local(house), "ann@example.org", "Ann", password, "admin")
        bea = people.create(ann, "bea@example.org", "Bea", password, "admin")
        house.shelf.stop(10)
        task = house.shelf.fetch(bea, Ask("ann/tiny"))
        people.change(ann, bea.id, role="member")
    with open_house(settings) as house:
        bea = house.accounts.people.get(bea.id)
        ann = house.accounts.people.get(ann.id)
        until(lambda: house.shelf.task(ann, task.id).state == "failed")
        assert house.shelf.task(ann, task.id).error == "Only an admin may look after models."
        assert house.shelf.all() == []
        for forbidden in (
            lambda: house.shelf.tasks(bea),
            lambda: house.shelf.search(bea, "tiny"),
            lambda: house.shelf.order(bea, "load", "tiny"),
            lambda: house.shelf.remove(bea, "tiny"),
        ):
            try:
                forbidden()
            except Forbidden:
                continue
            raise AssertionError("a member may do what only admins may")
