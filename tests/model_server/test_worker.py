"""One worker with a true engine, as its model server talks to it: a process and HTTP."""

import asyncio
import base64
import json
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends.conftest import converted
from tests.servers import tiny_gguf, tiny_models
from wordmill.model_server.worker import options_of

__all__ = ["converted"]

TOKEN = "a-token-of-its-own"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Rome", "Oslo"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


class Worker:
    """A worker that runs."""

    def __init__(self, process: "subprocess.Popen[str]", told: dict[str, Any]) -> None:
        self.process, self.told = process, told
        self.url = f"http://127.0.0.1:{told['port']}"
        key = {"Authorization": f"Bearer {TOKEN}"}
        self.http = httpx.Client(base_url=self.url, headers=key, timeout=60)

    def chat(self, text: str = "The mill", **more: Any) -> Any:
        messages = more.pop("messages", [{"role": "user", "content": text}])
        return self.http.post("/v1/chat/completions", json={"messages": messages, **more})

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Its health, when it is as wanted."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            health: dict[str, Any] = self.http.get("/health").json()
            if wanted(health):
                return health
            time.sleep(0.02)
        raise AssertionError(f"the worker stays {health}")


@contextmanager
def started(folder: Path, engine: str = "gguf", **options: Any) -> Iterator[Any]:
    environment = {**os.environ, "WORDMILL_WORKER_TOKEN": TOKEN}
    command = [sys.executable, "-m", "wordmill.model_server.worker", "--folder", str(folder)]
    with subprocess.Popen(
        [*command, "--engine", engine, "--name", "tiny", "--options", json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        made = Worker(process, told) if "port" in told else told
        try:
            yield made
        finally:
            if isinstance(made, Worker):
                made.http.close()
            process.stdin.close()
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    place = tmp_path_factory.mktemp("models")

    def file(family: str) -> Path:
        made = place / f"{family}.gguf"
        if not made.exists():
            tiny_gguf.write(tiny_models.build(place / family, family), made)
        return made

    return file


@pytest.fixture(scope="module")
def worker(folders: Callable[[str], Path]) -> Iterator[Worker]:
    with started(folders("llama"), threads=1, slots=4) as one:
        yield one


def test_it_says_what_it_is_and_what_it_can(worker: Worker) -> None:
    assert worker.told["engine"] == "gguf"
    assert worker.told["context"] == 512
    assert worker.told["slots"] == 4
    assert worker.told["memory"] > 10 << 20
    assert "json_schema" in worker.told["capabilities"]["modes"]
    assert worker.told["capabilities"]["tasks"] == ["chat"]
    assert worker.http.get("/v1/models").json()["data"][0]["id"] == "tiny"


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": 5}}}},
        {"response_format": {"type": "regex", "pattern": "a{99999999999999999999}"}},
        {"top_k": 2**70},
        {"logit_bias": {str(2**70): 1}},
        {"messages": [{"role": "user", "content": "x" * 20_000}]},
    ],
)
def test_a_malformed_request_ends_alone(worker: Worker, body: dict[str, Any]) -> None:
    before = worker.http.get("/stats").json()["since"]
    assert worker.chat(**body).status_code == 400
    assert worker.chat(max_tokens=2).status_code == 200
    assert worker.http.get("/stats").json()["since"] == before


@pytest.mark.parametrize("tokens", [[-1], [2**31 - 1], [2**70]])
def test_tokens_that_the_model_does_not_know_are_refused(worker: Worker, tokens: list[int]) -> None:
    asked = {"prompt": tokens, "max_tokens": 2}
    assert worker.http.post("/v1/completions", json=asked).status_code in (400, 500)
    assert worker.chat(max_tokens=2).status_code == 200


def test_a_prompt_beyond_all_windows_is_refused_before_it_is_read(worker: Worker) -> None:
    error = worker.chat("x" * 20_000).json()["error"]["message"]
    assert re.fullmatch(
        r"The prompt has \d{5} characters, and the model's context window is 512 tokens\. .*",
        error,
    )


def test_one_core_is_left_to_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    for own, threads in (({0}, 1), ({0, 5}, 1), ({1, 2, 3, 4}, 3)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, own=own: own)
        assert options_of("{}").threads == threads
    assert options_of('{"threads": 7}').threads == 7


def test_without_its_token_it_says_nothing(worker: Worker) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        refused = httpx.get(worker.url + "/health", headers=headers)
        assert refused.status_code == 401


def test_a_stream_brings_what_the_whole_answer_is(worker: Worker) -> None:
    asked = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}
    whole = worker.chat(**asked).json()
    assert whole["usage"]["completion_tokens"] == 12
    assert whole["choices"][0]["finish_reason"] == "length"
    streamed = worker.chat(**asked, stream=True, stream_options={"include_usage": True})
    lines = [line for line in streamed.text.split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    told, wanted = chunks[-1]["usage"], whole["usage"]
    assert told.pop("prompt_tokens_details") == {"cached_tokens": told["prompt_tokens"] - 1}
    assert told.items() <= wanted.items()
    text = "".join(one["choices"][0]["delta"].get("content", "") for one in chunks[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"


def test_what_was_not_read_again_is_told(worker: Worker) -> None:
    asked = {"max_tokens": 6, "temperature": 0, "ignore_eos": True}
    text = "Of forty mills that grind, " * 4

    def read(text: str, **more: Any) -> tuple[int, str]:
        told = worker.chat(text, **asked, **more).json()
        usage = told["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return usage["prompt_tokens"] - cached, told["choices"][0]["message"]["content"]

    first, said = read(text)
    assert first > 40
    assert read(text) == (1, said)
    assert read(text + "one stands.")[0] < 40
    assert read(text, seed=7) == (worker.chat(text, **asked).json()["usage"]["prompt_tokens"], said)


def test_a_stop_ends_the_answer_before_it_even_across_pieces(worker: Worker) -> None:
    asked = {"max_tokens": 40, "temperature": 0, "ignore_eos": True}
    whole = worker.chat(**asked).json()["choices"][0]["message"]["content"]
    middle = len(whole) // 2
    stop = whole[middle : middle + 5]
    cut = worker.chat(**asked, stop=[stop, "never said"]).json()
    assert cut["choices"][0]["message"]["content"] == whole[: whole.index(stop)]
    assert cut["choices"][0]["finish_reason"] == "stop"
    assert cut["usage"]["completion_tokens"] < 40


def test_several_answers_to_one_request_differ(worker: Worker) -> None:
    told = worker.chat(max_tokens=12, temperature=1.5, seed=4, n=3).json()
    texts = [one["message"]["content"] for one in told["choices"]]
    assert [one["index"] for one in told["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    again = worker.chat(max_tokens=12, temperature=1.5, seed=5).json()
    assert again["choices"][0]["message"]["content"] == texts[1]


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({"glitter": 1}, "glitter", "This model server does not know the field `glitter`."),
        ({"num_beams": 2}, "num_beams", "The engine gguf cannot do `num_beams`."),
        ({"temperature": -1}, "temperature", "The field `temperature` is wrong:"),
        ({"max_tokens": 510}, "max_tokens", "together more than the model's window of 512"),
        ({"n": 2, "temperature": 0}, "n", "`n` above 1 needs sampling"),
        ({"top_logprobs": 2}, "top_logprobs", "`top_logprobs` needs `logprobs`: true."),
        ({"response_format": {"type": "poem"}}, "response_format", "`response_format` is {"),
        (
            {"response_format": {"type": "regex", "pattern": "((("}},
            "response_format",
            "The regular expression '(((' cannot be read",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0",
            "this model reads text alone",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    worker: Worker, asked: dict[str, Any], field: str, words: str
) -> None:
    refused = worker.chat(**{"max_tokens": 4, **asked})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert words in error["message"]
    assert error["param"] == field


def test_a_prompt_longer_than_the_window_is_a_sentence(worker: Worker) -> None:
    refused = worker.chat("mill " * 2000)
    assert refused.status_code == 400
    assert "and the model's context window is 512: nothing is left for an answer." in refused.text


def test_probabilities_are_told(worker: Worker) -> None:
    told = worker.chat(max_tokens=3, temperature=0, logprobs=True, top_logprobs=2).json()
    for one in told["choices"][0]["logprobs"]["content"]:
        assert one["logprob"] <= 0
        assert len(one["top_logprobs"]) == 2
        assert one["top_logprobs"][0]["logprob"] == pytest.approx(one["logprob"])


def test_a_forced_call_follows_the_tools_own_schema(worker: Worker) -> None:
    asked = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 60, "temperature": 1.0}
    whole = worker.chat(**asked, seed=1).json()["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    call = whole["message"]["tool_calls"][0]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"])["city"] in ("Rome", "Oslo")
    streamed = worker.chat(**asked, seed=1, stream=True).text.split("\n\n")
    deltas = [
        json.loads(line.removeprefix("data: "))["choices"][0]
        for line in streamed
        if line.startswith("data: {")
    ]
    assert deltas[-1]["finish_reason"] == "tool_calls"
    assert deltas[-2]["delta"]["tool_calls"][0]["function"] == call["function"]
    assert "".join(one["delta"].get("content", "") for one in deltas[:-2]) == ""


def test_leaving_frees_the_slot(worker: Worker) -> None:
    before = worker.http.get("/stats").json()["cancelled"]
    asked = {"max_tokens": 450, "temperature": 0, "ignore_eos": True, "stream": True}
    body = {"messages": [{"role": "user", "content": "x"}], **asked}
    with worker.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    worker.until(lambda health: health["slots"]["free"] == 4)
    assert worker.http.get("/stats").json()["cancelled"] == before + 1


def test_of_many_at_once_some_wait_and_the_rest_is_told_to_come_again(worker: Worker) -> None:
    async def all_at_once() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=worker.url, headers=worker.http.headers, limits=limits, timeout=120
        ) as client:
            body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 30}
            asked = [client.post("/v1/chat/completions", json=body) for _ in range(200)]
            return [told.status_code for told in await asyncio.gather(*asked)]

    statuses = asyncio.run(all_at_once())
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 4 + 4 * 4
    health = worker.until(lambda health: health["slots"]["free"] == 4)
    assert health["queue"] == 0


def test_tokens_are_counted_as_they_will_be_read(worker: Worker) -> None:
    messages = [{"role": "user", "content": "The mill"}]
    counted = worker.http.post("/tokenize", json={"messages": messages}).json()
    used = worker.chat(messages=messages, max_tokens=1).json()["usage"]
    assert counted["count"] == used["prompt_tokens"] == len(counted["tokens"])


def test_figures_grow(worker: Worker) -> None:
    before = worker.http.get("/stats").json()
    worker.chat(max_tokens=5, ignore_eos=True)
    after = worker.http.get("/stats").json()
    assert after["tokens_out"] == before["tokens_out"] + 5
    assert after["tokens_in"] > before["tokens_in"]
    assert after["first_token_p50"] > 0
    assert after["memory"] > 10 << 20


def test_a_system_message_is_folded_where_the_template_has_no_place(
    folders: Callable[[str], Path],
) -> None:
    with started(folders("gemma"), threads=1) as worker:
        assert worker.told["capabilities"]["system_role"] is False
        system = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
        folded = [{"role": "user", "content": "Be short.\n\nHi"}]
        counts = [
            worker.http.post("/tokenize", json={"messages": messages}).json()["tokens"]
            for messages in (system, folded)
        ]
        assert counts[0] == counts[1]
        told = worker.chat(messages=system, max_tokens=2)
        assert told.status_code == 200
        assert told.headers["x-wordmill-note"].startswith("This model's chat template has no sys")


def test_a_model_that_cannot_be_loaded_is_a_sentence(tmp_path: Path) -> None:
    with started(tmp_path) as told:
        assert "needs one *.gguf file" in told["error"]
    with started(tmp_path, engine="abacus") as told:
        assert "There is no engine 'abacus'" in told["error"]
    with started(tmp_path, glitter=1) as told:
        assert "There is no option of a worker 'glitter'" in told["error"]


def test_it_ends_when_nobody_holds_its_input(folders: Callable[[str], Path]) -> None:
    with started(folders("llama"), threads=1) as worker:
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        assert worker.process.wait(timeout=30) == 0


def test_vectors_are_asked_for_by_openais_words(converted: Path) -> None:
    with started(converted / "bert", "openvino", threads=1) as worker:
        assert worker.told["capabilities"]["tasks"] == ["embeddings"]
        texts = ["The mill grinds.", "Who asks politely"]
        told = worker.http.post("/v1/embeddings", json={"input": texts}).json()
        assert [one["index"] for one in told["data"]] == [0, 1]
        assert told["usage"]["prompt_tokens"] > 4
        packed = {"input": texts[1], "encoding_format": "base64"}
        (one,) = worker.http.post("/v1/embeddings", json=packed).json()["data"]
        raw = base64.b64decode(one["embedding"])
        vector = struct.unpack(f"<{len(raw) // 4}f", raw)
        assert vector == pytest.approx(told["data"][1]["embedding"], abs=1e-5)
        for path, body, words in (
            ("/v1/embeddings", {"input": [""]}, "A text to embed is empty."),
            ("/v1/embeddings", {"input": "a", "dimensions": 3}, "it cannot shorten them"),
            ("/v1/rerank", {"query": "a", "documents": ["b"]}, "for embeddings, not for rerank."),
        ):
            refused = worker.http.post(path, json=body)
            assert refused.status_code == 400
            assert words in refused.json()["error"]["message"]
        assert "for embeddings, not for chat." in worker.chat().text


def test_a_dtype_that_a_model_cannot_be_run_as_is_a_sentence(tmp_path: Path) -> None:
    with started(tmp_path, dtype="int8") as told:
        assert "dtype is 'int8'; a model is run as float32, bfloat16, float16." in told["error"]


def test_beams_go_alone_and_without_what_draws(converted: Path) -> None:
    with started(converted / "llama", "openvino", threads=1) as worker:
        beams = {"num_beams": 3, "max_tokens": 6, "ignore_eos": True}
        told = worker.chat(**beams).json()
        assert told["usage"]["completion_tokens"] == 6
        assert worker.chat(**beams, temperature=0).json()["choices"] == told["choices"]
        streamed = worker.chat(**beams, stream=True).text
        assert streamed.endswith("data: [DONE]\n\n")
        for name, value in (("temperature", 0.7), ("top_k", 5), ("logprobs", True)):
            refused = worker.chat(**beams, **{name: value})
            assert refused.status_code == 400
            assert f"it goes without `{name}`." in refused.text
