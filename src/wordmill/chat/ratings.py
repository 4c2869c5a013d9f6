"""What people think of answers: thumbs, and which of several was the better.

Both keep pointing at the messages, which keep their model, the request that was sent and whether a
person edited them: so they can become training data.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, insert, select
from sqlalchemy import delete as deleted
from sqlalchemy.engine import Row

from wordmill.chat.inputs import checked
from wordmill.chat.places import Stored, new_name
from wordmill.chat.rows import conversation_row, message_row
from wordmill.chat.types import OPEN, Feedback, Owner, Preference
from wordmill.database import conversations, feedback, messages, now, preferences
from wordmill.errors import Conflict, InvalidInput, NotFound

REASON_CHARACTERS = 100
COMMENT_CHARACTERS = 10_000


class Ratings(Stored):
    """The part of `Conversations` that has to do with judgements."""

    def feedback(
        self,
        person: Owner,
        message: str,
        score: int,
        reason: str | None = None,
        comment: str | None = None,
    ) -> Feedback | None:
        """Say what the person thinks of an answer, instead of what was said before.

        score: 1 for good, -1 for bad; 0 takes it back, and None is returned.
        Raises NotFound, InvalidInput, and Conflict while the answer is still being written.
        """
        if isinstance(score, bool) or score not in (-1, 0, 1):
            raise InvalidInput(f"score: {score!r:.40} is none of 1, 0 and -1.", "score")
        reason = checked(reason, "reason", REASON_CHARACTERS) if reason else None
        comment = checked(comment, "comment", COMMENT_CHARACTERS) if comment else None
        theirs = and_(feedback.c.message == message, feedback.c.person == person.id)
        with self.places.begin(message) as connection:
            row = message_row(connection, person.id, message)
            _check_answer(row)
            created = connection.execute(select(feedback.c.created).where(theirs)).scalar()
            connection.execute(deleted(feedback).where(theirs))
            if not score:
                return None
            at = now()
            said = Feedback(message, person.id, score, reason, comment, created or at, at)
            connection.execute(
                insert(feedback).values({c.name: getattr(said, c.name) for c in feedback.c})
            )
        return said

    def ratings(self, person: Owner, conversation: str) -> dict[str, Feedback]:
        """What the person thinks of the answers of a conversation, by message. Raises NotFound."""
        with self.places.read(conversation) as connection:
            conversation_row(connection, person.id, conversation)
            rows = connection.execute(
                select(feedback)
                .join(messages, messages.c.id == feedback.c.message)
                .where(messages.c.conversation == conversation, feedback.c.person == person.id)
                .order_by(messages.c.number)
            )
            return {row.message: Feedback(**row._mapping) for row in rows}

    def prefer(
        self, person: Owner, prompt: str, chosen: str, rejected: Sequence[str]
    ) -> Preference:
        """Record that of several answers to `prompt` one is better than the others.

        Another choice among the same answers replaces the first.
        Raises NotFound, InvalidInput when they are not different answers to that message, and
        Conflict while one is still being written.
        """
        answers = [chosen, *rejected]
        if len(answers) < 2 or len(set(answers)) != len(answers):
            raise InvalidInput("A choice is between two or more different answers.", "rejected")
        with self.places.begin(prompt) as connection:
            row = message_row(connection, person.id, prompt)
            found = {
                one.id: one
                for one in connection.execute(select(messages).where(messages.c.parent == prompt))
            }
            for name in answers:
                if name not in found:
                    raise NotFound(f"answer to the message {prompt}", name)
                _check_answer(found[name])
            before = select(preferences).where(
                preferences.c.prompt == prompt, preferences.c.owner == person.id
            )
            for one in connection.execute(before).all():
                if {one.chosen, *one.rejected} == set(answers):
                    connection.execute(deleted(preferences).where(preferences.c.id == one.id))
            new = Preference(
                id=new_name(prompt),
                owner=person.id,
                conversation=row.conversation,
                prompt=prompt,
                chosen=chosen,
                rejected=tuple(rejected),
                created=now(),
            )
            values = {c.name: getattr(new, c.name) for c in preferences.c}
            connection.execute(insert(preferences).values(values))
        return new

    def preferences(self, person: Owner, conversation: str) -> list[Preference]:
        """The person's choices in a conversation, oldest first. Raises NotFound."""
        with self.places.read(conversation) as connection:
            conversation_row(connection, person.id, conversation)
            rows = connection.execute(
                select(preferences)
                .join(conversations, conversations.c.id == preferences.c.conversation)
                .where(
                    preferences.c.conversation == conversation,
                    preferences.c.owner == person.id,
                )
                .order_by(preferences.c.id)
            )
            return [_preference(one) for one in rows]


def _check_answer(row: Row[Any]) -> None:
    if row.role != "assistant":
        raise InvalidInput(f"The message {row.id} is {row.role}'s: only answers are judged.")
    if row.state in OPEN:
        raise Conflict(f"The message {row.id} is still being written. Judge it when it is done.")


def _preference(row: Row[Any]) -> Preference:
    values = dict(row._mapping)
    values["rejected"] = tuple(values["rejected"])
    return Preference(**values)
