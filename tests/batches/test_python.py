"""Blocks whose lines ask for more than an answer, as a worker answers them."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.servers.imperfect import Asked, Served, Told, completion, serving
from wordmill._engine import Engine, Splitter
from wordmill.batches.python import Answered, answer_block, check_of, follow_up, said
from wordmill.batches.types import Batch, Block, Counts
from wordmill.batches.work import counted
from wordmill.columns.answers import Complaint
from wordmill.settings import load

RULES = {
    "endpoint": "/v1/chat/completions", "models": ["m"], "most_bytes": 10_000,
    "block_lines": 1000, "block_bytes": 1 << 20,
}  # fmt: skip


def batch(**options: Any) -> Batch:
    moment = datetime.now(UTC)
    return Batch(
        id="batch_0123", owner="ann", file="file-1", endpoint="/v1/chat/completions",
        state="in_progress", dataset=None, source=None, priority=4,
        options={"cache": True, "budget": {}, **options}, counts=Counts(), errors=(), times={},
        output=None, failures=None, created=moment, expires=moment,
    )  # fmt: skip


def cut(data: bytes) -> tuple[Block, int]:
    """The one block of a file, and how many of its lines need Python."""
    splitter = Splitter(json.dumps(RULES))
    splitter.feed(data)
    splitter.finish()
    ((offset, size, first, lines, models, bad, python),) = splitter.blocks()
    block = Block(
        0, offset, size, first, lines, dict(json.loads(models)), tuple(json.loads(bad)), False,
        Counts(), 0.0,
    )  # fmt: skip
    return block, python


def line(name: str, **own: Any) -> str:
    body = {"model": "m", "messages": [{"role": "user", "content": name}]}
    return json.dumps({"custom_id": name, "body": body, **({"wordmill": own} if own else {})})


@pytest.fixture
def ask() -> Iterator[Callable[..., tuple[Answered, list[dict[str, Any]]]]]:
    """Answer a file of lines with a server that says what a function says of a request."""
    opened: list[Any] = []

    def ask(
        say: Callable[[Asked], Told], lines: Sequence[str], **more: Any
    ) -> tuple[Any, list[dict[str, Any]]]:
        context = serving(say)
        served: Served = context.__enter__()
        opened.append(context)
        lanes = [{"name": "m", "base_url": served.url, "model": "m", "concurrency": 4}]
        lanes[0] |= {"price_input": 1_000_000.0, "attempts": 1}
        engine = Engine(json.dumps({"owner": "ann", "lanes": lanes, "whole": True}))
        data = "\n".join(lines).encode()
        block, _ = cut(data)
        going = more.pop("going", lambda: None)
        try:
            found = answer_block(
                engine, batch(**more), load(), block, data, path="/chat/completions",
                rules=json.dumps(RULES), going=going,
            )  # fmt: skip
        finally:
            engine.close()
        return found, [json.loads(one) for one in found.data.splitlines()]

    yield ask
    for context in opened:
        context.__exit__(None, None, None)


def test_a_block_is_answered_whole_and_in_order(ask: Callable[..., Any]) -> None:
    def say(asked: Asked) -> Told:
        turns = len(asked.body["messages"])
        return completion("yes" if turns > 1 or asked.body["messages"][0]["content"] == "c" else "")

    lines = [line("a"), "", "no json", line("c"), line("d", validate={"choices": ["no"]})]
    found, results = ask(say, lines, validate={"choices": ["yes"], "tries": 2})
    assert found.lines == [0, 2, 3, 4]
    assert [one["custom_id"] for one in results] == ["a", None, "c", "d"]
    assert found.statuses == ["empty", "invalid_json", "ok", "empty"]
    assert [one["wordmill"]["line"] for one in results] == [1, 3, 4, 5]
    counts = counted(found, found.data)
    assert (counts.completed, counts.failed, counts.rejected) == (1, 3, 1)


def test_what_all_tries_used_is_one_sum(ask: Callable[..., Any]) -> None:
    lines = [line(f"{number}") for number in range(50)]
    found, results = ask(
        lambda asked: completion(f"x{len(asked.body['messages'])}"),
        lines,
        validate={"pattern": "^x5$", "tries": 4},
    )
    assert found.statuses == ["ok"] * 50
    assert [one["wordmill"]["tries"] for one in results] == [3] * 50
    assert found.input_tokens == [21] * 50
    assert found.money == [21.0] * 50
    assert found.attempts == [3] * 50
    assert results[0]["wordmill"]["money"] == 21.0
    assert results[0]["response"]["body"]["choices"][0]["message"]["content"] == "x5"
    assert [one["id"] for one in results] == [f"batch_req_0123_{n}" for n in range(50)]


def test_lines_without_wishes_are_as_the_engine_wrote_them(ask: Callable[..., Any]) -> None:
    plain, _ = ask(lambda _: completion("yes"), [line("a"), line("b")])
    mixed, _ = ask(
        lambda _: completion("yes"), [line("a"), line("b", validate={"choices": ["yes"]})]
    )
    first, second = (json.loads(one.data.splitlines()[0]) for one in (plain, mixed))
    for one in (first, second):
        del one["wordmill"]["seconds"], one["response"]["request_id"]
    assert first == second


def test_it_is_given_up_when_it_is_told_to(ask: Callable[..., Any]) -> None:
    asked: list[Asked] = []

    def say(one: Asked) -> Told:
        asked.append(one)
        return completion("no")

    found, results = ask(
        say,
        [line(f"{number}") for number in range(20)],
        validate={"choices": ["yes"], "tries": 10},
        going=lambda: ("batch_cancelled", "It was cancelled.") if len(asked) > 30 else None,
    )
    assert len(found) == 20
    assert {one["error"]["code"] for one in results} <= {"batch_cancelled", "choice"}


def test_which_lines_need_python() -> None:
    lines = [line("a"), line("b", post="a:b"), line("c", validate={"choices": ["a"]})]
    assert cut("\n".join(lines).encode())[1] == 2


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("chat", {"choices": [{"message": {"content": "a"}}]}, "a"),
        ("chat", {"choices": [{"message": {"content": [{"type": "text", "text": "a"}]}}]}, "a"),
        ("chat", {"choices": [{"message": {"content": None, "refusal": "no"}}]}, "no"),
        ("chat", {"choices": []}, ""),
        ("completions", {"choices": [{"text": "a"}]}, "a"),
        ("responses", {"output": [{"type": "reasoning"}, {"content": [{"text": "a"}]}]}, "a"),
        ("responses", {"output": None}, ""),
    ],
)
def test_the_text_of_an_answer(kind: str, body: dict[str, Any], text: str) -> None:
    assert said(kind, body) == text


@pytest.mark.parametrize(
    ("kind", "body", "again"),
    [
        ("completions", {"prompt": "Say a."}, {"prompt": "Say a.b\n\nWORDS\n\n"}),
        ("completions", {"prompt": ["Say a."]}, None),
        (
            "responses",
            {"input": "Say a."},
            {
                "input": [
                    {"role": "user", "content": "Say a."},
                    {"role": "assistant", "content": "b"},
                    {"role": "user", "content": "WORDS"},
                ]
            },
        ),
        ("embeddings", {"input": "a"}, None),
    ],
)
def test_how_it_is_asked_again(kind: str, body: dict[str, Any], again: Any) -> None:
    complaint = check_of({"choices": ["a"]}).form.read("b")
    assert isinstance(complaint, Complaint)
    line = {"custom_id": "1", "body": body}
    made = follow_up(kind, line, "b", replace(complaint, words="WORDS"))
    assert made == (None if again is None else {"custom_id": "1", "body": again})
