import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.servers.imperfect import Asked, Told, serving
from wordmill._engine import public_address
from wordmill.outbound import Failure, Limits, Response, send

SOON = Limits(connect=2, first_byte=2, total=2)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def raw(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server without HTTP of its own; `serve` gets each connection."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        serve(connection)
                    except OSError:
                        continue  # the client hung up, as it should

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def said(answer: Response | Failure) -> Response:
    assert isinstance(answer, Response), answer
    return answer


def failed(answer: Response | Failure) -> Failure:
    assert isinstance(answer, Failure), answer
    return answer


def test_a_request_and_its_answer() -> None:
    with serving(lambda asked: Told(201, {"had": asked.body}, {"X-Thing": "y"})) as server:
        answer = said(
            send(
                "POST",
                server.url + "/v1/x?a=b",
                headers={"Content-Type": "application/json", "Authorization": "Bearer k"},
                body=b'{"a": 1}',
            )
        )
    assert (answer.status, answer.text) == (201, '{"had": {"a": 1}}')
    assert answer.headers["x-thing"] == "y"
    assert 0 < answer.seconds < 2
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.headers["authorization"]) == (
        "POST",
        "/v1/x?a=b",
        "Bearer k",
    )
    assert asked.headers["user-agent"] == "wordmill"


def test_redirects_are_not_followed() -> None:
    with serving(lambda _: Told(302, {}, {"Location": "http://127.0.0.1:1/"})) as server:
        assert said(send("GET", server.url)).status == 302
    assert len(server.asked) == 1


def test_nothing_listens() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    failure = failed(send("GET", f"http://127.0.0.1:{port}/"))
    assert failure == Failure("refused", "Connection refused")


def test_no_such_host() -> None:
    assert failed(send("GET", "http://nowhere.invalid/", limits=SOON)).kind == "name"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "file:///etc/hostname", "http://", "x"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError):
        send("GET", url)


def test_a_server_that_says_nothing() -> None:
    with raw(lambda connection: time.sleep(0.5)) as url:
        failure = failed(send("GET", url, limits=Limits(first_byte=0.1)))
    assert failure == Failure("timeout", "nothing after 0.1 s")


def test_a_server_that_drips() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-More: yes\r\n")
            time.sleep(0.02)

    started = time.monotonic()
    with raw(drip) as url:
        failure = failed(send("GET", url, limits=Limits(first_byte=5, total=0.3)))
    assert failure == Failure("timeout", "nothing after 0.3 s")
    assert time.monotonic() - started < 1


def test_a_body_that_drips() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    with raw(drip) as url:
        assert failed(send("GET", url, limits=Limits(total=0.3))).kind == "timeout"


def test_a_body_that_ends_early() -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    with raw(cut) as url:
        assert failed(send("GET", url)) == Failure("dropped", "the answer ended 6 bytes early")


def test_a_chunked_body_that_ends_early() -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal")

    with raw(cut) as url:
        assert failed(send("GET", url)).kind == "dropped"


def test_a_server_that_hangs_up() -> None:
    with raw(lambda connection: None) as url:
        assert failed(send("GET", url)).kind == "dropped"


def test_a_server_that_speaks_something_else() -> None:
    def speak(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"220 mail.example ESMTP\r\n")

    with raw(speak) as url:
        assert failed(send("GET", url)) == Failure("dropped", "220 mail.example ESMTP")


def test_an_answer_without_end() -> None:
    with serving(lambda _: Told(body=b"x" * 200_000)) as server:
        failure = failed(send("GET", server.url, limits=Limits(reply=100_000)))
        assert failure == Failure("too_large", "more than 100000 bytes")
        assert len(said(send("GET", server.url, limits=Limits(reply=200_000))).body) == 200_000


@contextmanager
def tls(authority: trustme.CA) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    with raw(serve) as url:
        yield url.replace("http://", "https://")


def test_a_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with tls(authority) as url:
        assert failed(send("GET", url, limits=SOON)) == Failure(
            "tls", "unable to get local issuer certificate"
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert said(send("GET", url, limits=SOON)).text == "hi"


def test_https_where_there_is_only_http() -> None:
    with serving(lambda _: Told()) as server:
        failure = failed(send("GET", server.url.replace("http:", "https:"), limits=SOON))
    assert (failure.kind, "WRONG_VERSION" in failure.detail.upper()) == ("tls", True)


def test_a_proxy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda asked: Told(body=asked.path)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:p%40ss@"))
        answer = said(send("GET", "http://nowhere.invalid/v1/models", limits=SOON))
        assert answer.text == '"http://nowhere.invalid/v1/models"'
        (asked,) = proxy.asked
        assert asked.headers["host"] == "nowhere.invalid"
        assert asked.headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
        monkeypatch.setenv("no_proxy", "nowhere.invalid")
        assert failed(send("GET", "http://nowhere.invalid/", limits=SOON)).kind == "name"


def test_a_proxy_that_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(asked: Asked) -> Told:
        return Told(403)

    with serving(refuse) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.removeprefix("http://"))
        failure = failed(send("GET", "https://nowhere.invalid/", limits=SOON))
    assert failure == Failure("proxy", "Tunnel connection failed: 403 Forbidden")
    assert [(asked.method, asked.path) for asked in proxy.asked] == [
        ("CONNECT", "nowhere.invalid:443")
    ]


# Addresses that strangers chose -----------------------------------------------------------------

VECTORS = json.loads((Path(__file__).parent / "vectors" / "addresses.json").read_text())


@pytest.mark.parametrize("address", VECTORS["public"] + VECTORS["refused"])
def test_which_addresses_are_public(address: str) -> None:
    assert public_address(address) is (address in VECTORS["public"])


@pytest.mark.parametrize("text", VECTORS["none"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        public_address(text)


def test_only_public_addresses_are_asked_where_it_is_wanted() -> None:
    with serving(lambda _: Told(body="inside")) as server:
        for host in ("127.0.0.1", "localhost", "127.1", "2130706433"):
            url = server.url.replace("127.0.0.1", host)
            failure = failed(send("GET", url, limits=SOON, allowed=()))
            assert failure.kind == "private", host
            assert failure.detail.endswith(
                "is not public: an admin allows hosts by the setting private_hosts."
            )
        assert server.asked == []
        assert said(send("GET", server.url, allowed=("127.0.0.1",))).text == '"inside"'


def test_an_address_is_judged_again_where_it_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that leads to a public address when it is looked at, and inside when it is asked."""
    look_up, answers = socket.getaddrinfo, ["8.8.8.8"]

    def rebound(host: str, *rest: Any, **more: Any) -> Any:
        where = answers.pop() if host == "rebound.example" and answers else "127.0.0.1"
        return look_up(where if host == "rebound.example" else host, *rest, **more)

    with serving(lambda _: Told(body="inside")) as server:
        monkeypatch.setattr(socket, "getaddrinfo", rebound)
        port = server.url.rpartition(":")[2]
        failure = failed(send("GET", f"http://rebound.example:{port}/", limits=SOON, allowed=()))
        assert answers == []
        assert failure.kind == "private"
        assert "rebound.example leads to 127.0.0.1" in failure.detail
        assert server.asked == []


def test_an_address_behind_a_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _: Told()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        failure = failed(send("GET", "http://nowhere.invalid/", allowed=()))
        assert failure == Failure(
            "private",
            "nowhere.invalid would be asked through a proxy, which hides where it leads: name it "
            "in NO_PROXY.",
        )
        assert proxy.asked == []
