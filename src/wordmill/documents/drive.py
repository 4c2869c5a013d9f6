"""Google Drive: folders are looked up and made, files are put there.

A file goes up in pieces of a session that can be resumed: whatever happens to one piece, Google is
asked how much it has, and the rest follows. What it asks for when there are too many requests is
kept; a token that ends meanwhile is replaced once. A file of the same name is another file there:
nothing is ever written over.
"""

import json
import random
import re
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from wordmill.documents.google import LIMITS, Addresses, Tokens, as_json, reasons
from wordmill.errors import ExportError, InvalidInput
from wordmill.outbound import Failure, Response, send

FOLDER: Final = "application/vnd.google-apps.folder"
GOOGLE_DOC: Final = "application/vnd.google-apps.document"
PIECE: Final = 4 * 1024 * 1024
"""Bytes; Google wants a multiple of 256 KiB."""
PATIENCE: Final = 120.0
"""Seconds for one document, all waiting included."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{10,200}")
_HOSTS: Final = ("drive.google.com", "docs.google.com")
_SLOW_DOWN: Final = frozenset(
    ("rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded", "backendError")
)
_FULL: Final = frozenset(("storageQuotaExceeded", "teamDriveFileLimitExceeded"))
_FOLDER_LINK: Final = "https://drive.google.com/drive/folders/..."


class Place(NamedTuple):
    """A folder. drive: the shared drive that it is in, or ""."""

    id: str
    name: str
    drive: str = ""


class Sent(NamedTuple):
    """A file that is there now. link: where one looks at it."""

    id: str
    name: str
    link: str


class _Lost(Exception):
    """Google has forgotten the session of an upload."""


def folder_id(link: str) -> str:
    """The id in a folder's share link, or the id itself.

    Raises InvalidInput for a link to anything else, with what is wrong with it.
    """
    text = link.strip().strip("<>")
    if _ID.fullmatch(text):
        return text
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host = (parts.hostname or "").lower()
    except ValueError:
        host = ""
    if host not in _HOSTS:
        raise InvalidInput(
            f"{text[:80]!r} is no link to a folder of Google Drive. Such a link looks like "
            f"{_FOLDER_LINK}; the menu of the folder copies it.",
            "link",
        )
    steps = [step for step in parts.path.split("/") if step]
    named = next((after for step, after in pairwise(steps) if step == "folders"), "")
    if not named and steps and steps[-1] in ("open", "folderview"):
        named = parse_qs(parts.query).get("id", [""])[0]
    if _ID.fullmatch(named):
        return named
    kinds = {"document": "a document", "spreadsheets": "a table", "presentation": "slides",
             "file": "a file", "forms": "a form"}  # fmt: skip
    what = next((kinds[step] for step in steps if step in kinds), "something else")
    raise InvalidInput(
        f"This link leads to {what}, and documents go into a folder. A folder's link looks like "
        f"{_FOLDER_LINK}",
        "link",
    )


class Drive:
    """A Drive, with the rights of whoever the tokens are.

    sleep: how it waits, in seconds.  patience: how long one call may take, waiting included.
    """

    def __init__(
        self,
        addresses: Addresses,
        tokens: Tokens,
        *,
        sleep: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self._addresses, self._tokens = addresses, tokens
        self._sleep, self._patience = sleep, patience

    def account(self) -> str:
        """Whose Drive it is: an e-mail address. Raises ExportError, Revoked."""
        told = self._ask("GET", "/about?fields=user(emailAddress)")
        user = told.get("user")
        return str(user.get("emailAddress", "")) if isinstance(user, dict) else ""

    def folder(self, name: str) -> Place:
        """A folder by its id, into which files may be put.

        Raises InvalidInput for what is none, ExportError, Revoked.
        """
        fields = "id,name,mimeType,trashed,driveId,capabilities(canAddChildren)"
        told = self._ask(
            "GET", f"/files/{quote(name, safe='')}?{_query(fields=fields)}", folder=True
        )
        title = str(told.get("name", ""))[:200]
        if told.get("mimeType") != FOLDER:
            raise InvalidInput(f"{title!r} is no folder: it is a file of Google Drive.", "link")
        if told.get("trashed"):
            raise InvalidInput(f"The folder {title!r} is in the bin of Google Drive.", "link")
        may = told.get("capabilities")
        if isinstance(may, dict) and may.get("canAddChildren") is False:
            raise InvalidInput(
                f"Wordmill may look into the folder {title!r}, but put nothing there. Share it "
                "with the right to edit.",
                "link",
            )
        return Place(str(told.get("id") or name), title, str(told.get("driveId") or ""))

    def make_folder(self, name: str) -> Place:
        """A new folder at the top, one however often it is asked for. Raises ExportError, Revoked.

        Its id is fixed before: where the answer is lost, Google says that it is there.
        """
        given = self._ask("GET", "/files/generateIds?count=1&type=files").get("ids")
        if not isinstance(given, list) or not given:
            raise ExportError("Google Drive gave no id for a new folder.")
        about = {"id": str(given[0]), "name": name, "mimeType": FOLDER}
        self._ask("POST", f"/files?{_query(fields='id,name')}", about, there=True)
        return Place(about["id"], name)

    def upload(
        self, name: str, data: bytes, media_type: str, folder: str, *, google_doc: bool = False
    ) -> Sent:
        """Put a file into a folder. google_doc: Google makes a document of its own of it.

        Raises InvalidInput for a folder that is there no more, ExportError, Revoked.
        """
        about = {"name": name, "parents": [folder]}
        if google_doc:
            about["mimeType"] = GOOGLE_DOC
        until = time.monotonic() + self._patience
        for _ in range(3):
            session = self._begin(about, media_type, len(data), until)
            try:
                told = self._pieces(session, data, until)
            except _Lost:
                continue
            found = str(told.get("id", ""))
            link = str(told.get("webViewLink") or f"https://drive.google.com/file/d/{found}/view")
            return Sent(found, str(told.get("name", name)), link)
        raise ExportError("Google Drive lost the upload three times. Try again later.")

    # Uploads

    def _begin(self, about: Mapping[str, Any], media_type: str, size: int, until: float) -> str:
        fields = _query(uploadType="resumable", fields="id,name,webViewLink")
        answer = self._send(
            "POST", f"{self._addresses.upload}?{fields}", until, body=json.dumps(about).encode(),
            folder=True,
            headers={
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Type": media_type, "X-Upload-Content-Length": str(size),
            },
        )  # fmt: skip
        session = answer.headers.get("location", "")
        ours, theirs = urlsplit(self._addresses.upload), urlsplit(session)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise ExportError("Google Drive gave no address to send the document to.")
        return session

    def _pieces(self, session: str, data: bytes, until: float) -> Mapping[str, Any]:
        """Send what is not there yet, until all of it is. Raises _Lost, and as `upload`."""
        at, asking, tries, renewed = 0, False, 0, False
        while True:
            piece = b"" if asking else data[at : at + PIECE]
            span = "*" if asking else f"{at}-{at + len(piece) - 1}"
            answer = self._once(
                "PUT", session, {"Content-Range": f"bytes {span}/{len(data)}"}, piece
            )
            if isinstance(answer, Response):
                if answer.status in (200, 201):
                    return as_json(answer)
                if answer.status in (404, 410):
                    raise _Lost
                if answer.status == 308:
                    came = _came(answer.headers.get("range", ""))
                    if came > at:
                        tries, renewed = 0, False
                    if came > at or asking:
                        at, asking = came, False
                        continue
                elif answer.status == 401 and not renewed:
                    renewed = True
                    self._tokens.get(fresh=True)
                elif not _may_pass(answer):
                    raise self._refused(answer, folder=True)
            asking = True
            tries += 1
            self._wait(answer, tries, until)

    # One request

    def _ask(
        self, method: str, path: str, about: Mapping[str, Any] | None = None, folder: bool = False,
        there: bool = False,
    ) -> Mapping[str, Any]:  # fmt: skip
        body = None if about is None else json.dumps(about).encode()
        headers = {} if body is None else {"Content-Type": "application/json; charset=UTF-8"}
        until = time.monotonic() + self._patience
        url = self._addresses.api + path
        answer = self._send(
            method, url, until, body=body, headers=headers, folder=folder, there=there
        )
        return as_json(answer)

    def _send(
        self, method: str, url: str, until: float, *, headers: Mapping[str, str],
        body: bytes | None = None, folder: bool = False, there: bool = False,
    ) -> Response:  # fmt: skip
        """An answer that is good; waits and asks again where that may help.

        there: it is good too that what is to be made is there already.
        """
        tries, renewed = 0, False
        while True:
            answer = self._once(method, url, headers, body)
            if isinstance(answer, Response):
                if answer.status < 300 or (there and answer.status == 409):
                    return answer
                if answer.status == 401 and not renewed:
                    renewed = True
                    self._tokens.get(fresh=True)
                    continue
                if not _may_pass(answer):
                    raise self._refused(answer, folder)
            tries += 1
            self._wait(answer, tries, until)

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Response | Failure:
        passport = {"Authorization": f"Bearer {self._tokens.get()}"}
        return send(method, url, headers={**headers, **passport}, body=body, limits=LIMITS)

    def _wait(self, answer: Response | Failure, tries: int, until: float) -> None:
        """Until it may be asked again. Raises ExportError when that would be too late."""
        seconds = min(2.0 ** (tries - 1), 32.0) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
        if (
            isinstance(answer, Response)
            and (told := answer.headers.get("retry-after", "")).isdigit()
        ):
            seconds = float(told)
        if time.monotonic() + seconds > until:
            if isinstance(answer, Failure):
                raise ExportError(
                    f"Google Drive cannot be reached ({answer.kind}: {answer.detail}). Try again "
                    "later."
                )
            why = "asks for fewer requests" if answer.status in (403, 429) else "does not work"
            raise ExportError(
                f"Google Drive {why} at the moment (status {answer.status}). Try again in "
                f"{max(seconds, 60):.0f} s."
            )
        self._sleep(seconds)

    def _refused(self, answer: Response, folder: bool) -> Exception:
        found, words = reasons(as_json(answer))
        if found & _FULL:
            return ExportError("There is no room left in this Google Drive.")
        if answer.status == 404 and folder:
            return InvalidInput(
                "Google Drive has no such folder for Wordmill. Either it is gone, or it is not "
                "shared with the account that Wordmill uses there.",
                "link",
            )
        if answer.status in (401, 403):
            return ExportError(
                f"Google Drive does not let Wordmill do this: {words or 'no reason'}."
            )
        return ExportError(f"Google Drive answered with {answer.status}: {words or 'no reason'}.")


def _query(**more: str) -> str:
    return urlencode({**more, "supportsAllDrives": "true"}, safe=",()")


def _came(span: str) -> int:
    """Bytes that are there, by `bytes=0-99`; none without it."""
    _, _, last = span.rpartition("-")
    return int(last) + 1 if last.isdigit() else 0


def _may_pass(answer: Response) -> bool:
    """Whether asking again may help."""
    if answer.status == 403:
        found, _ = reasons(as_json(answer))
        return bool(found & _SLOW_DOWN)
    return answer.status == 429 or answer.status >= 500
