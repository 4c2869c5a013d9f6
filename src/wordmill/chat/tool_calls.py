"""Calls in a conversation: what a model asked for, the yes it needs, the result, what follows.

An answer that calls tools is followed by one message for each call and then by the answer that
goes on; all of them are there before the first one ends, so that whoever watches never finds a gap:

    answer (done, parts: the calls) -> tool (waiting) -> tool (waiting) -> answer (waiting)

A tool's message that is `waiting` waits for a yes, or for its turn where the server is trusted;
`answering`, it is allowed and is run. Its text is the result.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from wordmill.chat import requests
from wordmill.chat.types import Fence, Message, State
from wordmill.errors import Conflict

if TYPE_CHECKING:
    from wordmill.accounts import Person
    from wordmill.chat.conversations import Conversations
    from wordmill.chat.tools import Tools
    from wordmill.chat.watching import Watching
    from wordmill.queues.base import Work

ROUNDS: Final = 10
"""Answers with calls after one question; then tools are offered no more."""
DECLINED: Final = "This call was not allowed by the person."
LEFT: Final = "This call was not made: the person went on without it."
UNKNOWN: Final = "The server ended while this was running. Whether it was done is not known."

Json = Mapping[str, Any]


def calls_in(body: Json | None, owners: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """The calls of a reply, as parts. owners: the server and the tool behind each function."""
    if not body:
        return []
    choices = body.get("choices") or [{}]
    found = (choices[0].get("message") or {}).get("tool_calls") or ()
    parts: list[dict[str, Any]] = []
    for number, call in enumerate(found):
        function = call.get("function") or {}
        name = str(function.get("name", ""))
        server, tool = owners.get(name, ("", name))
        parts.append(
            {
                "type": "tool_call",
                "id": str(call.get("id") or f"call_{number}"),
                "name": name,
                "arguments": str(function.get("arguments", "")),
                "server": server,
                "tool": tool,
            }
        )
    return parts


def rounds(branch: Sequence[Message]) -> int:
    """Answers with calls since the last question of a branch."""
    count = 0
    for message in reversed(branch):
        if message.role == "user":
            break
        count += bool(requests.calls_of(message))
    return count


def following(children: Sequence[Message], message: Message) -> Message | None:
    """Where an answer that calls tools, or a tool's message, goes on; None where it does not."""
    if message.role == "assistant" and requests.calls_of(message):
        return next((one for one in children if one.role == "tool"), None)
    if message.role == "tool":
        later = [one for one in children if one.role in ("tool", "assistant")]
        return next((one for one in later if not one.ended), later[0] if later else None)
    return None


class Calls:
    """The calls of one taking of a job."""

    def __init__(
        self,
        conversations: "Conversations",
        tools: "Tools",
        watching: "Watching",
        fence: Fence | None,
    ) -> None:
        self._conversations, self._tools = conversations, tools
        self._watching, self.fence = watching, fence

    def prepare(self, person: "Person", answer: Message, calls: Sequence[Json]) -> None:
        """Add what follows an answer that calls tools."""
        shown = self._conversations.get(person, answer.conversation).head == answer.id
        above = answer.id
        for call in calls:
            part = {key: call[key] for key in ("id", "name", "server", "tool")}
            above = self._conversations.add(
                person,
                answer.conversation,
                "tool",
                "",
                parent=above,
                parts=[{"type": "tool_result", **part}],
                door=answer.door,
                state="waiting",
                move_head=shown,
            ).id
        self._conversations.add(
            person,
            answer.conversation,
            "assistant",
            "",
            parent=above,
            door=answer.door,
            state="waiting",
            model=answer.model,
            move_head=shown,
        )

    def go_on(self, person: "Person", message: Message) -> str | None:
        """What to see to after a message that has ended."""
        later = following(self._conversations.children(person, message.id), message)
        return None if later is None else later.id

    def run(self, work: "Work", person: "Person", message: Message) -> str | None:
        """Make a call that is allowed; what to see to then. None while a yes is wanted."""
        part = result_of(message)
        record = dict(message.sent or {})
        if work.closing:
            return None
        if record.get("started"):
            self._end(message, "interrupted", UNKNOWN)
        elif work.stop:
            self._end(message, "stopped", LEFT)
        elif message.state == "waiting" and not self._tools.trusted(part["server"]):
            return None
        else:
            self._call(work, person, message, part, record)
        return self.go_on(person, self._conversations.message(person, message.id))

    def _call(
        self, work: "Work", person: "Person", message: Message, part: Json, record: dict[str, Any]
    ) -> None:
        called = self.arguments(person, message)
        record["started"] = True
        self._conversations.answering(message.id, sent=record, fence=self.fence)
        stopped = threading.Event()
        self._watching.begin(message.id, stopped.set)
        try:
            result = self._tools.call(
                part["server"], part["tool"], called, lambda: stopped.is_set() or work.stop
            )
            state: State = "stopped" if result.stopped else "failed" if result.failed else "done"
            if result.stopped and work.closing:
                state = "interrupted"
            text = UNKNOWN if state == "interrupted" else result.text
            self._end(message, state, text)
        finally:
            self._watching.end(message.id)

    def arguments(self, person: "Person", message: Message) -> str:
        """Those of a tool's message, from the answer that made the call."""
        answer, name = self.answer_of(person, message), result_of(message)["id"]
        return next(
            (call["arguments"] for call in requests.calls_of(answer) if call["id"] == name), ""
        )

    def answer_of(self, person: "Person", message: Message) -> Message:
        """The answer that made the call of a tool's message."""
        while message.role == "tool" and message.parent is not None:
            message = self._conversations.message(person, message.parent)
        return message

    def decide(self, person: "Person", message: Message, yes: bool) -> None:
        """The person's yes or no. Raises Conflict when that has been said already."""
        if message.role != "tool" or message.state != "waiting":
            raise Conflict("This call has been answered already.")
        if yes:
            record = {"allowed_by": person.id}
            self._conversations.answering(message.id, sent=record, fence=self.fence)
        else:
            self._end(message, "stopped", DECLINED)

    def leave(self, branch: Sequence[Message]) -> None:
        """End what is still open above a new answer: the person went on without it."""
        for message in branch:
            if not message.ended:
                self._conversations.finish(
                    message.id, "stopped", text=LEFT if message.role == "tool" else None
                )

    def _end(self, message: Message, state: State, text: str) -> None:
        self._conversations.finish(message.id, state, text=text, fence=self.fence)


def result_of(message: Message) -> Json:
    """The part of a tool's message that says whose result it is."""
    part: Json = next(
        (part for part in message.parts if part.get("type") == "tool_result"),
        {"id": "", "name": "", "server": "", "tool": ""},
    )
    return part
