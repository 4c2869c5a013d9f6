"""The operations on local models, in an order in which an admin's calls all succeed."""

from typing import Any

# Operation -> (path, body). {commit} and {old} are commits, {task} a task that has ended badly.
ADMINS: dict[str, tuple[str, Any]] = {
    "PUT /api/hub/token": ("/api/hub/token", {"token": "hf_reader_of_the_stand_in"}),
    "GET /api/hub/models": ("/api/hub/models?search=tiny", None),
    "GET /api/hub/models/{owner}/{name}": ("/api/hub/models/ann/tiny?context=128", None),
    "GET /api/hub/models/{owner}/{name}/card": ("/api/hub/models/ann/tiny/card", None),
    "POST /api/local-models": ("/api/local-models", {"repository": "ann/tiny", "name": "again"}),
    "GET /api/local-models/tasks": ("/api/local-models/tasks", None),
    "GET /api/local-models/tasks/{task}": ("/api/local-models/tasks/{task}", None),
    "POST /api/local-models/tasks/{task}/resume": ("/api/local-models/tasks/{task}/resume", None),
    "POST /api/local-models/tasks/{task}/pause": ("/api/local-models/tasks/{task}/pause", None),
    "DELETE /api/local-models/tasks/{task}": ("/api/local-models/tasks/{task}", None),
    "POST /api/local-models/import": (
        "/api/local-models/import", {"path": "{folder}", "name": "own"},
    ),
    "PATCH /api/local-models/{model}": (
        "/api/local-models/tiny", {"threads": 2, "pinned": True, "dtype": "auto"},
    ),
    "POST /api/local-models/{model}/order": (
        "/api/local-models/tiny/order", {"order": "unload"},
    ),
    "GET /api/local-models/people": ("/api/local-models/people", None),
    "GET /api/local-models/{model}/update": ("/api/local-models/tiny/update", None),
    "POST /api/local-models/{model}/update": ("/api/local-models/tiny/update", None),
    "POST /api/local-models/{model}/rollback": ("/api/local-models/tiny/rollback", None),
    "DELETE /api/local-models/{model}": ("/api/local-models/again", None),
    "DELETE /api/local-models/disk/{owner}/{name}/{commit}": (
        "/api/local-models/disk/ann/tiny/{commit}", None,
    ),
    "POST /api/local-models/{model}/quantize": (
        "/api/local-models/own/quantize", {"to": "int8", "name": "small"},
    ),
    "DELETE /api/hub/token": ("/api/hub/token", None),
}  # fmt: skip

EVERYBODYS = {
    "GET /api/local-models": "/api/local-models",
    "GET /api/local-models/disk": "/api/local-models/disk",
    "GET /api/local-models/loaded": "/api/local-models/loaded",
    "GET /api/local-models/history": "/api/local-models/history",
    "GET /api/local-models/{model}": "/api/local-models/tiny",
    "GET /api/local-models/{model}/fit": "/api/local-models/tiny/fit",
}
