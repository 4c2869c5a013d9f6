"""A person on Matrix: a client of their own, with keys of their own, driven from a test."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nio import (
    AsyncClient,
    AsyncClientConfig,
    LoginResponse,
    MegolmEvent,
    ReceiptEvent,
    RoomCreateResponse,
    SyncResponse,
)
from nio.exceptions import EncryptionError

from wordmill.channels.matrix.store import Store

T = TypeVar("T")
SEALED = [
    {
        "type": "m.room.encryption",
        "state_key": "",
        "content": {"algorithm": "m.megolm.v1.aes-sha2"},
    }
]


class Somebody:
    """Signed in and listening. Everything is called from the test's thread."""

    def __init__(self, url: str, user: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.user = user
        self.events: list[Any] = []
        self.typing: list[tuple[str, tuple[str, ...]]] = []
        self.receipts: set[tuple[str, str]] = set()
        """Events that were read, and by whom."""
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.client: AsyncClient = self.do(self._signed_in(url, user, folder))
        self._task = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.until(lambda: self.client.next_batch, "the first sync")

    def do(self, work: Coroutine[Any, Any, T], patience: float = 60.0) -> T:
        """Do something in this person's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(patience)

    def close(self) -> None:
        self._task.cancel()

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for one in others:
                one.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self.client.close()
            await asyncio.sleep(0.05)  # aiohttp closes its sockets one turn later

        self.do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What they do.

    def room(self, *others: str, sealed: bool = False, name: str = "", direct: bool = False) -> str:
        """A new room with others invited; its id."""
        answer = self.do(
            self.client.room_create(
                invite=list(others), initial_state=SEALED if sealed else [], name=name or None,
                is_direct=direct,
            )
        )  # fmt: skip
        assert isinstance(answer, RoomCreateResponse), answer
        return str(answer.room_id)

    def joined(self, room: str, *users: str) -> None:
        """Wait until others are in a room."""

        def there() -> bool:
            found = self.client.rooms.get(room)
            return found is not None and all(
                user in found.users and not found.users[user].invited for user in users
            )

        self.until(there, f"{users} in {room}")

    def join(self, room: str) -> None:
        self.do(self.client.join(room))
        self.until(lambda: room in self.client.rooms, "the room")

    def leave(self, room: str) -> None:
        self.do(self.client.room_leave(room))

    def say(self, room: str, text: str, **content: Any) -> str:
        """A message; its id."""
        body = {"msgtype": "m.text", "body": text, **content}
        return self.send(room, "m.room.message", body)

    def send(self, room: str, kind: str, content: Mapping[str, Any], tx: str | None = None) -> str:
        """Any event; its id. Waits where the server wants it."""
        while True:
            answer = self.do(
                self.client.room_send(
                    room, kind, dict(content), tx_id=tx, ignore_unverified_devices=True
                )
            )
            if getattr(answer, "status_code", None) != "M_LIMIT_EXCEEDED":
                break
            time.sleep((answer.retry_after_ms or 1000) / 1000)
        assert hasattr(answer, "event_id"), answer
        return str(answer.event_id)

    def reply(self, room: str, event: str, text: str, **content: Any) -> str:
        return self.say(
            room, text, **{"m.relates_to": {"m.in_reply_to": {"event_id": event}}, **content}
        )

    def in_thread(self, room: str, root: str, text: str, **content: Any) -> str:
        relation = {
            "rel_type": "m.thread", "event_id": root, "is_falling_back": True,
            "m.in_reply_to": {"event_id": root},
        }  # fmt: skip
        return self.say(room, text, **{"m.relates_to": relation, **content})

    def react(self, room: str, event: str, key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": event, "key": key}
        return self.send(room, "m.reaction", {"m.relates_to": relation})

    def change(self, room: str, event: str, text: str) -> str:
        new = {"msgtype": "m.text", "body": text}
        return self.say(
            room, f"* {text}",
            **{"m.new_content": new, "m.relates_to": {"rel_type": "m.replace", "event_id": event}},
        )  # fmt: skip

    # What they see.

    def seen(self, room: str, sender: str) -> list[dict[str, Any]]:
        """The messages of somebody in a room as they stand now, in order.

        Of each: id, text, kind (msgtype), thread, replies_to, edits (how many), content.
        """
        shown: dict[str, dict[str, Any]] = {}
        for event in list(self.events):
            source = event.source
            content = source.get("content", {})
            if source.get("room_id", room) != room or event.sender != sender:
                continue
            if source.get("type") != "m.room.message":
                continue
            relation = content.get("m.relates_to", {})
            if relation.get("rel_type") == "m.replace":
                if (first := shown.get(relation["event_id"])) is not None:
                    new = content["m.new_content"]
                    first |= {"text": new["body"], "kind": new["msgtype"], "content": new}
                    first["edits"] += 1
                continue
            thread = relation["event_id"] if relation.get("rel_type") == "m.thread" else ""
            shown[event.event_id] = {
                "id": event.event_id, "text": content.get("body", ""), "thread": thread,
                "kind": content.get("msgtype"), "edits": 0, "content": content,
                "replies_to": relation.get("m.in_reply_to", {}).get("event_id", ""),
            }  # fmt: skip
        return list(shown.values())

    def answers(self, room: str, sender: str) -> list[str]:
        """The texts of what is no notice."""
        return [one["text"] for one in self.seen(room, sender) if one["kind"] == "m.text"]

    def notices(self, room: str, sender: str) -> list[str]:
        return [one["text"] for one in self.seen(room, sender) if one["kind"] == "m.notice"]

    def signs(self, event: str) -> list[str]:
        """The reactions to an event."""
        relations = [
            one.source["content"].get("m.relates_to", {})
            for one in list(self.events)
            if one.source.get("type") == "m.reaction"
        ]
        return [one["key"] for one in relations if one.get("event_id") == event]

    def until(self, condition: Callable[[], Any], what: str, patience: float = 60.0) -> Any:
        """Wait until something holds; what it gives."""
        end = time.monotonic() + patience
        with self._news:
            self.listens()
            while not (found := condition()):
                left = end - time.monotonic()
                assert left > 0, f"{self.user} waited in vain for {what}: {self._story()}"
                self._news.wait(min(left, 0.5))
        return found

    def listens(self) -> None:
        """Raise what ended the listening, if anything did."""
        if self._task.done():
            self._task.result()

    def hears(
        self, room: str, sender: str, text: str, kind: str = "m.text", patience: float = 60.0
    ) -> dict[str, Any]:
        """Wait for a message with a text in it; the message."""
        found: dict[str, Any] = self.until(
            lambda: next(
                (
                    one
                    for one in self.seen(room, sender)
                    if text in one["text"] and one["kind"] == kind
                ),
                None,
            ),
            f"{text!r} ({kind})",
            patience,
        )
        return found

    def opened(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """An encrypted event, as any reader of a room finds it, decrypted; None without its key."""

        self.listens()

        async def read() -> dict[str, Any] | None:
            sealed = MegolmEvent.from_dict(dict(event))
            assert isinstance(sealed, MegolmEvent), event
            sealed.room_id = event["room_id"]
            try:
                return dict(self.client.decrypt_event(sealed).source)
            except EncryptionError:
                return None

        return self.do(read())

    def _story(self) -> list[str]:
        return [
            f"{one.sender} {type(one).__name__} {one.source.get('content', {}).get('body', '')!r}"
            for one in self.events[-12:]
        ]

    # Inside.

    async def _signed_in(self, url: str, user: str, folder: Path) -> AsyncClient:
        config = AsyncClientConfig(
            store_sync_tokens=True, encryption_enabled=True, max_limit_exceeded=0, max_timeouts=0,
            store=Store,
        )  # fmt: skip
        client = AsyncClient(url, user, store_path=str(folder), config=config)
        answer = await client.login("a long secret", device_name="test")
        assert isinstance(answer, LoginResponse), answer
        return client

    async def _listen(self) -> None:
        await self._once(0)
        while True:
            await self._once(10_000)

    async def _once(self, patience: int) -> None:
        client = self.client
        response = await client.sync(patience, full_state=not client.next_batch)
        assert isinstance(response, SyncResponse), response
        with self._news:
            for room_id, joined in response.rooms.join.items():
                for event in joined.timeline.events:
                    event.source.setdefault("room_id", room_id)
                    self.events.append(event)
                for one in joined.ephemeral:
                    if type(one).__name__ == "TypingNoticeEvent":
                        self.typing.append((room_id, tuple(one.users)))
                    elif isinstance(one, ReceiptEvent):
                        self.receipts |= {(each.event_id, each.user_id) for each in one.receipts}
            self._retry()
            self._news.notify_all()
        await client.send_to_device_messages()
        if client.should_upload_keys:
            await client.keys_upload()
        if client.should_query_keys:
            await client.keys_query()
        if client.should_claim_keys:
            await client.keys_claim(client.get_users_for_key_claiming())

    def _retry(self) -> None:
        """Messages whose keys came after them."""
        for place, event in enumerate(self.events):
            if isinstance(event, MegolmEvent):
                try:
                    opened = self.client.decrypt_event(event)
                except EncryptionError:
                    continue
                opened.source.setdefault("room_id", event.source["room_id"])
                self.events[place] = opened


@contextmanager
def somebody(url: str, user: str, folder: Path) -> Iterator[Somebody]:
    """Signed in for the block."""
    found = Somebody(url, user, folder)
    try:
        yield found
    finally:
        found.close()
