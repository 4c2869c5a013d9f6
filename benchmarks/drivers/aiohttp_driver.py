"""Plain aiohttp: what a careful person writes by hand. JSONL in, JSONL out, in order of arrival.

Nothing is retried, and a killed process keeps what the file had taken; power loss keeps less.
"""

import asyncio
import time
from collections.abc import Iterator

import aiohttp
import orjson

from drivers.contract import Job, Tally, read_job


async def drive(job: Job) -> None:
    """All requests, each worker with one in flight."""
    url = job.base_url + "/chat/completions"
    headers = {"content-type": "application/json"}
    tally = Tally(job.requests)
    connector = aiohttp.TCPConnector(limit=job.concurrency)

    async def work(lines: Iterator[tuple[int, bytes]]) -> None:
        for marker, line in lines:
            async with session.post(url, data=line, headers=headers) as response:
                response.raise_for_status()
                reply = orjson.loads(await response.read())
            text = reply["choices"][0]["message"]["content"]
            output.write(
                orjson.dumps({"id": marker, "text": text, "usage": reply["usage"]}) + b"\n"
            )
            tally.take(marker, text)

    with job.input.open("rb") as file, (job.output / "answers.jsonl").open("wb") as output:
        lines = enumerate(file)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(work(lines) for _ in range(job.concurrency)))
    tally.report(time.time())


if __name__ == "__main__":
    asyncio.run(drive(read_job()))
