"""What a channel adds: from a prompt on Matrix to its answer there, without edits.

    benchmarks/channels.py             the figure
    benchmarks/channels.py --quick     few prompts: all works, nothing is judged but the answers

A real Synapse, `wordmill serve` as a process of its own, and a model that answers at once. By the
homeserver's clock: from the moment in which it took the prompt to the one in which it took the
answer; that has the delivery of the prompt in it, all that Wordmill does, the model, and the way
back. One prompt at a time. Prints the figures; exit code 1 when the median is missed.
"""

import argparse
import json
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.matrix.load import serving  # noqa: E402  # the tests are no package of the path
from tests.servers import synapse  # noqa: E402
from tests.servers.talking import talking  # noqa: E402

ADDED: float = 150.0
"""Milliseconds that the median may take."""
PROMPTS: int = 36
"""Fewer than two machines may say to each other before they are quieted."""
PATIENCE: float = 60.0


def main(arguments: list[str]) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args(arguments)
    taken = measured(10 if chosen.quick else PROMPTS)
    median, slow = statistics.median(taken), sorted(taken)[int(0.95 * len(taken))]
    print(f"prompt to answer on Matrix, {len(taken)} prompts: median {median:.0f} ms, "
          f"95 of 100 within {slow:.0f} ms")  # fmt: skip
    if not chosen.quick and median > ADDED:
        print(f"The median is {median:.0f} ms, and {ADDED:.0f} ms is the most.")
        return 1
    return 0


def measured(prompts: int) -> list[float]:
    """Milliseconds of each prompt."""
    with tempfile.TemporaryDirectory(prefix="channels-") as name:
        folder = Path(name)
        with synapse.serving(folder / "synapse") as homeserver:
            bot = homeserver.register(f"mill{secrets.token_hex(4)}")
            ann = homeserver.register(f"ann{secrets.token_hex(4)}")
            homeserver.lift_limit(bot)
            homeserver.lift_limit(ann)
            with (
                talking(lambda body: [f"Yes: {body['messages'][-1]['content']}"]) as model,
                serving(folder / "mill", homeserver, bot, model.url),
            ):
                return _talk(homeserver, bot, homeserver.token(ann), prompts)


def _talk(homeserver: synapse.Server, bot: str, token: str, prompts: int) -> list[float]:
    body = {"preset": "trusted_private_chat", "invite": [bot], "is_direct": True}
    room = homeserver.call("POST", "/_matrix/client/v3/createRoom", body, token)["room_id"]
    path = f"/_matrix/client/v3/rooms/{quote(room)}"
    until = time.monotonic() + 120
    while bot not in homeserver.call("GET", f"{path}/joined_members", token=token)["joined"]:
        if time.monotonic() > until:
            raise TimeoutError("the channel did not join")
        time.sleep(0.2)
    found = []
    for number in range(-3, prompts):  # the first ones warm everything up
        sent = homeserver.call(
            "PUT", f"{path}/send/m.room.message/{secrets.token_hex(8)}",
            {"msgtype": "m.text", "body": f"Number {number}"}, token,
        )["event_id"]  # fmt: skip
        taken = _answered(homeserver, path, bot, sent, f"Yes: Number {number}", token)
        if number >= 0:
            found.append(taken)
        time.sleep(2.1)  # what follows an answer at once again and again would seem a machine
    return found


def _answered(
    homeserver: synapse.Server, path: str, bot: str, sent: str, text: str, token: str
) -> float:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        page = homeserver.call("GET", f"{path}/messages?dir=b&limit=5", token=token)["chunk"]
        asked = next((one for one in page if one["event_id"] == sent), None)
        answer = next((one for one in page if one["sender"] == bot
                       and one.get("content", {}).get("body") == text), None)  # fmt: skip
        if asked and answer:
            return float(answer["origin_server_ts"] - asked["origin_server_ts"])
        time.sleep(0.05)
    raise TimeoutError(f"no answer to {text}: {json.dumps(page)[:500]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
