"""`wordmill model-server`: the models of this machine, answered for everybody who has its key."""

import click

from wordmill.cli.settings import warn
from wordmill.errors import ConfigError
from wordmill.settings import load
from wordmill.telemetry import reporting


@click.command("model-server")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8600, show_default=True)
@click.option(
    "--model",
    "named",
    multiple=True,
    metavar="NAME=FOLDER",
    help="A model beside those of `wordmill models`: its folder or file.",
)
def model_server(host: str, port: int, named: tuple[str, ...]) -> None:
    """Run local models for others, as on a machine with a GPU.

    It loads a model when it is first asked for, in a process of its own, and speaks OpenAI's API.
    `wordmill serve` and the other commands start one for themselves where none runs.

    \b
    Elsewhere, a model of it is added with its key in a variable:
    wordmill models add NAME --provider local --base-url http://HOST:8600/v1 \\
        --model NAME --key-env GPU_KEY
    """
    from wordmill.database import open_database
    from wordmill.model_server.library import Named, Shelf, paths_of
    from wordmill.model_server.serving import Wish, serve
    from wordmill.providers.local_start import FILE, Address

    settings = load(serving=True)
    warn(settings)
    paths = paths_of(named)

    def ready(where: Address) -> None:
        click.echo(f"The models of this machine are answered at {where.url}/v1.")
        if settings.model_server_key is None:
            click.echo(f"Its key is in {settings.home / FILE}.")

    with reporting(settings), open_database(settings) as database:
        library = Named(paths, Shelf(database, settings))
        if not serve(settings, library, Wish(host=host, port=port), ready=ready):
            raise ConfigError(
                f"A model server runs for {settings.home} already: it was started by `wordmill "
                "serve` or another command, and ends with the last of them."
            )
