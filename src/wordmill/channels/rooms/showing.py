"""An answer as it grows in a room, and its last words, exactly once.

Nothing but "is typing" is shown of an answer that comes quickly. One that takes longer is shown as
it grows: by edits, with growing pauses, as long as the service has room for them; what does not fit
into one message goes on in the next. The last words always arrive: they wait where the service
wants it, they are sent anew where the message that should become them is gone, and each message has
a transaction id that was fixed before, so that whoever repeats this after a crash repeats nothing.
"""

import asyncio
import logging
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Final, TypeVar

from wordmill.accounts import Person
from wordmill.channels.house import House
from wordmill.channels.rooms.base import Place, Post, PostKind, Surface
from wordmill.channels.rooms.records import Answer, Records
from wordmill.channels.rooms.splitting import growing, split
from wordmill.chat.types import State
from wordmill.errors import (
    ChannelClosed,
    ChannelError,
    ChannelLimited,
    ChannelRefused,
    Conflict,
    NotFound,
    WordmillError,
)

FIRST: Final = 3.0
"""Seconds in which nothing is shown but that we are typing."""
MOMENT: Final = 0.15
"""Seconds after which it is worth saying that we are typing."""
PLACEHOLDER: Final = "…"
AGAIN: Final = 2
"""How often an answer is asked for anew that the end of a server cut off."""

_FILLERS: Final = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters that look like nothing."""

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class _Grown:
    """What has come of an answer. texts: of the messages in which it goes on, by id, in order.
    waiting: where it stands in the queue of its model, in words.
    """

    texts: dict[str, str] = field(default_factory=dict)
    last: str = ""
    state: State = "waiting"
    waiting: str = ""

    @property
    def text(self) -> str:
        return "\n\n".join(text for text in self.texts.values() if text.strip())

    @property
    def shown(self) -> str:
        """While it grows: what there is of it, or what it waits for."""
        return self.text or (f"*{self.waiting}*" if self.waiting else "")


class Showing:
    """The answers of one channel. Used in its event loop only."""

    def __init__(self, house: House, surface: Surface, records: Records, first: float = FIRST):
        self._house, self._surface, self._records, self._first = house, surface, records, first
        self._typing = Typing(surface)
        self._gate = asyncio.Lock()

    async def show(self, person: Person, answer: Answer) -> bool:
        """Until its last words were said; False where it waits for a person's yes to a tool.

        Raises ChannelClosed, and leaves it to whoever starts next.
        """
        budget = self._surface.budget
        budget.waiting += 1
        self._typing.begin(answer.place)
        shown = _Shown(self, answer)
        try:
            for attempt in range(AGAIN + 1):
                grown = await self._grow(person, shown)
                if grown.state == "waiting":
                    return False
                if grown.state != "interrupted" or attempt == AGAIN:
                    break
                await self._ask_again(person, shown)
            await self._say(person, shown, grown)
        except NotFound:
            log.info("what was to be said in %s was removed", self._records.channel)
            await asyncio.to_thread(self._records.change, answer.event, state="failed")
        except ChannelRefused as error:
            log.warning("an answer of %s cannot be said: %s", self._records.channel, error)
            await asyncio.to_thread(self._records.change, answer.event, state="failed")
        finally:
            budget.waiting -= 1
            await self._typing.end(answer.place)
        return True

    async def tell(
        self, place: Place, text: str, nonce: str, reply_to: str = "", *, fresh: bool = False
    ) -> str:
        """Say something that is no answer; the id of its last message. Raises as the surface.

        fresh: nobody has tried to say it yet.
        """
        limits, last = self._surface.limits, ""
        for number, part in enumerate(split(text, limits.size, limits.measure)):
            post = Post(part, "notice", tells="" if number else reply_to)
            name = f"{nonce}n{number}"
            last = await self.must(
                lambda post=post, name=name: self._surface.send(  # type: ignore[misc]
                    place, post, nonce=name, reply_to=reply_to, fresh=fresh
                )
            )
        return last

    async def give(
        self, place: Place, name: str, media_type: str, data: bytes, nonce: str,
        reply_to: str = "", *, fresh: bool = False,
    ) -> None:  # fmt: skip
        """Give a file, or say why it cannot be given. Raises as `tell`."""
        most = self._surface.limits.file_bytes
        words = f"{len(data) / 2**20:,.1f} MiB, and {most / 2**20:,.1f} MiB is the most here."
        if len(data) <= most:
            try:
                await self.must(
                    lambda: self._surface.send_file(
                        place, name, media_type, data,
                        nonce=nonce, reply_to=reply_to, fresh=fresh,
                    )
                )  # fmt: skip
                return
            except ChannelRefused as error:
                words = str(error)
        said = f"⚠ The file `{name}` cannot be given here: {words}"
        await self.tell(place, said, f"{nonce}x", reply_to, fresh=fresh)

    async def must(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do something at the service that must be done, however long it takes.

        Raises ChannelRefused, ChannelClosed.
        """
        pause, budget = 1.0, self._surface.budget
        while True:
            try:
                async with self._gate:
                    if budget.tight:
                        await asyncio.sleep(budget.closed)
                        done = await act()
                        budget.sent()
                        return done
                done = await act()
                budget.sent()
                return done
            except ChannelLimited as error:
                budget.refused(error.seconds)
            except (ChannelRefused, ChannelClosed):
                raise
            except ChannelError as error:
                log.info("%s: %s It is tried again.", self._records.channel, error)
                await asyncio.sleep(pause)
                pause = min(60.0, pause * 2)

    async def close(self) -> None:
        """Show nowhere any more that we are typing."""
        await self._typing.close()

    # How it grows.

    async def _grow(self, person: Person, shown: "_Shown") -> _Grown:
        """Follow an answer until it ends or asks for a yes."""
        grown, loop = _Grown(), asyncio.get_running_loop()
        reader = asyncio.create_task(self._read(person, shown.answer.message, grown))
        gaps, due = list(self._surface.limits.gaps), loop.time() + self._first
        try:
            while not reader.done():
                await asyncio.wait({reader}, timeout=max(0.01, due - loop.time()))
                if reader.done():
                    break
                if shown.answer.fresh:  # else its last words may stand there already
                    await shown.grow(grown.shown)
                due = loop.time() + (gaps.pop(0) if len(gaps) > 1 else gaps[0])
            await reader
        finally:
            reader.cancel()
        return grown

    async def _read(self, person: Person, message: str, grown: _Grown) -> None:
        async for event in self._house.chat.watch_async(person, message):
            grown.last, grown.state = event.message, event.state
            grown.waiting = "" if event.waiting is None else event.waiting.words()
            grown.texts[event.message] = grown.texts.get(event.message, "") + event.text

    async def _ask_again(self, person: Person, shown: "_Shown") -> None:
        """The server ended in the midst of it: another answer, in the same messages."""
        answer = shown.answer
        chat = self._house.chat
        try:
            speaker = await asyncio.to_thread(chat.speaker, person, answer.message)
            turn = await asyncio.to_thread(
                chat.regenerate, person, answer.message, door=self._surface.kind, speaker=speaker
            )
        except Conflict as error:
            raise NotFound("answer", answer.message) from error
        await asyncio.to_thread(self._records.change, answer.event, message=turn.answer)
        shown.answer = replace(answer, message=turn.answer)

    async def _say(self, person: Person, shown: "_Shown", grown: _Grown) -> None:
        """The last words."""
        text, kind = grown.text, "answer"
        if grown.state in ("stopped", "interrupted"):
            kind, text = "stopped", f"{text}\n\n*(stopped)*".lstrip()
        elif grown.state == "failed":
            found = await asyncio.to_thread(
                self._house.conversations.message, person, grown.last or shown.answer.message
            )
            words = f"⚠ {found.error or 'The model gave no answer.'}"
            kind, text = "failed", f"{text}\n\n{words}".lstrip()
        elif not _is_seen(text):
            text = "*(The model answered nothing.)*"
        await shown.end(text, kind)  # type: ignore[arg-type]


def _is_seen(text: str) -> bool:
    """Whether there is a character that can be seen; services take no message without one."""
    return any(
        one not in _FILLERS and unicodedata.category(one) not in ("Cc", "Cf", "Zl", "Zp", "Zs")
        for one in text
    )


class _Shown:
    """The messages in which one answer is shown."""

    def __init__(self, showing: Showing, answer: Answer) -> None:
        self.answer = answer
        self._showing = showing
        self._surface, self._records = showing._surface, showing._records
        self._remotes: list[str] = list(answer.remotes)
        self._texts: list[str] = [""] * len(self._remotes)
        self._begun = answer.begun
        self._edits = 0
        self._taken = token_hex(4)
        """Of this showing: edits that grow are told from those of an earlier one."""

    async def grow(self, text: str) -> None:
        """Show what there is of it, as far as there is room; nothing goes wrong here for good."""
        limits = self._surface.limits
        parts = growing(text, self._room, limits.measure) or [""]
        for number, part in enumerate(parts):
            whole = number < len(parts) - 1
            if number < len(self._texts) and self._texts[number] == part:
                continue
            if self._edits >= limits.most_edits or not self._surface.budget.spare():
                return
            try:
                await self._grow_part(number, part, whole)
            except ChannelLimited as error:
                self._surface.budget.refused(error.seconds)
                return
            except ChannelError as error:
                log.info("%s: an answer cannot be shown yet: %s", self._records.channel, error)
                return
            self._surface.budget.sent()

    async def _grow_part(self, number: int, part: str, whole: bool) -> None:
        shown = part if whole else f"{part} {PLACEHOLDER}".lstrip()
        post = Post(shown, "growing", buttons=not whole, tells=self._tells(number))
        if number < len(self._remotes):
            self._edits += 1
            name = self.answer.named(f"e{self._taken}.{self._edits}.{number}")
            await self._surface.edit(self.answer.place, self._remotes[number], post, nonce=name)
        else:
            await self._begin(number, post)
        self._texts[number:] = [part]

    async def _begin(self, number: int, post: Post) -> None:
        """Send a message of it. That there is one is written down before, so that the last words
        of whoever comes after a crash become this message, and no further one.
        """
        if number >= self._begun:
            self._begun = number + 1
            await asyncio.to_thread(self._records.change, self.answer.event, begun=self._begun)
        remote = await self._surface.send(
            self.answer.place, post, nonce=self.answer.named(f"s{number}"), reply_to=self._cause,
            fresh=self.answer.fresh,
        )  # fmt: skip
        self._remotes.append(remote)
        await self._note()

    async def end(self, text: str, kind: PostKind) -> None:
        """The last words, whole. Raises ChannelRefused where nothing can be said there."""
        limits, place, must = self._surface.limits, self.answer.place, self._showing.must
        parts = split(text, self._room, limits.measure) or [PLACEHOLDER]
        for number, part in enumerate(parts):
            buttons = number == len(parts) - 1
            post = Post(part, kind, buttons=buttons, tells=self._tells(number))
            if number < self._begun:
                await self._become(number, post)
            else:
                name = self.answer.named(f"s{number}")
                remote = await must(
                    lambda post=post, name=name: self._surface.send(  # type: ignore[misc]
                        place, post, nonce=name, reply_to=self._cause, fresh=self.answer.fresh
                    )
                )
                self._remotes.append(remote)
        for number in range(len(parts), self._begun):  # another attempt had said more
            await self._become(number, Post("*(see above)*", kind))
        if len(text) > limits.file_from:
            data = text.encode()
            if len(data) <= limits.file_bytes:
                await must(
                    lambda: self._surface.send_file(
                        place, "answer.md", "text/markdown", data,
                        nonce=self.answer.named("f"), reply_to=self._cause,
                        fresh=self.answer.fresh,
                    )
                )  # fmt: skip
        await self._note(state="sent")

    async def _become(self, number: int, post: Post) -> None:
        """Make the last words of a message that grew; where it is gone, say them anew."""
        place, must = self.answer.place, self._showing.must
        while len(self._remotes) <= number:  # sent before a crash that kept us from its id
            name = self.answer.named(f"s{len(self._remotes)}")
            self._remotes.append(
                await must(
                    lambda name=name: self._surface.send(  # type: ignore[misc]
                        place, Post(PLACEHOLDER, "growing"), nonce=name, reply_to=self._cause
                    )
                )
            )
        try:
            await must(
                lambda: self._surface.edit(
                    place, self._remotes[number], post, nonce=self.answer.named(f"l{number}")
                )
            )
        except ChannelRefused:
            self._remotes[number] = await must(
                lambda: self._surface.send(
                    place,
                    post,
                    nonce=self.answer.named(f"a{number}"),
                    reply_to=self._cause,
                    fresh=self.answer.fresh,
                )
            )

    async def _note(self, **values: str) -> None:
        await asyncio.to_thread(
            self._records.change, self.answer.event, remotes=self._remotes, **values
        )

    @property
    def _room(self) -> int:
        """The size of a message that has room for the sign that more is coming."""
        return self._surface.limits.size - self._surface.limits.measure(f" {PLACEHOLDER}")

    def _tells(self, number: int) -> str:
        """The first of its messages tells whoever asked."""
        return "" if number else self._cause

    @property
    def _cause(self) -> str:
        """The message that is answered; a retry by a reaction has a name of its own behind it."""
        return self.answer.event.partition(" ")[0]


class Typing:
    """Where we are typing: said again before it runs out, and taken back on every way out."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self._held: dict[str, tuple[int, asyncio.Task[None]]] = {}
        self._shown: set[str] = set()

    def begin(self, place: Place) -> None:
        """Something is being written there."""
        count, task = self._held.get(place.key, (0, None))
        task = task or asyncio.create_task(self._keep(place))
        self._held[place.key] = (count + 1, task)

    async def end(self, place: Place) -> None:
        """It is written; when it was the last one there, we are typing no more."""
        if place.key not in self._held:
            return  # closed meanwhile
        count, task = self._held[place.key]
        if count > 1:
            self._held[place.key] = (count - 1, task)
            return
        del self._held[place.key]
        task.cancel()
        await self._take_back(place)

    async def close(self) -> None:
        """Typing nowhere."""
        for key in list(self._held):
            _, task = self._held.pop(key)
            task.cancel()
            await self._take_back(Place.of(key))

    async def _keep(self, place: Place) -> None:
        await asyncio.sleep(MOMENT)
        while True:
            self._shown.add(place.key)
            await self._say(place, True)
            await asyncio.sleep(self._surface.limits.typing)

    async def _take_back(self, place: Place) -> None:
        if place.key in self._shown:
            self._shown.discard(place.key)
            await self._say(place, False)

    async def _say(self, place: Place, on: bool) -> None:
        try:
            await self._surface.typing(place, on)
        except WordmillError as error:
            log.debug("typing: %s", error)
