"""Conversations: making, listing, changing, removing; and whose they are."""

import inspect
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, update

from tests.chat.conftest import Somebody
from wordmill.chat import types
from wordmill.chat.conversations import Conversations
from wordmill.database import Database, conversations, feedback, messages, now, preferences, shares
from wordmill.errors import Conflict, InvalidInput, NotFound


def test_a_new_conversation_is_empty_and_the_persons(store: Conversations, ada: Somebody) -> None:
    made = store.create(ada, model="m", system="Be brief.", tags=["a", "b", "a", " "])
    assert store.get(ada, made.id) == made
    assert (made.owner, made.title, made.titled_by, made.head) == ("local", "", "", None)
    assert (made.model, made.system, made.tags, made.settings) == ("m", "Be brief.", ("a", "b"), {})
    assert store.branch(ada, made.id) == []


def test_the_first_message_lends_its_beginning_as_a_title_until_there_is_one(
    store: Conversations, ada: Somebody
) -> None:
    made = store.create(ada)
    store.add(ada, made.id, "user", "Why is\n the sky blue, " + "really " * 20, door="web")
    lent = store.get(ada, made.id)
    assert lent.title == "Why is the sky blue, really really really really really…"
    assert lent.titled_by == ""
    named = store.change(ada, made.id, title="Sky", titled_by="model")
    assert (named.title, named.titled_by) == ("Sky", "model")
    assert store.change(ada, made.id, title="My sky").titled_by == "person"
    kept = store.change(ada, made.id, title="A model's", titled_by="model")
    assert (kept.title, kept.titled_by) == ("My sky", "person")


def test_all_that_can_be_changed_is_changed_together_or_not_at_all(
    store: Conversations, ada: Somebody
) -> None:
    made = store.create(ada)
    folder = store.folders.create(ada, "Work")
    changed = store.change(
        ada,
        made.id,
        title="T",
        folder=folder.id,
        tags=["x"],
        pinned=True,
        archived=True,
        model="m",
        system="S",
        settings={"input-buffer-size": 5},
        document_title="D",
        drive_folder="F",
    )
    assert changed == store.get(ada, made.id)
    assert changed.settings == {"input-buffer-size": 5}
    assert (changed.folder, changed.pinned, changed.archived) == (folder.id, True, True)
    with pytest.raises(InvalidInput) as caught:
        store.change(ada, made.id, pinned=False, colour="red")
    assert str(caught.value).startswith("A conversation has no 'colour'. Did you mean 'folder'?")
    with pytest.raises(NotFound, match="There is no folder 'nowhere' that is yours"):
        store.change(ada, made.id, pinned=False, folder="nowhere")
    with pytest.raises(NotFound, match="There is no message 'no' that is yours"):
        store.change(ada, made.id, pinned=False, head="no")
    assert store.get(ada, made.id) == changed
    assert store.change(ada, made.id) == changed


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"title": "x" * 501}, "title: 501 characters are more than the 500."),
        ({"title": None}, "title: a text is wanted, not nothing."),
        ({"title": "a\0b"}, "title: character 2 is NUL. Take it out."),
        (
            {"system": "ab\udc80"},
            "system: character 3 is a lone surrogate (U+DC80), half of a character. Take it out.",
        ),
        ({"tags": "word"}, "tags: a list of words is wanted."),
        ({"tags": [3]}, "tags: a text is wanted, not int '3'."),
        ({"tags": [f"t{n}" for n in range(51)]}, "tags: 51 are more than the 50."),
        ({"pinned": 1}, "pinned: true or false is wanted, not 1."),
        ({"settings": {"t": float("nan")}}, "settings: JSON cannot say float 'nan'."),
        ({"settings": {"t": "\ud800"}}, "settings: character 1 is a lone surrogate (U+D800), "),
        ({"settings": {"\0": 1}}, "settings: character 1 is NUL. Take it out."),
        ({"settings": {"n": 2**64}}, "settings: a whole number beyond 64 bits. Write it as a"),
        ({"settings": []}, "settings: an object is wanted."),
        ({"titled_by": "me"}, "titled_by: 'me' is neither model nor person."),
    ],
)
def test_what_a_database_could_not_keep_is_refused_in_words(
    store: Conversations, ada: Somebody, fields: dict[str, object], sentence: str
) -> None:
    made = store.create(ada)
    with pytest.raises(InvalidInput) as caught:
        store.change(ada, made.id, **fields)
    assert str(caught.value).startswith(sentence)
    assert caught.value.field == next(iter(fields))
    assert store.get(ada, made.id) == made


def test_a_list_nested_without_end_is_refused(store: Conversations, ada: Somebody) -> None:
    deep: object = 1
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="settings: nested deeper than 64 levels"):
        store.create(ada, settings={"deep": deep})


def test_a_page_begins_where_the_last_ended_the_last_used_first(
    store: Conversations, database: Database, ada: Somebody, ben: Somebody
) -> None:
    names = [store.create(ada, title=str(n)).id for n in range(7)]
    store.create(ben)
    at = now()
    with database.begin() as connection:  # three of the same moment
        for n, name in enumerate(names):
            same = conversations.c.id == name
            moment = at - timedelta(hours=max(n, 2))
            connection.execute(update(conversations).where(same).values(updated=moment))
    found: list[str] = []
    cursor = None
    for size in (2, 2, 2, 1):
        page = store.all(ada, limit=2, cursor=cursor)
        assert len(page.items) == size
        found += [one.id for one in page.items]
        cursor = page.cursor
    assert cursor is None
    assert found == [names[2], names[1], names[0], *names[3:]]
    assert store.all(ada, limit=7).cursor is None


@pytest.mark.parametrize("cursor", ["x", "ÿ", "", "bm8=", "MjAyNiBpZA==", "\0", "\ud800"])
def test_a_cursor_that_no_page_gave_is_refused(
    store: Conversations, ada: Somebody, cursor: str
) -> None:
    for listing in (store.all, lambda *a, **k: store.search(*a, "word", **k)):
        with pytest.raises(InvalidInput, match="cursor: "):
            listing(ada, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 501])
def test_a_page_has_a_sensible_size(store: Conversations, ada: Somebody, limit: int) -> None:
    with pytest.raises(InvalidInput, match=f"limit: {limit} is not from 1 to 500"):
        store.all(ada, limit=limit)


def test_the_list_can_be_narrowed(store: Conversations, ada: Somebody) -> None:
    folder = store.folders.create(ada, "Work")
    plain = store.create(ada)
    filed = store.create(ada, folder=folder.id, tags=["Ünder way"])
    pinned = store.change(ada, store.create(ada).id, pinned=True)
    archived = store.change(ada, store.create(ada).id, archived=True)

    def ids(**narrow: object) -> set[str]:
        return {one.id for one in store.all(ada, **narrow).items}  # type: ignore[arg-type]

    assert ids() == {plain.id, filed.id, pinned.id}
    assert ids(archived=None) == {plain.id, filed.id, pinned.id, archived.id}
    assert ids(archived=True) == {archived.id}
    assert ids(folder=folder.id) == {filed.id}
    assert ids(folder="") == {plain.id, pinned.id}
    assert ids(pinned=True) == {pinned.id}
    assert ids(tag="Ünder way") == {filed.id}
    assert ids(tag="Ünder") == set()
    assert store.tags(ada) == {"Ünder way": 1}


def test_listing_is_one_query(store: Conversations, database: Database, ada: Somebody) -> None:
    for n in range(30):
        store.create(ada, title=f"{n}", tags=["t"])
    page = store.all(ada, limit=10)
    asked: list[str] = []
    note: Callable[..., None] = lambda *event: asked.append(event[2])  # noqa: E731
    event.listen(database.engine, "before_cursor_execute", note)
    store.all(ada, tag="t", query="1", limit=10, cursor=page.cursor)
    event.remove(database.engine, "before_cursor_execute", note)
    selects = [sql for sql in asked if sql.lstrip().upper().startswith(("SELECT", "WITH"))]
    assert len(selects) == 1


def test_removing_takes_all_that_belongs_to_it(
    store: Conversations, database: Database, ada: Somebody
) -> None:
    kept, gone = (store.create(ada) for _ in range(2))
    for one in (kept, gone):
        file = store.attachments.add(ada, "note.txt", b"words")
        asked = store.add(ada, one.id, "user", "question", attachments=[file.id], door="web")
        answers = [
            store.add(ada, one.id, "assistant", "answer", parent=asked.id, door="web").id
            for _ in range(2)
        ]
        store.feedback(ada, answers[0], 1)
        store.prefer(ada, asked.id, answers[0], answers[1:])
        store.share(ada, one.id)
    store.remove(ada, gone.id)
    with database.read() as connection:
        for table in (conversations, feedback, preferences, shares):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 1
        assert connection.execute(select(func.count()).select_from(messages)).scalar() == 3
    assert len(list(store.attachments.folder.iterdir())) == 1
    assert {hit.conversation for hit in store.search(ada, "answer").items} == {kept.id}
    with pytest.raises(NotFound):
        store.remove(ada, gone.id)


def test_all_of_a_person_can_be_removed(
    store: Conversations, database: Database, ada: Somebody, ben: Somebody
) -> None:
    for person in (ada, ada, ben):
        of = store.create(person, folder=store.folders.create(person, "F").id)
        file = store.attachments.add(person, "a.txt", b"a")
        said = store.add(person, of.id, "assistant", "x", attachments=[file.id], door="web")
        store.feedback(person, said.id, 1)
    store.attachments.add(ada, "unused.txt", b"a")
    store.create(ada, temporary=True)
    assert store.remove_all(ada) == 3
    assert store.all(ada).items == ()
    assert store.folders.all(ada) == []
    assert len(store.all(ben).items) == 1
    assert len(list(store.attachments.folder.iterdir())) == 1


def test_folders_lie_in_each_other_and_never_in_themselves(
    store: Conversations, ada: Somebody, ben: Somebody
) -> None:
    top = store.folders.create(ada, "  top\n folder ")
    middle = store.folders.create(ada, "middle", parent=top.id)
    low = store.folders.create(ada, "low", parent=middle.id)
    one = store.create(ada, folder=middle.id)
    assert top.name == "top folder"
    assert [(f.name, f.count) for f in store.folders.all(ada)] == [
        ("low", 0), ("middle", 1), ("top folder", 0),
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="The folder 'top folder' cannot lie in itself"):
        store.folders.change(ada, top.id, parent=low.id)
    with pytest.raises(InvalidInput, match="A folder has no 'colour'"):
        store.folders.change(ada, top.id, colour="red")
    with pytest.raises(InvalidInput, match="name: a folder needs one"):
        store.folders.create(ada, " ")
    for action in (
        lambda: store.folders.change(ben, top.id, name="mine"),
        lambda: store.folders.remove(ben, top.id),
        lambda: store.folders.create(ben, "x", parent=top.id),
        lambda: store.create(ben, folder=top.id),
        lambda: store.change(ben, store.create(ben).id, folder=top.id),
    ):
        with pytest.raises(NotFound):
            action()
    assert store.folders.change(ada, low.id, name="lower", parent=None).parent is None
    store.folders.remove(ada, middle.id)
    assert store.get(ada, one.id).folder == top.id
    store.folders.remove(ada, top.id)
    assert store.get(ada, one.id).folder is None


def test_a_temporary_conversation_is_whole_and_never_in_the_database(
    store: Conversations, database: Database, ada: Somebody, ben: Somebody, home: Path
) -> None:
    of = store.create(ada, temporary=True, model="m")
    file = store.attachments.add(ada, "s.txt", b"a secret file", conversation=of.id)
    asked = store.add(ada, of.id, "user", "a secret", attachments=[file.id], door="web")
    answer = store.add(ada, of.id, "assistant", "", state="answering", door="web")
    store.partial(answer.id, "half")
    store.finish(answer.id, "done", text="whole", fence=types.Fence("a job elsewhere", 1))
    store.feedback(ada, answer.id, -1)
    forked = store.fork(ada, answer.id)
    assert all(name.startswith("tmp-") for name in (of.id, file.id, asked.id, forked.id))
    assert of.temporary
    assert [one.text for one in store.branch(ada, forked.id)] == ["a secret", "whole"]
    copied = store.branch(ada, forked.id)[0].attachments[0]
    assert store.attachments.data(ada, copied) == b"a secret file"
    assert store.all(ada).items == ()
    assert store.search(ada, "secret").items == ()
    assert not store.attachments.folder.exists()
    with pytest.raises(InvalidInput, match="A temporary conversation is not kept"):
        store.share(ada, of.id)
    with pytest.raises(NotFound):
        store.get(ben, of.id)
    with pytest.raises(NotFound):
        store.attachments.data(ben, file.id)
    store.remove(ada, of.id)
    assert store.attachments.data(ada, copied) == b"a secret file"
    with database.read() as connection:
        for table in (conversations, messages, feedback):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0
    for path in home.rglob("*"):
        assert path.is_dir() or b"a secret" not in path.read_bytes()
    store.close()
    with pytest.raises(NotFound):
        store.get(ada, forked.id)


def test_the_stalest_temporary_conversation_ends_with_the_twenty_first(
    store: Conversations, ada: Somebody, ben: Somebody
) -> None:
    other = store.create(ben, temporary=True)
    names = [store.create(ada, temporary=True).id for _ in range(20)]
    store.add(ada, names[0], "user", "still used", door="web")
    store.create(ada, temporary=True)
    with pytest.raises(NotFound):
        store.get(ada, names[1])
    assert store.get(ada, names[0]).title == "still used"
    assert store.get(ben, other.id) == other


def test_a_source_is_there_once_for_a_person(
    store: Conversations, ada: Somebody, ben: Somebody
) -> None:
    store.create(ada, source="chatgpt:1")
    store.create(ben, source="chatgpt:1")
    with pytest.raises(Conflict, match="A conversation from 'chatgpt:1' is there already"):
        store.create(ada, source="chatgpt:1")


def test_nothing_of_somebody_else_is_found_by_any_method(
    store: Conversations, ada: Somebody, ben: Somebody
) -> None:
    """Walks every public method with the ids of another person's things."""
    of = store.create(ada)
    asked = store.add(ada, of.id, "user", "question", door="web")
    answers = [
        store.add(ada, of.id, "assistant", "answer", parent=asked.id, door="web").id
        for _ in range(2)
    ]
    share, _ = store.share(ada, of.id)
    file = store.attachments.add(ada, "f.txt", b"f")
    folder = store.folders.create(ada, "F")
    ids = {
        "conversation": of.id,
        "message": answers[0],
        "share": share.id,
        "attachment": file.id,
        "folder": folder.id,
        "prompt": asked.id,
    }
    others = {
        "chosen": answers[0], "rejected": answers[1:], "role": "user", "text": "x", "door": "web",
        "score": 1, "name": "n", "data": b"d",
    }  # fmt: skip
    # One's own lists, what a token opens, the turn runner's, and the stored side's own.
    elsewhere = {
        "Conversations.all", "Folders.all", "Search.search", "Conversations.tags",
        "Conversations.exported_all", "Conversations.remove_all", "Conversations.close",
        "Shares.shared", "Shares.shared_attachment",
        "Messages.answering", "Messages.partial", "Messages.finish",
        "Attachments.sweep", "Attachments.attach", "Attachments.copies", "Attachments.add_copies",
        "Attachments.forget", "Attachments.forget_files", "Attachments.bytes_of",
    }  # fmt: skip
    walked = 0
    for part in (store, store.attachments, store.folders):
        for name, method in inspect.getmembers(part, inspect.ismethod):
            taken = inspect.signature(method).parameters
            if name.startswith("_") or method.__qualname__ in elsewhere:
                continue
            arguments = {key: value for key, value in (ids | others).items() if key in taken}
            if part is store.folders and name == "create":
                arguments["parent"] = folder.id
            with pytest.raises(NotFound):
                method(person=ben, **arguments)
            for wrong in ("\0", "\ud800", "x" * 10_000, "ü", ""):
                nowhere = arguments | {key: wrong for key in arguments if key in (*ids, "parent")}
                with pytest.raises((NotFound, InvalidInput)):
                    method(person=ada, **nowhere)
            walked += 1
    assert walked >= 24
    for wrong in ("\0", "\ud800", "x" * 10_000):
        for ask in (
            lambda: store.branch(ada, of.id, head=wrong),  # noqa: B023
            lambda: store.branch(ada, of.id, before=wrong),  # noqa: B023
            lambda: store.add(ada, of.id, "user", "x", parent=wrong, door="web"),  # noqa: B023
            lambda: store.add(ada, of.id, "user", "x", attachments=[wrong], door="web"),  # noqa: B023
            lambda: store.change(ada, of.id, head=wrong),  # noqa: B023
            lambda: store.change(ada, of.id, folder=wrong),  # noqa: B023
            lambda: store.all(ada, folder=wrong),  # noqa: B023
            lambda: store.prefer(ada, asked.id, wrong, [answers[0]]),  # noqa: B023
            lambda: store.share(ada, of.id, head=wrong),  # noqa: B023
            lambda: store.partial(wrong, "x"),  # noqa: B023
            lambda: store.attachments.add(ada, "n", b"", conversation=wrong),  # noqa: B023
            lambda: store.folders.create(ada, "n", parent=wrong),  # noqa: B023
        ):
            with pytest.raises((NotFound, InvalidInput)):
                ask()
    assert [one.id for one in store.branch(ada, of.id)] == [asked.id, answers[1]]
    assert store.get(ada, of.id).head == answers[1]
