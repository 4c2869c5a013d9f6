"""The messages of a conversation: reading branches, adding, and the growth of an answer.

Only three methods change a message that is there: `answering`, `partial` and `finish`, and only
while it is open (waiting or answering). They are the turn runner's, which holds a job and not a
person; the fence it brings says whether the job is still its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, insert, select, update
from sqlalchemy.engine import Connection

from wordmill.chat import tree
from wordmill.chat.attachments import Attachments
from wordmill.chat.inputs import checked, checked_id, checked_json, cleaned, cleaned_json
from wordmill.chat.places import Stored, check_room, name_of_once, new_name
from wordmill.chat.rows import (
    conversation_of,
    conversation_row,
    message_of,
    message_row,
    origin_of,
    stored_parts,
)
from wordmill.chat.types import (
    AT_HEAD,
    ENDED,
    OPEN,
    ROLES,
    Conversation,
    Fence,
    Message,
    Owner,
    Part,
    Role,
    State,
    Totals,
    is_temporary,
)
from wordmill.database import conversations, jobs, messages, now
from wordmill.errors import Conflict, InvalidInput, NotFound

TITLE_LENGTH = 60
"""Of the first message, what stands for a title until there is a better one, in characters."""
MOST_PARTS = 1000

Json = Mapping[str, Any]


class Messages(Stored):
    """The part of `Conversations` that has to do with messages."""

    attachments: Attachments

    def message(self, person: Owner, message: str) -> Message:
        """One message. Raises NotFound."""
        with self.places.read(message) as connection:
            message_row(connection, person.id, message)
            return _read(connection, person.id, messages.c.id == message)[0]

    def branch(
        self,
        person: Owner,
        conversation: str,
        head: str | None = None,
        limit: int | None = None,
        before: str | None = None,
    ) -> list[Message]:
        """The branch that is shown, or the one that ends with `head`; oldest first.

        limit: at most so many, the last ones.  before: the ones above this message, for "earlier".
        Raises NotFound.
        """
        of_this = messages.c.conversation == checked_id("conversation", conversation)
        if before is not None:
            named = messages.alias("named")
            parent = select(named.c.parent).where(
                named.c.id == checked_id("message", before), named.c.conversation == conversation
            )
            start = and_(messages.c.id == parent.scalar_subquery(), of_this)
        elif head is not None:
            start = and_(messages.c.id == checked_id("message", head), of_this)
        else:
            start = and_(of_this, messages.c.id == conversations.c.head)
        with self.places.read(conversation) as connection:
            found = walked(connection, person.id, start, _limit(limit))
            if not found:
                conversation_row(connection, person.id, conversation)
                if before or head:
                    check_in(connection, conversation, before or head or "")
        return found

    def tree(self, person: Owner, conversation: str) -> list[Message]:
        """All messages of all branches, oldest first. Raises NotFound."""
        with self.places.read(conversation) as connection:
            conversation_row(connection, person.id, conversation)
            of_this = messages.c.conversation == conversation
            return _read(connection, person.id, of_this)

    def siblings(self, person: Owner, message: str) -> list[Message]:
        """The message and the others with its parent, oldest first. Raises NotFound."""
        with self.places.read(message) as connection:
            row = message_row(connection, person.id, message)
            same_parent = (
                messages.c.parent == row.parent
                if row.parent is not None
                else func.coalesce(messages.c.parent, "") == ""
            )
            of_this = messages.c.conversation == row.conversation
            return _read(connection, person.id, and_(of_this, same_parent))

    def children(self, person: Owner, message: str) -> list[Message]:
        """The messages that follow a message directly, oldest first. Raises NotFound."""
        with self.places.read(message) as connection:
            message_row(connection, person.id, message)
            return _read(connection, person.id, messages.c.parent == message)

    def open_messages(self, person: Owner, conversation: str) -> list[Message]:
        """What waits or is being answered, oldest first. Raises NotFound."""
        with self.places.read(conversation) as connection:
            conversation_row(connection, person.id, conversation)
            return _read(
                connection,
                person.id,
                and_(messages.c.conversation == conversation, messages.c.state.in_(OPEN)),
            )

    def switch(self, person: Owner, message: str) -> Conversation:
        """Show the branch through this message, down to its newest leaf. Raises NotFound."""
        with self.places.begin(message) as connection:
            row = message_row(connection, person.id, message)
            leaf = connection.execute(tree.newest_leaf(message)).scalar_one()
            return _set_head(connection, person.id, row.conversation, leaf)

    def undo(self, person: Owner, conversation: str) -> Conversation:
        """Show the branch as it was before the last message of a person; nothing is deleted.

        Raises NotFound, and Conflict when there is none.
        """
        with self.places.begin(conversation) as connection:
            conversation_row(connection, person.id, conversation, lock=True)
            shown = and_(
                messages.c.conversation == conversation, messages.c.id == conversations.c.head
            )
            walk = tree.upwards(shown, person.id, None)
            last = connection.execute(
                select(messages.c.parent)
                .join(walk, walk.c.id == messages.c.id)
                .where(messages.c.role == "user")
                .order_by(walk.c.depth)
                .limit(1)
            ).one_or_none()
            if last is None:
                raise Conflict("There is nothing to undo: nobody has said anything yet.")
            return _set_head(connection, person.id, conversation, last.parent)

    def add(
        self,
        person: Owner,
        conversation: str,
        role: Role,
        text: str,
        *,
        parent: str | None = AT_HEAD,
        parts: Sequence[Part] = (),
        attachments: Sequence[str] = (),
        door: str,
        state: State = "done",
        model: str | None = None,
        reasoning: str = "",
        sent: Json | None = None,
        author: str | None = None,
        move_head: bool = True,
        once: str | None = None,
    ) -> Message:
        """A new message, under the one that ends the shown branch or under `parent`.

        parent: None makes a root. To edit a message, give its `parent`.
        attachments: ids; they come before the other parts.
        author: by default the person for users' and system messages, and "" for the others.
        move_head: whether the branch that ends with it is the one shown from now on.
        once: an idempotency key of this person; a second message with it is the first.
        Raises NotFound for a conversation, parent or attachment that is not this person's, and
        InvalidInput.
        """
        text = checked(text, "text", self.settings.message_characters)
        values = {
            "conversation": conversation,
            "role": _one_of(role, ROLES, "role"),
            "state": _one_of(state, OPEN + ENDED, "state"),
            "text": text,
            "reasoning": checked(reasoning, "reasoning", self.settings.message_characters),
            "author": (person.id if role in ("user", "system") else "")
            if author is None
            else checked(author, "author", 64),
            "door": checked(door, "door", 32),
            "model": None if model is None else checked(model, "model", 200),
            "sent": checked_json(sent, "sent"),
        }
        given: list[Part] = [{"type": "attachment", "id": name} for name in attachments]
        given += checked_json(parts, "parts")
        if len(given) > MOST_PARTS:
            raise InvalidInput(f"parts: {len(given)} are more than the {MOST_PARTS}.", "parts")
        with self.places.begin(conversation) as connection:
            check_room(connection, conversation)
            of = conversation_row(connection, person.id, conversation, lock=True)
            name, at = new_name(conversation), now()
            if once is not None:
                name = name_of_once(conversation, f"{person.id}\0{once}")
                if known := _read(connection, person.id, messages.c.id == name):
                    return known[0]
            if parent == AT_HEAD:
                parent = of.head
            elif parent is not None:
                check_in(connection, conversation, parent)
            values["parts"] = stored_parts(
                self.attachments.attach(connection, person.id, conversation, given), None
            )
            connection.execute(
                insert(messages).values(id=name, parent=parent, created=at, updated=at, **values)
            )
            changes: dict[str, Any] = {"updated": at}
            if move_head:
                changes["head"] = name
            if not of.title and role == "user":
                changes["title"] = provisional_title(text)
            connection.execute(
                update(conversations).where(conversations.c.id == conversation).values(changes)
            )
            return _read(connection, person.id, messages.c.id == name)[0]

    def fork(self, person: Owner, message: str) -> Conversation:
        """A new conversation with a copy of the branch that ends with this message.

        The copies know what they are copies of (`origin`). Raises NotFound, and Conflict while
        something of the branch is still being written.
        """
        with self.places.read(message) as connection:
            row = message_row(connection, person.id, message)
            of = conversation_row(connection, person.id, row.conversation)
            branch = walked(connection, person.id, messages.c.id == message, None)
        if any(not one.ended for one in branch):
            raise Conflict("This branch is still being answered. Fork it when it is done.")
        name, at = new_name(message), now()
        with self.attachments.copies(person, branch, name) as copies:
            copied, above = [], None
            for one in branch:
                here = new_name(message)
                parts = [
                    {**part, "id": copies.get(part["id"], part["id"])}
                    if part.get("type") == "attachment"
                    else part
                    for part in one.parts
                ]
                copied.append(
                    {
                        "id": here,
                        "conversation": name,
                        "parent": above,
                        "parts": stored_parts(parts, f"message:{one.id}"),
                        "updated": at,
                        **{field: getattr(one, field) for field in _COPIED},
                    }
                )
                above = here
            kept = {key: of._mapping[key] for key in _KEPT_BY_FORKS}
            with self.places.begin(name) as connection:
                check_room(connection, name)
                new: dict[str, Any] = {"id": name, "head": above, "created": at, "updated": at}
                new |= {"pinned": False, "archived": False}
                connection.execute(insert(conversations).values(**kept, **new))
                connection.execute(insert(messages), copied)
                self.attachments.add_copies(connection, person.id, copies, name)
                return conversation_of(conversation_row(connection, person.id, name))

    def usage(self, person: Owner, conversation: str) -> Totals:
        """What all its branches have used; copies, in a fork, used nothing. Raises NotFound."""
        total = Totals()
        with self.places.read(conversation) as connection:
            conversation_row(connection, person.id, conversation)
            rows = connection.execute(
                select(messages.c.usage, messages.c.parts).where(
                    messages.c.conversation == conversation
                )
            )
            for usage, parts in rows:
                known = {} if origin_of(parts) else usage or {}
                total = Totals(
                    total.messages + 1,
                    total.input_tokens + int(known.get("input", 0)),
                    total.output_tokens + int(known.get("output", 0)),
                    total.cost + float(known.get("cost", 0.0)),
                )
        return total

    # The turn runner's.

    def answering(
        self,
        message: str,
        *,
        model: str | None = None,
        sent: Json | None = None,
        fence: Fence | None = None,
    ) -> None:
        """Say that a message is being written from now on; also again, after an interruption.

        sent: the request that is made for it.
        Raises NotFound, and Conflict when it has ended for good or the fence is stale.
        """
        values: dict[str, Any] = {"state": "answering"}
        if model is not None:
            values["model"] = checked(model, "model", 200)
        if sent is not None:
            values["sent"] = cleaned_json(sent)
        self._change(message, (*OPEN, "interrupted"), values, fence)

    def partial(
        self, message: str, text: str, reasoning: str = "", *, fence: Fence | None = None
    ) -> None:
        """Keep what there is of an answer so far: one statement, no search index.

        Raises NotFound, and Conflict when it is not being answered or the fence is stale.
        """
        values = {"text": cleaned(text), "reasoning": cleaned(reasoning)}
        self._change(message, ("answering",), values, fence)

    def finish(
        self,
        message: str,
        state: State,
        *,
        text: str | None = None,
        reasoning: str | None = None,
        parts: Sequence[Part] | None = None,
        model: str | None = None,
        finish: str | None = None,
        error: str | None = None,
        usage: Json | None = None,
        timing: Json | None = None,
        sent: Json | None = None,
        fence: Fence | None = None,
    ) -> Message:
        """End a message; what is None stays as it was. It never changes again.

        Raises NotFound, and Conflict when it has ended already or the fence is stale.
        """
        given = {
            "text": text,
            "reasoning": reasoning,
            "model": model,
            "finish": finish,
            "error": error,
            "usage": usage,
            "timing": timing,
            "sent": sent,
        }
        values = {key: cleaned_json(value) for key, value in given.items() if value is not None}
        values["state"] = _one_of(state, ENDED, "state")
        if parts is not None:
            values["parts"] = stored_parts(cleaned_json(parts), None)
        with self.places.begin(message) as connection:
            _change(connection, message, OPEN, values, fence)
            ended = _read(connection, None, messages.c.id == message)[0]
            connection.execute(
                update(conversations)
                .where(conversations.c.id == ended.conversation)
                .values(updated=ended.updated)
            )
            return ended

    def _change(
        self, message: str, states: Sequence[State], values: dict[str, Any], fence: Fence | None
    ) -> None:
        with self.places.begin(message) as connection:
            _change(connection, message, states, values, fence)


def _change(
    connection: Connection,
    message: str,
    states: Sequence[State],
    values: dict[str, Any],
    fence: Fence | None,
) -> None:
    same = messages.c.id == checked_id("message", message)
    condition = and_(same, messages.c.state.in_(states))
    if fence is not None and not is_temporary(message):  # their jobs are not in their database
        ours = exists().where(jobs.c.id == fence.job, jobs.c.fence == fence.number)
        condition = and_(condition, ours)
    statement = update(messages).where(condition).values(updated=now(), **values)
    if connection.execute(statement).rowcount:
        return
    state = connection.execute(select(messages.c.state).where(same)).scalar()
    if state is None:
        raise NotFound("message", message)
    if state not in states:
        raise Conflict(f"The message {message} is {state} already and stays as it is.")
    raise Conflict(f"The message {message} is another worker's now.")


_COPIED = (
    "role", "state", "text", "reasoning", "author", "door", "model", "sent", "finish", "error",
    "usage", "timing", "created",
)  # fmt: skip
_KEPT_BY_FORKS = (
    "owner", "title", "titled_by", "folder", "tags", "model", "system", "settings",
    "document_title", "drive_folder",
)  # fmt: skip


def provisional_title(text: str) -> str:
    """The beginning of a first message, on one line, cut at a word."""
    line = " ".join(text[: TITLE_LENGTH * 4].split())
    if len(line) <= TITLE_LENGTH:
        return line
    head = line[: TITLE_LENGTH - 1]
    return (head.rpartition(" ")[0] or head) + "…"


def _read(
    connection: Connection, owner: str | None, condition: ColumnElement[bool]
) -> list[Message]:
    """Messages with their places among siblings, oldest first. `owner` None: the turn runner's."""
    query = select(messages, *tree.among_siblings()).where(condition).order_by(messages.c.number)
    if owner is not None:
        query = query.join(conversations, conversations.c.id == messages.c.conversation).where(
            conversations.c.owner == owner
        )
    return [message_of(row) for row in connection.execute(query)]


def walked(
    connection: Connection, owner: str, start: ColumnElement[bool], limit: int | None
) -> list[Message]:
    """The branch upwards from where `start` holds, oldest first."""
    walk = tree.upwards(start, owner, limit)
    query = (
        select(messages, *tree.among_siblings())
        .join(walk, walk.c.id == messages.c.id)
        .order_by(walk.c.depth.desc())
    )
    return [message_of(row) for row in connection.execute(query)]


def check_in(connection: Connection, conversation: str, message: str) -> None:
    """Raises NotFound for a message that is not of this conversation."""
    found = connection.execute(
        select(messages.c.id).where(
            messages.c.id == checked_id("message", message),
            messages.c.conversation == conversation,
        )
    ).scalar()
    if found is None:
        raise NotFound("message", message)


def _set_head(
    connection: Connection, owner: str, conversation: str, head: str | None
) -> Conversation:
    connection.execute(
        update(conversations)
        .where(conversations.c.id == conversation, conversations.c.owner == owner)
        .values(head=head)
    )
    return conversation_of(conversation_row(connection, owner, conversation))


def _one_of(word: object, known: Sequence[str], field: str) -> object:
    if word not in known:
        raise InvalidInput(f"{field}: {word!r} is none of {', '.join(map(str, known))}.", field)
    return word


def _limit(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise InvalidInput(f"limit: {limit} is not 1 or more.", "limit")
    return limit
