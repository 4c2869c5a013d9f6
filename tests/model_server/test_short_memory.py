"""Processes that get no more memory from the system: in mid-answer, and while they load."""

import re
import resource
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.model_server.conftest import Server, Start, stub_command, text_of, until
from tests.model_server.test_pool import alive, error_of
from tests.servers import tiny_gguf, tiny_models
from wordmill.model_server import memory
from wordmill.model_server.serving import worker_command
from wordmill.model_server.types import Described

BOUND = (
    "import os, resource, sys; most = int(sys.argv[1]);"
    "resource.setrlimit(resource.RLIMIT_AS, (most, most)); os.execv(sys.argv[2], sys.argv[2:])"
)
WORDS = re.compile(
    r"The engine failed: .+\. It is started again\."
    r"|The process of the model 'true' ended in mid-answer: it .+\. It is started again; ask once "
    r"more\."
)


def either(model: Described) -> Sequence[str]:
    """A worker with its engine where the model has one; else a stub."""
    return worker_command(model) if model.engine else stub_command(model)


def bounded(model: Described) -> Sequence[str]:
    """The same, but an engine gets 6 GB of memory and no more."""
    made = either(model)
    return [sys.executable, "-c", BOUND, str(6 << 30), *made] if model.engine else made


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each token of a conversation takes 8 kB of its memory."""
    place = tmp_path_factory.mktemp("true")
    shape = tiny_models.Shape(8, 256, 4, 4, 128, 512, 8192)
    return tiny_gguf.write(tiny_models.build(place / "model", shape=shape), place / "true.gguf")


def true(file: Path, **options: object) -> Described:
    return Described(
        name="true", path=file, engine="gguf", options={"threads": 1, **options}, memory=1 << 20
    )


def test_a_worker_that_gets_no_more_memory_in_mid_answer_comes_back(server: Server) -> None:
    server.library.add("tiny", slots=1, ceiling=1 << 30)
    folder = server.library.models["tiny"].path
    with ThreadPoolExecutor(4) as pool, server.stream("eat", max_tokens=9) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if "t1" in line)
        waiting = [pool.submit(server.ask, "later", max_tokens=2, person="bob") for _ in range(3)]
        until(lambda: server.models()["tiny"]["waiting"] == 3)
        before = server.worker()
        (folder / "hungry").touch()
        rest = [line for line in lines if line]
        assert {one.result(60).status_code for one in waiting} == {200}
    assert error_of(rest)["message"] == (
        "The process of the model 'tiny' ended in mid-answer: it ran out of memory (MemoryError). "
        "It is started again; ask once more."
    )
    assert server.worker() != before


def test_an_engine_that_gets_no_more_memory_in_mid_answer_comes_back(
    start: Start, file: Path
) -> None:
    server = start(command=either, hang=30.0)
    server.library.models["true"] = true(file, slots=2)
    long = {"model": "true", "max_tokens": 8000, "ignore_eos": True, "temperature": 0}
    with ThreadPoolExecutor(6) as pool, server.stream(**long) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if line.startswith("data: ") and "content" in line)
        before = server.worker("true")
        resource.prlimit(before, resource.RLIMIT_AS, (1 << 20, 1 << 20))
        said = {"model": "true", "max_tokens": 3, "ignore_eos": True}
        others = [pool.submit(server.ask, "mill " * 900, **said) for _ in range(6)]
        rest = [line for line in lines if line]
        found = [one.result(90) for one in others]
    assert WORDS.fullmatch(error_of(rest)["message"])
    assert [one.json()["usage"]["completion_tokens"] for one in found] == [3] * 6
    assert not alive(before)
    assert server.worker("true") != before


@pytest.mark.parametrize("how", [150 << 20, "killed"])
def test_a_worker_that_gets_too_little_memory_while_loading_gets_room(
    server: Server, how: object
) -> None:
    server.ask(max_tokens=1)
    server.library.add("more", ballast=160 << 20, short=how)
    assert server.ask(model="more", max_tokens=1).status_code == 200
    assert server.models()["tiny"]["state"] == "unloaded"


def test_where_nothing_makes_room_the_lack_of_memory_is_said(server: Server) -> None:
    server.library.add("kept", pinned=True)
    server.ask(model="kept", max_tokens=1)
    server.library.add("more", ballast=160 << 20, short=150 << 20)
    assert server.ask(model="more").json()["error"]["message"] == (
        "The model 'more' could not be loaded: it ran out of memory (MemoryError)."
    )
    assert text_of(server.told(model="kept", max_tokens=2)) == "one t1"


def test_an_engine_that_cannot_be_loaded_for_lack_of_memory_says_so(
    start: Start, file: Path
) -> None:
    server = start(command=bounded)
    server.ask(max_tokens=1)
    server.library.models["true"] = true(file, cache_tokens=1 << 20)  # 8 GB
    words = server.ask(model="true").json()["error"]["message"]
    assert words.startswith(
        "The model 'true' could not be loaded: there is not enough memory to load it ("
    )
    assert "allocate" in words
    assert server.models()["tiny"]["state"] == "unloaded"  # it made room, and that was too little


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:84:\nstd::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate 5"),
        RuntimeError("Requested cache blocks require more memory than available on the system."),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ],
)
def test_a_lack_of_memory_is_known_by_what_led_to_it(fault: Exception) -> None:
    assert memory.is_short(fault)
    after = ValueError("The model cannot be loaded.")
    after.__cause__ = fault
    assert memory.is_short(after)
    assert not memory.is_short(ValueError("The memory of an elephant."))
