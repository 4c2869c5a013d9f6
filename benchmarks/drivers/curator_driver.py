"""bespokelabs-curator: one `LLM` with its openai backend.

Its dataset (Arrow, on disk) is the output.
"""

import time

from bespokelabs import curator

from drivers.contract import MAX_TOKENS, MODEL, Tally, prompts, read_job


class Answers(curator.LLM):
    """The prompt as it is, and the answer beside its marker."""

    def prompt(self, input: dict) -> str:  # noqa: A002 (the tool names it)
        return input["prompt"]

    def parse(self, input: dict, response: str) -> dict:  # noqa: A002
        return {"marker": input["marker"], "text": response}


def main() -> None:
    job = read_job()
    rows = [{"marker": marker, "prompt": text} for marker, text in enumerate(prompts(job))]
    answers = Answers(
        model_name=MODEL,
        backend="openai",
        generation_params={"max_tokens": MAX_TOKENS},
        backend_params={
            "base_url": job.base_url,
            "api_key": "none",
            "max_concurrent_requests": job.concurrency,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 100_000_000_000,
        },
    )
    dataset = answers(rows, working_dir=str(job.output)).dataset
    last = time.time()
    tally = Tally(job.requests)
    for row in dataset:
        tally.take(row["marker"], row["text"])
    tally.report(last)


if __name__ == "__main__":
    main()
