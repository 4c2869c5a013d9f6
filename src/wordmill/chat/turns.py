"""Taking turns: somebody says something, a model answers, and nobody has to wait beside it.

An answer is a job of the server. Whoever asked may close the page, come back, look from two places
at once; what has come is stored as it grows. One conversation answers one question after another,
and what waits is seen to wait.

This is what people do, whatever door they come through. `answering` makes the answers, `watching`
shows them as they grow, `parameters` holds how a model is asked, `tools` what it may call.
"""

import logging
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from wordmill.accounts import Accounts, Person, catalog_of
from wordmill.chat import requests, tool_calls
from wordmill.chat.answering import TITLE, TOOLS, TURN, Answering
from wordmill.chat.conversations import Conversations
from wordmill.chat.imports import IMPORT, Imports
from wordmill.chat.inputs import checked_json
from wordmill.chat.parameters import Parameters, named
from wordmill.chat.tools import Tools
from wordmill.chat.types import AT_HEAD, Conversation, Message, is_temporary
from wordmill.chat.watching import Event, Store, Watching
from wordmill.completions import Completions
from wordmill.database import Database
from wordmill.errors import Conflict, InvalidInput, NotFound, WordmillError
from wordmill.jobs import Jobs
from wordmill.models import REHEARSAL
from wordmill.queues.base import Queue, Work
from wordmill.queues.embedded import Embedded
from wordmill.settings import Settings

MOST_COMPARED: Final = 6
ORDERS: Final = 64
"""Locks that the conversations share."""

log = logging.getLogger(__name__)

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What was begun. question: what is answered.  answers: one for each model asked."""

    job: str
    conversation: str
    question: str
    answers: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The answer, or the first of several."""
        return self.answers[0]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that waits for a yes. message: the tool's.  arguments: JSON text."""

    message: str
    id: str
    server: str
    tool: str
    arguments: str


class Chat:
    """The one turn-taking core, for every door. Safe from any thread.

    It can be asked at once; answers are made from `open` to `close`, or by another process that is
    open on the same database.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        accounts: Accounts,
        conversations: Conversations,
        completions: Completions,
        jobs: Jobs,
    ) -> None:
        self._database, self._settings = database, settings
        self._conversations, self._jobs = conversations, jobs
        self._watching = Watching()
        self._lock = threading.Lock()
        self._orders = tuple(threading.Lock() for _ in range(ORDERS))
        self._queue: Queue | None = None
        self._private: Jobs | None = None
        self.parameters = Parameters(database, settings)
        self.tools = Tools(database, settings, accounts)
        self.imports = Imports(settings, conversations, jobs, self._wake)
        self._answering = Answering(
            database, settings, accounts, conversations, completions, self.parameters, self.tools,
            self._watching,
        )  # fmt: skip

    # The work.

    def open(self) -> None:
        """Begin to make answers; what an earlier process left is seen to."""
        with self._lock:
            handlers = {
                TURN: self._answering.work,
                TITLE: self._answering.title,
                IMPORT: self._import,
            }
            self._queue = Embedded(self._jobs, handlers, self._settings.answers_at_once)
            if self._private is not None:
                self._queue.serve(self._private)
            self._queue.start()
        threading.Thread(target=self._recover, name="wordmill-recover", daemon=True).start()

    def close(self, grace: float) -> None:
        """Give back what is at hand, in at most `grace` seconds."""
        with self._lock:
            queue, self._queue = self._queue, None
        if queue is not None:
            queue.stop(grace)
        self.tools.close()

    @property
    def working(self) -> bool:
        """Whether answers are made here."""
        return self._queue is not None and self._queue.alive

    # What people do.

    def send(
        self,
        person: Person,
        conversation: str,
        text: str,
        *,
        attachments: Sequence[str] = (),
        door: str,
        model: str | None = None,
        parent: str | None = AT_HEAD,
        schema: Json | None = None,
        compare: Sequence[str] = (),
        once: str | None = None,
        speaker: Person | None = None,
    ) -> Turn:
        """Say something, and have it answered.

        model: for this answer; by default the conversation's.  schema: the answer must follow it.
        compare: models that answer side by side instead.
        once: an idempotency key of this person; a second message with it is the first.
        speaker: who says it where others talk along in somebody's conversation, and pays for it.
        Raises NotFound, UnknownName, InvalidInput.
        """
        found = self._conversations.get(person, conversation)
        if once is not None and (known := self._jobs_of(conversation).find(person.id, once)):
            return _turn(known.id, known.payload)
        if not text.strip() and not attachments:
            raise InvalidInput("There is nothing to send: the message is empty.", "text")
        names = self._models(person, found, model, compare)
        schema = None if schema is None else _checked_schema(schema)
        author = None if speaker is None else speaker.id
        with self._order(conversation):
            question = self._conversations.add(
                person, conversation, "user", text, attachments=attachments, door=door,
                parent=parent, author=author, once=once,
            )  # fmt: skip
            return self._begin(
                person, found, question.id, names, door, schema=schema, once=once, speaker=author
            )

    def regenerate(
        self,
        person: Person,
        message: str,
        *,
        door: str = "",
        model: str | None = None,
        speaker: Person | None = None,
    ) -> Turn:
        """Another answer beside this one; for a person's message, another answer to it.

        speaker: who wants it, if it is not whose conversation it is; they pay for it.
        Raises NotFound, UnknownName, Conflict.
        """
        found = self._conversations.message(person, message)
        above = found.id if found.role == "user" else found.parent
        if found.role not in ("user", "assistant") or above is None:
            raise Conflict("This message answers nothing, so it cannot be answered again.")
        conversation = self._conversations.get(person, found.conversation)
        schema = (found.sent or {}).get("schema")
        wanted = model or (found.model if found.role == "assistant" else None)
        names = self._models(person, conversation, self._still(wanted, person), ())
        with self._order(conversation.id):
            return self._begin(
                person, conversation, above, names, door or found.door, schema=schema,
                speaker=None if speaker is None else speaker.id,
            )  # fmt: skip

    def edit(
        self,
        person: Person,
        message: str,
        text: str,
        *,
        door: str = "",
        attachments: Sequence[str] | None = None,
        speaker: Person | None = None,
    ) -> Turn:
        """Say it differently: a sibling of the message, with an answer of its own.

        attachments: by default those of the message.  speaker: as in `send`.
        Raises NotFound, Conflict, InvalidInput.
        """
        found = self._conversations.message(person, message)
        if found.role != "user":
            raise Conflict("Only what a person said can be said differently.")
        return self.send(
            person,
            found.conversation,
            text,
            attachments=found.attachments if attachments is None else attachments,
            door=door or found.door,
            parent=found.parent,
            speaker=speaker,
        )

    def continue_(self, person: Person, message: str, *, door: str = "") -> Turn:
        """Go on with an answer that was cut, in a sibling that begins with what is there.

        Raises NotFound, Conflict.
        """
        found = self._conversations.message(person, message)
        if found.role != "assistant" or found.parent is None or not found.ended:
            raise Conflict("Only an answer that has ended can be continued.")
        if not found.text:
            raise Conflict("There is nothing to go on with: no word of this answer came.")
        conversation = self._conversations.get(person, found.conversation)
        names = self._models(person, conversation, self._still(found.model, person), ())
        with self._order(conversation.id):
            return self._begin(
                person, conversation, found.parent, names, door or found.door, goes_on=found.id
            )

    def stop(self, person: Person, name: str) -> list[str]:
        """End what is open in a conversation, or one message; what has come stays. Their ids.

        Raises NotFound.
        """
        try:
            message = self._conversations.message(person, name)
            wanted, only = [message], True
        except NotFound:
            wanted, only = self._conversations.open_messages(person, name), False
        # The last first: what waits behind an answer would else begin when that is stopped.
        ended = {
            one.id
            for one in reversed(wanted)
            if one.role in ("assistant", "tool") and not one.ended and self._end(person, one, only)
        }
        return [one.id for one in wanted if one.id in ended]

    def confirm(self, person: Person, message: str, call: str | None, yes: bool) -> Turn:
        """Allow a tool's call, or not; the answer goes on when every call has been decided.

        message: the tool's message, or the answer that calls.  call: which of its calls.
        What follows is paid by whoever asked, also in somebody else's conversation.
        Raises NotFound, Conflict when it has been decided already.
        """
        found = self._conversations.message(person, message)
        calls = tool_calls.Calls(self._conversations, self.tools, self._watching, None)
        answer = calls.answer_of(person, found)
        while found.role != "tool" or call not in (None, tool_calls.result_of(found)["id"]):
            later = self._following(person, found)
            if later is None or later.role == "assistant":
                raise NotFound("tool call", str(call))
            found = later
        calls.decide(person, found, yes)
        payload: dict[str, Any] = {"answers": [answer.id], "question": answer.parent}
        if schema := (answer.sent or {}).get("schema"):
            payload["schema"] = schema
        if (speaker := self.speaker(person, answer.id)) is not None:
            payload["speaker"] = speaker.id
        return self._put(person, answer.conversation, payload)

    def speaker(self, person: Person, message: str) -> Person | None:
        """Who else asked what an answer is to, in a conversation of this person; None where it is
        theirs, or where whoever it was is here no more. Raises NotFound.
        """
        found = self._conversations.message(person, message)
        branch = self._conversations.branch(person, found.conversation, head=message)
        asked = next((one for one in reversed(branch) if one.role == "user"), None)
        if asked is None or asked.author in ("", person.id):
            return None
        try:
            return self._answering.person(asked.author)
        except NotFound:
            return None

    def course(self, person: Person, message: str) -> list[Message]:
        """A message and, of an answer that calls tools, all that follows from it, in order.

        Raises NotFound.
        """
        found = [self._conversations.message(person, message)]
        while (later := self._following(person, found[-1])) is not None:
            found.append(later)
        return found

    def last_of(self, person: Person, message: str) -> Message:
        """The answer in which `course` comes to words last; the message itself without any.

        Raises NotFound.
        """
        course = self.course(person, message)
        answers = [one for one in course if one.role == "assistant" and one.text.strip()]
        return answers[-1] if answers else course[0]

    def asks(self, person: Person, conversation: str) -> list[Call]:
        """The calls of a conversation that wait for a yes, oldest first. Raises NotFound."""
        found = []
        calls = tool_calls.Calls(self._conversations, self.tools, self._watching, None)
        for message in self._conversations.open_messages(person, conversation):
            if message.role != "tool" or message.state != "waiting":
                continue
            if not self._asks(message) or not calls.answer_of(person, message).ended:
                continue  # it needs no yes, or what it is to be called with is not written yet
            part = tool_calls.result_of(message)
            arguments = calls.arguments(person, message)
            found.append(Call(message.id, part["id"], part["server"], part["tool"], arguments))
        return found

    def set_here(
        self, person: Person, conversation: str, name: str, value: object
    ) -> tuple[object, object]:
        """Set one parameter for a conversation alone, or take it back with None; before and after.

        Raises NotFound, UnknownName, InvalidInput.
        """
        found, parameter = self._conversations.get(person, conversation), named(name)
        (model,) = self._models(person, found, None, ())
        before = self.parameters.effective(person, model, found).get(parameter.name)
        settings = {key: old for key, old in found.settings.items() if key != parameter.name}
        if value is not None:
            catalog = catalog_of(self._database, self._settings, person.id)
            self.parameters.check(catalog.get(model), parameter.name)
            settings[parameter.name] = parameter.read(value)
        found = self._conversations.change(person, conversation, settings=settings)
        return before, self.parameters.effective(person, model, found).get(parameter.name)

    def use_tools(self, person: Person, conversation: str, servers: Sequence[str]) -> Conversation:
        """Choose the tool servers of a conversation; none by default.

        Raises NotFound, UnknownName.
        """
        found = self._conversations.get(person, conversation)
        settings = {key: value for key, value in found.settings.items() if key != TOOLS}
        if servers:
            settings[TOOLS] = self.tools.usable(servers)
        return self._conversations.change(person, conversation, settings=settings)

    def watch(
        self, person: Person, message: str, after: int = 0, thought: int = 0
    ) -> Iterator[Event]:
        """An answer as it grows, and those in which it goes on after calls of tools.

        after, thought: characters of text and of reasoning that the watcher has already.
        Raises NotFound, at once.
        """
        self._conversations.message(person, message)
        return self._watching.watch(message, after, thought, self._store(person))

    def watch_async(
        self, person: Person, message: str, after: int = 0, thought: int = 0
    ) -> AsyncIterator[Event]:
        """The same for an event loop: no thread waits. Raises NotFound at the first step."""
        return self._watching.watch_async(message, after, thought, self._store(person))

    def sent(self, person: Person, message: str) -> dict[str, Any]:
        """The exact request that an answer was made from. Raises NotFound, Conflict."""
        found = self._conversations.message(person, message)
        if not found.sent or "fields" not in found.sent:
            raise Conflict("Nothing was sent for this message.")
        try:
            return requests.shown(found.sent, self._answering.made(person, found))
        except NotFound as error:
            raise Conflict(f"It cannot be shown any more. {error}") from error

    # How it is done.

    def _end(self, person: Person, message: Message, only: bool) -> bool:
        """End one open message; whether it was still open."""
        if self._watching.stop(message.id):
            return True
        jobs = self._jobs_of(message.conversation)
        begun = message.state == "answering" and (
            message.role == "assistant" or (message.sent or {}).get("started")
        )
        if begun:  # by another process: it is told, and what came until then is kept
            for job in jobs.all(person.id, subject=message.conversation, open_only=True):
                answers = job.payload.get("answers", ())
                alone = not only or len(answers) == 1
                if job.state == "running" and message.id in answers and alone:
                    jobs.cancel(person.id, job.id)
                    if (queue := self._queue) is not None:
                        queue.ask(job.id)  # it was between two requests of this process
                    return True
        try:
            text = tool_calls.LEFT if message.role == "tool" else None
            self._conversations.finish(message.id, "stopped", text=text)
        except Conflict:
            return self._watching.stop(message.id)
        self._watching.stop(message.id)  # its worker may have begun with it at this moment
        return True

    def _order(self, conversation: str) -> threading.Lock:
        """Held while messages are added and their job is put: jobs are done in the order in which
        they were put, and an answer ends what is still open above it.
        """
        return self._orders[hash(conversation) % ORDERS]

    def _begin(
        self,
        person: Person,
        conversation: Conversation,
        above: str,
        models: Sequence[str],
        door: str,
        *,
        schema: Json | None = None,
        goes_on: str | None = None,
        once: str | None = None,
        speaker: str | None = None,
    ) -> Turn:
        answers = [
            self._conversations.add(
                person,
                conversation.id,
                "assistant",
                "",
                parent=above,
                door=door,
                state="waiting",
                model=model,
                move_head=number == 0,
            ).id
            for number, model in enumerate(models)
        ]
        payload: dict[str, Any] = {"answers": answers, "question": above}
        payload |= {"schema": schema} if schema is not None else {}
        payload |= {"goes_on": goes_on} if goes_on is not None else {}
        payload |= {"speaker": speaker} if speaker not in (None, person.id) else {}
        turn = self._put(person, conversation.id, payload, once)
        if turn.answers != tuple(answers):  # somebody sent the same at the same time
            for name in answers:
                self._conversations.finish(name, "stopped")
        return turn

    def _put(
        self, person: Person, conversation: str, payload: Json, once: str | None = None
    ) -> Turn:
        jobs = self._jobs_of(conversation)
        payload = {**payload, "conversation": conversation}
        job = jobs.put(person.id, TURN, payload, subject=conversation, once=once)
        if once is not None:
            payload = jobs.get(person.id, job).payload
        self._wake()
        return _turn(job, payload)

    def _wake(self) -> None:
        if (queue := self._queue) is not None:
            queue.wake()

    def _import(self, work: Work) -> None:
        self.imports.work(work, self._answering.person(work.job.owner))

    def _jobs_of(self, conversation: str) -> Jobs:
        """Where the jobs of a conversation are put: of a temporary one, nothing is kept on disk."""
        if not is_temporary(conversation):
            return self._jobs
        with self._lock:
            if self._private is None:
                self._private = Jobs(self._conversations.places.memory)
                if self._queue is not None:
                    self._queue.serve(self._private)
            return self._private

    def _models(
        self,
        person: Person,
        conversation: Conversation,
        model: str | None,
        compare: Sequence[str],
    ) -> list[str]:
        standard = self._settings.default_model or REHEARSAL.name
        names = list(dict.fromkeys(compare)) or [model or conversation.model or standard]
        if len(names) > MOST_COMPARED:
            raise InvalidInput(
                f"At most {MOST_COMPARED} models answer side by side, not {len(names)}.", "compare"
            )
        catalog = catalog_of(self._database, self._settings, person.id)
        for name in names:
            catalog.get(name)
        return names

    def _still(self, model: str | None, person: Person) -> str | None:
        """The model of an earlier answer, if it is there: an imported one may name any."""
        known = catalog_of(self._database, self._settings, person.id).names()
        return model if model in known else None

    def _store(self, person: Person) -> Store:
        return Store(
            lambda name: self._conversations.message(person, name),
            lambda message: self._following(person, message),
            self._asks,
        )

    def _asks(self, message: Message) -> bool:
        return not self.tools.trusted(tool_calls.result_of(message)["server"])

    def _following(self, person: Person, message: Message) -> Message | None:
        if message.role != "tool" and not requests.calls_of(message):
            return None
        return tool_calls.following(self._conversations.children(person, message.id), message)

    def _recover(self) -> None:
        try:
            if left := self._answering.recover():
                log.warning("%d messages were left open by an earlier process", left)
            self.imports.sweep()
        except (WordmillError, OSError) as error:
            log.error("what an earlier process left could not be seen to: %s", error)


def _turn(job: str, payload: Json) -> Turn:
    return Turn(job, payload["conversation"], payload["question"], tuple(payload["answers"]))


def _checked_schema(schema: Json) -> dict[str, Any]:
    """A JSON schema that an answer can follow. Raises InvalidInput."""
    made: dict[str, Any] = checked_json(dict(schema), "schema")
    from jsonschema_rs import ValidationError, validator_for  # only where a schema is given

    try:
        validator_for(made)
    except (ValidationError, ValueError) as error:
        raise InvalidInput(f"schema: this is no JSON schema: {error}.", "schema") from error
    return made
