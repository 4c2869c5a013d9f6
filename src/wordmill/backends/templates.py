"""Messages into the one text that a model reads, by the chat template of its own files.

A template is text of a stranger: it runs in Jinja's sandbox. A model whose template has no
system role gets the system message at the head of the first turn; one without any template gets
a plain transcript. `Template.notes` says so.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from wordmill.errors import ConfigError, InvalidInput

FOLDED: Final = (
    "This model's chat template has no system role: the system message stands at the head of the "
    "first turn."
)
PLAIN: Final = (
    "This model has no chat template: it reads the conversation as a plain transcript, and may "
    "go on writing it."
)
TRANSCRIPT: Final = (
    "{%- for message in messages %}"
    "{{- {'system': '', 'user': 'User: ', 'assistant': 'Assistant: '}[message.role]"
    " + message.content + '\n\n' }}"
    "{%- endfor %}{{- 'Assistant:' if add_generation_prompt else '' }}"
)
_PROBE: Final = "a8f3q"

Message = Mapping[str, Any]


class Template:
    """The chat template of a model. Raises ConfigError when it cannot be read."""

    def __init__(self, source: str | None, special: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _json
        environment.globals.update(raise_exception=_refuse, strftime_now=_now)
        try:
            self._template = environment.from_string(source or TRANSCRIPT)
        except TemplateError as error:
            raise ConfigError(f"The model's chat template cannot be read: {error}.") from error
        self._special = dict(special)
        self.plain = source is None
        self.system = self.plain or self._knows([{"role": "system", "content": _PROBE}])
        self.tools = not self.plain and self._knows(
            [], [{"type": "function", "function": {"name": _PROBE, "parameters": {}}}]
        )

    @property
    def notes(self) -> list[str]:
        """Sentences on what a conversation becomes that its writer may not expect."""
        return [PLAIN] if self.plain else [] if self.system else [FOLDED]

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """The prompt of a conversation, ready for the answer.

        Raises InvalidInput with the template's own words when it refuses the conversation.
        """
        told = list(messages) if self.system else _folded(messages)
        try:
            return self._render(told, tools)
        except TemplateError as error:
            raise InvalidInput(
                f"The model's chat template refuses the conversation: {error}.", "messages"
            ) from error
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise InvalidInput(
                f"The model's chat template fails on this conversation: {error}.", "messages"
            ) from error

    def _render(self, messages: Sequence[Message], tools: Any) -> str:
        return self._template.render(
            messages=messages,
            tools=tools or None,
            documents=None,
            add_generation_prompt=True,
            **self._special,
        )

    def _knows(self, before: list[Message], tools: Any = None) -> bool:
        """Whether what is marked arrives in the prompt."""
        try:
            return _PROBE in self._render([*before, {"role": "user", "content": "x"}], tools)
        except (TemplateError, TypeError, ValueError, KeyError, OverflowError):
            return False


def _folded(messages: Sequence[Message]) -> list[Message]:
    """The system messages at the head of the first turn of a person."""
    system = "\n\n".join(str(one["content"]) for one in messages if one["role"] == "system")
    rest = [dict(one) for one in messages if one["role"] != "system"]
    if not system:
        return list(rest)
    for one in rest:
        if one["role"] == "user":
            one["content"] = f"{system}\n\n{one['content']}"
            return list(rest)
    return [{"role": "user", "content": system}, *rest]


def _json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
