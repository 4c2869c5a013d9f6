"""What every driver is given, and what it answers.

A driver is a program that sends the requests of a JSONL file through one tool, keeps the texts
where that tool keeps them, and prints one line of JSON, its last, for the harness:

    {"answers": n, "mismatched": n, "last": Unix seconds}

`last` is when the last answer was kept: on the disk for ours, in the tool's dataset for a data
tool, in a closed file for the rest. Line i of the input carries the marker `[#i]` in its prompt,
and the bare server begins an answer with the marker of its own request: `Tally` compares them.

Standard library only: each driver runs in its tool's own environment.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODEL = "bare"
MAX_TOKENS = 256
PRODUCTS = ("laptop", "phone", "kettle", "lamp")
MOODS = ("calm", "cross", "curious")
_WORDS = (
    "Say when it was bought, where it stands, what was tried so far and what the answer should "
    "do next, in plain words and whole sentences, as somebody writes who has little time. "
)
_BEFORE = "[#{{ %s }}] A {{ mood }} customer writes to the shop about a {{ product }}. "


def prompt_template(marker: str) -> str:
    """A Jinja template of about 1 KB; it reads `product`, `mood` and the name `marker`."""
    return ((_BEFORE % marker) + _WORDS * 7)[:1024]


def prompt(marker: int) -> str:
    """The text that the template gives for a marker, with values that follow from it."""
    text = prompt_template("marker").replace("{{ marker }}", str(marker))
    text = text.replace("{{ product }}", PRODUCTS[marker % len(PRODUCTS)])
    return text.replace("{{ mood }}", MOODS[marker % len(MOODS)])


def body(marker: int) -> dict[str, object]:
    """The request of a marker."""
    messages = [{"role": "user", "content": prompt(marker)}]
    return {"model": MODEL, "messages": messages, "max_tokens": MAX_TOKENS}


@dataclass(frozen=True)
class Job:
    """One task for a driver. `output` is a folder that exists and is empty."""

    base_url: str
    input: Path
    output: Path
    concurrency: int
    requests: int


def read_job() -> Job:
    """The job that the command line describes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True)
    return Job(**vars(parser.parse_args()))


def prompts(job: Job) -> Iterator[str]:
    """The prompts of the input, in order."""
    with job.input.open() as lines:
        for line in lines:
            yield json.loads(line)["messages"][0]["content"]


class Tally:
    """Counts what came back; one bit a request, so that the driver's own memory does not show."""

    def __init__(self, requests: int) -> None:
        self.seen = bytearray(requests // 8 + 1)
        self.answers = self.mismatched = 0

    def take(self, marker: int, text: str | None) -> None:
        """Count an answer. None is none; of two answers to one marker the second is a mismatch."""
        if text is None:
            return
        at, bit = marker >> 3, 1 << (marker & 7)
        if self.seen[at] & bit or not text.startswith(f"[#{marker}] "):
            self.mismatched += 1
        else:
            self.answers += 1
        self.seen[at] |= bit

    def report(self, last: float) -> None:
        """Print the line that the harness reads. `last`: when the last answer was kept."""
        counts = {"answers": self.answers, "mismatched": self.mismatched, "last": last}
        print(json.dumps(counts), flush=True)
