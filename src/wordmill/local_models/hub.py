"""What the hub knows of models: search, a model's card and facts, its files, its history.

The few questions that are asked of it, over `outbound`, so that they have deadlines, ceilings and
the house's proxies, and need nothing installed. The address is HF_ENDPOINT or the setting
`hub_url`; the token goes to that address alone, and never along a redirect to another host.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote, urlencode, urljoin, urlsplit

from wordmill.errors import HubError, InvalidInput
from wordmill.local_models.rules import COMMIT, check_repository, check_revision
from wordmill.local_models.types import Remote
from wordmill.outbound import Failure, Limits, Response, Streamed, send, stream

HOME: Final = "https://huggingface.co"
HOPS: Final = 5
"""Redirects that are followed."""
MOVED: Final = (301, 302, 303, 307, 308)
PATIENCE: Final = 10.0
"""The longest wait, in seconds, that a busy hub may ask for before it is asked once more."""
CARD: Final = 1 << 20
"""Bytes of the longest card that is shown."""
_LIMITS: Final = Limits(connect=10, first_byte=30, total=60, reply=32 << 20)

Sort: TypeAlias = Literal["downloads", "likes", "last_modified", "created_at", "trending"]
_SORTS: Final[Mapping[str, str]] = {
    "downloads": "downloads",
    "likes": "likes",
    "last_modified": "lastModified",
    "created_at": "createdAt",
    "trending": "trendingScore",
}
_EXPANDED: Final = (
    "downloads", "likes", "pipeline_tag", "safetensors", "gguf", "gated", "private", "tags",
    "lastModified", "library_name",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A model on the hub, as a search shows it. parameters: 0 where the hub does not know.

    gated: its owner lets people in.  changed: an ISO time.
    """

    repository: str
    task: str
    license: str
    parameters: int
    downloads: int
    likes: int
    gated: bool
    private: bool
    changed: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class About:
    """A model on the hub at one commit. counts: parameters by the type of safetensors."""

    found: Found
    commit: str
    files: tuple[Remote, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """A commit: its hash, its title, and when, as an ISO time."""

    commit: str
    title: str
    at: str


class Hub:
    """A hub at an address. token: of somebody there; None asks as a stranger."""

    def __init__(self, url: str = HOME, token: str | None = None) -> None:
        self.url, self.token = url.rstrip("/"), token

    def search(
        self,
        words: str = "",
        *,
        task: str = "",
        license_: str = "",
        author: str = "",
        least: int | None = None,
        most: int | None = None,
        sort: Sort = "downloads",
        limit: int = 20,
    ) -> list[Found]:
        """The models that fit, the first by `sort` first.

        least, most: parameters; models whose number the hub does not know are left out then.
        Raises HubError, InvalidInput.
        """
        asked: list[tuple[str, str]] = [("sort", _SORTS[sort])]
        if words:
            asked.append(("search", words[:200]))
        if author:
            asked.append(("author", author[:100]))
        if task:
            asked.append(("pipeline_tag", task[:100]))
        if license_:
            asked.append(("filter", f"license:{license_[:100]}"))
        asked += [("expand", name) for name in _EXPANDED]
        bounded = least is not None or most is not None
        if bounded:  # a mirror may not know it: what comes is looked at below
            ends = (("min", least), ("max", most))
            ranges = [f"{end}:{number / 1e6:g}M" for end, number in ends if number is not None]
            asked.append(("num_parameters", ",".join(ranges)))
        asked.append(("limit", str(min(100, limit * 5 if bounded else limit))))
        url: str | None = f"{self.url}/api/models?{urlencode(asked)}"
        found: list[Found] = []
        for _ in range(HOPS):
            if url is None or len(found) >= limit:
                break
            answer = self._asked(url, "the hub's models")
            entries = _json(answer)
            for entry in entries if isinstance(entries, list) else ():
                one = _found(entry)
                inside = (least or 0) <= one.parameters <= (most or 1 << 62)
                if not bounded or (one.parameters and inside):
                    found.append(one)
            url = self._next(answer)
        return found[:limit]

    def about(self, repository: str, revision: str = "main") -> About:
        """A model at a branch, a tag or a commit.

        Raises HubError where there is none, or the token opens it not; InvalidInput for a name.
        """
        check_repository(repository)
        check_revision(revision)
        at = quote(revision, safe="")
        url = f"{self.url}/api/models/{repository}/revision/{at}?blobs=true"
        entry = _json(self._asked(url, repository, revision))
        if not isinstance(entry, dict):
            raise HubError(f"The hub's answer on {repository} is no description of a model.")
        commit = entry.get("sha")
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise HubError(f"The hub does not say which commit of {repository} this is.")
        files = tuple(_remote(one) for one in entry.get("siblings") or () if isinstance(one, dict))
        weights = entry.get("safetensors")
        counts = weights.get("parameters") if isinstance(weights, dict) else None
        return About(
            _found(entry),
            commit,
            files,
            {str(name): int(number) for name, number in counts.items() if isinstance(number, int)}
            if isinstance(counts, dict)
            else {},
        )

    def card(self, repository: str, revision: str = "main") -> str:
        """The page that the model's owner wrote, as Markdown without its header; "" for none.

        It is a stranger's text: show it through what makes such a text harmless.
        """
        text = self.small(repository, revision, "README.md", CARD)
        if text is None:
            return ""
        page = text.decode("utf-8", "replace")
        if page.startswith("---"):
            _, _, rest = page[3:].partition("\n---")
            page = rest.partition("\n")[2]
        return page.strip()

    def config(self, repository: str, revision: str) -> dict[str, Any]:
        """The model's configuration; empty where it has none. Raises HubError."""
        text = self.small(repository, revision, "config.json", CARD)
        if text is None:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"config.json of {repository} is no JSON that can be read."
            ) from error
        return found if isinstance(found, dict) else {}

    def small(self, repository: str, revision: str, name: str, most: int) -> bytes | None:
        """The content of a small file; None where there is none. Raises HubError."""
        check_repository(repository)
        url = self.place(repository, revision, name)
        opened = self.open(url, repository, revision, missing=True)
        if opened is None:
            return None
        pieces, size = [], 0
        for piece in opened.pieces():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                opened.close()
                break
        if opened.failure is not None:
            raise HubError(f"{name} of {repository} broke off: {opened.failure.detail}. Try again.")
        return b"".join(pieces)[:most]

    def history(self, repository: str, revision: str = "main") -> list[Change]:
        """The commits up to a revision, the newest first, as far as the first page has them."""
        check_repository(repository)
        at = quote(check_revision(revision), safe="")
        url = f"{self.url}/api/models/{repository}/commits/{at}"
        entries = _json(self._asked(url, repository, revision))
        return [
            Change(str(one.get("id")), str(one.get("title"))[:200], str(one.get("date")))
            for one in (entries if isinstance(entries, list) else ())
            if isinstance(one, dict)
        ]

    def who(self) -> str:
        """Whose token it is. Raises HubError for one that is not good."""
        answer = _json(self._asked(f"{self.url}/api/whoami-v2", "the token"))
        return str(answer.get("name")) if isinstance(answer, dict) else "?"

    def place(self, repository: str, revision: str, name: str) -> str:
        """The address of a file's content."""
        return f"{self.url}/{repository}/resolve/{quote(revision, safe='')}/{quote(name)}"

    def open(
        self, url: str, repository: str, revision: str, begin: int = 0, *, missing: bool = False
    ) -> "Streamed | None":
        """The content of a file from a byte on, along redirects. Close what is returned.

        missing: None for a file that is not there, instead of HubError.
        The token goes to the hub's own host alone.
        """
        for _ in range(HOPS):
            headers = self._headers(url)
            if begin:
                headers["Range"] = f"bytes={begin}-"
            answer = stream("GET", url, headers=headers, limits=_LIMITS)
            if isinstance(answer, Failure):
                raise HubError(f"{_host(url)} cannot be reached: {_words(answer)}.")
            if answer.status in MOVED:
                answer.close()
                url = urljoin(url, answer.headers.get("location", ""))
                if urlsplit(url).scheme not in ("http", "https"):
                    raise HubError(f"The hub sends one to {url[:100]!r}, which is no web address.")
                continue
            if answer.status in (200, 206, 416):
                return answer
            answer.close()
            if answer.status == 404 and missing:
                return None
            code = answer.headers.get("x-error-code", "")
            raise self._refused(answer.status, code, repository, revision)
        raise HubError(f"The hub sends one around in circles for a file of {repository}.")

    def _asked(self, url: str, what: str, revision: str = "main") -> Response:
        answer = self._sent(url)
        if not isinstance(answer, Failure) and answer.status == 429:
            try:
                wait = float(answer.headers.get("retry-after", "1"))
            except ValueError:
                wait = 1.0
            if wait <= PATIENCE:
                time.sleep(max(0.0, wait))
                answer = self._sent(url)
        if isinstance(answer, Failure):
            raise HubError(
                f"The hub at {_host(self.url)} cannot be reached: {_words(answer)}. Models that "
                "are here already can be used."
            )
        if answer.status != 200:
            code = answer.headers.get("x-error-code", "")
            raise self._refused(answer.status, code, what, revision)
        return answer

    def _sent(self, url: str) -> Response | Failure:
        """The answer, along redirects: a repository may have another name by now."""
        for _ in range(HOPS):
            answer = send("GET", url, headers=self._headers(url), limits=_LIMITS)
            moved = not isinstance(answer, Failure) and answer.status in MOVED
            if isinstance(answer, Failure) or not moved:
                return answer
            url = urljoin(url, answer.headers.get("location", ""))
            if urlsplit(url)[:2] != urlsplit(self.url)[:2]:
                return answer
        return answer

    def _refused(self, status: int, code: str, what: str, revision: str) -> HubError:
        if code == "GatedRepo":
            more = (
                "its owner has not let you in: ask on its page, with the account of the token"
                if self.token
                else "its owner lets people in: ask on its page, and give a token of that account "
                "(`wordmill models token`, or HF_TOKEN)"
            )
            return HubError(f"{what} is gated, and {more}.")
        if code == "RevisionNotFound":
            return HubError(f"{what} has no revision {revision!r}.")
        if code == "RepoNotFound" or status == 404:
            more = "or is private, and this token opens it not" if self.token else (
                "or is private; a token opens those (`wordmill models token`, or HF_TOKEN)"
            )  # fmt: skip
            return HubError(f"The hub has no {what}, {more}.")
        if status in (401, 403):
            return HubError(
                "The hub refuses the token: it is expired, or may not read. Make a new one there, "
                "and store it with `wordmill models token`."
                if self.token
                else f"The hub wants a token for {what}: `wordmill models token` stores one."
            )
        if status == 429:
            return HubError("The hub has been asked too much. Try again in some minutes.")
        return HubError(f"The hub at {_host(self.url)} answers {status}. Try again later.")

    def _headers(self, url: str) -> dict[str, str]:
        same = urlsplit(url)[:2] == urlsplit(self.url)[:2]
        return {"Authorization": f"Bearer {self.token}"} if self.token and same else {}

    def _next(self, answer: Response) -> str | None:
        """The next page; only ever of the same hub."""
        link = answer.headers.get("link", "")
        if 'rel="next"' not in link:
            return None
        url = urljoin(self.url, link.partition("<")[2].partition(">")[0])
        return url if urlsplit(url)[:2] == urlsplit(self.url)[:2] else None


def _json(answer: Response) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise HubError("The hub's answer is no JSON. Is the address that of a hub?") from error


def _found(entry: Any) -> Found:
    if not isinstance(entry, dict):
        raise HubError("The hub's answer describes no models. Is the address that of a hub?")
    tags = tuple(str(tag) for tag in entry.get("tags") or () if isinstance(tag, str))
    licences = [tag.partition(":")[2] for tag in tags if tag.startswith("license:")]
    card = entry.get("cardData")
    said = card.get("license") if isinstance(card, dict) else None
    counts = [entry.get("safetensors"), entry.get("gguf")]
    totals = [one.get("total") for one in counts if isinstance(one, dict)]
    numbers = [one for one in totals if isinstance(one, int)]

    def number(key: str) -> int:
        value = entry.get(key)
        return value if isinstance(value, int) else 0

    return Found(
        repository=str(entry.get("id") or entry.get("modelId") or "")[:200],
        task=str(entry.get("pipeline_tag") or "")[:100],
        license=(licences or [said if isinstance(said, str) else ""])[0][:100],
        parameters=numbers[0] if numbers else 0,
        downloads=number("downloads"),
        likes=number("likes"),
        gated=bool(entry.get("gated")),
        private=bool(entry.get("private")),
        changed=str(entry.get("lastModified") or "")[:40],
        tags=tags[:50],
    )


def _remote(entry: Mapping[str, Any]) -> Remote:
    large = entry.get("lfs")
    digest = large.get("sha256") if isinstance(large, dict) else entry.get("blobId")
    size = large.get("size") if isinstance(large, dict) else entry.get("size")
    name = str(entry.get("rfilename"))
    known = isinstance(digest, str) and len(digest) in (40, 64) and digest.isalnum()
    if not known or not isinstance(size, int) or size < 0:
        raise HubError(f"The hub does not say how large {name[:100]!r} is, or its checksum.")
    return Remote(name, size, str(digest).lower())


def _host(url: str) -> str:
    return urlsplit(url).netloc or url


def _words(failure: Failure) -> str:
    return failure.detail.rstrip(".")
