"""The one place where Python itself sends HTTP.

Small and few requests: the list of models of a server, one test question, what a shell asks of a
Wordmill elsewhere. What is sent in numbers goes through the engine. On the standard library,
because a base install should be light.

Certificates are verified, redirects are not followed, the answer has a ceiling, the whole exchange
has a deadline, and proxies come from the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY,
NO_PROXY). What goes wrong is a value, `Failure`, because the callers explain it.
"""

import base64
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from wordmill._engine import public_address

FailureKind: TypeAlias = Literal[
    "refused", "name", "tls", "timeout", "dropped", "too_large", "proxy", "private"
]


@dataclass(frozen=True)
class Limits:
    """connect, first_byte and total in seconds; reply in bytes."""

    connect: float = 10.0
    first_byte: float = 120.0
    total: float = 600.0
    reply: int = 16 * 1024 * 1024


@dataclass(frozen=True)
class Response:
    """What a server said, whatever its status. `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        """The body as text; bytes that are no UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True)
class Failure:
    """No answer came. `detail` is the system's own words.

    refused: nothing listens, or no way there.  name: no such host.  tls: the certificate, or no TLS
    at all.  timeout: one of the limits.  dropped: the connection broke or spoke no HTTP.
    too_large: the answer passed `Limits.reply`.  proxy: the proxy said no.  private: the address
    is not public, or a proxy would hide it.
    """

    kind: FailureKind
    detail: str


def send(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    limits: Limits | None = None,
    direct: bool = False,
    allowed: Collection[str] | None = None,
) -> Response | Failure:
    """One request, one answer. `url` is http or https; ValueError for another.

    direct: no proxy is asked, as none can reach this machine's own addresses.
    allowed: a stranger chose the address, so it must be public; these hosts need not be.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(url)
    limits = limits or Limits()
    if allowed is not None and (words := unwanted(url, allowed)) is not None:
        return Failure("private", words)
    return _Exchange(parts, limits, direct, allowed).run(method, headers or {}, body)


def unwanted(url: str, allowed: Collection[str]) -> str | None:
    """Why an address that a stranger chose is not asked, in a sentence; None where it may be.

    Its host is looked up now, and what it leads to then is checked again when it is asked. One
    that leads nowhere may be asked: it may lead somewhere later.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _proxy(parts) is not None:
        return (
            f"{host} would be asked through a proxy, which hides where it leads: name it in "
            "NO_PROXY."
        )
    try:
        _public(host, parts.port or 0, allowed)
    except _Private as refused:
        return str(refused)
    except OSError:
        return None
    return None


class _Private(OSError):
    """A host that leads to no public address."""


def _public(host: str, port: int, allowed: Collection[str]) -> list[tuple[str, int]]:
    """The addresses of a host that may be asked. Raises OSError, also for a name that is none."""
    found = [one[4] for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if host.rstrip(".") in {name.lower().strip("[]").rstrip(".") for name in allowed}:
        return [(str(one[0]), int(one[1])) for one in found]
    # A zone, as in fe80::1%eth0, stands only behind addresses of a link.
    passed = [one for one in found if "%" not in str(one[0]) and public_address(str(one[0]))]
    if not passed:
        place = str(found[0][0])
        leads = "" if place == host else f" leads to {place}, which"
        raise _Private(
            f"The address {host}{leads} is not public: an admin allows hosts by the setting "
            "private_hosts."
        )
    return [(str(one[0]), int(one[1])) for one in passed]


def stream(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    limits: Limits | None = None,
) -> "Streamed | Failure":
    """One request whose answer is read line by line as it comes. Close what is returned.

    limits: `first_byte` bounds each wait for more; `total` and `reply` bound nothing here.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(url)
    exchange = _Exchange(parts, limits or Limits())
    started = time.monotonic()
    try:
        return Streamed(exchange, exchange.ask(method, headers or {}, body), started)
    except (OSError, http.client.HTTPException) as error:
        exchange.connection.close()
        return exchange.failure(error, started)


class Streamed:
    """An answer that comes little by little.

    complete: all of its lines came.  failure: why they ended too early; None, too, once it was
    closed from here.
    """

    def __init__(
        self, exchange: "_Exchange", answer: http.client.HTTPResponse, started: float
    ) -> None:
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        self.failure: Failure | None = None
        self._exchange, self._answer, self._started = exchange, answer, started
        self.complete = self._read = False

    def __iter__(self) -> Iterator[bytes]:
        """Its lines, without their ends, until it ends, breaks off or is closed."""
        for line in self._parts(self._answer.readline):
            yield line.rstrip(b"\r\n")

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, as many as come at once; otherwise as its lines."""
        yield from self._parts(lambda: self._answer.read1(1 << 18))

    def _parts(self, read: Callable[[], bytes]) -> Iterator[bytes]:
        self._read = True
        try:
            while part := read():
                yield part
            if self._answer.length:  # which a reading that stops early does not tell
                raise http.client.HTTPException(f"it ended {self._answer.length} bytes early")
            self.complete = not self._exchange.late.is_set()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self._exchange.late.is_set():
                return  # closed by us
            if isinstance(error, ValueError):  # a chunk without its size
                error = http.client.HTTPException("the connection was closed")
            self.failure = self._exchange.failure(error, self._started)
        finally:
            self._exchange.connection.close()

    def close(self) -> None:
        """End it, also from another thread, where it waits for a line."""
        self._exchange.end()
        if not self._read:
            self._exchange.connection.close()


class _Exchange:
    def __init__(
        self,
        parts: SplitResult,
        limits: Limits,
        direct: bool = False,
        allowed: Collection[str] | None = None,
    ) -> None:
        self.parts, self.limits, self.direct = parts, limits, direct
        self.target = parts.path + ("?" + parts.query if parts.query else "") or "/"
        self.extra: dict[str, str] = {}
        self.late = threading.Event()
        self.connection = self._connection()
        if allowed is not None:
            self._guard(allowed)

    def _connection(self) -> http.client.HTTPConnection:
        parts, timeout = self.parts, self.limits.connect
        host = parts.hostname or ""
        secure = parts.scheme == "https"
        proxy = None if self.direct else _proxy(parts)
        address, port = (proxy.hostname or "", proxy.port) if proxy else (host, parts.port)
        connection = (
            http.client.HTTPSConnection(
                address, port, timeout=timeout, context=ssl.create_default_context()
            )
            if secure
            else http.client.HTTPConnection(address, port, timeout=timeout)
        )
        if proxy is not None:
            passport = _credentials(proxy)
            if secure:
                connection.set_tunnel(host, parts.port or 443, headers=passport)
            else:
                self.target = f"http://{parts.netloc}{self.target}"
                self.extra = {"Host": parts.netloc, **passport}
        return connection

    def _guard(self, allowed: Collection[str]) -> None:
        """Connect to public addresses alone, looked up at that moment."""

        def connect(
            address: tuple[str, int], timeout: float, source: tuple[str, int] | None
        ) -> socket.socket:
            refused: OSError | None = None
            for place in _public(*address, allowed):
                try:
                    return socket.create_connection(place, timeout, source)
                except OSError as error:
                    refused = error
            raise refused or OSError("the host has no address")

        # What http.client calls where it connects, for TLS too.
        self.connection._create_connection = connect  # type: ignore[attr-defined]

    def run(
        self, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> Response | Failure:
        started = time.monotonic()
        # The socket's timeouts bound each wait; a server that drips bytes is ended by this.
        watch = threading.Timer(self.limits.total, self.end)
        watch.daemon = True
        watch.start()
        try:
            return self._exchange(method, headers, body, started)
        except (OSError, http.client.HTTPException) as error:
            return self.failure(error, started)
        finally:
            watch.cancel()
            self.connection.close()

    def failure(self, error: Exception, started: float) -> Failure:
        """What an exception of the exchange means."""
        match error:
            case _Private():
                return Failure("private", str(error))
            case TimeoutError():
                return self._timeout(started)
            case socket.gaierror():
                return Failure("name", str(error.strerror))
            case ssl.SSLCertVerificationError():
                return Failure("tls", error.verify_message)
        if self.late.is_set():
            return self._timeout(started)
        match error:
            case ssl.SSLError():
                return Failure("tls", error.reason)
            case ConnectionResetError() | BrokenPipeError() | http.client.HTTPException():
                return Failure("dropped", str(error).strip() or type(error).__name__)
            case OSError() if not str(error).startswith("Tunnel connection failed"):
                return Failure("refused", error.strerror or str(error))
        return Failure("proxy", str(error))

    def ask(
        self, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> http.client.HTTPResponse:
        """Send the request; the answer's head."""
        connection = self.connection
        connection.connect()
        connection.sock.settimeout(self.limits.first_byte)
        connection.request(
            method, self.target, body, {"User-Agent": "wordmill", **headers, **self.extra}
        )
        return connection.getresponse()

    def _exchange(
        self, method: str, headers: Mapping[str, str], body: bytes | None, started: float
    ) -> Response | Failure:
        answer = self.ask(method, headers, body)
        pieces: list[bytes] = []
        size = 0
        while piece := answer.read1(65536):
            pieces.append(piece)
            size += len(piece)
            if size > self.limits.reply:
                return Failure("too_large", f"more than {self.limits.reply} bytes")
        if self.late.is_set():
            return self._timeout(started)
        if answer.length:
            return Failure("dropped", f"the answer ended {answer.length} bytes early")
        return Response(
            status=answer.status,
            headers={name.lower(): value for name, value in answer.getheaders()},
            body=b"".join(pieces),
            seconds=time.monotonic() - started,
        )

    def end(self) -> None:
        """Break it off, from another thread."""
        self.late.set()
        sock = self.connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it had ended by itself

    def _timeout(self, started: float) -> Failure:
        return Failure("timeout", f"nothing after {time.monotonic() - started:.1f} s")


def _proxy(parts: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for this address."""
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    named = proxies.get(parts.scheme) or proxies.get("all")
    if not named:
        return None
    return urlsplit(named if "://" in named else f"http://{named}")


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
