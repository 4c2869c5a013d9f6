"""`wordmill batch`: a file of requests in, a file of answers out."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from wordmill.accounts import Accounts
from wordmill.batches import JOB, Batch, Batches, Files, Index, Wish, Worker, open_store
from wordmill.batches.batches import job_of
from wordmill.batches.conductor import Conductor
from wordmill.batches.plan import missing, scaled_out
from wordmill.batches.queues import Queues
from wordmill.batches.servers import Servers
from wordmill.batches.types import KINDS
from wordmill.batches.work import TURN
from wordmill.cli.settings import warn
from wordmill.cli.table import table
from wordmill.database import LOCAL, open_database
from wordmill.errors import ConfigError, InvalidInput
from wordmill.jobs import Jobs
from wordmill.queues.embedded import Embedded
from wordmill.runs.interrupts import Interrupts
from wordmill.settings import Settings, load
from wordmill.storage import PIECE, Folder, WholeFile, open_storage, said

LOOK = 0.2
"""Seconds between looks at a batch that is watched."""


class Desk:
    """What the commands need: the batches of whoever is at the command line."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = open_database(settings)
        self.files = Files(self.database, open_storage(settings), settings.batch_file_bytes)
        self.batches = Batches(self.database, self.files, Folder(settings.home))
        self.jobs = Jobs(self.database)
        self.queues = Queues(self.database, settings, self.batches)

    def check(self, wish: Wish) -> None:
        """Whether a batch may be ordered so, before its file is taken in."""
        person = Accounts(self.database, self.settings).people.local()
        Servers(self.database, self.settings, person).check(wish.checked())

    def order(self, wish: Wish) -> tuple[Batch, bool]:
        """Write a batch down, for whoever works on it first."""
        if words := missing(self.settings):
            raise ConfigError(words)
        batch, new = self.batches.order(LOCAL, wish)
        self.jobs.put(LOCAL, JOB, job_of(batch), subject=batch.id, once=batch.id)
        return batch, new

    def resume(self, name: str) -> None:
        """See to it that a batch which has not ended is worked on."""
        found = self.batches.get(LOCAL, name)
        if found.state == "failed" and "in_progress" in found.times:
            found = self.batches.resume(LOCAL, name)
        if not found.ended and not self.jobs.all(LOCAL, kind=JOB, subject=name, open_only=True):
            self.jobs.put(LOCAL, JOB, job_of(found), subject=name)

    def upload(self, path: Path) -> str:
        """Take a file in; its id."""
        upload = self.files.begin(LOCAL, path.name)
        try:
            with said(path), path.open("rb") as source:
                while piece := source.read(PIECE):
                    upload.write(piece)
            return upload.commit().id
        finally:
            upload.abort()

    @contextmanager
    def working(self) -> Iterator[Embedded]:
        """Work on batches here, unless another process is at them."""
        accounts = Accounts(self.database, self.settings)
        results = Index(self.batches, open_store(self.settings))
        results.start(fill=False)
        worker = Worker(self.database, self.settings, accounts, self.batches, place=results.place)
        conductor = None
        if scaled_out(self.settings):
            conductor = Conductor(self.database, self.settings, self.batches)
            conductor.start()
        queue = Embedded(self.jobs, {JOB: worker}, self.settings.batches_at_once, TURN)
        queue.start()
        try:
            yield queue
        finally:
            queue.stop(self.settings.grace_seconds)
            if conductor is not None:
                conductor.stop()
            results.close()


@click.group()
def batch() -> None:
    """Batches of requests, in OpenAI's JSONL form."""


@batch.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--endpoint", type=click.Choice(list(KINDS)), default="/v1/chat/completions",
              show_default=True, help="What each line asks for.")  # fmt: skip
@click.option("--dataset", help="A label.")
@click.option("--source", help="A label.")
@click.option("--window", default=86400, show_default=True, type=click.IntRange(60),
              help="Seconds after which it expires.")  # fmt: skip
@click.option("--requests", type=click.IntRange(0), help="The most requests that may be sent.")
@click.option("--money", type=click.FloatRange(0), help="The most that may be spent.")
@click.option("--once", metavar="KEY", help="An idempotency key: twice with it is one batch.")
@click.option("--no-cache", is_flag=True, help="Ask all of it again.")
@click.option("--priority", default=4, show_default=True, type=click.IntRange(0, 9),
              help="Among batches that wait, the highest goes first.")  # fmt: skip
@click.option("--validate", metavar="JSON", help="How answers must look: see docs/batches.md.")
@click.option("--post", metavar="MODULE:FUNCTION", help="A function that gets each answer.")
@click.option("--url", metavar="URL", help="The server of lines that name none.")
@click.option("--key", metavar="NAME", help="The name of the key for that server.")
@click.option(
    "--detach", is_flag=True, help="Leave it to `wordmill serve`, and print its id alone."
)
@click.pass_context
def submit(
    ctx: click.Context,
    file: Path,
    endpoint: str,
    dataset: str | None,
    source: str | None,
    window: int,
    requests: int | None,
    money: float | None,
    once: str | None,
    no_cache: bool,
    priority: int,
    validate: str | None,
    post: str | None,
    url: str | None,
    key: str | None,
    detach: bool,
) -> None:
    """Order a batch out of FILE, and watch it to its end.

    Each line: {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
    """
    desk = _desk()
    budget = {
        name: float(value)
        for name, value in (("requests", requests), ("money", money))
        if value is not None
    }
    wish = Wish(
        file="", endpoint=endpoint, window=float(window), dataset=dataset,
        source=source, cache=not no_cache, budget=budget, once=once, priority=priority,
        validate=_read(validate), post=post, url=url, key=key,
    )  # fmt: skip
    desk.check(wish)
    found, new = desk.order(replace(wish, file=desk.upload(file)))
    if not new:
        click.echo(f"The key {once} has ordered {found.id} before.", err=True)
    if detach:
        click.echo(found.id)
        return
    _watch(ctx, desk, found.id)


@batch.command("list")
@click.option("--dataset", help="Only those with this label.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(dataset: str | None, as_json: bool) -> None:
    """List the batches, the newest first."""
    found = _desk().batches.all(LOCAL, dataset=dataset)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], default=str, indent=2))
        return
    if not found:
        click.echo("There are no batches yet. `wordmill batch submit FILE` orders the first.")
        return
    rows = [
        (
            one.id,
            one.state,
            f"{one.counts.completed:,}",
            f"{one.counts.failed:,}",
            f"{one.counts.total:,}",
            one.dataset or "",
        )
        for one in found
    ]
    head = ("batch", "state", "answered", "failed", "requests", "dataset")
    click.echo(table(head, rows, {"dataset": ""}))


@batch.command()
@click.argument("name", metavar="BATCH")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(name: str, as_json: bool) -> None:
    """Show how a batch stands."""
    found = _desk().batches.get(LOCAL, name)
    if as_json:
        click.echo(json.dumps(asdict(found), default=str, indent=2))
        return
    _report(found)


@batch.command()
@click.argument("name", metavar="BATCH")
@click.pass_context
def watch(ctx: click.Context, name: str) -> None:
    """Watch a batch to its end; without a server, work on it here."""
    _watch(ctx, _desk(), name)


@batch.command()
@click.argument("name", metavar="BATCH")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path),
              help="A file; without it, the standard output.")  # fmt: skip
@click.option("--errors", is_flag=True, help="The lines that have no answer, with the reasons.")
def results(name: str, to: Path | None, errors: bool) -> None:
    """Write the answers of a batch, in the order of its lines."""
    desk = _desk()
    found = desk.batches.get(LOCAL, name)
    if not found.ended:
        raise InvalidInput(f"The batch {name} is {found.state}: `wordmill batch watch {name}`.")
    file = found.failures if errors else found.output
    if file is None:
        what = "failed" if errors else "was answered"
        raise InvalidInput(f"No request of the batch {name} {what}.")
    pieces = desk.batches.content(desk.files.get(LOCAL, file))
    if to is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        return
    with WholeFile(to) as target:
        for piece in pieces:
            target.write(piece)
    click.echo(f"{to}", err=True)


@batch.command()
@click.argument("name", metavar="BATCH")
def cancel(name: str) -> None:
    """Cancel a batch; what is answered stays."""
    desk = _desk()
    desk.batches.cancel(LOCAL, name)
    desk.resume(name)
    with desk.working():
        _until_ended(desk, name)
    _report(desk.batches.get(LOCAL, name))


@batch.command()
@click.argument("name", metavar="BATCH")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def dead(name: str, as_json: bool) -> None:
    """List blocks of a batch that consumers gave up, with the reasons."""
    found = _desk().queues.dead(LOCAL, name)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    if not found:
        click.echo(f"No block of the batch {name} was given up.")
        return
    rows = [
        (str(one.number), f"{one.first:,}", f"{one.lines:,}", str(one.attempts), one.reason)
        for one in found
    ]
    click.echo(table(("block", "from line", "lines", "attempts", "why"), rows))
    click.echo(f"\nwordmill batch replay {name}")


@batch.command()
@click.argument("name", metavar="BATCH")
@click.argument("blocks", nargs=-1, type=click.IntRange(0))
def replay(name: str, blocks: tuple[int, ...]) -> None:
    """Let consumers try again what they gave up: these blocks, or all."""
    _desk().queues.replay(LOCAL, name, blocks or None)
    click.echo(f"wordmill batch watch {name}", err=True)


def _read(validate: str | None) -> Mapping[str, Any] | None:
    if validate is None:
        return None
    try:
        read: Mapping[str, Any] = json.loads(validate)
    except ValueError as error:
        raise InvalidInput(f"--validate is no JSON: {error}.", "validate") from error
    return read


def _desk() -> Desk:
    settings = load()
    warn(settings)
    return Desk(settings)


def _watch(ctx: click.Context, desk: Desk, name: str) -> None:
    """Work on it and tell how far it is. Ctrl-C leaves it, to be gone on with."""
    desk.resume(name)
    with Interrupts() as interrupts, desk.working():
        found = _until_ended(desk, name, interrupts)
    if not found.ended:
        click.echo(
            f"{found.id} is {found.state}, {_far(found)}. "
            f"Continue with: wordmill batch watch {found.id}",
            err=True,
        )
        ctx.exit(130)
    _report(found)
    if found.state != "completed":
        ctx.exit(2 if found.state == "failed" else 3)
    if found.counts.failed:
        ctx.exit(3)


def _until_ended(desk: Desk, name: str, interrupts: Interrupts | None = None) -> Batch:
    live = sys.stderr.isatty()
    told = 0.0
    while True:
        found = desk.batches.get(LOCAL, name)
        stopped = interrupts is not None and interrupts.count > 0
        if live or time.monotonic() - told > 5 or found.ended:
            told = time.monotonic()
            words = f"{found.state.replace('_', ' ')}: {_far(found)}"
            click.echo(f"\r\x1b[K{words}" if live else words, nl=not live, err=True)
        if found.ended or stopped:
            if live:
                click.echo(err=True)
            return found
        time.sleep(LOOK)


def _far(found: Batch) -> str:
    counts = found.counts
    words = f"{counts.completed:,} of {counts.total:,} answered"
    return words + (f", {counts.failed:,} failed" if counts.failed else "")


def _report(found: Batch) -> None:
    counts = found.counts
    facts = [
        ("batch", found.id),
        ("state", found.state),
        ("answered", f"{counts.completed:,} of {counts.total:,}"),
        ("failed", f"{counts.failed:,}"),
        *((f"  {cause}", f"{number:,}") for cause, number in sorted(counts.causes.items())),
        ("tokens", f"{counts.input_tokens:,} in, {counts.output_tokens:,} out"),
        ("money", f"${counts.money:,.2f}"),
    ]
    for reason in found.errors[:10]:
        line = f"line {reason['line']}: " if reason.get("line") else ""
        facts.append(("why", f"{line}{reason['message']}"))
    click.echo(table(("field", "value"), facts))
    if found.output is not None:
        click.echo(f"\nwordmill batch results {found.id} --to answers.jsonl")
    if found.failures is not None:
        click.echo(f"wordmill batch results {found.id} --errors")
