"""The thread that drives an engine, on an engine that does as it is told."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tests.model_server.conftest import until
from wordmill.backends.base import Facts, Piece, Sampling
from wordmill.errors import InvalidInput
from wordmill.model_server.worker_http import rounds
from wordmill.model_server.worker_loop import EngineDied, Full, Loop, Told, Work

FACTS = Facts("scripted", 100, 2, "cpu", "", frozenset())
WAY = Sampling(max_tokens=9)


class Scripted:
    """An engine that says the texts of a script, one a step, to each request."""

    facts, words = FACTS, None

    def __init__(self, script: Sequence[str | Exception]) -> None:
        self.script = script
        self.live: dict[int, int] = {}
        self.cancelled: list[int] = []
        self.embedded: list[int] = []
        self.ranked: list[int] = []
        self.free = threading.Event()
        self.words = self

    def decoding(self, *, special: bool) -> "Scripted":
        return self

    def add(self, tokens: Sequence[int]) -> str:
        return ""

    def end(self) -> str:
        return ""

    def submit(self, request: int, prompt: Sequence[int], sampling: Sampling) -> None:
        if prompt == [13]:
            raise InvalidInput("Not that one.", "prompt")
        if prompt == [14]:
            raise OverflowError("int too large")
        if prompt == [15]:
            raise MemoryError
        self.live[request] = 0

    def cancel(self, request: int) -> None:
        self.cancelled.append(request)
        self.live.pop(request, None)

    def step(self) -> list[Piece]:
        pieces = []
        for request, at in list(self.live.items()):
            said = self.script[at]
            if isinstance(said, Exception):
                raise said
            last = at == len(self.script) - 1
            self.live[request] = at + 1
            pieces.append(Piece(request, (1,), said, finish="length" if last else None))
            if last:
                del self.live[request]
        return pieces

    def cache_use(self) -> float:
        return 0.5

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        self.embedded.append(len(texts))
        return [[float(len(text))] for text in texts], 10 * len(texts)

    def rank(self, query: str, documents: Sequence[str]) -> tuple[list[float], int]:
        self.ranked.append(len(documents))
        if query == "wait":
            self.free.wait(30)
        return [float(len(text)) for text in documents], 10 * len(documents)

    def close(self) -> None:
        self.live.clear()


class Run:
    """A loop and what it told."""

    def __init__(self, script: Sequence[str | Exception], bound: int = 4) -> None:
        self.engine = Scripted(script)
        self.dead: queue.Queue[BaseException] = queue.Queue()
        engine: Any = self.engine
        self.loop = Loop(engine, self._post, self.dead.put, bound)

    @staticmethod
    def _post(parcel: Any) -> None:
        for sink, told in parcel:
            sink(told)

    def ask(self, *stops: str, prompt: Sequence[int] = (1,)) -> "queue.Queue[Told]":
        told: queue.Queue[Told] = queue.Queue()
        self.loop.submit([Work(list(prompt), WAY, told.put, stops)])
        return told


def whole(told: "queue.Queue[Told]") -> tuple[str, Told]:
    text = ""
    while True:
        one = told.get(timeout=30)
        text += one.text
        if one.finish is not None:
            return text, one


def test_a_stop_across_pieces_is_never_shown_and_ends_the_work():
    run = Run(["say ", "EN", "D of it", "never"])
    told = run.ask("END")
    run.loop.start()
    assert whole(told)[0] == "say "
    run.loop.close()
    assert len(run.engine.cancelled) == 1


def test_what_only_looked_like_a_stop_is_shown_after_all():
    run = Run(["EN", "D", "EN"])
    told = run.ask("ENDING")
    run.loop.start()
    text, last = whole(told)
    assert (text, last.finish) == ("ENDEN", "length")
    run.loop.close()


def test_more_than_may_wait_is_refused_and_all_others_are_answered():
    run = Run(["a", "b"], bound=1)
    told = [run.ask() for _ in range(3)]
    with pytest.raises(Full, match="no more than 1 may"):
        run.ask()
    run.loop.start()
    assert [whole(one)[0] for one in told] == ["ab", "ab", "ab"]
    run.loop.close()


def test_what_the_engine_refuses_is_told_and_takes_no_slot():
    run = Run(["a"])
    refused, fine = run.ask(prompt=(13,)), run.ask()
    run.loop.start()
    assert whole(refused)[1].refused is not None
    assert whole(fine)[0] == "a"
    run.loop.close()
    assert run.loop.running == run.loop.waiting == 0


def test_a_request_that_trips_the_engine_ends_alone():
    run = Run(["a", "b"])
    fine, tripping = run.ask(), run.ask(prompt=(14,))
    run.loop.start()
    last = whole(tripping)[1]
    assert (last.detail, last.refused is not None) == (
        "The engine cannot take this request: OverflowError.", True,
    )  # fmt: skip
    assert whole(fine)[0] == "ab"
    assert whole(run.ask())[0] == "ab"
    run.loop.close()
    assert run.dead.empty()
    assert run.loop.running == run.loop.waiting == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_fails_ends_every_answer_with_words():
    run = Run(["a", RuntimeError("out of memory")])
    told = [run.ask() for _ in range(3)]  # one waits for a slot
    run.loop.start()
    for one in told:
        last = whole(one)[1]
        assert last.finish == "error"
        assert last.died
        assert last.detail == (
            "The engine failed: there was not enough memory (out of memory). It is started again."
        )
    with pytest.raises(EngineDied, match="It is started again"):
        run.ask()
    with pytest.raises(EngineDied):
        run.loop.embed(["a"])
    assert str(run.dead.get(timeout=30)) == "out of memory"
    run.loop.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_request_with_which_the_engine_fails_is_told_as_well():
    run = Run(["a"])
    told = run.ask(prompt=(15,))
    run.loop.start()
    last = whole(told)[1]
    assert (last.died, last.detail) == (
        True, "The engine failed: there was not enough memory. It is started again.",
    )  # fmt: skip
    assert isinstance(run.dead.get(timeout=30), MemoryError)
    run.loop.close()


def test_texts_that_wait_are_read_together():
    run = Run(["a"])
    futures = [run.loop.embed(["x" * number]) for number in (1, 2, 3)]
    run.loop.start()
    assert [one.result(timeout=30) for one in futures] == [
        ([[1.0]], 10),
        ([[2.0]], 10),
        ([[3.0]], 10),
    ]
    assert run.engine.embedded == [3]
    run.loop.close()


def test_many_texts_are_read_in_parts_beside_answers():
    run = Run(["a"] * 9)
    ranked = run.loop.rank("q", [str(number) for number in range(200)])
    told = run.ask()
    run.loop.start()
    scores, tokens = ranked.result(timeout=30)
    assert (len(scores), tokens, run.engine.ranked) == (200, 2000, [64, 64, 64, 8])
    assert whole(told)[0] == "a" * 9
    run.loop.close()


def test_texts_that_nobody_waits_for_are_not_read_and_too_many_are_refused():
    run = Run(["a"])
    unwanted = [run.loop.rank("q", ["a"]) for _ in range(6)]  # four that wait, and two slots
    with pytest.raises(Full, match="6 requests wait already"):
        run.loop.embed(["a"])
    for one in unwanted:
        one.cancel()
    wanted = run.loop.rank("q", ["a", "b"])
    run.loop.start()
    assert wanted.result(timeout=30) == ([1.0, 1.0], 20)
    assert run.engine.ranked == [2]
    run.loop.close()


def test_how_long_the_engine_has_been_at_one_step():
    run = Run(["a"])
    assert run.loop.still == 0
    ranked = run.loop.rank("wait", ["a"])
    run.loop.start()
    until(lambda: run.loop.still > 0.05)
    run.engine.free.set()
    ranked.result(timeout=30)
    until(lambda: run.loop.still == 0)
    run.loop.close()


def test_between_two_steps_the_event_loop_goes_round_a_few_times() -> None:
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever)
    thread.start()
    rest, reached = rounds(running), []

    def on(step: int) -> None:
        reached.append(step)
        if step < 4:  # as from a connection to the engine: each step a round later
            running.call_soon(on, step + 1)

    running.call_soon_threadsafe(on, 0)
    rest()
    assert reached == [0, 1, 2, 3, 4]
    running.call_soon_threadsafe(running.stop)
    thread.join()
    running.close()
    rest()  # at the end nobody waits for it
