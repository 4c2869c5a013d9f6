"""`wordmill keys`: API keys of people, for programs."""

import json
from datetime import timedelta

import click

from wordmill.accounts import SCOPES, Accounts, ApiKey, Person
from wordmill.cli.people import find, opened
from wordmill.cli.table import table
from wordmill.database import LOCAL, now
from wordmill.errors import ConfigError, NotFound, UnknownName
from wordmill.settings import parse_seconds


class Lasting(click.ParamType[timedelta]):
    """A time from now."""

    name = "TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """The time."""
        try:
            seconds = parse_seconds(str(value))
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= 100 * 366 * 86400:
            self.fail(f"{value!r} is no time, as 90d, 12h or 52w.", param, ctx)
        return timedelta(seconds=seconds)


@click.group()
def keys() -> None:
    """API keys, with which programs come in as a person."""


@keys.command()
@click.argument("name")
@click.option("--person", "email", metavar="EMAIL", help="Whose; the first admin's without it.")
@click.option(
    "--scopes",
    default="chat,runs,read",
    show_default=True,
    help=f"What it may do, with commas between: {', '.join(SCOPES)}.",
)
@click.option("--expires", type=Lasting(), help="How long it is good, as 90d; for ever without it.")
def create(name: str, email: str | None, scopes: str, expires: timedelta | None) -> None:
    """Make an API key and print it, alone. It is shown this once.

    \b
    KEY=$(wordmill keys create notebook --person ann@example.org --expires 90d)
    """
    with opened() as accounts:
        _, secret = accounts.keys.create(
            _owner(accounts, email),
            name,
            [scope.strip() for scope in scopes.split(",") if scope.strip()],
            None if expires is None else now() + expires,
            actor=accounts.people.local(),
        )
    click.echo(secret)


@keys.command("list")
@click.option("--person", "email", metavar="EMAIL", help="Only this person's.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(email: str | None, as_json: bool) -> None:
    """List the API keys that were not revoked; never the keys themselves."""
    with opened() as accounts:
        actor = accounts.people.local()
        emails = {one.id: one.email for one in accounts.people.all(actor)}
        found = accounts.keys.all(actor, find(accounts, email).id if email else "")
    if as_json:
        click.echo(json.dumps([_described(key, emails) for key in found], indent=2))
        return
    head = ("id", "name", "person", "begins with", "scopes", "expires", "last used")
    click.echo(table(head, [_row(key, emails) for key in found]))


@keys.command()
@click.argument("key")
@click.option("--person", "email", metavar="EMAIL", help="Whose, where several have that name.")
def revoke(key: str, email: str | None) -> None:
    """End an API key at once, by its id or its name."""
    with opened() as accounts:
        actor = accounts.people.local()
        held = accounts.keys.all(actor, find(accounts, email).id if email else "")
        found = [one for one in held if key in (one.id, one.name)]
        if not found:
            known = [one.name for one in held]
            raise UnknownName("API key", key, known, "`wordmill keys list` shows all.")
        if len(found) > 1:
            ids = ", ".join(one.id for one in found)
            raise ConfigError(
                f"{len(found)} API keys are called {key!r}: name one by its id, {ids}."
            )
        accounts.keys.revoke(actor, found[0].id)
    click.echo(f"Revoked {found[0].name} ({found[0].start}...).")


def _owner(accounts: Accounts, email: str | None) -> Person:
    if email is not None:
        return find(accounts, email)
    try:
        return accounts.people.get(LOCAL)
    except NotFound as error:
        raise ConfigError(
            "There is no first admin whose key it could be: name somebody with --person, or add "
            "the admin with `wordmill people add EMAIL --role admin`."
        ) from error


def _row(key: ApiKey, emails: dict[str, str]) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        emails.get(key.person, key.person),
        key.start,
        ",".join(key.scopes),
        "never" if key.expires is None else f"{key.expires:%Y-%m-%d}",
        "never" if key.used is None else f"{key.used:%Y-%m-%d %H:%M}",
    )


def _described(key: ApiKey, emails: dict[str, str]) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "person": emails.get(key.person, key.person),
        "start": key.start,
        "scopes": list(key.scopes),
        "created": key.created.isoformat(timespec="seconds"),
        "expires": key.expires.isoformat(timespec="seconds") if key.expires else None,
        "used": key.used.isoformat(timespec="seconds") if key.used else None,
    }
