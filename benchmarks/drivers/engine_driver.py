"""Wordmill's engine, fed from JSONL; every answer is on the disk before it is reported.

A concurrency of 0 leaves it to the engine. Run again on the same output, it must send nothing.
"""

import json
import time

from drivers.contract import MODEL, Job, Tally, read_job
from wordmill._engine import Engine

PATH = "/chat/completions"


def config(job: Job) -> str:
    """One lane at its defaults but for the concurrency; durable records, no cache between runs."""
    lane: dict[str, str | int] = {"name": MODEL, "base_url": job.base_url, "model": MODEL}
    if job.concurrency:
        lane |= {"concurrency": job.concurrency, "max_concurrency": job.concurrency}
    return json.dumps(
        {
            "records": str(job.output / "records.db"),
            "cache": None,
            "owner": "bench",
            "lanes": [lane],
        }
    )


def main() -> None:
    job = read_job()
    tally = Tally(job.requests)
    last = time.time()
    engine = Engine(config(job))
    engine.submit_jsonl(MODEL, PATH, str(job.input))  # the file's end is the end of the offers
    while not engine.idle:
        batch = engine.poll(4096, 0.1, 0.02)
        if len(batch):
            last = time.time()
        for marker, text, error in zip(batch.ids, batch.texts, batch.errors, strict=True):
            tally.take(marker, None if error else text)
    engine.close()
    tally.report(last)


if __name__ == "__main__":
    main()
