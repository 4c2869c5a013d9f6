"""Where a command is given: by whom, in which conversation, through which door."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wordmill.accounts.types import Person
from wordmill.chat.types import Conversation
from wordmill.errors import InvalidInput
from wordmill.models import REHEARSAL

if TYPE_CHECKING:
    from wordmill.accounts import Accounts
    from wordmill.batches import Batches
    from wordmill.chat.conversations import Conversations
    from wordmill.chat.documents import Documents
    from wordmill.chat.turns import Chat
    from wordmill.completions import Completions
    from wordmill.models import Catalog
    from wordmill.providers.base import Model
    from wordmill.runs.desk import Desk, Wish
    from wordmill.runs.registry import Run
    from wordmill.settings import Settings


class House(Protocol):
    """The services that commands use; `channels.house.House` is one."""

    settings: "Settings"
    catalog: "Catalog"
    accounts: "Accounts"
    conversations: "Conversations"
    documents: "Documents"
    completions: "Completions"
    chat: "Chat"
    batches: "Batches"

    def slow_to_begin(self, model: "Model") -> bool:
        """Whether a model must be loaded on this machine before it answers."""

    def desk(self, person: Person) -> "Desk":
        """The runs of a person."""

    def start_run(self, person: Person, wish: "Wish") -> "Run":
        """Begin a run; it is worked on elsewhere."""


@dataclass(frozen=True, slots=True)
class Context:
    """Whoever gives a command, and where.

    conversation_id: None while nothing has been said yet.
    model: what the door would begin a conversation with; None is the house's default.
    temporary: whether it would keep nothing of it.
    mark: how commands are typed here, `/` or `--`, for what is said about them.
    """

    person: Person
    house: House
    door: str
    conversation_id: str | None = None
    model: str | None = None
    temporary: bool = False
    mark: str = "/"

    def conversation(self) -> Conversation:
        """The conversation. Raises InvalidInput where there is none, NotFound for another's."""
        if self.conversation_id is None:
            raise InvalidInput("Nothing has been said here yet, so there is no conversation.")
        return self.house.conversations.get(self.person, self.conversation_id)

    def begun(self) -> Conversation:
        """The conversation; begun now where there is none. Say its id in the outcome then."""
        if self.conversation_id is not None:
            return self.conversation()
        return self.house.conversations.create(
            self.person, model=self.model, temporary=self.temporary
        )

    def model_name(self) -> str:
        """What answers here."""
        chosen = self.conversation().model if self.conversation_id is not None else None
        return chosen or self.model or self.house.settings.default_model or REHEARSAL.name

    def typed(self, usage: str) -> str:
        """A command as one types it here, in Markdown."""
        return f"`{self.mark}{usage}`"
