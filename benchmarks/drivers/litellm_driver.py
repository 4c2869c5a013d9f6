"""litellm's `acompletion`, at its defaults. JSONL in, JSONL out."""

import asyncio
import json
import time
from collections.abc import Iterator

import litellm

from drivers.contract import Job, Tally, read_job


async def drive(job: Job) -> None:
    """All requests, each worker with one in flight."""
    tally = Tally(job.requests)

    async def work(lines: Iterator[tuple[int, str]]) -> None:
        for marker, line in lines:
            body = json.loads(line)
            body["model"] = "openai/" + body["model"]
            reply = await litellm.acompletion(**body, api_base=job.base_url, api_key="none")
            text = reply.choices[0].message.content
            output.write(json.dumps({"id": marker, "text": text}) + "\n")
            tally.take(marker, text)

    with job.input.open() as file, (job.output / "answers.jsonl").open("w") as output:
        lines = enumerate(file)
        await asyncio.gather(*(work(lines) for _ in range(job.concurrency)))
    tally.report(time.time())


if __name__ == "__main__":
    asyncio.run(drive(read_job()))
