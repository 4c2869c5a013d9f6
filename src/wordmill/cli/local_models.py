"""`wordmill models search`, `fetch` and the others: models on this machine, without a server.

Whoever may write to the data folder holds the house, so nothing here asks for an account.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from wordmill.cli.settings import warn
from wordmill.cli.table import table
from wordmill.database import LOCAL, open_database
from wordmill.errors import ConfigError, InvalidInput
from wordmill.settings import load

if TYPE_CHECKING:
    from wordmill.local_models.fit import Fit
    from wordmill.local_models.local_models import LocalModels
    from wordmill.model_server.client import Client

_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_NAME = click.argument("name")
_SORTS = ("downloads", "likes", "last_modified", "created_at", "trending")


class Count(click.ParamType[int]):
    """A number of parameters, as 135M or 7B."""

    name = "N|M|B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number."""
        text = str(value).strip().upper()
        factor = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}.get(text[-1:], 1)
        try:
            return round(float(text.rstrip("KMBT")) * factor)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no number of parameters, as 135M or 7B.", param, ctx)


@click.command()
@click.argument("words", nargs=-1)
@click.option("--task", default="text-generation", show_default=True, help="What it is for.")
@click.option("--license", "license_", default="", help="Its licence, as apache-2.0.")
@click.option("--author", default="", help="Whose it is.")
@click.option("--min", "least", type=Count(), help="Parameters at least, as 100M.")
@click.option("--max", "most", type=Count(), help="Parameters at most, as 2B.")
@click.option("--sort", type=click.Choice(_SORTS), default="downloads", show_default=True)
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@_JSON
def search(words: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Search the hub for models.

    \b
    wordmill models search smollm2 --max 500M
    wordmill models search --task text-ranking --license mit
    """
    with opened() as models:
        found = models.search(" ".join(words), **options)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    rows = [
        (
            one.repository, counted(one.parameters), one.task or "-", one.license or "-",
            f"{one.downloads:,}", "gated" if one.gated else "private" if one.private else "open",
        )
        for one in found
    ]  # fmt: skip
    head = ("model", "parameters", "task", "licence", "downloads", "for")
    click.echo(table(head, rows, {"for": "open"}))


@click.command()
@click.argument("repository")
@click.option("--revision", default="main", help="A branch, a tag or a commit.")
def card(repository: str, revision: str) -> None:
    """Show what a model's owner wrote about it."""
    from wordmill.channels.shell.rendering import safe

    with opened() as models:
        text = models.card(repository, revision)
    if not text:
        click.echo(f"{repository} has no card.", err=True)
        return
    click.echo(safe(text))


@click.command()
@click.argument("model")
@click.option("--revision", default="main", help="A branch, a tag or a commit.")
@click.option("--file", help="The one of several GGUF files.")
@click.option("--context", type=click.IntRange(1), help="Tokens of a conversation; 4096 without.")
@click.option("--streams", type=click.IntRange(1), default=1, help="Conversations at once.")
@_JSON
def fit(
    model: str, revision: str, file: str | None, context: int | None, streams: int, as_json: bool
) -> None:
    """Say whether MODEL fits this machine, before anything is fetched.

    MODEL is OWNER/NAME on the hub, or a model that is here.
    """
    from wordmill.local_models.local_models import Ask

    with opened() as models:
        if "/" in model and model not in models.registry.names():
            planned = models.plan(Ask(model, revision, "", file), context=context, streams=streams)
            found, notes = planned.fit, planned.notes
        else:
            here = models.registry.find(model)
            found = models.fit(here.facts, here.form, 0, context or here.context, streams)
            notes = ()
    if as_json:
        click.echo(json.dumps({**asdict(found), "notes": notes}, indent=2))
        return
    click.echo(found.sentence)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if len(found.rows) > 1:
        click.echo(_precisions(found))


def _precisions(found: "Fit") -> str:
    from wordmill.local_models.fit import size

    rows = [
        (
            row.need.dtype, size(row.need.weights), size(row.need.cache), size(row.need.memory),
            row.verdict, row.need.engine,
        )
        for row in found.rows
    ]  # fmt: skip
    return table(("precision", "weights", "context", "in all", "fits", "engine"), rows)


@click.command()
@click.argument("repository")
@click.option("--name", default="", help="Its name here; the repository's without it.")
@click.option("--revision", default="main", help="A branch or tag to follow, or a commit.")
@click.option("--file", help="The one of several GGUF files.")
@click.option("--anyway", is_flag=True, help="Also where it does not fit the memory.")
def fetch(repository: str, name: str, revision: str, file: str | None, anyway: bool) -> None:
    """Fetch a model from the hub, as OWNER/NAME.

    Ctrl-C stops it, and what has come stays: the same command goes on there.
    """
    from wordmill.local_models.local_models import Ask

    ask = Ask(repository, revision, name, file)
    with opened() as models, _bar(f"Fetching {repository}") as (heard, stop):
        model = models.fetch(ask, LOCAL, heard, stop, anyway=anyway)
    click.echo(f"{model.name} is here: {_said(model.size)}, {model.license or 'no licence said'}.")
    click.echo(f"Ask it with: wordmill ask --model {model.name} 'Hello'", err=True)


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Its name here; the folder's or file's without it.")
def import_(path: Path, name: str) -> None:
    """Add a model of your own: a folder, or a GGUF file.

    Its files stay where they are.
    """
    with opened() as models:
        model = models.take(path, LOCAL, name)
    click.echo(f"Added {model.name}: {model.facts.architecture}, {model.form} at {model.path}.")


@click.command()
@_NAME
@click.option(
    "--to",
    type=click.Choice(["float32", "float16", "int8", "int4"]),
    default="int8",
    show_default=True,
)
@click.option("--name", "called", default="", help="The new model's name; NAME-int8 without.")
@click.option(
    "--text",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read by both, to tell how much is lost; a sample without it.",
)
def quantize(name: str, to: str, called: str, text: Path | None) -> None:
    """Make a smaller model out of a local one, for OpenVINO."""
    from wordmill.local_models import quantizing

    try:
        words = text.read_text(encoding="utf-8", errors="replace") if text else ""
    except OSError as error:
        raise InvalidInput(f"{text} cannot be read: {error.strerror}.") from error
    with opened() as models, _steps() as (heard, stop):
        model = quantizing.quantize(models, name, to, LOCAL, heard, stop, called=called, text=words)
    click.echo(f"Made {model.name} out of {name}: {_said(model.size)}.")
    if len(model.quality) == 2:
        before, after = model.quality["before"], model.quality["after"]
        click.echo(
            f"Perplexity of the text: {before:.4g} before, {after:.4g} after "
            f"({(after / before - 1) * 100:+.1f} %); lower is better."
        )


@click.command()
@_NAME
@click.option("--check", is_flag=True, help="Only say what is newer.")
def update(name: str, check: bool) -> None:
    """Fetch what is newer of a model; `rollback` goes back."""
    with opened() as models:
        if check:
            found = models.newer(name)
            if found is None:
                click.echo(f"Nothing is newer than {name}.")
                return
            click.echo(f"{name} has an update, {_said(found.download)} to fetch:")
            for change in found.changes:
                click.echo(f"  {change.at[:10]}  {change.commit[:12]}  {printable(change.title)}")
            click.echo(f"Files that differ: {', '.join(map(printable, found.files)) or 'none'}.")
            return
        with _bar(f"Updating {name}") as (heard, stop):
            model = models.update(name, heard, stop)
    click.echo(f"{name} is at {model.revision[:12]} now; `wordmill models rollback {name}` undoes.")


@click.command()
@_NAME
@click.option("--revision", default="", help="The first digits of a commit; the last one without.")
def rollback(name: str, revision: str) -> None:
    """Use an earlier revision of a model again."""
    with opened() as models:
        model = models.roll_back(name, revision)
    click.echo(f"{name} is at {model.revision[:12]} again.")


@click.command("set")
@_NAME
@click.argument("options", nargs=-1, required=True)
def set_(name: str, options: tuple[str, ...]) -> None:
    """Change how a model is run, from its next load on.

    \b
    wordmill models set smol device=cpu threads=4 dtype=bf16
    wordmill models set smol pinned=yes context=4096 follows=main
    wordmill models set smol threads=auto
    """
    from wordmill.local_models.options import read

    words = dict(_pair(text) for text in options)
    with opened() as models:
        registry = models.registry
        model = registry.change(name, **read(registry.find(name), words))
    for option in words:
        value = getattr(model, option)
        shown = {None: "auto", True: "yes", False: "no", "": "-"}.get(value, value)
        click.echo(f"{option}: {shown}")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not written NAME=VALUE, as threads=4.")
    return name.strip(), value


@click.command()
@click.option(
    "--delete",
    help="OWNER/NAME@COMMIT: that revision, by its first digits; OWNER/NAME: what is unfinished.",
)
@_JSON
def disk(delete: str | None, as_json: bool) -> None:
    """Show what models take of the disk, or delete a revision."""
    with opened() as models:
        if delete is not None:
            repository, at, commit = delete.partition("@")
            freed = models.remove_revision(repository, commit) if at else models.discard(repository)
            click.echo(f"Deleted {delete}: {_said(freed)} are free again.")
            return
        used, others = models.used(), models.registry.all()
        unfinished = models.cache.leftovers()
    made = [one for one in others if one.source != "hub"]
    if as_json:
        shown = [
            {**asdict(one), "path": str(one.path), "models": list(names)} for one, names in used
        ]
        own = [{"model": one.name, "path": str(one.path), "size": one.size} for one in made]
        told = {"revisions": shown, "others": own, "unfinished": unfinished}
        click.echo(json.dumps(told, indent=2))
        return
    rows = [
        (one.repository, one.commit[:12], _said(one.size), _said(one.alone), ", ".join(names))
        for one, names in used
    ]
    rows += [(str(one.path), "-", _said(one.size), "-", one.name) for one in made]
    rows += [(name, "unfinished", _said(left), "-", "") for name, left in unfinished.items()]
    head = ("where", "revision", "size", "its own", "models")
    click.echo(table(head, rows, {"revision": "-", "its own": "-", "models": ""}))


@click.command()
@click.option("--remove", "removing", is_flag=True, help="Forget the stored token.")
def token(removing: bool) -> None:
    """Store a token of the hub, for private and gated models.

    It is asked for, or the first line of what is piped in, and kept encrypted. HF_TOKEN and
    HF_TOKEN_FILE come first.
    """
    from wordmill.cli.people import asked

    with opened() as models:
        if removing:
            if not models.tokens.remove():
                raise ConfigError(f"No token is stored for {models.tokens.url}.")
            click.echo(f"Removed the token for {models.tokens.url}.")
            return
        name = models.store_token(asked(f"Token for {models.tokens.url}"))
        click.echo(f"Stored the token of {printable(name)} for {models.tokens.url}, encrypted.")


@click.command("loaded")
@_JSON
def loaded(as_json: bool) -> None:
    """Show the models in memory, with speed and queue."""
    from wordmill.model_server.client import running

    settings = load()
    client = running(settings)
    overview = None if client is None else client.overview()
    if as_json:
        click.echo(json.dumps(None if overview is None else asdict(overview), indent=2))
        return
    if overview is None or not overview.models:
        click.echo("No model is loaded: the first request to one loads it.", err=True)
        return
    rows = [
        (
            one.name, one.state, one.engine or "-", _said(one.memory),
            f"{one.tokens_per_second:.1f}", str(one.running), str(one.waiting),
            "yes" if one.pinned else "-", one.trouble or "-",
        )
        for one in overview.models
    ]  # fmt: skip
    head = (
        "name", "state", "engine", "memory", "tokens/s", "answering", "waiting", "pinned",
        "trouble",
    )  # fmt: skip
    click.echo(table(head, rows, {"pinned": "-", "trouble": "-"}))
    for one in overview.models:
        click.echo(f"{one.name}: {one.why}", err=True)
    click.echo(f"{_said(overview.memory)} of {_said(overview.ceiling)} are in use.", err=True)


@click.command("load")
@_NAME
def load_(name: str) -> None:
    """Load a model into memory, and wait until it is there."""
    _server(name).load(name)
    click.echo(f"{name} is loaded.")


@click.command()
@_NAME
def unload(name: str) -> None:
    """End a model's process, once its answers have ended."""
    unloaded = _server(name).unload(name)
    click.echo(f"{name} is unloaded." if unloaded else f"{name} was not loaded.")


@click.command()
@_NAME
def restart(name: str) -> None:
    """Replace a model's process by a new one; no request is lost."""
    _server(name).restart(name)
    click.echo(f"{name} was restarted.")


@click.command()
@_NAME
def warm(name: str) -> None:
    """Load a model and let it say one word."""
    click.echo(f"{name} is warm, after {_server(name).warm(name):.1f} s.")


def _server(name: str) -> "Client":
    """The running model server. Raises UnknownName for the model, ConfigError where none runs.

    None is started: it would end with this command, and the model with it.
    """
    from wordmill.model_server.client import running

    with opened() as models:
        models.registry.find(name)
        there = running(models.settings)
    if there is None:
        raise ConfigError(
            "No model server runs on this machine: `wordmill serve` starts one when a model is "
            "first asked, and `wordmill model-server` at once."
        )
    return there


COMMANDS = (
    loaded, load_, unload, restart, warm,
    search, card, fit, fetch, import_, quantize, update, rollback, set_, disk, token,
)  # fmt: skip


@contextmanager
def opened() -> "Iterator[LocalModels]":
    """The models of the data folder."""
    from wordmill.local_models.local_models import LocalModels

    settings = load()
    warn(settings)
    with open_database(settings) as database:
        yield LocalModels(database, settings)


@dataclass
class _Interrupts:
    """Whether Ctrl-C was pressed; the process that works is told, and ends in order."""

    asked: bool = False

    def __call__(self) -> bool:
        return self.asked


@contextmanager
def _interrupts(words: str) -> Iterator[_Interrupts]:
    import signal

    wanted = _Interrupts()

    def ask(*_: object) -> None:
        wanted.asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield wanted
    except InterruptedError:
        click.echo(f"\n{words}", err=True)
        raise click.exceptions.Exit(130) from None
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(label: str) -> "Iterator[tuple[Any, _Interrupts]]":
    """A bar on a terminal; nothing where nobody watches."""
    words = "Paused: what has come is kept. The same command goes on there."
    with _interrupts(words) as stop:
        if not sys.stderr.isatty():
            yield (lambda _: None), stop
            return
        with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

            def heard(line: Any) -> None:
                if "of" in line:
                    bar.length = max(1, cast(int, line["of"]))
                    bar.pos = 0
                    bar.update(line["bytes"])

            yield heard, stop


@contextmanager
def _steps() -> "Iterator[tuple[Any, _Interrupts]]":
    last = ""

    def heard(line: Any) -> None:
        nonlocal last
        if line.get("step") and line["step"] != last:
            last = line["step"]
            click.echo(f"{last} ...", err=True)

    with _interrupts("Stopped: nothing was made.") as stop:
        yield heard, stop


def described(name: str) -> list[tuple[str, str]]:
    """What is known of a model of this machine, for a table; nothing for one elsewhere."""
    with opened() as models:
        if name not in models.registry.names():
            return []
        model = models.registry.find(name)
    rows = [
        ("from", model.source), ("kept as", f"{model.form} {model.facts.dtype}".strip()),
        ("where", str(model.path)), ("size", _said(model.size)),
        ("parameters", counted(model.facts.parameters)),
        ("architecture", printable(model.facts.architecture)), ("repository", model.repository),
        ("revision", model.revision), ("follows", model.follows), ("licence", model.license),
        ("made from", model.made_from),
        *((option, str(getattr(model, option) or "auto"))
          for option in ("engine", "device", "dtype", "threads")),
        ("pinned", "yes" if model.pinned else "no"),
    ]  # fmt: skip
    rows += [(f"perplexity {when}", f"{value:.4g}") for when, value in model.quality.items()]
    return [(field, value) for field, value in rows if value]


def counted(number: int) -> str:
    """Parameters for people: `135M`."""
    for factor, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return str(number) if number else "-"


def printable(text: str) -> str:
    """A stranger's text for a terminal: without what would steer it."""
    from wordmill.channels.shell.rendering import safe

    return safe(text)


def _said(number: int) -> str:
    from wordmill.local_models.fit import size

    return size(number)
