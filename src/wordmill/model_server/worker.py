"""One model in one process: `python -m wordmill.model_server.worker --folder ... --engine ...`.

It loads the model, says in a line of JSON on standard output where it listens (or why it cannot),
and answers until its standard input ends, which is when its model server does. Its token comes in
the variable `WORDMILL_WORKER_TOKEN`.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TextIO

from wordmill.backends.base import Backend, Load, Options
from wordmill.backends.templates import Template
from wordmill.errors import ConfigError, ExtraMissing, UnknownName, WordmillError
from wordmill.local_models.machine import cores
from wordmill.model_server import memory
from wordmill.model_server.worker_http import Door, posting, rounds
from wordmill.model_server.worker_loop import Loop, engine_thread

TOKEN: Final = "WORDMILL_WORKER_TOKEN"  # noqa: S105 (a variable's name)
ENGINES: Final = ("openvino", "gguf", "transformers")
DTYPES: Final = ("float32", "bfloat16", "float16")
WAITING: Final = 4
"""Requests that may wait, for each slot."""
DIED: Final = 70
"""The code with which a worker ends when its engine failed (EX_SOFTWARE)."""


def load(engine: str, folder: Path, options: Options) -> Backend:
    """A model on an engine. Raises UnknownName, ConfigError, ExtraMissing."""
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    made: Load = import_module(f"wordmill.backends.{engine}").load
    return made(folder, options)


def options_of(text: str) -> Options:
    """Options from JSON; null is as absent. Where nobody says how many threads, one core is left to
    the rest of the machine: engines that share all cores with others wait for them, and spin.

    Raises ConfigError for an option that there is not.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"The options of the worker are no JSON: {text[:200]}") from error
    known = {one.name for one in fields(Options)}
    for name in given:
        if name not in known:
            raise UnknownName("option of a worker", name, known)
    dtype = given.get("dtype")
    if dtype not in (None, *DTYPES):
        raise ConfigError(
            f"dtype is {dtype!r}; a model is run as {', '.join(DTYPES)}. For 8 or 4 bits, make a "
            "model of that size: `wordmill models quantize`."
        )
    options = Options(**{name: value for name, value in given.items() if value is not None})
    return replace(options, threads=options.threads or max(1, cores() - 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Load, say so, answer. The return code of the process."""
    parser = argparse.ArgumentParser(prog="python -m wordmill.model_server.worker")
    parser.add_argument("--folder", type=Path, required=True, help="the model: a folder or a file")
    parser.add_argument("--engine", required=True, help=" or ".join(ENGINES))
    parser.add_argument("--name", default="", help="the model's name in answers")
    parser.add_argument("--options", default="{}", help="JSON: device, threads, dtype, context")
    given = parser.parse_args(arguments)
    # What libraries print must not stand between the lines that are ours.
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        if not os.environ.get(TOKEN):
            raise ConfigError(f"The variable {TOKEN} is not set: a worker needs a token.")
        options, home = options_of(given.options), engine_thread()
        backend = home.submit(load, given.engine, given.folder, options).result()
        template = Template(backend.words.template, backend.words.special)
    except (WordmillError, MemoryError, ImportError) as error:
        words, short = str(error), memory.is_short(error)
        if short and not (words and isinstance(error, MemoryError)):
            words = f"There is not enough memory to load it. {words}".strip()
        _say(out, {"error": words, "memory": short})
        return 1
    name = given.name or given.folder.name
    return asyncio.run(_serve(name, backend, home, template, out))


async def _serve(
    name: str, backend: Backend, home: Executor, template: Template, out: TextIO
) -> int:
    try:
        import uvicorn
    except ImportError as error:
        raise ExtraMissing("The package uvicorn", "local") from error
    running = asyncio.get_running_loop()
    code = [0]

    def died(error: BaseException) -> None:
        try:
            running.call_soon_threadsafe(_end, server, code, error)
        except MemoryError:
            os._exit(DIED)

    bound = WAITING * backend.facts.slots
    # The others let go of the interpreter in the middle of a step.
    rest = rounds(running) if backend.facts.engine == "openvino" else None
    loop = Loop(backend, posting(running), died, bound, rest, home)
    notes = template.notes if "chat" in backend.facts.tasks else []
    door = Door(name, os.environ[TOKEN], loop, template, notes)
    config = uvicorn.Config(
        door,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=_until_alone, args=(server,), daemon=True).start()
    loop.start()
    ready = {
        "port": listening.getsockname()[1],
        **door.told(),
        "memory": memory.resident(os.getpid()),
    }
    _say(out, ready)
    try:
        await server.serve(sockets=[listening])
    finally:
        if not code[0]:
            loop.close()
    return code[0]


def _say(out: TextIO, told: Mapping[str, Any]) -> None:
    out.write(json.dumps(told) + "\n")
    out.flush()


def _end(server: Any, code: list[int], error: BaseException) -> None:
    sys.stderr.write(f"The engine failed: {error}\n")
    code[0] = DIED
    server.should_exit = True


def _until_alone(server: Any) -> None:
    """End when whoever started us has gone; at once when that takes too long."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.should_exit = True
    threading.Event().wait(3)
    os._exit(0)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The threads of engines do not end by themselves, and nothing is left to be written.
    os._exit(code)
