"""Commands, once, for every door.

base        how a command is declared            registry   found, completed, run
context     who gives it, and where              parsing    whether a message is one
language    commands in plain language           help       what people read about them
about, conversation, answers, datasets, documents          the commands themselves
"""

from typing import Final

from wordmill.commands.about import GROUP as ABOUT
from wordmill.commands.answers import GROUP as ANSWERS
from wordmill.commands.base import Argument, Command, File, Group, Outcome, Suggestion
from wordmill.commands.context import Context, House
from wordmill.commands.conversation import GROUP as CONVERSATION
from wordmill.commands.datasets import GROUP as DATASETS
from wordmill.commands.documents import GROUP as DOCUMENTS
from wordmill.commands.registry import Registry

__all__ = [
    "COMMANDS",
    "Argument",
    "Command",
    "Context",
    "File",
    "Group",
    "House",
    "Outcome",
    "Registry",
    "Suggestion",
]

COMMANDS: Final = Registry(CONVERSATION, ANSWERS, DOCUMENTS, DATASETS, ABOUT)
"""Those that every door has."""
