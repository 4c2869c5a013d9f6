"""Nobody comes in without a session."""

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from wordmill.channels.web.gate import COOKIE, Gate, token_of

GOOD = "good-token"


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"page {request.url.path}")


async def own_policy(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x", headers={"content-security-policy": "default-src 'none'"})


async def socket(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text("open")
    await ws.close()


def client(hosts: tuple[str, ...] = (), **options: Any) -> TestClient:
    inside = Starlette(
        routes=[
            Route("/shared/own", own_policy),
            WebSocketRoute("/_stcore/stream", socket),
            Route("/{path:path}", page),
        ]
    )
    gate = Gate(inside, lambda token: token == GOOD, hosts)
    return TestClient(gate, base_url="http://localhost", follow_redirects=False, **options)


@pytest.mark.parametrize("path", ["/", "/explore", "/_stcore/upload_file/x", "/media/x.png"])
def test_pages_are_behind_the_sign_in(path: str) -> None:
    answer = client().get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")
    answer = client().get(path, headers={"cookie": f"{COOKIE}=forged"})
    assert answer.status_code == 303
    answer = client().get(path, headers={"cookie": f"{COOKIE}={GOOD}"})
    assert answer.text == f"page {path}"


def test_after_the_sign_in_one_is_where_one_wanted_to_be() -> None:
    assert client().get("/explore").headers["location"] == "/login?next=/explore"


@pytest.mark.parametrize("path", ["/v1/models", "/api/me", "/health/live", "/login", "/shared/x"])
def test_what_has_its_own_lock_is_let_through(path: str) -> None:
    assert client().get(path).text == f"page {path}"


def test_a_websocket_without_a_session_is_closed() -> None:
    with (
        pytest.raises(WebSocketDisconnect) as caught,
        client().websocket_connect("/_stcore/stream"),
    ):
        pass
    assert caught.value.code == 4401
    cookie = {"cookie": f"other=1; {COOKIE}={GOOD}"}
    with client().websocket_connect("/_stcore/stream", headers=cookie) as ws:
        assert ws.receive_text() == "open"


def test_answers_carry_the_headers_that_keep_a_browser_honest() -> None:
    headers = client().get("/login").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = headers["content-security-policy"]
    assert "'unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "")
    assert "frame-ancestors 'none'" in policy
    assert "img-src 'self' data: blob:;" in policy
    assert client().get("/shared/own").headers["content-security-policy"] == "default-src 'none'"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8501", 200),
        ("LOCALHOST", 200),
        ("[::1]:8501", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8501", 421),
        ("", 421),
    ],
)
def test_only_under_our_own_names(host: str, status: int) -> None:
    asked = client(("localhost", "::1")).get("/login", headers={"host": host})
    assert asked.status_code == status


def test_a_cookie_that_is_none() -> None:
    for value in (b"\xff\xfe", b"=;;", b"wordmill", b'wordmill="', b"a=b; c"):
        assert token_of({"headers": [(b"cookie", value)]}) in ("", '"')
    assert token_of({"headers": []}) == ""
    assert token_of({"headers": [(b"cookie", b"a=1"), (b"cookie", b"wordmill=t")]}) == "t"


def test_the_lifespan_passes_through() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(Gate(app, lambda _: False, ())({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
