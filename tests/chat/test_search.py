"""Finding what was said: the language, both databases, and passages."""

import random
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from tests.chat.conftest import Somebody
from wordmill.chat.conversations import Conversations
from wordmill.chat.query import Filter, Query, Term, parse
from wordmill.chat.search import passage
from wordmill.chat.types import Snippet
from wordmill.database import Database, messages
from wordmill.errors import InvalidInput


def found(store: Conversations, person: Somebody, query: str) -> list[str]:
    """Titles in brackets, messages as they are."""
    return [
        hit.snippet.text if hit.message else f"[{hit.title}]"
        for hit in store.search(person, query, limit=50).items
    ]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("", Query()),
        ("  two words ", Query((Term("two"), Term("words")))),
        ('"two words"', Query((Term("two words"),))),
        ('"never closed', Query((Term("never closed"),))),
        ('-out -"out too"', Query((Term("out", True), Term("out too", True)))),
        ("begin* end", Query((Term("begin", prefix=True), Term("end")))),
        ('"so begin"*', Query((Term("so begin", prefix=True),))),
        ("日本", Query((Term("日本", within=True),))),
        ("http://host a:b", Query((Term("http://host"), Term("a:b")))),
        ('tag:x -TAG:"y z"', Query((), (Filter("tag", "x"), Filter("tag", "y z", True)))),
        ("pinned:yes archived:0", Query((), (Filter("pinned", True), Filter("archived", False)))),
        ("before:2026", Query((), (Filter("before", datetime(2026, 1, 1, tzinfo=UTC)),))),
        ("after:2026-5", Query((), (Filter("after", datetime(2026, 5, 1, tzinfo=UTC)),))),
        (
            "after:2026-05-02T03:00:00+02:00",
            Query((), (Filter("after", datetime(2026, 5, 2, 1, tzinfo=UTC)),)),
        ),
        ("tag: word", Query((Term("tag:"), Term("word")))),
        ('?! -- ** "" - :', Query()),
    ],
)
def test_the_language(typed: str, meant: Query) -> None:
    assert parse(typed) == meant


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("pinned:maybe", "pinned: yes or no is wanted, not 'maybe'."),
        (
            "before:yesterday",
            "before: 'yesterday' is no date. Write one as 2026, 2026-05 or 2026-05-01.",
        ),
        ("after:2026-13", "after: '2026-13' is no date."),
        ("after:0000", "after: '0000' is no date."),
        ("before:0001-01-01T00:00:00+14:00", "before: '0001-01-01T00:00:00+14:00' is no date."),
        ('folder:""', "folder: a name is wanted after the colon."),
        ("x" * 1001, "query: 1,001 characters are more than the 1,000."),
        ("a " * 41, "query: more than 40 words and filters."),
        ("a\0", "query: character 2 is NUL."),
    ],
)
def test_what_cannot_be_meant_is_said(
    store: Conversations, ada: Somebody, typed: str, sentence: str
) -> None:
    for ask in (store.search, lambda person, query: store.all(person, query=query)):
        with pytest.raises(InvalidInput) as caught:
            ask(ada, typed)
        assert str(caught.value).startswith(sentence)


def test_words_phrases_beginnings_and_what_must_not_be_there(
    store: Conversations, ada: Somebody, ben: Somebody
) -> None:
    of = store.create(ada, title="About bread")
    for text in (
        "The quick brown fox",
        "the brown QUICK dog",
        "Crème brûlée",
        "foo-bar baz",
        "日本語",
    ):
        store.add(ada, of.id, "user", text, door="web")
    theirs = store.create(ben, title="bread and fox")
    store.add(ben, theirs.id, "user", "fox", door="web")
    assert found(store, ada, "quick") == ["the brown QUICK dog", "The quick brown fox"]
    assert found(store, ada, "QUICK brown") == ["the brown QUICK dog", "The quick brown fox"]
    assert found(store, ada, '"quick brown"') == ["The quick brown fox"]
    assert found(store, ada, "quick -fox") == ["the brown QUICK dog"]
    assert found(store, ada, 'brown -"brown quick"') == ["The quick brown fox"]
    assert found(store, ada, "qui") == []
    assert found(store, ada, "qui*") == ["the brown QUICK dog", "The quick brown fox"]
    assert found(store, ada, '"quick bro"*') == ["The quick brown fox"]
    assert found(store, ada, "creme") == ["Crème brûlée"]
    assert found(store, ada, "BRÛLÉE") == ["Crème brûlée"]
    assert found(store, ada, "crè*") == ["Crème brûlée"]
    assert found(store, ada, "foo-bar") == ["foo-bar baz"]
    assert found(store, ada, "本") == ["日本語"]
    assert found(store, ada, "BREAD") == ["[About bread]"]
    assert found(store, ada, "bread fox") == []
    assert found(store, ada, "?!") == []
    assert store.all(ada, query="?!").items == ()
    assert len(store.all(ada, query="quick").items) == 1
    assert store.all(ada, query="-bread").items == ()


def test_capital_letters_beyond_ascii_are_the_same_letters(
    store: Conversations, ada: Somebody
) -> None:
    of = store.create(ada, title="Österreich")
    store.add(ada, of.id, "user", "Ärger in ŁÓDŹ", door="web")
    assert found(store, ada, "österreich") == ["[Österreich]"]
    assert found(store, ada, "ärger") == ["Ärger in ŁÓDŹ"]
    assert found(store, ada, "łódź") == ["Ärger in ŁÓDŹ"]


def test_filters(store: Conversations, database: Database, ada: Somebody, ben: Somebody) -> None:
    work = store.folders.create(ada, "Work")
    inner = store.folders.create(ada, "Inner", parent=work.id)
    store.folders.create(ben, "Work")
    plans = store.create(ada, title="plans", folder=inner.id, tags=["Blue"], model="gpt-5")
    notes = store.create(ada, title="notes")
    store.change(ada, notes.id, pinned=True, archived=True)
    old = store.add(ada, plans.id, "user", "word in plans", door="web")
    store.add(ada, notes.id, "user", "word in notes", door="web")
    store.add(ada, notes.id, "assistant", "reply", door="web", model="Claude-9")
    with database.begin() as connection:
        at = datetime(2020, 5, 3, tzinfo=UTC)
        connection.execute(update(messages).where(messages.c.id == old.id).values(created=at))
    both = ["word in notes", "word in plans"]
    for query, expected in {
        "word": both,
        "word tag:blue": both[1:],
        "word -tag:Blue": both[:1],
        "word folder:work": both[1:],
        "word folder:INNER": both[1:],
        "word folder:other": [],
        "word -folder:work": both[:1],
        "word pinned:yes": both[:1],
        "word pinned:no": both[1:],
        "word -archived:yes": both[1:],
        "word model:gpt-5": both[1:],
        "word model:claude*": both[:1],
        "word -model:gpt*": both[:1],
        "word before:2020-05-03": [],
        "word before:2020-05-04": both[1:],
        "word after:2020-05-03": both,
        "word after:2020-05-04": both[:1],
        "tag:blue": ["[plans]"],
        "pinned:yes": ["[notes]"],
        "after:2021 -notes": ["[plans]"],
        "folder:work plans": ["[plans]", "word in plans"],
    }.items():
        assert found(store, ada, query) == expected, query
    assert found(store, ben, "word") == []
    assert found(store, ben, "folder:work") == []


def test_an_answer_is_found_when_it_is_done(store: Conversations, ada: Somebody) -> None:
    of = store.create(ada)
    answer = store.add(ada, of.id, "assistant", "", state="answering", door="web")
    store.partial(answer.id, "halfway")
    assert found(store, ada, "halfway") == []
    store.finish(answer.id, "done", text="halfway and back")
    assert found(store, ada, "halfway") == ["halfway and back"]
    store.add(ada, of.id, "assistant", "halfway too", state="answering", door="web")
    assert found(store, ada, "halfway -back") == []


def test_pages_of_hits(store: Conversations, ada: Somebody) -> None:
    of = store.create(ada, title="word itself")
    said = [store.add(ada, of.id, "user", f"word {n}", door="web").id for n in range(7)]
    hits: list[str | None] = []
    cursor = None
    for size in (4, 3, 1):
        page = store.search(ada, "word", limit=3, cursor=cursor)
        assert len(page.items) == size
        hits += [hit.message for hit in page.items]
        cursor = page.cursor
    assert cursor is None
    assert hits == [None, *reversed(said)]


def test_nothing_that_is_typed_breaks_a_database(store: Conversations, ada: Somebody) -> None:
    of = store.create(ada, title='it\'s 100% "safe" \\ _')
    store.add(ada, of.id, "user", 'AND OR NOT NEAR it\'s "quoted" 100% a_b \\', door="web")
    pieces = [
        '"', "'", "*", "^", "(", ")", "{", "}", ":", "-", "+", ",", "NEAR(", "AND", "OR", "NOT",
        "text:", "rowid", "<->", "&", "|", "!", ":*", "\\", "\\'", "%", "_", ";", "--", "a", "word",
        " ", "\t", "\n", "é", "ß", "İ", "日", "😀", "\u0301", "\u200d", "²", "ª", "tag:", "model:",
        "folder:", "\x01", "\x7f", "\u2028", "messages_fts", "$1", "%s", ":x", "?", "@@", "𞤀",
    ]  # fmt: skip
    rand = random.Random(4)
    for _ in range(400):
        query = "".join(rand.choice(pieces) for _ in range(rand.randint(1, 12)))
        store.search(ada, query)
        store.all(ada, query=query)
    for query in ("AND", '"OR"', "NOT near", "it's", "100%", "a_b", '"quoted"', "-nothing it's"):
        assert 'AND OR NOT NEAR it\'s "quoted" 100% a_b \\' in found(store, ada, query), query


def test_a_long_message_of_any_writing_is_kept_and_found(
    store: Conversations, ada: Somebody
) -> None:
    of = store.create(ada, title="long")
    rand = random.Random(2)
    writings = {
        "hangul": [chr(code) for code in range(0xAC00, 0xD7A4)],
        "deseret": [chr(code) for code in range(0x10400, 0x10450)],
    }
    for name, letters in writings.items():
        for between, size in ((" ", 2), ("-", 2), ("/", 3)):
            count = 250_000 // (size + 1)
            words = ("".join(rand.choices(letters, k=size)) for _ in range(count))
            text = f"{name} " + between.join(words)
            said = store.add(ada, of.id, "user", text, door="api")
            assert store.search(ada, name).items[0].message == said.id


@pytest.mark.parametrize(
    ("text", "typed", "expected"),
    [
        ("", "x", Snippet("")),
        ("one two three", "two", Snippet("one two three", ((4, 7),))),
        ("Crème, crème", "creme", Snippet("Crème, crème", ((0, 5), (7, 12)))),
        ("one\ntwo", "two", Snippet("one two", ((4, 7),))),
        ("a b c a b", '"a b"', Snippet("a b c a b", ((0, 3), (6, 9)))),
        ("servers serve", "serv*", Snippet("servers serve", ((0, 7), (8, 13)))),
        ("漢字日本語", "日本", Snippet("漢字日本語", ((2, 4),))),
        (
            "one two two one",
            "one two",
            Snippet("one two two one", ((0, 3), (4, 7), (8, 11), (12, 15))),
        ),
        ("e\u0301te\u0301 winter", "été", Snippet("e\u0301te\u0301 winter", ((0, 5),))),
    ],
)
def test_a_passage_marks_what_was_found(text: str, typed: str, expected: Snippet) -> None:
    assert passage(text, parse(typed).wanted) == expected


def test_a_passage_of_a_long_text_is_short_and_around_the_first_find() -> None:
    text = "before " * 50_000 + "needle and " + "after " * 50_000
    cut = passage(text, parse("needle").wanted)
    assert cut.text.startswith("…before")
    assert cut.text.endswith("after…")
    assert len(cut.text) <= 165
    ((start, end),) = cut.marks
    assert cut.text[start:end] == "needle"
    assert passage("x" * 1000, parse("nothing").wanted).text == "x" * 160 + "…"
