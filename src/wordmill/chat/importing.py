"""Conversations out of the exports of ChatGPT, of Claude and of our own.

Importing the same file again makes nothing twice: a conversation is known by its `source`, a
message by its `origin`, and a later export of a conversation that has grown only adds what is new.
Each conversation is a transaction, so an import that was interrupted goes on when it is run again.

`archives` reads the file, `foreign` makes drafts of its elements; here they become rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import insert, or_, select, update
from sqlalchemy.engine import Connection, Row

from wordmill.chat.archives import Archive
from wordmill.chat.conversations import MOST_TAGS, TAG_CHARACTERS, TITLE_CHARACTERS, Conversations
from wordmill.chat.foreign import Draft, DraftFile, DraftMessage, draft
from wordmill.chat.inputs import cleaned, cleaned_json
from wordmill.chat.ratings import COMMENT_CHARACTERS, REASON_CHARACTERS
from wordmill.chat.rows import origin_of, stored_parts
from wordmill.chat.types import Imported, Owner, Part
from wordmill.database import (
    conversations,
    feedback,
    folders,
    messages,
    new_id,
    now,
    preferences,
)
from wordmill.errors import InvalidInput, WordmillError
from wordmill.storage import said

MOST_PROBLEMS = 100
DOOR = "import"


class Importer:
    """Imports into the conversations of a person."""

    def __init__(self, conversations: Conversations) -> None:
        self.conversations = conversations
        self.settings = conversations.settings

    def take(
        self,
        person: Owner,
        file: BinaryIO | Path,
        progress: Callable[[Imported], None] | None = None,
    ) -> Imported:
        """Import a JSON file or a zip, which can be read again from any place.

        progress: called after each conversation; what it raises ends the import, with all kept that
            was imported before.
        What cannot be read is left out and said in `problems`, also when the file ends too early.
        Raises InvalidInput for a file of which nothing can be read.
        """
        if isinstance(file, Path):
            with said(file), file.open("rb") as opened:
                return self.take(person, opened, progress)
        archive = Archive(file, self.settings.import_bytes)
        done = _Report()
        elements = archive.conversations()
        while True:
            try:
                element = next(elements, _END)
            except InvalidInput as error:
                if not done.seen:
                    raise
                done.say([str(error)])
                break
            if element is _END:
                break
            done.seen += 1
            if isinstance(element, InvalidInput):
                done.say([str(element)])
            elif (read := draft(element)) is None:
                done.say([f"Element {done.seen} of the file is no conversation that is known."])
            else:
                _Taking(self.conversations, person, archive, read, done).run()
            if progress is not None:
                progress(done.result)
        if not done.seen:
            raise InvalidInput("The file holds no conversations.")
        if not done.result.made + done.result.grown + done.result.known:
            raise InvalidInput(f"Nothing of the file could be read. {done.result.problems[0]}")
        return done.result


_END = object()


class _Report:
    """What has been done so far."""

    def __init__(self) -> None:
        self.seen = 0
        self.result = Imported()
        self._more = 0

    def count(self, which: str, messages: int) -> None:
        self.result = replace(
            self.result,
            **{which: getattr(self.result, which) + 1},
            messages=self.result.messages + messages,
        )

    def say(self, problems: Iterable[str]) -> None:
        for problem in problems:
            kept = self.result.problems
            if len(kept) < MOST_PROBLEMS:
                self.result = replace(self.result, problems=(*kept, cleaned(problem)))
                continue
            self._more += 1
            last = f"And {self._more + 1:,} more of the kind."
            self.result = replace(self.result, problems=(*kept[: MOST_PROBLEMS - 1], last))


class _Taking:
    """One conversation on its way from a draft into the database."""

    def __init__(
        self,
        store: Conversations,
        person: Owner,
        archive: Archive,
        read: Draft,
        done: _Report,
    ) -> None:
        self.store, self.person, self.archive, self.draft, self.done = (
            store,
            person,
            archive,
            read,
            done,
        )
        self.source = cleaned(f"{read.kind}:{read.id}")[:200]
        self.files: dict[str, list[str]] = {}

    def run(self) -> None:
        ordered = _ordered(self.draft)
        with self.store.places.read("") as connection:
            found = self._find(connection)
            names = self._names(connection, found)
        fresh = [one for one in ordered if self._origin(one.id) not in names]
        if found is not None and not fresh:
            self.done.count("known", 0)
            self.done.say(self.draft.problems)
            return
        for one in fresh:
            self.files[one.id] = self._attached(one)
        try:
            with self.store.places.begin("") as connection:
                # Read again: another import of the same file may have been quicker.
                found = self._find(connection)
                names = self._names(connection, found)
                fresh = [one for one in ordered if self._origin(one.id) not in names]
                name = found.id if found is not None else self._create(connection)
                self._insert(connection, name, fresh, names)
                self._set_head(connection, name, found, fresh, names)
                self._rate(connection, name, names)
                self._choose(connection, name, names)
        except BaseException:
            self._forget()
            raise
        self.done.count("made" if found is None else "grown" if fresh else "known", len(fresh))
        self.done.say(self.draft.problems)

    def _origin(self, name: str) -> str:
        return cleaned(f"{self.draft.kind}:{name}")

    def _find(self, connection: Connection) -> Row[Any] | None:
        """The conversation, imported before or our own."""
        same = conversations.c.source == self.source
        if self.draft.kind == "wordmill":
            same = or_(same, conversations.c.id == cleaned(self.draft.id))
        query = select(conversations).where(conversations.c.owner == self.person.id, same)
        return connection.execute(query.order_by(conversations.c.id)).first()

    def _names(self, connection: Connection, found: Row[Any] | None) -> dict[str, str]:
        """The ids of the messages that are there, by origin."""
        if found is None:
            return {}
        rows = connection.execute(
            select(messages.c.id, messages.c.parts).where(messages.c.conversation == found.id)
        )
        names = {}
        for name, parts in rows:
            names[f"wordmill:{name}"] = name
            if origin := origin_of(parts):
                names[origin] = name
        return names

    def _create(self, connection: Connection) -> str:
        new, at = self.draft, now()
        title = " ".join(cleaned(new.title).split())[:TITLE_CHARACTERS]
        titled = new.more.get("titled_by") if title else ""
        tags = (cleaned(tag).strip()[:TAG_CHARACTERS] for tag in new.more.get("tags", ()))
        document = new.more.get("document_title")
        name = new_id()
        connection.execute(
            insert(conversations).values(
                id=name,
                owner=self.person.id,
                title=title,
                titled_by=titled if titled in ("", "person") else "model",
                folder=self._folder(connection),
                tags=list(dict.fromkeys(tag for tag in tags if tag))[:MOST_TAGS],
                pinned=new.more.get("pinned", False),
                archived=new.more.get("archived", False),
                model=cleaned(new.model)[:200] if new.model else None,
                system=cleaned(new.more.get("system", ""))[: self._characters],
                settings=cleaned_json(new.more.get("settings", {})),
                document_title=cleaned(document)[:500] if document else None,
                source=self.source,
                created=new.created or at,
                updated=new.updated or new.created or at,
            )
        )
        return name

    @property
    def _characters(self) -> int:
        return self.store.settings.message_characters

    def _folder(self, connection: Connection) -> str | None:
        """The person's folder of that name, made where it is missing."""
        if self.draft.folder is None:
            return None
        name = " ".join(cleaned(self.draft.folder).split())[:200]
        if not name:
            return None
        query = select(folders.c.id).where(
            folders.c.owner == self.person.id, folders.c.name == name
        )
        known: str | None = connection.execute(query.order_by(folders.c.id)).scalars().first()
        if known is not None:
            return known
        new = new_id()
        connection.execute(
            insert(folders).values(id=new, owner=self.person.id, name=name, created=now())
        )
        return new

    def _insert(
        self,
        connection: Connection,
        conversation: str,
        fresh: Sequence[DraftMessage],
        names: dict[str, str],
    ) -> None:
        """Add the messages, and their ids to `names`."""
        rows = []
        for one in fresh:
            parent = None if one.parent is None else names.get(self._origin(one.parent))
            parts: list[Part] = [
                {"type": "attachment", "id": file} for file in self.files.get(one.id, ())
            ]
            parts += cleaned_json(one.parts)
            parts = self.store.attachments.attach(connection, self.person.id, conversation, parts)
            name = names[self._origin(one.id)] = new_id()
            at = one.created or self.draft.created or now()
            text = cleaned(one.text)
            if len(text) > self._characters:
                self.draft.missing(f"a message was cut to {self._characters:,} characters")
            theirs = one.role in ("user", "system") or one.more.get("author", False)
            rows.append(
                {
                    "id": name,
                    "conversation": conversation,
                    "parent": parent,
                    "role": one.role,
                    "state": one.state,
                    "text": text[: self._characters],
                    "reasoning": cleaned(one.reasoning)[: self._characters],
                    "parts": stored_parts(parts, self._origin(one.id)),
                    "author": self.person.id if theirs else "",
                    "door": cleaned(one.more.get("door") or DOOR)[:32],
                    "model": cleaned(one.model)[:200] if one.model else None,
                    "sent": cleaned_json(one.more.get("sent")),
                    "finish": cleaned(one.finish)[:64] if one.finish else None,
                    "error": cleaned(one.more["error"]) if one.more.get("error") else None,
                    "usage": cleaned_json(one.more.get("usage")),
                    "timing": cleaned_json(one.more.get("timing")),
                    "created": at,
                    "updated": at,
                }
            )
        if rows:
            connection.execute(insert(messages), rows)

    def _set_head(
        self,
        connection: Connection,
        conversation: str,
        found: Row[Any] | None,
        fresh: Sequence[DraftMessage],
        names: Mapping[str, str],
    ) -> None:
        """Show the branch that was shown there, unless the person has gone on here."""
        if not fresh:
            return
        head = names.get(self._origin(self.draft.head)) if self.draft.head else None
        head = head or names[self._origin(fresh[-1].id)]
        if found is not None and found.head is not None:
            query = select(messages.c.parts).where(messages.c.id == found.head)
            if origin_of(connection.execute(query).scalar() or ()) is None:
                return
        values: dict[str, Any] = {"head": head}
        if found is not None:
            values["updated"] = max(found.updated, self.draft.updated or found.updated)
        connection.execute(
            update(conversations).where(conversations.c.id == conversation).values(values)
        )

    def _rate(self, connection: Connection, conversation: str, names: Mapping[str, str]) -> None:
        """The ratings that our own format brings, where there are none yet."""
        query = select(feedback.c.message).join(messages, messages.c.id == feedback.c.message)
        of_this = messages.c.conversation == conversation
        rated = set(connection.execute(query.where(of_this)).scalars())
        for one in self.draft.feedback:
            message, score = self._named(one.get("message"), names), one.get("score")
            if message is None or message in rated or score not in (-1, 1):
                continue
            rated.add(message)
            at = now()
            connection.execute(
                insert(feedback).values(
                    message=message,
                    person=self.person.id,
                    score=int(score),
                    reason=_short(one.get("reason"), REASON_CHARACTERS),
                    comment=_short(one.get("comment"), COMMENT_CHARACTERS),
                    created=at,
                    updated=at,
                )
            )

    def _choose(self, connection: Connection, conversation: str, names: Mapping[str, str]) -> None:
        """The choices that our own format brings, where they are not there yet."""
        query = select(preferences).where(preferences.c.conversation == conversation)
        known = {(row.prompt, row.chosen) for row in connection.execute(query)}
        for one in self.draft.preferences:
            prompt = self._named(one.get("prompt"), names)
            chosen = self._named(one.get("chosen"), names)
            others = one.get("rejected")
            named = (
                [self._named(other, names) for other in others] if isinstance(others, list) else []
            )
            rejected = [other for other in named if other is not None]
            if prompt is None or chosen is None or not rejected or (prompt, chosen) in known:
                continue
            known.add((prompt, chosen))
            connection.execute(
                insert(preferences).values(
                    id=new_id(),
                    owner=self.person.id,
                    conversation=conversation,
                    prompt=prompt,
                    chosen=chosen,
                    rejected=rejected,
                    created=now(),
                )
            )

    def _named(self, name: object, names: Mapping[str, str]) -> str | None:
        return names.get(self._origin(name)) if isinstance(name, str) else None

    def _attached(self, message: DraftMessage) -> list[str]:
        """The ids of its files, kept; of those that cannot be, it is said."""
        names = []
        for file in message.files:
            try:
                data = file.data if file.data is not None else self._asset(file)
                if data is None:
                    self.draft.missing(f"the file {file.name[:60]!r} is not in the export")
                    continue
                kept = self.store.attachments.add(self.person, file.name, data, file.media_type)
            except InvalidInput as error:
                self.draft.problems.append(f"{self.draft.shown}: {error}")
                continue
            names.append(kept.id)
        return names

    def _asset(self, file: DraftFile) -> bytes | None:
        return self.archive.asset(file.asset, self.store.settings.attachment_bytes)

    def _forget(self) -> None:
        for name in (name for names in self.files.values() for name in names):
            with suppress(WordmillError):
                self.store.attachments.remove(self.person, name)


def _short(text: object, most: int) -> str | None:
    return cleaned(text)[:most] if isinstance(text, str) and text else None


def _ordered(read: Draft) -> list[DraftMessage]:
    """The messages, every parent before its children; a circle is cut open, and said.

    A parent that is not there, and a second message of the same id, are left out.
    """
    known: dict[str, DraftMessage] = {}
    for one in read.messages:
        if one.id in known:
            read.missing(f"the message {one.id[:60]!r} is there twice; the first was kept")
        known.setdefault(one.id, one)
    below: dict[str | None, list[DraftMessage]] = {}
    for one in known.values():
        if one.parent not in known:
            one.parent = None
        below.setdefault(one.parent, []).append(one)
    ordered: list[DraftMessage] = []
    seen: set[str] = set()

    def descend(roots: Sequence[DraftMessage]) -> None:
        waiting = list(reversed(roots))
        while waiting:
            one = waiting.pop()
            if one.id not in seen:
                seen.add(one.id)
                ordered.append(one)
                waiting.extend(reversed(below.get(one.id, ())))

    descend(below.get(None, ()))
    for one in known.values():
        if one.id not in seen:
            read.missing(f"the messages around {one.id[:60]!r} follow each other in a circle")
            one.parent = None
            descend([one])
    return ordered
