"""Workers that come and go: crashes, memory, swaps, idle ones; nothing that waits is lost."""

import asyncio
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.model_server.conftest import LIMITS, Library, Server, Start, stub_command, text_of, until
from wordmill.model_server.pool import Pool
from wordmill.model_server.types import Described

KILLED = (
    "The process of the model 'tiny' ended in mid-answer: it was killed with {} of memory; where "
    "memory is short, the system does that. It is started again; ask once more."
)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def error_of(lines: list[str]) -> dict:
    return json.loads(lines[-1].removeprefix("data: "))["error"]


def test_a_kill_in_mid_answer_ends_it_with_words_and_the_worker_comes_back(server: Server) -> None:
    server.library.add("tiny", slots=1, token_seconds=0.02)
    with ThreadPoolExecutor(4) as pool, server.stream(max_tokens=10_000) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if "t2" in line)
        waiting = [pool.submit(server.ask, "later", max_tokens=2, person="bob") for _ in range(3)]
        until(lambda: server.models()["tiny"]["waiting"] == 3)
        before = server.worker()
        os.kill(before, signal.SIGKILL)
        rest = [line for line in lines if line]
        assert {one.result(30).status_code for one in waiting} == {200}
    error = error_of(rest)
    assert error["code"] == 503
    assert error["message"].startswith(
        "The process of the model 'tiny' ended in mid-answer: it was"
    )
    assert error["message"].endswith("It is started again; ask once more.")
    assert server.worker() != before
    assert not alive(before)


def test_a_worker_lost_before_the_first_token_is_tried_once_more(server: Server) -> None:
    lines = server.told("once please", max_tokens=3)
    assert text_of(lines) == "one t1 t2"
    assert not any("error" in line for line in lines)


def test_a_request_that_kills_its_worker_is_given_up(server: Server) -> None:
    answer = server.ask("crash-first")
    assert answer.status_code == 503
    words = answer.json()["error"]["message"]
    assert words.startswith("The process of the model 'tiny' ended in mid-answer: it was killed")
    assert server.ask(max_tokens=1).status_code == 200  # and the next one finds a worker


def test_a_pinned_model_comes_back_though_nobody_waits(server: Server) -> None:
    server.library.add("kept", pinned=True)
    server.ask(model="kept")
    before = server.worker("kept")
    os.kill(before, signal.SIGKILL)
    until(lambda: server.models()["kept"]["pid"] not in (None, before))


def test_who_waits_hears_of_a_fault_while_loading(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, asked = server.library.find, []

    def find(name: str) -> Described | None:
        asked.append(name)
        if len(asked) > 1:  # the first time, the name is only looked up
            raise OSError("the disk is gone")
        return found(name)

    monkeypatch.setattr(server.library, "find", find)
    answer = server.http.post(
        "/v1/chat/completions", json={"model": "tiny", "messages": []}, timeout=20
    )
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == (
        "The model 'tiny' could not be loaded: OSError. The log of the model server says more."
    )
    monkeypatch.undo()
    until(lambda: server.ask(max_tokens=1).status_code == 200)


@pytest.mark.parametrize("stream", [False, True])
def test_the_end_of_the_server_does_not_wait_for_long_answers(
    start: Start, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setenv("WORDMILL_GRACE_SECONDS", "1")
    server = start()
    server.library.add("tiny", token_seconds=5.0)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.ask, max_tokens=1000, stream=stream)
        until(lambda: server.models().get("tiny", {}).get("running") == 1)
        server.stop()  # it ends within 30 seconds
        told = answer.result(30)
    assert '"message":"The model server ends."' in told.text
    assert stream or told.status_code == 503


@pytest.mark.parametrize("how", ["hang", "stand"])
def test_a_worker_that_hangs_is_ended(start: Start, how: str) -> None:
    server = start(hang=5.0)  # longer than a worker has no turn on a busy machine
    before = server.worker() if server.ask().status_code == 200 else 0
    with ThreadPoolExecutor() as pool:
        hung = pool.submit(server.ask, how, max_tokens=1)
        until(lambda: not alive(before))
        assert server.ask("fine", person="bob", max_tokens=1).status_code == 200
        words = hung.result(30).json()["error"]["message"]
    assert "ended in mid-answer: it did nothing for 5 s, and was ended. It is started" in words


def test_a_server_that_stood_still_holds_it_against_no_worker(library: Library) -> None:
    async def stand() -> bool:
        pool = Pool(library, stub_command, replace(LIMITS, hang=4.0))
        looking = asyncio.create_task(pool.run())
        worker = (await pool.load("tiny")).worker
        assert worker is not None
        worker.asked = time.monotonic()  # a question is under way
        time.sleep(6.0)  # a laptop that slept, a machine that had no turn for this process
        await asyncio.sleep(1.0)
        looking.cancel()
        ended = worker.ended
        await pool.close(0.0)
        return ended

    assert not asyncio.run(stand())


def test_a_model_that_cannot_be_loaded_says_why(server: Server) -> None:
    server.library.add("bad", fail="The folder has no config.json.")
    answer = server.ask(model="bad")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == (
        "The model 'bad' could not be loaded: The folder has no config.json."
    )
    assert server.models()["bad"]["state"] == "failed"


def test_a_worker_that_dies_while_loading_is_tried_again_and_then_given_up(server: Server) -> None:
    server.library.add("dying", die=3)
    answer = server.ask(model="dying")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == (
        "The model 'dying' could not be loaded: it ended with the code 3: a library said something."
    )


def test_loading_that_takes_too_long_is_ended(start: Start) -> None:
    server = start(load=0.3)
    server.library.add("slow", load_seconds=60)
    words = server.order("load", "slow").json()["error"]["message"]
    assert words.startswith(
        "The model 'slow' could not be loaded: it was not loaded after 0.3 s (setting "
    )


def test_a_model_that_is_loading_can_be_unloaded(server: Server) -> None:
    server.library.add("slow", load_seconds=60)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.ask, model="slow")
        until(lambda: server.models().get("slow", {}).get("state") == "loading")
        assert server.order("unload", "slow").json() == {"model": "slow", "unloaded": True}
        assert waiting.result(30).json()["error"]["message"] == "The model 'slow' was unloaded."
    until(lambda: server.models()["slow"]["state"] == "unloaded")


def test_one_loading_is_shared_by_all_that_wait(server: Server) -> None:
    server.library.add("slow", load_seconds=0.5)
    with ThreadPoolExecutor(10) as pool:
        found = [pool.submit(server.ask, model="slow", person=f"p{n}") for n in range(10)]
        assert {one.result(30).status_code for one in found} == {200}
    assert server.models()["slow"]["workers"] == 1


def test_swapping_under_load_loses_no_request(server: Server) -> None:
    server.library.add("tiny", slots=4, token_seconds=0.01, revision="old")
    first = server.worker() if server.ask().status_code == 200 else 0
    with ThreadPoolExecutor(24) as pool:
        found = [pool.submit(server.told, f"{n}", max_tokens=20) for n in range(40)]
        until(lambda: server.models()["tiny"]["running"] == 4)
        server.library.add("tiny", slots=4, token_seconds=0.01, revision="new")
        assert server.order("restart", "tiny").json()["state"] == "ready"
        texts = [text_of(one.result(60)) for one in found]
    assert {text.split()[0] for text in texts} == {"old", "new"}
    assert {text.partition(" ")[2] for text in texts} == {" ".join(f"t{n}" for n in range(1, 20))}
    until(lambda: not alive(first))


def test_a_swap_that_fails_leaves_the_old_one(server: Server) -> None:
    server.ask()
    before = server.worker()
    server.library.add("tiny", fail="The tokenizer is of another model.")
    answer = server.order("restart", "tiny")
    assert answer.json()["error"]["message"] == (
        "The model 'tiny' could not be replaced, and answers as before: The tokenizer is of "
        "another model."
    )
    assert server.worker() == before
    assert server.ask(max_tokens=1).status_code == 200


def test_what_becomes_of_a_model_is_followed(server: Server) -> None:
    server.ask(max_tokens=1)
    server.library.add("tiny", revision="newer", pinned=True)

    def said() -> str:
        return str(server.ask(max_tokens=1).json()["choices"][0]["message"]["content"])

    until(lambda: said() == "newer")
    until(lambda: server.models()["tiny"]["pinned"])
    before = server.worker()
    del server.library.models["tiny"]
    until(lambda: "tiny" not in server.models())
    assert not alive(before)
    assert server.ask().status_code == 404


def test_where_memory_holds_one_alone_a_swap_ends_the_old_one_first(start: Start) -> None:
    server = start(memory=100 << 20)
    server.library.add(
        "tiny", memory=60 << 20, ballast=60 << 20, token_seconds=0.01, revision="old"
    )
    server.ask()
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(server.ask, max_tokens=30) for _ in range(8)]
        until(lambda: server.models()["tiny"]["running"] > 0)
        server.library.add("tiny", memory=60 << 20, ballast=60 << 20, revision="new")
        assert server.order("restart", "tiny").status_code == 200
        assert {one.result(60).status_code for one in found} == {200}
    text = server.ask(max_tokens=1).json()["choices"][0]["message"]["content"]
    assert (text, server.models()["tiny"]["workers"]) == ("new", 1)


def test_the_model_that_was_used_longest_ago_makes_room(start: Start) -> None:
    server = start(memory=200 << 20)
    for name in ("a", "b", "c"):
        server.library.add(name, memory=70 << 20, ballast=70 << 20)
    server.ask(model="a")
    server.ask(model="b")
    server.ask(model="a")
    server.ask(model="c")
    states = {name: one["state"] for name, one in server.models().items()}
    assert states == {"a": "ready", "b": "unloaded", "c": "ready"}


def test_two_models_that_do_not_fit_together_take_turns(start: Start) -> None:
    server = start(memory=120 << 20)
    for name in ("a", "b"):
        server.library.add(name, memory=70 << 20, ballast=70 << 20, slots=2, token_seconds=0.005)
    with ThreadPoolExecutor(40) as pool:
        found = [
            pool.submit(server.ask, model="ab"[n % 2], person=f"p{n}", max_tokens=20)
            for n in range(40)
        ]
        assert {one.result(90).status_code for one in found} == {200}


def test_a_pinned_model_stays_and_the_other_is_told(start: Start) -> None:
    server = start(memory=120 << 20)
    server.library.add("a", memory=70 << 20, ballast=70 << 20, pinned=True)
    server.library.add("b", memory=70 << 20)
    server.ask(model="a")
    answer = server.ask(model="b")
    words = answer.json()["error"]["message"]
    assert answer.status_code == 503
    assert words.startswith("The model 'b' needs about 73.4 MB of memory; the loaded models have ")
    assert words.endswith("Pinned and not unloaded: a.")
    assert server.order("unpin", "a").json()["pinned"] is False
    until(lambda: server.ask(model="b").status_code == 200)


def test_a_model_larger_than_all_is_refused_with_the_numbers(start: Start) -> None:
    server = start(memory=100 << 20)
    server.library.add("huge", memory=7 << 30)
    answer = server.ask(model="huge")
    assert answer.status_code == 507
    assert answer.json()["error"]["message"] == (
        "The model 'huge' needs about 7.52 GB of memory, and all models together may have 105 MB "
        "(setting local_memory). Take a smaller one, or one with fewer bits."
    )


CARD = """#!{python} -S
import sys
sys.path.insert(0, {servers!r})
from pathlib import Path
from stub_worker import others
print("NVIDIA L4, 24000,", 24000 - 9000 * len(others(Path({models!r}))))
"""


@pytest.fixture
def card(tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graphics card of 24 GB, of which each worker has 9."""
    program = tmp_path / "nvidia-smi"
    servers = str(Path(__file__).parent.parent / "servers")
    text = CARD.format(python=sys.executable, servers=servers, models=str(library.root))
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


@pytest.mark.usefixtures("card")
def test_on_a_card_the_model_that_was_used_longest_ago_makes_room(start: Start) -> None:
    server = start(memory=64 << 30)
    for name in ("one", "two", "three"):
        server.library.add(name, memory=9000 << 20, device="cuda")
        assert server.ask(model=name, max_tokens=1).status_code == 200
    states = {name: one["state"] for name, one in server.models().items()}
    assert states == {"one": "unloaded", "two": "ready", "three": "ready"}
    server.library.add("huge", memory=30000 << 20, device="cuda:0")
    assert server.ask(model="huge").json()["error"]["message"] == (
        "The model 'huge' needs about 31.5 GB of a graphics card's memory, and the NVIDIA L4 has "
        "25.2 GB. Take a smaller one, or run it on the processor (device=cpu)."
    )


def test_a_model_that_takes_more_than_was_reckoned_gets_room_once(server: Server) -> None:
    server.ask(max_tokens=1)
    server.library.add("more", short=True)
    assert server.ask(model="more", max_tokens=1).status_code == 200
    assert server.models()["tiny"]["state"] == "unloaded"


def test_an_idle_model_is_unloaded_and_comes_back(start: Start) -> None:
    server = start(idle=0.3)
    server.library.add("kept", pinned=True)
    server.ask()
    server.ask(model="kept")
    pid = server.worker()
    until(lambda: not alive(pid))
    until(lambda: server.models()["tiny"]["state"] == "unloaded")
    assert server.models()["kept"]["state"] == "ready"
    assert server.ask(max_tokens=1).status_code == 200


def test_unloading_waits_for_the_answers_under_way(server: Server) -> None:
    server.library.add("tiny", token_seconds=0.01)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(server.told, max_tokens=60)
        until(lambda: server.models().get("tiny", {}).get("running") == 1)
        assert server.order("unload", "tiny").json() == {"model": "tiny", "unloaded": True}
        assert len(text_of(answer.result(30)).split()) == 60
    assert server.models()["tiny"]["state"] == "unloaded"
    assert server.order("unload", "tiny").json()["unloaded"] is False


def test_the_end_of_the_server_ends_its_workers(start: Start) -> None:
    server = start()
    server.ask()
    pid = server.worker()
    server.stop()
    until(lambda: not alive(pid))
