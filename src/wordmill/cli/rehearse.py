"""`wordmill rehearse`: the rehearsal model as a server for anyone."""

import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event
from typing import TYPE_CHECKING

import click

from wordmill.errors import ConfigError, UnknownName
from wordmill.settings import parse_seconds
from wordmill.types import Value

if TYPE_CHECKING:
    from wordmill._engine import Rehearsal


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The default: any free one.")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True)
@click.option("--latency", metavar="TIME", default="0", help="Of each answer, as 200ms or 1.5s.")
@click.option(
    "--errors", metavar="NAME=SHARE,...", default="", help="What goes wrong, as 429=2%,drop=0.01."
)
@click.option("--limit", type=click.IntRange(min=1), help="More at once than this get a 429.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="Another seed, other answers and faults."
)
def rehearse(port: int, host: str, latency: str, errors: str, limit: int | None, seed: int) -> None:
    """Serve the rehearsal model.

    It speaks OpenAI's API and answers at once, without weights, key or network. Answers depend on
    the request and the seed alone: English text, JSON that follows the schema asked for, one of the
    choices given. With --errors, --latency and --limit it is as unkind as real servers are.

    Errors: 429, 401, 500, 503, drop, truncate, malformed, empty, slow, refuse, schema, as-an-ai.
    GET /stats counts what was answered and what went wrong. Ctrl-C stops it.
    """
    from wordmill._engine import Rehearsal

    chances = _chances(errors, Rehearsal.faults())
    config = {
        "host": host,
        "port": port,
        "latency_ms": _seconds(latency) * 1000,
        "errors": chances,
        "limit": limit,
        "seed": seed,
    }
    _allow_many_connections()
    with _stopping() as stopped:
        server = _started(config)
        address = f"[{host}]" if ":" in host else host
        told = ", ".join(_told(latency, chances, limit, seed))
        click.echo(f"The rehearsal model answers at http://{address}:{server.port}/v1 ({told}).")
        while not stopped.wait(1.0):  # a wait without an end cannot be interrupted everywhere
            pass
    server.stop()
    click.echo(_summary(server))


def _started(config: Mapping[str, Value]) -> "Rehearsal":
    from wordmill._engine import Rehearsal

    try:
        return Rehearsal(json.dumps(config))
    except ValueError as error:
        raise ConfigError(_sentence(str(error))) from error
    except OSError as error:
        hint = "Choose another --port, or none for any free one."
        raise ConfigError(f"{_sentence(str(error))} {hint}") from error


def _seconds(latency: str) -> float:
    try:
        return parse_seconds(latency)
    except ValueError as error:
        raise ConfigError(
            f"--latency {latency!r} is no time: write it as 200ms or 1.5s."
        ) from error


def _chances(text: str, known: list[str]) -> dict[str, float]:
    """Fractions by the names of faults, from `429=2%,drop=0.01`."""
    chances: dict[str, float] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, given, chance = (part.strip() for part in item.partition("="))
        if name not in known:
            raise UnknownName("fault", name, known)
        if name in chances:
            raise ConfigError(f"--errors names {name!r} twice: say once how often it happens.")
        try:
            number = float(chance.removesuffix("%")) / (100 if chance.endswith("%") else 1)
        except ValueError as error:
            wrong = f"{chance!r} is no share" if given else "nothing says how often"
            raise ConfigError(
                f"--errors {item!r}: {wrong}: write it as {name}=2% or {name}=0.02."
            ) from error
        if not 0 <= number <= 1:
            raise ConfigError(f"--errors {item!r}: a share is from 0% to 100% (or from 0 to 1).")
        chances[name] = number
    return chances


def _told(latency: str, chances: Mapping[str, float], limit: int | None, seed: int) -> list[str]:
    told = [f"after {latency}" if _seconds(latency) else "at once"]
    told += [f"{100 * chance:g}% {name}" for name, chance in chances.items() if chance]
    if limit is not None:
        told.append(f"no more than {limit} at once")
    return [*told, f"seed {seed}"]


def _summary(server: "Rehearsal") -> str:
    stats = json.loads(server.stats())
    requests = stats["requests"]
    if not requests:
        return "No request came."
    told = [
        f"{stats['answered']:,} answered",
        *(f"{count:,} {name}" for name, count in stats["faults"].items() if count),
        *(f"{stats[name]:,} {words}" for name, words in _ENDS.items() if stats[name]),
        f"at most {stats['highest_concurrency']:,} at once",
    ]
    return f"{requests:,} request{'' if requests == 1 else 's'}: {', '.join(told)}."


_ENDS = {
    "over_limit": "over the limit",
    "rejected": "rejected",
    "abandoned": "abandoned by the client",
}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


@contextmanager
def _stopping() -> Iterator[Event]:
    """An event that Ctrl-C and SIGTERM set, instead of what else they do."""
    stopped = Event()
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _allow_many_connections() -> None:
    """Raise the soft limit of open files as far as the system lets us."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):  # macOS names a limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
