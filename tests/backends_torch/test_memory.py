"""A worker of transformers that gets no more memory from the system in mid-answer."""

import http.client
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.servers import tiny_models

TOKEN = "a-token-of-its-own"
SLACK = 16 << 20
"""Bytes that it still gets: enough for all but the keys and values of a long prompt."""


@contextmanager
def asked(port: int, **body: Any) -> Iterator[http.client.HTTPResponse]:
    """An answer that comes."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=100)) as connection:
        head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        body = {"prompt": "The mill", "temperature": 0, "ignore_eos": True, **body}
        connection.request("POST", "/v1/completions", json.dumps(body), head)
        with connection.getresponse() as answer:
            yield answer


def addresses(pid: int) -> int:
    """Bytes of memory that a process has asked for."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def test_an_engine_that_gets_no_more_memory_ends_with_words(tmp_path: Path) -> None:
    shape = tiny_models.Shape(8, 256, 4, 4, 128, 512, 16_384)
    model = tiny_models.build(tmp_path / "model", shape=shape)
    options = json.dumps({"threads": 1, "dtype": "float32", "device": "cpu"})
    command = [sys.executable, "-m", "wordmill.model_server.worker", "--folder", str(model)]
    with subprocess.Popen(
        [*command, "--engine", "transformers", "--options", options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "WORDMILL_WORKER_TOKEN": TOKEN},
    ) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        with asked(port, max_tokens=3) as warm:
            assert warm.status == 200
        with asked(port, max_tokens=8000, stream=True) as answer:
            assert answer.readline().startswith(b"data: ")
            most = addresses(process.pid) + SLACK
            resource.prlimit(process.pid, resource.RLIMIT_AS, (most, most))
            prompt = [20 + number % 400 for number in range(7000)]
            with asked(port, prompt=prompt, max_tokens=2) as refused:
                words = json.loads(refused.read())["error"]["message"]
                assert refused.headers["x-wordmill-ends"]  # another worker may answer it
            last = [line for line in answer.read().split(b"\n") if line][-1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["message"] == words
        assert re.fullmatch(
            r"The engine failed: there was not enough memory \(.*can't allocate memory.*\)\. It is "
            r"started again\.",
            words,
        )
        assert process.wait(timeout=60) == 70
