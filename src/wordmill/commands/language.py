"""Commands in plain language: "use only the last ten messages".

The chat model itself says, by structured output, which command a message means, if any. What it
says is only ever a proposal: the arguments are checked as if they had been typed, the person is
asked, and nothing runs without a yes. Whatever goes wrong on the way makes the message an ordinary
one.

Asking a model takes time and tokens, so most messages are not asked about: only short ones that
name something that commands are about, and something to do with it. That choice is no guess at a
meaning; it only saves the question.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from wordmill.commands.base import Command
from wordmill.commands.context import Context
from wordmill.commands.registry import Registry
from wordmill.commands.words import code
from wordmill.errors import WordmillError
from wordmill.models import REHEARSAL

LONGEST: Final = 200
"""Characters of a message that may mean a command."""
NONE: Final = "none"
_ANSWER_TOKENS: Final = 200
_SHORT: Final = 3
"""Letters up to which a beginning of a word is a whole word."""
_PATIENCE: Final = 8.0
"""Seconds that a person waits at most for what a message may mean."""

# Beginnings of words, English and German. A message that means a command has one of these and one
# of the command's own `spoken`; the model decides what it means.
_DOING: Final = (
    "use", "set", "change", "switch", "swap", "make", "give", "take", "put", "turn", "keep",
    "limit", "show", "list", "tell", "display", "print", "see", "which", "what", "how", "who",
    "where", "start", "begin", "open", "new", "reset", "clear", "forget", "restart", "stop",
    "cancel", "abort", "try", "retry", "again", "redo", "regenerate", "continue", "go", "undo",
    "take", "remove", "fork", "branch", "split", "copy", "name", "call", "rename", "export",
    "save", "download", "let", "talk", "answer", "write", "be", "generate", "only", "more", "less",
    "lower", "raise", "increase", "reduce", "remember",
    "benutz", "verwend", "nimm", "setz", "stell", "änder", "wechsl", "zeig", "nenn", "welche",
    "was", "wie", "wer", "beginn", "fang", "neu", "lösch", "vergiss", "stopp", "nochmal", "mach",
    "gib", "exportier", "speicher", "sag", "erhöh", "senk", "nur",
)  # fmt: skip

_TASK: Final = """\
You sort one message of a person who is talking to an assistant. Either it asks the assistant's \
program to do one of the commands below, or it is an ordinary message, meant for the assistant's \
own knowledge and writing. Answer with JSON: the command's name and its arguments in order, as \
texts, numbers as digits.

It is a command only if the person clearly wants the program's own settings, models, conversation \
or documents changed, shown or acted upon. A question about the world, a text to write, a program \
to explain, is no command, even if it has the same words. Whenever you are not sure, answer \
{"command": "none", "arguments": []}. Never invent a value that the message does not give.

Commands:
"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A command that a message may mean. `line`: as one would type it, without its mark."""

    command: str
    arguments: Mapping[str, str | int]
    line: str
    text: str
    """The question for the person, in Markdown."""

    def as_json(self) -> dict[str, Any]:
        """For doors whose other side is elsewhere."""
        return asdict(self)


def may_mean_a_command(registry: Registry, text: str) -> bool:
    """Whether a model should be asked about a message. Costs nothing."""
    if len(text) > LONGEST or "\n" in text.strip() or "`" in text:
        return False
    words = re.findall(r"\w+", text.casefold())
    things = [word for command in spoken(registry) for word in command.spoken]
    return _any_begins(words, things) and _any_begins(words, _DOING)


def _any_begins(words: Sequence[str], beginnings: Sequence[str]) -> bool:
    """Whether a word begins so; of a short beginning, whether it is the word."""
    long = tuple(one for one in beginnings if len(one) > _SHORT)
    short = {one for one in beginnings if len(one) <= _SHORT}
    return any(word in short or word.startswith(long) for word in words)


def spoken(registry: Registry) -> Iterator[Command]:
    """The commands that plain language can reach."""
    return (command for command in registry if command.spoken)


def propose(registry: Registry, context: Context, text: str) -> Proposal | None:
    """The command that a message means, to be run after a yes; None for an ordinary message.

    Nothing is raised for a model that fails or answers nonsense: the message is ordinary then.
    """
    if not may_mean_a_command(registry, text):
        return None
    try:
        if why_not(context) is not None:
            return None
        answer = _ask(context, request(registry, text))
    except WordmillError:
        return None
    return understood(registry, context, answer)


def why_not(context: Context) -> str | None:
    """Why there is no plain language here, as the end of a sentence; None where there is."""
    house, name = context.house, context.model_name()
    if not house.settings.plain_commands:
        return "the setting `plain_commands` is off"
    model = house.catalog.get(name)
    if model.provider == REHEARSAL.provider:
        return f"the model {code(name)} makes up its words"
    if "json_schema" in model.without:
        return f"the server of the model {code(name)} has no structured output"
    return None


def _ask(context: Context, body: Mapping[str, Any]) -> str:
    """What the conversation's model answers, within some seconds."""
    end = time.monotonic() + _PATIENCE
    answer = context.house.completions.stream(
        context.person, context.model_name(), body, door=context.door,
        subject=context.conversation_id,
    )  # fmt: skip
    for _ in answer:
        if time.monotonic() > end:
            answer.cancel()
    reply = answer.reply
    return reply.text if reply is not None and reply.error is None else ""


def request(registry: Registry, text: str) -> dict[str, Any]:
    """The chat request that asks what a message means; the model is for whoever sends it."""
    known = list(spoken(registry))
    lines = [
        f"{command.usage} - {command.help}"
        + "".join(f" {argument.shown}: {argument.help}" for argument in command.arguments)
        for command in known
    ]
    schema = {
        "type": "object",
        "properties": {
            "command": {"type": "string", "enum": [*(one.name for one in known), NONE]},
            "arguments": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["command", "arguments"],
        "additionalProperties": False,
    }
    return {
        "messages": [
            {"role": "system", "content": _TASK + "\n".join(lines)},
            {"role": "user", "content": text},
        ],
        "temperature": 0,
        "max_tokens": _ANSWER_TOKENS,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "command", "strict": True, "schema": schema},
        },
    }


def understood(registry: Registry, context: Context, answer: str) -> Proposal | None:
    """What a model's answer proposes, if it is a command that this person may give."""
    try:
        said = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("command") in (None, NONE):
        return None
    given = said.get("arguments", [])
    command = next((one for one in spoken(registry) if one.name == said["command"]), None)
    if command is None or not isinstance(given, list) or len(given) > len(command.arguments):
        return None
    named = {
        argument.name: value for argument, value in zip(command.arguments, given, strict=False)
    }
    try:
        registry.check(context, command)
        values = command.values(named)
    except WordmillError:
        return None
    return _proposal(context, command, values)


def _proposal(context: Context, command: Command, values: Mapping[str, str | int]) -> Proposal:
    line = " ".join([command.name, *map(str, values.values())])
    question = f"{command.help} Shall I do this: {code(context.mark + line)}?"
    return Proposal(command.name, values, line, question)


def agreed(text: str) -> bool | None:
    """Whether somebody says yes or no; None for anything else, which is a message then."""
    word = re.sub(r"[\s.!]+$", "", text.strip().casefold())
    if word in _YES:
        return True
    return False if word in _NO else None


_YES: Final[Sequence[str]] = (
    "y", "yes", "yeah", "yep", "ok", "okay", "sure", "please", "yes please", "do it", "go ahead",
    "j", "ja", "jo", "klar", "gern", "oui", "si", "sí", "👍", "✅",
)  # fmt: skip
_NO: Final[Sequence[str]] = ("n", "no", "nope", "no thanks", "nein", "nee", "non", "👎", "❌")
