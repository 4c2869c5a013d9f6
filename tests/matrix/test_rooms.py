"""Talk on Matrix: a real homeserver with its default limits, and real clients.

The numbers are those of docs/channels.md.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from nio import ShareGroupSessionResponse

from tests.matrix.conftest import Mill
from tests.matrix.somebody import Somebody
from tests.servers.gdrive import GDrive, connect
from tests.servers.talking import Talking
from wordmill.channels.matrix import channel
from wordmill.commands import COMMANDS

Someone = Callable[..., Somebody]


def direct(mill: Mill, who: Somebody, *, sealed: bool = False) -> str:
    """A direct room of somebody with the mill."""
    room = who.room(mill.user, sealed=sealed, direct=True)
    who.joined(room, mill.user)
    return room


def company(mill: Mill, *people: Somebody, sealed: bool = False) -> str:
    """A room of several and the mill."""
    first, *others = people
    room = first.room(mill.user, *(one.user for one in others), sealed=sealed, name="All of us")
    for one in others:
        one.join(room)
    for one in people:
        one.joined(room, mill.user, *(other.user for other in people))
    return room


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "encrypted"])
def test_a_direct_room_is_one_conversation_and_a_thread_another(
    mill: Mill, someone: Someone, sealed: bool
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann, sealed=sealed)
    ann.say(room, "Good morning")
    first = ann.hears(room, mill.user, "You said: Good morning")
    assert first["thread"] == ""
    assert first["content"]["m.mentions"] == {}
    second = ann.say(room, "And now?")
    assert ann.hears(room, mill.user, "You said: And now?")["replies_to"] == second
    ann.in_thread(room, second, "Elsewhere")
    assert ann.hears(room, mill.user, "Elsewhere")["thread"] == second
    assert len(mill.house.conversations.all(mill.people[ann.user]).items) == 2
    if sealed:
        answer = next(one for one in ann.events if one.event_id == first["id"])
        assert answer.decrypted


def test_in_company_a_mention_begins_a_thread_that_goes_on_without_one(
    mill: Mill, someone: Someone, model: Talking
) -> None:
    ann, ben = someone("ann"), someone("ben")
    mill.configure(prefix="!ai")
    mill.start()
    mill.knows(ann)
    mill.knows(ben)
    room = company(mill, ann, ben)
    ann.say(room, "Nobody is asked here")
    local = mill.user.partition(":")[0].removeprefix("@")
    root = ann.say(room, f"{local}: what is this?", **{"m.mentions": {"user_ids": [mill.user]}})
    answer = ann.hears(room, mill.user, "what is this?")
    assert answer["thread"] == root
    assert answer["content"]["m.relates_to"]["is_falling_back"] is True
    assert answer["content"]["m.mentions"] == {"user_ids": [ann.user]}
    said = model.asked[-1]["messages"][-1]["content"]
    assert said.endswith(": what is this?")
    assert mill.user not in said  # 05: every spelling of the mention is taken away
    assert local not in said
    ben.in_thread(room, root, "and I ask on")
    answer = ben.hears(room, mill.user, "and I ask on")
    assert answer["content"]["m.mentions"] == {"user_ids": [ben.user]}
    ben.say(room, "!ai by the prefix")
    ben.hears(room, mill.user, "by the prefix")
    ann.reply(room, answer["id"], "by a reply in the room")
    ann.hears(room, mill.user, "by a reply in the room")
    assert "Nobody is asked" not in "".join(ann.answers(room, mill.user))


def test_what_has_a_relation_is_answered_by_a_reply(mill: Mill, someone: Someone) -> None:
    """The homeserver lets no thread begin there."""
    ann, ben = someone("ann"), someone("ben")
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = company(mill, ann, ben)
    first = ben.say(room, "Look")
    mentions = {"m.mentions": {"user_ids": [mill.user]}}
    relation = {"rel_type": "m.reference", "event_id": first}
    event = ann.say(room, "What is this?", **mentions, **{"m.relates_to": relation})
    answer = ann.hears(room, mill.user, "What is this?")
    assert (answer["thread"], answer["replies_to"]) == ("", event)
    ann.reply(room, answer["id"], "And that?")
    ann.hears(room, mill.user, "And that?")
    (conversation,) = mill.house.conversations.all(mill.people[ann.user]).items
    assert len(mill.house.conversations.branch(mill.people[ann.user], conversation.id)) == 4


def test_05_a_mention_counts_by_its_list_and_by_the_text_only_without_one(
    mill: Mill, someone: Someone
) -> None:
    ann, ben = someone("ann"), someone("ben")
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = company(mill, ann, ben)
    ann.say(room, f"I talk about {mill.user}", **{"m.mentions": {}})
    ann.say(room, f"{mill.user}: an old client asks")
    ann.hears(room, mill.user, "an old client asks")
    link = f"[Mill](https://matrix.to/#/{mill.user})"
    ann.say(room, f"{link} by a pill", **{"m.mentions": {"user_ids": [mill.user]}})
    ann.hears(room, mill.user, "by a pill")
    assert "talk about" not in "".join(ann.answers(room, mill.user))


def test_01_and_02_notices_are_never_answered_and_ours_are_some(
    mill: Mill, someone: Someone
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann)
    ann.send(room, "m.room.message", {"msgtype": "m.notice", "body": "I am a program"})
    ann.say(room, "--models")
    ann.hears(room, mill.user, "mock", kind="m.notice")
    ann.say(room, "Hello")
    ann.hears(room, mill.user, "You said: Hello")
    assert ann.answers(room, mill.user) == ["You said: Hello"]


def test_09_an_answer_grows_by_edits_within_the_servers_limits_and_lands(
    mill: Mill, someone: Someone, model: Talking
) -> None:
    """Synapse lets 0.2 messages a second pass, and 10 at once; that is on here."""
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann)
    words = [f"word{number} " for number in range(60)]
    model.say = lambda _: [piece for word in words for piece in (word, 0.25)]
    ann.say(room, "Count for a while")
    ann.until(lambda: any("…" in one["text"] for one in ann.seen(room, mill.user)), "a beginning")
    answer = ann.until(
        lambda: next((o for o in ann.seen(room, mill.user) if "word59" in o["text"]), None),
        "the last words",
    )
    assert answer["text"] == "".join(words).rstrip()
    assert [people for _, people in ann.typing if mill.user in people]
    ann.until(lambda: ann.typing[-1] == (room, ()), "the end of typing")
    assert 2 <= answer["edits"] <= 8
    assert len(ann.seen(room, mill.user)) == 1
    edits = [
        one.source["content"]["m.relates_to"]["event_id"]
        for one in ann.events
        if one.sender == mill.user
        and one.source.get("content", {}).get("m.relates_to", {}).get("rel_type") == "m.replace"
    ]
    assert set(edits) == {answer["id"]}  # always related to the first one


def test_19_messages_that_came_while_it_was_away_are_answered_once_also_across_a_gap(
    mill: Mill, someone: Someone, homeserver: Any
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    homeserver.lift_limit(ann.user)
    homeserver.lift_limit(mill.user)
    room = direct(mill, ann)
    ann.say(room, "Before")
    ann.hears(room, mill.user, "You said: Before")
    mill.stop()
    for number in range(60):  # the timeline of a sync has 50
        kind = "m.text" if number % 10 == 0 else "m.notice"
        ann.say(room, f"away {number}", msgtype=kind)
    mill.start()
    for number in range(0, 60, 10):
        ann.hears(room, mill.user, f"You said: away {number}")
    mill.stop()
    mill.start()
    ann.say(room, "After")
    ann.hears(room, mill.user, "You said: After")
    texts = ann.answers(room, mill.user)
    assert len(texts) == len(set(texts)) == 8


def test_21_the_password_is_used_once_and_the_device_stays(mill: Mill, someone: Someone) -> None:
    mill.configure()
    mill.start()
    token = mill.homeserver.token(mill.user)
    before = mill.homeserver.call("GET", "/_matrix/client/v3/devices", token=token)["devices"]
    mill.stop()
    mill.start()
    mill.stop()
    mill.start()
    after = mill.homeserver.call("GET", "/_matrix/client/v3/devices", token=token)["devices"]
    assert {one["device_id"] for one in after} == {one["device_id"] for one in before}


def test_22_the_device_is_cross_signed_and_status_and_health_say_so(
    mill: Mill, someone: Someone
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann, sealed=True)
    ann.say(room, "--status")
    status = ann.hears(room, mill.user, "Encryption", kind="m.notice")["text"]
    assert "this device is verified (cross-signed)" in status
    keys = mill.homeserver.call(
        "POST", "/_matrix/client/v3/keys/query", {"device_keys": {mill.user: []}},
        mill.homeserver.token(ann.user),
    )  # fmt: skip
    (device,) = keys["device_keys"][mill.user].values()
    (signing,) = keys["self_signing_keys"][mill.user]["keys"].values()
    assert f"ed25519:{signing}" in device["signatures"][mill.user]
    assert "=" not in signing
    assert "verified" in mill.wait(lambda: mill.status().get("encryption"), "the encryption")
    master = keys["master_keys"][mill.user]["keys"]
    mill.stop()
    mill.start()
    again = mill.homeserver.call(
        "POST", "/_matrix/client/v3/keys/query", {"device_keys": {mill.user: []}},
        mill.homeserver.token(ann.user),
    )  # fmt: skip
    assert again["master_keys"][mill.user]["keys"] == master  # made once and kept


def test_22_an_identity_survives_the_loss_of_the_folder_by_its_passphrase(
    mill: Mill, someone: Someone
) -> None:
    mill.configure(hidden={"recovery": "correct horse battery"})
    mill.start()
    keys = public_keys(mill)
    mill.stop()
    mill.accounts.remove(mill.admin, mill.name)
    mill.configure(hidden={"recovery": "correct horse battery"})
    mill.start()
    assert public_keys(mill) == keys
    mill.wait(lambda: "is verified" in str(mill.status().get("encryption")), "a verified device")
    mill.stop()
    mill.accounts.remove(mill.admin, mill.name)
    mill.configure()  # without the passphrase the identity is never replaced
    mill.start()
    words = mill.wait(lambda: mill.status().get("words"), "the trouble")
    assert "never replaced" in words
    assert public_keys(mill) == keys
    assert "never replaced" in mill.house.troubled_channels()["chat"]  # readiness is amber


def public_keys(mill: Mill) -> Any:
    body = {"device_keys": {mill.user: []}}
    token = mill.homeserver.token(mill.user)
    found = mill.homeserver.call("POST", "/_matrix/client/v3/keys/query", body, token)
    return found["master_keys"][mill.user]["keys"]


def test_23_what_cannot_be_decrypted_gets_one_sign_and_its_key_is_asked_for(
    mill: Mill, someone: Someone
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann, sealed=True)
    ann.say(room, "Hello")
    ann.hears(room, mill.user, "You said: Hello")
    broken = ann.send(
        room, "m.reaction.ignored", {"body": "x"}
    )  # an event of an unknown kind changes nothing
    content = {
        "algorithm": "m.megolm.v1.aes-sha2", "sender_key": "x", "device_id": "LOST",
        "session_id": "lost", "ciphertext": "AwgAEnACgAkLmt6qF84IK",
    }  # fmt: skip
    path = f"/_matrix/client/v3/rooms/{room}/send/m.room.encrypted/t{time.time_ns()}"
    sealed = mill.homeserver.call("PUT", path, content, mill.homeserver.token(ann.user))
    event = sealed["event_id"]
    ann.until(lambda: ann.signs(event), "the sign")
    ann.say(room, "Still there?")
    ann.hears(room, mill.user, "You said: Still there?")
    assert ann.signs(event) == ["❌🔐"]
    assert broken


@contextmanager
def keys_held_back(who: Somebody) -> Iterator[None]:
    """The keys of what somebody says are sent when the block ends."""
    send, held = who.client._send, []

    async def hold(kind: Any, *given: Any, **named: Any) -> Any:
        if kind is not ShareGroupSessionResponse:
            return await send(kind, *given, **named)
        held.append((kind, given, named))
        return ShareGroupSessionResponse(*named["response_data"])

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(who.client, "_send", hold)
            yield
    finally:
        for kind, given, named in held:
            who.do(send(kind, *given, **named))


def test_23_a_message_whose_key_comes_after_a_restart_is_answered_once(
    mill: Mill, someone: Someone
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann, sealed=True)
    with keys_held_back(ann):
        event = ann.say(room, "Hello")
        ann.until(lambda: ann.signs(event), "the sign")
        mill.stop()
        mill.start()
    ann.hears(room, mill.user, "You said: Hello")
    mill.stop()
    mill.start()
    ann.say(room, "Still there?")
    ann.hears(room, mill.user, "You said: Still there?")
    assert len(ann.answers(room, mill.user)) == 2
    assert ann.signs(event) == ["❌🔐"]


def test_24_a_bad_token_stops_that_channel_alone_and_says_why(mill: Mill, someone: Someone) -> None:
    ann = someone()
    mill.configure()
    mill.accounts.add(
        mill.admin, "broken", "matrix",
        {"homeserver": mill.homeserver.url, "user": "@nobody:example.org"},
        {"token": "syt_not_a_token"},
    )  # fmt: skip
    mill.start()
    mill.knows(ann)
    words = mill.wait(lambda: mill.house.troubled_channels().get("broken"), "the trouble")
    assert "M_UNKNOWN_TOKEN" in words
    assert "The channel has stopped" in words
    room = direct(mill, ann)
    ann.say(room, "Hello")
    ann.hears(room, mill.user, "You said: Hello")
    assert "chat" not in mill.house.troubled_channels()
    assert "syt_not_a_token" not in words


def test_24_a_token_that_is_revoked_in_the_midst_of_an_answer(
    mill: Mill, someone: Someone, model: Talking
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann)
    model.say = lambda _: [4.0, "Too late."]
    ann.say(room, "Hello")
    ann.until(lambda: ann.seen(room, mill.user), "the placeholder")
    path = f"/_synapse/admin/v2/users/{mill.user}/devices"
    token = mill.homeserver.admin()
    for device in mill.homeserver.call("GET", path, token=token)["devices"]:
        mill.homeserver.call("DELETE", f"{path}/{device['device_id']}", token=token)
    words = mill.wait(lambda: mill.house.troubled_channels().get("chat"), "the trouble")
    assert "M_UNKNOWN_TOKEN" in words
    mill.accounts.change(mill.admin, mill.name, hidden={"password": "a long secret"})
    ann.hears(room, mill.user, "Too late.")  # with a new device, and the answer that was owed
    assert ann.answers(room, mill.user) == ["Too late."]


def test_27_files_are_read_encrypted_and_plain(
    mill: Mill, someone: Someone, model: Talking
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    from nio.crypto.attachments import encrypt_attachment

    room = direct(mill, ann, sealed=True)
    token = mill.homeserver.token(ann.user)
    data, keys = encrypt_attachment(b"The secret is 42.")
    url = upload(mill, token, data)
    content = {
        "msgtype": "m.file", "body": "What is the secret?", "filename": "secret.txt",
        "info": {"size": len(data), "mimetype": "text/plain"},
        "file": {**keys, "url": url, "v": "v2"},
    }  # fmt: skip
    ann.send(room, "m.room.message", content)
    ann.hears(room, mill.user, "You said:")
    asked = json.dumps(model.asked[-1]["messages"][-1])
    assert "The secret is 42." in asked
    assert "What is the secret?" in asked
    ann.say(room, "--export")
    ann.until(
        lambda: [one for one in ann.seen(room, mill.user) if one["kind"] == "m.file"], "the file"
    )
    (file,) = [one for one in ann.seen(room, mill.user) if one["kind"] == "m.file"]
    assert file["content"]["file"]["url"].startswith("mxc://")  # encrypted as the room is


def upload(mill: Mill, token: str, data: bytes) -> str:
    import urllib.request

    request = urllib.request.Request(
        f"{mill.homeserver.url}/_matrix/media/v3/upload", data=data, method="POST",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["content_uri"])


def test_28_what_a_model_says_pings_nobody_and_brings_no_html(
    mill: Mill, someone: Someone, model: Talking
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann)
    evil = (
        "@room <script>alert(1)</script> <img src=x onerror=y> ![p](https://evil.example/x.png) "
        "[click](javascript:alert(1)) **bold** <font color=red>no</font>"
    )
    model.say = lambda _: [evil]
    ann.say(room, "Say something")
    content = ann.hears(room, mill.user, "bold")["content"]
    html = content["formatted_body"]
    assert content["m.mentions"] == {}
    assert "<strong>bold</strong>" in html
    for part in ("<script", "<img", "<font", 'href="javascript'):
        assert part not in html


def test_a_very_long_answer_goes_in_events_below_the_limit(
    mill: Mill, someone: Someone, model: Talking, homeserver: Any
) -> None:
    ann = someone()
    homeserver.lift_limit(mill.user)
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann, sealed=True)
    line = '"{}" <ein> & 🎉🎉🎉 Satz mit \\ und `Code`.'
    text = "\n\n".join(line.format(number) for number in range(1500))
    model.say = lambda _: [text]
    ann.say(room, "All of it")
    ann.hears(room, mill.user, '"1499"', patience=90)
    shown = ann.seen(room, mill.user)
    assert "".join("".join(ann.answers(room, mill.user)).split()) == "".join(text.split())
    ann.until(lambda: any(o["kind"] == "m.file" for o in ann.seen(room, mill.user)), "the file")
    assert len(shown) > 3


def test_reactions_stop_retry_and_rate(mill: Mill, someone: Someone, model: Talking) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    person = mill.knows(ann)
    room = direct(mill, ann)
    model.say = lambda _: ["Beginning ", 60.0, "end"]
    ann.say(room, "Tell me")
    shown = ann.until(
        lambda: next((o for o in ann.seen(room, mill.user) if "Beginning" in o["text"]), None),
        "a beginning",
    )
    ann.react(room, shown["id"], "⏹️")
    ann.hears(room, mill.user, "(stopped)")
    mill.wait(lambda: model.hung_up == 1, "the end of the request")
    model.say = lambda _: ["Another one"]
    ann.react(room, shown["id"], "🔁")
    again = ann.hears(room, mill.user, "Another one")
    ann.react(room, again["id"], "👍")
    conversation = mill.house.conversations.all(person).items[0].id
    mill.wait(lambda: mill.house.conversations.ratings(person, conversation), "the rating")


@pytest.mark.parametrize("full", [False, True], ids=["denied", "strangers fill no more rooms"])
def test_an_invitation_of_somebody_who_may_not_talk_is_refused(
    mill: Mill, someone: Someone, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, eve = someone("ann"), someone("eve")
    if full:
        monkeypatch.setattr(channel, "_ROOMS", 0)
    mill.configure(**({} if full else {"deny": eve.user}))
    mill.start()
    mill.knows(ann)
    refused = eve.room(mill.user)
    ann.joined(direct(mill, ann), mill.user)

    def left() -> bool:
        member = f"/_matrix/client/v3/rooms/{refused}/state/m.room.member/{mill.user}"
        found = mill.homeserver.call("GET", member, token=mill.homeserver.token(eve.user))
        return found["membership"] == "leave"

    mill.wait(left, "the refusal")


def test_what_is_heard_has_a_receipt(mill: Mill, someone: Someone, model: Talking) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann)
    model.say = lambda _: [1.0, "Late."]
    event = ann.say(room, "Have you heard?")
    ann.until(lambda: (event, mill.user) in ann.receipts, "the receipt")
    ann.hears(room, mill.user, "Late.")


def test_a_room_in_which_nobody_else_is_left_is_left(mill: Mill, someone: Someone) -> None:
    ann, eve = someone("ann"), someone("eve")
    mill.configure()
    mill.start()
    room = company(mill, ann, eve)
    token = mill.homeserver.token(mill.user)

    def rooms() -> list[str]:
        told = mill.homeserver.call("GET", "/_matrix/client/v3/joined_rooms", token=token)
        found: list[str] = told["joined_rooms"]
        return found

    ann.leave(room)
    eve.joined(room, mill.user)
    assert room in rooms()
    eve.leave(room)
    mill.wait(lambda: room not in rooms(), "the end of its stay")


def test_what_is_said_with_the_invitation_is_answered(mill: Mill, someone: Someone) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = ann.room(mill.user, direct=True)
    ann.say(room, "Hello at once")
    ann.hears(room, mill.user, "You said: Hello at once")


def test_nothing_of_the_secrets_lies_open(mill: Mill, someone: Someone) -> None:
    mill.configure(hidden={"recovery": "correct horse battery"})
    mill.start()
    mill.stop()
    kept = mill.accounts.memory(mill.name).read()
    hidden = [kept["token"], kept["identity"]["master"], "a long secret", "correct horse battery"]
    for file in mill.house.settings.home.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            for secret in hidden:
                assert secret.encode() not in data, file


def test_two_houses_on_one_database_run_a_channel_once(mill: Mill, someone: Someone) -> None:
    from wordmill.channels.house import open_house
    from wordmill.channels.rooms.manager import Manager
    from wordmill.settings import load

    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    with open_house(load()) as other, Manager(other):
        room = direct(mill, ann)
        ann.say(room, "Hello")
        ann.hears(room, mill.user, "You said: Hello")
        assert ann.answers(room, mill.user) == ["You said: Hello"]
        assert other.channels.get("chat") is None


def test_commands_work_as_everywhere(mill: Mill, someone: Someone) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    room = direct(mill, ann)
    ann.say(room, "–help")
    text = ann.hears(room, mill.user, "--status", kind="m.notice")["text"]
    for command in COMMANDS:
        assert f"--{command.name}" in text


def test_a_document_goes_to_google_docs_and_its_link_comes_back(
    google: GDrive, mill: Mill, someone: Someone
) -> None:
    ann = someone()
    mill.configure()
    mill.start()
    mill.knows(ann)
    connect(mill.house, mill.people[ann.user])
    room = direct(mill, ann)
    ann.say(room, "Of mills")
    ann.hears(room, mill.user, "You said: Of mills")
    ann.say(room, "--make-docx")
    link = "https://docs.google.com/document/d/"
    told = ann.hears(room, mill.user, link, kind="m.notice")["text"]
    (made,) = google.documents()
    assert f"{link}{made['id']}/edit" in told
