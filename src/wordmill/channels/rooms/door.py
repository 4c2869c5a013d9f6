"""The door of a channel: takes what was said in a room and does everything alike, on any service.

In this order: written down, so that a crash loses nothing; looked at (old? ours? admitted? meant
for us?); who is it; a yes to a question, a command, or a message for a model; and then answered.
Messages of one place are taken in one after the other, answers are made beside each other.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.rooms.admission import Bounces, Policy, addressed, called
from wordmill.channels.rooms.base import Incoming, Place, Reaction, Surface
from wordmill.channels.rooms.known import Known
from wordmill.channels.rooms.notices import Notices
from wordmill.channels.rooms.orders import LINK, Orders, Questions, link_code
from wordmill.channels.rooms.records import Answer, Led, Records
from wordmill.channels.rooms.showing import FIRST, Showing
from wordmill.channels.rooms.talking import Talking
from wordmill.channels.rooms.turns import Turns
from wordmill.commands import COMMANDS, Outcome
from wordmill.commands.language import agreed
from wordmill.database import now
from wordmill.errors import (
    ChannelClosed,
    ChannelError,
    ChannelRefused,
    Forbidden,
    NotFound,
    StorageError,
    WordmillError,
)

TOLERANCE: Final = timedelta(seconds=90)
"""Clocks of servers that federate are that far apart, and messages come that late."""
MARKED: Final = 10.0
"""Seconds between writings of the catch-up marker."""
STOP: Final = "stop"
"""The command that ends also an answer to oneself in somebody else's conversation."""
STATUS: Final = "status"
"""The command to which a channel adds how it is."""
FAULT: Final = "This met a fault of Wordmill; its log says more."
LOOKS: Final = 5
"""For the answer that a message of ours belongs to, a tenth of a second apart."""
TRIES: Final = 12
"""Of showing an answer while the database is away: for some minutes, longer and longer apart."""
REFUSED: Final = 3600.0
"""Seconds in which a stranger is told once that nobody knows them."""

log = logging.getLogger(__name__)


class Door:
    """Of one channel. Used in the channel's event loop only, but for `heard`."""

    def __init__(
        self, house: House, name: str, surface: Surface, policy: Policy, first: float = FIRST
    ) -> None:
        self.house, self.name, self.surface, self.policy = house, name, surface, policy
        self.records = Records(house.database, name)
        self.orders = Orders(house, self.records, surface.kind)
        self.showing = Showing(house, surface, self.records, first)
        self.heard: datetime | None = None
        """When something was last heard, by our clock."""
        self._known = Known(house.accounts, surface.kind, policy)
        self._questions, self._bounces = Questions(), Bounces()
        self._talking = Talking(self, self._questions)
        self._notices = Notices(self)
        self._turns = Turns()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waits: set[asyncio.Task[None]] = set()
        self._told: dict[str, float] = {}
        self._again: set[str] = set()
        """Events that an earlier process heard, and may have answered in part."""
        self._shown: set[str] = set()
        """Events whose answers are being shown."""
        self._marked = 0.0
        self._newest: datetime | None = None
        self._closed: ChannelClosed | None = None

    # Its life.

    async def open(self) -> None:
        """Take up what an earlier process left: what was heard and not handled, what was to be
        said and was not, what is to be reported.
        """
        await asyncio.to_thread(self.records.forget_old)
        if await asyncio.to_thread(self.records.marker) is None:
            # What was said before this moment is history; from now on clocks may differ.
            await asyncio.to_thread(self.records.mark, now() + TOLERANCE)
        for answer in await asyncio.to_thread(self.records.owed, "answer"):
            self._spawn(self._take_up(answer))
        for incoming in await asyncio.to_thread(self.records.unhandled):
            self._again.add(incoming.event)
            self._spawn(self._handle(incoming))
        await self._notices.open()

    async def close(self) -> None:
        """Leave everything as it is, for whoever opens next; harmless when repeated."""
        tasks = [*self._waits, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._notices.close()
        await self.showing.close()
        if self._newest is not None:
            await asyncio.to_thread(self.records.mark, self._newest)

    def check(self) -> None:
        """Raise ChannelClosed when the service said so while something was sent."""
        if self._closed is not None:
            raise self._closed

    # What comes in.

    async def receive(self, heard: Sequence[Incoming], *, replayed: bool = False) -> None:
        """Take what was said. When this returns it is written down, and the service may forget it.

        replayed: it comes from a gap or a fresh start and may be old: what lies before the time up
        to which everything was heard is history.
        """
        if replayed:
            marker = await asyncio.to_thread(self.records.marker)
            heard = [] if marker is None else [o for o in heard if o.at >= marker - TOLERANCE]
        heard = [one for one in heard if one.sender != self.surface.me]
        if heard:
            self.heard = now()
        for incoming in await asyncio.to_thread(self.records.hear, heard):
            self._spawn(self._handle(incoming))
        await self._mark(heard)

    async def reacted(self, reaction: Reaction) -> None:
        """Take a sign that somebody put on a message of ours."""
        if reaction.sender == self.surface.me or not self._admits(reaction):
            return
        if not await asyncio.to_thread(self.records.once, reaction.event, now()):
            return
        self.heard = now()
        self._spawn(self._on_sign(reaction))

    async def invoke(
        self, incoming: Incoming, name: str, given: Mapping[str, object], *, alone: bool = True
    ) -> Outcome:
        """Give a command that came by name with its arguments, as a slash command of Discord.

        alone: only the person sees what it says. What follows from it (an answer, a file, another
        conversation in this place) is seen to here; the text is for the caller to show.
        Raises what there is to say to the person.
        """
        if name == LINK:
            self._check(incoming)
            code = str(given.get("code") or "")
            return Outcome(await self._link(incoming, code, alone=alone))
        person = await self.person(incoming)
        led = await self._led(incoming, person)
        command = self.orders.find(name)
        self.orders.check(command, person, led, alone=alone)
        outcome = await self.orders.run(person, led, command.name, given)
        if command.name == STATUS:
            outcome = replace(outcome, text=f"{outcome.text}\n{self._standing(incoming)}")
        await self.follow(incoming, person, outcome)
        return outcome

    async def price(
        self, incoming: Incoming, name: str, given: Mapping[str, object], *, alone: bool = True
    ) -> str | None:
        """What to ask before `invoke`; None where it needs no yes. Raises as `invoke`."""
        if name == LINK:
            return None
        person = await self.person(incoming)
        led = await self._led(incoming, person)
        command = self.orders.find(name)
        self.orders.check(command, person, led, alone=alone)
        COMMANDS.check(self.orders.context(person, led), command)
        return await asyncio.to_thread(self.orders.costs, person, led, command, dict(given))

    async def person(self, incoming: Incoming) -> Person:
        """Whoever speaks. Raises Forbidden, also for those who may not talk here."""
        self._check(incoming)
        return await asyncio.to_thread(self._known.person, incoming.sender, incoming.name)

    async def knows(self, sender: str) -> bool:
        """Whether somebody has an account here, and is no guest."""
        return await asyncio.to_thread(self._known.linked, sender)

    async def answer_at(self, place: Place, remote: str) -> Answer | None:
        """The answer that a message of ours belongs to.

        Somebody can be quicker than we write down which message it became.
        """
        for _ in range(LOOKS):
            found = await asyncio.to_thread(self.records.shown, place.room, remote)
            if found is not None:
                return found
            await asyncio.sleep(0.1)
        return None

    # How it is handled.

    async def _handle(self, incoming: Incoming) -> None:
        """One message, in the order of its place; nothing that goes wrong with it ends the door."""
        async with self._turns.of(incoming.place.key):
            message, cause = None, incoming.event.partition(" ")[0]
            try:
                message = await self._see_to(incoming)
            except ChannelClosed as error:
                self._closed = error
                return  # it stays as it is, for the next start
            except ChannelRefused as error:
                log.info("%s: nothing can be said in %s: %s", self.name, incoming.place, error)
            except WordmillError as error:
                await self._sorry(incoming.place, incoming.event, str(error), cause)
            except Exception:  # else it would come again at each start, and nobody be told
                log.exception("%s met a fault of Wordmill in a message", self.name)
                await self._sorry(incoming.place, incoming.event, FAULT, cause)
            await asyncio.to_thread(self.records.handled, incoming.event, message)

    async def _see_to(self, incoming: Incoming) -> str | None:
        """What to do with it; the message of a conversation that it became."""
        if not self._admits(incoming) or (incoming.from_bot and not self.policy.bots):
            return None
        if incoming.edits:
            await self._talking.edited(incoming)
            return None
        led = await self._led(incoming)
        if not addressed(incoming, self.policy, led is not None):
            return None
        text = called(incoming.text, self.policy.prefix)
        text = incoming.text.strip() if text is None else text.strip()
        going, hush = self._bounces.allows(
            incoming.place.key,
            incoming.sender,
            incoming.from_bot,
            guess=not self.surface.limits.names_bots,
        )
        if hush:
            await self.say(incoming, "We seem to be two machines. I am quiet here for a while.")
        if not going:
            return None
        code = link_code(text)
        if code is not None:
            await self.say(incoming, await self._link(incoming, code, alone=incoming.direct))
            return None
        try:
            person = await self.person(incoming)
        except Forbidden as error:
            await self._tell_stranger(incoming, str(error))
            return None
        led = _theirs(incoming, person, led)
        if await self._decided(incoming, text):
            return None
        if COMMANDS.parse(text) is not None:
            await self._command(incoming, person, led, text)
            return None
        if not text and not incoming.attachments and incoming.replied is None:
            await self.say(incoming, f"I am here. {self.orders.context(person, led).typed('help')} "
                           "lists what I can do.")  # fmt: skip
            return None
        return await self._talking.say(incoming, person, led, text)

    async def _command(
        self, incoming: Incoming, person: Person, led: Led | None, line: str
    ) -> None:
        parsed = COMMANDS.parse(line)
        assert parsed is not None  # the caller looked
        command = self.orders.find(parsed.name)
        if command.name == STOP and led is not None and await self._talking.stop(person, led):
            await self.say(incoming, "Stopped. What there was of the answer is kept.")
            return
        self.orders.check(command, person, led, alone=incoming.direct)
        COMMANDS.check(self.orders.context(person, led), command)

        async def act() -> None:
            person = await self.person(incoming)  # what they may do can have changed since
            outcome = await self.orders.run(person, led, line)
            text = outcome.text
            if command.name == STATUS:
                text += "\n" + self._standing(incoming)
            if text:
                await self.say(incoming, text)
            await self.follow(incoming, person, outcome)

        price = await asyncio.to_thread(self.orders.costs, person, led, command, parsed.rest)
        if price is None:
            await act()
            return
        await self.ask(incoming, f"{price} Shall I do this? Answer `yes` or `no`.", act)

    async def follow(self, incoming: Incoming, person: Person, outcome: Outcome) -> None:
        """What a command asked for besides its text."""
        if outcome.conversation is not None:
            led = Led(outcome.conversation, person.id)
            await asyncio.to_thread(self.records.lead, incoming.place, led)
        if outcome.attachments:
            self._talking.keep(incoming, outcome.attachments)
        if outcome.file is not None:
            file, nonce = outcome.file, f"{self.records.nonce(incoming.event)}f"
            await self.showing.give(
                incoming.place, file.name, file.media_type, file.data, nonce, incoming.event,
                fresh=self.fresh(incoming.event),
            )  # fmt: skip
        if outcome.answer is not None:
            here = await asyncio.to_thread(self.records.led, incoming.place)
            conversation = None if here is None else here.conversation
            await self.answer(incoming.event, incoming.place, person, outcome.answer, conversation)
        await self._notices.asked(incoming, person, outcome)

    async def answer(
        self, event: str, place: Place, owner: Person, message: str, conversation: str | None = None
    ) -> None:
        """Write down that an answer is to be shown, and show it as it grows.

        event: what it answers; the part before a space is the service's id of the message.
        """
        owed = await asyncio.to_thread(
            self.records.owe, event, "answer", place, owner.id, message, conversation
        )
        self._spawn(self._show(owner, owed))

    # What is said that is no answer.

    def fresh(self, event: str) -> bool:
        """Whether no earlier process can have said anything about it."""
        return event not in self._again

    async def say(self, incoming: Incoming, text: str, mark: str = "") -> str:
        """A notice to whoever spoke; its id. mark: of a further one to the same message.

        Raises ChannelError.
        """
        nonce = self.records.nonce(incoming.event) + mark
        return await self.showing.tell(
            incoming.place, text, nonce, incoming.event.partition(" ")[0],
            fresh=self.fresh(incoming.event),
        )  # fmt: skip

    async def ask(self, incoming: Incoming, text: str, yes: Any, no: Any = None) -> None:
        """A question; what is done after a yes, and after a no."""
        shown = await self.say(incoming, text, "q")
        self._questions.ask(incoming.place, incoming.sender, yes, no, shown)

    # Inside.

    async def _show(self, owner: Person, owed: Answer) -> None:
        if owed.event in self._shown:
            return  # it is being shown already
        self._shown.add(owed.event)
        try:
            for attempt in range(TRIES):
                try:
                    await self._show_once(owner, owed.event, fresh=owed.fresh and not attempt)
                    return
                except StorageError as error:
                    log.warning("%s: an answer is shown later: %s", self.name, error)
                await asyncio.sleep(min(60.0, 2.0**attempt))
        except ChannelClosed as error:
            self._closed = error
        except WordmillError as error:
            log.warning("%s: an answer could not be shown: %s", self.name, error)
        finally:
            self._shown.discard(owed.event)

    async def _show_once(self, owner: Person, event: str, *, fresh: bool) -> None:
        """Raises StorageError; what was shown until then is written down."""
        owed = await asyncio.to_thread(self.records.answer_to, event)
        if owed is None or owed.state != "open":
            return  # it was said
        owed = replace(owed, fresh=fresh)
        if await self.showing.show(owner, owed):
            self._bounces.answered(owed.place.key)
        else:
            await self._talking.ask_for_tools(owner, owed)

    def show_again(self, owner: Person, owed: Answer) -> None:
        """Go on showing an answer whose calls were decided, in the messages in which it stands."""
        self._spawn(self._show(owner, replace(owed, fresh=True)))

    async def _take_up(self, owed: Answer) -> None:
        try:
            owner = await asyncio.to_thread(self.owner, owed.person)
        except NotFound:
            await asyncio.to_thread(self.records.change, owed.event, state="failed")
            return
        await self._show(owner, owed)

    def owner(self, person: str) -> Person:
        """Whose conversation it is. Raises NotFound."""
        people = self.house.accounts.people
        return people.local() if person == people.local().id else people.get(person)

    async def _on_sign(self, reaction: Reaction) -> None:
        place, question, owed = reaction.place, None, None
        if reaction.sign in ("up", "down"):
            question = self._questions.take_shown(reaction.sender, reaction.message)
        if question is None:
            owed = await self.answer_at(place, reaction.message)
            if owed is None:
                return
            place = owed.place
        else:
            place = question.place
        try:
            person = await asyncio.to_thread(self._known.person, reaction.sender, reaction.name)
            if owed is not None:
                owner = await asyncio.to_thread(self.owner, owed.person)
                await self._talking.signed(reaction, person, owner, owed)
            elif question is not None:
                act = question.yes if reaction.sign == "up" else question.no
                if act is not None:
                    await act()
        except Forbidden as error:
            log.info("%s: a sign of a stranger is only a sign: %s", self.name, error)
        except WordmillError as error:
            await self._sorry(place, reaction.event, str(error), reaction.message)

    async def _led(self, incoming: Incoming, person: Person | None = None) -> Led | None:
        """The conversation of the place; of a reply to us elsewhere, the one that it replies to.

        person: who speaks, where that is known.
        """
        led = await asyncio.to_thread(self.records.led, incoming.place)
        replied = incoming.replied
        if led is None and replied is not None and replied.own:
            owed = await self.answer_at(incoming.place, replied.event)
            if owed is not None and owed.conversation is not None:
                led = Led(owed.conversation, owed.person)
        return led if person is None else _theirs(incoming, person, led)

    async def _decided(self, incoming: Incoming, text: str) -> bool:
        """Whether this was the answer to a question of ours; anything else ends the question, so
        that a yes to somebody else, or to the model, is never taken for one to us.
        """
        said, replied = agreed(text), incoming.replied
        if said is None:
            self._questions.drop(incoming.place, incoming.sender)
            return False
        question = None
        if replied is not None and replied.own:
            question = self._questions.take_shown(incoming.sender, replied.event)
        if question is None and self._questions.unsettled(incoming.place, incoming.sender):
            await self.say(incoming, "Something else was asked at that moment. Look at the last "
                           "question, and answer it.")  # fmt: skip
            return True
        question = question or self._questions.take(incoming.place, incoming.sender)
        if question is None:
            return False
        act = question.yes if said else question.no
        if act is not None:
            await act()
        elif not said:
            await self.say(incoming, "Left as it is.")
        return True

    async def _link(self, incoming: Incoming, code: str, *, alone: bool) -> str:
        if code:
            return await asyncio.to_thread(self._known.redeem, code, incoming.sender)
        if not alone:
            raise Forbidden("A code is for you alone: send me `--link` in a direct room.")
        return await asyncio.to_thread(self._known.offer, incoming.sender)

    async def _tell_stranger(self, incoming: Incoming, words: str) -> None:
        """Politely, and not at each message."""
        moment = time.monotonic()
        if moment - self._told.get(incoming.sender, -REFUSED) < REFUSED:
            return
        if len(self._told) > 10_000:
            self._told.clear()
        self._told[incoming.sender] = moment
        await self.say(incoming, words)

    async def _sorry(self, place: Place, event: str, words: str, about: str) -> None:
        """Say what went wrong with an event, in answer to a message."""
        nonce = f"{self.records.nonce(event)}e"
        try:
            fresh = self.fresh(event)
            await self.showing.tell(place, f"⚠ {words}", nonce, about, fresh=fresh)
        except ChannelError as error:
            log.info("%s: an error could not be said: %s", self.name, error)

    def _check(self, incoming: Incoming) -> None:
        if not self._admits(incoming):
            raise Forbidden("You may not talk to me here.")

    def _admits(self, one: Incoming | Reaction) -> bool:
        return self.policy.admits(one.sender, one.place.room, *one.groups)

    def _standing(self, incoming: Incoming) -> str:
        """How the channel is, for `--status`."""
        standing = self.surface.standing()
        prefix = f", what begins with `{self.policy.prefix}`" if self.policy.prefix else ""
        heard = "everything" if incoming.direct else f"mentions, replies, my own threads{prefix}"
        lines = [f"- I am `{standing.account}` here, and answer {heard}"]
        if standing.encryption:
            lines.append(f"- Encryption: {standing.encryption}")
        return "\n".join(lines)

    async def _mark(self, heard: Iterable[Incoming]) -> None:
        """Note up to when everything was heard; no clock that is ahead may move it too far."""
        moment = now()
        times = [min(one.at, moment) for one in heard]
        self._newest = max([*times, *([self._newest] if self._newest else [])], default=None)
        if self._newest is not None and time.monotonic() - self._marked > MARKED:
            self._marked = time.monotonic()
            await asyncio.to_thread(self.records.mark, self._newest)

    def wait(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on beside everything with what waits for people, until the door is closed."""
        self._spawn(work, self._waits)

    def _spawn(
        self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]] | None = None
    ) -> None:
        tasks = self._tasks if among is None else among
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s met a fault of Wordmill", self.name, exc_info=error)


def _theirs(incoming: Incoming, person: Person, led: Led | None) -> Led | None:
    """Alone with us one has a conversation of one's own, whoever talked there before."""
    return None if led and incoming.direct and led.person != person.id else led
