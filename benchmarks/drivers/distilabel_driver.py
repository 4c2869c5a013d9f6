"""distilabel: a loader and one `TextGeneration`, in batches as large as the concurrency.

Its distiset, written as Parquet, is the output.
"""

import time

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

from drivers.contract import MAX_TOKENS, MODEL, Tally, prompts, read_job


def main() -> None:
    job = read_job()
    rows = [{"marker": marker, "instruction": text} for marker, text in enumerate(prompts(job))]
    with Pipeline(name="bench", cache_dir=job.output / "cache") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=job.concurrency)
        write = TextGeneration(
            llm=OpenAILLM(
                model=MODEL,
                base_url=job.base_url,
                api_key="none",
                generation_kwargs={"max_new_tokens": MAX_TOKENS},
            ),
            input_batch_size=job.concurrency,
        )
        load >> write
    dataset = pipeline.run(use_cache=False)["default"]["train"]
    dataset.to_parquet(job.output / "answers.parquet")
    last = time.time()
    tally = Tally(job.requests)
    for row in dataset:
        tally.take(row["marker"], row["generation"])
    tally.report(last)


if __name__ == "__main__":
    main()
