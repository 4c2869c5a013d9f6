"""The `openai` SDK with asyncio, at its defaults. JSONL in, JSONL out."""

import asyncio
import json
import time
from collections.abc import Iterator

from openai import AsyncOpenAI

from drivers.contract import Job, Tally, read_job


async def drive(job: Job) -> None:
    """All requests, each worker with one in flight."""
    tally = Tally(job.requests)

    async def work(lines: Iterator[tuple[int, str]]) -> None:
        for marker, line in lines:
            reply = await client.chat.completions.create(**json.loads(line))
            text = reply.choices[0].message.content
            output.write(json.dumps({"id": marker, "text": text}) + "\n")
            tally.take(marker, text)

    with job.input.open() as file, (job.output / "answers.jsonl").open("w") as output:
        lines = enumerate(file)
        async with AsyncOpenAI(base_url=job.base_url, api_key="none") as client:
            await asyncio.gather(*(work(lines) for _ in range(job.concurrency)))
    tally.report(time.time())


if __name__ == "__main__":
    asyncio.run(drive(read_job()))
