"""Rebuild what is generated in the documentation: `make docs`.

    docs/cli.md        every command's help, as it prints it
    docs/settings.md   the table of settings
    docs/models.md     the table of presets
    docs/commands.md   the tables of commands in a conversation

A page that is not generated as a whole holds its table between `<!-- table -->` and
`<!-- end -->`. `--check` writes nothing and fails when something would change.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from wordmill.cli import CONTEXT, wordmill
from wordmill.commands import COMMANDS
from wordmill.commands.help import markdown as commands_in_conversation
from wordmill.providers import presets
from wordmill.settings.pages import markdown as settings_table

DOCS = Path(__file__).parents[1] / "docs"
OPEN, CLOSE = "<!-- table -->\n", "<!-- end -->"


def helps(command: click.Command, path: str) -> Iterator[str]:
    """The help of a command and of those below it, as sections."""
    width = {"max_content_width": 88, "terminal_width": 88}
    with click.Context(command, info_name=path, **{**CONTEXT, **width}) as context:
        yield f"## {path}\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                if below is not None and not below.hidden:
                    yield from helps(below, f"{path} {name}")


def pages() -> dict[Path, str]:
    """Each generated page with the text that it should have."""
    commands = "\n".join(helps(wordmill, "wordmill"))
    made = {DOCS / "cli.md": f"# Commands\n\nGenerated from the commands' own help.\n\n{commands}"}
    tables = {
        "settings": settings_table(),
        "models": presets.markdown(),
        "commands": commands_in_conversation(COMMANDS),
    }
    for name, table in tables.items():
        page = DOCS / f"{name}.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(OPEN)
        _, _, after = rest.partition(CLOSE)
        made[page] = f"{before}{OPEN}{table}{CLOSE}{after}"
    return made


def main() -> int:
    """Write the pages, or with --check say which would change."""
    stale = [
        page
        for page, text in pages().items()
        if not page.exists() or page.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv:
        for page in stale:
            print(f"{page.relative_to(DOCS.parent)} is not what `make docs` writes.")
        return bool(stale)
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
