"""One way of running a model in this process, measured: what `local.py` starts.

    local_driver.py naive|static|bare|bandwidth FOLDER STREAMS,STREAMS,... DTYPE

Prints a line of JSON for each number of streams: tokens a second of all streams together, seconds
to each first token; for `bandwidth` one line, the bytes a second that reading weights can have at
most. Every way gets two threads and the same prompts of 64 tokens, and makes 64 tokens for each.
"""

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROMPT, NEW, THREADS = 64, 64, 2


def prompts(streams: int, turn: int) -> list[list[int]]:
    """Tokens of ordinary words of the bench's model; others each time, as caches remember."""
    draw = random.Random(1000 * streams + turn)
    return [[draw.randrange(20, 500) for _ in range(PROMPT)] for _ in range(streams)]


def _batches(counts: Sequence[int]) -> list[list[list[int]]]:
    return [prompts(count, turn) for turn, count in enumerate(counts)]


def naive(folder: Path, counts: Sequence[int], dtype: str) -> Iterator[dict[str, object]]:
    """`generate`, one request after another: what a plain server with a lock does."""
    return _generate(folder, [[[one] for one in batch] for batch in _batches(counts)], dtype)


def static(folder: Path, counts: Sequence[int], dtype: str) -> Iterator[dict[str, object]]:
    """One `generate` of all of them, who all wait for the last one."""
    return _generate(folder, [[batch] for batch in _batches(counts)], dtype)


def _generate(
    folder: Path, turns: list[list[list[list[int]]]], dtype: str
) -> Iterator[dict[str, object]]:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    model.generation_config = GenerationConfig()

    class First:
        """A streamer that notes when the first token came."""

        def __init__(self) -> None:
            self.at, self.seen = 0.0, 0

        def put(self, _: object) -> None:
            self.seen += 1
            if self.seen == 2:  # the first is the prompt
                self.at = time.perf_counter()

        def end(self) -> None:
            pass

    def run(batch: list[list[int]], new: int) -> float:
        tokens, first = torch.tensor(batch), First()
        model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
            **({"streamer": first} if len(batch) == 1 else {}),
        )
        return first.at

    for batches in turns:
        run(batches[0], 4)
        begun, firsts = time.perf_counter(), []
        for batch in batches:
            at = run(batch, NEW)
            firsts += [(at or time.perf_counter()) - begun] * len(batch)
        seconds = time.perf_counter() - begun
        yield {"rate": sum(map(len, batches)) * NEW / seconds, "firsts": firsts}


def bare(folder: Path, counts: Sequence[int], dtype: str) -> Iterator[dict[str, object]]:
    """OpenVINO GenAI's own pipeline, driven as its examples do, without any server."""
    import numpy as np
    import openvino
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks, scheduler.max_num_seqs = 512, 32
    scheduler.max_num_batched_tokens, scheduler.enable_prefix_caching = 512, True
    properties = {"INFERENCE_NUM_THREADS": THREADS}
    pipeline = genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)

    def run(rows: list[list[int]], new: int) -> tuple[float, list[float]]:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos = new, True
        begun = time.perf_counter()
        handles = [
            pipeline.add_request(number, openvino.Tensor(np.array([row])), config)
            for number, row in enumerate(rows)
        ]
        first: dict[int, float] = {}
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for number, handle in enumerate(handles):
                while handle.can_read():
                    handle.read()
                    first.setdefault(number, time.perf_counter() - begun)
        return time.perf_counter() - begun, list(first.values())

    run([[7] * PROMPT], 4)
    for batch in _batches(counts):
        seconds, firsts = run(batch, NEW)
        yield {"rate": len(batch) * NEW / seconds, "firsts": firsts}


def bandwidth(folder: Path, counts: Sequence[int], dtype: str) -> Iterator[dict[str, object]]:
    """Bytes a second of reading a gibibyte, the best of five: what one stream is bound by."""
    import torch

    torch.set_num_threads(THREADS)
    matrix = torch.ones((65536, 4096))
    vector = torch.ones(4096)
    best = 0.0
    for _ in range(5):
        begun = time.perf_counter()
        matrix @ vector
        best = max(best, matrix.numel() * 4 / (time.perf_counter() - begun))
    yield {"bandwidth": best}


if __name__ == "__main__":
    way, where, numbers, kind = sys.argv[1:]
    ways = {"naive": naive, "static": static, "bare": bare, "bandwidth": bandwidth}
    for told in ways[way](Path(where), [int(one) for one in numbers.split(",")], kind):
        print(json.dumps(told), flush=True)
