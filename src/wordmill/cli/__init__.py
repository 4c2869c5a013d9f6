"""The `wordmill` command: parse, call, print.

Each group of commands is a module here that is imported only when one of its commands is used,
so that `wordmill generate` starts fast. No rule of the business lives here.

Exit codes: 0 all is done; 2 bad input, said in one sentence; 3 short (cells failed or a ceiling was
reached); 130 cancelled.
"""

import gc
import os
import sys
from collections.abc import Mapping
from importlib import import_module

import click

from wordmill.errors import WordmillError, nearest

COMMANDS: Mapping[str, str] = {
    "ask": "wordmill.cli.chat:ask",
    "backup": "wordmill.cli.backups:backup",
    "batch": "wordmill.cli.batch:batch",
    "cache": "wordmill.cli.cache:cache",
    "channels": "wordmill.cli.channels:channels",
    "chat": "wordmill.cli.chat:chat",
    "check": "wordmill.cli.recipes:check",
    "export": "wordmill.cli.runs:export",
    "generate": "wordmill.cli.generate:generate",
    "health": "wordmill.cli.health:health",
    "import": "wordmill.cli.imports:import_",
    "index": "wordmill.cli.index:index",
    "keys": "wordmill.cli.keys:keys",
    "model-server": "wordmill.cli.model_server:model_server",
    "models": "wordmill.cli.models:models",
    "new": "wordmill.cli.recipes:new",
    "people": "wordmill.cli.people:people",
    "preview": "wordmill.cli.generate:preview",
    "rehearse": "wordmill.cli.rehearse:rehearse",
    "restore": "wordmill.cli.backups:restore",
    "resume": "wordmill.cli.generate:resume",
    "runs": "wordmill.cli.runs:runs",
    "serve": "wordmill.cli.serve:serve",
    "settings": "wordmill.cli.settings:settings",
    "worker": "wordmill.cli.worker:worker",
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
        # An import makes hardly any garbage; looking for it costs a tenth of the start.
        gc.disable()
        try:
            command = getattr(import_module(module), attribute)
        finally:
            gc.enable()
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is no command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for. Raises UsageError with the nearest names."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(
                f"There is no command {args[0]!r}{nearest(args[0], COMMANDS)}", ctx
            )
        return super().resolve_command(ctx, args)


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=LazyGroup, context_settings=CONTEXT)
@click.version_option(package_name="wordmill", prog_name="wordmill")
def wordmill() -> None:
    """Talk to language models, make datasets with them, review and export."""


def main() -> None:
    """Run the command; every error of ours becomes one sentence and exit code 2."""
    code = _run()
    try:
        if sys.stdout:  # None where it was closed
            sys.stdout.flush()
    except OSError:  # told already, or nobody reads on; the interpreter would try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run() -> int:
    try:
        code = wordmill.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        print("Cancelled.", file=sys.stderr)
        return 130
    except WordmillError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SystemExit:  # click's way to go when nobody reads on, as after `| head`
        return 0
    except OSError as error:
        if error.filename is not None:
            raise
        print(f"error: The output cannot be written: {error.strerror}.", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0
