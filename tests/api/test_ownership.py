"""Nobody reaches what is another's: every operation, with the real ids of another person.

For each operation there is a call that its owner makes successfully; the same call by somebody else
is refused, and by nobody at all too. An operation that is not covered here fails the build.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.api import local_models
from tests.api.conftest import PASSWORD, Server
from wordmill.accounts import catalog_of
from wordmill.models import checked

MESSAGES = [{"role": "user", "content": "Hello"}]
ORDER = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
RECIPE = "name: notes\nmodel: rehearsal\ncolumns:\n  mood: {type: category, values: [calm]}\n"

# What belongs to nobody in particular: it is the same for everybody, or makes something new.
SHARED = {
    "GET /v1/models", "GET /v1/models/{model}", "POST /v1/chat/completions",
    "POST /v1/completions", "POST /v1/embeddings", "POST /v1/rerank",
    "POST /v1/responses",
    "GET /api/me", "GET /api/me/usage", "GET /api/keys", "POST /api/keys",
    "GET /api/conversations", "POST /api/conversations", "GET /api/search",
    "POST /api/attachments", "GET /api/folders", "POST /api/folders", "POST /api/import",
    "GET /api/models", "GET /api/models/{model}/settings", "PUT /api/models/{model}/mode",
    "PUT /api/models/{model}/settings/{name}", "PUT /api/models/{model}/key",
    "DELETE /api/models/{model}/key", "GET /api/recipes", "POST /api/recipes/estimate",
    "GET /api/runs", "POST /api/runs", "GET /api/commands", "POST /v1/files", "GET /v1/files",
    "GET /v1/batches", "GET /api/batches", "PATCH /api/me", "PUT /api/me/password",
    "GET /api/me/sessions", "DELETE /api/me/sessions", "GET /api/provider-keys", "GET /api/tags",
    "GET /api/shares", "GET /api/export", "GET /api/models/{model}",
    "POST /api/models/{model}/test", "GET /api/recipes/{recipe}", "POST /api/recipes/check",
    "POST /api/recipes/preview", "GET /api/me/identities", "POST /api/me/identities",
    "POST /api/me/identities/code", "GET /api/tools", "GET /api/tools/{server}",
    "GET /api/me/documents", "PATCH /api/me/documents", "PUT /api/me/documents/folder",
    "PUT /api/me/documents/template", "DELETE /api/me/documents/template", "DELETE /api/me/drive",
}  # fmt: skip

# What only admins may: a member is refused.
ADMIN = {
    "POST /api/models": (
        "/api/models", {"name": "m", "base_url": "http://127.0.0.1:9/v1", "model": "m"},
    ),
    "DELETE /api/models/{model}": ("/api/models/m", None),
    "GET /api/people": ("/api/people", None),
    "POST /api/people": (
        "/api/people", {"email": "new@example.org", "password": "a long one, this"},
    ),
    "PATCH /api/people/{person}": ("/api/people/{cem}", {"name": "Cem"}),
    "PUT /api/people/{person}/quota/{period}": ("/api/people/{cem}/quota/day", {"requests": 9}),
    "DELETE /api/people/{person}/quota/{period}": ("/api/people/{cem}/quota/day", None),
    "GET /api/people/{person}/sessions": ("/api/people/{cem}/sessions", None),
    "GET /api/people/{person}/keys": ("/api/people/{cem}/keys", None),
    "GET /api/people/{person}/usage": ("/api/people/{cem}/usage", None),
    "POST /api/people/{person}/reset": ("/api/people/{cem}/reset", None),
    "GET /api/usage": ("/api/usage", None),
    "GET /api/queues": ("/api/queues", None),
    "GET /api/settings": ("/api/settings", None),
    "PUT /api/settings/{name}": ("/api/settings/answers_at_once", {"value": "9"}),
    "POST /api/tools": ("/api/tools", {"name": "t", "transport": "stdio", "target": "true"}),
    "PATCH /api/tools/{server}": ("/api/tools/t", {"enabled": False}),
    "DELETE /api/tools/{server}": ("/api/tools/t", None),
    "GET /api/audit": ("/api/audit", None),
    "GET /api/channels": ("/api/channels", None),
    "POST /api/channels": (
        "/api/channels",
        {
            "name": "team", "kind": "matrix", "secrets": {"password": "a long one, this"},
            "options": {"homeserver": "http://127.0.0.1:9", "user": "@mill:example.org"},
        },
    ),
    "PATCH /api/channels/{channel}": ("/api/channels/team", {"enabled": False}),
    "POST /api/channels/{channel}/test": ("/api/channels/team/test", None),
    "DELETE /api/channels/{channel}": ("/api/channels/team", None),
    "DELETE /api/people/{person}": ("/api/people/{cem}", None),
}  # fmt: skip

# Open to anybody, by their nature.
OPEN = {
    "GET /health/live", "GET /health/ready", "GET /metrics", "GET /api/shared/{token}",
    "GET /api/shared/{token}/attachments/{attachment}",
}  # fmt: skip


@pytest.fixture
def theirs(server: Server) -> dict[str, Any]:
    """One of each thing, all of them bob's."""
    house, bob = server.house, server.people["bob"]
    store = house.conversations
    folder = store.folders.create(bob, "Trips")
    kept = store.create(bob, model="rehearsal", folder=folder.id)
    turn = house.chat.send(bob, kept.id, "Hello", door="web")
    for _ in house.chat.watch(bob, turn.answer):
        pass
    again = house.chat.regenerate(bob, turn.answer)
    for _ in house.chat.watch(bob, again.answer):
        pass
    # An answer that wants a tool called, which waits for a yes.
    part = {"id": "c1", "name": "f", "server": "s", "tool": "f"}
    wish = store.add(
        bob, kept.id, "assistant", "", parts=[{"type": "tool_call", "arguments": "{}", **part}],
        door="web", parent=turn.question, model="rehearsal", move_head=False,
    )  # fmt: skip
    tool = store.add(
        bob, kept.id, "tool", "", parts=[{"type": "tool_result", **part}], state="waiting",
        door="web", parent=wish.id, move_head=False,
    )  # fmt: skip
    file = store.attachments.add(bob, "note.txt", b"words", "text/plain", conversation=kept.id)
    spare = store.attachments.add(bob, "spare.txt", b"more words", "text/plain")
    share, _token = store.share(bob, kept.id)
    house.accounts.sessions.sign_in("bob@example.org", PASSWORD)
    (session,) = house.accounts.sessions.all(bob)
    key, _secret = house.accounts.keys.create(bob, "spare")
    identities = house.accounts.identities
    identities.redeem(identities.code(bob), "matrix", "@bob:example.org")
    with server.client("bob") as client:
        run = client.post("/api/runs", json={"recipe": RECIPE, "rows": 2}).json()["id"]
        until = time.monotonic() + 20
        while client.get(f"/api/runs/{run}").json()["state"] in ("created", "running"):
            assert time.monotonic() < until
            time.sleep(0.05)
        asked = {"custom_id": "1", "body": {"model": "rehearsal", "messages": MESSAGES}}
        sent = {"file": json.dumps(asked).encode()}
        upload = client.post("/v1/files", files=sent, data={"purpose": "batch"}).json()["id"]
        batch = client.post("/api/batches", json={"file": upload}).json()["id"]
        while client.get(f"/api/batches/{batch}").json()["state"] != "completed":
            assert time.monotonic() < until
            time.sleep(0.05)
    private = replace(
        checked({"name": "m", "base_url": "http://127.0.0.1:9/v1", "model": "m"}),
        name="m@http://127.0.0.1:9/v1",
    )
    catalog_of(house.database, house.settings, bob.id).keep_private(private)
    return {
        "conversation": kept.id, "folder": folder.id, "message": turn.answer,
        "question": turn.question, "other": again.answer, "attachment": file.id,
        "share": share.id, "key": key.id, "run": run, "cem": server.people["cem"].id,
        "spare_file": spare.id, "session": session.digest,
        "tool": tool.id, "upload": upload, "batch": batch, "private": private.name,
    }  # fmt: skip


# Operation -> (path, body): what bob may do with his own. In this order, for some undo others.
OWN: dict[str, tuple[str, Any]] = {
    "POST /api/messages/{message}/confirm": ("/api/messages/{tool}/confirm", {"yes": False}),
    "GET /api/conversations/{conversation}": ("/api/conversations/{conversation}", None),
    "PATCH /api/conversations/{conversation}": (
        "/api/conversations/{conversation}", {"title": "New"},
    ),
    "GET /api/conversations/{conversation}/messages": (
        "/api/conversations/{conversation}/messages", None,
    ),
    "POST /api/conversations/{conversation}/messages": (
        "/api/conversations/{conversation}/messages", {"text": "And?"},
    ),
    "POST /api/conversations/{conversation}/stop": ("/api/conversations/{conversation}/stop", None),
    "GET /api/conversations/{conversation}/export": (
        "/api/conversations/{conversation}/export", None,
    ),
    "GET /api/conversations/{conversation}/document": (
        "/api/conversations/{conversation}/document?form=markdown", None,
    ),
    "POST /api/conversations/{conversation}/document": (
        "/api/conversations/{conversation}/document", {"form": "markdown"},
    ),
    "PUT /api/conversations/{conversation}/drive-folder": (
        "/api/conversations/{conversation}/drive-folder", {"link": None},
    ),
    "GET /api/conversations/{conversation}/shares": (
        "/api/conversations/{conversation}/shares", None,
    ),
    "GET /api/conversations/{conversation}/calls": (
        "/api/conversations/{conversation}/calls", None,
    ),
    "GET /api/conversations/{conversation}/tree": ("/api/conversations/{conversation}/tree", None),
    "GET /api/conversations/{conversation}/usage": (
        "/api/conversations/{conversation}/usage", None,
    ),
    "GET /api/conversations/{conversation}/feedback": (
        "/api/conversations/{conversation}/feedback", None,
    ),
    "GET /api/conversations/{conversation}/settings": (
        "/api/conversations/{conversation}/settings", None,
    ),
    "PUT /api/conversations/{conversation}/settings/{name}": (
        "/api/conversations/{conversation}/settings/seed", {"value": 5},
    ),
    "PUT /api/conversations/{conversation}/tools": (
        "/api/conversations/{conversation}/tools", {"servers": []},
    ),
    "GET /api/attachments/{attachment}": ("/api/attachments/{attachment}", None),
    "DELETE /api/attachments/{attachment}": ("/api/attachments/{spare_file}", None),
    "GET /api/messages/{message}": ("/api/messages/{message}", None),
    "GET /api/messages/{message}/sent": ("/api/messages/{message}/sent", None),
    "GET /api/messages/{message}/siblings": ("/api/messages/{message}/siblings", None),
    "GET /api/messages/{message}/events": ("/api/messages/{message}/events", None),
    "PUT /api/messages/{message}/feedback": ("/api/messages/{message}/feedback", {"score": 1}),
    "POST /api/preferences": (
        "/api/preferences",
        {"prompt": "{question}", "chosen": "{message}", "rejected": ["{other}"]},
    ),
    "POST /api/messages/{message}/switch": ("/api/messages/{message}/switch", None),
    "POST /api/conversations/{conversation}/share": (
        "/api/conversations/{conversation}/share", None,
    ),
    "POST /api/messages/{message}/fork": ("/api/messages/{message}/fork", None),
    "POST /api/messages/{message}/regenerate": ("/api/messages/{message}/regenerate", {}),
    "POST /api/messages/{message}/edit": ("/api/messages/{question}/edit", {"text": "Hm"}),
    "POST /api/messages/{message}/continue": ("/api/messages/{message}/continue", None),
    "POST /api/messages/{message}/stop": ("/api/messages/{message}/stop", None),
    "POST /api/commands": ("/api/commands", {"line": "/title", "conversation": "{conversation}"}),
    "POST /api/commands/complete": (
        "/api/commands/complete", {"text": "/ti", "conversation": "{conversation}"},
    ),
    "POST /api/commands/propose": (
        "/api/commands/propose", {"text": "Hello", "conversation": "{conversation}"},
    ),
    "GET /api/runs/{run}": ("/api/runs/{run}", None),
    "GET /api/runs/{run}/rows": ("/api/runs/{run}/rows", None),
    "GET /api/runs/{run}/events": ("/api/runs/{run}/events", None),
    "GET /api/runs/{run}/recipe": ("/api/runs/{run}/recipe", None),
    "GET /api/runs/{run}/dataset": ("/api/runs/{run}/dataset", None),
    "GET /api/runs/{run}/export": ("/api/runs/{run}/export", None),
    "POST /api/runs/{run}/cancel": ("/api/runs/{run}/cancel", None),
    "POST /api/runs/{run}/resume": ("/api/runs/{run}/resume", None),
    "DELETE /api/runs/{run}": ("/api/runs/{run}", None),
    "GET /v1/files/{file}": ("/v1/files/{upload}", None),
    "GET /v1/files/{file}/content": ("/v1/files/{upload}/content", None),
    "GET /v1/batches/{batch}": ("/v1/batches/{batch}", None),
    "POST /v1/batches": ("/v1/batches", {**ORDER, "input_file_id": "{upload}"}),
    "POST /v1/batches/{batch}/cancel": ("/v1/batches/{batch}/cancel", None),
    "GET /api/batches/{batch}": ("/api/batches/{batch}", None),
    "GET /api/batches/{batch}/results": ("/api/batches/{batch}/results", None),
    "GET /api/batches/{batch}/statistics": ("/api/batches/{batch}/statistics", None),
    "GET /api/batches/{batch}/events": ("/api/batches/{batch}/events", None),
    "GET /api/batches/{batch}/export": ("/api/batches/{batch}/export", None),
    "GET /api/results": ("/api/results?batch={batch}", None),
    "POST /api/batches": ("/api/batches", {"file": "{upload}"}),
    "POST /api/batches/{batch}/cancel": ("/api/batches/{batch}/cancel", None),
    "POST /api/batches/{batch}/resume": ("/api/batches/{batch}/resume", None),
    "POST /api/batches/{batch}/retry": ("/api/batches/{batch}/retry", None),
    "GET /api/batches/{batch}/dead": ("/api/batches/{batch}/dead", None),
    "POST /api/batches/{batch}/replay": ("/api/batches/{batch}/replay", None),
    "DELETE /api/batches/{batch}": ("/api/batches/{batch}", None),
    "DELETE /api/private-models": ("/api/private-models?name={private}", None),
    "DELETE /v1/files/{file}": ("/v1/files/{upload}", None),
    "DELETE /api/shares/{share}": ("/api/shares/{share}", None),
    "DELETE /api/me/identities/{provider}/{subject}": (
        "/api/me/identities/matrix/@bob:example.org", None,
    ),
    "DELETE /api/keys/{key}": ("/api/keys/{key}", None),
    "DELETE /api/sessions/{session}": ("/api/sessions/{session}", None),
    "PATCH /api/folders/{folder}": ("/api/folders/{folder}", {"name": "Journeys"}),
    "POST /api/conversations/{conversation}/undo": ("/api/conversations/{conversation}/undo", None),
    "DELETE /api/folders/{folder}": ("/api/folders/{folder}", None),
    "DELETE /api/conversations/{conversation}": ("/api/conversations/{conversation}", None),
}  # fmt: skip

CONFLICTS = {
    "POST /api/runs/{run}/resume", "POST /v1/batches/{batch}/cancel",
    "POST /api/batches/{batch}/cancel", "POST /api/batches/{batch}/resume",
    "POST /api/batches/{batch}/retry", "POST /api/batches/{batch}/replay",
    "POST /api/conversations/{conversation}/document",
}  # fmt: skip
"""Its owner is told that it has ended, or that there is no Drive: known, but nothing to do."""

ADMINS_TOO = {"DELETE /api/keys/{key}", "DELETE /api/sessions/{session}"}
"""An admin may revoke anybody's key and end anybody's sign-in."""


def filled(value: Any, names: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return value.format(**names) if "{" in value and "\n" not in value else value
    if isinstance(value, dict):
        return {key: filled(one, names) for key, one in value.items()}
    return [filled(one, names) for one in value] if isinstance(value, list) else value


def operations(server: Server) -> set[str]:
    with server.client(None) as client:
        paths = client.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_every_operation_is_covered(server: Server) -> None:
    covered = set(OWN) | SHARED | set(ADMIN) | OPEN
    covered |= {*local_models.ADMINS, *local_models.EVERYBODYS}  # see test_local_models
    assert operations(server) == covered


def call(server: Server, who: str | None, operation: str, path: str, body: Any) -> int:
    method = operation.split()[0]
    with server.client(who) as client:
        return client.request(method, path, json=body).status_code


def test_what_is_ones_own_is_nobody_elses(server: Server, theirs: dict[str, Any]) -> None:
    found: dict[str, tuple[int, int, int, int]] = {}
    for operation, (path, body) in OWN.items():
        asked = (operation, filled(path, theirs), filled(body, theirs))
        # First those who may not; also an admin, whose role opens nobody's conversations.
        admin = "cem" if operation in ADMINS_TOO else "ann"
        statuses = tuple(call(server, who, *asked) for who in (None, "cem", admin, "bob"))
        found[operation] = statuses  # type: ignore[assignment]
    wrong = {
        operation: statuses
        for operation, statuses in found.items()
        if statuses[:3] != (401, 404, 404)
        or not (200 <= statuses[3] < 300 or (operation in CONFLICTS and statuses[3] == 409))
    }
    assert wrong == {}


def test_what_is_for_admins_is_for_nobody_else(server: Server, theirs: dict[str, Any]) -> None:
    found = {}
    for operation, (path, body) in ADMIN.items():
        asked = (operation, filled(path, theirs), filled(body, theirs))
        found[operation] = tuple(call(server, who, *asked) for who in (None, "bob", "ann"))
    assert {
        operation: statuses
        for operation, statuses in found.items()
        if statuses[:2] != (401, 403) or not 200 <= statuses[2] < 300
    } == {}


@pytest.mark.parametrize("operation", sorted(SHARED))
def test_what_is_everybodys_needs_a_key_all_the_same(server: Server, operation: str) -> None:
    path = operation.split()[1].format(model="rehearsal", name="seed", recipe="rlhi", server="t")
    assert call(server, None, operation, path, {}) == 401


def test_a_key_does_what_its_scopes_say(server: Server, theirs: dict[str, Any]) -> None:
    bob = server.people["bob"]
    make: Callable[[str], str] = lambda scope: server.house.accounts.keys.create(  # noqa: E731
        bob, scope, [scope]
    )[1]
    server.keys |= {"reader": make("read"), "talker": make("chat")}
    conversation = f"/api/conversations/{theirs['conversation']}"
    assert call(server, "reader", "GET x", conversation, None) == 200
    assert call(server, "reader", "DELETE x", conversation, None) == 403
    assert call(server, "reader", "POST x", "/v1/chat/completions", {}) == 403
    assert call(server, "talker", "POST x", "/api/runs", {"recipe": RECIPE}) == 403
    assert call(server, "talker", "DELETE x", conversation, None) == 204


def test_a_session_needs_the_header_that_only_our_pages_send(server: Server) -> None:
    token = server.house.accounts.sessions.sign_in("bob@example.org", PASSWORD)
    cookie = {"cookie": f"wordmill={token}"}
    with server.client(None) as client:
        assert client.get("/api/me", headers=cookie).json()["name"] == "bob"
        refused = client.post("/api/conversations", json={}, headers=cookie)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        fine = client.post("/api/conversations", json={}, headers={**cookie, "x-wordmill": "1"})
        assert fine.status_code == 201
        server.house.accounts.sessions.sign_out(token)
        assert client.get("/api/me", headers=cookie).status_code == 401
