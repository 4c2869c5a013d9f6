"""The engine among threads, event loops and the interpreter's end."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.engine.conftest import CHAT, said
from wordmill import _engine


def test_many_threads_share_one_engine(rehearse, drive):
    server = rehearse()
    driver = drive(f"http://127.0.0.1:{server.port}/v1")

    def offer(start):
        driver.offer({n: f"p{n}" for n in range(start, start + 500)})

    threads = [threading.Thread(target=offer, args=(k * 500,)) for k in range(4)]
    for thread in threads:
        thread.start()
    outcomes = driver.collect(2000)
    for thread in threads:
        thread.join()
    assert set(outcomes) == set(range(2000))


def test_an_event_loop_is_woken_by_the_file_descriptor(rehearse, drive):
    server = rehearse(latency_ms=20)
    driver = drive(f"http://127.0.0.1:{server.port}/v1")

    async def run():
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(driver.engine.fileno(), ready.set)
        driver.offer({n: f"p{n}" for n in range(64)})
        found = 0
        while found < 64:
            await asyncio.wait_for(ready.wait(), 5)
            ready.clear()
            found += len(driver.engine.poll(1000, 0.0))
        loop.remove_reader(driver.engine.fileno())
        return found

    assert asyncio.run(run()) == 64


def test_idle_after_finish_and_not_before(rehearse, drive):
    server = rehearse()
    driver = drive(f"http://127.0.0.1:{server.port}/v1")
    driver.offer({0: "p"})
    driver.collect(1)
    assert not driver.engine.idle
    driver.engine.finish()
    assert driver.engine.idle
    assert len(driver.engine.poll(10, 5.0)) == 0
    with pytest.raises(_engine.EngineFault, match=r"^no request can be offered after finish\(\)$"):
        driver.offer({1: "p"})


def test_an_interpreter_ends_cleanly_with_requests_out(rehearse):
    server = rehearse(latency_ms=5000)
    code = f"""
import json
from wordmill import _engine
lane = {{"name": "m", "base_url": "http://127.0.0.1:{server.port}/v1", "model": "m"}}
engine = _engine.Engine(json.dumps({{"owner": "local", "lanes": [lane]}}))
body = {{"messages": [{{"role": "user", "content": "\\0"}}]}}
shape = engine.shape("m", "/chat/completions", json.dumps(body))
engine.submit(shape, [1, 2, 3], ["a", "b", "c"], [1, 2, 3], 1.0)
print("out", flush=True)
"""
    began = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (child.returncode, child.stdout, child.stderr) == (0, "out\n", "")
    assert time.monotonic() - began < 4


def test_ctrl_c_arrives_while_polling(drive, serve):
    code = """
import json, os, signal, threading, time
from wordmill import _engine
lane = {"name": "m", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
engine = _engine.Engine(json.dumps({"owner": "local", "lanes": [lane]}))
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    while True:
        engine.poll(10, 0.1)
except KeyboardInterrupt:
    print(time.monotonic() - began < 1)
"""
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
    )
    assert (child.stdout, child.stderr) == ("True\n", "")


def test_a_jsonl_file_is_fed_line_by_line(serve, drive, tmp_path):
    server = serve(lambda number, body: said(body["messages"][0]["content"]))
    lines = []
    for n in range(300):
        body = {"model": "any", "messages": [{"role": "user", "content": f"line {n} \u2028"}]}
        line = (
            body
            if n % 2
            else {
                "custom_id": str(n),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
        )
        lines.append(json.dumps(line, ensure_ascii=False) + ("\r\n" if n % 3 else "\n"))
    lines[7] = "not json\n"
    lines.insert(200, "\n")
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(lines), encoding="utf-8", newline="")
    driver = drive(server.url)
    driver.engine.submit_jsonl("m", CHAT, str(file))
    outcomes = driver.collect(300)
    assert outcomes[7]["error"] == "bad_request"
    assert outcomes[6]["text"] == "line 6 \u2028"
    assert outcomes[300]["text"] == "line 299 \u2028"
    assert 200 not in outcomes, "an empty line is no request"
    assert {body["model"] for body in server.bodies} == {"mock-1"}


def test_embeddings_and_other_paths_come_back_whole(rehearse, drive):
    server = rehearse()
    driver = drive(f"http://127.0.0.1:{server.port}/v1")
    driver.engine.submit_bodies("m", "/embeddings", [4], [b'{"input": ["one", "two"]}'], [0], 1.0)
    outcome = driver.collect(1)[4]
    assert outcome["error"] is None
    assert len(json.loads(outcome["body"])["data"]) == 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{}", "engine configuration: missing field `owner`"),
        ('{"owner": "o", "lanes": []}', "engine configuration: there is no lane"),
        ('{"owner": "o", "lanes": [], "speed": 9}', "engine configuration: unknown field `speed`"),
    ],
)
def test_a_bad_configuration_is_a_sentence(config, words):
    with pytest.raises(ValueError) as caught:
        _engine.Engine(config)
    assert words in str(caught.value)


def test_an_address_that_is_none_is_a_sentence():
    config = {"owner": "o", "lanes": [{"name": "m", "base_url": "ftp://example.org", "model": "m"}]}
    with pytest.raises(_engine.EngineFault) as caught:
        _engine.Engine(json.dumps(config))
    assert (
        str(caught.value)
        == 'model "m": the base URL "ftp://example.org" begins neither with http:// nor with https://'
    )


def test_a_digest_is_of_the_canonical_form():
    assert _engine.digest('{"b":1,"a":2}') == _engine.digest(' {"a": 2, "b": 1}')
    with pytest.raises(ValueError):
        _engine.digest('{"a": NaN}')


def offer_until_held_back(driver, texts, salts):
    """Offer requests, numbered from 0, that nobody polls; how many were taken."""
    ids = list(range(len(texts)))
    taken, none = 0, 0
    while none < 3 and taken < len(ids):
        more = driver.engine.submit(driver.shape, ids[taken:], texts[taken:], salts[taken:], 0.2)
        taken, none = taken + more, 0 if more else none + 1
    return taken


def test_a_caller_that_does_not_poll_is_held_back_and_rows_are_still_kept(serve, drive):
    server = serve(lambda number, body: said("fine"))
    driver = drive(server.url)
    total = 40_000
    # Each is answered at once: it is no text. Nobody polls.
    ids, texts = list(range(total)), ["\ud800"] * total
    taken = offer_until_held_back(driver, texts, ids)
    assert 16_000 < taken < 22_000
    driver.engine.keep_rows([1], [b"one"])
    rows = []
    thread = threading.Thread(target=lambda: rows.extend(driver.engine.rows(0, 5)))
    thread.start()
    thread.join(5)
    assert rows == [(1, b"one")], "the writer waits for the one who waits for it"
    stream = driver.engine.stream("m", CHAT, b'{"messages": [{"role": "user", "content": "p"}]}')
    while stream.next(5.0):
        pass
    assert stream.record().texts[0] == "fine"
    found = driver.collect(taken)
    while taken < total:
        more = driver.engine.submit(driver.shape, ids[taken:], texts[taken:], ids[taken:], 0.2)
        found |= driver.collect(more)
        taken += more
    assert len(found) == total


@pytest.mark.parametrize("known", ["resumed", "joined"])
def test_answers_that_cost_nothing_wait_for_their_reader_too(known, serve, drive, tmp_path):
    release = threading.Event()
    server = serve(lambda number, body: release.wait(30) and said("fine"))
    total = 30_000
    driver = drive(server.url, lane={"concurrency": 64})
    if known == "resumed":
        release.set()
        for start in range(0, total, 10_000):
            driver.ask(dict.fromkeys(range(start, start + 10_000), "same"), salt=False)
        driver.engine.close()
        driver = drive(server.url)
    taken = offer_until_held_back(driver, ["same"] * total, [0] * total)
    if known == "resumed":
        assert 16_000 < taken < 20_000
    else:
        # Those that follow the one that is out, and a few that were taken meanwhile.
        assert (len(server.bodies), 4_000 < taken < 9_000) == (1, True)
        release.set()
    found = driver.collect(taken, 60)
    assert {outcome["text"] for outcome in found.values()} == {"fine"}


def test_a_stream_stands_behind_no_request_that_waits_for_the_caller(serve, drive):
    release = threading.Event()
    server = serve(lambda number, body: release.wait(20) and said("fine"))
    driver = drive(server.url, lane={"concurrency": 4})
    driver.offer({n: f"p{n}" for n in range(300)})
    none = ["\ud800"] * 30_000
    taken = driver.engine.submit(driver.shape, list(range(1000, 31_000)), none, [1] * 30_000, 5.0)
    while (more := driver.engine.submit(driver.shape, [50_000 + taken], none[:1], [1], 0.2)) > 0:
        taken += more
    # The outbox is full: what has not begun waits until somebody polls.
    release.set()
    stream = driver.engine.stream("m", CHAT, b'{"messages": [{"role": "user", "content": "p"}]}')
    text, until = "", time.monotonic() + 10
    while (piece := stream.next(0.2)) is not None:
        assert time.monotonic() < until, "the stream waits behind them"
        text += piece
    assert text == "fine"
    assert len(server.bodies) < 100
    assert len(driver.collect(300 + taken)) == 300 + taken


def test_an_engine_that_was_closed_says_so(serve, drive):
    release = threading.Event()
    server = serve(lambda number, body: release.wait(20) and said("fine"))
    driver = drive(server.url)
    driver.offer({n: f"p{n}" for n in range(50)})
    while not server.bodies:
        time.sleep(0.01)
    faults = []

    def poll():
        try:
            while True:
                driver.engine.poll(1000, 20.0)
        except _engine.EngineFault as fault:
            faults.append(str(fault))

    threads = [threading.Thread(target=poll)]
    threads += [threading.Thread(target=driver.engine.close) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert faults == ["the engine is closed"]
    with pytest.raises(_engine.EngineFault, match=r"^the engine is closed$"):
        driver.offer({60: "p"})
    release.set()


def test_an_engine_that_feeds_a_file_ends_when_it_is_collected(serve, tmp_path):
    server = serve(lambda number, body: time.sleep(0.05) or said("fine"))
    fifo = tmp_path / "requests"
    os.mkfifo(fifo)
    lane = {"name": "m", "base_url": server.url, "model": "m", "concurrency": 4}
    engine = _engine.Engine(json.dumps({"owner": "o", "lanes": [lane]}))
    # Opened for both, so that neither end waits for the other.
    with fifo.open("r+b", buffering=0) as pipe:
        engine.submit_jsonl("m", CHAT, str(fifo))
        line = b'{"messages": [{"role": "user", "content": "p%d"}]}\n'
        pipe.write(b"".join(line % n for n in range(300)))
        while not server.bodies:
            time.sleep(0.01)
        began = time.monotonic()
        del engine
        assert time.monotonic() - began < 2, "it waited for a line that never comes"
    time.sleep(0.3)
    before = len(server.bodies)
    time.sleep(0.5)
    assert len(server.bodies) == before < 300


def test_times_beyond_any_clock_are_long_times(serve, drive):
    server = serve(lambda number, body: said("fine"))
    driver = drive(server.url)
    driver.offer({0: "p"})
    assert len(driver.engine.poll(1, 1e19)) == 1
    driver.engine.cancel(1e300)
    for bad in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="is not a time in seconds"):
            driver.engine.poll(1, bad)


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_connections_of_a_burst_are_closed_when_they_have_been_idle(serve, drive):
    server = serve(lambda number, body: time.sleep(0.1) or said("fine"))
    driver = drive(server.url, lane={"concurrency": 40})
    driver.ask({n: f"p{n}" for n in range(200)})
    before = open_files()
    until = time.monotonic() + 10
    while open_files() > before - 40 and time.monotonic() < until:
        time.sleep(0.2)
    assert open_files() <= before - 40
