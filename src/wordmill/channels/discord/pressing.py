"""What people press: slash commands, the menu of a message, buttons.

Discord gives three seconds for a first sign of life and fifteen minutes for the rest. So whatever
is asked is first acknowledged, then done. What a command says to one person alone is shown to
nobody else.
"""

import asyncio
import io
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, cast

import discord

from wordmill.accounts import Person
from wordmill.channels.discord import slash
from wordmill.channels.discord.failures import wrapped
from wordmill.channels.discord.reading import CHAIN, Reading, groups_of, name_of, place_of
from wordmill.channels.discord.rendering import render
from wordmill.channels.discord.surface import PREFIX, SIZE, button, row
from wordmill.channels.rooms.base import Incoming, Place, Reaction, Sign
from wordmill.channels.rooms.door import Door
from wordmill.channels.rooms.orders import PATIENCE
from wordmill.channels.rooms.records import Answer, Led
from wordmill.channels.rooms.splitting import split, utf16_units
from wordmill.commands import COMMANDS, Command
from wordmill.commands.documents import of_message
from wordmill.errors import ChannelError, Forbidden, InvalidInput, WordmillError

_QUESTIONS: Final = 500
_THANKS: Final[Mapping[str, str]] = {"up": "👍 Noted.", "down": "👎 Noted."}
_SIGNS: Final[Mapping[str, Sign]] = {"stop": "stop", "retry": "retry", "up": "up", "down": "down"}
_NOT_OURS: Final = "This message is no answer of mine."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Something that is done after a yes of this user."""

    user: int
    act: Callable[[discord.Interaction], Awaitable[None]]
    until: float


class Pressing:
    """Of one bot. Used in its event loop."""

    def __init__(self, door: Door, reading: Reading) -> None:
        self._door, self._reading = door, reading
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()

    async def pressed(self, interaction: discord.Interaction) -> None:
        """Take one. What is wrong is said to whoever pressed, and to nobody else."""
        data = cast("dict[str, Any]", interaction.data or {})
        try:
            match interaction.type:
                case discord.InteractionType.autocomplete:
                    await self._complete(interaction, data)
                case discord.InteractionType.application_command:
                    if data.get("type") == slash.MENU:
                        await self._menu(interaction, data)
                    else:
                        await self._command(interaction, data)
                case discord.InteractionType.component:
                    await self._button(interaction, str(data.get("custom_id", "")))
        except ChannelError as error:
            log.warning("%s: what was pressed cannot be answered: %s", self._door.name, error)
        except WordmillError as error:
            await self._sorry(interaction, error)

    async def _sorry(self, interaction: discord.Interaction, error: WordmillError) -> None:
        try:
            with wrapped():
                words = render(f"⚠ {error}"[:SIZE])
                if not interaction.response.is_done():
                    await interaction.response.send_message(words, ephemeral=True)
                    return
                if interaction.type is discord.InteractionType.application_command:
                    await interaction.delete_original_response()
                await interaction.followup.send(words, ephemeral=True)
        except ChannelError as second:
            log.warning("%s: %s, and it cannot be said: %s", self._door.name, error, second)

    # Commands.

    async def _command(self, interaction: discord.Interaction, data: Mapping[str, Any]) -> None:
        command = COMMANDS.find(str(data["name"]))
        direct = _direct(interaction)
        private = command.private and not direct
        await self._defer(interaction, private=private)
        incoming = await self._asked(interaction, f"/{command.name}", private=private)
        given = slash.values(command, data.get("options") or ())
        alone = private or direct
        price = await self._door.price(incoming, command.name, given, alone=alone)
        if price is None:
            await self._invoke(interaction, incoming, command, given, alone=alone)
            return

        async def act(pressed: discord.Interaction) -> None:
            await self._invoke(pressed, incoming, command, given, alone=alone)

        await self._ask(interaction, f"{price} Shall I do this?", act, private=private)

    async def _invoke(
        self, interaction: discord.Interaction, incoming: Incoming, command: Command,
        given: Mapping[str, object], *, alone: bool,
    ) -> None:  # fmt: skip
        outcome = await self._door.invoke(incoming, command.name, given, alone=alone)
        if outcome.conversation is not None and incoming.place.thread.startswith(CHAIN):
            # A reply to what is said now goes on in that conversation.
            person = await self._door.person(incoming)
            place = Place(incoming.place.room, f"{CHAIN}{await _response(interaction)}")
            led = Led(outcome.conversation, person.id)
            await asyncio.to_thread(self._door.records.lead, place, led)
        await self._tell(interaction, outcome.text or "✓", private=alone)

    async def _complete(self, interaction: discord.Interaction, data: Mapping[str, Any]) -> None:
        options: Sequence[Mapping[str, Any]] = data.get("options") or ()
        focused = next((one for one in options if one.get("focused")), None)
        choices: list[slash.Json] = []
        if focused is not None:
            try:
                incoming = await self._asked(interaction, "", private=True)
                choices = await self._choices(str(data["name"]), focused, incoming)
            except WordmillError as error:
                log.info("%s: nothing is suggested: %s", self._door.name, error)
        with wrapped():
            await interaction.response.autocomplete(
                [discord.app_commands.Choice(**one) for one in choices]
            )

    async def _choices(
        self, name: str, focused: Mapping[str, Any], incoming: Incoming
    ) -> list[slash.Json]:
        door, command = self._door, COMMANDS.find(name)
        person = await door.person(incoming)
        led = await asyncio.to_thread(door.records.led, incoming.place)
        context = door.orders.context(person, led)
        COMMANDS.check(context, command)
        return await asyncio.to_thread(
            slash.completed, command, focused["name"], str(focused["value"]), context
        )

    # The menu of a message.

    async def _menu(self, interaction: discord.Interaction, data: Mapping[str, Any]) -> None:
        await self._defer(interaction, private=True)
        name, remote = str(data["name"]), str(data["target_id"])
        incoming = await self._asked(interaction, "", private=True)
        owed, person = await self._answer(incoming, remote)
        if name == slash.RETRY:
            await self._door.reacted(self._sign(interaction, remote, "retry"))
            await self._tell(interaction, "Trying again.", private=True)
        elif name == slash.RATE:
            self._check_owner(owed, person)
            view = row(button("up", remote), button("down", remote))
            with wrapped():
                await interaction.edit_original_response(content="How was this answer?", view=view)
        else:
            await self._save(interaction, name, owed, person)

    async def _save(
        self, interaction: discord.Interaction, name: str, owed: Answer, person: Person
    ) -> None:
        """A document of one answer, for whoever asked alone; or put into their Google Drive."""
        door = self._door
        self._check_owner(owed, person)
        context = door.orders.context(person, Led(owed.conversation or "", owed.person))
        last = await asyncio.to_thread(door.house.chat.last_of, person, owed.message)
        saved = await asyncio.to_thread(of_message, context, last.id, drive=name == slash.GOOGLE)
        most = door.surface.limits.file_bytes
        if saved.file is not None and len(saved.file.data) > most:
            raise InvalidInput(
                f"The document has {len(saved.file.data) / 2**20:,.1f} MiB, and "
                f"{most / 2**20:,.1f} MiB is the most here."
            )
        await self._tell(interaction, saved.text, private=True)
        if saved.file is not None:
            file = discord.File(io.BytesIO(saved.file.data), saved.file.name)
            with wrapped():
                await interaction.followup.send(file=file, ephemeral=True)

    async def _answer(self, incoming: Incoming, remote: str) -> tuple[Answer, Person]:
        """The answer that a message of ours is, and who asks for it. Raises InvalidInput."""
        owed = await self._door.answer_at(incoming.place, remote)
        if owed is None:
            raise InvalidInput(_NOT_OURS)
        return owed, await self._door.person(incoming)

    def _check_owner(self, owed: Answer, person: Person) -> None:
        if owed.person != person.id:
            raise Forbidden("This conversation belongs to somebody else.")

    # Buttons.

    async def _button(self, interaction: discord.Interaction, name: str) -> None:
        head, _, rest = name.partition(":")
        word, _, rest = rest.partition(":")
        target = rest.partition(":")[0]
        if head != PREFIX:
            return
        if word in ("yes", "no"):
            await self._decided(interaction, target, word == "yes")
            return
        sign = _SIGNS.get(word)
        if sign is None or interaction.message is None:
            return
        with wrapped():
            await interaction.response.defer()
        remote = target or str(interaction.message.id)
        if sign in ("up", "down"):
            incoming = await self._asked(interaction, "", private=True)
            self._check_owner(*await self._answer(incoming, remote))
        await self._door.reacted(self._sign(interaction, remote, sign))
        if sign in _THANKS:
            with wrapped():
                await interaction.followup.send(_THANKS[sign], ephemeral=True)

    async def _decided(self, interaction: discord.Interaction, token: str, yes: bool) -> None:
        waiting = self._waiting.get(token)
        if waiting is None or waiting.until < time.monotonic():
            raise InvalidInput("This question waits no more.")
        if waiting.user != interaction.user.id:
            raise InvalidInput("You were not asked.")
        del self._waiting[token]
        with wrapped():
            await interaction.response.defer()
        if yes:
            await waiting.act(interaction)
        else:
            await self._tell(interaction, "Left as it is.", private=True)

    async def _ask(
        self, interaction: discord.Interaction, words: str,
        act: Callable[[discord.Interaction], Awaitable[None]], *, private: bool,
    ) -> None:  # fmt: skip
        token = token_hex(8)
        until = time.monotonic() + PATIENCE
        self._waiting[token] = _Waiting(interaction.user.id, act, until)
        while len(self._waiting) > _QUESTIONS:
            self._waiting.popitem(last=False)
        view: discord.ui.View = row(
            *(
                discord.ui.Button(label=label, custom_id=f"{PREFIX}:{word}:{token}:")
                for label, word in (("Yes", "yes"), ("No", "no"))
            )
        )
        with wrapped():
            await interaction.edit_original_response(content=render(words)[:2000], view=view)

    # What is alike.

    async def _asked(
        self, interaction: discord.Interaction, text: str, *, private: bool
    ) -> Incoming:
        """What was pressed, as something that was said: by whom, and in which conversation."""
        user, channel = interaction.user, interaction.channel
        if channel is None or interaction.type is None:
            raise InvalidInput("Discord does not say where this is.")
        place, direct = place_of(channel), _direct(interaction)
        event = str(interaction.id)
        shown = "" if private else await _response(interaction)
        incoming = Incoming(
            event=shown or event, place=place, sender=str(user.id), name=name_of(user), text=text,
            at=interaction.created_at, direct=direct, groups=groups_of(user, channel),
        )  # fmt: skip
        if direct or place.thread:
            return incoming
        latest = await self._latest(incoming)
        here = latest or Place(place.room, f"{CHAIN}{shown or event}")
        return Incoming(
            event=incoming.event, place=here, sender=incoming.sender, name=incoming.name,
            text=text, at=incoming.at, direct=direct, groups=incoming.groups,
        )  # fmt: skip

    async def _latest(self, incoming: Incoming) -> Place | None:
        """In company, the conversation that this person led last in the channel."""
        try:
            person = await self._door.person(incoming)
        except Forbidden:
            return None  # who they are is asked again, and answered, where it matters
        return await asyncio.to_thread(self._door.records.latest, incoming.place.room, person.id)

    def _sign(self, interaction: discord.Interaction, remote: str, sign: Sign) -> Reaction:
        user, channel = interaction.user, interaction.channel
        if channel is None:
            raise InvalidInput("Discord does not say where this is.")
        return Reaction(
            event=str(interaction.id), place=place_of(channel), sender=str(user.id),
            name=name_of(user), message=remote, sign=sign, groups=groups_of(user, channel),
        )  # fmt: skip

    async def _defer(self, interaction: discord.Interaction, *, private: bool) -> None:
        with wrapped():
            await interaction.response.defer(ephemeral=private, thinking=True)

    async def _tell(self, interaction: discord.Interaction, text: str, *, private: bool) -> None:
        """Say it in answer to what was pressed."""
        first, *more = [render(part) for part in split(text, SIZE, utf16_units)] or ["✓"]
        with wrapped():
            if not interaction.response.is_done():
                await interaction.response.send_message(first, ephemeral=private)
            else:
                await interaction.edit_original_response(content=first, view=None)
            for part in more:
                await interaction.followup.send(part, ephemeral=private)


def _direct(interaction: discord.Interaction) -> bool:
    return isinstance(interaction.channel, discord.DMChannel)


async def _response(interaction: discord.Interaction) -> str:
    """The message that answers it, as it stands; "" where there is none yet."""
    if not interaction.response.is_done():
        return ""
    with wrapped():
        return str((await interaction.original_response()).id)
