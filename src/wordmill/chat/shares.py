"""Read-only links to a branch, as it was when it was shared.

A link carries 256 random bits, of which the database knows the SHA-256 only: it is shown once.
Whoever has it sees the messages and their files up to the shared one, and nothing that came after.
"""

import hashlib
import secrets
from dataclasses import replace

from sqlalchemy import and_, exists, insert, select, update
from sqlalchemy.engine import Connection

from wordmill.chat.attachments import Attachments
from wordmill.chat.inputs import checked_id
from wordmill.chat.messages import walked
from wordmill.chat.places import Stored
from wordmill.chat.rows import conversation_row
from wordmill.chat.types import (
    Attachment,
    Message,
    Owner,
    Share,
    Shared,
    is_temporary,
)
from wordmill.database import attachments, conversations, messages, new_id, now, people, shares
from wordmill.errors import Conflict, InvalidInput, NotFound


class Shares(Stored):
    """The part of `Conversations` that has to do with links."""

    attachments: Attachments

    def share(self, person: Owner, conversation: str, head: str | None = None) -> tuple[Share, str]:
        """A link to the shown branch, or to the one that ends with `head`: and its token, once.

        Raises NotFound, InvalidInput for a temporary or empty conversation, and Conflict while an
        answer of the branch is still being written.
        """
        if is_temporary(conversation):
            raise InvalidInput("A temporary conversation is not kept, so it cannot be shared.")
        token = secrets.token_urlsafe(32)
        with self.places.begin("") as connection:
            row = conversation_row(connection, person.id, conversation)
            head = head or row.head
            if head is None:
                raise InvalidInput("There is nothing to share: the conversation is empty.")
            branch = _branch(connection, conversation, checked_id("message", head), person.id)
            if not branch:
                raise NotFound("message", head)
            if any(not one.ended for one in branch):
                raise Conflict("An answer is still being written. Share it when it is done.")
            new = Share(new_id(), conversation, head, now())
            connection.execute(
                insert(shares).values(
                    digest=_digest(token),
                    id=new.id,
                    owner=person.id,
                    conversation=conversation,
                    head=head,
                    created=new.created,
                )
            )
        return new, token

    def shares(self, person: Owner, conversation: str | None = None) -> list[Share]:
        """The person's links, of one conversation or of all, oldest first; revoked ones too.

        Raises NotFound for a conversation that is not theirs.
        """
        query = select(shares).where(shares.c.owner == person.id).order_by(shares.c.id)
        if conversation is not None:
            query = query.where(shares.c.conversation == conversation)
        with self.places.read("") as connection:
            if conversation is not None:
                conversation_row(connection, person.id, conversation)
            return [
                Share(row.id, row.conversation, row.head, row.created, row.revoked)
                for row in connection.execute(query)
            ]

    def revoke(self, person: Owner, share: str) -> None:
        """End a link at once. Harmless when repeated. Raises NotFound."""
        mine = and_(shares.c.id == checked_id("link", share), shares.c.owner == person.id)
        with self.places.begin("") as connection:
            statement = update(shares).where(mine, shares.c.revoked.is_(None))
            if connection.execute(statement.values(revoked=now())).rowcount:
                return
            if connection.execute(select(shares.c.id).where(mine)).scalar() is None:
                raise NotFound("link", share)

    def shared(self, token: str) -> Shared:
        """What a link shows. Raises NotFound for one that is not, or no longer, good."""
        with self.places.read("") as connection:
            shown, _ = _opened(connection, token)
        return shown

    def shared_attachment(self, token: str, attachment: str) -> tuple[Attachment, bytes]:
        """A file of a shared branch. Raises NotFound."""
        with self.places.read("") as connection:
            shown, owner = _opened(connection, token)
            if not any(attachment in one.attachments for one in shown.messages):
                raise NotFound("attachment", attachment)
            query = select(attachments).where(
                attachments.c.id == attachment, attachments.c.owner == owner
            )
            row = connection.execute(query).one_or_none()
            if row is None:
                raise NotFound("attachment", attachment)
            file = Attachment(**row._mapping)
            return file, self.attachments.bytes_of(connection, attachment)


def _opened(connection: Connection, token: str) -> tuple[Shared, str]:
    """What a link shows, and whose it is."""
    gone = exists().where(people.c.id == shares.c.owner, people.c.disabled)
    row = connection.execute(
        select(shares, conversations.c.title)
        .join(conversations, conversations.c.id == shares.c.conversation)
        .where(shares.c.digest == _digest(token), shares.c.revoked.is_(None), ~gone)
    ).one_or_none()
    if row is None:
        raise NotFound("shared conversation", token[:8] + "…" if len(token) > 8 else token)
    branch = _branch(connection, row.conversation, row.head, row.owner)
    shown = tuple(_bare(one) for one in branch if one.role != "system")
    return Shared(row.id, row.title, shown, row.created), row.owner


def _branch(connection: Connection, conversation: str, head: str, owner: str) -> list[Message]:
    start = and_(messages.c.conversation == conversation, messages.c.id == head)
    return walked(connection, owner, start, None)


def _bare(message: Message) -> Message:
    """A message without who wrote it, what was sent and what it cost."""
    return replace(
        message, author="", sent=None, error=None, usage=None, timing=None, origin=None,
        place=1, siblings=1,
    )  # fmt: skip


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
