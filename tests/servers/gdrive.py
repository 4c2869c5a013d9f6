"""Google Drive and Google's sign-in, on a port the system chose.

Tokens are given for an authorization code with PKCE, for a refresh token and for the signed JWT of
a service account, whose signature, audience and times are looked at. Files go up in resumable
sessions, whose pieces must fit together. `faults` is what happens to the next requests for files:
a status, `"drop"` (the connection breaks after the request was read), `"half"` (half of a piece is
kept, then it breaks), or a function of the server, after which the request goes on.
"""

import base64
import hashlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from wordmill.accounts import Person
from wordmill.channels.house import House

FOLDER = "application/vnd.google-apps.folder"
FILE_SCOPE = "https://www.googleapis.com/auth/drive.file"
DRIVE_SCOPE = "https://www.googleapis.com/auth/drive"
GRANULE = 256 * 1024
Fault = int | str | Callable[["GDrive"], None] | tuple[int, dict[str, str], dict[str, Any]]


class GDrive:
    """What the server knows and was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.client, self.secret = "client-1", "client-s3cret"
        self.files: dict[str, dict[str, Any]] = {}
        self.data: dict[str, bytes] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.refresh: dict[str, str] = {}
        """Refresh tokens that are good, and whose they are."""
        self.tokens: dict[str, str] = {}
        """Access tokens that are good, and whose they are."""
        self.faults: list[Fault] = []
        self.denied = False
        self.granted: str | None = None
        """The scope that people grant; None for what is asked."""
        self.asked: list[str] = []
        self.token_requests: list[str] = []
        self.given_scopes: dict[str, str] = {}
        self.seen: set[tuple[str, str]] = set()
        """(whose, file): what an application with drive.file may see; its own files."""
        self._ids = itertools.count(1)
        self.key = rsa.generate_private_key(65537, 2048)
        self.add("drive00001", "Company", FOLDER, drive="drive00001")
        self.add("folder0001", "Reports", FOLDER, drive="drive00001")
        self.add("private001", "Private", FOLDER, drive="")
        self.add("table00001", "A table", "application/vnd.google-apps.spreadsheet")

    def add(self, name: str, title: str, kind: str, *, drive: str = "", **more: Any) -> None:
        """A file that was there before."""
        about = {"id": name, "name": title, "mimeType": kind, "trashed": False, **more}
        self.files[name] = about | ({"driveId": drive} if drive else {})

    def service_account(self) -> str:
        """The JSON that Google gives for one."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()  # fmt: skip
        return json.dumps(
            {
                "type": "service_account", "client_email": "mill@project.example",
                "private_key_id": "k1", "private_key": pem,
                "token_uri": "https://evil.example/token",
            }
        )  # fmt: skip

    def connect(self, who: str = "ann@gmail.example") -> str:
        """A refresh token, without a browser."""
        token = f"refresh-{next(self._ids)}"
        self.refresh[token] = who
        self.given_scopes[who] = FILE_SCOPE
        return token

    def revoke(self) -> None:
        """Everybody takes back what they had granted."""
        self.refresh.clear()
        self.tokens.clear()

    def documents(self, folder: str | None = None) -> list[dict[str, Any]]:
        """What was put there."""
        return [
            one
            for name, one in self.files.items()
            if name in self.data and (folder is None or folder in one.get("parents", ()))
        ]

    # Signing in

    def authorize(self, asked: Mapping[str, str]) -> str:
        """Where the browser is sent back to; whoever comes says yes at once, or no if `denied`."""
        if self.denied:
            answer = {"error": "access_denied", "state": asked["state"]}
        else:
            code = f"code-{next(self._ids)}"
            self.codes[code] = dict(asked)
            answer = {"code": code, "state": asked["state"]}
        return asked["redirect_uri"] + "?" + urlencode(answer)

    def token(self, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        self.token_requests.append(form["grant_type"])
        bad = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
        more: dict[str, Any] = {}
        if form["grant_type"].endswith("jwt-bearer"):
            who = self._claimed(form["assertion"])
            if who is None:
                return 400, {"error": "invalid_grant", "error_description": "Invalid JWT."}
        elif form.get("client_id") != self.client or form.get("client_secret") != self.secret:
            return 401, {"error": "invalid_client"}
        elif form["grant_type"] == "authorization_code":
            begun = self.codes.pop(form.get("code", ""), None)
            proof = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if begun is None or begun["redirect_uri"] != form["redirect_uri"]:
                return 400, bad
            if _coded(proof) != begun["code_challenge"]:
                return 400, bad
            who = "ann@gmail.example"
            scope = begun["scope"] if self.granted is None else self.granted
            self.given_scopes[who] = scope
            more = {"scope": scope}
            if begun.get("access_type") == "offline":
                more["refresh_token"] = self.connect(who)
                self.given_scopes[who] = scope
        elif form.get("refresh_token") in self.refresh:
            who = self.refresh[form["refresh_token"]]
        else:
            return 400, bad
        token = f"ya29.token-{next(self._ids)}"
        self.tokens[token] = who
        return 200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer", **more}

    def _claimed(self, jwt: str) -> str | None:
        """Whose service account a JWT is of; None for one that is not good."""
        head, claims, signature = jwt.split(".")
        try:
            self.key.public_key().verify(
                _decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(),
                hashes.SHA256(),
            )  # fmt: skip
        except InvalidSignature:
            return None
        told = json.loads(_decoded(claims))
        now = time.time()
        fine = (
            json.loads(_decoded(head)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
            and told["aud"] == f"{self.url}/token"
            and told["iat"] <= now + 60
            and now < told["exp"] <= told["iat"] + 3600
            and told["scope"] == DRIVE_SCOPE
        )
        self.given_scopes[told["iss"]] = told["scope"]
        return told["iss"] if fine else None

    # Files

    def visible(self, who: str, name: str) -> dict[str, Any] | None:
        """A file as somebody's application sees it."""
        if self.given_scopes.get(who) == FILE_SCOPE and (who, name) not in self.seen:
            return None
        return self.files.get(name)

    def create(self, who: str, about: dict[str, Any], data: bytes | None) -> dict[str, Any]:
        name = about.get("id") or f"made{next(self._ids):06d}"
        kind = about.get("mimeType", "application/octet-stream")
        part = "document" if kind == "application/vnd.google-apps.document" else "file"
        self.files[name] = {
            "id": name, "mimeType": kind, "trashed": False, "parents": ["root"], "owner": who,
            **about, "webViewLink": f"https://docs.google.com/{part}/d/{name}/edit",
        }  # fmt: skip
        self.seen.add((who, name))
        if data is not None:
            self.data[name] = data
        return self.files[name]


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _error(code: int, message: str, reason: str = "") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "errors": [{"reason": reason}]}}


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    google: GDrive

    def log_message(self, *_: object) -> None: ...

    def tell(self, status: int, told: Any = None, headers: Mapping[str, str] | None = None) -> None:
        data = b"" if told is None else json.dumps(told).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do(self) -> None:
        google = self.google
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        google.asked.append(f"{self.command} {parts.path}")
        if parts.path == "/o/oauth2/v2/auth":
            self.tell(302, None, {"Location": google.authorize(query)})
            return
        if parts.path in ("/token", "/revoke"):
            form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            if parts.path == "/revoke":
                self.tell(200 if google.refresh.pop(form["token"], None) else 400, {})
            else:
                self.tell(*google.token(form))
            return
        fault = google.faults.pop(0) if google.faults else None
        if callable(fault):
            fault(google)
        elif isinstance(fault, int):
            self.tell(fault, _error(fault, "Backend error.", "backendError"))
            return
        elif isinstance(fault, tuple):
            self.tell(fault[0], fault[2], fault[1])
            return
        elif fault == "drop":
            self.close_connection = True
            return
        passport = self.headers.get("Authorization", "").removeprefix("Bearer ")
        who = google.tokens.get(passport)
        if who is None:
            self.tell(401, _error(401, "Invalid Credentials", "authError"))
        elif parts.path.startswith("/upload/drive/v3/files"):
            self.upload(who, query, body, half=fault == "half")
        else:
            self.plain(who, parts.path, body, lost=fault == "lost")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do

    def plain(self, who: str, path: str, body: bytes, *, lost: bool) -> None:
        google = self.google
        found = re.fullmatch(r"/drive/v3/files/([^/]+)", path)
        if path == "/drive/v3/about":
            self.tell(200, {"user": {"emailAddress": who}})
        elif path == "/drive/v3/files/generateIds":
            self.tell(200, {"ids": [f"made{next(google._ids):06d}"]})
        elif path == "/drive/v3/files" and self.command == "POST":
            wanted = json.loads(body)
            if wanted.get("id") in google.files:
                self.tell(409, _error(409, "A file already exists with the provided ID."))
                return
            made = google.create(who, wanted, None)
            if lost:
                self.close_connection = True
                return
            self.tell(200, made)
        elif found and (about := google.visible(who, found[1])) is not None:
            self.tell(200, about)
        else:
            self.tell(404, _error(404, "File not found: .", "notFound"))

    def upload(self, who: str, query: Mapping[str, str], body: bytes, *, half: bool) -> None:
        google = self.google
        if "session" not in query:
            about = json.loads(body)
            assert query["uploadType"] == "resumable"
            assert query["supportsAllDrives"] == "true"
            for parent in about["parents"]:
                if google.visible(who, parent) is None:
                    self.tell(404, _error(404, f"File not found: {parent}.", "notFound"))
                    return
            name = f"session{next(google._ids)}"
            size = int(self.headers["X-Upload-Content-Length"])
            google.uploads[name] = {"about": about, "size": size, "data": b"", "done": None}
            place = f"{google.url}/upload/drive/v3/files?session={quote(name)}"
            self.tell(200, None, {"Location": place})
            return
        session = google.uploads.get(query["session"])
        if session is None:
            self.tell(404, _error(404, "Session not found.", "notFound"))
            return
        if session["done"] is not None:
            self.tell(200, session["done"])
            return
        span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", self.headers["Content-Range"])
        assert span, self.headers["Content-Range"]
        assert int(span[3]) == session["size"]
        if span[1] is not None:
            assert int(span[1]) == len(session["data"]), "a piece that does not fit"
            assert int(span[2]) - int(span[1]) + 1 == len(body)
            last = int(span[2]) + 1 == session["size"]
            assert last or len(body) % GRANULE == 0
            if half:
                keep = len(body) // 2 // GRANULE * GRANULE
                session["data"] += body[:keep]
                self.close_connection = True
                return
            session["data"] += body
        if len(session["data"]) == session["size"]:
            session["done"] = google.create(who, session["about"], session["data"])
            self.tell(200, session["done"])
            return
        came = {"Range": f"bytes=0-{len(session['data']) - 1}"} if session["data"] else {}
        self.tell(308, None, came)


@contextmanager
def serving() -> Iterator[GDrive]:
    """The server, until the end of the block."""
    google = GDrive()
    door = type("Door", (_Door,), {"google": google})
    with ThreadingHTTPServer(("127.0.0.1", 0), door) as server:
        server.daemon_threads = True
        google.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield google
        server.shutdown()


def connect(house: House, person: Person) -> None:
    """Let somebody of a house sign in here, as a browser does it."""
    begun = house.accounts.drives.begin(person, "http://127.0.0.1:1/drive/back")
    answer = httpx.get(begun.url)
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    house.accounts.drives.finish(
        person, {name: values[0] for name, values in query.items()}, begun.state
    )
