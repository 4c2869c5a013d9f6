"""Messages for a model: said in the conversation of a place, changed, tried again, rated."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wordmill.accounts import Person
from wordmill.channels.rooms.admission import called
from wordmill.channels.rooms.asking import question, quotation
from wordmill.channels.rooms.base import Incoming, Reaction
from wordmill.channels.rooms.orders import Questions
from wordmill.channels.rooms.records import Answer, Led
from wordmill.commands import COMMANDS
from wordmill.commands.language import Proposal, propose
from wordmill.commands.words import block, code
from wordmill.errors import Conflict, NotFound, StorageError, WordmillError

if TYPE_CHECKING:
    from wordmill.channels.rooms.door import Door

SCORES: Final = {"up": 1, "down": -1}
LOOK: Final = 1.0
LONGEST: Final = 10.0
"""Seconds between looks whether calls were decided elsewhere: more and more, between these."""

log = logging.getLogger(__name__)


class Talking:
    """What is said to models through one door. Used in its event loop only."""

    def __init__(self, door: "Door", questions: Questions) -> None:
        self._door, self._questions = door, questions
        self._files: dict[tuple[str, str], tuple[str, ...]] = {}

    def keep(self, incoming: Incoming, files: tuple[str, ...]) -> None:
        """Files that go with the next message of this person there."""
        self._files[incoming.place.key, incoming.sender] = files

    async def say(
        self, incoming: Incoming, person: Person, led: Led | None, text: str
    ) -> str | None:
        """Say something in the conversation of the place, begun now where there is none; the
        message that it became. None where it may mean a command, which is asked about first.
        """
        door = self._door
        if not incoming.attachments and incoming.replied is None:
            context = door.orders.context(person, led)
            proposal = await asyncio.to_thread(propose, COMMANDS, context, text)
            asks = None
            if proposal is not None:
                asks = await self._asks(incoming, person, led, proposal)
            if proposal is not None and asks is not None:

                async def obey() -> None:
                    person = await door.person(incoming)
                    outcome = await door.orders.run(
                        person, led, proposal.command, dict(proposal.arguments)
                    )
                    if outcome.text:
                        await door.say(incoming, outcome.text)
                    await door.follow(incoming, person, outcome)

                async def talk() -> None:
                    await self._send(incoming, person, led, text)

                await door.ask(incoming, asks, obey, talk)
                return None
        return await self._send(incoming, person, led, text)

    async def _asks(
        self, incoming: Incoming, person: Person, led: Led | None, proposal: Proposal
    ) -> str | None:
        """What to ask about a command that a message may mean, with what it costs; None where it
        cannot be given here, so that it is an ordinary message.
        """
        orders = self._door.orders
        command, given = orders.find(proposal.command), dict(proposal.arguments)
        try:
            orders.check(command, person, led, alone=incoming.direct)
            price = await asyncio.to_thread(orders.costs, person, led, command, given)
        except WordmillError:
            return None
        return proposal.text if price is None else f"{price} {proposal.text}"

    async def _send(
        self, incoming: Incoming, person: Person, led: Led | None, text: str
    ) -> str | None:
        door, house = self._door, self._door.house
        led, owner = await self._conversation(incoming, person, led)
        replied = incoming.replied
        quotes = replied is not None and not (
            replied.own and await self._is_last(owner, led, incoming, replied.event)
        )
        asked = await question(
            house, door.surface, owner, led.conversation, incoming, text,
            speaks=door.policy.speakers and not incoming.direct, quotes=quotes,
        )  # fmt: skip
        if asked.refused:
            nonce = f"{door.records.nonce(incoming.event)}r"
            words = "\n".join(f"- {sentence}" for sentence in asked.refused)
            fresh = door.fresh(incoming.event)
            await door.showing.tell(incoming.place, words, nonce, incoming.event, fresh=fresh)
        kept = self._files.pop((incoming.place.key, incoming.sender), ())
        turn = await asyncio.to_thread(
            house.chat.send, owner, led.conversation, asked.text,
            attachments=[*kept, *asked.files], door=door.surface.kind,
            once=f"{door.name}:{door.records.nonce(incoming.event)}",
            speaker=None if person.id == owner.id else person,
        )  # fmt: skip
        await door.answer(incoming.event, incoming.place, owner, turn.answer, led.conversation)
        return turn.question

    async def edited(self, incoming: Incoming) -> None:
        """Somebody changed a message: ask whether the new one is to be answered."""
        door, house = self._door, self._door.house
        name = await asyncio.to_thread(door.records.became, incoming.edits)
        answered = await asyncio.to_thread(door.records.answer_to, incoming.edits)
        if name is None or answered is None:
            return
        incoming = replace(incoming, place=answered.place)
        person = await door.person(incoming)
        owner = await asyncio.to_thread(door.owner, answered.person)
        message = await asyncio.to_thread(house.conversations.message, owner, name)
        branch = await asyncio.to_thread(house.conversations.branch, owner, message.conversation)
        last = next((one for one in reversed(branch) if one.role == "user"), None)
        if last is None or last.id != name or message.author != person.id:
            return

        text = called(incoming.text, door.policy.prefix)
        asked = await question(
            house, door.surface, owner, message.conversation, replace(incoming, attachments=()),
            incoming.text.strip() if text is None else text.strip(),
            speaks=door.policy.speakers and not incoming.direct, quotes=False,
        )  # fmt: skip
        head = quotation(message.text)
        words = asked.text if asked.text.startswith(head) else head + asked.text

        async def rerun() -> None:
            turn = await asyncio.to_thread(
                house.chat.edit, owner, name, words, door=door.surface.kind,
                speaker=None if person.id == owner.id else person,
            )  # fmt: skip
            event = f"{incoming.edits} {incoming.event}"
            await door.answer(event, incoming.place, owner, turn.answer, message.conversation)

        await door.ask(
            incoming, "You changed your message. Shall I answer it anew? Answer `yes` or `no`.",
            rerun,
        )  # fmt: skip

    async def signed(self, reaction: Reaction, person: Person, owner: Person, owed: Answer) -> None:
        """A sign on an answer: by whoever the conversation belongs to, or who asked."""
        door, house = self._door, self._door.house
        message = await asyncio.to_thread(house.conversations.message, owner, owed.message)
        if person.id != owner.id:
            if reaction.sign not in ("stop", "retry") or message.parent is None:
                return
            above = await asyncio.to_thread(house.conversations.message, owner, message.parent)
            if above.author != person.id:
                return
        if reaction.sign == "stop":
            course = await asyncio.to_thread(house.chat.course, owner, owed.message)
            for one in reversed(course):
                if not one.ended:
                    await asyncio.to_thread(house.chat.stop, owner, one.id)
        elif reaction.sign == "retry":
            turn = await asyncio.to_thread(
                house.chat.regenerate, owner, owed.message, door=door.surface.kind,
                speaker=None if person.id == owner.id else person,
            )  # fmt: skip
            event = f"{owed.event.partition(' ')[0]} {reaction.event}"
            await door.answer(event, owed.place, owner, turn.answer, owed.conversation)
        else:
            last = await asyncio.to_thread(house.chat.last_of, owner, owed.message)
            await asyncio.to_thread(
                house.conversations.feedback, owner, last.id, SCORES[reaction.sign]
            )

    async def stop(self, person: Person, led: Led) -> bool:
        """End what is being answered to a person in somebody else's conversation, which a sign on
        it would do too; whether there was something.
        """
        if led.person == person.id:
            return False
        house = self._door.house
        owner = await asyncio.to_thread(self._door.owner, led.person)
        stopped = False
        for one in await asyncio.to_thread(
            house.conversations.open_messages, owner, led.conversation
        ):
            if one.role == "assistant":
                speaker = await asyncio.to_thread(house.chat.speaker, owner, one.id)
                if speaker is not None and speaker.id == person.id:
                    stopped |= bool(await asyncio.to_thread(house.chat.stop, owner, one.id))
        return stopped

    async def ask_for_tools(self, owner: Person, owed: Answer) -> None:
        """A model wants to call tools: ask whoever the conversation belongs to."""
        door, house = self._door, self._door.house
        if owed.conversation is None:
            return
        calls = await asyncio.to_thread(house.chat.asks, owner, owed.conversation)
        if not calls:
            return
        lines = [
            f"The model wants to call {code(call.tool)} of {code(call.server)}:\n\n"
            + block(call.arguments, "json")
            for call in calls
        ]
        words = "\n\n".join([*lines, "Shall it? Answer `yes` or `no`."])
        shown = await door.showing.tell(
            owed.place, words, owed.named(f"t{calls[0].message[-8:]}"),
            owed.event.partition(" ")[0], fresh=owed.fresh,
        )  # fmt: skip

        names, heard = {call.message for call in calls}, asyncio.Event()

        async def decide(yes: bool) -> None:
            left = names & await self._undecided(owner, owed)
            if not left:
                raise Conflict("This was decided already.")
            for call in calls:
                if call.message in left:
                    await asyncio.to_thread(house.chat.confirm, owner, call.message, None, yes)
            heard.set()

        async def allow() -> None:
            await decide(True)

        async def refuse() -> None:
            await decide(False)

        for identity in await asyncio.to_thread(house.accounts.identities.all, owner):
            if identity.provider == door.surface.kind:
                self._questions.ask(owed.place, identity.subject, allow, refuse, shown)
        door.wait(self._go_on(owner, owed, names, heard, shown))

    async def _go_on(
        self, owner: Person, owed: Answer, calls: set[str], heard: asyncio.Event, shown: str
    ) -> None:
        """Show an answer further when its calls are decided: here, on the web or anywhere.

        calls: the tools' messages.  heard: set when it was decided here.  shown: the question.
        """
        pause = LOOK
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(heard.wait(), pause)
            try:
                if not calls & await self._undecided(owner, owed):
                    break
            except NotFound:
                break  # the conversation was removed
            except StorageError as error:
                log.info("%s: calls are looked at again: %s", self._door.name, error)
            heard.clear()
            pause = min(LONGEST, pause * 1.5)
        self._questions.withdraw(shown)
        self._door.show_again(owner, owed)

    async def _undecided(self, owner: Person, owed: Answer) -> set[str]:
        """The tools' messages of its conversation that wait for a yes. Raises NotFound."""
        asks = self._door.house.chat.asks
        return {
            one.message for one in await asyncio.to_thread(asks, owner, owed.conversation or "")
        }

    async def _conversation(
        self, incoming: Incoming, person: Person, led: Led | None
    ) -> tuple[Led, Person]:
        """The conversation of the place and whose it is; a new one where that is gone."""
        door = self._door
        conversations = door.house.conversations
        if led is not None:
            try:
                owner = await asyncio.to_thread(door.owner, led.person)
                await asyncio.to_thread(conversations.get, owner, led.conversation)
                if not owner.disabled:
                    if await asyncio.to_thread(door.records.led, incoming.place) is None:
                        await asyncio.to_thread(door.records.lead, incoming.place, led)
                    return led, owner
            except NotFound:
                pass  # it was removed, or its owner was: another one begins here
        begun = await asyncio.to_thread(conversations.create, person)
        led = Led(begun.id, person.id)
        await asyncio.to_thread(door.records.lead, incoming.place, led)
        return led, person

    async def _is_last(self, owner: Person, led: Led, incoming: Incoming, remote: str) -> bool:
        """Whether a message of ours is the last answer of the conversation: the model has it."""
        owed = await self._door.answer_at(incoming.place, remote)
        if owed is None:
            return False
        branch = await asyncio.to_thread(
            self._door.house.conversations.branch, owner, led.conversation, limit=1
        )
        return bool(branch) and branch[0].id == owed.message
