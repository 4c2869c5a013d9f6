"""What Wordmill raises, as HTTP says it: OpenAI's shape under /v1, `{"error": ...}` elsewhere."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from wordmill.errors import (
    ConfigError,
    Conflict,
    ExportError,
    Forbidden,
    HubError,
    InvalidInput,
    KeyMissing,
    ModelFailed,
    NotFound,
    QuotaReached,
    RecipeError,
    RunError,
    StorageError,
    TooMany,
    Unauthenticated,
    UnknownName,
    WordmillError,
)

log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[WordmillError], int, str, str], ...] = (
    (Unauthenticated, 401, "invalid_request_error", "invalid_api_key"),
    (Forbidden, 403, "permission_error", "forbidden"),
    (QuotaReached, 429, "insufficient_quota", "insufficient_quota"),
    (TooMany, 429, "rate_limit_error", "rate_limit_exceeded"),
    (NotFound, 404, "invalid_request_error", "not_found"),
    (UnknownName, 404, "invalid_request_error", "not_found"),
    (InvalidInput, 400, "invalid_request_error", "invalid_value"),
    (RecipeError, 400, "invalid_request_error", "invalid_recipe"),
    (Conflict, 409, "invalid_request_error", "conflict"),
    (RunError, 409, "invalid_request_error", "conflict"),
    (KeyMissing, 424, "invalid_request_error", "provider_key_missing"),
    (ConfigError, 400, "invalid_request_error", "invalid_value"),
    (ExportError, 400, "invalid_request_error", "invalid_value"),
    (HubError, 502, "upstream_error", "hub"),
    (StorageError, 503, "server_error", "storage"),
)

_UPSTREAM = {
    "rejected": 400, "too_large": 502, "throttled": 429, "overloaded": 503, "timeout": 504,
    "stopped": 503, "budget": 429, "cancelled": 499, "bad_request": 400, "payment": 402,
}  # fmt: skip
"""The status for each kind of the engine's errors; 502 for the rest."""


def status_of(error: WordmillError) -> tuple[int, str, str]:
    """Status, OpenAI's type and code."""
    if isinstance(error, ModelFailed):
        status = _UPSTREAM.get(error.kind, 502)
        kind = "invalid_request_error" if status == 400 else "upstream_error"
        return status, kind, error.kind
    if isinstance(error, UnknownName) and error.kind == "model":
        return 404, "invalid_request_error", "model_not_found"
    for kind_of, status, kind, code in _STATUS:
        if isinstance(error, kind_of):
            return status, kind, code
    return 500, "server_error", "internal"


def shaped(
    request: Request, status: int, message: str, kind: str, code: str, param: str | None = None
) -> JSONResponse:
    """An error in the door's own form."""
    headers: dict[str, str] = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
    if not request.url.path.startswith("/v1"):
        error = {"message": message, "code": code, "field": param}
    return JSONResponse({"error": error}, status, headers)


def install(app: FastAPI) -> None:
    """Every error becomes an answer with words; none is a 500 but a fault of ours."""

    @app.exception_handler(WordmillError)
    async def ours(request: Request, error: WordmillError) -> JSONResponse:
        status, kind, code = status_of(error)
        answer = shaped(request, status, str(error), kind, code, getattr(error, "field", None))
        if isinstance(error, TooMany | QuotaReached):
            answer.headers["retry-after"] = str(max(1, round(error.seconds)))
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        (first, *_) = error.errors()
        place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
        field = ".".join(place)
        words = f"{field}: {first['msg']}" if field else str(first["msg"])
        status = 400 if request.url.path.startswith("/v1") else 422
        return shaped(request, status, words, "invalid_request_error", "invalid_value", field)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
        code = codes.get(error.status_code, "invalid_request")
        answer = shaped(
            request, error.status_code, str(error.detail), "invalid_request_error", code
        )
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        log.error("a fault of Wordmill at %s", request.url.path, exc_info=error)
        return shaped(
            request, 500, "A fault of Wordmill; its log says more.", "server_error", "internal"
        )
