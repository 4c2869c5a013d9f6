"""A Wordmill elsewhere, over its HTTP API.

The server does what the house on this machine would do; an answer comes as server-sent events. When
the connection breaks in the middle of one, it is made again, and the answer goes on from where it
was: it is written in the server, whoever watches.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from wordmill import outbound
from wordmill.channels.shell.partner import Asked, Found, Piece, Place, Said, notes, tool_of
from wordmill.chat.types import ENDED
from wordmill.commands import Outcome, Suggestion
from wordmill.commands.language import Proposal
from wordmill.errors import ConfigError, InvalidInput, StorageError, Unauthenticated, WordmillError
from wordmill.providers.base import Place as Waiting
from wordmill.types import Value

_LIMITS: Final = outbound.Limits(connect=10.0, first_byte=120.0, total=300.0)
_SHOWN: Final = 4
_TRIES: Final = 5


class Refused(WordmillError):
    """The server did not do it; the message is its own sentence."""


class Remote:
    """A `Partner` behind an address.

    Raises InvalidInput for an address that is none, Unauthenticated for a key that is not good,
    StorageError where no server answers.
    """

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url.strip().rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InvalidInput(
                f"{url!r} is no address of a server, as https://wordmill.example.org.", "url"
            )
        self._url = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self.address = parts.netloc
        self._headers = {"Authorization": f"Bearer {key}", "X-Wordmill-Door": "shell"}
        self._watched: outbound.Streamed | None = None
        me = self._ask("GET", "/api/me")
        if not isinstance(me, dict) or "id" not in me:
            raise self._no_wordmill()
        self.person = str(me["id"])
        self.name = str(me.get("name") or me.get("email") or me["id"])

    def newest(self) -> Found | None:
        """The conversation that was used last, of those in which something was said."""
        found = _items(self._ask("GET", "/api/conversations?limit=20"))
        used = next((one for one in found if one.get("head")), None)
        return None if used is None else self._found(used)

    def find(self, conversation: str) -> Found:
        """A conversation by its id."""
        return self._found(self._ask("GET", f"/api/conversations/{_quoted(conversation)}"))

    def begin(self, place: Place) -> str:
        """A new conversation."""
        wish = {"model": place.model, "temporary": place.temporary}
        return str(self._ask("POST", "/api/conversations", wish)["id"])

    def complete(self, place: Place, text: str) -> Sequence[Suggestion]:
        """What could stand for the last word of a command."""
        found = self._ask("POST", "/api/commands/complete", {**_where(place), "text": text})
        return [Suggestion(one["value"], one.get("note", "")) for one in found["suggestions"]]

    def run(
        self, place: Place, line: str, arguments: Mapping[str, object] | None = None
    ) -> Outcome:
        """Run a command there."""
        said: dict[str, object] = {"line": line}
        if arguments is not None:
            said = {"name": line, "arguments": dict(arguments)}
        return Outcome.of(self._ask("POST", "/api/commands", {**_where(place), **said}))

    def propose(self, place: Place, text: str) -> Proposal | None:
        """The command that a message means in plain language, if any."""
        answer = self._ask("POST", "/api/commands/propose", {**_where(place), "text": text})
        found = answer.get("proposal")
        if not found:
            return None
        return Proposal(**found)

    def attach(self, place: Place, name: str, data: bytes) -> str:
        """Send a file."""
        query = urlencode({"conversation": place.conversation or ""})
        kind, body = _form(name, data)
        return str(self._ask("POST", f"/api/attachments?{query}", body, kind)["id"])

    def send(self, place: Place, text: str, attachments: Sequence[str]) -> str:
        """Say something; the id of the answer."""
        path = f"/api/conversations/{_quoted(place.conversation or '')}/messages"
        turn = self._ask("POST", path, {"text": text, "attachments": list(attachments)})
        return str(turn["answers"][0])

    def watch(self, answer: str) -> Iterator[Piece]:
        """An answer from its beginning, however often the connection breaks."""
        after = thought = tries = 0
        ended = False
        while True:
            where = f"after={after}&thought={thought}"
            path = f"/api/messages/{_quoted(answer)}/events?{where}"
            stream = self._watched = self._open(path)
            try:
                for event in _events(stream):
                    tries = 0
                    waiting = event.get("waiting")
                    piece = Piece(
                        event["message"], event["text"], event["reasoning"], event["state"],
                        "" if waiting is None else Waiting(**waiting).words(),
                    )  # fmt: skip
                    if piece.message != answer:
                        answer, after, thought = piece.message, 0, 0
                    after, thought = after + len(piece.text), thought + len(piece.reasoning)
                    yield piece
                    ended = piece.state in ENDED
                if ended or stream.complete:
                    return
            finally:
                stream.close()
            tries += 1
            if tries > _TRIES:
                raise StorageError(
                    f"The connection to {self.address} broke {_TRIES} times. The answer is still "
                    "written there: `wordmill chat -c` shows it."
                )
            time.sleep(min(2.0, 0.2 * tries))

    def message(self, answer: str) -> Said:
        """A message as it stands now."""
        return _said(self._ask("GET", f"/api/messages/{_quoted(answer)}"))

    def asked(self, place: Place) -> Sequence[Asked]:
        """The calls of tools that wait for a yes."""
        path = f"/api/conversations/{_quoted(place.conversation or '')}/calls"
        return [
            Asked(one["message"], one["server"], one["tool"], one["arguments"])
            for one in _items(self._ask("GET", path))
        ]

    def confirm(self, place: Place, message: str, yes: bool) -> None:
        """Allow a call, or not."""
        self._ask("POST", f"/api/messages/{_quoted(message)}/confirm", {"yes": yes})

    def stop(self, place: Place, answer: str) -> None:
        """End an answer there."""
        self._ask("POST", f"/api/messages/{_quoted(answer)}/stop")

    def close(self) -> None:
        """What is being answered goes on there."""
        if self._watched is not None:
            self._watched.close()

    def _found(self, conversation: Mapping[str, Any]) -> Found:
        path = f"/api/conversations/{_quoted(conversation['id'])}/messages?limit={_SHOWN}"
        messages = tuple(_said(one) for one in _items(self._ask("GET", path)))
        return Found(
            conversation["id"], conversation.get("title", ""), conversation.get("model"), messages
        )

    def _ask(
        self, method: str, path: str, body: Value = None, kind: str = "application/json"
    ) -> Any:
        """An answer's JSON. Raises what its status means, with the server's sentence.

        body: bytes as they are, all else as JSON.
        """
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        answer = outbound.send(
            method,
            self._url + path,
            headers={**self._headers, "Content-Type": kind},
            body=sent,
            limits=_LIMITS,
        )
        if isinstance(answer, outbound.Failure):
            raise self._unreachable(answer)
        if answer.status >= 400:
            raise self._refusal(answer.status, answer.text)
        try:
            return json.loads(answer.body) if answer.body else {}
        except ValueError as error:
            raise self._no_wordmill() from error

    def _open(self, path: str) -> outbound.Streamed:
        headers = {**self._headers, "Accept": "text/event-stream"}
        stream = outbound.stream("GET", self._url + path, headers=headers, limits=_LIMITS)
        if isinstance(stream, outbound.Failure):
            raise self._unreachable(stream)
        if stream.status >= 400:
            with contextlib.closing(stream):
                raise self._refusal(stream.status, b"\n".join(stream).decode("utf-8", "replace"))
        return stream

    def _unreachable(self, failure: outbound.Failure) -> StorageError:
        return StorageError(f"No answer from {self._url}: {failure.detail}.")

    def _no_wordmill(self) -> ConfigError:
        return ConfigError(
            f"{self._url} answers, but not as a Wordmill does. Is the address right?"
        )

    def _refusal(self, status: int, text: str) -> WordmillError:
        sentence = _sentence(text) or f"The server answered {status}."
        if status == 401:
            return Unauthenticated(
                f"{sentence} A key is made with `wordmill keys create`, or on its page Settings."
            )
        if status == 404 and not _sentence(text):
            return self._no_wordmill()
        if status in (400, 404, 413, 422):
            return InvalidInput(sentence)
        return Refused(sentence)


def _events(stream: outbound.Streamed) -> Iterator[Mapping[str, Any]]:
    """The data of server-sent events."""
    lines: list[bytes] = []
    for line in stream:
        if line.startswith(b"data:"):
            lines.append(line[5:].strip())
        elif not line and lines:
            data = b"\n".join(lines)
            lines.clear()
            if data != b"[DONE]":
                yield json.loads(data)


def _form(name: str, data: bytes) -> tuple[str, bytes]:
    """A form with one file: its media type and its bytes."""
    edge = secrets.token_hex(16)
    plain = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = (
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{plain}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{edge}--\r\n".encode()
    return f"multipart/form-data; boundary={edge}", body


def _where(place: Place) -> dict[str, object]:
    return {
        "conversation": place.conversation,
        "model": place.model,
        "temporary": place.temporary,
    }


def _items(answer: Any) -> list[Any]:
    return list(answer["items"] if isinstance(answer, Mapping) else answer)


def _said(message: Mapping[str, Any]) -> Said:
    return Said(
        id=message["id"],
        role=message["role"],
        state=message["state"],
        text=message["text"],
        reasoning=message.get("reasoning", ""),
        model=message.get("model"),
        error=message.get("error"),
        finish=message.get("finish"),
        usage=message.get("usage") or {},
        tool=tool_of(message.get("parts") or ()),
        notes=notes(message.get("sent")),
    )


def _sentence(text: str) -> str:
    """What an error's body says, in whichever of the usual shapes."""
    try:
        body = json.loads(text)
    except ValueError:
        return ""
    if not isinstance(body, Mapping):
        return ""
    error = body.get("error", body.get("detail", ""))
    if isinstance(error, Mapping):
        error = error.get("message", "")
    return error if isinstance(error, str) else ""


def _quoted(name: str) -> str:
    return quote(name, safe="")
