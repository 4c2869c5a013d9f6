"""Models of one's own: tokens a second and first tokens, beside the ways one would take otherwise.

    benchmarks/local.py                all ways at 1, 8 and 32 streams, three alternating rounds
    benchmarks/local.py --quick        one round with a tiny model: all works, speed is not judged
    benchmarks/local.py --docs         the newest results into docs/benchmarks.md

A model with random weights of SmolLM2-135M's shape; prompts and answers of 64 tokens, greedy, all
requests at the same moment, two threads for each way. `naive` is `generate` one after another,
`static` one `generate` of all, `serve` transformers' own server (in the first round alone: nothing
is measured against it without `--continuous-batching`), `bare` OpenVINO GenAI's pipeline alone;
`openvino`, `transformers` and `gguf` are Wordmill's model server through HTTP, streaming: queue,
relay and worker. What memory gives is measured in the same run. Prints each figure and what it must
be; exit code 1, and a sentence each, when one is missed. Needs what scripts/local-models makes, and
about 20 minutes.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drivers.local_driver import NEW, PROMPT, THREADS, prompts

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.servers import tiny_gguf, tiny_models  # noqa: E402

HERE = ROOT / "build" / "bench" / "local"
RESULTS = HERE / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
DRIVER = Path(__file__).parent / "drivers" / "local_driver.py"
SERVING = DRIVER.with_name("serving_driver.py")
OURS = sys.executable
TORCH = str(ROOT / "build" / "venv-torch" / "bin" / "python")
CONVERTER = str(ROOT / "build" / "venv-openvino-convert" / "bin" / "python")
STREAMS = (1, 8, 32)
TIME = 900.0
"""Seconds that one way may take in a round."""
ONCE = ("serve",)
"""Ways of the first round alone."""
QUICK = ("bare", "openvino", "transformers", "gguf")
"""Ways that are over in seconds with the most streams: measured three times in a round."""
LATE = 1.0
"""Seconds: before that, 95 % of the streams have their first token."""


@dataclass
class Told:
    """Of one way with one number of streams. firsts: seconds to each first token."""

    rate: float
    firsts: list[float]

    @property
    def late(self) -> float:
        """The first token that 95 % of the streams have by then."""
        ordered = sorted(self.firsts)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


@dataclass
class Results:
    """rates, lates: way -> streams -> a figure of each turn.  bandwidth: bytes a second."""

    machine: str
    quick: bool
    weights: int
    rates: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    lates: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    bandwidth: list[float] = field(default_factory=list)

    def rate(self, way: str, streams: int) -> float:
        """The median, in tokens a second."""
        return statistics.median(self.rates[way][str(streams)])

    def late(self, way: str, streams: int) -> float:
        """The median, in seconds."""
        return statistics.median(self.lates[way][str(streams)])


# -- models -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Models:
    """The same weights in the forms of the engines."""

    plain: Path
    openvino: Path
    gguf: Path


def models(quick: bool) -> Models:
    """Made once and kept."""
    name = "tiny" if quick else "smollm2-135m"
    shape = tiny_models.TINY if quick else tiny_models.SMOLLM2_135M
    plain, converted, file = HERE / name, HERE / f"{name}-openvino", HERE / f"{name}.gguf"
    if not (plain / "config.json").exists():
        tiny_models.build(plain, "llama", shape=shape)
    if not (converted / "openvino_detokenizer.xml").exists():
        command = [CONVERTER, "-m", "optimum.commands.optimum_cli", "export", "openvino"]
        command += ["--task", "text-generation-with-past", "--weight-format", "fp32"]
        subprocess.run([*command, "--model", str(plain), str(converted)], check=True,
                       capture_output=True)  # fmt: skip
    if not file.exists():
        tiny_gguf.write(plain, file, "q8_0")
    return Models(plain, converted, file)


# -- ways ---------------------------------------------------------------------------------


def driven(python: str, way: str, folder: Path, counts: Sequence[int]) -> list[dict[str, Any]]:
    """What the driver says of a way."""
    numbers = ",".join(str(count) for count in counts)
    done = subprocess.run(
        [python, str(DRIVER), way, str(folder), numbers, "bfloat16"],
        capture_output=True, text=True, check=False, timeout=TIME, cwd=DRIVER.parent.parent,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{way} failed: {done.stderr.strip().splitlines()[-1:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@contextmanager
def wordmill(python: str, engine: str, folder: Path) -> Iterator[tuple[int, str]]:
    """Our model server with a worker of that Python; its port and its token."""
    command = [OURS, str(SERVING), python, engine, str(folder), str(THREADS)]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "WORDMILL_HOME": home, "PYTHONPATH": str(ROOT / "src")}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"The model server for {engine} does not come up.")
            told = json.loads(line)
            try:
                yield urlsplit(told["url"]).port or 0, told["token"]
            finally:
                process.stdin.close()
                process.wait(timeout=60)


@contextmanager
def serve(folder: Path, *more: str) -> Iterator[tuple[int, str]]:
    """transformers' own server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = str(Path(TORCH).parent / "transformers")
    command = [program, "serve", "--port", str(port), "--device", "cpu", "--dtype", "bfloat16"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(THREADS)}
    with subprocess.Popen(
        [*command, *more, str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    ) as process:  # fmt: skip
        try:
            until = time.monotonic() + 180
            while time.monotonic() < until and process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.5)
            else:
                raise SystemExit("`transformers serve` does not come up.")
            yield port, ""
        finally:
            process.terminate()
            process.wait(timeout=30)


async def ask(port: int, token: str, body: Mapping[str, Any]) -> tuple[float, int]:
    """One streamed answer: when its first token came, and how many there were."""
    raw = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(raw)}\r\n\r\n"
    )
    writer.write(head.encode() + raw)
    first, pieces, usage = 0.0, 0, 0
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        if b'"content":"' in line and b'"content":""' not in line:
            first = first or time.perf_counter()
            pieces += 1
        if b'"completion_tokens"' in line:
            usage = json.loads(line[6:])["usage"]["completion_tokens"]
    writer.close()
    if not first:
        raise SystemExit("A stream brought no token.")
    return first, usage or pieces


async def together(port: int, token: str, bodies: Sequence[Mapping[str, Any]]) -> Told:
    """All of them at the same moment."""
    begun = time.perf_counter()
    heard = await asyncio.gather(*(ask(port, token, body) for body in bodies))
    seconds = time.perf_counter() - begun
    return Told(sum(made for _, made in heard) / seconds, [first - begun for first, _ in heard])


def through(port: int, token: str, folder: Path, model: str, counts: Sequence[int]) -> list[Told]:
    """Through HTTP, streaming, after a warm-up. folder: of the tokenizer.  model: its name there;
    "bench" for ours, which is told not to end early.
    """

    def bodies(count: int, turn: int) -> list[dict[str, Any]]:
        found = []
        for text in texts(folder, count, turn):
            body: dict[str, Any] = {
                "model": model,
                "messages": [{"role": "user", "content": text}],
                "max_tokens": NEW,
                "temperature": 0,
                "stream": True,
            }
            if model == "bench":
                body |= {"ignore_eos": True, "stream_options": {"include_usage": True}}
            found.append(body)
        return found

    asyncio.run(together(port, token, [{**one, "max_tokens": 4} for one in bodies(2, 0)]))
    asked = [bodies(count, turn) for turn, count in enumerate(counts)]
    return [asyncio.run(together(port, token, one)) for one in asked]


def texts(folder: Path, count: int, turn: int) -> list[str]:
    """Messages that are PROMPT tokens as the model reads them, with what its template adds."""
    from wordmill.backends.folders import Folder, FolderWords
    from wordmill.backends.templates import Template

    words = FolderWords(Folder(folder))
    template = Template(words.template, words.special)

    def size(text: str) -> int:
        read = template.render([{"role": "user", "content": text}])
        return len(words.encode(read, special=template.plain))

    found = []
    for prompt in prompts(count, turn):
        text = words.decoding(special=False).add(prompt)
        while size(text) > PROMPT:
            text = text[:-1]
        found.append(text)
    return found


Way = Callable[[Sequence[int]], list[Told]]
"""Numbers of streams -> what came of each."""


def ways(made: Models) -> dict[str, Way]:
    """Each way; in a process of its own each time."""

    def in_process(python: str, way: str, folder: Path) -> Way:
        def run(counts: Sequence[int]) -> list[Told]:
            told = driven(python, way, folder, counts)
            return [Told(one["rate"], one["firsts"]) for one in told]

        return run

    def served(*more: str) -> Way:
        def run(counts: Sequence[int]) -> list[Told]:
            with serve(made.plain, *more) as (port, token):
                return through(port, token, made.plain, str(made.plain), counts)

        return run

    def ours(python: str, engine: str, folder: Path) -> Way:
        def run(counts: Sequence[int]) -> list[Told]:
            with wordmill(python, engine, folder) as (port, token):
                return through(port, token, made.plain, "bench", counts)

        return run

    return {
        "naive": in_process(TORCH, "naive", made.plain),
        "static": in_process(TORCH, "static", made.plain),
        "serve": served(),
        "serve --continuous-batching": served(
            "--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "512"
        ),
        "bare": in_process(OURS, "bare", made.openvino),
        "openvino": ours(OURS, "openvino", made.openvino),
        "transformers": ours(TORCH, "transformers", made.plain),
        "gguf": ours(OURS, "gguf", made.gguf),
    }


# -- figures ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """What was measured, and what it must be. unit: behind both numbers."""

    name: str
    value: float
    wanted: float
    unit: str = ""
    less: bool = False

    @property
    def met(self) -> bool:
        """Whether it is as it must be."""
        return self.value < self.wanted if self.less else self.value >= self.wanted

    def __str__(self) -> str:
        bound = "less than" if self.less else "at least"
        return f"{self.name}: {self.value:.2f}{self.unit} ({bound} {self.wanted:g}{self.unit})"


def figures(results: Results) -> list[Figure]:
    """Of the medians."""
    rate = results.rate
    ours, naive = rate("openvino", 32), rate("naive", 32)
    batching = "serve --continuous-batching"
    limit = statistics.median(results.bandwidth) / (results.weights * 2)
    return [
        Figure("openvino against naive, 32 streams", ours / naive, 15.0),
        Figure(f"openvino against `{batching}`, 32 streams", ours / rate(batching, 32), 3.0),
        Figure("transformers against naive, 32 streams", rate("transformers", 32) / naive, 8.0),
        Figure(
            "openvino through HTTP against the bare engine, 32 streams",
            ours / rate("bare", 32), 0.9,
        ),
        Figure(
            "openvino, one stream, against what memory gives in bfloat16",
            rate("openvino", 1) / limit, 0.5,
        ),
        Figure(
            "first token of openvino p95, 32 streams", results.late("openvino", 32), LATE, " s",
            less=True,
        ),
    ]  # fmt: skip


def table(results: Results, *, judged: bool = True) -> str:
    """The results as Markdown. judged: with the figures, and what they must be."""
    counts = [int(each) for each in next(iter(results.rates.values()))]
    columns = [f"{count} stream{'s' * (count > 1)}" for count in counts]
    memory = statistics.median(results.bandwidth)
    lines = [
        (
            f"{results.machine}; medians of {len(results.bandwidth)} alternating rounds. Memory "
            f"gives {memory / 1e9:.1f} GB/s, so one stream of bfloat16 weights "
            f"{memory / results.weights / 2:.0f} tokens a second at most."
        ),
        "",
        "| way | " + " | ".join(f"{one}, tok/s | first token p95, s" for one in columns) + " |",
        "|---|" + "---:|---:|" * len(counts),
    ]
    for way in results.rates:
        cells = " | ".join(
            f"{results.rate(way, count):.0f} | {results.late(way, count):.2f}" for count in counts
        )
        lines.append(f"| {way} | {cells} |")
    if judged:
        lines += ["", *(f"- {'' if one.met else '**missed** '}{one}" for one in figures(results))]
    return "\n".join(lines)


def write_page(text: str) -> None:
    """Between the markers of the page."""
    begin, end = "<!-- bench-local -->", "<!-- /bench-local -->"
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    PAGE.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def machine() -> str:
    """What this runs on."""
    from bench.report import machine as told

    return told()


def main(arguments: list[str]) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round")
    parser.add_argument("--docs", action="store_true", help="the newest results into the page")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="ways, with commas between them")
    parser.add_argument("--streams", default="", help="numbers, with commas between them")
    given = parser.parse_args(arguments)
    if given.docs:
        write_page(table(Results(**json.loads(RESULTS.read_text()))))
        return 0
    HERE.mkdir(parents=True, exist_ok=True)
    made = models(given.quick)
    chosen = {
        name: way
        for name, way in ways(made).items()
        if not given.only or name in given.only.split(",")
    }
    counts = [int(one) for one in given.streams.split(",") if one] or list(STREAMS)
    results = Results(machine(), given.quick, parameters(made.plain))
    for number in range(1 if given.quick else given.rounds):
        told = driven(TORCH, "bandwidth", made.plain, [1])
        results.bandwidth.append(told[0]["bandwidth"])
        for name, way in chosen.items():
            if number and name in ONCE:
                continue
            asked = [*counts, counts[-1], counts[-1]] if name in QUICK else counts
            for count, heard in zip(asked, way(asked), strict=True):
                results.rates.setdefault(name, {}).setdefault(str(count), []).append(heard.rate)
                results.lates.setdefault(name, {}).setdefault(str(count), []).append(heard.late)
                print(
                    f"round {number + 1}, {count:2} streams, {name}: {heard.rate:.1f} tok/s, first "
                    f"token p95 {heard.late:.2f} s",
                    flush=True,
                )
    whole = not (given.quick or given.only or given.streams)
    print("\n" + table(results, judged=whole))
    if not whole:
        return 0
    RESULTS.write_text(json.dumps(asdict(results)))
    missed = [f"Missed: {one}." for one in figures(results) if not one.met]
    print("\n".join(missed or ["All is as it must be."]))
    return 1 if missed else 0


def parameters(folder: Path) -> int:
    """How many numbers a model's weights are."""
    file = folder / "model.safetensors"
    return file.stat().st_size // 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
