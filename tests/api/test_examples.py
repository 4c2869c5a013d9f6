"""The OpenAPI shows an example of each operation, and the examples are true."""

from typing import Any

import pytest
from jsonschema_rs import validator_for

from tests.api.conftest import Server
from tests.api.test_ownership import ADMIN, OPEN, OWN, SHARED, filled, theirs
from wordmill.channels.api.examples import examples

__all__ = ["theirs"]

BARE = {"204", "text/event-stream"}


@pytest.fixture
def schema(server: Server) -> dict[str, Any]:
    with server.client(None) as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_every_operation_has_one(schema: dict[str, Any]) -> None:
    missing, wrong, known = [], [], set()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            known.add(name)
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None and "example" not in body:
                missing.append(f"{name}: what is asked")
            elif body and "schema" in body:
                whole = {**body["schema"], "components": schema["components"]}
                if not validator_for(whole).is_valid(body["example"]):
                    wrong.append(name)
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/json")
                if status.startswith("2") and content is not None and "example" not in content:
                    missing.append(f"{name}: what it gives")
    assert (missing, wrong) == ([], [])
    assert set(examples()) - known == set()


def test_they_have_what_the_answers_have(server: Server, theirs: dict[str, Any]) -> None:
    """Field by field, of every operation that only reads."""
    theirs["token"] = server.house.conversations.share(
        server.people["bob"], theirs["conversation"]
    )[1]
    places = {name: filled(path, theirs) for name, (path, _) in {**ADMIN, **OWN}.items()}
    plain = {"model": "rehearsal", "recipe": "rlhi", "server": "t"}
    for name in SHARED | OPEN:
        if name.startswith("GET "):
            places.setdefault(name, name.split()[1].format(**plain, **theirs))
    different = {}
    compared = 0
    for name, path in places.items():
        example = examples().get(name, {}).get("gives")
        if not name.startswith("GET ") or not isinstance(example, dict | list):
            continue
        with server.client("ann" if name in ADMIN else "bob") as client:
            answer = client.get(path, params={"query": "Hello"} if "/search" in path else None)
        if answer.headers["content-type"] == "application/json" and answer.is_success:
            compared += 1
            pair = shape(example), shape(answer.json())
            if not fits(*pair):
                different[name] = pair
    assert different == {}
    assert compared > 35


FREE = {"counts", "data", "tables", "manifest", "values", "lineage", "errors", "found", "detail",
        "parameters", "schema", "top_k", "models", "channels", "response"}  # fmt: skip
"""Fields whose own fields depend on what somebody made."""


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: None if name in FREE else shape(one) for name, one in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


def fits(example: Any, real: Any) -> bool:
    """What is empty or null on one side says nothing."""
    if not example or not real:
        return True
    if isinstance(example, list) and isinstance(real, list):
        return fits(example[0], real[0])
    if isinstance(example, dict) and isinstance(real, dict):
        ids = all(len(name) == 24 or name == "local" for name in (*example, *real))
        return ids or (
            example.keys() == real.keys() and all(fits(example[name], real[name]) for name in real)
        )
    return False
