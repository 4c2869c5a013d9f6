"""A real Matrix homeserver: Synapse on loopback, on SQLite, with the limits that it has by default.

It is licensed under the AGPL and only ever run as a program of its own, from an environment of its
own: `scripts/get-synapse` makes that, in build/venv-synapse.
"""

import base64
import datetime
import hashlib
import hmac
import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / "build" / "venv-synapse" / "bin" / "python"
MANY = {"per_second": 10_000.0, "burst_count": 100_000}
PATIENCE = 120.0

UNBOUND: dict[str, Any] = {
    # What has nothing to do with messages and would only make tests wait; `rc_message`, which
    # bounds what is said, is as it is by default.
    "rc_registration": MANY,
    "rc_login": {"address": MANY, "account": MANY, "failed_attempts": MANY},
    "rc_joins": {"local": MANY, "remote": MANY},
    "rc_invites": {"per_room": MANY, "per_user": MANY, "per_issuer": MANY},
    "rc_room_creation": MANY,
}


@dataclass
class Server:
    """A homeserver. `url`: for clients.  name: the part of ids behind the colon.

    federation: the port for other homeservers, 0 for none; `sealed` is then its certificate, which
    is all that it trusts.
    """

    root: Path
    name: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    port: int = 0
    federation: int = 0
    sealed: Path | None = None
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Server":
        """Begin to serve; the same data as before, if it ran before."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        _write(self.root / "log.yaml", _log(self.root / "homeserver.log"))
        key = self.root / "signing.key"
        if not key.exists():
            seed = base64.b64encode(os.urandom(32)).decode().rstrip("=")
            key.write_text(f"ed25519 a_test {seed}\n", encoding="ascii")
        _write(self.root / "homeserver.yaml", self._config())
        with (self.root / "out.log").open("ab") as out:
            self.process = subprocess.Popen(
                [str(PYTHON), "-m", "synapse.app.homeserver", "-c", "homeserver.yaml"],
                cwd=self.root, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                    return self
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        raise AssertionError((self.root / "out.log").read_text()[-3000:])

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def register(self, user: str, password: str = "a long secret", *, admin: bool = False) -> str:
        """An account; its whole id."""
        nonce = self.call("GET", "/_synapse/admin/v1/register")["nonce"]
        kind = b"admin" if admin else b"notadmin"
        mac = hmac.new(
            self.secret.encode(),
            b"\0".join([nonce.encode(), user.encode(), password.encode(), kind]),
            hashlib.sha1,
        ).hexdigest()
        body = {"nonce": nonce, "username": user, "password": password, "admin": admin, "mac": mac}
        return str(self.call("POST", "/_synapse/admin/v1/register", body)["user_id"])

    def token(self, user: str, password: str = "a long secret") -> str:
        """A token of an account, as another client would get one."""
        body = {
            "type": "m.login.password", "password": password,
            "identifier": {"type": "m.id.user", "user": user},
        }  # fmt: skip
        return str(self.call("POST", "/_matrix/client/v3/login", body)["access_token"])

    def lift_limit(self, user: str) -> None:
        """Let an account say as much as it wants, as an admin can."""
        path = f"/_synapse/admin/v1/users/{user}/override_ratelimit"
        self.call("POST", path, {"messages_per_second": 0, "burst_count": 0}, self.admin())

    def admin(self) -> str:
        """The token of an admin of the homeserver, made now."""
        name = f"admin{secrets.token_hex(4)}"
        self.register(name, admin=True)
        return self.token(name)

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str = ""
    ) -> dict[str, Any]:
        """A request; its answer. Raises urllib's HTTPError."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def _config(self) -> dict[str, Any]:
        root = str(self.root)
        return {
            "server_name": self.name,
            "public_baseurl": f"{self.url}/",
            "report_stats": False,
            "listeners": [_listener(self.port, "client")],
            "federation_domain_whitelist": [],
            "trusted_key_servers": [],
            "suppress_key_server_warning": True,
            "database": {"name": "sqlite3", "args": {"database": f"{root}/homeserver.db"}},
            "media_store_path": f"{root}/media",
            "signing_key_path": f"{root}/signing.key",
            "pid_file": f"{root}/pid",
            "log_config": f"{root}/log.yaml",
            "registration_shared_secret": self.secret,
            "macaroon_secret_key": self.secret,
            "form_secret": self.secret,
            "enable_registration": False,
            "presence": {"enabled": False},
            "url_preview_enabled": False,
            **UNBOUND,
            **self._federated(),
            **self.extra,
        }  # fmt: skip

    def _federated(self) -> dict[str, Any]:
        if self.sealed is None:
            return {}
        return {
            "listeners": [
                _listener(self.port, "client"), _listener(self.federation, "federation", tls=True),
            ],
            "federation_domain_whitelist": None,
            "tls_certificate_path": str(self.sealed),
            "tls_private_key_path": str(self.sealed),
            "federation_custom_ca_list": [str(self.sealed)],
            "ip_range_blacklist": [],
            "federation_ip_range_blacklist": [],
            "rc_federation": {"reject_limit": 10_000, "sleep_limit": 10_000},
        }  # fmt: skip


@contextmanager
def serving(folder: Path, name: str = "example.org", **extra: Any) -> Iterator[Server]:
    """A homeserver; where Synapse is not installed the test is skipped, in CI it fails."""
    _needed()
    server = Server(folder, name, extra)
    try:
        yield server.start()
    finally:
        server.stop()


@contextmanager
def federating(folder: Path) -> Iterator[tuple[Server, Server]]:
    """Two homeservers that talk to each other, as `serving`.

    They are named by their ports here, so that neither DNS nor anything else is asked for them.
    """
    _needed()
    folder.mkdir(parents=True, exist_ok=True)
    sealed = folder / "certificate.pem"
    sealed.write_bytes(_certificate())
    with ExitStack() as stack:
        made = []
        for number in range(2):
            port = free_port()
            server = Server(
                folder / str(number), f"localhost:{port}", federation=port, sealed=sealed
            )
            stack.callback(server.stop)
            made.append(server.start())
        yield made[0], made[1]


def _needed() -> None:
    if not PYTHON.exists():
        words = "Synapse is not installed: scripts/get-synapse puts it into build/venv-synapse."
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)


def _certificate() -> bytes:
    """A key and its certificate for `localhost`, which vouches for itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    kept = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return kept + made.public_bytes(serialization.Encoding.PEM)


def _listener(port: int, resource: str, *, tls: bool = False) -> dict[str, Any]:
    return {
        "port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": tls,
        "resources": [{"names": [resource], "compress": False}],
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")  # JSON is YAML


def _log(path: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "handlers": {"file": {"class": "logging.FileHandler", "filename": str(path)}},
        "root": {"level": "WARNING", "handlers": ["file"]},
        "disable_existing_loggers": False,
    }
