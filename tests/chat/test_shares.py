"""Read-only links, and judgements."""

import pytest
from sqlalchemy import insert

from tests.chat.conftest import Somebody
from wordmill.chat.conversations import Conversations
from wordmill.database import Database, now, people, shares
from wordmill.errors import Conflict, InvalidInput, NotFound


def talk(store: Conversations, person: Somebody) -> tuple[str, str, str]:
    """A conversation with a question and an answer; their ids."""
    of = store.create(person, title="Bread", system="secret instructions")
    asked = store.add(person, of.id, "user", "how?", door="web")
    answer = store.add(
        person, of.id, "assistant", "so", door="web", model="m", sent={"messages": ["secret"]}
    )
    return of.id, asked.id, answer.id


def test_a_link_shows_the_branch_as_it_was_and_nothing_else(
    store: Conversations, ada: Somebody
) -> None:
    of, _, answer = talk(store, ada)
    share, token = store.share(ada, of)
    store.add(ada, of, "user", "and after?", door="web")
    shown = store.shared(token)
    assert (shown.id, shown.title) == (share.id, "Bread")
    assert [one.text for one in shown.messages] == ["how?", "so"]
    assert "secret" not in repr(shown)
    assert "local" not in repr(shown)
    assert store.shares(ada, of) == [share]
    assert share.head == answer
    store.revoke(ada, share.id)
    store.revoke(ada, share.id)
    with pytest.raises(NotFound):
        store.shared(token)
    assert [one.revoked is not None for one in store.shares(ada)] == [True]


def test_a_token_is_kept_as_its_digest_only(
    store: Conversations, database: Database, ada: Somebody
) -> None:
    of, _, _ = talk(store, ada)
    _, token = store.share(ada, of)
    with database.read() as connection:
        row = connection.execute(shares.select()).one()
    assert len(token) == 43
    assert token not in str(row)
    for wrong in ("", "x", token[:-1], token + "\0", "\ud800", row.digest, row.id):
        with pytest.raises(NotFound, match="There is no shared conversation"):
            store.shared(wrong)


def test_a_link_shows_the_files_of_its_branch_alone(store: Conversations, ada: Somebody) -> None:
    of, _, _ = talk(store, ada)
    inside, outside = (store.attachments.add(ada, f"{n}.txt", b"%d" % n) for n in range(2))
    store.add(ada, of, "user", "look", attachments=[inside.id], door="web")
    _, token = store.share(ada, of)
    store.add(ada, of, "user", "later", attachments=[outside.id], door="web")
    file, data = store.shared_attachment(token, inside.id)
    assert (file.name, data) == ("0.txt", b"0")
    for wrong in (outside.id, "../wordmill.db", ""):
        with pytest.raises(NotFound):
            store.shared_attachment(token, wrong)


def test_what_cannot_be_shared(store: Conversations, ada: Somebody) -> None:
    empty = store.create(ada)
    with pytest.raises(InvalidInput, match="There is nothing to share"):
        store.share(ada, empty.id)
    store.add(ada, empty.id, "assistant", "", state="answering", door="web")
    with pytest.raises(Conflict, match="An answer is still being written"):
        store.share(ada, empty.id)
    of, _, _ = talk(store, ada)
    with pytest.raises(NotFound):
        store.share(ada, of, head="no")


def test_the_links_of_somebody_who_is_shut_out_are_shut(
    store: Conversations, database: Database, ada: Somebody
) -> None:
    of, _, _ = talk(store, ada)
    _, token = store.share(ada, of)
    person = {
        "id": ada.id, "email": "ada@example.org", "name": "Ada", "role": "member", "settings": {},
        "disabled": False, "created": now(),
    }  # fmt: skip
    with database.begin() as connection:
        connection.execute(insert(people).values(person))
    assert store.shared(token).title == "Bread"
    with database.begin() as connection:
        connection.execute(people.update().values(disabled=True))
    with pytest.raises(NotFound):
        store.shared(token)


def test_thumbs_with_reason_and_comment(store: Conversations, ada: Somebody) -> None:
    of, asked, answer = talk(store, ada)
    up = store.feedback(ada, answer, 1, reason="correct", comment="well said")
    assert store.ratings(ada, of) == {answer: up}
    down = store.feedback(ada, answer, -1)
    assert down is not None
    assert up is not None
    assert (down.score, down.reason, down.comment, down.created) == (-1, None, None, up.created)
    assert store.ratings(ada, of) == {answer: down}
    assert store.feedback(ada, answer, 0) is None
    assert store.ratings(ada, of) == {}
    for score in (2, True, 1.5):
        with pytest.raises(InvalidInput, match=f"score: {score} is none of 1, 0 and -1"):
            store.feedback(ada, answer, score)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="only answers are judged"):
        store.feedback(ada, asked, 1)
    with pytest.raises(InvalidInput, match="comment: character 1 is NUL"):
        store.feedback(ada, answer, 1, comment="\0")
    growing = store.add(ada, of, "assistant", "", state="answering", door="web")
    with pytest.raises(Conflict, match=r"is still being written\. Judge it when it is done"):
        store.feedback(ada, growing.id, 1)


def test_the_better_of_several_answers(store: Conversations, ada: Somebody) -> None:
    of, asked, first = talk(store, ada)
    second, third = (
        store.add(ada, of, "assistant", text, parent=asked, door="web").id for text in "bc"
    )
    store.prefer(ada, asked, first, [second])
    again = store.prefer(ada, asked, second, [first])
    wider = store.prefer(ada, asked, third, [first, second])
    assert store.preferences(ada, of) == [again, wider]
    assert (wider.prompt, wider.chosen, wider.rejected) == (asked, third, (first, second))
    for chosen, rejected in ((first, []), (first, [first]), (first, [second, second])):
        with pytest.raises(InvalidInput, match="between two or more different answers"):
            store.prefer(ada, asked, chosen, rejected)
    with pytest.raises(NotFound, match=f"There is no answer to the message {asked} 'x'"):
        store.prefer(ada, asked, first, ["x"])
    edit = store.add(ada, of, "user", "no answer", parent=asked, door="web")
    with pytest.raises(InvalidInput, match="only answers are judged"):
        store.prefer(ada, asked, first, [edit.id])
