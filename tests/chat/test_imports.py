"""Imports as jobs: they go on without whoever began them, and after a restart."""

import io
import json
import threading
from dataclasses import dataclass, field

import pytest

from tests.chat.talk import until
from tests.chat.test_importing import BREAD, CLAUDE
from wordmill.chat.types import Imported
from wordmill.errors import Conflict, InvalidInput


def many(count: int) -> bytes:
    """An export of so many conversations."""
    return json.dumps([{**BREAD, "conversation_id": f"c{n}"} for n in range(count)]).encode()


def kept(house) -> list[str]:
    folder = house.settings.home / "imports"
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


def test_an_import_is_a_job_and_the_same_file_makes_nothing_twice(house, me):
    told: list[Imported] = []
    file = json.dumps([BREAD, CLAUDE]).encode()
    done = house.chat.imports.take(me, io.BytesIO(file), told.append)
    assert (done.made, done.known) == (2, 0)
    assert told[-1] == done
    (job,) = house.jobs.all(me.id, kind="import")
    assert (job.state, job.progress["made"]) == ("done", 2)
    again = house.chat.imports.take(me, io.BytesIO(file))
    assert (again.made, again.grown, again.known, again.messages) == (0, 0, 2, 0)
    assert len(house.conversations.all(me).items) == 2
    until(lambda: kept(house) == [])


def test_what_is_no_export_is_said_and_nothing_is_left(house, me):
    with pytest.raises(InvalidInput, match="holds no conversations"):
        house.chat.imports.take(me, io.BytesIO(b"[]"))
    (job,) = house.jobs.all(me.id, kind="import")
    assert (job.state, job.error) == ("failed", "The file holds no conversations.")
    until(lambda: kept(house) == [])


def test_a_file_that_is_too_large_is_not_taken(house, me):
    object.__setattr__(house.settings, "import_bytes", 1000)
    imports = type(house.chat.imports)(
        house.settings, house.conversations, house.jobs, lambda: None
    )
    with pytest.raises(InvalidInput, match="more than the 1,000 of import_bytes"):
        imports.begin(me, io.BytesIO(many(9)))
    assert kept(house) == []
    assert house.jobs.all(me.id, kind="import") == []


@dataclass
class Held:
    """An import that waits after its second conversation. there: it does.  gate: lets it go on."""

    there: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def at(self, house, monkeypatch) -> None:
        importer = house.chat.imports._importer
        take = importer.take

        def slowly(person, file, progress):
            def told(so_far):
                if so_far.made == 2:
                    self.there.set()
                    self.gate.wait(30.0)
                progress(so_far)

            return take(person, file, told)

        monkeypatch.setattr(importer, "take", slowly)


def test_it_goes_on_where_another_process_left_it(open_here, me, monkeypatch):
    first, held = open_here(), Held()
    held.at(first, monkeypatch)
    job = first.chat.imports.begin(me, io.BytesIO(many(5)))
    assert held.there.wait(30.0)
    closing = threading.Thread(target=first.chat.close, args=(20.0,))
    closing.start()
    until(lambda: not first.chat.working)
    held.gate.set()
    closing.join()
    assert first.jobs.get(me.id, job).state == "waiting"
    assert len(kept(first)) == 1
    second = open_here()
    done = second.chat.imports.wait(me, job)
    assert (done.made, done.known) == (3, 2)
    assert len(second.conversations.all(me).items) == 5
    assert kept(second) == []


def test_it_can_be_ended_and_what_there_is_stays(house, me, monkeypatch):
    held = Held()
    held.at(house, monkeypatch)
    job = house.chat.imports.begin(me, io.BytesIO(many(5)))
    assert held.there.wait(30.0)
    house.jobs.cancel(me.id, job)
    house.chat._queue.ask(job)
    held.gate.set()
    with pytest.raises(Conflict, match="What was imported until then stays"):
        house.chat.imports.wait(me, job)
    assert len(house.conversations.all(me).items) == 2
    until(lambda: kept(house) == [])
