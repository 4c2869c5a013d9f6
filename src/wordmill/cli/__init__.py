"""The `wordmill` command: parse, call, print.

Each group of commands is a module here that is imported only when one of its commands is used,
so that `wordmill generate` starts fast. No rule of the business lives here.

Exit codes: 0 all is done; 2 bad input, said in one sentence; 3 short (cells failed or a ceiling was
reached); 130 cancelled.
"""

import sys
from collections.abc import Mapping
from importlib import import_module

import click

from wordmill.errors import WordmillError

COMMANDS: Mapping[str, str] = {
    "backup": "wordmill.cli.backups:backup",
    "cache": "wordmill.cli.cache:cache",
    "check": "wordmill.cli.recipes:check",
    "export": "wordmill.cli.runs:export",
    "generate": "wordmill.cli.generate:generate",
    "models": "wordmill.cli.models:models",
    "new": "wordmill.cli.recipes:new",
    "preview": "wordmill.cli.generate:preview",
    "rehearse": "wordmill.cli.rehearse:rehearse",
    "restore": "wordmill.cli.backups:restore",
    "resume": "wordmill.cli.generate:resume",
    "runs": "wordmill.cli.runs:runs",
    "settings": "wordmill.cli.settings:settings",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; imported now."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is no command")
        return command


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=LazyGroup, context_settings=CONTEXT)
@click.version_option(package_name="wordmill", prog_name="wordmill")
def wordmill() -> None:
    """Talk to language models, make datasets with them, review and export."""


def main() -> None:
    """Run the command; every error of ours becomes one sentence and exit code 2."""
    try:
        code = wordmill.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        print("Cancelled.", file=sys.stderr)
        code = 130
    except WordmillError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
