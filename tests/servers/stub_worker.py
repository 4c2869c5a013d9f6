"""A worker without a model: a real process that speaks as `wordmill.model_server.worker` does.

What it does wrong is in `behaviour.json` of its folder, or in the words that it is asked. It needs
the standard library alone, so it is up in a tenth of a second.

    slots, token_seconds, load_seconds: how it answers
    revision: named in its answers
    ballast: bytes of memory that it takes
    capabilities: what it says that its model can
    fail: it says so instead of coming up;  die: it ends with this code instead
    short: while another worker of the same models is there, it says that memory is short instead;
        `killed`: the system ends it;  a number: of more bytes than that it gets none, truly
    ceiling: bytes of memory, more than which it does not get once it is up

A prompt may hold `crash` (it is killed after two tokens), `crash-first` (before any), `hang` (it
says nothing more, on no connection), `stand` (its engine stands still, and it says so), `refuse`
(400), `once` (it is killed the first time only), `eat` (it takes memory until it gets no more,
after two tokens and when the file `hungry` is in its folder).
"""

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path


class Stub:
    def __init__(self, name: str, folder: Path, behaviour: dict) -> None:
        self.name, self.folder = name, folder
        self.slots = behaviour.get("slots", 4)
        self.pause = behaviour.get("token_seconds", 0.0)
        self.revision = behaviour.get("revision", "one")
        self.token = os.environ["WORDMILL_WORKER_TOKEN"]
        self.running = self.most = self.answered = self.cancelled = 0
        self.stands = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            _, path, _ = first.split(" ")
            if headers.get("authorization") != f"Bearer {self.token}":
                self.whole(writer, 401, {"error": {"message": "a wrong token"}})
            elif path == "/health":
                self.whole(writer, 200, {"state": "ready", "slots": {"all": self.slots}})
            elif path == "/stats":
                shown = {"batch": self.running, "cache": 0.5, "most": self.most}
                shown |= {"cancelled": self.cancelled}
                shown |= {"still": time.monotonic() - self.stands if self.stands else 0.0}
                shown |= {"first_token_p50": 0.25, "between_tokens_p50": 0.05}
                self.whole(writer, 200, shown)
            else:
                await self.answer(reader, writer, path, json.loads(body))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def whole(self, writer: asyncio.StreamWriter, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    async def answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: dict
    ) -> None:
        said = str(body.get("messages") or body.get("prompt") or body.get("input") or "")
        if "refuse" in said:
            error = {"message": "top_k is not for this engine.", "type": "invalid_request_error"}
            self.whole(writer, 400, {"error": error})
            return
        if "once" in said and not (self.folder / "crashed").exists():
            (self.folder / "crashed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "crash-first" in said:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in said:
            time.sleep(3600)  # on purpose: nothing else is answered either
        if "stand" in said:
            self.stands = time.monotonic()
            await asyncio.sleep(3600)
        self.running += 1
        self.most = max(self.most, self.running)
        gone = asyncio.create_task(reader.read(1))  # its end is the connection's
        try:
            await self.tokens(writer, path, body, said, gone)
            self.answered += 1
        except ConnectionError:
            self.cancelled += 1
        finally:
            gone.cancel()
            self.running -= 1

    async def tokens(
        self,
        writer: asyncio.StreamWriter,
        path: str,
        body: dict,
        said: str,
        gone: "asyncio.Task[bytes]",
    ) -> None:
        count = body.get("max_tokens") or body.get("max_completion_tokens") or 4
        words = [self.revision, *(f" t{n}" for n in range(1, count))]
        usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
        if not body.get("stream"):
            for _ in words:
                await self.step(gone)
            if path == "/v1/embeddings":
                data = [{"index": 0, "embedding": [0.5], "object": "embedding"}]
                self.whole(writer, 200, {"data": data, "usage": usage, "model": self.name})
                return
            if path == "/v1/rerank":
                self.rank(writer, body)
                return
            message = {"role": "assistant", "content": "".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            shown = {"id": "x", "object": "chat.completion", "model": self.name}
            self.whole(writer, 200, {**shown, "choices": [choice], "usage": usage})
            return
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        self.event(writer, {"role": "assistant", "content": ""})
        for number, word in enumerate(words):
            await self.step(gone)
            if number == 2 and "crash" in said:
                await writer.drain()
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 2 and "eat" in said:
                await writer.drain()
                while not (self.folder / "hungry").exists():
                    await asyncio.sleep(0.02)
                eat()
            self.event(writer, {"content": word})
            await writer.drain()
        self.event(writer, {}, finish="stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            self.chunk(writer, {"choices": [], "usage": usage, "model": self.name})
        self.raw(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")

    def rank(self, writer: asyncio.StreamWriter, body: dict) -> None:
        """By the words that a document shares with the query."""
        words = set(body["query"].split())
        scores = [len(words & set(text.split())) / len(words) for text in body["documents"]]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.get("top_n")]
        results = [{"index": index, "relevance_score": scores[index]} for index in order]
        usage = {"prompt_tokens": 9, "total_tokens": 9}
        self.whole(writer, 200, {"model": self.name, "results": results, "usage": usage})

    async def step(self, gone: "asyncio.Task[bytes]") -> None:
        if gone.done():
            raise ConnectionResetError
        await asyncio.sleep(self.pause)

    def event(self, writer: asyncio.StreamWriter, delta: dict, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.chunk(writer, {"id": "x", "model": self.name, "choices": [choice]})

    def chunk(self, writer: asyncio.StreamWriter, value: dict) -> None:
        data = json.dumps(value, separators=(",", ":"))
        self.raw(writer, f"data: {data}\n\n".encode())

    def raw(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))


async def run(stub: Stub, capabilities: dict | None) -> None:
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0, backlog=512)
    port = server.sockets[0].getsockname()[1]
    told = {"port": port, "engine": "stub", "context": 4096}
    told |= {"capabilities": capabilities} if capabilities else {}
    print(json.dumps(told), flush=True)
    await server.serve_forever()


def end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def bound(most: int) -> None:
    """No more memory than that, in bytes."""
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def eat() -> None:
    """Take memory until there is none, and end with it as an engine does."""
    held = []
    try:
        while len(held) < 1 << 16:
            held.append(bytearray(1 << 20))  # never touched: addresses, and no more
    except MemoryError:
        held.clear()
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


def others(models: Path) -> list[Path]:
    """The workers of these models, this one among them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes()
        except OSError:
            continue
        if str(models).encode() in words and b"stub_worker" in words:
            found.append(file)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--folder", "--engine", "--name", "--options"):
        parser.add_argument(name, default="")
    given = parser.parse_args()
    folder = Path(given.folder)
    file = folder / "behaviour.json"
    behaviour = json.loads(file.read_text()) if file.exists() else {}
    time.sleep(behaviour.get("load_seconds", 0.0))
    if "fail" in behaviour:
        print(json.dumps({"error": behaviour["fail"]}), flush=True)
        sys.exit(1)
    short = behaviour.get("short") if len(others(folder.parent)) > 1 else None
    if short == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif short is True:
        print(json.dumps({"error": "The card is full.", "memory": True}), flush=True)
        sys.exit(1)
    elif short:
        bound(short)
    if "die" in behaviour:
        print("a library said something", file=sys.stderr)
        sys.exit(behaviour["die"])
    ballast = bytearray(behaviour.get("ballast", 0))
    ballast[::4096] = b"x" * len(ballast[::4096])
    threading.Thread(target=end_with_input, daemon=True).start()
    if "ceiling" in behaviour:
        bound(behaviour["ceiling"])
    stub = Stub(given.name or folder.name, folder, behaviour)
    asyncio.run(run(stub, behaviour.get("capabilities")))


if __name__ == "__main__":
    main()
