"""Events of Matrix as their senders' servers write them, and keys that a crash must not take."""

import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from nio import ErrorResponse, MatrixRoom, RoomMessagesResponse, RoomMessageText

from wordmill.channels.matrix import gaps, hearing, identity
from wordmill.channels.matrix.calls import checked
from wordmill.errors import ChannelError, ChannelRefused

ME = "@mill:example.org"


def event(number: int, at: int) -> dict[str, Any]:
    """at: milliseconds, by the word of the sender's server."""
    return {
        "type": "m.room.message", "event_id": f"$e{number}", "sender": "@eve:evil.org",
        "origin_server_ts": at, "room_id": "!room:example.org",
        "content": {"msgtype": "m.text", "body": f"{ME} hello {number}"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "at",
    [9_007_199_254_740_991, -5, 253_402_300_800_000, 10**400],
    ids=["most", "before", "after dates", "endless"],
)
def test_a_clock_may_say_anything(at: int) -> None:
    room = MatrixRoom("!room:example.org", ME)
    client: Any = SimpleNamespace(user_id=ME)
    heard = asyncio.run(hearing.said(client, room, event(1, at)))
    assert heard is not None
    assert 1970 <= heard.at.year <= 9999
    assert heard.at.astimezone().isoformat()
    assert hearing.moment(1_500) == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)


class Pages:
    """A homeserver's history of a room, a page of two at a time, newest first."""

    def __init__(self, *times: int) -> None:
        self.events = [event(number, at) for number, at in enumerate(times)]
        self.asked = 0

    async def room_messages(self, room: str, start: str, **_: object) -> RoomMessagesResponse:
        self.asked += 1
        first = int(start)
        chunk = [RoomMessageText.from_dict(one) for one in self.events[first : first + 2]]
        end = str(first + 2) if chunk else None
        return RoomMessagesResponse(room, chunk, start, end)


def missed(pages: Pages, *known: str) -> list[str]:
    client: Any = pages
    since = datetime.fromtimestamp(1_000, UTC)
    found = asyncio.run(
        gaps.missing(client, "!room", "0", since, lambda ids: set(known) & set(ids))
    )
    return [one.event_id for one in found]


def test_a_gap_does_not_end_at_a_clock_that_is_wrong() -> None:
    new, old = 2_000_000, 5_000
    far = 9_007_199_254_740_991
    assert missed(Pages(new, old, far, new)) == ["$e3", "$e2", "$e0"]
    assert missed(Pages(new, new, new, new), "$e3") == ["$e2", "$e1", "$e0"]
    pages = Pages(new, new, old, old, old, old, old, old)
    assert missed(pages) == ["$e1", "$e0"]
    assert pages.asked == 2


@pytest.mark.parametrize(("status", "refused"), [(400, True), (500, False), (None, False)])
def test_what_the_server_has_no_code_for_is_not_tried_for_ever(
    status: int | None, refused: bool
) -> None:
    """As Synapse says that a thread cannot begin at an event with a relation."""
    response = ErrorResponse("Cannot start threads from an event with a relation", "M_UNKNOWN")
    response.transport_response = status and SimpleNamespace(status=status)
    with pytest.raises(ChannelError) as found:
        checked(response)
    assert isinstance(found.value, ChannelRefused) is refused


def test_the_groups_of_a_sender_do_not_name_the_rooms_server() -> None:
    room = MatrixRoom("!room:example.org", ME)
    client: Any = SimpleNamespace(user_id=ME)
    heard = asyncio.run(hearing.said(client, room, event(1, 1)))
    assert heard is not None
    assert heard.groups == ("evil.org",)
    relation = {"rel_type": "m.annotation", "event_id": "$e1", "key": "👍"}
    found = hearing.sign(room, {**event(2, 1), "content": {"m.relates_to": relation}})
    assert found is not None
    assert found.groups == ("evil.org",)


class Answered:
    """An answer of a homeserver."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status, self._body = status, json.dumps(body).encode()

    async def read(self) -> bytes:
        return self._body


class Server:
    """What a homeserver knows of an account's keys. lost: its answer to this path never comes."""

    user_id, device_id, access_token, client_session = ME, "DEVICE", "token", "open"

    def __init__(self) -> None:
        self.master: dict[str, Any] = {}
        self.lost = ""

    async def send(self, method: str, path: str, data: str, headers: object) -> Answered:
        body = json.loads(data)
        if path.endswith("/device_signing/upload"):
            self.master = {ME: body["master_key"]}
        if self.lost and path.endswith(self.lost):
            raise TimeoutError
        if path.endswith("/keys/query"):
            device = {"user_id": ME, "device_id": "DEVICE", "keys": {}}
            return Answered(
                200, {"master_keys": self.master, "device_keys": {ME: {"DEVICE": device}}}
            )
        return Answered(200, {})


@pytest.mark.parametrize("lost", ["/device_signing/upload", "/signatures/upload"])
def test_the_keys_of_an_identity_outlive_a_request_that_fails(lost: str) -> None:
    server = Server()
    client: Any = server
    kept: list[identity.Identity] = []

    def start() -> identity.State:
        mine = kept[-1] if kept else None
        return asyncio.run(identity.ensure(client, mine, False, "", "", kept.append))

    server.lost = lost
    with pytest.raises(ChannelError):
        start()
    server.lost = ""
    state = start()
    assert (state.words, state.trouble) == (identity.VERIFIED, "")
    assert kept == [state.identity]
