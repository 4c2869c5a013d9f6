"""Wordmill's model server with one model, as it is run anywhere: what `local.py` starts.

    serving_driver.py PYTHON ENGINE FOLDER THREADS

PYTHON runs the worker, this process is the server. Prints a line of JSON, `url` and `token`, once
requests are taken, and ends when its standard input does.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from wordmill.model_server.serving import Wish, serve, worker_command
from wordmill.model_server.types import Described
from wordmill.providers.local_start import Address
from wordmill.settings import load


class One:
    """A library of one model."""

    def __init__(self, engine: str, folder: Path, threads: int) -> None:
        options: dict[str, object] = {"threads": threads}
        self._model = Described(name="bench", path=folder, engine=engine, options=options)

    def find(self, name: str) -> Described | None:
        """See Library."""
        return self._model if name == "bench" else None

    def names(self) -> Sequence[str]:
        """See Library."""
        return ["bench"]


async def until_alone() -> None:
    """Until whoever started us has gone."""
    await asyncio.to_thread(sys.stdin.read)


def main(python: str, engine: str, folder: str, threads: str) -> None:
    """Serve until the end."""

    def command(model: Described) -> Sequence[str]:
        return [python, *worker_command(model)[1:]]

    def ready(where: Address) -> None:
        print(json.dumps(where._asdict()), flush=True)

    library = One(engine, Path(folder), int(threads))
    serve(load(), library, Wish(stop=until_alone), command=command, ready=ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
