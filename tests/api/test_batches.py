"""OpenAI's Files and Batches with the official client, and what goes beyond them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pyarrow.parquet
import pytest

from tests.api.conftest import Server
from tests.servers import s3

Json = dict[str, Any]


def request(name: str, text: str = "Hello", **more: Any) -> Json:
    body = {
        "model": "rehearsal",
        "max_tokens": 20,
        "messages": [{"role": "user", "content": text}],
        **more,
    }
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


asked = request
"""The same, in tests that get pytest's own `request`."""


def jsonl(*lines: Json | str) -> bytes:
    return "".join(
        (line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines
    ).encode()


@pytest.fixture
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.keys["bob"], max_retries=0)


def until(ask: Callable[[], Any], reached: Callable[[Any], bool], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not reached(found := ask()):
        assert time.monotonic() < end, found
        time.sleep(0.03)
    return found


def ended(client: openai.OpenAI, batch: str) -> Any:
    return until(
        lambda: client.batches.retrieve(batch),
        lambda found: found.status in ("completed", "failed", "cancelled", "expired"),
    )


def send(client: openai.OpenAI, data: bytes, **more: Any) -> Any:
    file = client.files.create(file=("asked.jsonl", data), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        **more,
    )


def test_a_batch_from_its_file_to_its_answers(client: openai.OpenAI) -> None:
    data = jsonl(*(request(f"r{n}", f"Say {n}.") for n in range(2500)))
    file = client.files.create(file=("asked.jsonl", data), purpose="batch")
    assert (file.bytes, file.filename, file.purpose) == (len(data), "asked.jsonl", "batch")
    assert client.files.content(file.id).content == data
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"project": "tests"},
    )
    assert batch.status == "validating"
    assert batch.metadata == {"project": "tests"}
    done = ended(client, batch.id)
    assert done.status == "completed"
    assert done.request_counts.model_dump() == {"total": 2500, "completed": 2500, "failed": 0}
    assert done.in_progress_at <= done.completed_at <= done.expires_at
    assert done.error_file_id is None
    lines = [json.loads(line) for line in client.files.content(done.output_file_id).iter_lines()]
    assert [line["custom_id"] for line in lines] == [f"r{n}" for n in range(2500)]
    first = lines[0]
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    assert first["response"]["body"]["choices"][0]["message"]["content"]
    assert client.files.retrieve(done.output_file_id).bytes == len(
        client.files.content(done.output_file_id).content
    )
    assert [one.id for one in client.batches.list()] == [batch.id]


def test_a_bad_line_is_an_error_with_its_number_and_the_rest_goes_on(
    client: openai.OpenAI,
) -> None:
    batch = send(
        client,
        jsonl(
            request("good"),
            "no json",
            request("good"),
            "",
            request("other", model="nobody"),
            '{"custom_id": "half", "body": {"model": "rehearsal", "x": "\\ud800"}}',
            request("last"),
            request("more"),
            request("less"),
        ),
    )
    done = ended(client, batch.id)
    assert done.status == "completed"
    assert done.request_counts.model_dump() == {"total": 8, "completed": 4, "failed": 4}
    answered = client.files.content(done.output_file_id).text.splitlines()
    names = [json.loads(line)["custom_id"] for line in answered]
    assert names == ["good", "last", "more", "less"]
    refused = map(json.loads, client.files.content(done.error_file_id).text.splitlines())
    assert [
        (one["wordmill"]["line"], one["custom_id"], one["error"]["code"]) for one in refused
    ] == [
        (2, None, "invalid_json"),
        (3, "good", "duplicate_custom_id"),
        (5, "other", "model_not_found"),
        (6, "half", "invalid_json"),
    ]


def test_too_many_bad_lines_refuse_the_batch_with_a_hundred_reasons(
    client: openai.OpenAI,
) -> None:
    data = jsonl(*(request(f"r{n}", model="nobody") for n in range(300)))
    done = ended(client, send(client, data).id)
    assert done.status == "failed"
    reasons = done.errors.data
    assert reasons[0].message == (
        "300 of 300 lines are bad, and only 50% may be (the setting batch_bad_share)."
    )
    assert len(reasons) == 101
    assert (reasons[1].code, reasons[1].line) == ("model_not_found", 1)
    assert reasons[100].line == 100


def test_an_empty_file_is_no_batch(client: openai.OpenAI) -> None:
    done = ended(client, send(client, b"\n\n").id)
    assert (done.status, done.errors.data[0].message) == ("failed", "The file holds no requests.")


def test_a_batch_is_cancelled_and_keeps_its_answers(server: Server, client: openai.OpenAI) -> None:
    model = {"name": "slow", "provider": "rehearsal", "model": "rehearsal", "rpm": 600}
    with server.client() as admin:
        found = admin.post("/api/models", json=model)
        assert found.status_code < 300, found.text
    data = jsonl(*(request(f"r{n}", f"{n}", model="slow") for n in range(3000)))
    batch = send(client, data)
    until(lambda: client.batches.retrieve(batch.id), lambda found: found.status == "in_progress")
    client.batches.cancel(batch.id)
    done = ended(client, batch.id)
    assert done.status == "cancelled"
    counts = done.request_counts
    assert counts.completed + counts.failed == 3000
    assert counts.failed > 2000
    errors = client.files.content(done.error_file_id).text.splitlines()
    assert json.loads(errors[-1])["error"]["code"] == "batch_cancelled"
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_the_same_key_is_the_same_batch(client: openai.OpenAI) -> None:
    data = jsonl(request("one"))
    key = {"Idempotency-Key": "k-1"}
    first = send(client, data, extra_headers=key)
    assert send(client, data, extra_headers=key).id == first.id
    with pytest.raises(openai.ConflictError, match="belongs to another order"):
        send(client, jsonl(request("two")), extra_headers=key)
    assert len(list(client.batches.list())) == 1


def test_another_persons_files_and_batches_are_not_there(
    server: Server, client: openai.OpenAI
) -> None:
    batch = send(client, jsonl(request("one")))
    done = ended(client, batch.id)
    with server.client("cem") as cem:
        for path in (
            f"/v1/files/{batch.input_file_id}",
            f"/v1/files/{done.output_file_id}/content",
            f"/v1/batches/{batch.id}",
            f"/api/batches/{batch.id}",
            f"/api/batches/{batch.id}/results",
        ):
            assert cem.get(path).status_code == 404, path
        assert cem.post(f"/v1/batches/{batch.id}/cancel").status_code == 404
        assert cem.delete(f"/api/batches/{batch.id}").status_code == 404
        ordered = cem.post(
            "/v1/batches",
            json={
                "input_file_id": batch.input_file_id,
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
            },
        )
        assert ordered.status_code == 404
        assert cem.get("/v1/batches").json()["data"] == []


def test_results_come_by_pages_while_it_runs_and_failed_ones_go_again(server: Server) -> None:
    with server.client("bob") as bob:
        file = bob.post(
            "/v1/files",
            files={"file": ("a.jsonl", jsonl(*(request(f"r{n}", f"{n}") for n in range(1500))))},
            data={"purpose": "batch"},
        ).json()
        order = {
            "file": file["id"],
            "dataset": "faces",
            "source": "test",
            "budget": {"requests": 1200},
            "priority": 7,
        }
        answer = bob.post("/api/batches", json=order)
        assert answer.status_code == 202, answer.text
        batch = answer.json()["id"]
        done = until(
            lambda: bob.get(f"/api/batches/{batch}").json(),
            lambda found: found["state"] == "completed",
        )
        assert done["counts"]["completed"] <= 1200
        assert set(done["counts"]["causes"]) == {"budget"}
        seen: list[Json] = []
        after: int | None = 0
        while after is not None:
            page = bob.get(f"/api/batches/{batch}/results", params={"after": after, "limit": 400})
            seen += page.json()["items"]
            after = page.json()["next"]
        assert [one["wordmill"]["line"] for one in seen] == list(range(1, 1501))
        failed = bob.get(f"/api/batches/{batch}/results", params={"failed": True, "limit": 1000})
        missing = [one["custom_id"] for one in failed.json()["items"]]
        assert len(missing) == done["counts"]["failed"]
        retry = bob.post(f"/api/batches/{batch}/retry").json()
        assert retry["dataset"] == "faces"
        rest = until(
            lambda: bob.get(f"/api/batches/{retry['id']}").json(),
            lambda found: found["state"] == "completed",
        )
        assert rest["counts"]["total"] == len(missing)
        assert [
            one["id"] for one in bob.get("/api/batches", params={"dataset": "faces"}).json()
        ] == [
            retry["id"],
            batch,
        ]
        assert bob.delete(f"/api/batches/{batch}").status_code == 204
        assert bob.get(f"/api/batches/{batch}").status_code == 404


def test_results_are_found_counted_and_exported(server: Server, tmp_path: Path) -> None:
    lines = [
        request(f"r{n}", f"Write of the {('heron', 'otter')[n % 2]} {n}.") for n in range(1200)
    ]
    lines[7]["body"]["model"] = "nobody"
    with server.client("bob") as bob:
        sent = {"file": ("a.jsonl", jsonl(*lines))}
        file = bob.post("/v1/files", files=sent, data={"purpose": "batch"}).json()
        batch = bob.post("/api/batches", json={"file": file["id"], "dataset": "zoo"}).json()["id"]
        until(
            lambda: bob.get(f"/api/batches/{batch}").json()["state"],
            lambda state: state == "completed",
        )

        def found(**query: Any) -> list[Json]:
            answer = bob.get("/api/results", params=query)
            assert answer.status_code == 200, answer.text
            items: list[Json] = answer.json()["items"]
            return items

        (one,) = found(text="otter 301")
        assert (one["batch"], one["line"], one["custom_id"]) == (batch, 302, "r301")
        assert "⟦otter⟧ ⟦301⟧" in one["excerpt"]
        assert [hit["line"] for hit in found(failed=True)] == [8]
        assert [hit["status"] for hit in found(status="model_not_found")] == ["model_not_found"]
        assert found(custom_id="r5", dataset="zoo")[0]["line"] == 6
        assert found(custom_id="r5", dataset="other") == []
        assert found(text='otter" OR heron*', batch=batch) == []
        assert found(model="rehearsal", until="2001-01-01T00:00:00Z") == []
        seen, after = 0, {}
        while True:
            page = bob.get("/api/results", params={"text": "heron", "limit": 200, **after}).json()
            seen += len(page["items"])
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert seen == 600

        told = bob.get(f"/api/batches/{batch}/statistics").json()
        totals = told["totals"]
        assert (totals["lines"], totals["completed"], totals["failed"]) == (1200, 1199, 1)
        assert totals["causes"] == {"model_not_found": 1}
        assert totals["models"] == {"rehearsal": 1199}
        assert 0 < totals["latency"]["50"] <= totals["latency"]["99"]
        assert sum(point["completed"] for point in told["series"]) == 1199

        events = bob.get(f"/api/batches/{batch}/events").text.splitlines()
        assert json.loads(events[0].removeprefix("data: "))["state"] == "completed"

        whole = [json.loads(text) for text in bob.get(f"/api/batches/{batch}/export").iter_lines()]
        assert [one["request"]["messages"][0]["content"] for one in whole[:2]] == [
            "Write of the heron 0.",
            "Write of the otter 1.",
        ]
        path = tmp_path / "batch.parquet"
        path.write_bytes(bob.get(f"/api/batches/{batch}/export?form=parquet").content)
        table = pyarrow.parquet.read_table(path).to_pylist()
        assert [row["custom_id"] for row in table] == [f"r{n}" for n in range(1200)]
        assert table[7]["error"] == 'there is no model "nobody" in the catalog'
        assert (
            table[0]["answer"] == whole[0]["response"]["body"]["choices"][0]["message"]["content"]
        )
    with server.client("cem") as cem:
        assert cem.get("/api/results", params={"text": "heron"}).json()["items"] == []


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "1s"}, "completion_window"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ],
)
def test_an_order_that_cannot_be_is_refused(client: openai.OpenAI, order: Json, field: str) -> None:
    file = client.files.create(file=("a.jsonl", jsonl(request("x"))), purpose="batch")
    told = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **order}
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(input_file_id=file.id, **told)
    assert refused.value.param == field


def test_a_form_that_is_none_is_refused(server: Server) -> None:
    with server.client("bob") as bob:
        for sent in (
            {"content": b"x"},
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            {"data": {"purpose": "batch"}, "files": {"other": b"x"}},
            {"data": {"purpose": "pictures"}, "files": {"file": b"x"}},
        ):
            answer = bob.post("/v1/files", **sent)
            assert answer.status_code == 400, answer.text
    assert not list((server.house.settings.home / "files").glob("**/*"))


def test_an_upload_that_is_cut_leaves_nothing(server: Server) -> None:
    def pieces() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield b"x" * 3_000_000
        raise httpx.ReadError("gone")

    with server.client("bob") as bob, pytest.raises(httpx.ReadError):
        bob.post(
            "/v1/files",
            content=pieces(),
            headers={"content-type": "multipart/form-data; boundary=b"},
        )
    folder = server.house.settings.home / "files"
    until(lambda: list(folder.glob("**/.*")) + list(folder.glob("*")), lambda found: not found)


ENDPOINTS: dict[str, Json] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Say A."}]},
    "/v1/completions": {"prompt": "Say A.", "max_tokens": 9},
    "/v1/responses": {"input": "Say A.", "max_output_tokens": 9},
    "/v1/embeddings": {"input": "A text.", "dimensions": 4},
}


@pytest.mark.parametrize("endpoint", list(ENDPOINTS))
def test_every_endpoint_of_openai_s_batches(client: openai.OpenAI, endpoint: Any) -> None:
    lines = [
        {
            "custom_id": f"r{n}", "method": "POST", "url": endpoint,
            "body": {"model": "rehearsal", **ENDPOINTS[endpoint]},
        }
        for n in range(3)
    ]  # fmt: skip
    file = client.files.create(file=("asked.jsonl", jsonl(*lines)), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
    done = ended(client, batch.id)
    assert (done.status, done.endpoint) == ("completed", endpoint)
    assert done.request_counts.model_dump() == {"total": 3, "completed": 3, "failed": 0}
    bodies = [
        json.loads(line)["response"]["body"]
        for line in client.files.content(done.output_file_id).iter_lines()
    ]
    texts = {
        "/v1/chat/completions": lambda body: body["choices"][0]["message"]["content"],
        "/v1/completions": lambda body: body["choices"][0]["text"],
        "/v1/responses": lambda body: body["output"][0]["content"][0]["text"],
        "/v1/embeddings": lambda body: body["data"][0]["embedding"],
    }
    assert all(texts[endpoint](body) for body in bodies)
    assert done.usage.input_tokens > 0


def test_an_order_twice_is_one_batch_at_either_door(server: Server, client: openai.OpenAI) -> None:
    once = {"Idempotency-Key": "twice"}
    file = client.files.create(file=("a.jsonl", jsonl(request("a"))), purpose="batch").id
    wish: Json = {
        "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h",
    }  # fmt: skip
    first = client.batches.create(**wish, extra_headers=once)
    assert client.batches.create(**wish, extra_headers=once).id == first.id
    with pytest.raises(openai.ConflictError) as caught:
        client.batches.create(**wish, metadata={"other": "order"}, extra_headers=once)
    assert "The idempotency key 'twice' belongs to another order." in str(caught.value)
    with server.client("bob") as http:
        told = http.post("/api/batches", json={"file": file, "priority": 9}, headers=once)
        assert told.status_code == 409
        new = {"Idempotency-Key": "other"}
        orders = [
            http.post("/api/batches", json={"file": file, "priority": 9}, headers=new)
            for _ in range(2)
        ]
    assert [one.status_code for one in orders] == [202, 200]
    assert orders[0].json()["id"] == orders[1].json()["id"]
    assert orders[0].json()["priority"] == 9


def test_files_and_results_lie_in_a_bucket(
    s3_server: s3.Server,
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    request: pytest.FixtureRequest,
) -> None:
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORDMILL_STORAGE_URL", s3_server.bucket("a-server-s-files") + "/wordmill")
    client: openai.OpenAI = request.getfixturevalue("client")
    server: Server = request.getfixturevalue("server")
    lines = [asked(f"r{n}", f"Say {n}.") for n in range(1500)]
    done = ended(client, send(client, jsonl(*lines)).id)
    assert done.request_counts.completed == 1500
    answers = client.files.content(done.output_file_id).text.splitlines()
    assert [json.loads(line)["custom_id"] for line in answers] == [f"r{n}" for n in range(1500)]
    listed = s3_server.client().list_objects_v2(Bucket="a-server-s-files")["Contents"]
    place = f"wordmill/batches/{done.id}/segments"
    assert [one["Key"] for one in listed] == [
        f"{place}/0000000.jsonl", f"{place}/0000001.jsonl", f"wordmill/files/{done.input_file_id}",
    ]  # fmt: skip
    assert not (home / "files").exists()
    with server.client("bob") as http:
        gone = http.delete(f"/api/batches/{done.id}")
        assert gone.status_code == 204, gone.text
    listed = s3_server.client().list_objects_v2(Bucket="a-server-s-files")["Contents"]
    assert [one["Key"] for one in listed] == [f"wordmill/files/{done.input_file_id}"]
    assert not (home / "batches" / done.id).exists()
