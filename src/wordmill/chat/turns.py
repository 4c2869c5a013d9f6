"""Taking turns: somebody says something, a model answers, and nobody has to wait beside it.

An answer is a job of the server. Whoever asked may close the page, come back, look from two places
at once; what has come is stored as it grows. One conversation answers one question after another,
and what waits is seen to wait.

After a restart an answer of which nothing had come is made again; one that had begun is kept as it
was and marked interrupted, since asking again would cost again and say something else. `continue_`
goes on with it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wordmill.accounts import Accounts, Person, catalog_of
from wordmill.chat import requests, titles
from wordmill.chat.context import Estimator, Fitted, fit
from wordmill.chat.conversations import Conversations
from wordmill.chat.parameters import BUFFER, Parameters
from wordmill.chat.types import AT_HEAD, Attachment, Conversation, Fence, Message, State
from wordmill.chat.watching import Event, Watching
from wordmill.completions import Answer, Completions
from wordmill.database import Database
from wordmill.errors import Conflict, InvalidInput, NotFound, WordmillError
from wordmill.jobs import Jobs
from wordmill.queues.embedded import Embedded, Work
from wordmill.settings import Settings

KIND: Final = "turn"
FLUSH: Final = 0.5
"""Seconds between writes of what has come."""
MOST_COMPARED: Final = 6
ANSWER: Final = 1024
"""Tokens that are kept free for an answer that nobody bounds."""

log = logging.getLogger(__name__)

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What was begun. question: the person's message.  answers: one for each model asked."""

    job: str
    conversation: str
    question: str
    answers: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The answer, or the first of several."""
        return self.answers[0]


class Chat:
    """The one turn-taking core, for every door. Safe from any thread.

    queue: set by whoever owns the workers; without it, others look for the jobs.
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
        self._accounts, self._conversations = accounts, conversations
        self._completions, self._jobs = completions, jobs
        self._watching, self._estimator = Watching(), Estimator()
        self.parameters = Parameters(database, settings)
        self.queue: Embedded | None = None

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
    ) -> Turn:
        """Say something, and have it answered.

        model: for this answer; by default the conversation's.  schema: the answer must follow it.
        compare: models that answer side by side instead.
        Raises NotFound, UnknownName, InvalidInput.
        """
        found = self._conversations.get(person, conversation)
        if not text.strip() and not attachments:
            raise InvalidInput("There is nothing to send: the message is empty.", "text")
        names = self._models(person, found, model, compare)
        question = self._conversations.add(
            person, conversation, "user", text, attachments=attachments, door=door, parent=parent
        )
        return self._begin(person, found, question, names, door, schema)

    def regenerate(
        self, person: Person, message: str, *, door: str = "", model: str | None = None
    ) -> Turn:
        """Another answer beside this one (or, for a question, another answer to it)."""
        found = self._conversations.message(person, message)
        question = found
        if found.role != "user":
            if found.parent is None:
                raise Conflict("This message answers nothing, so it cannot be answered again.")
            question = self._conversations.message(person, found.parent)
        conversation = self._conversations.get(person, found.conversation)
        schema = (found.sent or {}).get("schema")
        names = self._models(person, conversation, model or found.model, ())
        return self._begin(person, conversation, question, names, door or found.door, schema)

    def edit(
        self,
        person: Person,
        message: str,
        text: str,
        *,
        door: str = "",
        attachments: Sequence[str] | None = None,
    ) -> Turn:
        """Say it differently: a sibling of the message, with an answer of its own."""
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
        )

    def continue_(self, person: Person, message: str, *, door: str = "") -> Turn:
        """Go on with an answer that was cut, in a sibling that begins with what is there."""
        found = self._conversations.message(person, message)
        if found.role != "assistant" or found.parent is None or not found.ended:
            raise Conflict("Only an answer that has ended can be continued.")
        conversation = self._conversations.get(person, found.conversation)
        question = self._conversations.message(person, found.parent)
        names = self._models(person, conversation, found.model, ())
        return self._begin(
            person, conversation, question, names, door or found.door, None, goes_on=found
        )

    def stop(self, person: Person, name: str) -> list[str]:
        """End the answers of a conversation, or one answer; what has come stays. Their ids.

        Raises NotFound.
        """
        try:
            message = self._conversations.message(person, name)
            wanted, conversation = [message], message.conversation
        except NotFound:
            conversation = name
            wanted = self._conversations.open_messages(person, conversation)
        answers = [one for one in wanted if one.role == "assistant" and not one.ended]
        stopped = []
        for one in answers:
            if self._watching.stop(one.id):
                stopped.append(one.id)
                continue
            for job in self._jobs.all(person.id, subject=conversation, open_only=True):
                if one.id in job.payload.get("answers", ()):
                    self._jobs.cancel(person.id, job.id)
                    if self.queue is not None:
                        self.queue.ask(job.id)
            if one.state == "waiting":
                self._conversations.finish(one.id, "stopped")
            stopped.append(one.id)
        return stopped

    def watch(
        self, person: Person, message: str, after: int = 0, thought: int = 0
    ) -> Iterator[Event]:
        """An answer as it grows, from what the watcher has already; ends with the answer.

        Raises NotFound.
        """
        self._conversations.message(person, message)
        return self._watching.watch(
            message, after, thought, lambda: self._conversations.message(person, message)
        )

    def sent(self, person: Person, message: str) -> dict[str, Any]:
        """The exact request that an answer was made from. Raises NotFound, Conflict."""
        found = self._conversations.message(person, message)
        made = found.sent
        if not made or "messages" not in made:
            raise Conflict("Nothing was sent for this message.")
        read, sees = self._reader(person), bool(made.get("sees", True))
        wires: list[Json] = []
        if made["system"]:
            wires.append({"role": "system", "content": made["system"]})
        for name in made["messages"]:
            wire = requests.wired(self._conversations.message(person, name), read, sees)
            if wire is not None:
                wires.append(wire)
        wires += _going_on(made.get("goes_on"))
        whole = requests.body(wires, made["parameters"], made.get("schema"))
        return {"model": found.model, **whole}

    # The work.

    def work(self, work: Work) -> None:
        """Make the answers of a job: the handler of the kind `turn`."""
        payload = work.job.payload
        person = self._accounts.people.get(work.job.owner) if work.job.owner != "local" else None
        person = person or self._accounts.people.local()
        threads = [
            threading.Thread(target=self._answer, args=(work, person, name), daemon=True)
            for name in payload["answers"][1:]
        ]
        for thread in threads:
            thread.start()
        self._answer(work, person, payload["answers"][0])
        for thread in threads:
            thread.join()

    def _answer(self, work: Work, person: Person, name: str) -> None:
        try:
            message = self._conversations.message(person, name)
        except NotFound:
            return  # its conversation was removed, or was a temporary one of another process
        if message.ended:
            return
        fence = Fence(work.job.id, work.lease.fence)
        if message.state == "answering" and message.text:
            self._conversations.finish(name, "interrupted", fence=fence)
            return
        if work.stop:
            if not work.closing:
                self._conversations.finish(name, "stopped", fence=fence)
            return
        try:
            self._make(work, person, message, fence)
        except Conflict as error:
            log.info("the answer %s is another worker's: %s", name, error)
        except WordmillError as error:
            self._conversations.finish(name, "failed", error=str(error), fence=fence)
            self._watching.end(name, "failed")

    def _make(self, work: Work, person: Person, message: Message, fence: Fence) -> None:
        payload, model = work.job.payload, str(message.model)
        conversation = self._conversations.get(person, message.conversation)
        fitted, body, sent = self._request(person, conversation, message, payload)
        self._conversations.answering(message.id, model=model, sent=sent, fence=fence)
        answer = self._completions.stream(
            person, model, body, door=message.door, subject=message.conversation
        )
        begun = str((payload.get("goes_on") or {}).get("text", ""))
        writing = _Writing(self._conversations, message.id, fence, begun)
        wanted: list[State] = []

        def stop() -> None:
            wanted.append("stopped")
            answer.cancel()

        self._watching.begin(message.id, stop)
        if begun:
            self._watching.add(message.id, begun, "")
        state: State = "failed"
        try:
            state = self._write(work, message, answer, writing, wanted)
        finally:
            answer.close()
            if work.closing and not wanted:
                writing.flush()  # it is kept, and marked interrupted by whoever takes it up
                self._watching.end(message.id, "interrupted")
        if work.closing and not wanted:
            return
        self._finish(message, answer, writing, state, sent, fitted)
        self._watching.end(message.id, state)
        if state == "done":
            self._title(person, conversation, model)

    def _write(
        self,
        work: Work,
        message: Message,
        answer: Answer,
        writing: "_Writing",
        wanted: Sequence[State],
    ) -> State:
        """Take the pieces, keep and show them; how it ended."""
        for delta in answer:
            if delta.text or delta.reasoning:
                writing.add(delta.text, delta.reasoning)
                self._watching.add(message.id, delta.text, delta.reasoning)
            if work.stop:
                answer.cancel()
        if wanted or (work.stop and not work.closing):
            return "stopped"
        return "done" if answer.reply is not None and answer.reply.error is None else "failed"

    def _finish(
        self,
        message: Message,
        answer: Answer,
        writing: "_Writing",
        state: State,
        sent: dict[str, Any],
        fitted: Fitted,
    ) -> None:
        reply = answer.reply
        usage = timing = None
        finish, error, parts = None, None, []
        if reply is not None:
            usage = {
                "input": reply.usage.input,
                "output": reply.usage.output,
                "estimated": reply.usage.estimated,
                "cost": reply.cost,
            }
            timing = {
                "first": answer.first,
                "seconds": reply.seconds,
                "attempts": reply.attempts,
            }
            finish = reply.finish
            if state == "failed":
                error = (
                    f"The model {message.model!r} gave no answer ({reply.error}): {reply.detail}"
                )
            elif state == "done" and not reply.usage.estimated:
                off = self._estimator.learn(str(message.model), fitted.messages, reply.usage.input)
                sent = {**sent, "estimate_error": round(off, 3)}
            if sent.get("schema") is not None and state == "done":
                value = requests.structured(writing.text)
                parts.append({"type": "structured", "schema": sent["schema"], "value": value})
            parts += _tool_calls(answer.body)
        if answer.degraded:
            sent = {**sent, "degraded": answer.degraded}
        self._conversations.finish(
            message.id,
            state,
            text=writing.text,
            reasoning=writing.reasoning,
            parts=parts or None,
            model=None if reply is None else reply.model,
            finish=finish,
            error=error,
            usage=usage,
            timing=timing,
            sent=sent,
            fence=writing.fence,
        )

    # What is asked.

    def _request(
        self, person: Person, conversation: Conversation, message: Message, payload: Json
    ) -> tuple[Fitted, dict[str, Any], dict[str, Any]]:
        """What fits, the body that is sent, and what is kept to show it again."""
        name = str(message.model)
        model = catalog_of(self._database, self._settings, person.id).get(name)
        sees = "vision" not in model.without
        branch = self._conversations.branch(person, conversation.id, head=message.parent)
        values = self.parameters.effective(person, name, conversation)
        buffer = values.pop(BUFFER, None)
        bound = values.get("max_tokens")
        fitted = fit(
            requests.turns(branch, self._reader(person), sees),
            conversation.system,
            model=name,
            estimator=self._estimator,
            window=model.context,
            answer=bound if isinstance(bound, int) else ANSWER,
            buffer=buffer if isinstance(buffer, int) else None,
        )
        schema, goes_on = payload.get("schema"), payload.get("goes_on")
        body = requests.body([*fitted.messages, *_going_on(goes_on)], values, schema)
        sent = {
            "system": conversation.system,
            "messages": list(fitted.ids),
            "parameters": values,
            "dropped": fitted.dropped,
            "tokens": fitted.tokens,
            "sees": sees,
        }
        if schema is not None:
            sent["schema"] = schema
        if goes_on:
            sent["goes_on"] = goes_on
        return fitted, body, sent

    def _reader(self, person: Person) -> Callable[[str], tuple[Attachment, bytes]]:
        files = self._conversations.attachments
        return lambda name: (files.get(person, name), files.data(person, name))

    def _models(
        self,
        person: Person,
        conversation: Conversation,
        model: str | None,
        compare: Sequence[str],
    ) -> list[str]:
        names = list(dict.fromkeys(compare)) or [
            model or conversation.model or self._settings.default_model or "rehearsal"
        ]
        if len(names) > MOST_COMPARED:
            raise InvalidInput(
                f"At most {MOST_COMPARED} models answer side by side, not {len(names)}.", "compare"
            )
        catalog = catalog_of(self._database, self._settings, person.id)
        for name in names:
            catalog.get(name)
        return names

    def _begin(
        self,
        person: Person,
        conversation: Conversation,
        question: Message,
        models: Sequence[str],
        door: str,
        schema: Json | None,
        goes_on: Message | None = None,
    ) -> Turn:
        answers = [
            self._conversations.add(
                person,
                conversation.id,
                "assistant",
                "",
                parent=question.id,
                door=door,
                state="waiting",
                model=model,
                move_head=number == 0,
            ).id
            for number, model in enumerate(models)
        ]
        payload: dict[str, Any] = {"answers": answers}
        if schema is not None:
            payload["schema"] = dict(schema)
        if goes_on is not None:
            payload["goes_on"] = {"text": goes_on.text}
        job = self._jobs.put(person.id, KIND, payload, subject=conversation.id)
        if self.queue is not None:
            self.queue.wake()
        return Turn(job, conversation.id, question.id, tuple(answers))

    def _title(self, person: Person, conversation: Conversation, model: str) -> None:
        """Let the model name a conversation that has no name yet; nobody waits for it."""
        now = self._conversations.get(person, conversation.id)
        if now.titled_by:
            return
        branch = self._conversations.branch(person, conversation.id, limit=2)
        if len(branch) < 2:
            return
        asked = titles.request(branch[0].text, branch[1].text)
        try:
            reply, _ = self._completions.ask(
                person, model, asked, door="title", subject=conversation.id
            )
            if title := titles.cleaned(reply.text):
                self._conversations.change(person, conversation.id, title=title, titled_by="model")
        except WordmillError as error:
            log.info("no title for %s: %s", conversation.id, error)


class _Writing:
    """What has come of an answer, stored now and then as it grows."""

    def __init__(
        self, conversations: Conversations, message: str, fence: Fence, begun: str
    ) -> None:
        self._conversations, self._message, self.fence = conversations, message, fence
        self.text, self.reasoning = begun, ""
        self._stored = 0.0

    def add(self, text: str, reasoning: str) -> None:
        """A piece has come. Raises Conflict when the answer is another worker's by now."""
        self.text += text
        self.reasoning += reasoning
        if time.monotonic() - self._stored >= FLUSH:
            self.flush()

    def flush(self) -> None:
        """Store it now."""
        self._stored = time.monotonic()
        self._conversations.partial(self._message, self.text, self.reasoning, fence=self.fence)


def _going_on(goes_on: Json | None) -> list[Json]:
    if not goes_on:
        return []
    return [
        {"role": "assistant", "content": goes_on["text"]},
        {"role": "user", "content": requests.CONTINUE},
    ]


def _tool_calls(body: Json | None) -> list[dict[str, Any]]:
    if not body:
        return []
    choices = body.get("choices") or [{}]
    calls = (choices[0].get("message") or {}).get("tool_calls") or ()
    return [
        {
            "type": "tool_call",
            "id": str(call.get("id", "")),
            "name": str(call.get("function", {}).get("name", "")),
            "arguments": str(call.get("function", {}).get("arguments", "")),
        }
        for call in calls
    ]
