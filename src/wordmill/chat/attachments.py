"""Files that people bring into a conversation: texts and images.

What a file is, its first bytes say and never its sender. A text is UTF-8, or UTF-16 or UTF-32
with a mark; an image is a PNG, JPEG, GIF or WebP whose header holds. All else is refused in words.
Nothing here decodes an image.

The bytes lie under `attachments/<id>` in the data folder, those of a temporary conversation in
memory. A name is only ever shown, never made a path.
"""

import hashlib
import mimetypes
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, update
from sqlalchemy import delete as deleted
from sqlalchemy.engine import Connection, Row

from wordmill.chat.inputs import checked_id, cleaned
from wordmill.chat.pictures import picture
from wordmill.chat.places import Places, Stored, check_room, contents, new_name
from wordmill.chat.types import Attachment, Message, Owner, Part, is_temporary
from wordmill.database import attachments, conversations, now
from wordmill.errors import InvalidInput, NotFound
from wordmill.settings import Settings
from wordmill.storage import said, write_whole

MOST_PIXELS = 100_000_000
NAME_LENGTH = 200
UNUSED_DAYS = 1.0
"""A file that no message got within that time is forgotten."""

# Shown as what they are, these could do something in a browser.
_ONLY_TEXT = ("html", "xml", "svg", "javascript", "ecmascript")
_MARKS = (  # the longer ones first
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CONTROLS = {chr(code) for code in range(32)} - set("\t\n\r\f\x1b")


class Attachments(Stored):
    """The files of all people. Safe from any thread."""

    def __init__(self, places: Places, settings: Settings) -> None:
        self.places, self.settings = places, settings
        self.folder = settings.home / "attachments"

    def add(
        self,
        person: Owner,
        name: str,
        data: bytes,
        media_type: str = "",
        conversation: str | None = None,
    ) -> Attachment:
        """Keep a file; `Conversations.add` puts it into a message.

        media_type: what the sender calls it, believed only among texts.
        conversation: for a temporary one it must be said, so that the bytes stay in memory.
        Raises InvalidInput for what is neither text nor image, or too large; NotFound for a
        conversation that is not this person's.
        """
        name = shown_name(name)
        most = self.settings.attachment_bytes
        if len(data) > most:
            raise InvalidInput(
                f"{name!r} is too large: {_size(len(data))}, and {_size(most)} is the most."
            )
        kind, text = recognised(name, data, media_type)
        at = now()
        new = Attachment(
            id=new_name(conversation or ""),
            owner=person.id,
            conversation=conversation if is_temporary(conversation or "") else None,
            name=name,
            media_type=kind,
            size=len(data),
            digest=hashlib.sha256(data).hexdigest(),
            text=text,
            created=at,
        )
        temporary = is_temporary(new.id)
        if not temporary:
            write_whole(self.folder / new.id, data)
        try:
            with self.places.begin(new.id) as connection:
                check_room(connection, new.id)
                self._check(connection, person.id, conversation, len(data))
                connection.execute(insert(attachments).values(_row(new)))
                if temporary:
                    connection.execute(insert(contents).values(id=new.id, data=data))
        except BaseException:
            self.forget_files([new.id])
            raise
        return new

    def get(self, person: Owner, attachment: str) -> Attachment:
        """What is known of a file. Raises NotFound."""
        with self.places.read(attachment) as connection:
            return _read(connection, person.id, attachment)

    def data(self, person: Owner, attachment: str) -> bytes:
        """The bytes of a file. Raises NotFound, and StorageError when the disk gives them not."""
        with self.places.read(attachment) as connection:
            _read(connection, person.id, attachment)
            return self.bytes_of(connection, attachment)

    def bytes_of(self, connection: Connection, attachment: str) -> bytes:
        """The bytes of a file whose reader has been checked."""
        if is_temporary(attachment):
            query = select(contents.c.data).where(contents.c.id == attachment)
            return bytes(connection.execute(query).scalar_one())
        path = self.folder / attachment
        with said(path):
            return path.read_bytes()

    def all(self, person: Owner, conversation: str) -> list[Attachment]:
        """The files of a conversation, oldest first. Raises NotFound."""
        with self.places.read(conversation) as connection:
            self._check(connection, person.id, conversation, 0)
            rows = connection.execute(
                select(attachments)
                .where(attachments.c.conversation == conversation, attachments.c.owner == person.id)
                .order_by(attachments.c.id)
            )
            return [_value(row) for row in rows]

    def remove(self, person: Owner, attachment: str) -> None:
        """Delete a file that no message has yet. Raises NotFound, also once a message has it."""
        with self.places.begin(attachment) as connection:
            found = _read(connection, person.id, attachment)
            unused = and_(attachments.c.id == attachment, _unused())
            if is_temporary(attachment):
                unused = attachments.c.id == attachment
                connection.execute(deleted(contents).where(contents.c.id == attachment))
            if not connection.execute(deleted(attachments).where(unused)).rowcount:
                raise NotFound("unused attachment", found.id)
        self.forget_files([attachment])

    def sweep(self) -> int:
        """Forget files that no message got within a day, and bytes without a row; how many.

        For the start of a server.
        """
        long_ago = now() - timedelta(days=UNUSED_DAYS)
        with self.places.begin("") as connection:
            stale = and_(_unused(), attachments.c.created < long_ago)
            names = list(connection.execute(select(attachments.c.id).where(stale)).scalars())
            for start in range(0, len(names), 500):
                some = names[start : start + 500]
                connection.execute(deleted(attachments).where(attachments.c.id.in_(some)))
        with self.places.read("") as connection:
            known = set(connection.execute(select(attachments.c.id)).scalars())
        if self.folder.is_dir():
            names += [
                file.name
                for file in self.folder.iterdir()
                if file.name not in known
                and not file.name.startswith(".")
                and file.stat().st_mtime < long_ago.timestamp()
            ]
        self.forget_files(names)
        return len(set(names))

    # For the rest of the stored side, inside its transactions.

    def attach(
        self, connection: Connection, owner: str, conversation: str, parts: Sequence[Part]
    ) -> list[Part]:
        """The parts of a new message, those of attachments as the table has them.

        Raises NotFound for a file that is not this person's, or is another conversation's.
        """
        names = [
            checked_id("attachment", part.get("id"))
            for part in parts
            if part.get("type") == "attachment"
        ]
        if not names:
            return list(parts)
        mine = and_(
            attachments.c.id.in_(names),
            attachments.c.owner == owner,
            or_(attachments.c.conversation.is_(None), attachments.c.conversation == conversation),
        )
        found = {row.id: row for row in connection.execute(select(attachments).where(mine))}
        for name in names:
            if name not in found:
                raise NotFound("attachment of this conversation", name)
        connection.execute(update(attachments).where(mine).values(conversation=conversation))
        return [
            _part(found[part["id"]]) if part.get("type") == "attachment" else part for part in parts
        ]

    @contextmanager
    def copies(
        self, person: Owner, branch: Sequence[Message], conversation: str
    ) -> Iterator[Mapping[str, str]]:
        """Copies of the files of a branch, for a fork: old id to new id.

        The bytes are there inside the block, the rows when `add_copies` was called. They are gone
        again when the block raises.
        """
        names = {name: new_name(conversation) for one in branch for name in one.attachments}
        try:
            if not is_temporary(conversation):
                for old, new in names.items():
                    self._link(self.folder / old, self.folder / new)
            yield names
        except BaseException:
            self.forget_files(names.values())
            raise

    def add_copies(
        self, connection: Connection, owner: str, names: Mapping[str, str], conversation: str
    ) -> None:
        """The rows of what `copies` has made."""
        for old, new in names.items():
            row = dict(_row(_read(connection, owner, old)))
            row |= {"id": new, "conversation": conversation}
            connection.execute(insert(attachments).values(row))
            if is_temporary(new):
                data = self.bytes_of(connection, old)
                connection.execute(insert(contents).values(id=new, data=data))

    def forget(self, connection: Connection, condition: ColumnElement[bool]) -> list[str]:
        """Delete the rows where `condition` holds; give the ids to `forget_files` afterwards."""
        names = list(connection.execute(select(attachments.c.id).where(condition)).scalars())
        connection.execute(deleted(attachments).where(condition))
        return names

    def _check(
        self, connection: Connection, owner: str, conversation: str | None, size: int
    ) -> None:
        if conversation is not None:
            query = select(conversations.c.id).where(
                conversations.c.id == checked_id("conversation", conversation),
                conversations.c.owner == owner,
            )
            if connection.execute(query).scalar() is None:
                raise NotFound("conversation", conversation)
        if size:
            query = select(func.coalesce(func.sum(attachments.c.size), 0))
            used = connection.execute(query.where(attachments.c.owner == owner)).scalar_one()
            most = self.settings.person_attachment_bytes
            if used + size > most:
                raise InvalidInput(
                    f"Your files fill {_size(used)} of the {_size(most)} that they may. "
                    "Remove conversations with files that you no longer need."
                )

    def forget_files(self, names: Iterable[str]) -> None:
        """Delete the bytes, once the transaction that deleted the rows is through."""
        for name in names:
            if not is_temporary(name):
                with suppress(OSError):
                    (self.folder / name).unlink(missing_ok=True)

    def _link(self, old: Path, new: Path) -> None:
        """The same bytes under a second name: by a hard link where the disk can."""
        with said(new):
            try:
                os.link(old, new)
            except OSError:
                write_whole(new, old.read_bytes())


def recognised(name: str, data: bytes, media_type: str = "") -> tuple[str, str | None]:
    """The media type of a file and its text, None for an image.

    Raises InvalidInput, in words for the person who sent it.
    """
    try:
        seen = picture(data)
    except ValueError as error:
        raise InvalidInput(f"{name!r} looks like an image, but {error}.") from error
    if seen is not None:
        if seen.width * seen.height > MOST_PIXELS:
            raise InvalidInput(
                f"{name!r} has {seen.width:,} x {seen.height:,} pixels; "
                f"{MOST_PIXELS // 1_000_000} million are the most. Make it smaller."
            )
        return seen.media_type, None
    text = _text(data)
    if text is None:
        raise InvalidInput(
            f"{name!r} is neither text (UTF-8) nor an image (PNG, JPEG, GIF, WebP). "
            "Save it as one of these and attach it again."
        )
    named = media_type.partition(";")[0].strip().lower()
    for kind in (named, mimetypes.guess_type(name)[0] or ""):
        if kind.startswith("text/") or kind in ("application/json", "application/yaml"):
            acts = any(word in kind for word in _ONLY_TEXT)
            plain = acts or len(kind) > 100 or not kind.isascii() or not kind.isprintable()
            return ("text/plain" if plain else kind), text
    return "text/plain", text


def shown_name(name: str) -> str:
    """A file's name as it is shown: the last part of a path, on one line, not too long."""
    last = cleaned(name).replace("\\", "/").rstrip("/").rpartition("/")[2]
    # Format characters could turn the direction of what follows, and hide an extension.
    line = "".join(c for c in last if unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp"))
    stem, dot, ending = line.strip().rpartition(".")
    if dot and len(ending) <= 20:
        return (stem[: NAME_LENGTH - len(ending) - 1] + dot + ending) or "file"
    return line.strip()[:NAME_LENGTH] or "file"


def _text(data: bytes) -> str | None:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if _CONTROLS.intersection(text) else text


def _unused() -> ColumnElement[bool]:
    return attachments.c.conversation.is_(None)


def _read(connection: Connection, owner: str, name: str) -> Attachment:
    query = select(attachments).where(
        attachments.c.id == checked_id("attachment", name), attachments.c.owner == owner
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("attachment", name)
    return _value(row)


def _value(row: Row[Any]) -> Attachment:
    return Attachment(**row._mapping)


def _row(attachment: Attachment) -> dict[str, Any]:
    return {column.name: getattr(attachment, column.name) for column in attachments.c}


def _part(row: Row[Any]) -> Part:
    return {
        "type": "attachment",
        "id": row.id,
        "name": row.name,
        "media_type": row.media_type,
        "size": row.size,
    }


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"
