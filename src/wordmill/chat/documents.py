"""Documents of people: what each has chosen, made of their conversations, put into their Drive."""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import delete, insert, select, update

from wordmill.accounts import Accounts, Person
from wordmill.chat.conversations import Conversations
from wordmill.chat.documenting import Choices, chosen, compose, said, title_of
from wordmill.chat.exporting import as_markdown, word
from wordmill.chat.types import Conversation, Message, is_temporary
from wordmill.database import Database, now
from wordmill.database import document_choices as table
from wordmill.documents import look
from wordmill.documents.drive import Place, Sent
from wordmill.documents.making import KINDS, Maker
from wordmill.errors import Conflict, InvalidInput, NotFound, StorageError
from wordmill.settings import Settings
from wordmill.storage import said as told
from wordmill.storage import write_whole

Form: TypeAlias = Literal["docx", "odt", "pdf", "markdown"]

FORMS: Final[tuple[Form, ...]] = ("docx", "odt", "pdf", "markdown")
_ENDINGS: Final[Mapping[Form, str]] = {"docx": "docx", "odt": "odt", "pdf": "pdf", "markdown": "md"}
_OWNER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Wish:
    """Which document. n, m: the answers from the n-th to the m-th, counted from the end; whole: all
    that was said; message: that one alone.  over: what is chosen otherwise this once.
    """

    form: Form = "docx"
    n: int | None = None
    m: int | None = None
    whole: bool = False
    message: str | None = None
    over: Mapping[str, bool] | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A document. title: as it is called; ending: of its file's name, without the dot."""

    title: str
    ending: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """What somebody has chosen. folder: of Google Drive; None for none."""

    choices: Choices
    folder: Place | None
    template: bool


class Documents:
    """The documents of all people. Safe from any thread."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        accounts: Accounts,
        conversations: Conversations,
        maker: Maker | None = None,
    ) -> None:
        self._database = database
        self._folder = settings.home / "document-templates"
        self._accounts, self._conversations = accounts, conversations
        self.maker = maker or Maker()
        self._lock = threading.Lock()

    # What is chosen

    def kept(self, person: Person) -> Kept:
        """What somebody has chosen."""
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.person == person.id)).one_or_none()
        there = self._template(person).is_file()
        if row is None:
            return Kept(Choices(), None, there)
        known = {name: value for name, value in row.choices.items() if name in asdict(Choices())}
        folder = Place(row.folder, row.folder_name or "") if row.folder else None
        return Kept(Choices(**known), folder, there)

    def choose(self, person: Person, **values: Any) -> Choices:
        """Change some choices. Raises InvalidInput for what is none."""
        new = self.kept(person).choices.changed(values)
        self._store(person, choices=asdict(new))
        return new

    def set_folder(
        self, person: Person, link: str | None, conversation: str | None = None
    ) -> Place | None:
        """Where documents go in Google Drive: all of a person's, or those of one conversation.

        link: the folder's share link; None takes it back.
        Raises InvalidInput for a link to anything else, ConfigError where no Drive is connected,
        NotFound for another's conversation, ExportError where Google does not answer.
        """
        if conversation is not None:
            self._conversations.get(person, conversation)
        place = None if link is None else self._accounts.drives.place(person, link)
        folder = None if place is None else place.id
        if conversation is not None:
            self._conversations.change(person, conversation, drive_folder=folder)
        else:
            self._store(person, folder=folder, folder_name=place.name if place else None)
        return place

    def set_template(self, person: Person, data: bytes) -> None:
        """A .docx whose styles and pages a person's documents take from now on.

        Raises InvalidInput for a file that is none, ExtraMissing, StorageError.
        """
        write_whole(self._template(person), look.completed(data))

    def remove_template(self, person: Person) -> None:
        """Take it back. Raises NotFound."""
        path = self._template(person)
        if not path.is_file():
            raise NotFound("template", "docx")
        with told(path):
            path.unlink(missing_ok=True)

    def forget(self, person: Person) -> None:
        """All that is kept of somebody whose account is removed."""
        with self._database.begin() as connection:
            connection.execute(delete(table).where(table.c.person == person.id))
        self._template(person).unlink(missing_ok=True)
        self._accounts.drives.forget(person)

    # Documents

    def make(self, person: Person, conversation: str, wish: Wish) -> Made:
        """A document of a conversation.

        Raises NotFound, Conflict where there is nothing to make it of, InvalidInput for what is too
        long, ConfigError for a form that nothing here makes, ExportError where a program failed.
        """
        of = self._conversations.get(person, conversation)
        kept = self.kept(person)
        # A whole conversation is hard to read without who said what.
        choices = replace(kept.choices, speakers=True) if wish.whole else kept.choices
        choices = choices.changed(wish.over or {})
        messages = self._messages(person, conversation, wish, choices)
        if wish.form == "markdown":
            text = as_markdown(of, messages, language=person.language)
            return Made(title_of(of, person.language), "md", "text/markdown", text.encode())
        document = compose(
            of, messages, choices, author=person.name,
            speakers=self._speakers(person, messages), made=now().date(),
            language=person.language or "en", data=lambda name: self._bytes(person, name),
        )  # fmt: skip
        template = self._template(person)
        with told(template):
            look_ = template.read_bytes() if kept.template else None
        data = self.maker.make(document, wish.form, look_)
        return Made(document.title, _ENDINGS[wish.form], KINDS[wish.form].media_type, data)

    def _messages(
        self, person: Person, conversation: str, wish: Wish, choices: Choices
    ) -> list[Message]:
        if wish.message is not None:
            one = self._conversations.message(person, wish.message)
            if one.conversation != conversation:
                raise NotFound("message of this conversation", wish.message)
            return said([one])
        branch = self._conversations.branch(person, conversation)
        if wish.whole:
            return said(branch)
        return chosen(branch, wish.n, wish.m, speakers=choices.speakers)

    def _speakers(self, person: Person, messages: Sequence[Message]) -> dict[str, str]:
        """The names of others who talked along, by their ids."""
        names: dict[str, str] = {}
        for author in {one.author for one in messages} - {"", person.id}:
            try:
                names[author] = self._accounts.people.get(author).name
            except NotFound:
                names[author] = word("Somebody", person.language)
        return names

    def goes_to_drive(self, person: Person, conversation: Conversation) -> bool:
        """Whether a person wants the documents of a conversation in Google Drive."""
        if conversation.drive_folder or self.kept(person).folder is not None:
            return True
        return self._accounts.drives.status(person) is not None

    def deliver(self, person: Person, conversation: str, made: Made) -> Sent:
        """Put a document into Google Drive: a new file, whatever is there of its name.

        Raises ConfigError where no Drive is connected any more, InvalidInput for a folder that is
        gone, ExportError where Google does not take it.
        """
        of = self._conversations.get(person, conversation)
        if is_temporary(conversation):
            raise Conflict("Nothing of a temporary conversation is kept, and nothing in a Drive.")
        kept = self.kept(person)
        folder = of.drive_folder or (kept.folder.id if kept.folder else None)
        as_doc = kept.choices.google_doc and made.ending in ("docx", "odt")
        name = made.title if as_doc else f"{made.title}.{made.ending}"
        return self._accounts.drives.use(
            person,
            lambda drive, place: drive.upload(
                name, made.data, made.media_type, place, google_doc=as_doc
            ),
            folder,
        )

    def _bytes(self, person: Person, attachment: str) -> bytes | None:
        try:
            return self._conversations.attachments.data(person, attachment)
        except (NotFound, StorageError):
            return None

    def _template(self, person: Person) -> Path:
        if not _OWNER.fullmatch(person.id):
            raise InvalidInput("This account can have no template.")
        return self._folder / f"{person.id}.docx"

    def _store(self, person: Person, **values: Any) -> None:
        """Change a person's row; it is made where there is none."""
        with self._lock, self._database.begin() as connection:
            query = update(table).where(table.c.person == person.id)
            if connection.execute(query.values(updated=now(), **values)).rowcount:
                return
            row = {"choices": asdict(Choices()), "updated": now(), **values}
            connection.execute(insert(table).values(person=person.id, **row))
