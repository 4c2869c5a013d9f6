"""Commands on how answers come about: the model, its settings, what of a conversation it gets.

Settings belong to the person and the model together. What they may be is `chat.parameters`' affair.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from wordmill.chat.answering import TOOLS
from wordmill.chat.parameters import BUFFER, Shown, Value
from wordmill.commands.base import Argument, Group, Outcome, Suggestion
from wordmill.commands.context import Context
from wordmill.commands.words import block, code, row
from wordmill.errors import Conflict
from wordmill.providers.base import Model
from wordmill.providers.presets import PRESETS

GROUP = Group("Answers")


def _models(context: Context) -> Iterable[Suggestion]:
    return [
        Suggestion(model.name, f"{model.model} at {_server(model)}")
        for model, _ in context.house.catalog.all()
    ]


def _modes(context: Context) -> Iterable[Suggestion]:
    return [Suggestion(mode) for mode in context.house.chat.parameters.modes()]


def _tools(context: Context) -> Iterable[Suggestion]:
    return [Suggestion(one.name) for one in context.house.chat.tools.all(context.person)]


def _parameters(context: Context) -> Iterable[Suggestion]:
    return [
        Suggestion(one.name, f"{one.help} {one.range}".strip())
        for one in context.house.chat.parameters.view(context.person, context.model_name())
    ]


@GROUP.command(
    "Show which model answers here.", permission="read", spoken=("model", "modell", "talking")
)
def model(context: Context) -> Outcome:
    """Of this conversation, or of the next one."""
    name = context.model_name()
    found = context.house.catalog.get(name)
    return Outcome(
        f"{code(name)} answers: {found.model} at {_server(found)}.",
        {"model": name, "provider": found.provider},
    )


@GROUP.command("List the models.", permission="read", spoken=("model", "modell"))
def models(context: Context) -> Outcome:
    """By name; the one that answers here is marked."""
    here, lines, names = context.model_name(), [], []
    for found, _ in context.house.catalog.all():
        mark = " (answers here)" if found.name == here else ""
        window = f", {found.context:,} tokens" if found.context else ""
        lines.append(f"- {code(found.name)}: {found.model} at {_server(found)}{window}{mark}")
        names.append(found.name)
    return Outcome("\n".join(lines), {"models": names, "model": here})


@GROUP.command(
    "Let another model answer from now on; your settings for it come back with it.",
    spoken=("model", "modell", "gpt", "llama", "qwen", "claude", "mistral", "gemma", "rehearsal"),
)
def swap_model(
    context: Context, name: Annotated[str, Argument("A model's name.", suggest=_models)]
) -> Outcome:
    """Of this conversation alone."""
    found = context.house.catalog.get(name)
    begun = context.begun()
    context.house.conversations.change(context.person, begun.id, model=name)
    slow = context.house.slow_to_begin(found)
    loads = " It is loaded first, so its next answer may be slow." if slow else ""
    return Outcome(
        f"{code(name)} answers from now on.{loads}",
        {"model": name, "conversation": begun.id, "slow_to_begin": slow},
        conversation=begun.id,
    )


@GROUP.command(
    "Show which tool servers a model may use here, or choose them.",
    spoken=("tool", "tools", "werkzeug"),
)
def tools(
    context: Context,
    names: Annotated[
        str | None,
        Argument("Of servers, with spaces between; `none` for no tools.", True, suggest=_tools),
    ] = None,
) -> Outcome:
    """Of this conversation alone; each call is asked about, unless an admin trusts the server."""
    chat, person = context.house.chat, context.person
    if names is not None:
        begun = context.begun()
        wanted = [] if names == "none" else names.split()
        chosen = chat.use_tools(person, begun.id, wanted)
    elif context.conversation_id is not None:
        chosen = context.conversation()
    else:
        chosen = None
    used = list(chosen.settings.get(TOOLS, ())) if chosen is not None else []
    known = [server.name for server in chat.tools.all(person)]
    data = {"tools": used, "servers": known}
    lines = [f"- {code(name)}{' (used here)' if name in used else ''}" for name in known]
    text = "\n".join(lines) or "There are no tool servers: an admin can allow some."
    return Outcome(text, data, conversation=chosen.id if names is not None and chosen else None)


@GROUP.command(
    "Show how many of the last messages a model gets.",
    permission="read",
    spoken=("buffer", "message", "nachricht"),
)
def input_buffer_size(context: Context) -> Outcome:
    """All that fit, unless it is set."""
    size = next((one.value for one in _view(context) if one.name == BUFFER), None)
    data = {"input_buffer_size": size}
    if not isinstance(size, int):
        return Outcome("A model gets as many of the last messages as fit into its window.", data)
    if size == 1:
        return Outcome("A model gets the last message alone.", data)
    return Outcome(f"A model gets the last {size:,} messages, if they fit.", data)


@GROUP.command(
    "Set how many of the last messages a model gets; the system prompt always goes with them.",
    spoken=("buffer", "message", "nachricht"),
)
def set_input_buffer_size(
    context: Context,
    n: Annotated[int, Argument("How many, from 1; 0 is as many as fit.", low=0)],
) -> Outcome:
    """For this person and this model."""
    context.house.chat.parameters.set(context.person, context.model_name(), BUFFER, n or None)
    return input_buffer_size(context)


@GROUP.command(
    "Show exactly what was sent for the last answer.",
    permission="read",
    private=True,
    spoken=("sent", "messages"),
)
def input_messages(context: Context) -> Outcome:
    """The request as the model's server got it."""
    branch = context.house.conversations.branch(context.person, context.conversation().id, limit=20)
    last = next((one for one in reversed(branch) if one.role == "assistant"), None)
    if last is None:
        raise Conflict("Nothing has been sent to a model here yet.")
    sent = context.house.chat.sent(context.person, last.id)
    text = json.dumps(sent, ensure_ascii=False, indent=2)
    counted = _counted(last.sent or {})
    return Outcome(f"Sent for the last answer:\n\n{block(text, 'json')}{counted}", {"sent": sent})


def _counted(record: Mapping[str, Any]) -> str:
    """How many tokens that was, by whose count, and how far off it was; what did not fit."""
    if "tokens" not in record:
        return ""
    by = "the model's tokenizer" if record.get("counted") == "tokenizer" else "an estimate"
    words = f"\n\n{record['tokens']:,} tokens by {by}"
    if (error := record.get("estimate_error")) is not None:
        off = f"{abs(error):.0%} {'too many' if error > 0 else 'too few'}" if error else "exact"
        words += f" ({off}, says the server)"
    if dropped := record.get("dropped"):
        words += f"; {dropped:,} earlier messages were not sent"
    return "\n\n".join((f"{words}.", *map(str, record.get("degraded") or ())))


@GROUP.command("Show the decoding mode.", permission="read", spoken=("decoding", "mode", "modus"))
def decoding_mode(context: Context) -> Outcome:
    """Of this person with this model."""
    mode = context.house.chat.parameters.mode(context.person, context.model_name())
    return Outcome(f"The decoding mode is {code(mode)}.", {"mode": mode})


@GROUP.command("List the decoding modes.", permission="read", spoken=("decoding", "mode", "modi"))
def decoding_modes(context: Context) -> Outcome:
    """With the one that holds marked."""
    parameters = context.house.chat.parameters
    here = parameters.mode(context.person, context.model_name())
    modes = list(parameters.modes())
    lines = [f"- {code(mode)}{' (holds here)' if mode == here else ''}" for mode in modes]
    return Outcome("\n".join(lines), {"modes": modes, "mode": here})


@GROUP.command(
    "Choose a decoding mode; it replaces the one before whole.",
    spoken=("decoding", "mode", "modus", "greedy", "beam", "sampling", "top"),
)
def set_decoding_mode(
    context: Context, x: Annotated[str, Argument("A mode's name.", suggest=_modes, closed=True)]
) -> Outcome:
    """For this person and this model."""
    before = context.house.chat.parameters.set_mode(context.person, context.model_name(), x)
    return Outcome(
        f"The decoding mode is {code(x)} now; it was {code(before)}.", {"mode": x, "before": before}
    )


@GROUP.command(
    "Show the settings that you changed, and where each comes from.",
    permission="read",
    spoken=("config", "setting", "parameter", "einstellung"),
)
def config(context: Context) -> Outcome:
    """Those that somebody chose."""
    values = [one for one in _view(context) if one.changed]
    if not values:
        return Outcome("You changed no setting.", {"settings": {}})
    return _table(values)


@GROUP.command(
    "Show all settings, and where each comes from.",
    permission="read",
    spoken=("config", "setting", "parameter", "einstellung"),
)
def config_full(context: Context) -> Outcome:
    """With what each may be."""
    return _table(_view(context))


@GROUP.command(
    "Set a setting, for you and this model.",
    spoken=(
        "temperature", "length", "long", "short", "token", "penalty", "seed", "config", "setting",
        "creative", "random", "temperatur", "länge", "einstellung",
    ),
)  # fmt: skip
def set_config(
    context: Context,
    name: Annotated[str, Argument("Its name, as `temperature`.", suggest=_parameters)],
    value: Annotated[str, Argument("Its value; `default` takes it back.", rest=True)],
) -> Outcome:
    """The range is the parameter's own."""
    before, after = context.house.chat.parameters.set(
        context.person, context.model_name(), name, None if value == "default" else value
    )
    return Outcome(
        f"{code(name)} is {_shown(after)} now; it was {_shown(before)}.",
        {"name": name, "value": after, "before": before},
    )


def _server(model: Model) -> str:
    """Who answers: a provider by name, any other server by its address."""
    preset = PRESETS.get(model.provider)
    if preset is None or model.base_url == preset.base_url:
        return model.provider
    return urlsplit(model.base_url).netloc


def _view(context: Context) -> Sequence[Shown]:
    conversation = context.conversation() if context.conversation_id is not None else None
    return context.house.chat.parameters.view(context.person, context.model_name(), conversation)


def _table(values: Sequence[Shown]) -> Outcome:
    lines = ["| setting | value | from | may be |", "|---|---|---|---|"]
    lines += [row(code(one.name), _shown(one.value), one.origin, one.range) for one in values]
    data = {one.name: {"value": one.value, "from": one.origin} for one in values}
    return Outcome("\n".join(lines), {"settings": data})


def _shown(value: Value) -> str:
    if value is None:
        return "not set"
    return code(value if isinstance(value, str) else json.dumps(value))
