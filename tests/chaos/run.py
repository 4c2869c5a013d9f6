"""One run: a batch is ordered, blows fall, and what is left is looked at."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import openai

from tests.chaos.proof import Found, look, requests
from tests.chaos.schedule import Blow, schedule
from tests.servers.cluster import Cluster, serving

FAULTS: Final = "429=2%,500=1%,drop=1%,truncate=1%,malformed=1%,slow=0.5%,empty=1%"
REHEARSE: Final = ("--seed", "1", "--errors", FAULTS, "--latency", "20ms")
IN_DOUBT: Final = 2000
"""Requests of a consumer whose replies Elasticsearch has not confirmed, at most."""
SETTINGS: Final = {"WORDMILL_CONSUMER_IN_DOUBT": str(IN_DOUBT)}
NEEDS: Final = {
    "alarm": "kill broker",
    "read-only": "kill elasticsearch",
    "full disk": "kill elasticsearch",
    "empty redis": "kill redis",
}
"""Blows that fall on what another one may have killed just before."""
ENDED: Final = ("completed", "failed", "expired", "cancelled")


def chaos(
    folder: Path,
    consumer: Path,
    seed: int,
    count: int,
    seconds: float,
    patience: float,
    say: Callable[[str], None] = print,
) -> Found:
    """Strike for so many seconds while `count` requests are answered.

    patience: seconds that the batch may take from its order to its end.
    Raises AssertionError for what must not be, TimeoutError.
    """
    blows = schedule(seed, seconds)
    # As slow as the blows are long, or most of them would fall when all is done.
    limits = ("--rpm", str(math.ceil(count / seconds * 60)))
    with serving(folder, consumer, REHEARSE, limits=limits, settings=SETTINGS) as parts:
        client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{parts.port}/v1", api_key=parts.key, max_retries=10
        )
        path = folder / "requests.jsonl"
        names = requests(path, count)
        with path.open("rb") as file:
            sent = client.files.create(file=file, purpose="batch")
        began = time.monotonic()
        ordered = client.batches.create(
            input_file_id=sent.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        let_fall(parts, blows, began, say)
        batch = ordered

        def ended() -> bool:
            nonlocal batch
            try:
                batch = client.batches.retrieve(ordered.id)
            except openai.APIError:
                return False
            return batch.status in ENDED

        parts.wait(ended, patience - (time.monotonic() - began))
        say(f"{batch.status} after {time.monotonic() - began:.0f} s")
        assert batch.status == "completed", f"{batch.status}: {batch.errors}"
        files = [
            client.files.content(name).read()
            for name in (batch.output_file_id, batch.error_file_id)
            if name is not None
        ]
        found = look(parts, names, batch.id, files)
        kills = sum(blow.what.startswith("kill consumer") for blow in blows)
        say(str(found))
        ceiling = kills * IN_DOUBT
        assert found.repeated <= ceiling, f"{found.repeated:,} repeated, at most {ceiling:,}"
        return found


def let_fall(parts: Cluster, blows: list[Blow], began: float, say: Callable[[str], None]) -> None:
    """Strike at each moment, and put right again what was struck when its time is over."""
    mending: list[tuple[float, str, Callable[[], None]]] = []
    waiting = list(blows)
    while waiting or mending:
        now = time.monotonic() - began
        down = {name for _, name, _ in mending}
        due = [one for one in mending if one[0] <= now and NEEDS.get(one[1]) not in down]
        for one in due:
            mending.remove(one)
            down.discard(one[1])
            one[2]()
        while waiting and waiting[0].at <= now:
            blow = waiting.pop(0)
            if blow.what in down or NEEDS.get(blow.what) in down:
                continue  # it is down already
            down.add(blow.what)
            say(f"{now:6.1f} s  {blow.what}, for {blow.lasts:g} s")
            mending.append((now + blow.lasts, blow.what, strike(parts, blow.what)))
        time.sleep(0.05)


def strike(parts: Cluster, what: str) -> Callable[[], None]:
    """Let a blow fall; what puts it right again."""
    name = what.partition(" ")[2]
    if what == "alarm":
        parts.servers["broker"].alarm(True)
        return lambda: parts.servers["broker"].alarm(False)
    if what == "read-only":
        setting = "index.blocks.read_only_allow_delete"
        parts.search_settings("/_all/_settings", {setting: True})
        return lambda: parts.search_settings("/_all/_settings", {setting: None})
    if what == "full disk":
        path = "/_cluster/settings"
        marks = ("low", "high", "flood_stage")
        where = "cluster.routing.allocation.disk.watermark."
        parts.search_settings(path, {"persistent": {where + mark: "90000gb" for mark in marks}})
        return lambda: parts.search_settings(
            path, {"persistent": {where + mark: None for mark in marks}}
        )
    if what == "empty redis":
        parts.servers["redis"].client().flushall()
        return lambda: None
    struck = parts.parts.get(name) or parts.servers[name]
    struck.kill()
    return struck.start  # type: ignore[no-any-return]
