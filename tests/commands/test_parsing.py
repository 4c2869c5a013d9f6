"""Whether a message is a command."""

import pytest

from wordmill.commands import COMMANDS
from wordmill.commands.parsing import Line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("/models", Line("/", "models", "")),
        ("--models", Line("--", "models", "")),
        ("--models  \n", Line("--", "models", "")),
        ("/Set_Prompt You are\n a poet.", Line("/", "set-prompt", "You are\n a poet.")),
        ("/title\nA title", Line("/", "title", "A title")),
        ("/modles", Line("/", "modles", "")),
        ("--xyzzy plugh", Line("--", "xyzzy", "plugh")),
        # What a phone's autocorrect makes of two dashes.
        ("–reset-chat", Line("--", "reset-chat", "")),
        ("—reset-chat", Line("--", "reset-chat", "")),
        ("–comands", Line("--", "comands", "")),
        ("–set-prompt Wait – what?", Line("--", "set-prompt", "Wait – what?")),
    ],
)
def test_commands(text, line):
    assert COMMANDS.parse(text) == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models",
        " /models",
        "\n/models",
        "what does /models do?",
        "/usr/bin/python fails",
        "/etc/passwd",
        "// a comment",
        "/* another */",
        "/",
        "--",
        "---",
        "--- a line",
        "-- SELECT 1",
        "-models",
        "/42",
        "/models.",
        "/modèles",
        # Dialogues, and dashes further inside.
        "–bonjour",
        "—Hello, he said",
        "– models",
        "use it – reset-chat",
        "a --models b",
    ],
)
def test_messages(text):
    assert COMMANDS.parse(text) is None
