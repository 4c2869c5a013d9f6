"""data-designer: the recipe of the benchmark, two categories and one 1 KB prompt, to Parquet.

The marker is a column of an ordered seed file; everything else is at the tool's defaults (row
groups of 1,000, three at once), with as many requests at once as the others have.
"""

import time

import data_designer.config as dd
import pandas
from data_designer.interface import DataDesigner

from drivers.contract import (
    MAX_TOKENS,
    MODEL,
    MOODS,
    PRODUCTS,
    Job,
    Tally,
    prompt_template,
    read_job,
)


def recipe(job: Job) -> dd.DataDesignerConfigBuilder:
    """The columns, as `bench/inputs.py` writes them for Wordmill."""
    seeds = job.output / "seeds.parquet"
    pandas.DataFrame({"marker": range(job.requests)}).to_parquet(seeds)
    parameters = dd.ChatCompletionInferenceParams(
        max_tokens=MAX_TOKENS, max_parallel_requests=job.concurrency
    )
    model = dd.ModelConfig(
        alias=MODEL, model=MODEL, provider="bare", inference_parameters=parameters
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.LocalFileSeedSource(path=str(seeds)))
    for name, values in (("product", PRODUCTS), ("mood", MOODS)):
        builder.add_column(
            dd.SamplerColumnConfig(
                name=name,
                sampler_type=dd.SamplerType.CATEGORY,
                params=dd.CategorySamplerParams(values=list(values)),
            )
        )
    builder.add_column(
        dd.LLMTextColumnConfig(name="text", prompt=prompt_template("marker"), model_alias=MODEL)
    )
    return builder


def main() -> None:
    job = read_job()
    provider = dd.ModelProvider(name="bare", endpoint=job.base_url, api_key="none")
    designer = DataDesigner(artifact_path=job.output / "artifacts", model_providers=[provider])
    designer.set_run_config(dd.RunConfig(otel_metrics_port=None))
    result = designer.create(recipe(job), num_records=job.requests, dataset_name="bench")
    last = time.time()
    tally = Tally(job.requests)
    rows = result.load_dataset()
    for marker, text in zip(rows["marker"].tolist(), rows["text"].tolist(), strict=True):
        tally.take(marker, text)
    tally.report(last)


if __name__ == "__main__":
    main()
