"""Conversations as they are kept: the one object that doors and the turn runner hold.

Every method takes the person who acts, and asks for the conversation and its owner in one
statement: somebody else's is not there. What has to do with messages, search, links and ratings
is in the classes that `Conversations` is made of; folders and files are its attributes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, and_, exists, func, insert, select, true, update
from sqlalchemy import delete as deleted
from sqlalchemy.engine import Connection

from wordmill.chat.attachments import Attachments
from wordmill.chat.exporting import Form, as_json, as_markdown
from wordmill.chat.folders import Folders
from wordmill.chat.inputs import checked, checked_id, checked_json, checked_line
from wordmill.chat.messages import Messages, check_in
from wordmill.chat.places import Places, forget_contents, make_room, new_name
from wordmill.chat.ratings import Ratings
from wordmill.chat.rows import conversation_of, conversation_row
from wordmill.chat.search import Search, each_tag, has_tag, listed, listed_by
from wordmill.chat.shares import Shares
from wordmill.chat.types import TEMPORARY, Attachment, Conversation, Owner, Page, is_temporary
from wordmill.database import (
    Database,
    attachments,
    conversations,
    feedback,
    folders,
    messages,
    now,
    preferences,
    shares,
)
from wordmill.errors import Conflict, InvalidInput, NotFound, nearest
from wordmill.settings import Settings

TITLE_CHARACTERS = 500
TAG_CHARACTERS = 60
MOST_TAGS = 50
MOST_LISTED = 500
MOST_EXPORTED = 128 * 1024 * 1024
"""Bytes of files in one exported conversation; of further ones it has the names."""
TITLED_BY = ("", "model", "person")

Check: TypeAlias = Callable[[Any, str, int], Any]
"""Of a field's value, its name and the most characters of a text, what the table keeps."""


class Conversations(Messages, Search, Shares, Ratings):
    """All conversations, each person's apart. Safe from any thread; `close` it at the end."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.places, self.settings = Places(database), settings
        self.attachments = Attachments(self.places, settings)
        self.folders = Folders(self.places, settings)

    def close(self) -> None:
        """Forget the temporary conversations. The database stays open."""
        self.places.close()

    def create(
        self,
        person: Owner,
        *,
        model: str | None = None,
        system: str = "",
        folder: str | None = None,
        source: str | None = None,
        title: str = "",
        tags: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        temporary: bool = False,
    ) -> Conversation:
        """A new conversation without messages.

        temporary: kept in this process's memory only; it has no folder and is not found by search.
        Raises InvalidInput, NotFound for a folder that is not this person's, and Conflict for a
        `source` that is there already.
        """
        fields = {
            "model": model,
            "system": system,
            "folder": folder,
            "title": title,
            "tags": tags,
            "settings": settings or {},
        }
        values = self._values(fields)
        values["titled_by"] = "person" if values["title"] else ""
        values["source"] = None if source is None else checked(source, "source", 200)
        name, at = new_name(TEMPORARY if temporary else ""), now()
        with self.places.begin(name) as connection:
            if temporary:
                make_room(connection, person.id)
            if folder is not None:
                _check_folder(connection, person.id, folder)
            if source is not None:
                _check_new(connection, person.id, source)
            new = {"id": name, "owner": person.id, "created": at, "updated": at}
            new |= {"pinned": False, "archived": False}
            connection.execute(insert(conversations).values(**new, **values))
            return conversation_of(conversation_row(connection, person.id, name))

    def get(self, person: Owner, conversation: str) -> Conversation:
        """One conversation. Raises NotFound."""
        with self.places.read(conversation) as connection:
            return conversation_of(conversation_row(connection, person.id, conversation))

    def all(
        self,
        person: Owner,
        *,
        folder: str | None = None,
        tag: str | None = None,
        archived: bool | None = False,
        pinned: bool | None = None,
        query: str = "",
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Conversation]:
        """The person's conversations, the last used first; the temporary ones are not among them.

        folder: an id; "" is those in no folder.  archived, pinned: None takes both.
        query: as `search` takes it; those in whose title or messages it is found.
        limit: from 1 to 500.  cursor: of the page before.
        Raises InvalidInput.
        """
        conditions: list[ColumnElement[bool]] = [conversations.c.owner == person.id]
        if folder is not None:
            inside = conversations.c.folder == checked_id("folder", folder)
            conditions.append(inside if folder else conversations.c.folder.is_(None))
        if archived is not None:
            conditions.append(conversations.c.archived == archived)
        if pinned is not None:
            conditions.append(conversations.c.pinned == pinned)
        if not 1 <= limit <= MOST_LISTED:
            raise InvalidInput(f"limit: {limit} is not from 1 to {MOST_LISTED}.", "limit")
        with self.places.read("") as connection:
            dialect = connection.dialect.name
            if tag is not None:
                conditions.append(has_tag(dialect, checked(tag, "tag", TAG_CHARACTERS)))
            conditions += listed_by(dialect, query)
            return listed(connection, conditions, limit, cursor)

    def change(self, person: Owner, conversation: str, **fields: Any) -> Conversation:
        """Change title, titled_by, folder, tags, pinned, archived, model, system, settings, head,
        document_title or drive_folder, all or none.

        A title is the person's own unless `titled_by` says otherwise; a model's never replaces a
        person's. `head` None begins a new branch beside the others.
        Raises NotFound, also for a folder or head that is not theirs, and InvalidInput.
        """
        values = self._values(fields)
        if "title" in values and "titled_by" not in values:
            values["titled_by"] = "person" if values["title"] else ""
        condition = and_(conversations.c.id == conversation, conversations.c.owner == person.id)
        if values.get("titled_by") == "model":
            condition = and_(condition, conversations.c.titled_by != "person")
        head, folder = values.get("head"), values.get("folder")
        if head is not None:
            within = messages.c.conversation == conversation
            condition = and_(condition, exists().where(messages.c.id == head, within))
        if folder is not None:
            mine = folders.c.owner == person.id
            condition = and_(condition, exists().where(folders.c.id == folder, mine))
        with self.places.begin(conversation) as connection:
            done = 1
            if values:
                statement = update(conversations).where(condition).values(values)
                done = connection.execute(statement).rowcount
            row = conversation_row(connection, person.id, conversation)
            if not done:
                if folder is not None:
                    _check_folder(connection, person.id, folder)
                if head is not None:
                    check_in(connection, conversation, head)
            return conversation_of(row)

    def remove(self, person: Owner, conversation: str) -> None:
        """Delete a conversation with its messages, files, links and ratings. Raises NotFound."""
        mine = and_(conversations.c.id == conversation, conversations.c.owner == person.id)
        with self.places.begin(conversation) as connection:
            conversation_row(connection, person.id, conversation, lock=True)
            files = self._forget_files(
                connection,
                attachments.c.conversation == conversation,
                is_temporary(conversation),
            )
            connection.execute(deleted(conversations).where(mine))
        self.attachments.forget_files(files)

    def remove_all(self, person: Owner) -> int:
        """Delete all that a person has here, folders and temporary ones too.

        Returns how many conversations there were.
        """
        count = 0
        for place in ("", TEMPORARY):
            with self.places.begin(place) as connection:
                files = self._forget_files(
                    connection, attachments.c.owner == person.id, bool(place)
                )
                for table in (conversations, folders, shares, preferences):
                    gone = connection.execute(deleted(table).where(table.c.owner == person.id))
                    count += gone.rowcount if table is conversations else 0
                connection.execute(deleted(feedback).where(feedback.c.person == person.id))
            self.attachments.forget_files(files)
        return count

    def tags(self, person: Owner) -> dict[str, int]:
        """The person's tags in order, and how many conversations bear each."""
        with self.places.read("") as connection:
            each = each_tag(connection.dialect.name)
            rows = connection.execute(
                select(each.c.value, func.count())
                .select_from(conversations)
                .join(each, true())
                .where(conversations.c.owner == person.id)
                .group_by(each.c.value)
                .order_by(each.c.value)
            )
            return {row[0]: row[1] for row in rows}

    def exported(
        self,
        person: Owner,
        conversation: str,
        form: Form = "json",
        *,
        reasoning: bool = False,
        language: str | None = None,
    ) -> bytes:
        """A conversation as a file: `json` has all of it, `markdown` the branch that is shown.

        reasoning: whether Markdown has that of the answers too.  language: of its headings.
        Raises NotFound, InvalidInput for another form, StorageError for a file that is not there.
        """
        of = self.get(person, conversation)
        if form == "markdown":
            branch = self.branch(person, conversation)
            return as_markdown(of, branch, reasoning=reasoning, language=language).encode()
        if form != "json":
            raise InvalidInput(f"form: {form!r:.40} is neither json nor markdown.", "form")
        names = {one.id: one.name for one in self.folders.all(person)}
        files = self.attachments.all(person, conversation)
        return as_json(
            of,
            names.get(of.folder or ""),
            self.tree(person, conversation),
            self.ratings(person, conversation).values(),
            self.preferences(person, conversation),
            self._with_bytes(person, files),
        )

    def _with_bytes(
        self, person: Owner, files: Sequence[Attachment]
    ) -> Iterator[tuple[Attachment, bytes | None]]:
        room = MOST_EXPORTED
        for file in files:
            room -= file.size
            yield file, self.attachments.data(person, file.id) if room >= 0 else None

    def exported_all(self, person: Owner) -> Iterator[bytes]:
        """All of the person's conversations as one JSON list, in pieces; not the temporary.

        One that is removed meanwhile is left out.
        """
        yield b"["
        comma, cursor = b"\n", None
        while True:
            page = self.all(person, archived=None, limit=MOST_LISTED, cursor=cursor)
            for one in page.items:
                try:
                    whole = self.exported(person, one.id)
                except NotFound:
                    continue
                yield comma + whole
                comma = b",\n"
            cursor = page.cursor
            if cursor is None:
                break
        yield b"\n]\n"

    def _forget_files(
        self, connection: Connection, condition: ColumnElement[bool], temporary: bool
    ) -> list[str]:
        if temporary:
            forget_contents(connection, condition)
        return self.attachments.forget(connection, condition)

    def _values(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Columns and their values. Raises InvalidInput, with the nearest name for an unknown."""
        values = {}
        for name, value in fields.items():
            check = _FIELDS.get(name)
            if check is None:
                raise InvalidInput(f"A conversation has no {name!r}{nearest(name, _FIELDS)}", name)
            values[name] = check(value, name, self.settings.message_characters)
        return values


def _line(most: int) -> Check:
    return lambda value, field, _: checked_line(value, field, most)


def _line_or_none(most: int) -> Check:
    return lambda value, field, _: None if value is None else checked(value, field, most)


def _flag(value: object, field: str, _: int) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{field}: true or false is wanted, not {value!r:.40}.", field)
    return value


def _tags(value: object, field: str, _: int) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidInput(f"{field}: a list of words is wanted.", field)
    words = [checked_line(tag, field, TAG_CHARACTERS) for tag in value]
    kept = list(dict.fromkeys(word for word in words if word))
    if len(kept) > MOST_TAGS:
        raise InvalidInput(f"{field}: {len(kept)} are more than the {MOST_TAGS}.", field)
    return kept


def _titled_by(value: object, field: str, _: int) -> str:
    if value not in TITLED_BY:
        raise InvalidInput(f"{field}: {value!r:.40} is neither model nor person.", field)
    return str(value)


def _object(value: object, field: str, _: int) -> Any:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{field}: an object is wanted.", field)
    return checked_json(value, field)


_FIELDS: Mapping[str, Check] = {
    "title": _line(TITLE_CHARACTERS),
    "titled_by": _titled_by,
    "folder": _line_or_none(64),
    "tags": _tags,
    "pinned": _flag,
    "archived": _flag,
    "model": _line_or_none(200),
    "system": checked,
    "settings": _object,
    "document_title": _line_or_none(500),
    "drive_folder": _line_or_none(500),
    "head": _line_or_none(64),
}


def _check_new(connection: Connection, owner: str, source: str) -> None:
    query = select(conversations.c.id).where(
        conversations.c.owner == owner, conversations.c.source == source
    )
    if connection.execute(query).scalar() is not None:
        raise Conflict(f"A conversation from {source!r} is there already.")


def _check_folder(connection: Connection, owner: str, folder: str) -> None:
    query = select(folders.c.id).where(folders.c.id == folder, folders.c.owner == owner)
    if connection.execute(query).scalar() is None:
        raise NotFound("folder", folder)
