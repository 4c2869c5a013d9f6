"""What is reported is durable; what was answered is never paid twice; a key holds what matters."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.engine.conftest import CHAT, refused, said
from wordmill import _engine

CACHED, JOINED, RESUMED = 1, 2, 32


def echo(number, body):
    return said("echo: " + body["messages"][-1]["content"])


def test_a_second_engine_on_the_same_records_asks_nothing_again(serve, drive):
    server = serve(echo)
    first = drive(server.url)
    before = first.ask({n: f"p{n}" for n in range(100)})
    first.engine.close()
    second = drive(server.url)
    after = second.ask({n: f"p{n}" for n in range(101)})
    assert len(server.bodies) == 101
    assert {n: after[n]["text"] for n in before} == {n: before[n]["text"] for n in before}
    assert all(after[n]["flags"] & RESUMED for n in before)
    assert second.metrics()["resumed"] == 100


def test_a_failed_request_is_asked_again_by_the_next_run(serve, drive):
    server = serve(lambda number, body: refused(400, "no") if number == 0 else said("yes"))
    first = drive(server.url)
    assert first.ask({0: "p"})[0]["error"] == "rejected"
    first.engine.close()
    assert drive(server.url).ask({0: "p"})[0]["text"] == "yes"


def test_another_run_finds_the_answer_in_the_cache(serve, drive, tmp_path):
    server = serve(echo)
    cache = str(tmp_path / "cache.db")
    first = drive(server.url, cache=cache)
    first.ask({n: f"p{n}" for n in range(50)})
    first.engine.close()
    second = drive(server.url, cache=cache, records=False)
    # The numbers may differ: what is asked counts.
    second.engine.submit(second.shape, [900], ["p7"], [8], 1.0)
    found = second.collect(1)[900]
    assert (found["text"], found["flags"] & CACHED, len(server.bodies)) == ("echo: p7", CACHED, 50)
    assert second.metrics()["cached"] == 1


SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "\0"}
CHANGES = {
    "owner": {"owner": "someone"},
    "base URL": {"path": "/v2"},
    "model": {"lane": {"model": "mock-2"}},
    "system prompt": {
        "body": {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "\0"},
            ]
        }
    },
    "temperature": {"body": {"messages": [{"role": "user", "content": "\0"}], "temperature": 0.5}},
    "schema": {
        "body": {
            "messages": [{"role": "user", "content": "\0"}],
            "response_format": {"type": "json_object"},
        }
    },
    "tools": {"body": {"messages": [{"role": "user", "content": "\0"}], "tools": []}},
    "salt": {"salt": 2},
    "prompt": {"prompt": "other"},
}
SAME = {
    "concurrency": {"lane": {"concurrency": 1}},
    "timeouts": {"lane": {"total_seconds": 9.0, "attempts": 2}},
    "name of the lane": {"lane": {"name": "n"}},
    "key": {"lane": {"key": "sk-other"}},
    "limits": {"lane": {"requests_per_minute": 1000}},
    "order of the fields": {
        "body": {"max_tokens": 100, "messages": [{"content": "\0", "role": "user"}]}
    },
    "number of the request": {"id": 77},
    "prices": {"lane": {"price_input": 3.0}},
}
PLAIN = {"messages": [{"role": "user", "content": "\0"}], "max_tokens": 100}


def digest(server, drive, change):
    base, _, _ = server.url.rpartition("/v1")
    driver = drive(
        base + change.get("path", "/v1"),
        records=False,
        lane=change.get("lane", {}),
        body=change.get("body", PLAIN),
        owner=change.get("owner", "local"),
    )
    number = change.get("id", 3)
    driver.engine.submit(
        driver.shape, [number], [change.get("prompt", "p")], [change.get("salt", 1)], 1.0
    )
    return driver.collect(1)[number]["digest"]


@pytest.mark.parametrize("what", CHANGES)
def test_what_can_change_an_answer_changes_the_key(what, serve, drive):
    server = serve(echo)
    assert digest(server, drive, CHANGES[what]) != digest(server, drive, {})


@pytest.mark.parametrize("what", SAME)
def test_what_cannot_change_an_answer_does_not_change_the_key(what, serve, drive):
    server = serve(echo)
    assert digest(server, drive, SAME[what]) == digest(server, drive, {})


def test_a_body_from_outside_has_the_key_of_its_shape(serve, drive):
    server = serve(echo)
    driver = drive(server.url, records=False)
    driver.engine.submit(driver.shape, [1], ["p"], [0], 1.0)
    one = driver.collect(1)[1]["digest"]
    body = (
        b'{"max_tokens":100, "stream":true, "model":"whatever",'
        b' "messages":[{"content":"p","role":"user"}]}'
    )
    driver.engine.submit_bodies("m", CHAT, [2], [body], [0], 1.0)
    assert driver.collect(1)[2]["digest"] == one


def test_an_identity_stands_for_the_address(serve, drive):
    first, second = serve(echo), serve(echo)
    same = {"identity": "rehearsal:"}
    digests = []
    for server in (first, second):
        driver = drive(server.url, records=False, lane=same)
        driver.engine.submit(driver.shape, [1], ["p"], [1], 1.0)
        digests.append(driver.collect(1)[1]["digest"])
    assert digests[0] == digests[1]


def test_a_seed_is_sent_where_the_lane_sends_seeds_and_not_where_it_is_null(serve, drive):
    server = serve(echo)
    driver = drive(server.url, lane={"seed": True})
    without = driver.engine.shape(
        "m", CHAT, json.dumps({"messages": [{"role": "user", "content": "\0"}], "seed": None})
    )
    driver.engine.submit(driver.shape, [1], ["p"], [41], 1.0)
    driver.collect(1)
    driver.engine.submit(without, [2, 3], ["p", "p"], [41, 42], 1.0)
    two = driver.collect(2)
    assert server.bodies[0]["seed"] == 41
    assert all("seed" not in body for body in server.bodies[1:])
    assert two[2]["digest"] != two[3]["digest"], "the salt tells them apart where no seed does"


def test_equal_requests_in_flight_are_sent_once(serve, drive):
    server = serve(lambda number, body: time.sleep(0.2) or echo(number, body))
    driver = drive(server.url)
    outcomes = driver.ask({n: f"p{n % 4}" for n in range(40)}, salt=False)
    assert len(server.bodies) == 4
    assert all(outcomes[n]["text"] == f"echo: p{n % 4}" for n in range(40))
    assert (
        sum(bool(outcome["flags"] & JOINED) for outcome in outcomes.values())
        == 36
        == driver.metrics()["joined"]
    )


def test_equal_requests_later_in_the_run_share_the_answer_too(serve, drive):
    server = serve(echo)
    driver = drive(server.url)
    for start in (0, 10, 20):
        driver.ask(dict.fromkeys(range(start, start + 10), "same"), salt=False)
    assert len(server.bodies) == 1


def test_a_record_is_on_disk_when_it_is_reported(serve, drive, tmp_path):
    server = serve(echo)
    driver = drive(server.url)
    driver.ask({3: "hello"})
    with sqlite3.connect(f"file:{tmp_path / 'records.db'}?mode=ro", uri=True) as db:
        (row,) = db.execute("SELECT id, state, body FROM replies").fetchall()
    db.close()
    assert (row[0], row[1]) == (3, 0)
    assert json.loads(row[2])["choices"][0]["message"]["content"] == "echo: hello"


def test_two_engines_cannot_work_on_one_run(serve, drive, tmp_path):
    server = serve(echo)
    drive(server.url)
    with pytest.raises(_engine.EngineFault) as caught:
        drive(server.url)
    assert str(caught.value) == f"{tmp_path / 'records.db'}: another process is working on this run"


CHILD = """
import json, sys
from wordmill import _engine
url, records, cache, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
lane = {"name": "m", "base_url": url, "model": "m", "concurrency": 32}
engine = _engine.Engine(json.dumps(
    {"records": records, "cache": cache, "owner": "local", "in_doubt": 64, "lanes": [lane]}
))
body = {"messages": [{"role": "user", "content": "\\0"}]}
shape = engine.shape("m", "/chat/completions", json.dumps(body))
done = sent = 0
texts = {}
while done < count:
    if sent < count:
        part = list(range(sent, min(count, sent + 100)))
        texts_of = [f"Say something about {n}." for n in part]
        sent += engine.submit(shape, part, texts_of, [n + 1 for n in part], 0.01)
    batch = engine.poll(500, 0.05)
    done += len(batch)
    texts.update(zip(batch.ids, batch.texts))
    print(done, flush=True)
print(json.dumps([texts[n] for n in range(count)]), flush=True)
engine.close()
"""


def test_twenty_kills_lose_nothing_and_pay_at_most_what_was_in_doubt(rehearse, tmp_path):
    server = rehearse(latency_ms=5)
    count, bound, kills = 6000, 64, 0

    def start(name):
        arguments = [
            f"http://127.0.0.1:{server.port}/v1",
            str(tmp_path / name),
            str(tmp_path / f"{name}.cache"),
            str(count),
        ]
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True
        )

    quiet = start("quiet.db")
    undisturbed = quiet.communicate(timeout=60)[0].splitlines()[-1]
    requests = json.loads(server.stats())["requests"]
    assert requests == count
    while kills < 20:
        child = start("killed.db")
        goal = count * (kills + 1) / 22
        for line in child.stdout:
            if int(line) >= goal:
                break
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        kills += 1
    last = start("killed.db")
    disturbed = last.communicate(timeout=60)[0].splitlines()[-1]
    assert json.loads(disturbed) == json.loads(undisturbed)
    twice = json.loads(server.stats())["requests"] - requests - count
    assert 0 <= twice <= bound * kills
    # Each run's replies are in the cache although it was killed before it could say so.
    assert json.loads(_engine.cache_stats(str(tmp_path / "killed.db.cache")))["entries"] == count


def test_rows_are_kept_with_the_replies(serve, drive):
    server = serve(echo)
    driver = drive(server.url)
    driver.engine.keep_rows([5, 3], [b"five", b"three"])
    assert driver.engine.rows(0, 10) == [(3, b"three"), (5, b"five")]
    driver.engine.close()
    again = drive(server.url)
    assert again.engine.row_numbers() == [3, 5]
    assert again.engine.rows(4, 10) == [(5, b"five")]


def test_a_full_disk_is_a_sentence(serve, tmp_path):
    server = serve(lambda number, body: said("x" * 20_000))
    code = CHILD.replace(
        "import json, sys",
        "import json, sys, resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))",
    )
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            server.url,
            str(tmp_path / "r.db"),
            str(tmp_path / "c.db"),
            "2000",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "wordmill._engine.EngineFault" in child.stderr.splitlines()[-1]
    assert "r.db" in child.stderr.splitlines()[-1]


def test_pruning_the_cache_removes_whole_runs_and_never_an_unfinished_one(serve, drive, tmp_path):
    server = serve(echo)
    cache = str(tmp_path / "cache.db")
    first = drive(server.url, cache=cache)
    first.ask({n: f"p{n}" for n in range(20)})
    records = str(tmp_path / "records.db")
    assert json.loads(_engine.cache_prune(cache, 0.0, 0, [])) == {"entries": 0, "bytes": 0}
    first.engine.close()
    assert json.loads(_engine.cache_prune(cache, None, 0, [records]))["entries"] == 0
    removed = json.loads(_engine.cache_prune(cache, None, 0, []))
    assert removed["entries"] == 20
    assert not Path(records).exists()
    assert json.loads(_engine.cache_stats(cache)) == {"entries": 0, "bytes": 0}


def test_after_close_the_replies_stand_in_the_file_itself(serve, drive, tmp_path):
    server = serve(echo)
    driver = drive(server.url, cache=str(tmp_path / "cache.db"))
    driver.ask({n: f"p{n}" for n in range(100)})
    driver.engine.close()
    again = drive(server.url, cache=str(tmp_path / "cache.db"))
    again.ask({n: f"p{n}" for n in range(100)})
    again.engine.close()
    assert not (tmp_path / "records.db-wal").exists()


def spoil(path, start):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(start)
        file.write(os.urandom(size - start))


def of_two_runs(serve, drive, tmp_path, between):
    """A run whose answers are in the cache, then `between`, then another one that asks the same."""
    server = serve(echo)
    cache = str(tmp_path / "cache.db")
    first = drive(server.url, cache=cache)
    first.ask({n: f"p{n}" for n in range(300)})
    first.engine.close()
    # The next run has the place of this one.
    (tmp_path / "records.db").rename(tmp_path / "first.db")
    db = sqlite3.connect(cache)
    db.execute("UPDATE files SET path = ?", [str(tmp_path / "first.db")])
    db.commit()
    db.close()
    assert not (tmp_path / "cache.db-wal").exists(), "damage would be mended out of it"
    between()
    second = drive(server.url, cache=cache)
    outcomes = second.ask({n: f"p{n}" for n in range(300)})
    assert {outcomes[n]["text"] for n in outcomes} == {f"echo: p{n}" for n in range(300)}
    return second.metrics()["cached"], len(server.bodies)


@pytest.mark.parametrize("page", [0, 3, 8])
def test_damaged_records_of_another_run_are_a_miss(page, serve, drive, tmp_path):
    """Whether they cannot be opened, or not all of them be read."""
    cached, sent = of_two_runs(
        serve, drive, tmp_path, lambda: spoil(tmp_path / "first.db", 8192 * page)
    )
    assert (cached < 300, cached + sent) == (True, 600)


def test_records_of_another_version_are_a_miss(serve, drive, tmp_path):
    def change():
        db = sqlite3.connect(tmp_path / "first.db")
        db.execute("PRAGMA user_version = 99")
        db.close()

    assert of_two_runs(serve, drive, tmp_path, change) == (0, 600)


@pytest.mark.parametrize("start", [0, 4096])
def test_a_damaged_index_is_set_aside_and_made_again(start, serve, drive, tmp_path):
    cached, sent = of_two_runs(serve, drive, tmp_path, lambda: spoil(tmp_path / "cache.db", start))
    assert cached + sent == 600
    if start == 0:
        assert (tmp_path / "cache.db.damaged").exists()
    third = drive(serve(echo).url, records=False, cache=str(tmp_path / "cache.db"))
    third.ask({0: "p0"})


def test_a_cache_of_many_runs_holds_few_of_their_files_open(serve, drive, tmp_path):
    server = serve(echo)
    cache = str(tmp_path / "cache.db")
    for n in range(24):
        run = drive(server.url, records=f"run{n}.db", cache=cache)
        run.ask({n: f"p{n}"})
        run.engine.close()
    last = drive(server.url, records=False, cache=cache)
    found = last.ask({n: f"p{n}" for n in range(24)})
    assert all(outcome["flags"] & CACHED for outcome in found.values())
    held = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            held.add(str(link.readlink()))
    assert 0 < sum(name.endswith(".db") and "/run" in name for name in held) <= 16
    assert len(server.bodies) == 24
