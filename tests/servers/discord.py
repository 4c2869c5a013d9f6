"""A Discord to test against: its REST interface and its gateway, on real sockets.

    with standing_in() as discord:
        bot = discord.add_bot("wordmill")
        with discord.used():  # discord.py finds it by two addresses; nothing of it is replaced
            ...
            ann = discord.add_user("ann")
            said = discord.say(discord.general, ann, f"<@{bot.id}> Hello")
            answer = discord.until(lambda: discord.replies(said))

It is strict where the service is: rate limits by route with their headers, 2,000 characters, three
seconds for an interaction and fifteen minutes for its token, sessions that are resumed with what
they missed, close codes for tokens and intents, one message for one nonce. What a test does comes
from any thread; the server has a thread and an event loop of its own.
"""

import asyncio
import itertools
import json
import math
import re
import threading
import time
import zlib
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, TypeVar

from aiohttp import BodyPartReader, WSMsgType, web

Json: TypeAlias = dict[str, Any]
Value = TypeVar("Value")

EPOCH: Final = 1420070400000
MESSAGE_CONTENT: Final = 1 << 15
ALL: Final = str((1 << 50) - 1)
EPHEMERAL: Final = 64
TEXT, DM, THREAD, PRIVATE_THREAD = 0, 1, 11, 12
SLASH, MESSAGE_MENU = 1, 3


@dataclass
class Bot:
    """An application and its user. content: whether the portal lets it read what is said."""

    id: str
    name: str
    application: str
    token: str
    content: bool = True
    public: bool = True
    commands: list[Json] = field(default_factory=list)
    registrations: list[list[Json]] = field(default_factory=list)
    identified: int = 0
    resumed: int = 0
    sessions: dict[str, "Session"] = field(default_factory=dict)
    refused_with: int = 0
    """A code with which the gateway closes whoever identifies as it."""
    permissions: str = ALL
    role: str = ""
    """The role that a server makes for it; it has its name."""

    @property
    def connected(self) -> int:
        return sum(session.socket is not None for session in self.sessions.values())


@dataclass
class Session:
    id: str
    intents: int
    sequence: int = 0
    frames: list[Json] = field(default_factory=list)
    socket: web.WebSocketResponse | None = None
    packed: Any = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Call:
    """A request that was answered. at: monotonic seconds."""

    at: float
    method: str
    path: str
    body: Json
    status: int


@dataclass
class Asking:
    """An interaction. first: the first response to it, once it came; autocompletion's choices."""

    id: str
    token: str
    bot: str
    channel: str
    user: str
    at: float
    first: Json | None = None
    answered_after: float = 0.0
    original: str = ""
    messages: list[str] = field(default_factory=list)

    @property
    def private(self) -> bool:
        return bool(((self.first or {}).get("data") or {}).get("flags", 0) & EPHEMERAL)


@dataclass
class Fault:
    """What happens to requests instead: so many of those whose method and path it matches.

    lost: the request is carried out, and its answer never comes.
    """

    pattern: str
    times: int
    status: int = 500
    body: Json = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    lost: bool = False


class StandIn:
    """The service. `limits`: how many requests in how many seconds, by the name of a route."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self.limits: dict[str, tuple[int, float]] = {
            "send": (5, 1.0), "edit": (5, 1.0), "react": (1, 0.25), "other": (50, 1.0),
        }  # fmt: skip
        self.faults: list[Fault] = []
        self.nonces_last = 180.0
        self.interaction_seconds, self.token_seconds = 3.0, 900.0
        self.heartbeat = 20.0
        self.gateway_down = False
        self.users: dict[str, Json] = {}
        self.roles: dict[str, list[str]] = {}
        self.bots: dict[str, Bot] = {}
        self.channels: dict[str, Json] = {}
        self.messages: dict[str, Json] = {}
        self.versions: dict[str, list[tuple[float, Json]]] = {}
        self.reactions: list[tuple[str, str, str]] = []
        self.files: dict[str, tuple[str, bytes]] = {}
        self.fetched: list[str] = []
        self.typing: list[tuple[str, str, float]] = []
        self.pinged: list[tuple[str, str]] = []
        self.calls: list[Call] = []
        self.refused: list[Call] = []
        self.askings: dict[str, Asking] = {}
        self._nonces: dict[tuple[str, str, str], tuple[float, str]] = {}
        self._buckets: dict[tuple[str, str], tuple[float, int]] = {}
        """Of each: when it began, and how many have passed since."""
        self.guild_id = self.new_id()
        self.general = self.add_channel("general")
        self.loop = asyncio.new_event_loop()
        self.port = 0

    # What a test does.

    def new_id(self) -> str:
        return str(((int(time.time() * 1000) - EPOCH) << 22) | (next(self._numbers) & 0x3FFFFF))

    def add_bot(self, name: str, token: str = "") -> Bot:
        uid = self.new_id()
        bot = Bot(uid, name, self.new_id(), token or f"{name}.token.{uid}")
        bot.role = self.new_id()
        self.users[uid] = _user(uid, name, bot=True)
        self.bots[uid] = bot
        return bot

    def add_user(self, name: str, *, bot: bool = False, roles: Sequence[str] = ()) -> str:
        uid = self.new_id()
        self.users[uid] = _user(uid, name, bot=bot)
        self.roles[uid] = list(roles)
        return uid

    def add_channel(self, name: str, kind: int = TEXT, **more: Any) -> str:
        cid = self.new_id()
        self.channels[cid] = {
            "id": cid, "type": kind, "guild_id": self.guild_id, "name": name, "position": 0,
            "topic": None, "nsfw": False, "permission_overwrites": [], "parent_id": None,
            "last_message_id": None, "rate_limit_per_user": 0, **more,
        }  # fmt: skip
        return cid

    def add_direct(self, bot: Bot, user: str) -> str:
        """The channel of two; the same one each time."""
        for cid, channel in self.channels.items():
            if channel["type"] == DM and (channel["bot"], channel["user"]) == (bot.id, user):
                return cid
        cid = self.new_id()
        self.channels[cid] = {
            "id": cid, "type": DM, "last_message_id": None, "bot": bot.id, "user": user,
            "recipients": [self.users[user]],
        }  # fmt: skip
        return cid

    def add_thread(self, parent: str, name: str, owner: str, start: str = "") -> str:
        """A thread, from a message where `start` names one."""
        return self._run(self._new_thread(parent, name, owner, start))["id"]

    def say(
        self, channel: str, user: str, text: str, *, reply_to: str = "",
        files: Sequence[tuple[str, str, bytes]] = (), **more: Any,
    ) -> str:  # fmt: skip
        """Somebody says something. files: name, media type, bytes."""
        stored = [self._file(name, kind, data) for name, kind, data in files]
        if reply_to:
            more |= {
                "type": 19,
                "message_reference": {"message_id": reply_to, "channel_id": channel},
                "referenced_message": self.messages.get(reply_to),
            }
        said: Json = self._run(self._say(channel, user, text, attachments=stored, **more))
        return str(said["id"])

    def amend(self, message: str, text: str) -> None:
        """Somebody edits a message of theirs."""
        self._run(self._change(message, {"content": text}))

    def react(self, user: str, message: str, emoji: str) -> None:
        self._run(self._react(user, message, emoji))

    def slash(self, bot: Bot, name: str, user: str, channel: str, /, **options: Any) -> Asking:
        command = _named(bot.commands, name, SLASH)
        return self._run(
            self._ask(bot, user, channel, 2, {
                "id": command["id"], "name": name, "type": 1,
                "options": _options(command, options, ""),
            })
        )  # fmt: skip

    def complete(
        self, bot: Bot, name: str, user: str, channel: str, option: str, /, **options: Any
    ) -> list[Json]:
        """The choices that are offered while an option is typed."""
        command = _named(bot.commands, name, SLASH)
        data = {
            "id": command["id"], "name": name, "type": 1,
            "options": _options(command, options, option),
        }  # fmt: skip
        asking = self._run(self._ask(bot, user, channel, 4, data))
        first = self.until(lambda: asking.first)
        assert first["type"] == 8
        return list(first["data"]["choices"])

    def menu(self, bot: Bot, name: str, user: str, message: str) -> Asking:
        """A command of a message's menu."""
        command = _named(bot.commands, name, MESSAGE_MENU)
        target = self.messages[message]
        data = {
            "id": command["id"], "name": name, "type": MESSAGE_MENU, "target_id": message,
            "resolved": {"messages": {message: target}},
        }  # fmt: skip
        return self._run(self._ask(bot, user, target["channel_id"], 2, data))

    def click(self, message: str, label: str, user: str) -> Asking:
        """A button under a message, by its label or emoji."""
        found = self.messages[message]
        button = next(one for one in buttons(found) if label in (one["label"], one["emoji"]))
        bot = self.bots[found["author"]["id"]]
        data = {"custom_id": button["id"], "component_type": 2}
        return self._run(self._ask(bot, user, found["channel_id"], 3, data, message=found))

    def cut(self, bot: Bot, code: int = 4000) -> None:
        """Close the connections of a bot; its sessions can be resumed."""
        self._run(self._cut(bot, code))

    def forget_sessions(self, bot: Bot) -> None:
        """Nothing can be resumed any more."""
        self._run(self._forget(bot))

    def fail(self, pattern: str, times: int = 1, **more: Any) -> Fault:
        """Let requests fail; the pattern is looked for in `METHOD path`."""
        fault = Fault(pattern, times, **more)
        self.faults.append(fault)
        return fault

    def limit(
        self, pattern: str, seconds: float, times: int = 1, *, everywhere: bool = False
    ) -> None:
        """Refuse requests with a limit that no header announced."""
        body = {
            "message": "You are being rate limited.",
            "retry_after": seconds,
            "global": everywhere,
        }
        headers = {"Retry-After": str(seconds), "Via": "1.1 stand-in"}
        if everywhere:
            headers["X-RateLimit-Global"] = "true"
        self.fail(pattern, times, status=429, body=body, headers=headers)

    def said_by(self, author: str, channel: str = "") -> list[Json]:
        """The messages of somebody, in their order; private ones are not among them."""
        return [
            message
            for message in list(self.messages.values())
            if message["author"]["id"] == author
            and channel in ("", message["channel_id"])
            and not message["flags"] & EPHEMERAL
        ]

    def replies(self, message: str) -> list[Json]:
        """The messages that answer one."""
        return [
            one
            for one in list(self.messages.values())
            if (one.get("message_reference") or {}).get("message_id") == message
        ]

    def told(self, asking: Asking) -> list[Json]:
        """What was said in answer to an interaction."""
        return [self.messages[name] for name in asking.messages if name in self.messages]

    def edits(self, message: str) -> list[tuple[float, Json]]:
        """The versions of a message, each with when it came."""
        return list(self.versions[message])

    def until(self, look: Callable[[], Value], seconds: float = 40.0) -> Value:
        """What `look` gives, once that is something."""
        end = time.monotonic() + seconds
        with self._changed:
            while not (found := look()):
                left = end - time.monotonic()
                assert left > 0, "it did not happen in time"
                self._changed.wait(min(left, 0.2))
        return found

    @contextmanager
    def used(self) -> Iterator[None]:
        """discord.py of this process speaks to this server meanwhile."""
        import discord.gateway
        import discord.http
        from yarl import URL

        route, gateway = discord.http.Route, discord.gateway.DiscordWebSocket
        before = route.BASE, gateway.DEFAULT_GATEWAY
        route.BASE, gateway.DEFAULT_GATEWAY = self.rest, URL(self.gateway)
        try:
            yield
        finally:
            route.BASE, gateway.DEFAULT_GATEWAY = before

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v10"

    @property
    def gateway(self) -> str:
        return f"ws://127.0.0.1:{self.port}/gateway"

    # The server.

    def _run(self, work: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def open(self) -> web.AppRunner:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get("/gateway", self._gateway)
        app.router.add_get("/cdn/{name}/{file}", self._cdn)
        app.router.add_route("*", "/api/v10/{tail:.*}", self._rest)
        runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner

    async def _cdn(self, request: web.Request) -> web.StreamResponse:
        kind, data = self.files[request.match_info["name"]]
        self.fetched.append(request.match_info["file"])
        return web.Response(body=data, content_type=kind or "application/octet-stream")

    # The gateway.

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        if self.gateway_down:
            return web.Response(status=503)
        socket = web.WebSocketResponse(max_msg_size=8 << 20)
        await socket.prepare(request)
        packed = zlib.compressobj() if request.query.get("compress") == "zlib-stream" else None
        link = Session("", 0, socket=socket, packed=packed)
        await _send(link, {"op": 10, "d": {"heartbeat_interval": int(self.heartbeat * 1000)}})
        session: Session | None = None
        try:
            async for frame in socket:
                if frame.type != WSMsgType.TEXT:
                    continue
                said = json.loads(frame.data)
                if said["op"] == 1:
                    await asyncio.sleep(0.02)  # discord.py notes when it asked after it has
                    await _send(link if session is None else session, {"op": 11})
                elif said["op"] == 2:
                    session = await self._identify(link, said["d"])
                elif said["op"] == 6:
                    session = await self._resume(link, said["d"])
        finally:
            if session is not None and session.socket is socket:
                session.socket = None
            self._tell()
        return socket

    async def _identify(self, link: Session, said: Json) -> Session | None:
        assert link.socket is not None
        bot = self._of_token(said["token"])
        if bot is None:
            await link.socket.close(code=4004, message=b"Authentication failed.")
            return None
        if bot.refused_with or (said["intents"] & MESSAGE_CONTENT and not bot.content):
            code = bot.refused_with or 4014
            await link.socket.close(code=code, message=b"Disallowed intent(s).")
            return None
        bot.identified += 1
        link.id, link.intents = f"session-{self.new_id()}", said["intents"]
        bot.sessions[link.id] = link
        await self._dispatch_to(link, "READY", {
            "v": 10, "user": self.users[bot.id], "session_id": link.id, "shard": [0, 1],
            "resume_gateway_url": self.gateway, "private_channels": [], "relationships": [],
            "guilds": [{"id": self.guild_id, "unavailable": True}],
            "application": {"id": bot.application, "flags": self._flags(bot)},
        })  # fmt: skip
        await self._dispatch_to(link, "GUILD_CREATE", self._guild(bot))
        self._tell()
        return link

    async def _resume(self, link: Session, said: Json) -> Session | None:
        assert link.socket is not None
        bot = self._of_token(said["token"])
        session = None if bot is None else bot.sessions.get(said["session_id"])
        if bot is None or session is None or said["seq"] is None or session.socket is not None:
            await _send(link, {"op": 9, "d": False})
            return None
        session.socket, session.packed, session.lock = link.socket, link.packed, link.lock
        for frame in [one for one in session.frames if one["s"] > said["seq"]]:
            await _send(session, frame)
        bot.resumed += 1
        await self._dispatch_to(session, "RESUMED", {})
        self._tell()
        return session

    def _of_token(self, token: str) -> Bot | None:
        return next((bot for bot in self.bots.values() if bot.token == token), None)

    async def _dispatch(self, kind: str, data: Json, only: Bot | None = None) -> None:
        channel = self.channels.get(str(data.get("channel_id")), {})
        for bot in list(self.bots.values()):
            if only not in (None, bot) or channel.get("bot", bot.id) != bot.id:
                continue
            for session in list(bot.sessions.values()):
                await self._dispatch_to(session, kind, self._seen(bot, session, kind, data))
        self._tell()

    def _seen(self, bot: Bot, session: Session, kind: str, data: Json) -> Json:
        """What a bot without the intent is shown of a message that is not for it."""
        if not kind.startswith("MESSAGE_") or session.intents & MESSAGE_CONTENT:
            return data
        mentioned = any(user["id"] == bot.id for user in data.get("mentions", ()))
        if mentioned or data.get("author", {}).get("id") == bot.id or "guild_id" not in data:
            return data
        return {**data, "content": "", "attachments": [], "embeds": [], "components": []}

    async def _dispatch_to(self, session: Session, kind: str, data: Json) -> None:
        session.sequence += 1
        frame = {"op": 0, "t": kind, "s": session.sequence, "d": json.loads(json.dumps(data))}
        session.frames.append(frame)
        await _send(session, frame)

    async def _cut(self, bot: Bot, code: int) -> None:
        for session in bot.sessions.values():
            socket, session.socket = session.socket, None
            if socket is not None:
                await socket.close(code=code)

    async def _forget(self, bot: Bot) -> None:
        await self._cut(bot, 4000)
        bot.sessions.clear()

    # What there is.

    def _flags(self, bot: Bot) -> int:
        return (1 << 19) if bot.content else 0

    def _guild(self, bot: Bot) -> Json:
        roles = {name for given in self.roles.values() for name in given}
        return {
            "id": self.guild_id, "name": "The workshop", "owner_id": "1", "unavailable": False,
            "member_count": len(self.users), "large": False, "features": [], "emojis": [],
            "roles": [_role(self.guild_id, "@everyone", bot.permissions)]
            + [_role(str(name), f"role {name}", "0") for name in sorted(roles)]
            + [_role(b.role, b.name, "0", {"bot_id": b.id}) for b in self.bots.values()],
            "channels": [c for c in self.channels.values() if c["type"] == TEXT],
            "threads": [c for c in self.channels.values() if c["type"] in (THREAD, PRIVATE_THREAD)],
            "members": [self._member(bot.id, whole=True)], "stickers": [], "presences": [],
            "voice_states": [], "stage_instances": [], "guild_scheduled_events": [],
            "joined_at": "2026-01-01T00:00:00+00:00", "verification_level": 0, "afk_timeout": 60,
            "default_message_notifications": 0, "explicit_content_filter": 0, "mfa_level": 0,
            "system_channel_id": None, "system_channel_flags": 0, "afk_channel_id": None,
            "premium_tier": 0, "preferred_locale": "en-US", "nsfw_level": 0,
            "premium_progress_bar_enabled": False,
        }  # fmt: skip

    def _member(self, uid: str, *, whole: bool = False) -> Json:
        member = {
            "roles": self.roles.get(uid, []), "joined_at": "2026-01-01T00:00:00+00:00",
            "deaf": False, "mute": False, "flags": 0, "nick": None, "avatar": None,
            "permissions": ALL,
        }  # fmt: skip
        return {**member, "user": self.users[uid]} if whole else member

    def _file(self, name: str, kind: str, data: bytes) -> Json:
        fid = self.new_id()
        self.files[fid] = (kind, data)
        url = f"http://127.0.0.1:{self.port}/cdn/{fid}/{name}"
        return {
            "id": fid, "filename": name, "size": len(data), "url": url, "proxy_url": url,
            "content_type": kind,
        }  # fmt: skip

    def _message(self, channel: str, user: str, text: str, **more: Any) -> Json:
        ids = re.findall(r"<@!?(\d+)>", text)
        roles = re.findall(r"<@&(\d+)>", text)
        message: Json = {
            "id": self.new_id(), "channel_id": channel, "author": self.users[user],
            "content": text, "timestamp": datetime.now(UTC).isoformat(), "edited_timestamp": None,
            "tts": False, "mention_everyone": False, "mention_roles": roles, "attachments": [],
            "embeds": [], "pinned": False, "type": 0, "flags": 0, "components": [],
            "mentions": [self.users[one] for one in dict.fromkeys(ids) if one in self.users],
            **more,
        }  # fmt: skip
        self.messages[message["id"]] = message
        self.versions[message["id"]] = [(time.monotonic(), dict(message))]
        if channel in self.channels:
            self.channels[channel]["last_message_id"] = message["id"]
        return message

    async def _say(self, channel: str, user: str, text: str, **more: Any) -> Json:
        message = self._message(channel, user, text, **more)
        if (replied := more.get("referenced_message")) and user not in self.bots:
            message["mentions"] = [*message["mentions"], replied["author"]]
        await self._publish("MESSAGE_CREATE", message)
        return message

    async def _publish(self, kind: str, message: Json) -> None:
        channel = self.channels.get(message["channel_id"], {})
        place = {}
        if channel.get("type") != DM:
            place["guild_id"] = self.guild_id
            if "webhook_id" not in message:
                place["member"] = self._member(message["author"]["id"])
        await self._dispatch(kind, {**message, **place})

    async def _change(self, name: str, fields: Json) -> Json:
        message = self.messages[name]
        message.update(fields, edited_timestamp=datetime.now(UTC).isoformat())
        self.versions[name].append((time.monotonic(), dict(message)))
        await self._publish("MESSAGE_UPDATE", message)
        return message

    async def _react(self, user: str, message: str, emoji: str) -> None:
        self.reactions.append((message, user, emoji))
        found = self.messages[message]
        place = {}
        if self.channels.get(found["channel_id"], {}).get("type") != DM:
            place = {"guild_id": self.guild_id, "member": self._member(user, whole=True)}
        await self._dispatch("MESSAGE_REACTION_ADD", {
            "user_id": user, "channel_id": found["channel_id"], "message_id": message,
            "emoji": {"id": None, "name": emoji}, "burst": False, "type": 0,
            "message_author_id": found["author"]["id"], **place,
        })  # fmt: skip

    async def _new_thread(self, parent: str, name: str, owner: str, start: str) -> Json:
        if start and start in self.channels:
            raise _refusal(400, 160004, "A thread has already been created for this message")
        tid, moment = start or self.new_id(), "2026-01-01T00:00:00+00:00"
        self.channels[tid] = {
            "id": tid, "type": THREAD, "guild_id": self.guild_id, "parent_id": parent,
            "name": name[:100], "owner_id": owner, "message_count": 0, "member_count": 1,
            "rate_limit_per_user": 0, "last_message_id": None, "flags": 0,
            "thread_metadata": {"archived": False, "auto_archive_duration": 1440, "locked": False,
                                "archive_timestamp": moment, "create_timestamp": moment},
        }  # fmt: skip
        await self._dispatch("THREAD_CREATE", {**self.channels[tid], "newly_created": True})
        return self.channels[tid]

    async def _ask(
        self, bot: Bot, user: str, channel: str, kind: int, data: Json, **more: Any
    ) -> Asking:
        asking = Asking(
            self.new_id(), f"token-{self.new_id()}", bot.id, channel, user, time.monotonic()
        )
        self.askings[asking.token] = asking
        place = self.channels[channel]
        where: Json = {"user": self.users[user], "context": 1}
        if place["type"] != DM:
            where = {
                "member": self._member(user, whole=True),
                "guild_id": self.guild_id,
                "context": 0,
            }
        await self._dispatch("INTERACTION_CREATE", {
            "id": asking.id, "application_id": bot.application, "type": kind, "version": 1,
            "token": asking.token, "channel_id": channel, "channel": place, "locale": "en-US",
            "guild_locale": "en-US", "entitlements": [], "app_permissions": ALL, "data": data,
            "authorizing_integration_owners": {}, "attachment_size_limit": 10 << 20, **where,
            **more,
        }, bot)  # fmt: skip
        return asking

    # REST.

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path, method = request.match_info["tail"], request.method
        body, files = await _body(request)
        call = Call(time.monotonic(), method, path, body, 0)
        lost = False
        try:
            fault = self._fault(f"{method} {path}")
            if fault is not None and not fault.lost:
                raise _Refused(fault.status, fault.body, fault.headers)
            lost = fault is not None
            bot = self._caller(request, path)
            headers = self._passed(method, path, bot)
            answer = await self._answer(request, bot, method, path, body, files)
            call.status = 204 if answer is None else 200
            self.calls.append(call)
        except _Refused as refused:
            call.status, answer, headers = refused.status, refused.body, refused.headers
            self.refused.append(call)
        self._tell()
        if lost and request.transport is not None:
            request.transport.abort()
        # discord.py wants exactly this content type, without a charset.
        data = b"" if answer is None else json.dumps(answer).encode()
        kind = {} if answer is None else {"Content-Type": "application/json"}
        return web.Response(status=call.status, body=data, headers={**kind, **headers})

    def _fault(self, line: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.pattern, line):
                fault.times -= 1
                return fault
        return None

    def _caller(self, request: web.Request, path: str) -> Bot | None:
        if path.startswith(("interactions/", "webhooks/")):
            return None  # the token in the path is the permission
        bot = self._of_token(request.headers.get("Authorization", "").removeprefix("Bot "))
        if bot is None:
            raise _refusal(401, 0, "401: Unauthorized")
        return bot

    def _passed(self, method: str, path: str, bot: Bot | None) -> Mapping[str, str]:
        """Count a request; what is left, as headers. Raises _Refused with 429."""
        route, of = _route(method, path)
        most, seconds = self.limits.get(route, self.limits["other"])
        now = time.monotonic()
        name = (f"{bot.id if bot else ''} {route}", of)
        begun, passed = self._buckets.get(name, (-math.inf, 0))
        if now >= begun + seconds:  # as Discord's: all of it is free again at one moment
            begun, passed = now, 0
        after = math.ceil((begun + seconds - now) * 1000 + 1) / 1000
        if passed >= most:
            body = {"message": "You are being rate limited.", "retry_after": after, "global": False}
            raise _Refused(429, body, _limits(route, most, 0, after) | {"Retry-After": f"{after}"})
        self._buckets[name] = (begun, passed + 1)
        return _limits(route, most, most - passed - 1, after)

    async def _answer(
        self, request: web.Request, bot: Bot | None, method: str, path: str, body: Json,
        files: Sequence[tuple[str, str, bytes]],
    ) -> Any:  # fmt: skip
        line = f"{method} {path}"
        for pattern, act in _ROUTES:
            if found := pattern.fullmatch(line):
                return await act(self, _Asked(bot, body, files, request.query), *found.groups())
        raise _refusal(404, 0, f"404: Not Found ({line})")


@dataclass
class _Asked:
    bot: Any
    body: Json
    files: Sequence[tuple[str, str, bytes]]
    query: Mapping[str, str]


class _Refused(Exception):
    def __init__(self, status: int, body: Json, headers: Mapping[str, str]) -> None:
        super().__init__(status, body)
        self.status, self.body, self.headers = status, body, headers


def _refusal(status: int, code: int, words: str, **more: Any) -> _Refused:
    return _Refused(status, {"code": code, "message": words, **more}, {})


def _checked(body: Json) -> None:
    if len(body.get("content") or "") > 2000:
        error = {"code": "BASE_TYPE_MAX_LENGTH", "message": "Must be 2000 or fewer in length."}
        errors = {"content": {"_errors": [error]}}
        raise _refusal(400, 50035, "Invalid Form Body", errors=errors)
    rows = body.get("components") or []
    if len(rows) > 5 or any(len(row["components"]) > 5 for row in rows):
        raise _refusal(400, 50035, "Invalid Form Body", errors={})


# Routes.


async def _me(server: StandIn, asked: _Asked) -> Json:
    return server.users[asked.bot.id]


async def _somebody(server: StandIn, asked: _Asked, user: str) -> Json:
    if user not in server.users:
        raise _refusal(404, 10013, "Unknown User")
    return server.users[user]


async def _application(server: StandIn, asked: _Asked) -> Json:
    bot = asked.bot
    return {
        "id": bot.application, "name": bot.name, "description": "", "icon": None, "summary": "",
        "bot_public": bot.public, "bot_require_code_grant": False, "verify_key": "0" * 64,
        "flags": server._flags(bot), "team": None, "owner": _user("1", "owner"),
    }  # fmt: skip


async def _gateway_address(server: StandIn, asked: _Asked, suffix: str) -> Json:
    start = {"total": 1000, "remaining": 999, "reset_after": 1, "max_concurrency": 1}
    return {"url": server.gateway, "shards": 1, "session_start_limit": start}


async def _my_guilds(server: StandIn, asked: _Asked) -> list[Json]:
    return [{"id": server.guild_id, "name": "The workshop", "permissions": asked.bot.permissions}]


async def _commands(server: StandIn, asked: _Asked, application: str) -> list[Json]:
    if asked.query.get("with_localizations") == "true":
        return list(asked.bot.commands)
    kept = [_without(one, "description_localizations") for one in asked.bot.commands]
    return [
        {**one, "options": [_without(o, "description_localizations") for o in one["options"]]}
        if one.get("options") else one
        for one in kept
    ]  # fmt: skip


def _without(one: Json, name: str) -> Json:
    return {key: value for key, value in one.items() if key != name}


async def _register(server: StandIn, asked: _Asked, application: str) -> list[Json]:
    commands: Any = asked.body
    asked.bot.registrations.append(commands)
    for command in commands:
        if command.get("type", 1) == SLASH and not re.fullmatch(
            r"[-_a-z0-9]{1,32}", command["name"]
        ):
            raise _refusal(400, 50035, "Invalid Form Body", errors={"name": command["name"]})
        told = [
            command.get("description"),
            *(command.get("description_localizations") or {}).values(),
        ]
        if command.get("type", 1) == SLASH and not all(1 <= len(one or "") <= 100 for one in told):
            raise _refusal(400, 50035, "Invalid Form Body", errors={"description": command["name"]})
        for option in command.get("options", ()):
            told = [
                option["description"],
                *(option.get("description_localizations") or {}).values(),
            ]
            if not all(1 <= len(one) <= 100 for one in told) or len(option.get("choices", ())) > 25:
                raise _refusal(400, 50035, "Invalid Form Body", errors={"option": option})
    asked.bot.commands = [
        {
            "id": server.new_id(), "application_id": application, "version": "1",
            "description": "", "type": 1, "default_member_permissions": None, "nsfw": False, **one,
        }
        for one in commands
    ]  # fmt: skip
    return list(asked.bot.commands)


async def _send_message(server: StandIn, asked: _Asked, channel: str) -> Json:
    if channel not in server.channels:
        raise _refusal(404, 10003, "Unknown Channel")
    body, key = asked.body, (asked.bot.id, channel, str(asked.body.get("nonce")))
    _checked(body)
    if body.get("enforce_nonce"):
        assert len(key[2]) <= 25, "a nonce has at most 25 characters"
        at, known = server._nonces.get(key, (-1e9, ""))
        if time.monotonic() - at < server.nonces_last and known in server.messages:
            return server.messages[known]
    text, stored = body.get("content") or "", [server._file(*file) for file in asked.files]
    if not text.strip() and not stored and not body.get("embeds"):
        raise _refusal(400, 50006, "Cannot send an empty message")
    more: Json = {}
    if reference := body.get("message_reference"):
        replied = server.messages.get(str(reference["message_id"]))
        if replied is None and reference.get("fail_if_not_exists", True):
            raise _refusal(400, 50035, "Invalid Form Body", errors={"message_reference": "unknown"})
        if replied is not None:
            more = {
                "type": 19, "referenced_message": replied,
                "message_reference": {"message_id": replied["id"], "channel_id": channel},
            }  # fmt: skip
    _note_pings(server, text, body, more.get("referenced_message"))
    message = server._message(
        channel, asked.bot.id, text.strip(), attachments=stored, flags=body.get("flags", 0),
        components=body.get("components") or [], **more,
    )  # fmt: skip
    if "nonce" in body:
        server._nonces[key] = (time.monotonic(), message["id"])
    await server._publish("MESSAGE_CREATE", {**message, "nonce": body.get("nonce")})
    return {**message, "nonce": body.get("nonce")}


def _note_pings(server: StandIn, text: str, body: Json, replied: Json | None) -> None:
    allowed = body.get("allowed_mentions")
    kinds = ["users", "roles", "everyone"] if allowed is None else allowed.get("parse", [])
    if "everyone" in kinds and re.search(r"@(everyone|here)", text):
        server.pinged.append(("everyone", text))
    if "users" in kinds and re.search(r"<@!?\d+>", text):
        server.pinged.append(("users", text))
    if replied is not None and (allowed is None or allowed.get("replied_user")):
        server.pinged.append(("replied", text))


async def _edit_message(server: StandIn, asked: _Asked, channel: str, message: str) -> Json:
    _checked(asked.body)
    found = server.messages.get(message)
    if found is None or found["author"]["id"] != asked.bot.id:
        raise _refusal(404, 10008, "Unknown Message")
    _note_pings(server, asked.body.get("content") or "", asked.body, None)
    return await server._change(message, _editable(asked.body))


def _editable(body: Json) -> Json:
    return {key: value for key, value in body.items() if key in ("content", "embeds", "components")}


async def _delete_message(server: StandIn, asked: _Asked, channel: str, message: str) -> None:
    if server.messages.pop(message, None) is None:
        raise _refusal(404, 10008, "Unknown Message")
    data = {"id": message, "channel_id": channel, "guild_id": server.guild_id}
    await server._dispatch("MESSAGE_DELETE", data)


async def _one_message(server: StandIn, asked: _Asked, channel: str, message: str) -> Json:
    found = server.messages.get(message)
    if found is None or found["channel_id"] != channel:
        raise _refusal(404, 10008, "Unknown Message")
    return found


async def _history(server: StandIn, asked: _Asked, channel: str) -> list[Json]:
    found = [
        one
        for one in server.messages.values()
        if one["channel_id"] == channel and not one["flags"] & EPHEMERAL
    ]
    most = int(asked.query.get("limit", 50))
    if "after" in asked.query:
        found = [one for one in found if int(one["id"]) > int(asked.query["after"])][:most]
    elif "before" in asked.query:
        found = [one for one in found if int(one["id"]) < int(asked.query["before"])]
    return found[::-1][:most]


async def _channel(server: StandIn, asked: _Asked, channel: str) -> Json:
    if channel not in server.channels:
        raise _refusal(404, 10003, "Unknown Channel")
    return server.channels[channel]


async def _type(server: StandIn, asked: _Asked, channel: str) -> None:
    server.typing.append((channel, asked.bot.id, time.monotonic()))


async def _put_reaction(
    server: StandIn, asked: _Asked, channel: str, message: str, emoji: str
) -> None:
    await server._react(asked.bot.id, message, emoji)


async def _take_reaction(
    server: StandIn, asked: _Asked, channel: str, message: str, emoji: str
) -> None:
    server.reactions.remove((message, asked.bot.id, emoji))


async def _thread_of_message(server: StandIn, asked: _Asked, channel: str, message: str) -> Json:
    return await server._new_thread(channel, asked.body["name"], asked.bot.id, message)


async def _join(server: StandIn, asked: _Asked, channel: str) -> None:
    return None


async def _open_direct(server: StandIn, asked: _Asked) -> Json:
    return server.channels[server.add_direct(asked.bot, str(asked.body["recipient_id"]))]


def _asking(server: StandIn, token: str) -> Asking:
    asking = server.askings.get(token)
    if asking is None or time.monotonic() - asking.at > server.token_seconds:
        raise _refusal(401, 50027, "Invalid Webhook Token")
    return asking


async def _callback(server: StandIn, asked: _Asked, interaction: str, token: str) -> Json:
    asking, data = _asking(server, token), asked.body.get("data") or {}
    if asking.first is not None:
        raise _refusal(400, 40060, "Interaction has already been acknowledged.")
    if time.monotonic() - asking.at > server.interaction_seconds:
        raise _refusal(404, 10062, "Unknown interaction")
    _checked(data)
    asking.first, asking.answered_after = asked.body, time.monotonic() - asking.at
    resource = None
    if asked.body["type"] in (4, 5):
        message = _follow(server, asking, {**data, "loading": asked.body["type"] == 5}, ())
        asking.original, resource = message["id"], message
    return {
        "interaction": {
            "id": interaction, "type": 2, "response_message_id": asking.original or None,
            "response_message_loading": asked.body["type"] == 5,
            "response_message_ephemeral": asking.private,
        },
        "resource": {"type": asked.body["type"], "message": resource} if resource else None,
    }  # fmt: skip


def _follow(
    server: StandIn, asking: Asking, body: Json, files: Sequence[tuple[str, str, bytes]]
) -> Json:
    text = body.get("content") or ""
    stored = [server._file(*file) for file in files]
    if not (text.strip() or stored or body.get("loading")):
        raise _refusal(400, 50006, "Cannot send an empty message")
    _note_pings(server, text, body, None)
    message = server._message(
        asking.channel, asking.bot, text, flags=body.get("flags", 0), webhook_id=asking.bot,
        attachments=stored, components=body.get("components") or [],
    )  # fmt: skip
    asking.messages.append(message["id"])
    return message


async def _followup(server: StandIn, asked: _Asked, application: str, token: str) -> Json:
    asking = _asking(server, token)
    _checked(asked.body)
    if asking.first is None:
        raise _refusal(404, 10015, "Unknown Webhook")
    return _follow(server, asking, asked.body, asked.files)


async def _edit_followup(
    server: StandIn, asked: _Asked, application: str, token: str, message: str
) -> Json:
    asking = _asking(server, token)
    _checked(asked.body)
    name = asking.original if message == "@original" else message
    if name not in server.messages:
        raise _refusal(404, 10008, "Unknown Message")
    stored = [server._file(*file) for file in asked.files]
    fields = _editable(asked.body) | ({"attachments": stored} if stored else {})
    return await server._change(name, fields)


async def _get_followup(
    server: StandIn, asked: _Asked, application: str, token: str, message: str
) -> Json:
    asking = _asking(server, token)
    return server.messages[asking.original if message == "@original" else message]


async def _delete_followup(
    server: StandIn, asked: _Asked, application: str, token: str, message: str
) -> None:
    asking = _asking(server, token)
    name = asking.original if message == "@original" else message
    server.messages.pop(name, None)


_ROUTES: Final = [
    (re.compile(pattern), act)
    for pattern, act in [
        (r"GET users/@me", _me),
        (r"GET users/@me/guilds", _my_guilds),
        (r"GET users/(\d+)", _somebody),
        (r"GET (?:oauth2/)?applications/@me", _application),
        (r"GET gateway(/bot)?", _gateway_address),
        (r"GET applications/(\d+)/commands", _commands),
        (r"PUT applications/(\d+)/commands", _register),
        (r"POST channels/(\d+)/messages", _send_message),
        (r"GET channels/(\d+)/messages", _history),
        (r"GET channels/(\d+)/messages/(\d+)", _one_message),
        (r"PATCH channels/(\d+)/messages/(\d+)", _edit_message),
        (r"DELETE channels/(\d+)/messages/(\d+)", _delete_message),
        (r"GET channels/(\d+)", _channel),
        (r"POST channels/(\d+)/typing", _type),
        (r"PUT channels/(\d+)/messages/(\d+)/reactions/([^/]+)/@me", _put_reaction),
        (r"DELETE channels/(\d+)/messages/(\d+)/reactions/([^/]+)/@me", _take_reaction),
        (r"POST channels/(\d+)/messages/(\d+)/threads", _thread_of_message),
        (r"PUT channels/(\d+)/thread-members/@me", _join),
        (r"POST users/@me/channels", _open_direct),
        (r"POST interactions/(\d+)/([^/]+)/callback", _callback),
        (r"POST webhooks/(\d+)/([^/]+)", _followup),
        (r"PATCH webhooks/(\d+)/([^/]+)/messages/(@original|\d+)", _edit_followup),
        (r"GET webhooks/(\d+)/([^/]+)/messages/(@original|\d+)", _get_followup),
        (r"DELETE webhooks/(\d+)/([^/]+)/messages/(@original|\d+)", _delete_followup),
    ]
]


def _route(method: str, path: str) -> tuple[str, str]:
    """The name of a route's limit, and what it counts for."""
    channel = re.match(r"channels/(\d+)", path)
    of = channel[1] if channel else path.split("/")[0]
    if method == "POST" and path.endswith("/messages"):
        return "send", of
    if method == "PATCH" and "/messages/" in path:
        return "edit", of
    if "/reactions/" in path:
        return "react", of
    return f"other {method} {re.sub(r'[0-9]+', 'N', path)[:60]}", of


def _limits(route: str, most: int, left: int, after: float) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(most), "X-RateLimit-Remaining": str(left),
        "X-RateLimit-Reset": f"{time.time() + after:.3f}",
        "X-RateLimit-Reset-After": f"{after:.3f}",
        "X-RateLimit-Bucket": f"{zlib.crc32(route.encode()):08x}", "Via": "1.1 stand-in",
    }  # fmt: skip


async def _body(request: web.Request) -> tuple[Any, list[tuple[str, str, bytes]]]:
    files: list[tuple[str, str, bytes]] = []
    if request.content_type != "multipart/form-data":
        return (await request.json() if request.can_read_body else {}), files
    body: Any = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        data = bytes(await part.read(decode=False))
        if part.name == "payload_json":
            body = json.loads(data)
        else:
            files.append((part.filename or "", part.headers.get("Content-Type", ""), data))
    return body, files


async def _send(session: Session, frame: Json) -> None:
    socket = session.socket
    if socket is None or socket.closed:
        return
    text = json.dumps({"s": None, "t": None, "d": None, **frame})
    async with session.lock:
        try:
            if session.packed is None:
                await socket.send_str(text)
            else:
                data = session.packed.compress(text.encode())
                await socket.send_bytes(data + session.packed.flush(zlib.Z_SYNC_FLUSH))
        except (ConnectionError, RuntimeError):
            session.socket = None


def _user(uid: str, name: str, *, bot: bool = False) -> Json:
    return {
        "id": uid, "username": name, "discriminator": "0", "global_name": name, "avatar": None,
        "bot": bot,
    }  # fmt: skip


def _role(rid: str, name: str, permissions: str, tags: Json | None = None) -> Json:
    return {
        **({"tags": tags} if tags else {}),
        "id": rid, "name": name, "color": 0, "colors": {"primary_color": 0}, "hoist": False,
        "position": 0, "flags": 0, "permissions": permissions, "managed": False,
        "mentionable": False,
    }  # fmt: skip


def _named(commands: Sequence[Json], name: str, kind: int) -> Json:
    return next(one for one in commands if one["name"] == name and one.get("type", 1) == kind)


def _options(command: Json, given: Mapping[str, Any], focused: str) -> list[Json]:
    kinds = {option["name"]: option["type"] for option in command.get("options", ())}
    found = []
    for name, value in given.items():
        option = {"name": name.replace("_", "-"), "value": value}
        if option["name"] not in kinds:
            option["name"] = name
        option["type"] = kinds[option["name"]]
        if focused == name:
            option["focused"] = True
        found.append(option)
    return found


def buttons(message: Json) -> list[Json]:
    """The buttons under a message: label, emoji, id, disabled."""
    return [
        {
            "label": one.get("label") or "", "emoji": (one.get("emoji") or {}).get("name", ""),
            "id": one["custom_id"], "disabled": one.get("disabled", False),
        }
        for row in message["components"]
        for one in row["components"]
    ]  # fmt: skip


@contextmanager
def standing_in(port: int = 0) -> Iterator[StandIn]:
    """The service on a port that the system chose, until the end of the block."""
    server = StandIn()
    server.port = port
    ready: threading.Event = threading.Event()
    held: list[web.AppRunner] = []

    def serve() -> None:
        asyncio.set_event_loop(server.loop)
        held.append(server.loop.run_until_complete(server.open()))
        ready.set()
        server.loop.run_forever()

    thread = threading.Thread(target=serve, name="discord-stand-in", daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(held[0].cleanup(), server.loop).result(30)
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(30)
        server.loop.close()
