"""One account on Matrix: its sign-in, its sync, what it hears.

The device, its token, its keys and the place up to which it has heard everything are kept together:
the token and the keys of the identity sealed with the channel, the rest in the device's own store
beside it, whose keys are encrypted. The password is used once. The place is written down only when
all before it is in the hands of the door.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from nio import (
    AsyncClient,
    AsyncClientConfig,
    ForwardedRoomKeyEvent,
    InviteMemberEvent,
    JoinedMembersResponse,
    LoginResponse,
    MatrixRoom,
    MegolmEvent,
    RoomKeyEvent,
    SyncResponse,
    WhoamiResponse,
)
from nio.exceptions import EncryptionError, LocalProtocolError

from wordmill.channels.matrix import gaps, hearing, identity, media
from wordmill.channels.matrix.calls import asking, checked
from wordmill.channels.matrix.store import Store
from wordmill.channels.matrix.surface import MatrixSurface
from wordmill.channels.rooms.base import Check, Field, Incoming, Json, Memory, Place, Standing
from wordmill.channels.rooms.door import TOLERANCE, Door
from wordmill.errors import ChannelClosed, ChannelError, ChannelRefused, ConfigError, WordmillError

PATIENCE: Final = 30_000
"""Milliseconds that the server waits for something to tell."""
LATE_KEYS: Final = 5.0
"""Seconds that a key may come after the message that it opens."""
MOST_SEALED: Final = 500
RECEIPT: Final = 0.2
_JOINS: Final = 12
"""Tries to join a room whose server is slow: for about an hour."""
_ROOMS: Final = 500
"""Rooms beyond which only people with an account here have it join another."""
_FILTER: Final[Mapping[str, Any]] = {
    "presence": {"not_types": ["*"]},
    "room": {"timeline": {"limit": 50}},
}

log = logging.getLogger(__name__)


class Matrix:
    """An account. Made and used in the thread that runs it."""

    FIELDS: ClassVar[Sequence[Field]] = (
        Field("homeserver", "The homeserver's address, as https://matrix.example.org."),
        Field("user", "The account's full id, as @mill:example.org."),
        Field("password", "The account's password; used once.", secret=True, needed=False),
        Field("token", "An access token instead of the password.", secret=True, needed=False),
        Field("device", "The device that the token is of.", needed=False),
        Field(
            "recovery", "The recovery passphrase: with it the identity survives the data folder.",
            secret=True, needed=False,
        ),
    )  # fmt: skip

    def __init__(self, options: Json, secrets: Mapping[str, str], memory: Memory) -> None:
        address = urlsplit(options["homeserver"])
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ConfigError(f"{options['homeserver']!r} is no address, as https://example.org.")
        self._user, self._secrets, self._memory = options["user"], secrets, memory
        self._options = options
        config = AsyncClientConfig(
            max_limit_exceeded=0, max_timeouts=0, store_sync_tokens=False,
            encryption_enabled=True, pickle_key=memory.key(), store=Store,
        )  # fmt: skip
        self.client = AsyncClient(
            options["homeserver"].rstrip("/"), self._user, store_path=memory.folder(), config=config
        )
        self._surface = MatrixSurface(self.client)
        self._sealed: dict[str, tuple[str, MegolmEvent]] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._identity: identity.State | None = None
        self._joining: set[str] = set()
        """Rooms that are joined, until the server tells of them."""

    @property
    def surface(self) -> MatrixSurface:
        """How to write there."""
        return self._surface

    @classmethod
    def invitation(cls, options: Json) -> str:
        """What to do at the homeserver."""
        user = options["user"]
        return (
            f"Invite `{user}` into a room, or start a direct chat with it: "
            f"https://matrix.to/#/{user}\n\n"
            "It needs no power level. In an encrypted room it reads what is said after it joined. "
            "An admin of the homeserver can lift its rate limit, so that long answers are shown "
            f"as they grow: `POST /_synapse/admin/v1/users/{user}/override_ratelimit`."
        )

    async def run(self, door: Door, ready: Callable[[], None]) -> None:
        """Hear what is said, until cancelled."""
        try:
            await self._sign_in()
            since = self._since()
            response = await self._sync(since, first=True)
            await self._housekeep()
            self._identity = await self._ensure_identity()
            self._show(True)
            await door.open()
            await self._unsealed(door)
            await self._settle(door, response, replayed=since is None, keys=True)
            ready()
            while True:
                response = await self._sync(None)
                await self._settle(door, response)
                await self._housekeep()
                door.check()
        except (ChannelError, ConfigError) as error:
            self._show(False, str(error))
            raise
        finally:
            late = list(self._late)
            for task in late:
                task.cancel()
            # Whoever still said something would open a connection anew.
            await asyncio.gather(*late, return_exceptions=True)
            await door.close()
            await self.client.close()

    async def check(self) -> Sequence[Check]:
        """Sign in, look at the identity, ask what the server takes."""
        found: list[Check] = []
        try:
            await self._sign_in()
            found.append(Check("sign-in", True, f"The account is {self.client.user_id}."))
            await self._sync(self._since(), first=True, patient=False)
            rooms = len(self.client.rooms)
            found.append(Check("sync", True, f"It is in {rooms} rooms."))
            await self._housekeep()
            state = await self._ensure_identity()
            words = state.trouble or f"Encryption is {state.words}."
            found.append(Check("identity", not state.trouble, words))
            most = await media.most_upload(self.client)
            words = "unknown" if most is None else f"{most / 2**20:,.0f} MiB"
            found.append(Check("files", True, f"The largest file that may be sent: {words}."))
        except WordmillError as error:
            found.append(Check("connection", False, str(error)))
        finally:
            await self.client.close()
        return found

    # Who we are.

    async def _sign_in(self) -> None:
        """With what was kept; with the password at the first start alone."""
        kept = self._memory.read()
        client = self.client
        login = self._login(kept)
        if login is None:
            password = self._secrets.get("password", "")
            if not password:
                raise ConfigError("The channel has neither a password nor a token to sign in with.")
            with asking():
                answer = await client.login(password, device_name="Wordmill")
            if not isinstance(answer, LoginResponse):
                error = answer.message or answer.status_code
                if answer.status_code == "M_LIMIT_EXCEEDED":
                    raise ChannelError(f"The homeserver lets nobody sign in so often: {error}.")
                raise ChannelClosed(f"The homeserver does not let {self._user} sign in: {error}.")
            self._memory.write(
                {**kept, "given": self._given(), "user": answer.user_id,
                 "device": answer.device_id, "token": answer.access_token}
            )  # fmt: skip
        else:
            client.user_id, client.device_id, client.access_token = login
        with asking():
            answer = await client.whoami()
        who: WhoamiResponse = checked(answer)
        if who.user_id != self._user:
            raise ChannelClosed(f"The token is of {who.user_id}, and not of {self._user}.")
        client.device_id = client.device_id or str(who.device_id)
        client.load_store()
        self._surface.me = who.user_id
        if most := await media.most_upload(client):
            limits = self._surface.limits
            self._surface.limits = replace(limits, file_bytes=min(limits.file_bytes, most))

    def _login(self, kept: Mapping[str, Any]) -> tuple[str, str, str] | None:
        """Account, device and token that were kept, or given; new ones given count for more."""
        if kept.get("token") and kept.get("given") == self._given():
            return kept["user"], kept["device"], kept["token"]
        if token := self._secrets.get("token"):
            return self._user, self._options.get("device", ""), token
        return None

    def _given(self) -> str:
        """By which one knows that another password or token was given since."""
        told = "\0".join(self._secrets.get(name, "") for name in ("password", "token"))
        return hashlib.sha256(f"{self._memory.key()}{told}".encode()).hexdigest()

    async def _ensure_identity(self) -> identity.State:
        kept = self._memory.read()
        keys = kept.get("identity")
        state = await identity.ensure(
            self.client, identity.Identity(**keys) if keys else None, bool(kept.get("stored")),
            self._secrets.get("password", ""), self._secrets.get("recovery", ""), self._keep,
        )  # fmt: skip
        if state.identity is not None and (not keys or state.stored != bool(kept.get("stored"))):
            self._keep(state.identity, state.stored)
        return state

    def _keep(self, made: identity.Identity, stored: bool = False) -> None:
        """Write the keys of the identity down, before anybody is told of them."""
        mine = {"master": made.master, "signing": made.signing}
        self._memory.write({**self._memory.read(), "identity": mine, "stored": stored})

    # What is heard.

    async def _sync(
        self, since: str | None, *, first: bool = False, patient: bool = True
    ) -> SyncResponse:
        with asking():
            answer = await self.client.sync(
                0 if first or not patient else PATIENCE, dict(_FILTER), since, first
            )
        response: SyncResponse = checked(answer)
        return response

    async def _settle(
        self, door: Door, response: SyncResponse, *, replayed: bool = False, keys: bool = False
    ) -> None:
        """Hand everything to the door, and then note that all of it was heard.

        replayed: it may be old.  keys: some may have come before it.
        """
        self._joining.difference_update(response.rooms.join)
        for room_id, invited in response.rooms.invite.items():
            await self._invited(door, room_id, invited.invite_state)
        heard: list[Incoming] = []
        old: list[Incoming] = []
        for room_id, joined in response.rooms.join.items():
            room, timeline = self.client.rooms[room_id], joined.timeline
            gap = timeline.limited or replayed
            into = old if gap else heard
            if timeline.limited and timeline.prev_batch:
                for event in await self._missing(door, room_id, timeline.prev_batch):
                    await self._hear(door, room, event, old, replayed=True)
            for event in timeline.events:
                await self._hear(door, room, event, into, replayed=gap)
        if keys or any(
            isinstance(e, RoomKeyEvent | ForwardedRoomKeyEvent) for e in response.to_device_events
        ):
            opened = await self._opened_late(door, heard)
        else:
            opened = []
        await door.receive(old, replayed=True)
        await door.receive(heard)
        if opened:
            await asyncio.to_thread(door.records.unseal, opened)
        for one in (*old, *heard):
            self._soon(self._read(one))
        if self.client.store is not None:
            self.client.store.save_sync_token(response.next_batch)
        await self._leave_empty(response)

    async def _missing(self, door: Door, room: str, before: str) -> list[Any]:
        marker = await asyncio.to_thread(door.records.marker)
        if marker is None:
            return []
        return await gaps.missing(
            self.client, room, before, marker - TOLERANCE,
            lambda events: door.records.knows(events),
        )  # fmt: skip

    async def _hear(
        self, door: Door, room: MatrixRoom, event: Any, into: list[Incoming], *, replayed: bool
    ) -> None:
        """Take one event. One that is not as it should be must not keep the others away."""
        try:
            await self._take(door, room, event, into, replayed)
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            log.exception("an event of %s cannot be understood, and is left", room.room_id)

    async def _take(
        self, door: Door, room: MatrixRoom, event: Any, into: list[Incoming], replayed: bool
    ) -> None:
        if isinstance(event, MegolmEvent):
            if event.sender != self.client.user_id:
                await self._keep_sealed(door, room, event, replayed)
            return
        if event.source.get("type") == "m.reaction":
            reaction = hearing.sign(room, event.source)
            if reaction is not None:
                await door.reacted(reaction)
            return
        if event.sender == self.client.user_id:
            return
        found = await hearing.said(self.client, room, event.source)
        if found is not None:
            self._surface.heard(found.event, found.sender)
            into.append(found)

    async def _read(self, one: Incoming) -> None:
        await asyncio.sleep(RECEIPT)  # an answer that comes at once goes first
        try:
            await self._surface.read(one.place, one.event)
        except ChannelError as error:
            log.debug("no receipt: %s", error)

    async def _invited(self, door: Door, room: str, state: Sequence[Any]) -> None:
        """Join whoever may talk to us, refuse the others; a server that is slow is asked again.

        An invitation costs nothing, and everybody can send them: strangers fill no more than so
        many rooms.
        """
        mine = [
            event for event in state
            if isinstance(event, InviteMemberEvent) and event.state_key == self.client.user_id
            and event.membership == "invite"
        ]  # fmt: skip
        if not mine:
            return
        sender = mine[-1].sender
        rooms = len({*self.client.rooms, *self._joining})
        full = rooms >= _ROOMS and not await door.knows(sender)
        if full:
            log.info("%s may not have it join a room: it is in %d", sender, rooms)
        if full or not door.policy.admits(sender, room, sender.partition(":")[2]):
            with asking():
                await self.client.room_leave(room)
            return
        self._joining.add(room)
        if not await self._joined(room):
            self._soon(self._join_later(room))

    async def _join_later(self, room: str) -> None:
        pause = 2.0
        for _ in range(_JOINS):
            await asyncio.sleep(pause)
            if await self._joined(room):
                return
            pause = min(600.0, pause * 2)
        log.warning("the room %s was not joined, and no further try is made", room)
        self._joining.discard(room)

    async def _joined(self, room: str) -> bool:
        """Join a room; whether nothing more is to be done."""
        try:
            with asking():
                checked(await self.client.join(room))
        except ChannelRefused as error:
            log.warning("the room %s cannot be joined: %s", room, error)
            self._joining.discard(room)
        except ChannelError as error:
            log.info("the room %s is joined later: %s", room, error)
            return False
        return True

    async def _leave_empty(self, response: SyncResponse) -> None:
        """Leave a room in which nobody else is any more."""
        for room_id, joined in response.rooms.join.items():
            room = self.client.rooms[room_id]
            left = any(
                event.source.get("type") == "m.room.member"
                and event.source.get("content", {}).get("membership") in ("leave", "ban")
                for event in joined.timeline.events
            )
            if not left or len(room.users) > 1:
                continue
            # What we know of a room may be a part of it: who is there the server says.
            with suppress(ChannelError), asking():
                told: JoinedMembersResponse = checked(await self.client.joined_members(room_id))
                if len(told.members) == 1:
                    checked(await self.client.room_leave(room_id))

    # What cannot be read.

    async def _keep_sealed(
        self, door: Door, room: MatrixRoom, event: MegolmEvent, replayed: bool
    ) -> None:
        """Keep what cannot be decrypted: its key may come late, or is asked for."""
        if event.event_id in self._sealed:
            return
        at = hearing.moment(event.server_timestamp)
        if replayed:
            marker = await asyncio.to_thread(door.records.marker)
            if marker is None or at < marker - TOLERANCE:
                return  # from before our time
        source = {**event.source, "room_id": room.room_id}
        await asyncio.to_thread(door.records.seal, event.event_id, at, source)
        await self._wait_for_key(door, room.room_id, event)

    async def _unsealed(self, door: Door) -> None:
        """Take up what an earlier process could not read."""
        for source in await asyncio.to_thread(door.records.sealed):
            event = MegolmEvent.from_dict(dict(source))
            if isinstance(event, MegolmEvent):
                await self._wait_for_key(door, str(source["room_id"]), event)

    async def _wait_for_key(self, door: Door, room: str, event: MegolmEvent) -> None:
        event.room_id = room
        if len(self._sealed) >= MOST_SEALED:
            oldest = next(iter(self._sealed))
            del self._sealed[oldest]
            await asyncio.to_thread(door.records.unseal, [oldest])
        self._sealed[event.event_id] = (room, event)
        self._soon(self._unreadable(door, room, event))

    async def _unreadable(self, door: Door, room: str, event: MegolmEvent) -> None:
        """Say by a sign, which is one however often it is put, that we cannot read it, and ask for
        the key.
        """
        await asyncio.sleep(LATE_KEYS)
        if event.event_id not in self._sealed:
            return
        nonce = door.records.nonce(event.event_id)
        try:
            await self._surface.react(Place(room), event.event_id, "❌🔐", nonce=f"{nonce}u")
            with asking():
                await self.client.request_room_key(event)
        except LocalProtocolError:
            return  # the key was asked for already
        except ChannelError as error:
            log.info("a key cannot be asked for: %s", error)

    async def _opened_late(self, door: Door, into: list[Incoming]) -> list[str]:
        """Take what can be read now that keys have come; which events that were."""
        opened: list[str] = []
        for event_id, (room_id, sealed) in list(self._sealed.items()):
            room = self.client.rooms.get(room_id)
            if room is None:
                continue
            try:
                event = self.client.decrypt_event(sealed)
            except EncryptionError:
                continue
            del self._sealed[event_id]
            opened.append(event_id)
            await self._hear(door, room, event, into, replayed=False)
        return opened

    # What keeps it going.

    async def _housekeep(self) -> None:
        """What the keys want: sent, uploaded, asked for."""
        client = self.client
        with asking():
            await client.send_to_device_messages()
            if client.should_upload_keys:
                checked(await client.keys_upload())
            if client.should_query_keys:
                checked(await client.keys_query())
            if client.should_claim_keys:
                checked(await client.keys_claim(client.get_users_for_key_claiming()))

    def _since(self) -> str | None:
        store = self.client.store
        token = store.load_sync_token() if store is not None else None
        return str(token) if token else None

    def _show(self, connected: bool, words: str = "") -> None:
        state = self._identity
        self._surface.shown = Standing(
            connected, words or (state.trouble if state else ""), self._user,
            f"{state.words}, device {self.client.device_id}" if state else "",
        )  # fmt: skip

    def _soon(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)
