"""`wordmill health`: whether the server on this machine can do its work, for those who watch it."""

import json

import click

from wordmill import outbound
from wordmill.cli.serve import shown
from wordmill.settings import load

_PATIENCE = outbound.Limits(connect=3.0, first_byte=5.0, total=5.0, reply=1_000_000)


@click.command()
@click.option("--host", help="The address that it listens on. [default: as for serve]")
@click.option("--port", help="The port that it listens on. [default: as for serve]")
def health(host: str | None, port: str | None) -> int:
    """Ask whether the server of this machine is ready.

    For the health check of a container, which then needs no other program.

    Exit codes: 0 ready, though a model may be in trouble; 1 not ready, or no answer.
    """
    settings = load({"host": host, "port": port}, serving=True)
    address = f"http://{shown(settings.host)}:{settings.port}"
    said = outbound.send("GET", f"{address}/health/ready", limits=_PATIENCE, direct=True)
    if isinstance(said, outbound.Failure):
        click.echo(f"Nothing answers at {address}: {said.detail}.", err=True)
        return 1
    try:
        answer = json.loads(said.body)
        status, checks = answer["status"], answer["checks"]
    except (ValueError, KeyError, TypeError):
        click.echo(f"What answers at {address} is no Wordmill.", err=True)
        return 1
    bad = [f"{name}: {words}" for name, words in checks.items() if words != "ok"]
    click.echo("; ".join([status, *bad]), err=said.status != 200)
    return 0 if said.status == 200 else 1
