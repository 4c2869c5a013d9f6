"""`wordmill people`: who has an account, and the right to everything that needs an admin.

Whoever may write to the data folder holds the house: this works without signing in, also when no
admin can.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from wordmill.accounts import EVERYBODY, PERIODS, ROLES, Accounts, Period, Person, Role
from wordmill.cli.settings import warn
from wordmill.cli.table import table
from wordmill.database import LOCAL, Database, open_database
from wordmill.errors import ConfigError, InvalidInput, NotFound, UnknownName
from wordmill.settings import Settings, load

_EMAIL = click.argument("email")


@click.group()
def people() -> None:
    """The people who have an account, their roles and quotas."""


@people.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> None:
    """List the people."""
    with opened() as accounts:
        found = accounts.people.all(accounts.people.local())
    if as_json:
        described = [
            {
                "id": one.id, "email": one.email, "name": one.name, "role": one.role,
                "disabled": one.disabled, "created": one.created.isoformat(timespec="seconds"),
            }
            for one in found
        ]  # fmt: skip
        click.echo(json.dumps(described, indent=2))
        return
    rows = [
        (
            one.email,
            one.name,
            one.role,
            "disabled" if one.disabled else "-",
            f"{one.created:%Y-%m-%d}",
        )
        for one in found
    ]
    click.echo(table(("e-mail", "name", "role", "state", "since"), rows))


@people.command()
@_EMAIL
@click.option("--name", default="", help="What others see; what stands before the @ without it.")
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True)
@click.option(
    "--code", is_flag=True, help="Print a one-time code to choose a password with; ask for none."
)
def add(email: str, name: str, role: Role, code: bool) -> None:
    """Add somebody. The password is asked for, or is the first line of what is piped in.

    The first one has to be an admin: --role admin.
    """
    with opened() as accounts:
        actor = accounts.people.local()
        password = None if code else asked("Password", confirm=True)
        person = accounts.people.create(actor, email, name, password, role)
        if code:
            click.echo(accounts.people.reset(actor, person.id))
    click.echo(f"Added {person.email}, {person.role}.", err=code)


@people.command()
@_EMAIL
@click.argument("new", type=click.Choice(ROLES), metavar="ROLE")
def role(email: str, new: Role) -> None:
    """Make somebody an admin, a member, or pending.

    Who is pending has to be let in.
    """
    with opened() as accounts:
        person = find(accounts, email)
        accounts.people.change(accounts.people.local(), person.id, role=new)
    click.echo(f"{person.email} is {'an' if new == 'admin' else 'a'} {new} now."
               if new != "pending" else f"{person.email} has to be let in now.")  # fmt: skip


@people.command()
@_EMAIL
@click.option("--code", is_flag=True, help="Print a one-time code instead, good for a day.")
def password(email: str, code: bool) -> None:
    """Give somebody another password.

    It is asked for, or the first line of what is piped in.
    """
    with opened() as accounts:
        person = find(accounts, email)
        if code:
            click.echo(accounts.people.reset(accounts.people.local(), person.id))
            return
        accounts.people.set_password(None, person.id, asked("New password", confirm=True))
    click.echo(f"Changed. {person.email} has to sign in again.")


@people.command()
@_EMAIL
def disable(email: str) -> None:
    """Keep somebody out, at once; what they have stays."""
    with opened() as accounts:
        person = find(accounts, email)
        accounts.people.change(accounts.people.local(), person.id, disabled=True)
    click.echo(f"{person.email} is kept out. `wordmill people enable {person.email}` undoes it.")


@people.command()
@_EMAIL
def enable(email: str) -> None:
    """Let somebody in again."""
    with opened() as accounts:
        person = find(accounts, email)
        accounts.people.change(accounts.people.local(), person.id, disabled=False)
    click.echo(f"{person.email} can sign in again.")


@people.command()
@_EMAIL
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(email: str, yes: bool) -> None:
    """Remove an account with its conversations, keys and runs. Datasets stay where they are.

    Runs of the first admin are also this machine's, and stay.
    """
    with opened() as accounts:
        person = find(accounts, email)
        if not yes:
            click.confirm(f"Remove {person.email} and all that is theirs?", abort=True, err=True)
        accounts.people.remove(accounts.people.local(), person.id)
    click.echo(f"Removed {person.email}.")


@people.command()
@click.argument("email", required=False)
@click.option("--per", "period", type=click.Choice(PERIODS), help="Set the quota of this period.")
@click.option("--requests", type=click.IntRange(0), help="The most requests.")
@click.option("--tokens", type=click.IntRange(0), help="The most tokens, read and written.")
@click.option("--money", type=click.FloatRange(0), help="The most money, as prices are.")
@click.option("--remove", "removing", is_flag=True, help="Forget the quota of this period.")
def quota(
    email: str | None,
    period: Period | None,
    requests: int | None,
    tokens: int | None,
    money: float | None,
    removing: bool,
) -> None:
    """Show or set what somebody may use.

    Without an address, everybody who has no quota of their own.

    \b
    wordmill people quota --per day --tokens 200000
    wordmill people quota ann@example.org --per month --money 50
    wordmill people quota ann@example.org

    Days and months are those of UTC. A bound that is not given bounds nothing.
    """
    given = any(bound is not None for bound in (requests, tokens, money))
    if period is None and (given or removing):
        raise ConfigError("Say for which period: --per day or --per month.")
    with opened() as accounts:
        actor, ledger = accounts.people.local(), accounts.ledger
        person = find(accounts, email).id if email else EVERYBODY
        if period is not None and removing:
            ledger.remove_quota(actor, person, period)
        elif period is not None:
            ledger.set_quota(actor, person, period, requests=requests, tokens=tokens, money=money)
        held = {quota.period: quota for quota in ledger.quotas(actor, person)}
        used = ledger.used(person) if email else {}
    rows = []
    for each in PERIODS:
        bounds = held[each][1:4] if each in held else (None, None, None)
        spent = used[each].amount if each in used else (None, None, None)
        rows.append((each, *(_of(*pair) for pair in zip(spent, bounds, strict=True))))
    click.echo(table(("per", "requests", "tokens", "money"), rows))


@contextmanager
def opened() -> Iterator[Accounts]:
    """The accounts of this data folder; the first admin of the settings is made, if there is one
    to make.
    """
    settings = load()
    warn(settings)
    with open_database(settings) as database:
        accounts = Accounts(database, settings)
        accounts.people.from_settings()
        accounts.people.when_removed(lambda person: _clear(database, settings, person))
        yield accounts


def find(accounts: Accounts, email: str) -> Person:
    """Who has that address. Raises UnknownName with the nearest ones."""
    try:
        return accounts.people.by_email(email)
    except NotFound as error:
        known = [one.email for one in accounts.people.all(accounts.people.local())]
        hint = "`wordmill people add` adds somebody."
        raise UnknownName("person", email, known, hint) from error


def asked(what: str, *, confirm: bool = False) -> str:
    """A secret: typed unseen, or the first line of what is piped in; never an argument, which
    others could see in the list of processes.
    """
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=True, confirmation_prompt=confirm, err=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise InvalidInput(f"{what}: nothing was piped in, and there is nobody to ask.")
    return line


def _clear(database: Database, settings: Settings, person: Person) -> None:
    """What other parts of the house keep of a person."""
    from wordmill.chat.conversations import Conversations
    from wordmill.runs.registry import Registry

    Conversations(database, settings).remove_all(person)
    if person.id != LOCAL:
        registry = Registry(database, settings, person.id)
        for run in registry.all():
            with suppress(UnknownName):
                registry.remove(run.id)


def _of(spent: float | None, most: float | None) -> str:
    bound = "no bound" if most is None else f"{most:,g}" if isinstance(most, float) else f"{most:,}"
    return bound if spent is None else f"{spent:,g} of {bound}" if most is not None else (
        f"{spent:,g}"
    )  # fmt: skip
