"""A block from its message to its row, its documents and its segment."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select

from tests.consumer.conftest import Mill, line, wait
from tests.servers import consumer, imperfect, s3
from wordmill._engine import Rehearsal
from wordmill.database import ledger, metadata, now, provider_keys, quotas, workers
from wordmill.queues.rabbitmq import Letter
from wordmill.secrets import seal
from wordmill.settings import load

pytestmark = [pytest.mark.once, pytest.mark.timeout(240)]
Rehearse = Callable[..., Rehearsal]


def requests(server: Rehearsal) -> int:
    """How many it got."""
    counted: int = json.loads(server.stats())["requests"]
    return counted


def test_a_batch_is_answered(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse()
    lines = [line(f"r{n}") for n in range(250)]
    lines[7] = "{no json"
    lines[8] = json.dumps({"custom_id": "r8", "body": {"model": "other"}})
    batch = mill.batch(lines, [mill.lane(server.port, price_input=1.0)])
    mill.publish(batch)
    running = mill.consume()
    mill.finished(batch)
    names: list[Any] = [f"r{n}" for n in range(250)]
    segments = mill.segments(batch)
    assert [one["custom_id"] for one in segments] == [*names[:7], None, *names[8:]]
    assert [one["error"]["code"] for one in segments[7:9]] == ["invalid_json", "model_not_found"]
    documents = mill.documents(batch)
    assert [one["line"] for one in documents] == list(range(1, 251))
    first = documents[0]
    assert json.loads(first["request"]) == json.loads(lines[0])["body"]
    assert json.loads(first["result"]) == segments[0]
    assert (first["owner"], first["dataset"], first["status"]) == ("ANN", "d", "ok")
    assert "say hello" in first["text"]
    assert documents[7]["request"] == json.dumps("{no json")
    assert requests(server) == 248
    blocks = mill.blocks(batch)
    assert [block.counts["completed"] for block in blocks] == [98, 100, 50]
    assert blocks[0].counts["causes"] == {"invalid_json": 1, "model_not_found": 1}
    size = sum(path.stat().st_size for path in mill.home.rglob("*.jsonl"))
    told = [block.counts["output_bytes"] + block.counts["failure_bytes"] for block in blocks]
    assert sum(told) == size
    with mill.database.read() as connection:
        charged = connection.execute(select(ledger)).all()
        working = connection.execute(select(workers)).one()
    assert sum(row.requests for row in charged) == 248
    assert {(row.person, row.door, row.subject) for row in charged} == {("ANN", "batch", batch)}
    assert sum(row.money for row in charged) == pytest.approx(
        sum(block.counts["money"] for block in blocks)
    )
    assert (working.kind, working.detail["version"]) == ("consumer", "0.1.0")
    assert running.terminate() == 0
    with mill.database.read() as connection:
        assert connection.execute(select(workers)).one_or_none() is None
    assert not list(mill.home.rglob("*.part"))


def test_a_message_that_comes_twice_changes_nothing(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=50)
    batch = mill.batch([line(f"r{n}") for n in range(40)], [mill.lane(server.port)], block=10)
    mill.publish(batch, times=3)
    for _ in range(2):
        mill.consume()
    mill.finished(batch)
    mill.complete(batch, (f"r{n}" for n in range(40)))
    assert requests(server) == 40
    assert [block.fence for block in mill.blocks(batch)] == [1] * 4


def test_what_was_confirmed_is_not_asked_again(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=20)
    batch = mill.batch([line(f"r{n}") for n in range(600)], [mill.lane(server.port)], block=200)
    mill.publish(batch)
    doubt = 64
    first = mill.consume(consumer_in_doubt=str(doubt), consumer_blocks="1")
    wait(lambda: requests(server) > 250, why=mill.said)
    first.kill()
    sent, kept = requests(server), len(mill.documents(batch))
    assert 0 < kept < 600
    mill.sweep()
    mill.consume()
    mill.finished(batch)
    mill.complete(batch, (f"r{n}" for n in range(600)))
    again = requests(server) - 600
    assert 0 <= again <= sent - kept <= doubt
    assert max(block.fence for block in mill.blocks(batch)) == 2


def test_at_the_end_nothing_is_lost_or_asked_twice(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=300)
    lane = mill.lane(server.port, concurrency=4)
    batch = mill.batch([line(f"r{n}") for n in range(40)], [lane], block=20)
    mill.publish(batch)
    first = mill.consume()
    wait(lambda: requests(server) >= 8, why=mill.said)
    assert first.terminate(30) == 0
    sent, documents = requests(server), len(mill.documents(batch))
    assert sent == documents < 40
    blocks = mill.blocks(batch)
    assert {(block.published, block.holder, block.attempts) for block in blocks} == {
        (None, None, 0)
    }
    assert sum(block.counts["completed"] for block in blocks) == documents
    mill.consume()
    mill.finished(batch)
    mill.complete(batch, (f"r{n}" for n in range(40)))
    assert requests(server) == 40


def test_a_block_that_takes_too_long_goes_to_the_back(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=200)
    lane = mill.lane(server.port, concurrency=2)
    batch = mill.batch([line(f"r{n}") for n in range(20)], [lane], block=20)
    mill.publish(batch)
    mill.consume(consumer_block_seconds="0.7")
    mill.finished(batch)
    mill.complete(batch, (f"r{n}" for n in range(20)))
    assert mill.blocks(batch)[0].fence > 1
    assert mill.blocks(batch)[0].attempts == 1
    assert requests(server) == 20


def test_a_poison_is_buried_and_takes_no_neighbour(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=20)
    batch = mill.batch([line(f"r{n}") for n in range(40)], [mill.lane(server.port)], block=10)
    with mill.database.begin() as connection:
        connection.exec_driver_sql("UPDATE blocks SET attempts = 5 WHERE number = 1")
    mill.publish(batch)
    mill.consume()
    wait(lambda: sum(block.done for block in mill.blocks(batch)) == 3, why=mill.said)
    dead = wait(lambda: mill.blocks(batch)[1].dead, why=mill.said)
    assert dead == "It was taken 5 times, and each time whoever held it ended before it did."
    assert [block.done for block in mill.blocks(batch)] == [True, False, True, True]


def test_a_block_whose_bytes_are_gone_is_buried_with_the_reason(
    mill: Mill, rehearse: Rehearse
) -> None:
    batch = mill.batch([line("r1")], [mill.lane(rehearse().port)])
    for file in (mill.home / "files").iterdir():
        file.unlink()
    mill.publish(batch)
    mill.consume(consumer_attempts="1")
    dead = wait(lambda: mill.blocks(batch)[0].dead, why=mill.said)
    assert dead.startswith("The storage does not hold what the block needs: ")


def test_a_message_that_is_no_reference_goes_to_the_dead(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse()
    batch = mill.batch([line("r1")], [mill.lane(server.port)])
    before = mill.dead_letters()
    nonsense: Any = "nonsense"
    mill.send(mill.queue, [Letter(batch, nonsense)])
    mill.publish(batch)
    mill.consume()
    mill.finished(batch)
    wait(lambda: mill.dead_letters() > before, why=mill.said)


def test_a_cancelled_batch_is_abandoned(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=500)
    lane = mill.lane(server.port, concurrency=2)
    batch = mill.batch([line(f"r{n}") for n in range(60)], [lane], block=20)
    mill.publish(batch)
    mill.consume()
    wait(lambda: len(mill.documents(batch)) >= 2, why=mill.said)
    with mill.database.begin() as connection:
        connection.exec_driver_sql("UPDATE batches SET state = 'cancelling'")
    mill.finished(batch, 30)
    codes = [(one["error"] or {"code": "ok"})["code"] for one in mill.segments(batch)]
    assert set(codes) == {"ok", "batch_cancelled"}
    assert len(codes) == 60 == len(mill.documents(batch))
    message = next(one["error"] for one in mill.segments(batch) if one["error"])["message"]
    assert message == "The batch was cancelled before this request was answered."


def test_an_expired_batch_asks_nothing(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse()
    batch = mill.batch([line("r1")], [mill.lane(server.port, secret={"env": "NOT_SET_ANYWHERE"})])
    with mill.database.begin() as connection:
        connection.exec_driver_sql("UPDATE batches SET expires = now() - interval '1 minute'")
    mill.publish(batch)
    mill.consume()
    mill.finished(batch)
    assert [one["error"]["code"] for one in mill.segments(batch)] == ["batch_expired"]
    assert requests(server) == 0


@pytest.mark.parametrize("bound", ["budget", "quota"])
def test_what_may_be_spent_holds_across_consumers(
    mill: Mill, rehearse: Rehearse, bound: str
) -> None:
    server = rehearse(latency_ms=5)
    lanes = [mill.lane(server.port, concurrency=8)]
    budget = {"requests": 150} if bound == "budget" else {}
    if bound == "quota":
        with mill.database.begin() as connection:
            connection.execute(insert(quotas).values(person="ANN", period="day", requests=150))
    batch = mill.batch([line(f"r{n}") for n in range(300)], lanes, block=25, budget=budget)
    mill.publish(batch)
    for _ in range(2):
        mill.consume(consumer_blocks="3")
    mill.finished(batch)
    codes = [(one["error"] or {"code": "ok"})["code"] for one in mill.segments(batch)]
    assert (codes.count("ok"), codes.count("budget")) == (150, 150)
    assert requests(server) == 150
    with mill.database.read() as connection:
        assert sum(row.requests for row in connection.execute(select(ledger))) == 150


def test_a_read_only_index_is_waited_for(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse()
    batch = mill.batch([line(f"r{n}") for n in range(20)], [mill.lane(server.port)])
    block = {"index.blocks.write": True}
    mill.search.ask("PUT", f"/{mill.index}/_settings", block)
    mill.publish(batch)
    running = mill.consume(consumer_health="127.0.0.1:0")
    said = f"The index {mill.index} of Elasticsearch is read-only: "
    wait(lambda: said in running.log, why=mill.said)
    health = next(event["address"] for event in running.events if "address" in event)
    ready = httpx.get(f"http://{health}/health/ready")
    assert ready.status_code == 503
    assert ready.json()["troubles"]["elasticsearch"].startswith(said)
    assert httpx.get(f"http://{health}/health/live").status_code == 200
    assert "wordmill_consumer_troubles 1\n" in httpx.get(f"http://{health}/metrics").text
    assert not mill.done(batch)
    mill.search.ask("PUT", f"/{mill.index}/_settings", {"index.blocks.write": None})
    mill.finished(batch)
    mill.complete(batch, (f"r{n}" for n in range(20)))
    assert requests(server) == 20
    wait(lambda: httpx.get(f"http://{health}/health/ready").status_code == 200)
    assert "wordmill_consumer_requests_total 20\n" in httpx.get(f"http://{health}/metrics").text


def test_a_document_that_the_mapping_refuses_is_written_without_its_text(
    mill: Mill, rehearse: Rehearse
) -> None:
    server = rehearse()
    mill.search.ask("DELETE", f"/{mill.index}")
    fields = {"text": {"type": "long"}, "line": {"type": "long"}, "batch": {"type": "keyword"}}
    mapping = {"dynamic": False, "properties": fields}
    mill.search.ask("PUT", f"/{mill.index}", {"mappings": mapping})
    batch = mill.batch([line("r0")], [mill.lane(server.port)])
    mill.publish(batch)
    mill.consume()
    mill.finished(batch)
    assert [("text" in one, one["custom_id"]) for one in mill.documents(batch)] == [(False, "r0")]


def test_a_document_that_is_refused_whole_stands_in_the_segment(
    mill: Mill, rehearse: Rehearse
) -> None:
    server = rehearse()
    mill.search.ask("DELETE", f"/{mill.index}")
    fields = {"custom_id": {"type": "long"}, "line": {"type": "long"}, "batch": {"type": "keyword"}}
    mapping = {"dynamic": False, "properties": fields}
    mill.search.ask("PUT", f"/{mill.index}", {"mappings": mapping})
    batch = mill.batch([line("r0"), line("7")], [mill.lane(server.port)])
    mill.publish(batch)
    running = mill.consume()
    mill.finished(batch)
    assert [one["custom_id"] for one in mill.segments(batch)] == ["r0", "7"]
    assert [one["custom_id"] for one in mill.documents(batch)] == ["7"]
    assert "A result cannot be searched, and stands in its segment alone: " in running.log


def test_an_earlier_holder_loses_to_a_later_one(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=700)
    batch = mill.batch([line("r0")], [mill.lane(server.port)])
    mill.publish(batch)
    running = mill.consume()
    wait(lambda: mill.blocks(batch)[0].fence == 1, why=mill.said)
    path = f"/{mill.index}/_doc/{batch}-1?version=2&version_type=external_gte"
    mill.search.ask("PUT", path, {"batch": batch, "line": 1, "custom_id": "later"})
    with mill.database.begin() as connection:
        connection.exec_driver_sql("UPDATE blocks SET fence = 2, holder = 'somebody'")
    wait(lambda: "Another consumer has taken over a block." in running.log, why=mill.said)
    assert [one["custom_id"] for one in mill.documents(batch)] == ["later"]
    assert not mill.blocks(batch)[0].done


def test_a_stored_key_is_sent_and_stands_nowhere_else(mill: Mill) -> None:
    key, place = "sk-stored-" + "5" * 30, "provider_keys:ANN:mock"

    def answer(asked: imperfect.Asked) -> imperfect.Told:
        if asked.headers.get("authorization") != f"Bearer {key}":
            return imperfect.Told(401, {"error": {"message": f"not {key}"}})
        if asked.headers["x-more"] != "a header-secret-1":
            return imperfect.Told(400)
        return imperfect.completion(f"You sent {key[:4]}")

    with imperfect.serving(answer) as server:
        base = f"{server.url}/v1"
        sealed = seal(load({}), json.dumps({"key": key, "address": base}), place)
        with mill.database.begin() as connection:
            connection.execute(insert(provider_keys).values(
                owner="ANN", model="mock", sealed=sealed, created=now()
            ))  # fmt: skip
        lane = mill.lane(
            0, base_url=base, secret={"stored": ["ANN", "mock"]},
            headers={"X-More": "a ${MORE_SECRET}"},
        )  # fmt: skip
        batch = mill.batch([line(f"r{n}") for n in range(5)], [lane])
        mill.publish(batch)
        running = mill.consume({"MORE_SECRET": "header-secret-1"})
        mill.finished(batch)
        mill.complete(batch, (f"r{n}" for n in range(5)))
        assert {one["status"] for one in mill.documents(batch)} == {"ok"}
        moved = mill.batch([line("r0")], [{**lane, "base_url": f"{server.url}/v2"}])
        mill.publish(moved)
        wait(lambda: "was given for another address" in running.log, why=mill.said)
    held = [path.read_bytes() for path in mill.home.rglob("*") if path.is_file()]
    with mill.database.read() as connection:
        rows = [repr(connection.execute(select(table)).all()) for table in metadata.tables.values()]
    everything = json.dumps(mill.documents(batch)) + running.log + "".join(rows)
    for secret in (key, "header-secret-1"):
        assert secret not in everything
        assert not any(secret.encode() in data for data in held)


def test_a_check_says_what_is_wrong(mill: Mill) -> None:
    def check(**more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [consumer.program(), "--check"], env=mill.settings(**more), capture_output=True,
            text=True, check=False, timeout=60,
        )  # fmt: skip

    seal(load({}), "makes the key", "place")
    good = check()
    told = [text.split(":")[0] for text in good.stdout.splitlines()]
    assert [one for one in told if "Elasticsearch" not in one] == [
        "ok     PostgreSQL", "ok     RabbitMQ", "ok     Storage", "ok     Secret key",
    ]  # fmt: skip
    nowhere = check(
        elasticsearch_url="http://127.0.0.1:1", broker_url="amqp://mill:pass-word@127.0.0.1:1/"
    )
    assert "wrong  RabbitMQ: it does not let us in: " in nowhere.stdout
    assert "wrong  Elasticsearch: it does not answer: " in nowhere.stdout
    assert "pass-word" not in nowhere.stdout + nowhere.stderr
    assert nowhere.stderr == "2 of what the consumer needs cannot be used.\n"


def test_an_elasticsearch_that_goes_away_is_waited_for(mill: Mill, rehearse: Rehearse) -> None:
    server = rehearse(latency_ms=100)
    lane = mill.lane(server.port, concurrency=4)
    batch = mill.batch([line(f"r{n}") for n in range(120)], [lane], block=40)
    mill.publish(batch)
    running = mill.consume()
    wait(lambda: requests(server) > 10, why=mill.said)
    mill.search.kill()
    wait(lambda: "Elasticsearch does not answer: " in running.log, why=mill.said)
    mill.search.start()
    mill.finished(batch, 120)
    mill.complete(batch, (f"r{n}" for n in range(120)))
    assert requests(server) == 120


def test_requests_and_segments_lie_in_a_bucket(
    mill: Mill, rehearse: Rehearse, s3_server: s3.Server
) -> None:
    server = rehearse()
    url = s3_server.bucket("consumer") + "/mill"
    batch = mill.batch([line(f"r{n}") for n in range(20)], [mill.lane(server.port)], block=10)
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = s3_server.client()
    for path in (mill.home / "files").iterdir():
        client.put_object(
            Bucket=bucket, Key=f"{prefix}/files/{path.name}".lstrip("/"), Body=path.read_bytes()
        )
        path.unlink()
    mill.publish(batch)
    mill.consume(s3_server.variables, storage_url=url)
    mill.finished(batch)
    key = f"{prefix}/batches/{batch}/segments/0000001.jsonl".lstrip("/")
    data = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    assert [json.loads(text)["custom_id"] for text in data.splitlines()] == [
        f"r{n}" for n in range(10, 20)
    ]
