"""What the tests of turns say and look at."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.chat.turns import Turn
from wordmill.chat.types import Conversation, Message


def until(truth: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something to be true."""
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


@dataclass
class Talk:
    """One person's conversation in a house."""

    house: House
    person: Person
    conversation: Conversation

    @classmethod
    def begun(cls, house: House, person: Person, **fields: object) -> "Talk":
        return cls(house, person, house.conversations.create(person, **fields))

    @property
    def id(self) -> str:
        return self.conversation.id

    def send(self, text: str, **more: object) -> Turn:
        return self.house.chat.send(self.person, self.id, text, door="web", **more)

    def say(self, text: str, **more: object) -> Message:
        """Say something and wait for the answer."""
        return self.ended(self.send(text, **more).answer)

    def ended(self, answer: str) -> Message:
        """An answer, once it is there."""
        for _ in self.house.chat.watch(self.person, answer):
            pass
        return self.message(answer)

    def message(self, name: str) -> Message:
        return self.house.conversations.message(self.person, name)

    def branch(self) -> list[tuple[str, str]]:
        """Who says what in the branch that is shown."""
        found = self.house.conversations.branch(self.person, self.id)
        return [(message.role, message.text) for message in found]
