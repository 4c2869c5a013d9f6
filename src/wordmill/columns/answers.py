"""From the text of a reply to the value of a cell: free text, a choice, JSON by schema, sections.

Each form is an `AnswerForm`. It reads leniently (a code fence, words around the JSON, quotes and
full stops around a choice) and judges strictly: what does not fit comes back as a `Complaint`, with
words for a person and words for the model, which may then be asked again.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

import jsonschema_rs

from wordmill.types import CellError, Value

Schema: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a text is no answer. error: for the cell.  words: for the model, what to do better."""

    error: CellError
    words: str


class AnswerForm(ABC):
    """How an answer must look. free: it is text that the model writes as it likes."""

    free: bool = False

    @abstractmethod
    def read(self, text: str) -> Value | Complaint:
        """The value that a text (stripped, not empty) stands for."""


class FreeText(AnswerForm):
    """Any text."""

    free = True

    def read(self, text: str) -> Value | Complaint:
        """The text itself."""
        return text


# One of several ------------------------------------------------------------------------------

_AROUND = " \t\r\n.,;:!?\"'`*_()[]{}<>\u201c\u201d\u2018\u2019\u00ab\u00bb"
_BULLET = re.compile(r"\A\s*[-\u2022*]\s+")


class OneOf(AnswerForm):
    """One of given values. Case, surrounding punctuation, quotes and spaces do not count."""

    def __init__(self, choices: Sequence[Value]) -> None:
        self._choices = list(choices)
        self._known: dict[str, Value] = {}
        for choice in self._choices:
            self._known.setdefault(_bare(told(choice)), choice)
        self._exact = {told(choice): choice for choice in self._choices}

    def instruction(self) -> str:
        """What the prompt says about it."""
        return "Answer with exactly one of these choices and nothing else:\n" + "\n".join(
            f"- {told(choice)}" for choice in self._choices
        )

    def read(self, text: str) -> Value | Complaint:
        """The choice as the recipe writes it."""
        if text in self._exact:
            return self._exact[text]
        bare = _bare(text)
        if bare in self._known:
            return self._known[bare]
        listed = ", ".join(told(choice) for choice in self._choices)
        given = " ".join(text.split())
        given = given if len(given) <= 60 else f"{given[:57]}..."
        return Complaint(
            CellError("choice", f"{given!r} is none of {_shortened(listed, 200)}"),
            f"That is none of the choices. {self.instruction()}",
        )


def told(value: Value) -> str:
    """A choice as a prompt shows it: text as it is, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _bare(text: str) -> str:
    inner = _BULLET.sub("", text).strip(_AROUND)
    return " ".join(inner.casefold().split()) or text.strip()


# JSON by a schema ----------------------------------------------------------------------------


class _NotOurs(ValueError):
    """JSON by the letter, but not what we accept; the message says what."""


def _object(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NotOurs(f"the key {json.dumps(twice)} stands twice in one object")
    return made


def _constant(name: str) -> Value:
    raise _NotOurs(f"{name} is no number in JSON")


def _float(text: str) -> float | int:
    value = float(text)
    if not isfinite(value):
        raise _NotOurs(f"the number {_shortened(text, 40)} is too large")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise _NotOurs(f"the number {_shortened(text, 40)} is too large")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=_constant,
    parse_float=_float,
    parse_int=_int,
    strict=False,  # models write line breaks into strings
)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_DEPTH = 100  # of lists and objects: what stores a row reads no deeper than 254
_TRIES = 50  # places at which a JSON value is looked for


class BySchema(AnswerForm):
    """A JSON value that a JSON schema allows. `format` is a remark, as the standard has it."""

    def __init__(self, schema: Schema) -> None:
        """Compile. Raises ValueError, in words, for what is no schema or refers outside itself."""
        self.text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
        self._brackets = _brackets(schema)
        try:
            self._validator = jsonschema_rs.validator_for(dict(schema), retriever=_outside)
        except jsonschema_rs.ValidationError as error:
            raise ValueError(_schema_fault(error)) from error

    def read(self, text: str) -> Value | Complaint:
        """The first JSON value in the text that fits; a complaint about the first otherwise."""
        first: Value | Complaint | None = None
        fault = ""
        for found in _values(text, self._brackets):
            if isinstance(found, str):
                fault = fault or found
                continue
            (value,) = found
            if self._validator.is_valid(value):
                return value
            first = first or self._complaint(value)
        if first is not None:
            return first
        fault = fault or _of_the_other_kind(text, self._brackets) or "the answer holds no JSON"
        return Complaint(
            CellError("schema", fault),
            f"That cannot be read as JSON: {fault}. Answer again with the whole JSON, corrected, "
            "and nothing else.",
        )

    def _complaint(self, value: Value) -> Complaint:
        faults: dict[str, None] = {}
        more = 0
        for error in self._validator.iter_errors(value):
            for sentence in sentences(error):
                if len(faults) < _TOLD:
                    faults[sentence] = None
                else:
                    more += sentence not in faults
        listed = "; ".join(faults)
        return Complaint(
            CellError("schema", listed + (f"; and {more} more" if more else "")),
            f"That does not follow the schema: {listed}. Answer again with the whole JSON, "
            "corrected, and nothing else.",
        )


_TOLD = 5  # faults that one complaint tells


def _outside(uri: str) -> Value:
    raise ValueError(f"{uri} is outside the schema")


def _brackets(schema: Schema) -> str:
    """What the JSON that is looked for may begin with."""
    kinds = schema.get("type", ("object", "array"))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return "".join(sign for kind, sign in (("object", "{"), ("array", "[")) if kind in kinds)


def _of_the_other_kind(text: str, brackets: str) -> str:
    """That a text holds a list where an object is wanted, or the other way round; else ""."""
    kinds = {"{": _ARTICLES["object"], "[": _ARTICLES["array"]}
    if len(brackets) != 1:
        return ""
    wanted = kinds.pop(brackets)
    ((sign, other),) = kinds.items()
    at = text.find(sign)
    if at < 0 or isinstance(_decoded(text, at), str):
        return ""
    return f"the answer is {other}, not {wanted}"


def _values(text: str, brackets: str) -> Iterator[tuple[Value] | str]:
    """JSON values in a text, each in a tuple; a str says why something is none.

    First the whole text, then fenced blocks, then whatever begins with one of `brackets`.
    """
    whole = _decoded(text, 0)
    if isinstance(whole, tuple) and not text[whole[1] :].strip():
        yield whole[:1]
        return
    for fence in _FENCE.finditer(text):
        block = fence[1].strip()
        inside = _decoded(block, 0)
        if isinstance(inside, tuple) and not block[inside[1] :].strip():
            yield inside[:1]
    at, tries = 0, 0
    while tries < _TRIES and brackets:
        starts = [place for sign in brackets if (place := text.find(sign, at)) >= 0]
        if not starts:
            break
        tries += 1
        found = _decoded(text, min(starts))
        if isinstance(found, tuple):
            yield found[:1]
            at = found[1]
        else:
            yield found
            at = min(starts) + 1
    if isinstance(whole, str) and not brackets:
        yield whole


def _decoded(text: str, at: int) -> tuple[Value, int] | str:
    """The JSON value at a place and where it ends, or why there is none."""
    try:
        value, end = _DECODER.raw_decode(text, at)
    except _NotOurs as error:
        return str(error)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            return "the JSON ends too early"
        return f"the JSON is broken: {error.msg[0].lower()}{error.msg[1:]}"
    except RecursionError:
        return "the JSON is nested too deep"
    if text.count("{") + text.count("[") > _DEPTH and _deeper(value, _DEPTH):
        return "the JSON is nested too deep"
    if "\\u" in text and (fault := _text_fault(value)):
        return fault
    return value, end


def _deeper(value: Value, limit: int) -> bool:
    """Whether lists and objects are nested more than `limit` deep."""
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and (
        limit == 0 or any(_deeper(part, limit - 1) for part in value)
    )


def encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_fault(value: Value) -> str:
    """What escapes can put into a text and we do not accept; "" if there is nothing."""
    if isinstance(value, str):
        if "\0" in value:
            return "a text holds a NUL character"
        if not encodable(value):
            return "a text holds half a surrogate pair"
        return ""
    if isinstance(value, dict):
        return next(
            filter(None, (_text_fault(part) for pair in value.items() for part in pair)), ""
        )
    if isinstance(value, list):
        return next(filter(None, map(_text_fault, value)), "")
    return ""


# A validator's findings in plain words --------------------------------------------------------

_ARTICLES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


def sentences(error: jsonschema_rs.ValidationError) -> list[str]:
    """A validation error as sentences that begin with a JSON pointer: `/level is not an integer`.

    They hold nothing of the value, so that equal faults read equal and can be counted.
    """
    kind, facts = error.kind.name, error.kind.as_dict()
    where = pointer(error.instance_path)
    match kind:
        case "required":
            return [f"{pointer([*error.instance_path, facts['property']])} is missing"]
        case "additionalProperties" | "unevaluatedProperties":
            return [
                f"{pointer([*error.instance_path, name])} is not allowed"
                for name in facts["unexpected"]
            ]
        case "type" if not error.instance_path and isinstance(error.instance, list | dict):
            found = _ARTICLES["array" if isinstance(error.instance, list) else "object"]
            kinds = " or ".join(_ARTICLES.get(name, name) for name in facts["types"])
            return [f"{where} is {found}, not {kinds}"]
    return [f"{where} {_predicate(kind, facts)}"]


def _predicate(kind: str, facts: Mapping[str, Value]) -> str:
    limit = facts.get("limit")
    if isinstance(limit, float) and limit.is_integer():
        limit = int(limit)
    simple = {
        "minimum": f"is less than {limit}",
        "maximum": f"is more than {limit}",
        "exclusiveMinimum": f"is not more than {limit}",
        "exclusiveMaximum": f"is not less than {limit}",
        "minLength": f"is shorter than {_counted(limit, 'character')}",
        "maxLength": f"is longer than {_counted(limit, 'character')}",
        "minItems": f"has fewer than {_counted(limit, 'item')}",
        "maxItems": f"has more than {_counted(limit, 'item')}",
        "minProperties": f"has fewer than {_counted(limit, 'key')}",
        "maxProperties": f"has more than {_counted(limit, 'key')}",
        "multipleOf": f"is not a multiple of {facts.get('multiple_of')}",
        "pattern": f"does not match {facts.get('pattern')}",
        "format": f"is no {facts.get('format')}",
        "uniqueItems": "has an item twice",
        "contains": "lacks an item that `contains` asks for",
        "propertyNames": "has a key whose name is not allowed",
        "additionalItems": "has too many items",
        "unevaluatedItems": "has too many items",
        "anyOf": "fits none of the allowed forms",
        "oneOfNotValid": "fits none of the allowed forms",
        "oneOf": "fits none, or more than one, of the allowed forms",
        "falseSchema": "is not allowed",
        "not": "is what `not` forbids",
    }
    match kind:
        case "type":
            kinds = [_ARTICLES.get(name, name) for name in facts["types"]]
            return f"is not {' or '.join(kinds)}"
        case "enum":
            options = ", ".join(
                json.dumps(option, ensure_ascii=False) for option in facts["options"]
            )
            return f"is none of {_shortened(options, 200)}"
        case "const":
            wanted = json.dumps(facts["expected_value"], ensure_ascii=False)
            return f"is not {_shortened(wanted, 60)}"
    return simple.get(kind, f"does not pass `{kind}`")


def pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901); `the answer` for the whole."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "/" + "/".join(parts) if path else "the answer"


def _schema_fault(error: jsonschema_rs.ValidationError) -> str:
    """Why a schema is none."""
    path = list(error.instance_path)
    if path and path[-1] == "type" and isinstance(error.instance, str):
        known = ", ".join(_ARTICLES)
        return f"{pointer(path)} is {error.instance!r}, and the types of JSON are {known}"
    where = f"{pointer(path)}: " if path else ""
    return f"{where}{error.message}"


def _counted(number: Value, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


# Parts under headings -------------------------------------------------------------------------


class Sections(AnswerForm):
    """A text under headings, in any case, with or without `#`, `**`, a number or a colon.

    A heading has a line of its own, or ends with a colon. What stands before the first heading is
    dropped. An underscore in a name is a space, a hyphen or an underscore in the heading.
    """

    free = True

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {_key(name): name for name in names}
        self._headings = [name.replace("_", " ").upper() for name in names]
        any_name = "|".join(
            re.escape(name).replace("_", "[ _-]") for name in sorted(names, key=len, reverse=True)
        )
        self._heading = re.compile(
            rf"^[ \t]*(?:\#{{1,6}}[ \t]*)?(?:[*_]{{1,3}})?(?:\d+[.)][ \t]*)?({any_name})"
            r"(?:[ \t]*[*_]{0,3}[ \t]*:[ \t]*[*_]{0,3}[ \t]*|[ \t]*[*_]{0,3}[ \t]*\#*[ \t]*$)",
            re.IGNORECASE | re.MULTILINE,
        )

    def instruction(self) -> str:
        """What the prompt says about it."""
        return (
            "Write the answer under these headings, each on a line of its own, in this order:\n\n"
            + "\n".join(f"{heading}:" for heading in self._headings)
        )

    def read(self, text: str) -> Value | Complaint:
        """The text of each section by name, in the order of the names."""
        starts: dict[str, tuple[int, int]] = {}
        for found in self._heading.finditer(text):
            starts.setdefault(_key(found[1]), found.span())
        ends = sorted(start for start, _ in starts.values())
        parts: dict[str, str] = {}
        for (key, name), heading in zip(self._names.items(), self._headings, strict=True):
            if key not in starts:
                return self._complaint(f"no heading {heading}")
            start, begin = starts[key]
            end = next((end for end in ends if end > start), len(text))
            part = text[begin:end].strip()
            if not part:
                return self._complaint(f"nothing under {heading}")
            parts[name] = part
        return parts

    def _complaint(self, fault: str) -> Complaint:
        words = f"That answer has {fault}. Write the whole answer again. {self.instruction()}"
        return Complaint(CellError("section", fault), words)


def _key(name: str) -> str:
    return re.sub(r"[ _-]", "_", name.casefold())
