"""Many people talk at once while the server is killed: each gets exactly one answer, in place.

    python -m tests.matrix.load --messages 200 --people 20 --kills 8 --seed 1
    python -m tests.matrix.load --default-limits    # the bot's limit is not lifted
    python -m tests.matrix.load --encrypted         # every room is, and people have keys

A real homeserver, a model that takes its time, `wordmill serve` as a process of its own that ends
by SIGKILL at random moments. Half of the people talk in direct rooms, the others in company, by
mentions. In the end every room is read whole, as any client can: each prompt has one answer, in
its room and thread, whose last version is the right one and which was not touched after it.
"""

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.matrix.somebody import SEALED, Somebody, somebody
from tests.servers import synapse
from tests.servers.talking import talking

PROGRAM = str(Path(sys.executable).parent / "wordmill")
COMPANY = 5
"""People in one room."""
SLOW = 10.0
"""Seconds that an answer may take besides, where the homeserver's limit for the bot holds."""


@dataclass
class Person:
    """client: with keys, where rooms are encrypted."""

    user: str
    token: str
    room: str = ""
    direct: bool = True
    client: Somebody | None = None


@dataclass
class Found:
    """What was proved. seconds: that all took.  kills: how often the server was killed."""

    answers: int
    kills: int
    seconds: float
    faults: list[str] = field(default_factory=list)


def load(
    homeserver: synapse.Server,
    folder: Path,
    *,
    messages: int,
    people: int,
    kills: int,
    seed: int,
    patience: float,
    limited: bool = False,
    encrypted: bool = False,
) -> Found:
    """Do it. limited: the homeserver's limit holds for the bot too.  encrypted: all rooms are.

    Raises AssertionError when not everything is answered in time.
    """
    chance = random.Random(seed)
    bot = homeserver.register(f"mill{secrets.token_hex(4)}")
    if limited:
        patience += messages * SLOW
    else:
        homeserver.lift_limit(bot)
    begun = time.monotonic()

    def answer(body: Mapping[str, Any]) -> Iterator[Any]:
        word = body["messages"][-1]["content"].split()[-1]
        yield "The answer "
        yield chance.random() * 1.5
        yield f"to {word} is {word}."

    with (
        ExitStack() as stack,
        talking(answer) as model,
        serving(folder, homeserver, bot, model.url) as server,
    ):
        everybody = [_person(homeserver, number) for number in range(people)]
        if encrypted:
            for number, one in enumerate(everybody):
                keys = folder / "people" / str(number)
                one.client = stack.enter_context(somebody(homeserver.url, one.user, keys))
                one.token = one.client.client.access_token
        _rooms(homeserver, bot, everybody)
        prompts = _speak(homeserver, bot, everybody, messages, chance, server, kills)
        server.ensure()
        until = time.monotonic() + patience
        read: dict[str, dict[str, Any]] = {}
        faults = [f"{len(prompts)} prompts, and nothing was looked at"]
        while faults and time.monotonic() < until:
            time.sleep(1.0)
            faults = _faults(homeserver, bot, everybody, prompts, read)
        return Found(len(prompts), server.kills, time.monotonic() - begun, faults)


class Server:
    """`wordmill serve`, killed and started again."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0
        self._port = synapse.free_port()

    def ensure(self) -> None:
        """Have it run."""
        if self._process is None or self._process.poll() is not None:
            with (self._folder / "serve.log").open("ab") as log:
                self._process = subprocess.Popen(
                    [PROGRAM, "serve", "--port", str(self._port), "--no-open"],
                    cwd=self._folder, env=dict(self._environment), stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL,
                )  # fmt: skip

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.kills += 1
        self.ensure()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextmanager
def serving(folder: Path, homeserver: synapse.Server, bot: str, model: str) -> Iterator[Server]:
    """A server with the channel, where everybody may talk as a guest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".git").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORDMILL_")}
    environment = {
        **kept, "WORDMILL_HOME": str(folder / "home"), "WORDMILL_DEFAULT_MODEL": "mock",
        "WORDMILL_TITLES": "false", "WORDMILL_ADMIN_EMAIL": "admin@example.org",
        "WORDMILL_ADMIN_PASSWORD": "a long one, this",
    }  # fmt: skip

    def run(*words: str, **options: Any) -> None:
        subprocess.run(
            [PROGRAM, *words], check=True, cwd=folder, env=environment, capture_output=True,
            timeout=120, **options,
        )  # fmt: skip

    run("models", "add", "mock", "--base-url", model, "--model", "mock-1")
    run(
        "channels", "add", "matrix", "chat", "--no-test", "--set", f"homeserver={homeserver.url}",
        "--set", f"user={bot}", "--set", "guests=true", "--set", "guest_requests=100000",
        input=b"a long secret\n",
    )  # fmt: skip
    server = Server(environment, folder)
    server.ensure()
    try:
        yield server
    finally:
        server.stop()


def _person(homeserver: synapse.Server, number: int) -> Person:
    user = homeserver.register(f"p{number}x{secrets.token_hex(3)}")
    return Person(user, homeserver.token(user))


def _rooms(homeserver: synapse.Server, bot: str, everybody: list[Person]) -> None:
    """A direct room for each of one half, rooms of five for the other."""
    half = len(everybody) // 2
    for one in everybody[:half]:
        one.room = _create(homeserver, one, [bot])
    for start in range(half, len(everybody), COMPANY):
        some = everybody[start : start + COMPANY]
        room = _create(homeserver, some[0], [bot, *(one.user for one in some[1:])])
        for one in some:
            one.room, one.direct = room, len(some) == 1
            if one is not some[0]:
                path = f"/_matrix/client/v3/join/{quote(room)}"
                homeserver.call("POST", path, {}, one.token)
    until = time.monotonic() + 240
    for one in everybody:
        path = f"/_matrix/client/v3/rooms/{quote(one.room)}/joined_members"
        while bot not in homeserver.call("GET", path, token=one.token)["joined"]:
            assert time.monotonic() < until, f"the invitation into {one.room} was not taken"
            time.sleep(0.2)
        if one.client is not None:
            one.client.joined(one.room, bot, *(o.user for o in everybody if o.room == one.room))


def _create(homeserver: synapse.Server, one: Person, invited: list[str]) -> str:
    state = [] if one.client is None else SEALED
    body = {"preset": "private_chat", "invite": invited, "initial_state": state}
    return str(homeserver.call("POST", "/_matrix/client/v3/createRoom", body, one.token)["room_id"])


def _speak(
    homeserver: synapse.Server,
    bot: str,
    everybody: list[Person],
    messages: int,
    chance: random.Random,
    server: Server,
    kills: int,
) -> dict[str, tuple[Person, str]]:
    """Everybody says their part while the server is killed; word -> who said it, and the event."""
    prompts: dict[str, tuple[Person, str]] = {}
    pauses = {one.user: random.Random(chance.random()) for one in everybody}

    def talk(one: Person, words: list[str]) -> None:
        for word in words:
            time.sleep(pauses[one.user].random() * 2.0)
            body: dict[str, Any] = {"msgtype": "m.text", "body": f"What is {word}"}
            if not one.direct:
                body["m.mentions"] = {"user_ids": [bot]}
            prompts[word] = (one, _send(homeserver, one, body))

    parts: dict[str, list[str]] = defaultdict(list)
    for number in range(messages):
        parts[everybody[number % len(everybody)].user].append(f"w{number}")
    threads = [
        threading.Thread(target=talk, args=(one, parts[one.user]), daemon=True) for one in everybody
    ]
    for thread in threads:
        thread.start()
    for _ in range(kills):
        time.sleep(4.0 + 8.0 * chance.random())
        server.kill()
    for thread in threads:
        thread.join()
    return prompts


def _send(homeserver: synapse.Server, one: Person, body: Mapping[str, Any]) -> str:
    if one.client is not None:
        return one.client.send(one.room, "m.room.message", body)
    transaction = secrets.token_hex(8)
    path = f"/_matrix/client/v3/rooms/{quote(one.room)}/send/m.room.message/{transaction}"
    while True:
        try:
            return str(homeserver.call("PUT", path, body, one.token)["event_id"])
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise
            time.sleep(json.load(error).get("retry_after_ms", 1000) / 1000)


def _faults(
    homeserver: synapse.Server,
    bot: str,
    everybody: list[Person],
    prompts: Mapping[str, tuple[Person, str]],
    read: dict[str, dict[str, Any]],
) -> list[str]:
    """What is not as it must be, in sentences. read: what was decrypted before, by its id."""
    faults: list[str] = []
    answers: dict[str, list[str]] = defaultdict(list)
    reader = {one.room: one for one in everybody}
    for room, one in reader.items():
        versions: dict[str, list[str]] = {}
        causes: dict[str, str] = {}
        for sealed in _all(homeserver, one):
            event = _opened(one, sealed, read)
            if event is None:
                faults.append(f"what {sealed['sender']} said in {room} cannot be decrypted")
                continue
            content = event.get("content", {})
            if event.get("sender") != bot or event.get("type") != "m.room.message":
                continue
            if content.get("msgtype") == "m.notice":
                faults.append(f"a notice in {room}: {content['body'][:80]!r}")
                continue
            relation = content.get("m.relates_to", {})
            if relation.get("rel_type") == "m.replace":
                versions[relation["event_id"]].append(content["m.new_content"]["body"])
                continue
            versions[event["event_id"]] = [content["body"]]
            causes[event["event_id"]] = relation.get("m.in_reply_to", {}).get("event_id", "")
        for name, texts in versions.items():
            answers[causes[name]].append(room)
            asked = next((w for w, (_, event) in prompts.items() if event == causes[name]), None)
            if asked is None:
                faults.append(f"{texts[-1]!r} in {room} answers nothing that was said")
                continue
            right = f"The answer to {asked} is {asked}."
            if texts[-1] != right:
                faults.append(f"the answer to {asked} ends as {texts[-1]!r}")
            elif texts.index(right) != len(texts) - 1:
                faults.append(f"the answer to {asked} was touched after its last words")
    for word, (one, event) in prompts.items():
        if answers[event] != [one.room]:
            faults.append(f"{word} was answered in {answers[event]}, and asked in {one.room}")
    return faults


def _opened(
    one: Person, event: dict[str, Any], read: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """An event as this person reads it; None where they cannot."""
    if one.client is None or event.get("type") != "m.room.encrypted":
        return event
    if event["event_id"] not in read:
        opened = one.client.opened(event)
        if opened is None:
            return None
        read[event["event_id"]] = opened
    return read[event["event_id"]]


def _all(homeserver: synapse.Server, one: Person) -> list[dict[str, Any]]:
    """Every event of a room, oldest first."""
    path = f"/_matrix/client/v3/rooms/{quote(one.room)}/messages?dir=f&limit=500"
    found: list[dict[str, Any]] = []
    page = homeserver.call("GET", path, token=one.token)
    while page["chunk"]:
        found += page["chunk"]
        if "end" not in page:
            break
        page = homeserver.call("GET", f"{path}&from={quote(page['end'])}", token=one.token)
    return found


def main(arguments: list[str]) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.matrix.load", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--patience", type=float, default=600.0, help="seconds after the last kill")
    parser.add_argument(
        "--default-limits", action="store_true",
        help="the homeserver's limit holds for the bot too, 0.2 messages a second: takes long",
    )  # fmt: skip
    parser.add_argument("--encrypted", action="store_true", help="every room is encrypted")
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="channels-"))
    with synapse.serving(folder / "synapse") as homeserver:
        found = load(
            homeserver, folder / "mill", messages=chosen.messages, people=chosen.people,
            kills=chosen.kills, seed=chosen.seed, patience=chosen.patience,
            limited=chosen.default_limits, encrypted=chosen.encrypted,
        )  # fmt: skip
    for words in found.faults[:20]:
        print(words)
    if found.faults:
        print(f"The logs are in {folder}; again with --seed {chosen.seed}.")
        return 1
    print(
        f"{found.answers} prompts of {chosen.people} people, {found.kills} kills, "
        f"{found.seconds:.0f} s: each was answered once, in its place."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
