"""What happened to a batch, over HTTP."""

import json
import time
from typing import Any

from tests.api.conftest import Server


def test_what_happened_comes_by_pages_and_to_nobody_else(server: Server) -> None:
    body = {"model": "rehearsal", "messages": [{"role": "user", "content": "Hello"}]}
    with server.client("bob") as bob:
        file = {"file": json.dumps({"custom_id": "1", "body": body}).encode()}
        upload = bob.post("/v1/files", files=file, data={"purpose": "batch"}).json()["id"]
        batch = bob.post("/api/batches", json={"file": upload}).json()["id"]
        where = f"/api/batches/{batch}/events"

        def listed(**query: Any) -> Any:
            answer = bob.get(where, params={"form": "list", **query})
            assert answer.status_code == 200, answer.text
            return answer.json()

        until = time.monotonic() + 60
        while [one["message"] for one in listed(kind="state")["items"]][-1:] != ["completed"]:
            assert time.monotonic() < until
            time.sleep(0.05)
        seen: list[Any] = []
        after = ""
        while after is not None:
            page = listed(after=after, limit=2)
            seen += page["items"]
            after = page["next"]
        assert [one["message"] for one in seen if one["kind"] == "state"] == [
            "validating", "in_progress", "finalizing", "completed"
        ]  # fmt: skip
        assert [one["at"] for one in seen] == sorted(one["at"] for one in seen)
        both = listed(kind=["state", "metrics"])["items"]
        assert {one["kind"] for one in both} == {"state", "metrics"}
        assert listed(kind="dead")["items"] == []
        for query in ({"after": "x"}, {"kind": "other"}, {"form": "table"}, {"limit": 0}):
            assert bob.get(where, params={"form": "list", **query}).status_code == 422
        live = bob.get(where)
        assert live.headers["content-type"].startswith("text/event-stream")
    with server.client("cem") as cem:
        assert cem.get(where, params={"form": "list"}).status_code == 404
