"""A hub on a socket: what the hub's own client and ours ask of one, from folders, with faults.

A repository is a list of commits, each a folder of files; the last is `main`. Files of weights are
"large": the hub names them by their SHA-256 and hands them out through a redirect to a second
server, which must never see a token. Faults are attributes that a test sets while it runs.
"""

import hashlib
import json
import re
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

LARGE = {".safetensors", ".bin", ".gguf", ".pt", ".onnx"}
DAY = 86_400.0
BEGAN = 1_767_225_600.0  # 2026-01-01


class Asked(NamedTuple):
    """A request that came. store: it came to the second server, which has the large files."""

    method: str
    path: str
    span: str | None
    token: str | None
    store: bool


@dataclass
class Commit:
    """A state of a repository: its files by name."""

    sha: str
    title: str
    at: float
    files: dict[str, Path]


@dataclass
class Repository:
    """What the hub knows of one."""

    name: str
    commits: list[Commit] = field(default_factory=list)
    license: str | None = "apache-2.0"
    task: str = "text-generation"
    downloads: int = 0
    likes: int = 0
    tags: tuple[str, ...] = ()
    gated: str | bool = False
    private: bool = False
    readers: set[str] = field(default_factory=set)
    """Tokens that may read what is gated or private."""

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch or a hash."""
        if revision == "main":
            return self.commits[-1]
        return next((one for one in self.commits if revision in (one.sha, one.title)), None)


@dataclass
class Faults:
    """What goes wrong. rate: bytes a second.  cut: bytes after which a body of the store breaks
    off, `cuts` times.  spoil: names of files that are sent with one byte changed.  busy: how many
    requests of the API are answered by 429.  down: every request by 503.
    """

    rate: float | None = None
    cut: int | None = None
    cuts: int = 0
    spoil: set[str] = field(default_factory=set)
    busy: int = 0
    down: bool = False


class Hub:
    """The server. `url` is what HF_ENDPOINT is set to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repositories: dict[str, Repository] = {}
        self.faults = Faults()
        self.log: list[Asked] = []
        self.tokens: dict[str, str] = {"hf_reader_of_the_stand_in": "ann"}
        self.page = 100
        self.moved: dict[str, str] = {}
        """Names that repositories had before."""
        self.lock = threading.Lock()
        self._servers = [self._server(store) for store in (False, True)]
        self.url, self.store = (f"http://127.0.0.1:{one.server_port}" for one in self._servers)

    def _server(self, store: bool) -> ThreadingHTTPServer:
        handler = type("Bound", (_Handler,), {"hub": self, "store": store})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def close(self) -> None:
        """End it."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def put(self, name: str, folder: Path, title: str = "", **about: Any) -> str:
        """A commit with the files of a folder, into a repository that is made if absent; its hash.

        about: fields of `Repository`.
        """
        repository = self.repositories.setdefault(name, Repository(name))
        for key, value in about.items():
            setattr(repository, key, value)
        number = len(repository.commits)
        kept = self.folder / name / str(number)
        shutil.copytree(folder, kept)
        files = {
            path.relative_to(kept).as_posix(): path
            for path in sorted(kept.rglob("*"))
            if path.is_file()
        }
        words = "".join(f"{file} {digests(path)[0]}\n" for file, path in files.items())
        sha = hashlib.sha1(f"{name} {number}\n{words}".encode()).hexdigest()
        title = title or f"commit {number}"
        repository.commits.append(Commit(sha, title, BEGAN + number * DAY, files))
        return sha

    def bodies(self, name: str) -> list[Asked]:
        """The requests for the content of a file."""
        return [one for one in self.log if one.method == "GET" and one.path.endswith(f"/{name}")]


@contextmanager
def open_hub(folder: Path) -> Iterator[Hub]:
    """A hub that ends with the block."""
    hub = Hub(folder)
    try:
        yield hub
    finally:
        hub.close()


_DIGESTS: dict[tuple[str, int, int], tuple[str, str]] = {}


def digests(path: Path) -> tuple[str, str]:
    """Of a file, what git calls it (SHA-1 of a blob) and its SHA-256."""
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key not in _DIGESTS:
        data = path.read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        _DIGESTS[key] = (blob, hashlib.sha256(data).hexdigest())
    return _DIGESTS[key]


def counted(files: dict[str, Path]) -> dict[str, Any] | None:
    """Parameters by type, from the headers of the safetensors files."""
    counts: dict[str, int] = {}
    for name, path in files.items():
        if not name.endswith(".safetensors"):
            continue
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        for tensor, entry in header.items():
            if tensor != "__metadata__":
                number = 1
                for side in entry["shape"]:
                    number *= side
                counts[entry["dtype"]] = counts.get(entry["dtype"], 0) + number
    return {"parameters": counts, "total": sum(counts.values())} if counts else None


def instant(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    store: bool
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
        with self.hub.lock:
            faults = self.hub.faults
            asked = Asked(self.command, path, self.headers.get("Range"), self._token(), self.store)
            self.hub.log.append(asked)
            busy = path.startswith("/api/") and faults.busy > 0
            faults.busy -= busy
        if faults.down:
            self._json({"error": "Service Unavailable"}, 503)
        elif busy:
            self._json({"error": "Too many requests"}, 429, {"Retry-After": "1"})
        elif self.store:
            self._stored(path)
        elif old := next((name for name in self.hub.moved if f"/{name}/" in f"{path}/"), None):
            self._json({}, 307, {"Location": self.path.replace(old, self.hub.moved[old], 1)})
        else:
            self._routed(path, query, body)

    def _routed(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if path == "/api/models":
            self._found(query)
        elif path == "/api/whoami-v2":
            self._who()
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self._about(match[1], match[2] or "revision", match[3] or "main", query)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(refs|commits/([^/]+))", path):
            self._history(match[1], match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolved(match[1], match[2], match[3])
        else:
            self._refuse(404, "EntryNotFound", f"{self.command} {path} is not served")

    # What is known

    def _found(self, query: dict[str, list[str]]) -> None:
        words = query.get("search", [""])[0].lower()
        author = query.get("author", [""])[0]
        wanted = {word for text in query.get("filter", []) for word in text.split(",")}
        task = query.get("pipeline_tag", [""])[0]
        shown = [
            self._info(one, one.commits[-1], query)
            for one in self.hub.repositories.values()
            if words in one.name.lower()
            and (not one.private or self._token() in one.readers)
            and (not author or one.name.partition("/")[0] == author)
        ]
        shown = [
            one
            for one in shown
            if wanted <= {*one["tags"], one["pipeline_tag"]}
            and (not task or one["pipeline_tag"] == task)
        ]
        order = query.get("sort", ["downloads"])[0]
        order = {"last_modified": "lastModified", "created_at": "createdAt"}.get(order, order)
        shown.sort(key=lambda one: one.get(order) or 0, reverse=True)
        most = min(self.hub.page, int(query.get("limit", ["1000"])[0]))
        begin = int(query.get("cursor", ["0"])[0])
        headers = {}
        if begin + most < len(shown):
            following = urlencode({**query, "cursor": [str(begin + most)]}, doseq=True)
            headers["Link"] = f'<{self.hub.url}/api/models?{following}>; rel="next"'
        self._json(shown[begin : begin + most], headers=headers)

    def _who(self) -> None:
        name = self.hub.tokens.get(self._token() or "")
        if name is None:
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return
        token = {"accessToken": {"displayName": "stand-in", "role": "read"}}
        self._json({"name": name, "type": "user", "auth": token, "orgs": []})

    def _about(self, name: str, what: str, revision: str, query: dict[str, list[str]]) -> None:
        found = self._repository(name, revision, gate=what == "tree")
        if found is None:
            return
        repository, commit = found
        if what == "tree":
            self._json([self._entry(file, path) for file, path in commit.files.items()])
        else:
            self._json(self._info(repository, commit, query))

    def _history(self, name: str, what: str) -> None:
        kind, _, revision = what.partition("/")
        found = self._repository(name, revision or "main", gate=False)
        if found is None:
            return
        repository, commit = found
        if kind == "refs":
            main = {"name": "main", "ref": "refs/heads/main"}
            branch = {**main, "targetCommit": repository.commits[-1].sha}
            self._json({"branches": [branch], "tags": [], "converts": []})
            return
        until = repository.commits.index(commit) + 1
        self._json(
            [
                {
                    "id": one.sha,
                    "title": one.title,
                    "message": "",
                    "authors": [],
                    "date": instant(one.at),
                }
                for one in reversed(repository.commits[:until])
            ]
        )

    def _info(
        self, repository: Repository, commit: Commit, query: dict[str, list[str]]
    ) -> dict[str, Any]:
        config: dict[str, Any] = {}
        if "config.json" in commit.files:
            try:
                config = json.loads(commit.files["config.json"].read_text())
            except ValueError:
                config = {}
        license_ = repository.license
        shown: dict[str, Any] = {
            "_id": hashlib.md5(repository.name.encode()).hexdigest()[:24],
            "id": repository.name,
            "modelId": repository.name,
            "author": repository.name.partition("/")[0],
            "sha": commit.sha,
            "lastModified": instant(commit.at),
            "createdAt": instant(BEGAN),
            "private": repository.private,
            "gated": repository.gated,
            "disabled": False,
            "downloads": repository.downloads,
            "likes": repository.likes,
            "library_name": "transformers",
            "pipeline_tag": repository.task,
            "usedStorage": sum(path.stat().st_size for path in commit.files.values()),
            "tags": [*repository.tags, *([f"license:{license_}"] if license_ else [])],
            "cardData": {"license": license_} if license_ else {},
            "config": {
                key: config[key] for key in ("architectures", "model_type") if key in config
            },
            "siblings": [
                self._sibling(file, path, "blobs" in query) for file, path in commit.files.items()
            ],
        }
        if weights := counted(commit.files):
            shown["safetensors"] = weights
        return shown

    def _sibling(self, name: str, path: Path, sizes: bool) -> dict[str, Any]:
        if not sizes:
            return {"rfilename": name}
        entry = self._entry(name, path)
        shown = {"rfilename": name, "size": entry["size"], "blobId": entry["oid"]}
        if "lfs" in entry:
            large = entry["lfs"]
            shown["lfs"] = {"sha256": large["oid"], "size": large["size"], "pointerSize": 134}
        return shown

    def _entry(self, name: str, path: Path) -> dict[str, Any]:
        blob, digest = digests(path)
        size = path.stat().st_size
        entry: dict[str, Any] = {"type": "file", "oid": blob, "size": size, "path": name}
        if path.suffix in LARGE:
            entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 134}
        return entry

    # Files

    def _resolved(self, name: str, revision: str, file: str) -> None:
        found = self._repository(name, revision, gate=True)
        if found is None:
            return
        _, commit = found
        path = commit.files.get(file)
        headers = {"X-Repo-Commit": commit.sha}
        if path is None:
            self._refuse(404, "EntryNotFound", f"{file} is not in {name}", headers)
            return
        blob, digest = digests(path)
        if path.suffix not in LARGE:
            self._body(path, {**headers, "ETag": f'"{blob}"'})
            return
        size = str(path.stat().st_size)
        place = f"{self.hub.store}/{quote(name)}/{commit.sha}/{quote(file)}"
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": size, "Location": place}
        self._json({}, 302, {**headers, **linked})

    def _stored(self, path: str) -> None:
        owner, name, sha, file = path.lstrip("/").split("/", 3)
        repository = self.hub.repositories.get(f"{owner}/{name}")
        commit = repository.at(sha) if repository else None
        if commit is None or file not in commit.files:
            self._refuse(404, "EntryNotFound", path)
            return
        self._body(commit.files[file], {"ETag": f'"{digests(commit.files[file])[1]}"'})

    def _body(self, path: Path, headers: dict[str, str]) -> None:
        data = path.read_bytes()
        if path.name in self.hub.faults.spoil:
            data = bytes([data[0] ^ 1]) + data[1:]
        size, begin, end = len(data), 0, len(data)
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if span:
            begin = int(span[1])
            end = min(size, int(span[2]) + 1) if span[2] else size
            if begin >= size:
                self._json({}, 416, {"Content-Range": f"bytes */{size}"})
                return
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(end - begin)}
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self._send(data[begin:end])

    def _send(self, data: bytes) -> None:
        faults, sent = self.hub.faults, 0
        piece = 65_536 if faults.rate is None else max(1, min(65_536, int(faults.rate / 20)))
        while sent < len(data):
            with self.hub.lock:
                cut = self.store and faults.cuts > 0 and faults.cut is not None
                cut = cut and sent >= (faults.cut or 0)
                faults.cuts -= cut
            if cut:
                self.close_connection = True
                self.connection.shutdown(2)
                return
            most = piece if faults.cut is None else max(1, min(piece, faults.cut))
            try:
                self.wfile.write(data[sent : sent + most])
            except OSError:
                self.close_connection = True
                return
            sent += most
            if faults.rate is not None:
                time.sleep(most / faults.rate)

    # Answers

    def _token(self) -> str | None:
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return token if scheme == "Bearer" and token else None

    def _repository(
        self, name: str, revision: str, *, gate: bool
    ) -> tuple[Repository, Commit] | None:
        """What is asked for, if there is such a thing and who asks may see it."""
        token, repository = self._token(), self.hub.repositories.get(name)
        if token is not None and token not in self.hub.tokens:
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return None
        if repository is None or (repository.private and token not in repository.readers):
            self._refuse(404 if token else 401, "RepoNotFound", "Repository not found")
            return None
        if gate and repository.gated and token not in repository.readers:
            words = f"Access to model {name} is restricted."
            self._refuse(403 if token else 401, "GatedRepo", words)
            return None
        commit = repository.at(unquote(revision))
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, commit

    def _refuse(
        self, status: int, code: str, words: str, headers: dict[str, str] | None = None
    ) -> None:
        said = {"X-Error-Code": code, "X-Error-Message": words} if code else {}
        self._json({"error": words}, status, {**said, **(headers or {})})

    def _json(
        self, value: object, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
