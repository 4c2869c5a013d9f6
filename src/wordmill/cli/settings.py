"""`wordmill settings`: every setting, its value, and where it comes from."""

import json

import click

from wordmill import settings as source
from wordmill.cli.table import table
from wordmill.settings import Settings, pages


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--markdown", is_flag=True, hidden=True, help="The table for the documentation.")
def settings(as_json: bool, markdown: bool) -> None:
    """Show every setting: value, unit and where it comes from.

    A setting is given as WORDMILL_NAME in the environment or in .env, or as a key of wordmill.toml
    in the current folder or one above. Secrets are masked.
    """
    if markdown:
        click.echo(pages.markdown(), nl=False)
        return
    values = source.load()
    warn(values)
    if as_json:
        click.echo(
            json.dumps(
                {
                    setting.name: {
                        "value": values.shown(setting.name)
                        if setting.row.secret
                        else _plain(getattr(values, setting.name)),
                        "unit": setting.row.unit,
                        "origin": values.origin(setting.name),
                    }
                    for setting in source.table()
                },
                indent=2,
            )
        )
        return
    rows = [
        (
            setting.name,
            values.shown(setting.name) or "-",
            setting.row.unit,
            values.origin(setting.name),
        )
        for setting in source.table()
    ]
    click.echo(table(("setting", "value", "unit", "from"), rows))


def warn(values: Settings) -> None:
    """Say on stderr what was given and means nothing."""
    for sentence in values.warnings:
        click.echo(f"warning: {sentence}", err=True)


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
