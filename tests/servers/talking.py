"""A model's server that says what a test wants, as fast as it wants, and notices who hangs up."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

Body: TypeAlias = dict[str, Any]
Piece: TypeAlias = str | float | dict[str, Any]
"""A text; a pause in seconds; another field of a delta, as `{"reasoning_content": "Hm."}`."""


@dataclass
class Talking:
    """say: what is answered to a request.  refuse: the status and the words of a refusal, or None.
    read: the tokens of a request, as the server counts them.
    asked: the bodies so far.  hung_up: how many requests ended because nobody listened any more.
    """

    say: Callable[[Body], Iterable[Piece]]
    refuse: Callable[[Body], tuple[int, str] | None] = lambda _: None
    read: Callable[[Body], int] = lambda _: 7
    url: str = ""
    asked: list[Body] = field(default_factory=list)
    hung_up: int = 0

    @property
    def questions(self) -> list[str]:
        """The last message of each request."""
        return [body["messages"][-1]["content"] for body in self.asked]


@contextmanager
def talking(say: Callable[[Body], Iterable[Piece]] | str = "Hello.") -> Iterator[Talking]:
    """A server on a port that the system chose. `say` may change while it runs."""
    told = say if callable(say) else lambda _: [say]
    talk = Talking(told)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            talk.asked.append(body)
            if refusal := talk.refuse(body):
                return self._refuse(*refusal)
            if not body.get("stream"):
                return self._whole(body)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                words = 0
                for piece in talk.say(body):
                    if isinstance(piece, float):
                        self._wait(piece)
                        continue
                    delta = {"content": piece} if isinstance(piece, str) else piece
                    words += len(str(piece).split())
                    self._send({"choices": [{"index": 0, "delta": delta}]})
                self._send({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                usage = {"prompt_tokens": talk.read(body), "completion_tokens": words}
                self._send({"choices": [], "usage": usage})
                self._write(b"data: [DONE]\n\n")
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                talk.hung_up += 1
                self.close_connection = True

        def _refuse(self, status: int, words: str) -> None:
            self._tell(status, {"error": {"message": words, "type": "invalid_request_error"}})

        def _whole(self, body: Body) -> None:
            text = "".join(piece for piece in talk.say(body) if isinstance(piece, str))
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            read, words = talk.read(body), len(text.split())
            usage = {
                "prompt_tokens": read, "completion_tokens": words, "total_tokens": read + words,
            }  # fmt: skip
            self._tell(200, {"model": "mock-1", "choices": [choice], "usage": usage})

        def _tell(self, status: int, told: Body) -> None:
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _send(self, chunk: Body) -> None:
            self._write(b"data: " + json.dumps({"model": "mock-1", **chunk}).encode() + b"\n\n")

        def _write(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        def _wait(self, seconds: float) -> None:
            """Comments meanwhile, so that a closed connection is noticed."""
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(0.05, left))
                self._write(b": waiting\n\n")

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that hang up are what is tested."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        talk.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield talk
        finally:
            server.shutdown()
