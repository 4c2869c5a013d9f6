"""The OpenAPI of the application, with an example of each operation (`examples.yaml`).

Bodies that are read by hand, since they are long or OpenAI's, are described here too.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from fastapi import FastAPI

from wordmill.channels.api import fields

_BODIES: Final = {
    "POST /v1/chat/completions": (fields.CHAT, ("model", "messages")),
    "POST /v1/completions": (fields.COMPLETIONS, ("model", "prompt")),
    "POST /v1/embeddings": (fields.EMBEDDINGS, ("model", "input")),
    "POST /v1/rerank": (fields.RERANK, ("model", "query", "documents")),
    "POST /v1/responses": (fields.RESPONSES, ("model", "input")),
}
_SUCCESS: Final = ("200", "201", "202")


@cache
def examples() -> Mapping[str, Mapping[str, Any]]:
    """By operation, as `GET /api/me`: `asks` is a body, `gives` an answer."""
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    found: dict[str, Mapping[str, Any]] = yaml.safe_load(text)
    return found


def describing(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` is replaced with."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            for path, methods in schema["paths"].items():
                for method, operation in methods.items():
                    _fill(f"{method.upper()} {path}", operation)
        return plain()

    return described


def _fill(name: str, operation: dict[str, Any]) -> None:
    if name in _BODIES:
        operation["requestBody"] = {"required": True, "content": _body(*_BODIES[name])}
    if name == "POST /api/import":
        kinds = ("application/json", "application/zip")
        operation["requestBody"] = {"required": True, "content": {kind: {} for kind in kinds}}
    found = examples().get(name, {})
    asked = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if asked is not None and "asks" in found:
        asked["example"] = found["asks"]
    for status in _SUCCESS:
        for content in operation["responses"].get(status, {}).get("content", {}).values():
            if "gives" in found:
                content["example"] = found["gives"]


def _body(known: Mapping[str, fields.Field], needed: tuple[str, ...]) -> dict[str, Any]:
    described = {
        name: {"description": f"It is {field.expects}."} if field.expects else {}
        for name, field in sorted(known.items())
    }
    schema = {"type": "object", "required": list(needed), "properties": described}
    return {"application/json": {"schema": schema}}
