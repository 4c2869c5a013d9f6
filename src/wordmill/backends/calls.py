"""Calls of tools in what a model writes, by the notations that chat templates teach.

Known: `<tool_call>{json}</tool_call>` (Hermes, Qwen) with JSON or Qwen-Coder's `<function=...>`
inside; Mistral's `[TOOL_CALLS]` with a list, or a name before each object; Llama's plain JSON
with `name` and `parameters`, after `<|python_tag|>` or as the whole answer.

What looks like a call and cannot be read stays text: nothing that a model wrote is lost.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from wordmill.errors import InvalidInput

MARKS: Final = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "{")
"""Where a call may begin; the last one only at the beginning of an answer."""
_HERMES: Final = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_NAMED: Final = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\][\w-]*)?\s*(?:\[ARGS\])?\s*(?=\{)")
_CODER: Final = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER: Final = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?(?:</parameter>|\Z)", re.DOTALL)


class Call(NamedTuple):
    """One call. arguments: JSON text of an object."""

    name: str
    arguments: str


def begins(text: str) -> int:
    """Where calls may begin in a text: from there on it is held back. Its length where nowhere."""
    if text.lstrip().startswith("{"):
        return 0
    found = len(text)
    for mark in MARKS[:-1]:
        at = text.find(mark)
        if at >= 0:
            found = min(found, at)
            continue
        for length in range(min(len(mark) - 1, len(text)), 0, -1):
            if text.endswith(mark[:length]):
                found = min(found, len(text) - length)
                break
    return found


def parse(text: str, names: Collection[str]) -> tuple[str, list[Call]]:
    """The text without its calls, and the calls. names: of the tools; others are not called."""
    at = text.find("[TOOL_CALLS]")
    if at >= 0:
        calls = _mistral(text[at + len("[TOOL_CALLS]") :])
        return (text[:at], calls) if _known(calls, names) else (text, [])
    if "<tool_call>" in text:
        calls = [call for body in _HERMES.findall(text) for call in _inside(body)]
        return (_HERMES.sub("", text).rstrip(), calls) if _known(calls, names) else (text, [])
    head, mark, rest = text.partition("<|python_tag|>")
    plain = rest if mark else text
    if plain.lstrip().startswith("{"):
        calls = [call for body in _objects(plain) for call in _called(body)]
        return (head if mark else "", calls) if _known(calls, names) else (text, [])
    return text, []


def _known(calls: Sequence[Call], names: Collection[str]) -> bool:
    return bool(calls) and all(call.name in names for call in calls)


def _inside(body: str) -> list[Call]:
    coder = _CODER.findall(body)
    if coder:
        return [
            Call(name, json.dumps({key: _value(text) for key, text in _PARAMETER.findall(held)}))
            for name, held in coder
        ]
    return [call for one in _objects(body) for call in _called(one)]


def _mistral(body: str) -> list[Call]:
    body = body.strip()
    if body.startswith("["):
        return [call for one in _objects(body) for call in _called(one)]
    calls, at = [], 0
    while (found := _NAMED.match(body, at)) is not None:
        try:
            value, at = json.JSONDecoder().raw_decode(body, found.end())
        except ValueError:
            return []
        calls.append(Call(found.group(1), json.dumps(value)))
        while body.startswith("[TOOL_CALLS]", at):
            at += len("[TOOL_CALLS]")
    return calls


def _objects(text: str) -> list[Any]:
    """JSON values, with blanks, commas and semicolons between them; [] for anything else."""
    found: list[Any] = []
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n;,":
            at += 1
        if at == len(text):
            return found
        try:
            value, at = json.JSONDecoder().raw_decode(text, at)
        except ValueError:
            return []
        found += value if isinstance(value, list) else [value]


def _called(value: Any) -> list[Call]:
    if not isinstance(value, Mapping):
        return []
    inner = value.get("function")
    if isinstance(inner, Mapping):
        value = inner
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return []
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        return []
    return [Call(name, json.dumps(arguments, ensure_ascii=False))]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def called(calls: Any, name: str) -> list[dict[str, Any]]:
    """Calls of an earlier answer as templates want them: their arguments as objects.

    Raises InvalidInput for what is none.
    """
    made = []
    for one in calls if isinstance(calls, list) else [calls]:
        function = one.get("function") if isinstance(one, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidInput(f"A call of `{name}` has no function with a name.", name)
        arguments = function.get("arguments") or "{}"
        try:
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        except ValueError as error:
            raise InvalidInput(f"The arguments of a call of `{name}` are no JSON.", name) from error
        made.append(
            {
                "type": "function",
                "id": str(one.get("id") or ""),
                "function": {"name": function["name"], "arguments": arguments},
            }
        )
    return made
