"""Searching in what was said, with FTS5 on SQLite and a tsvector on PostgreSQL.

`query` says what is looked for; here it becomes SQL. Whatever a person typed reaches a database as
a bound value only: on SQLite as quoted strings of FTS5's language, on PostgreSQL through
`phraseto_tsquery`, which has no syntax. Writing without spaces between words (Chinese, Japanese,
Thai, ...), which both take for one long word, is looked for with LIKE.

What is found is shown newest first: in that order a page can begin where another ended, and people
mostly remember when something was said. Passages are cut out here, the same for both databases.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    TableValuedAlias,
    and_,
    exists,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    table,
    true,
)
from sqlalchemy.engine import Connection

from wordmill.chat.inputs import checked
from wordmill.chat.places import Stored
from wordmill.chat.query import Filter, Query, Term, folded, parse, unaccented
from wordmill.chat.rows import conversation_of
from wordmill.chat.types import Conversation, Hit, Owner, Page, Snippet
from wordmill.database import Instant, conversations, folders, messages
from wordmill.errors import InvalidInput

MOST_HITS = 200
PASSAGE = 160
"""Characters of a passage, about."""
BEFORE = 40
"""Characters of it before what was found, at most."""
READ = 500_000
"""Characters of a message in which a passage is looked for."""

Condition = ColumnElement[bool]

_WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f])+")


class Search(Stored):
    """The part of `Conversations` that finds."""

    def search(
        self, person: Owner, query: str, *, limit: int = 20, cursor: str | None = None
    ) -> Page[Hit]:
        """What of the person's was said or titled so, newest first; all branches, archived too.

        query: see `wordmill.chat.query`.  limit: from 1 to 200.  cursor: of the page before.
        Without words the conversations are found that the filters let through. With words, the
        first page begins with the conversations in whose title they are, at most `limit` more.
        Raises InvalidInput.
        """
        if not 1 <= limit <= MOST_HITS:
            raise InvalidInput(f"limit: {limit} is not from 1 to {MOST_HITS}.", "limit")
        asked = parse(query)
        if asked.wordless:
            return Page(())
        with self.places.read("") as connection:
            dialect = connection.dialect.name
            mine = conversations.c.owner == person.id
            titled = [mine, *_filters(dialect, asked, conversations.c.updated), _title_has(asked)]
            if not asked.wanted:
                page = listed(connection, titled, limit, cursor)
                return Page(tuple(_by_title(one, asked) for one in page.items), page.cursor)
            hits: list[Hit] = []
            if cursor is None:
                page = listed(connection, titled, limit, None)
                hits = [_by_title(one, asked) for one in page.items]
            # As a sum: for the column itself SQLite would look up every find of everybody's in
            # each of the person's conversations.
            said = _saying(dialect, asked, messages.c.number + 0)
            said += [mine, *_filters(dialect, asked, messages.c.created)]
            found, further = _said(connection, said, asked, limit, cursor)
            return Page((*hits, *found), further)


def listed(
    connection: Connection, conditions: Sequence[Condition], limit: int, cursor: str | None
) -> Page[Conversation]:
    """Conversations for which all conditions hold, the last used first: one query.

    Raises InvalidInput for a cursor that no page gave.
    """
    query = (
        select(conversations)
        .where(*conditions)
        .order_by(conversations.c.updated.desc(), conversations.c.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        at, name = _read_cursor(cursor)
        query = query.where(
            conversations.c.updated <= at,
            or_(conversations.c.updated < at, conversations.c.id < name),
        )
    found = [conversation_of(row) for row in connection.execute(query)]
    if len(found) <= limit:
        return Page(tuple(found))
    last = found[limit - 1]
    return Page(tuple(found[:limit]), _cursor(last.updated, last.id))


def listed_by(dialect: str, text: str) -> list[Condition]:
    """Conditions that a query sets on conversations: its words in a title or in one message."""
    asked = parse(text)
    conditions = _filters(dialect, asked, conversations.c.updated)
    if asked.wanted:
        within = select(messages.c.conversation).where(*_saying(dialect, asked, messages.c.number))
        conditions.append(or_(_title_has(asked), conversations.c.id.in_(within)))
    elif asked.terms:
        conditions.append(_title_has(asked))
    elif asked.wordless and text.strip():
        conditions.append(false())
    return conditions


def each_tag(dialect: str) -> TableValuedAlias:
    """The tags of a conversation as rows with the column `value`."""
    each = func.json_array_elements_text if dialect == "postgresql" else func.json_each
    return each(conversations.c.tags).table_valued("value")


def has_tag(dialect: str, tag: str) -> Condition:
    """That a conversation bears a tag, in upper or lower case."""
    each = each_tag(dialect)
    return exists().select_from(each).where(_same(each.c.value, tag)).correlate(conversations)


def _said(
    connection: Connection,
    conditions: Sequence[Condition],
    asked: Query,
    limit: int,
    cursor: str | None,
) -> tuple[list[Hit], str | None]:
    """The messages for which all conditions hold, newest first, and the next page's cursor."""
    found = (
        select(messages.c.number)
        .join(conversations, conversations.c.id == messages.c.conversation)
        .where(*conditions)
        .order_by(messages.c.created.desc(), messages.c.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        at, name = _read_cursor(cursor)
        found = found.where(
            messages.c.created <= at, or_(messages.c.created < at, messages.c.id < name)
        )
    numbers = found.subquery()  # sorted without their texts, which may be long
    rows = connection.execute(
        select(messages, conversations.c.title)
        .join(numbers, numbers.c.number == messages.c.number)
        .join(conversations, conversations.c.id == messages.c.conversation)
        .order_by(messages.c.created.desc(), messages.c.id.desc())
    ).all()
    hits = [
        Hit(
            conversation=row.conversation,
            title=row.title,
            message=row.id,
            role=row.role,
            model=row.model,
            created=row.created,
            snippet=passage(row.text, asked.wanted),
        )
        for row in rows[:limit]
    ]
    further = rows[limit - 1] if len(rows) > limit else None
    return hits, _cursor(further.created, further.id) if further else None


def _by_title(one: Conversation, asked: Query) -> Hit:
    found = passage(one.title, asked.wanted)
    return Hit(one.id, one.title, None, None, one.model, one.updated, found)


def _saying(dialect: str, asked: Query, number: ColumnElement[int]) -> list[Condition]:
    """Conditions on `messages`: the wanted terms are there and the unwanted are not.

    number: of a message, as SQLite shall look it up among the finds.
    """
    conditions = []
    for terms, wanted in ((asked.wanted, True), (asked.unwanted, False)):
        indexed = [term for term in terms if not term.within]
        if indexed:
            conditions.append(
                _match_postgresql(indexed, wanted)
                if dialect == "postgresql"
                else _match_sqlite(indexed, wanted, number)
            )
        for term in terms:
            if term.within:
                there = messages.c.text.contains(term.text, autoescape=True)
                conditions.append(there if wanted else not_(there))
    return conditions


def _match_sqlite(terms: Sequence[Term], wanted: bool, number: ColumnElement[int]) -> Condition:
    """FTS5: every term is a quoted string, in which only the quote itself means something."""
    quoted = [
        '"' + term.text.replace('"', '""') + '"' + (" *" if term.prefix else "") for term in terms
    ]
    index: ColumnElement[Any] = literal_column("messages_fts")
    row: ColumnElement[int] = literal_column("rowid")
    found = (
        select(row)
        .select_from(table("messages_fts"))
        .where(index.op("MATCH")((" AND " if wanted else " OR ").join(quoted)))
    )
    return number.in_(found) if wanted else number.not_in(found)


def _match_postgresql(terms: Sequence[Term], wanted: bool) -> Condition:
    index: ColumnElement[Any] = literal_column("messages.search")
    found = [
        or_(*(index.op("@@", return_type=Boolean())(one) for one in _tsqueries(term)))
        for term in terms
    ]
    # The column is null while an answer grows, and what is unknown is not excluded.
    return and_(*found) if wanted else not_(func.coalesce(or_(*found), false(), type_=Boolean()))


def _tsqueries(term: Term) -> list[ColumnElement[Any]]:
    """A term as PostgreSQL looks for it, in each of its spellings."""
    simple: ColumnElement[Any] = literal_column("'simple'")
    spellings = _spellings(unaccented(term.text))
    if not term.prefix:
        return [func.phraseto_tsquery(simple, text) for text in spellings]
    # The one way to say a beginning has a syntax: of words alone, nothing of it can be typed.
    queries = (" <-> ".join(f"'{word}'" for word in _WORD.findall(text)) for text in spellings)
    return [func.to_tsquery(simple, f"{query}:*") for query in queries]


def _spellings(text: str) -> list[str]:
    """The text as it may be written, where the database knows upper and lower case of ASCII alone.

    That is SQLite, and PostgreSQL with the locale C.
    """
    if text.isascii():
        return [text]
    return sorted({text, text.lower(), text.upper(), text.title(), text.capitalize()})


def _title_has(asked: Query) -> Condition:
    """That a title holds all wanted terms and no unwanted one."""
    return and_(
        true(),
        *(_contains(conversations.c.title, term.text) for term in asked.wanted),
        *(not_(_contains(conversations.c.title, term.text)) for term in asked.unwanted),
    )


def _contains(column: ColumnElement[str], text: str) -> Condition:
    return or_(*(column.icontains(one, autoescape=True) for one in _spellings(text)))


def _same(column: ColumnElement[str], text: str) -> Condition:
    return or_(column == text, func.lower(column) == text.lower())


def _filters(dialect: str, asked: Query, time: ColumnElement[datetime]) -> list[Condition]:
    """What the filters say of conversations, and of `time`."""
    conditions = []
    for one in asked.filters:
        holds = _holds(dialect, one, time)
        if one.excluded:  # "in that folder" is unknown, not false, for one that is in none
            holds = not_(func.coalesce(holds, false(), type_=Boolean()))
        conditions.append(holds)
    return conditions


def _holds(dialect: str, one: Filter, time: ColumnElement[datetime]) -> Condition:
    match one.key:
        case "pinned" | "archived":
            return conversations.c[one.key].is_(bool(one.value))
        case "before":
            return time < literal(one.value, Instant())
        case "after":
            return time >= literal(one.value, Instant())
        case "tag":
            return has_tag(dialect, str(one.value))
        case "folder":
            return _in_folder(str(one.value))
        case "model":
            return _by_model(str(one.value))


def _in_folder(name: str) -> Condition:
    """In a folder of that name, or in one that lies in it."""
    inside = select(folders.c.id, folders.c.owner).where(_same(folders.c.name, name))
    below = inside.cte("below", recursive=True)
    under = folders.alias("under")
    below = below.union(
        select(under.c.id, under.c.owner).join(
            below, and_(under.c.parent == below.c.id, under.c.owner == below.c.owner)
        )
    )
    theirs = below.c.owner == conversations.c.owner
    return conversations.c.folder.in_(select(below.c.id).where(theirs).correlate(conversations))


def _by_model(name: str) -> Condition:
    """With that model, or with one of its answers; a `*` at the end stands for anything."""
    answer = messages.alias("answer")

    def named(column: ColumnElement[str]) -> Condition:
        if name.endswith("*"):
            return column.istartswith(name[:-1], autoescape=True)
        return _same(column, name)

    answered = exists().where(answer.c.conversation == conversations.c.id, named(answer.c.model))
    return or_(named(conversations.c.model), answered.correlate(conversations))


def passage(text: str, terms: Sequence[Term]) -> Snippet:
    """The part of a text where the terms begin to be found, all finds in it marked.

    The beginning of the text where none is; line breaks become spaces.
    """
    spans = list(_spans(text[:READ], terms))
    start = 0
    if spans and spans[0][0] > BEFORE:
        start = spans[0][0] - BEFORE
        gap = text.find(" ", start, spans[0][0])
        start = start if gap < 0 else gap + 1
    end = min(len(text), start + PASSAGE)
    if end < len(text):
        gap = text.rfind(" ", start + PASSAGE // 2, end)
        end = end if gap < 0 else gap
    before, after = "…" if start else "", "…" if end < len(text) else ""
    shift = len(before) - start
    marks = tuple((a + shift, b + shift) for a, b in spans if start <= a and b <= end)
    return Snippet(before + re.sub(r"\s", " ", text[start:end]) + after, marks)


def _spans(text: str, terms: Sequence[Term]) -> list[tuple[int, int]]:
    """Where the terms are: from the first find on, about as far as a passage goes."""
    within = [term.text for term in terms if term.within]
    phrases = [
        ([folded(word) for word in _WORD.findall(term.text)], term.prefix)
        for term in terms
        if not term.within
    ]
    spans = [(at, at + len(one)) for one in within if (at := text.find(one)) >= 0]
    longest = max((len(words) for words, _ in phrases), default=0)
    last: list[tuple[str, int, int]] = []
    for word in _WORD.finditer(text) if longest else ():
        if spans and word.start() > spans[0][0] + PASSAGE:
            break
        last = [*last, (folded(word[0]), *word.span())][-longest:]
        for words, prefix in phrases:
            tail = [one[0] for one in last[-len(words) :]]
            if _begins(tail, words) if prefix else tail == words:
                spans.append((last[-len(words)][1], word.end()))
    return _apart(spans)


def _begins(tail: Sequence[str], words: Sequence[str]) -> bool:
    return (
        len(tail) == len(words)
        and list(tail[:-1]) == list(words[:-1])
        and tail[-1].startswith(words[-1])
    )


def _apart(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that touch joined."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _cursor(at: datetime, name: str) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {name}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        plain = base64.urlsafe_b64decode(checked(cursor, "cursor", 200)).decode()
        text, _, name = plain.partition(" ")
        at = datetime.fromisoformat(text)
        if at.tzinfo is None or "\0" in name:
            raise ValueError(cursor)
    except (ValueError, UnicodeError, binascii.Error) as error:
        raise InvalidInput("cursor: it is none that a page gave.", "cursor") from error
    return at, name
