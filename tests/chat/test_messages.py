"""The tree: branches, siblings, edits, forks; and the growth of an answer."""

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import insert, update

from tests.chat.conftest import Somebody
from wordmill.chat.conversations import Conversations
from wordmill.chat.types import Fence, Message, Totals
from wordmill.database import Database, conversations, jobs, messages, new_id, now
from wordmill.errors import Conflict, InvalidInput, NotFound, WordmillError

Talk = Callable[..., str]


@pytest.fixture
def talk(store: Conversations, ada: Somebody) -> str:
    """A conversation: q1, a1, q2, a2."""
    of = store.create(ada)
    for role, text in (("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")):
        store.add(ada, of.id, role, text, door="web", model="m" if text[0] == "a" else None)  # type: ignore[arg-type]
    return of.id


def texts(found: list[Message]) -> list[str]:
    return [one.text for one in found]


def long_talk(store: Conversations, database: Database, person: Somebody, count: int) -> str:
    of = store.create(person)
    names = [new_id() for _ in range(count)]
    at = now()
    rows = [
        {
            "id": name, "conversation": of.id, "parent": names[n - 1] if n else None,
            "role": "assistant" if n % 2 else "user", "state": "done", "text": f"message {n}",
            "reasoning": "", "parts": [], "author": "", "door": "web",
            "created": at, "updated": at,
        }
        for n, name in enumerate(names)
    ]  # fmt: skip
    with database.begin() as connection:
        connection.execute(insert(messages), rows)
        same = conversations.c.id == of.id
        connection.execute(update(conversations).where(same).values(head=names[-1]))
    return of.id


def test_messages_follow_each_other(store: Conversations, ada: Somebody, talk: str) -> None:
    branch = store.branch(ada, talk)
    assert texts(branch) == ["q1", "a1", "q2", "a2"]
    assert [one.parent for one in branch] == [None, *[one.id for one in branch[:3]]]
    assert [one.author for one in branch] == ["local", "", "local", ""]
    assert store.message(ada, branch[1].id) == branch[1]
    assert store.get(ada, talk).head == branch[3].id


def test_the_end_of_a_branch_and_what_is_earlier(
    store: Conversations, ada: Somebody, talk: str
) -> None:
    whole = store.branch(ada, talk)
    last = store.branch(ada, talk, limit=3)
    assert last == whole[1:]
    assert store.branch(ada, talk, limit=3, before=last[0].id) == whole[:1]
    assert store.branch(ada, talk, limit=3, before=whole[0].id) == []
    assert store.branch(ada, talk, head=whole[1].id) == whole[:2]
    for wrong in ({"head": "no"}, {"before": "no"}):
        with pytest.raises(NotFound, match="There is no message 'no' that is yours"):
            store.branch(ada, talk, **wrong)  # type: ignore[arg-type]
    other = store.add(ada, store.create(ada).id, "user", "elsewhere", door="web")
    with pytest.raises(NotFound):
        store.branch(ada, talk, head=other.id)
    with pytest.raises(InvalidInput, match="limit: 0 is not 1 or more"):
        store.branch(ada, talk, limit=0)


def test_an_edit_is_a_sibling_and_the_old_branch_stays(
    store: Conversations, ada: Somebody, talk: str
) -> None:
    q1, a1, q2, a2 = store.branch(ada, talk)
    edited = store.add(ada, talk, "user", "q2, better", parent=q2.parent, door="web")
    store.add(ada, talk, "assistant", "a2, better", door="web")
    assert texts(store.branch(ada, talk)) == ["q1", "a1", "q2, better", "a2, better"]
    assert [(one.place, one.siblings) for one in store.branch(ada, talk)] == [
        (1, 1), (1, 1), (2, 2), (1, 1),
    ]  # fmt: skip
    assert [one.id for one in store.siblings(ada, q2.id)] == [q2.id, edited.id]
    assert store.switch(ada, q2.id).head == a2.id
    assert texts(store.branch(ada, talk)) == ["q1", "a1", "q2", "a2"]
    store.add(ada, talk, "user", "another beginning", parent=None, door="web")
    assert texts(store.branch(ada, talk)) == ["another beginning"]
    roots = store.siblings(ada, q1.id)
    assert texts(roots) == ["q1", "another beginning"]
    assert [(one.place, one.siblings) for one in roots] == [(1, 2), (2, 2)]
    # Down to the newest leaf, not to the one that was shown last.
    assert texts(store.branch(ada, talk, head=store.switch(ada, a1.id).head)) == [
        "q1", "a1", "q2, better", "a2, better",
    ]  # fmt: skip
    assert texts(store.children(ada, a1.id)) == ["q2", "q2, better"]
    assert len(store.tree(ada, talk)) == 7


def test_answers_side_by_side_leave_the_head_where_it_is(
    store: Conversations, ada: Somebody
) -> None:
    of = store.create(ada)
    asked = store.add(ada, of.id, "user", "q", door="web")
    first = store.add(ada, of.id, "assistant", "one", parent=asked.id, door="web")
    store.add(ada, of.id, "assistant", "two", parent=asked.id, door="web", move_head=False)
    assert store.get(ada, of.id).head == first.id
    assert [one.siblings for one in store.branch(ada, of.id)] == [1, 2]


def test_undo_goes_back_before_the_last_question_and_deletes_nothing(
    store: Conversations, ada: Somebody, talk: str
) -> None:
    branch = store.branch(ada, talk)
    assert store.undo(ada, talk).head == branch[1].id
    assert store.undo(ada, talk).head is None
    assert store.branch(ada, talk) == []
    with pytest.raises(Conflict, match="There is nothing to undo"):
        store.undo(ada, talk)
    store.switch(ada, branch[0].id)
    assert store.branch(ada, talk) == branch


def test_a_fork_is_a_copy_that_knows_what_it_is_a_copy_of(
    store: Conversations, ada: Somebody, talk: str
) -> None:
    file = store.attachments.add(ada, "a.txt", b"file")
    last = store.add(ada, talk, "user", "q3", attachments=[file.id], door="shell")
    store.change(ada, talk, pinned=True, tags=["t"], system="S", settings={"x": 1})
    original = store.branch(ada, talk)
    forked = store.fork(ada, last.id)
    copies = store.branch(ada, forked.id)
    assert texts(copies) == texts(original)
    assert [one.origin for one in copies] == [f"message:{one.id}" for one in original]
    assert [one.model for one in copies] == [one.model for one in original]
    assert [one.created for one in copies] == [one.created for one in original]
    assert (forked.tags, forked.system, forked.settings) == (("t",), "S", {"x": 1})
    assert not forked.pinned
    assert forked.head == copies[-1].id
    store.remove(ada, talk)
    assert texts(store.branch(ada, forked.id)) == ["q1", "a1", "q2", "a2", "q3"]
    assert store.attachments.data(ada, copies[-1].attachments[0]) == b"file"


def test_what_is_still_written_cannot_be_forked(
    store: Conversations, ada: Somebody, talk: str
) -> None:
    growing = store.add(ada, talk, "assistant", "", state="answering", door="web")
    with pytest.raises(Conflict, match="This branch is still being answered"):
        store.fork(ada, growing.id)


def test_an_answer_grows_and_then_never_changes(
    store: Conversations, ada: Somebody, talk: str
) -> None:
    answer = store.add(ada, talk, "assistant", "", state="waiting", door="web")
    assert [one.id for one in store.open_messages(ada, talk)] == [answer.id]
    with pytest.raises(Conflict, match=f"The message {answer.id} is waiting already"):
        store.partial(answer.id, "too early")
    store.answering(answer.id, model="m", sent={"messages": [], "temperature": 0.5})
    store.partial(answer.id, "half", "thought")
    grown = store.message(ada, answer.id)
    assert (grown.state, grown.text, grown.reasoning) == ("answering", "half", "thought")
    assert grown.sent == {"messages": [], "temperature": 0.5}
    before = store.get(ada, talk).updated
    ended = store.finish(
        answer.id,
        "stopped",
        text="whole \0 and \ud83d\ude00 \udc00",
        parts=[{"type": "structured", "value": {"n": float("inf")}}],
        finish="stop",
        usage={"input": 7, "output": 5, "cost": 0.25},
        timing={"first": 0.1},
    )
    assert (ended.state, ended.text) == ("stopped", "whole \ufffd and 😀 \ufffd")
    assert ended.reasoning == "thought"
    assert ended.parts == ({"type": "structured", "value": {"n": None}},)
    assert store.message(ada, answer.id) == ended
    assert store.get(ada, talk).updated > before
    for change in (
        lambda: store.partial(answer.id, "more"),
        lambda: store.finish(answer.id, "done"),
        lambda: store.answering(answer.id),
    ):
        with pytest.raises(Conflict, match=f"The message {answer.id} is stopped already and stays"):
            change()
    assert store.usage(ada, talk) == Totals(5, 7, 5, 0.25)
    assert store.usage(ada, store.fork(ada, answer.id).id) == Totals(5, 0, 0, 0.0)
    assert store.open_messages(ada, talk) == []


def test_a_worker_whose_lease_was_taken_writes_nothing(
    store: Conversations, database: Database, ada: Somebody, talk: str
) -> None:
    answer = store.add(ada, talk, "assistant", "", state="answering", door="web")
    job = {
        "id": "j", "kind": "turn", "owner": "local", "state": "running", "fence": 1,
        "payload": {}, "progress": {}, "created": now(), "updated": now(),
    }  # fmt: skip
    with database.begin() as connection:
        connection.execute(insert(jobs).values(job))
    store.partial(answer.id, "mine", fence=Fence("j", 1))
    with database.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == "j").values(fence=2))
    with pytest.raises(Conflict, match=f"The message {answer.id} is another worker's now"):
        store.partial(answer.id, "late", fence=Fence("j", 1))
    with pytest.raises(Conflict):
        store.finish(answer.id, "done", text="late", fence=Fence("j", 1))
    assert store.message(ada, answer.id).text == "mine"
    store.finish(answer.id, "done", text="newer", fence=Fence("j", 2))
    assert store.message(ada, answer.id).text == "newer"


def test_an_answer_of_a_removed_conversation_has_nowhere_to_go(
    store: Conversations, ada: Somebody, talk: str
) -> None:
    answer = store.add(ada, talk, "assistant", "", state="answering", door="web")
    store.remove(ada, talk)
    with pytest.raises(NotFound):
        store.partial(answer.id, "x")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"role": "robot"}, "role: 'robot' is none of system, user, assistant, tool."),
        ({"state": "new"}, "state: 'new' is none of waiting, answering, done,"),
        ({"text": "\0"}, "text: character 1 is NUL. Take it out."),
        ({"text": "x" * 101}, "text: 101 characters are more than the 100."),
        ({"parts": [{}] * 1001}, "parts: 1001 are more than the 1000."),
        ({"parts": [{"a": object()}]}, "parts: JSON cannot say object "),
        ({"model": "m" * 201}, "model: 201 characters are more than the 200."),
    ],
)
def test_a_wrong_message_is_refused_and_nothing_is_lost(
    store: Conversations, ada: Somebody, talk: str, given: dict[str, object], sentence: str
) -> None:
    object.__setattr__(store.settings, "message_characters", 100)
    arguments: dict[str, object] = {"role": "user", "text": "t", "door": "web", **given}
    with pytest.raises(InvalidInput) as caught:
        store.add(ada, talk, **arguments)  # type: ignore[arg-type]
    assert str(caught.value).startswith(sentence)
    assert len(store.branch(ada, talk)) == 4


def test_a_megabyte_is_a_message_too(store: Conversations, ada: Somebody, talk: str) -> None:
    text = "wörter " * 150_000
    said = store.add(ada, talk, "user", text, door="api")
    assert store.message(ada, said.id).text == text
    assert [hit.message for hit in store.search(ada, "wörter").items] == [said.id]


def test_a_parent_is_of_the_same_conversation(
    store: Conversations, ada: Somebody, talk: str
) -> None:
    other = store.create(ada)
    with pytest.raises(NotFound):
        store.add(ada, other.id, "user", "x", parent=store.branch(ada, talk)[0].id, door="web")
    assert store.branch(ada, other.id) == []


def test_two_doors_at_once_make_one_line(store: Conversations, ada: Somebody) -> None:
    of = store.create(ada)
    errors: list[WordmillError] = []

    def say(door: str) -> None:
        try:
            for n in range(15):
                store.add(ada, of.id, "user", f"{door} {n}", door=door)
        except WordmillError as error:
            errors.append(error)

    threads = [threading.Thread(target=say, args=(door,)) for door in ("web", "shell", "api")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    branch = store.branch(ada, of.id)
    assert len(branch) == 45
    assert all(one.siblings == 1 for one in branch)


def test_the_last_fifty_of_ten_thousand_are_read_without_the_rest(
    store: Conversations, database: Database, ada: Somebody
) -> None:
    of = long_talk(store, database, ada, 10_000)
    took = []
    for _ in range(5):
        started = time.perf_counter()
        last = store.branch(ada, of, limit=50)
        took.append(time.perf_counter() - started)
    assert texts(last) == [f"message {n}" for n in range(9950, 10_000)]
    earlier = store.branch(ada, of, limit=50, before=last[0].id)
    assert texts(earlier) == [f"message {n}" for n in range(9900, 9950)]
    started = time.perf_counter()
    whole = store.branch(ada, of)
    assert len(whole) == 10_000
    # Of its own speed, so that a slow machine says the same.
    assert min(took) < (time.perf_counter() - started) / 4
    store.switch(ada, whole[0].id)
    assert store.get(ada, of).head == whole[-1].id
    assert len(store.branch(ada, store.fork(ada, whole[-1].id).id)) == 10_000
