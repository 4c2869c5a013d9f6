"""`wordmill channels`: the accounts at chat services through which people talk to this house."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import click

from wordmill import plugins
from wordmill.accounts import Accounts, Person
from wordmill.channels.rooms.accounts import ChannelAccounts, fields_of, load
from wordmill.channels.rooms.admission import POLICY_HELP
from wordmill.channels.rooms.base import Check
from wordmill.channels.rooms.trial import tried
from wordmill.cli.settings import warn
from wordmill.cli.table import table
from wordmill.database import open_database
from wordmill.errors import InvalidInput, UnknownName
from wordmill.settings import load as load_settings

_NAME = click.argument("name")


@click.group()
def channels() -> None:
    """Matrix and Discord: accounts through which it talks."""


@channels.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> None:
    """List the channels and how each is."""
    with opened() as (accounts, actor):
        found = accounts.all(actor)
    if as_json:
        described = [
            {
                "name": one.name, "kind": one.kind, "enabled": one.enabled,
                "running": one.running, "status": dict(one.status),
            }
            for one in found
        ]  # fmt: skip
        click.echo(json.dumps(described, indent=2))
        return
    rows = [
        (
            one.name,
            one.kind,
            str(one.status.get("account") or one.options.get("user") or "-"),
            _state(one.enabled, one.running, one.status),
        )
        for one in found
    ]
    click.echo(table(("name", "kind", "account", "state"), rows))


@channels.command()
@click.argument("kind")
@_NAME
@click.option("--set", "options", multiple=True, metavar="NAME=VALUE", help="An option; see below.")
@click.option("--secret", "asked", multiple=True, metavar="NAME", help="Ask for this secret.")
@click.option("--replace", is_flag=True, help="Change one that is there.")
@click.option("--no-test", is_flag=True, help="Do not try it out.")
def add(
    kind: str, name: str, options: Sequence[str], asked: Sequence[str], replace: bool, no_test: bool
) -> None:
    """Add a channel of a kind (matrix, discord), and try it out.

    Secrets are asked for, or are the lines of what is piped in, in their order. What a kind has to
    be told: `wordmill channels options KIND`.
    """
    given = _assignments(options)
    with opened() as (accounts, actor):
        known = list(plugins.names("channels"))
        if kind not in known:
            raise UnknownName("kind of channel", kind, known)
        hidden = {one: _secret(one) for one in asked or _wanted(kind, replace)}
        if replace:
            accounts.change(actor, name, options=given, hidden=hidden)
        else:
            accounts.add(actor, name, kind, given, hidden, enabled=no_test)
        if not no_test and not replace:
            _say(tried(accounts, actor, name))
            accounts.change(actor, name, enabled=True)
        found = accounts.get(actor, name)
        click.echo(load(kind).invitation(found.options))
    done = "changed" if replace else "added"
    click.echo(f"The channel {name} is {done}. `wordmill serve` runs it.")


@channels.command()
@click.argument("kind")
def options(kind: str) -> None:
    """What a channel of a kind has to be told."""
    rows = [
        (one.name, "secret" if one.secret else "needed" if one.needed else "", one.help)
        for one in fields_of(kind)
    ]
    rows += [(name, "", words) for name, words in POLICY_HELP.items()]
    click.echo(table(("option", "", "what it is"), rows))


@channels.command()
@_NAME
def test(name: str) -> None:
    """Try a channel out: sign-in, permissions, encryption."""
    with opened() as (accounts, actor):
        found = tried(accounts, actor, name)
    _say(found)
    if not all(one.fine for one in found):
        sys.exit(2)


@channels.command()
@click.argument("name", required=False)
def status(name: str | None) -> None:
    """How the channels are, as those that run say it."""
    with opened() as (accounts, actor):
        found = accounts.all(actor) if name is None else [accounts.get(actor, name)]
    for one in found:
        click.echo(f"{one.name} ({one.kind}): {_state(one.enabled, one.running, one.status)}")
        for title, key in (
            ("account", "account"), ("last event", "last_event"), ("encryption", "encryption"),
            ("waiting", "waiting"),
        ):  # fmt: skip
            if (value := one.status.get(key)) not in (None, ""):
                click.echo(f"  {title}: {value}")


@channels.command()
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> None:
    """Forget a channel with its keys.

    The conversations stay.
    """
    with opened() as (accounts, actor):
        accounts.get(actor, name)
        if not yes:
            click.confirm(f"Forget the channel {name} and the keys of its device?", abort=True)
        accounts.remove(actor, name)
    click.echo(f"Removed {name}.")


@contextmanager
def opened() -> Iterator[tuple[ChannelAccounts, Person]]:
    """The channels, and whoever runs the command line. Raises ConfigError, StorageError."""
    settings = load_settings()
    warn(settings)
    with open_database(settings) as database:
        people = Accounts(database, settings).people
        yield ChannelAccounts(database, settings), people.local()


def _wanted(kind: str, replace: bool) -> Sequence[str]:
    """Secrets that are asked for without being named: those that are needed, or the first."""
    if replace:
        return ()
    fields = [one for one in fields_of(kind) if one.secret]
    return [one.name for one in fields if one.needed] or [one.name for one in fields[:1]]


def _secret(name: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(name.capitalize(), hide_input=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise InvalidInput(f"The secret {name} is missing: pipe it in as a line.", name)
    return line


def _assignments(options: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in options:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{one[:80]!r} is no option: write it as NAME=VALUE.", "set")
        found[name] = value
    return found


def _say(found: Sequence[Check]) -> None:
    for one in found:
        click.echo(f"{'ok ' if one.fine else 'NOT'}  {one.name}: {one.words}")


def _state(enabled: bool, running: bool, status: Mapping[str, object]) -> str:
    if not enabled:
        return "off"
    if not running:
        return "not running: `wordmill serve` runs it"
    if words := status.get("words"):
        return str(words)
    return "connected" if status.get("connected") else "connecting"
