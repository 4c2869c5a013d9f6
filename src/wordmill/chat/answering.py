"""Making answers: what a worker does with a job of the kind `turn`.

After a restart an answer of which nothing had come is made again; one that had begun is kept as it
was and marked interrupted, since asking again would cost again and say something else. A tool that
was running is not run again: nobody knows whether it did its work.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import exists, select

from wordmill import telemetry
from wordmill.accounts import Accounts, Person, catalog_of
from wordmill.chat import requests, titles, tool_calls
from wordmill.chat.context import Fitted, Wire, fit
from wordmill.chat.conversations import Conversations
from wordmill.chat.parameters import BUFFER, Parameters
from wordmill.chat.reasoning import Splitter
from wordmill.chat.tokens import Tokens
from wordmill.chat.tools import Tools
from wordmill.chat.types import (
    OPEN,
    Attachment,
    Conversation,
    Fence,
    Message,
    State,
    is_temporary,
)
from wordmill.chat.watching import Watching
from wordmill.completions import Answer, Completions
from wordmill.database import Database, jobs, messages, now
from wordmill.errors import Conflict, NotFound, WordmillError
from wordmill.jobs import ENDED as ENDED_JOBS
from wordmill.providers.base import Model
from wordmill.queues.base import Work
from wordmill.settings import Settings

TURN: Final = "turn"
TITLE: Final = "title"
TOOLS: Final = "tools"
"""In the settings of a conversation: the tool servers that it uses."""
FLUSH: Final = 0.5
"""Seconds between writes of what has come."""
BEGUN: Final = 3
"""An answer whose worker died so many times before a word came is given up."""
REFITS: Final = 4
"""How often a request is made smaller because it is more than the model reads."""
FORGOTTEN: Final = timedelta(seconds=30)
"""A message is added first and its job put then; after that long nobody will put it any more."""

log = logging.getLogger(__name__)

Json: TypeAlias = Mapping[str, Any]


class Answering:
    """The work of the turns. Safe from any thread: each answer is made in one."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        accounts: Accounts,
        conversations: Conversations,
        completions: Completions,
        parameters: Parameters,
        tools: Tools,
        watching: Watching,
    ) -> None:
        self._database, self._settings = database, settings
        self._accounts, self._conversations = accounts, conversations
        self._completions, self._parameters = completions, parameters
        self._tools, self._watching = tools, watching
        self._tokens, self._limits = Tokens(settings), _Limits()

    def work(self, work: Work) -> None:
        """Make the answers of a job: the handler of the kind `turn`."""
        person = self.person(work.job.owner)
        answers = work.job.payload["answers"]
        threads = [
            threading.Thread(target=self._answer, args=(work, person, name), daemon=True)
            for name in answers[1:]
        ]
        for thread in threads:
            thread.start()
        self._answer(work, person, answers[0])
        for thread in threads:
            thread.join()

    def title(self, work: Work) -> None:
        """Let the model name a conversation that has no name yet: the handler of `title`."""
        person, payload = self.person(work.job.owner), work.job.payload
        conversation = self._conversations.get(person, payload["conversation"])
        answer = self._conversations.message(person, payload["answer"])
        if conversation.titled_by or answer.parent is None:
            return
        question = self._conversations.message(person, answer.parent)
        asked = titles.request(question.text, answer.text)
        reply, _ = self._completions.ask(
            person, payload["model"], asked, door="title", subject=conversation.id
        )
        if found := titles.cleaned(reply.text):
            self._conversations.change(person, conversation.id, title=found, titled_by="model")

    def recover(self) -> int:
        """Mark what an earlier process left open and nobody works on; how many messages."""
        asks = messages.alias("asks")
        waits_for_a_yes = exists().where(
            asks.c.conversation == messages.c.conversation,
            asks.c.role == "tool",
            asks.c.state == "waiting",
        )
        has_a_job = exists().where(
            jobs.c.subject == messages.c.conversation, jobs.c.state.not_in(ENDED_JOBS)
        )
        query = select(messages.c.id).where(
            messages.c.state.in_(OPEN),
            messages.c.updated < now() - FORGOTTEN,
            ~waits_for_a_yes,
            ~has_a_job,
        )
        with self._database.read() as connection:
            left = list(connection.execute(query).scalars())
        for name in left:
            try:
                self._conversations.finish(name, "interrupted")
            except WordmillError as error:
                log.info("%s is left as it is: %s", name, error)
        return len(left)

    def made(self, person: Person, message: Message) -> list[Wire]:
        """The messages of an answer's request, as they follow from its branch.

        Raises NotFound when a file of them is there no more.
        """
        record = message.sent or {}
        branch = self._conversations.branch(person, message.conversation, head=message.parent)
        read, sees = self._reader(person), bool(record.get("sees", True))
        wires: list[Wire] = []
        if record.get("system"):
            wires.append({"role": "system", "content": record["system"]})
        wanted = set(record.get("messages", ()))
        chosen = [one for one in branch if one.id in wanted]
        for turn in reversed(list(requests.turns(chosen, read, sees))):
            wires += turn.messages
        return wires + self._going_on(person, record.get("goes_on"))

    # One answer.

    def person(self, owner: str) -> Person:
        """Whose job it is."""
        people = self._accounts.people
        return people.local() if owner == people.local().id else people.get(owner)

    def _answer(self, work: Work, person: Person, name: str) -> None:
        """Make one answer, with all the calls and further answers that follow from it."""
        fence = Fence(work.job.id, work.lease.fence)
        going: str | None = name
        while going is not None:
            name = going
            try:
                going = self._one(work, person, name, fence)
                continue
            except Conflict as error:
                log.info("the answer %s is not ours any more: %s", name, error)
            except NotFound:
                log.info("the answer %s was removed, or was another process's", name)
            except WordmillError as error:
                self._fail(name, str(error), fence)
            except Exception:  # a fault of ours must not leave a message open for ever
                log.exception("the answer %s met a fault of Wordmill", name)
                self._fail(name, "A fault of Wordmill; its log says more.", fence)
            going = None
            self._watching.end(name)

    def _one(self, work: Work, person: Person, name: str, fence: Fence) -> str | None:
        """One message of a chain of answers and calls; the next one to see to."""
        message = self._conversations.message(person, name)
        calls = tool_calls.Calls(self._conversations, self._tools, self._watching, fence)
        if message.ended:
            return calls.go_on(person, message)
        if message.role == "tool":
            return calls.run(work, person, message)
        if message.state == "answering" and message.text:
            self._conversations.finish(name, "interrupted", fence=fence)
        elif work.closing:
            return None
        elif work.stop or person.disabled:
            self._conversations.finish(name, "stopped", fence=fence)
        elif work.job.attempts > BEGUN:
            words = (
                f"It was begun {BEGUN} times, and each time the server ended before a word came."
            )
            self._conversations.finish(name, "failed", error=words, fence=fence)
        else:
            with telemetry.measured(
                "turn", person=person.id, door=message.door, model=message.model,
                conversation=message.conversation, answer=name,
            ) as told:  # fmt: skip
                if self._make(work, person, message, calls, told):
                    return name
        return None

    def _fail(self, name: str, words: str, fence: Fence) -> None:
        try:
            self._conversations.finish(name, "failed", error=words, fence=fence)
        except WordmillError as error:
            log.error("the failure of %s (%s) could not be written: %s", name, words, error)

    def _make(
        self,
        work: Work,
        person: Person,
        message: Message,
        calls: tool_calls.Calls,
        told: dict[str, telemetry.Field],
    ) -> bool:
        """Ask, write down what comes, end the message; whether there is more to do for it.

        told: what is said of it in the log.
        """
        conversation = self._conversations.get(person, message.conversation)
        fence = Fence(work.job.id, work.lease.fence)
        for _ in range(REFITS):
            asking = self._ask(work, person, conversation, message, calls)
            writing = _Writing(self._conversations, message.id, fence, asking.begun)
            with asking.answer as answer:
                self._begin(work, message, asking, writing)
                state = self._write(work, message, answer, writing)
            told |= _told(asking.answer, state)
            if state == "failed" and not writing.length and self._limits.learn(asking):
                self._watching.end(message.id)
                continue
            break
        if work.closing and not writing.stopped and state != "done":
            writing.flush()  # it is kept, and marked interrupted by whoever takes it up
            told["state"] = "interrupted"
            self._watching.end(message.id)
            return False
        more = self._finish(person, message, asking, writing, state, calls)
        self._watching.end(message.id)
        if state == "done" and not more:
            self._want_title(work, person, conversation, message)
        return more

    def _ask(
        self,
        work: Work,
        person: Person,
        conversation: Conversation,
        message: Message,
        calls: tool_calls.Calls,
    ) -> "_Asking":
        """Send the request: what fits, with what holds for this person and this model."""
        payload, name = work.job.payload, str(message.model)
        model = catalog_of(self._database, self._settings, person.id).get(name)
        key = (name, model.base_url)
        sees = "vision" not in model.without and self._limits.sees(key)
        branch = self._conversations.branch(person, conversation.id, head=message.parent)
        if any(not one.ended for one in branch):
            calls.leave(branch)
            branch = self._conversations.branch(person, conversation.id, head=message.parent)
        values = self._parameters.effective(person, name, conversation)
        buffer, bound = values.pop(BUFFER, None), values.get("max_tokens")
        first = message.id in payload["answers"]  # and not one that follows a tool
        schema, goes_on = payload.get("schema"), payload.get("goes_on") if first else None
        beside = self._going_on(person, goes_on)
        begun = str(beside[0]["content"]) if beside else ""
        servers = conversation.settings.get("tools") or ()
        offer = self._tools.offered(
            () if tool_calls.rounds(branch) >= tool_calls.ROUNDS else servers
        )
        fitted = fit(
            requests.turns(branch, self._reader(person), sees),
            sum(map(requests.says, branch)),
            conversation.system,
            count=lambda wires: self._tokens.count(model, wires),
            window=self._limits.window(key, model.context),
            answer=bound if isinstance(bound, int) else None,
            buffer=buffer if isinstance(buffer, int) else None,
            beside=beside,
        )
        made = [*fitted.messages, *beside]
        body = requests.body(made, values, schema, offer.functions)
        speaker = payload.get("speaker")  # in somebody's conversation: with their own key and quota
        answer = self._completions.stream(
            person if speaker is None else self.person(speaker), name, body, door=message.door,
            subject=conversation.id,
        )  # fmt: skip
        record = {
            "system": conversation.system,
            "messages": list(fitted.ids),
            "dropped": fitted.dropped,
            "tokens": fitted.tokens,
            "counted": "tokenizer" if self._tokens.exact(model) else "estimate",
            "sees": sees,
        }
        record |= {"schema": schema} if schema is not None else {}
        record |= {"goes_on": goes_on} if goes_on else {}
        return _Asking(model, answer, fitted, made, record, begun, list(offer.notes), offer.owners)

    def _begin(self, work: Work, message: Message, asking: "_Asking", writing: "_Writing") -> None:
        def stop() -> None:
            writing.stopped = True
            asking.answer.cancel()

        self._watching.begin(message.id, stop)
        self._watching.add(message.id, asking.begun)
        self._conversations.answering(message.id, sent=asking.sent(), fence=writing.fence)
        if work.stop:
            asking.answer.cancel()

    def _write(self, work: Work, message: Message, answer: Answer, writing: "_Writing") -> State:
        """Take the pieces, keep and show them; how it ended."""
        splitter = Splitter()
        for delta in answer:
            text, thought = splitter.add(delta.text) if delta.text else ("", "")
            self._take(message, writing, text, delta.reasoning + thought)
            # Asked only while nothing comes: then a piece is empty, about once a second.
            silent = not (writing.length or delta.text or delta.reasoning)
            self._watching.waits(message.id, answer.place() if silent else None)
            if work.stop:
                answer.cancel()
        self._take(message, writing, *splitter.rest())
        if writing.stopped or (work.stop and not work.closing):
            return "stopped"
        return "done" if answer.reply is not None and answer.reply.error is None else "failed"

    def _take(self, message: Message, writing: "_Writing", text: str, reasoning: str) -> None:
        if text or reasoning:
            self._watching.add(message.id, text, reasoning)
            writing.add(text, reasoning)

    def _finish(
        self,
        person: Person,
        message: Message,
        asking: "_Asking",
        writing: "_Writing",
        state: State,
        calls: tool_calls.Calls,
    ) -> bool:
        """Write the end of an answer; whether it calls tools."""
        if state == "done":
            asking.notes += asking.answer.notes()
        reply, record = asking.answer.reply, asking.sent()
        usage = timing = error = finish = None
        parts: list[Json] = []
        if reply is not None:
            usage = {
                "input": reply.usage.input,
                "output": reply.usage.output,
                "estimated": reply.usage.estimated,
                "cost": reply.cost,
            }
            timing = {
                "first": asking.answer.first,
                "seconds": reply.seconds,
                "attempts": reply.attempts,
            }
            finish = reply.finish
            if state == "done" and not reply.usage.estimated:
                off = self._tokens.learn(asking.model, asking.made, reply.usage.input)
                record["estimate_error"] = round(off, 3)
        if state == "failed":
            kind, detail = (reply.error, reply.detail) if reply else ("dropped", "no record came")
            error = f"The model {message.model!r} gave no answer ({kind}): {detail}"
        if record.get("schema") is not None and state == "done":
            value = requests.structured(writing.text)
            parts.append({"type": "structured", "schema": record["schema"], "value": value})
        found = tool_calls.calls_in(asking.answer.body, asking.owners) if state == "done" else []
        if found:
            calls.prepare(person, message, found)
        self._conversations.finish(
            message.id,
            state,
            text=writing.text,
            reasoning=writing.reasoning,
            parts=[*parts, *found] or None,
            model=None if reply is None else reply.model,
            finish=finish,
            error=error,
            usage=usage,
            timing=timing,
            sent=record,
            fence=writing.fence,
        )
        return bool(found)

    def _want_title(
        self, work: Work, person: Person, conversation: Conversation, message: Message
    ) -> None:
        """Once in the life of a conversation, and nobody waits for it."""
        if not self._settings.titles or conversation.titled_by or is_temporary(conversation.id):
            return
        name = str(message.model)
        if catalog_of(self._database, self._settings, person.id).provider(name).rehearsal:
            return
        asked = {"conversation": conversation.id, "answer": message.id, "model": name}
        once = f"title:{conversation.id}"
        work.lease.jobs.put(person.id, TITLE, asked, once=once)

    def _going_on(self, person: Person, name: str | None) -> list[Wire]:
        return requests.going_on(self._conversations.message(person, name).text) if name else []

    def _reader(self, person: Person) -> Callable[[str], tuple[Attachment, bytes]]:
        files = self._conversations.attachments
        return lambda name: (files.get(person, name), files.data(person, name))


@dataclass
class _Asking:
    """A request on its way.

    made: its messages as they follow from the branch.
    record: what is kept of it beside them.  begun: what the answer begins with already.
    notes: sentences on what it is for the model otherwise than one would think.
    """

    model: Model
    answer: Answer
    fitted: Fitted
    made: Sequence[Wire]
    record: Json
    begun: str
    notes: list[str]
    owners: Mapping[str, tuple[str, str]]

    @property
    def key(self) -> tuple[str, str]:
        """The model's name and address."""
        return (self.model.name, self.model.base_url)

    def sent(self) -> dict[str, Any]:
        """What is kept of it, as it stands now: a refusal may have made it another one."""
        said = [*self.notes, *self.answer.degraded]
        kept = {**self.record, **requests.kept(self.answer.sent, self.made)}
        return {**kept, "degraded": said} if said else kept


@dataclass
class _Limits:
    """What models turned out not to take, by name and address. In memory: it is found out again."""

    _blind: set[tuple[str, str]] = field(default_factory=set)
    _windows: dict[tuple[str, str], int] = field(default_factory=dict)

    def sees(self, key: tuple[str, str]) -> bool:
        """Whether it takes pictures, as far as is known."""
        return key not in self._blind

    def window(self, key: tuple[str, str], said: int | None) -> int | None:
        """What it reads, in tokens: what the catalog says, or less."""
        learnt = self._windows.get(key)
        return said if learnt is None else min(learnt, said or learnt)

    def learn(self, asking: _Asking) -> bool:
        """From a refusal; whether to ask again, differently."""
        reply = asking.answer.reply
        if reply is None or reply.error != "rejected":
            return False
        words = reply.detail
        if asking.record["sees"] and _has_pictures(asking.made) and _NO_PICTURES.search(words):
            self._blind.add(asking.key)
            return True
        if _TOO_LONG.search(words) and len(asking.fitted.ids) > 1:
            sizes = [int(number) for number in re.findall(r"\d{3,}", words.replace(",", ""))]
            before = self._windows.get(asking.key)
            least = min(sizes, default=0)
            if not least or (before is not None and least >= before):
                least = asking.fitted.tokens // 2
            self._windows[asking.key] = max(16, least)
            return True
        return False


_NO_PICTURES: Final = re.compile(
    r"(?i)image|picture|vision|multi-?modal|content.{0,80}(?:must be a string|valid string)"
    r"|(?:expected|invalid type).{0,40}string.{0,60}content"
)
_TOO_LONG: Final = re.compile(
    r"(?i)context.{0,20}(?:length|window|size)|maximum.{0,20}tokens|too many tokens"
    r"|(?:prompt|input).{0,30}too (?:long|large)|n_ctx"
)


def _told(answer: Answer, state: State) -> dict[str, telemetry.Field]:
    """For the log: how an answer went, and none of its words."""
    reply = answer.reply
    if reply is None:
        return {"state": state}
    return {
        "state": state,
        "answered": reply.model,
        "first": answer.first,
        "input_tokens": reply.usage.input,
        "output_tokens": reply.usage.output,
        "attempts": reply.attempts,
        "finish": reply.finish,
        "error": reply.error if state == "failed" else None,
    }


def _has_pictures(wires: Sequence[Wire]) -> bool:
    return any(isinstance(wire.get("content"), list) for wire in wires)


class _Writing:
    """What has come of an answer, stored now and then as it grows."""

    def __init__(
        self, conversations: Conversations, message: str, fence: Fence, begun: str
    ) -> None:
        self._conversations, self._message, self.fence = conversations, message, fence
        self._texts, self._thoughts = [begun], [""]
        self.length = 0
        """Characters that came, of both kinds."""
        self.stopped = False
        """Somebody wanted its end."""
        self._stored = 0.0

    @property
    def text(self) -> str:
        """All of it, with what it was begun with."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """What it thought."""
        return "".join(self._thoughts)

    def add(self, text: str, reasoning: str) -> None:
        """A piece has come. Raises Conflict when the answer is another worker's by now."""
        self._texts.append(text)
        self._thoughts.append(reasoning)
        self.length += len(text) + len(reasoning)
        if time.monotonic() - self._stored >= FLUSH:
            self.flush()

    def flush(self) -> None:
        """Store it now."""
        self._stored = time.monotonic()
        self._conversations.partial(self._message, self.text, self.reasoning, fence=self.fence)
