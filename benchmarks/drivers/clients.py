"""Clients of a server, in a process of their own: prints the seconds of each call as JSON.

    drivers/clients.py URL BATCH --clients 100 --seconds 60    polls a batch every two seconds
    drivers/clients.py URL --talk MODEL --clients 100 ...      streams an answer, reads five seconds

The key is in the environment, as CLIENTS_KEY. A light client of its own, so that what is measured
is the server and not the client's own queue.
"""

import argparse
import asyncio
import json
import os
import time

import aiohttp

EVERY = 2.0
"""Seconds between two looks of a client at its batch."""
READ = 5.0
"""Seconds that somebody reads an answer before the next question."""


async def poll(session: aiohttp.ClientSession, batch: str, until: float) -> list[float]:
    """Look at the batch until then; seconds of each look."""
    taken = []
    while time.monotonic() < until:
        began = time.perf_counter()
        async with session.get(f"/v1/batches/{batch}") as answer:
            answer.raise_for_status()
            await answer.read()
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(max(0.0, EVERY - taken[-1]))
    return taken


async def talk(session: aiohttp.ClientSession, model: str, name: str, until: float) -> list[float]:
    """Ask and read until then; seconds to the first piece of each answer."""
    taken = []
    while time.monotonic() < until:
        asked = [{"role": "user", "content": f"Tell {name} of number {len(taken)}."}]
        body = {"model": model, "messages": asked, "stream": True, "max_tokens": 100}
        began = time.perf_counter()
        async with session.post("/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            await answer.content.readany()
            taken.append(time.perf_counter() - began)
            await answer.read()
        await asyncio.sleep(READ)
    return taken


async def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("batch", nargs="?", default="")
    parser.add_argument("--talk", default="")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    chosen = parser.parse_args()
    pause = READ if chosen.talk else EVERY
    until = time.monotonic() + chosen.seconds
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {os.environ['CLIENTS_KEY']}"}
    async with aiohttp.ClientSession(chosen.url, connector=connector, headers=headers) as session:

        async def one(number: int) -> list[float]:
            await asyncio.sleep(pause * number / chosen.clients)
            if chosen.talk:
                return await talk(session, chosen.talk, str(number), until)
            return await poll(session, chosen.batch, until)

        found = await asyncio.gather(*map(one, range(chosen.clients)))
    print(json.dumps([seconds for each in found for seconds in each]))


if __name__ == "__main__":
    asyncio.run(main())
