"""What an answer must look like, as a grammar that engines follow while they write.

A grammar here leaves no room between the parts of a JSON value: a model with nothing to say would
fill it with blanks until its answer is cut off. Properties come in the order of the schema, and
only those that it names.

The notation is llama.cpp's (GBNF), which OpenVINO's follows. A schema or an expression that cannot
be written in it is refused by the name of what is in the way, before an engine sees it: OpenVINO's
own reader of schemas ends the whole engine when it meets one that it cannot read.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wordmill.backends import expressions
from wordmill.backends.base import Form
from wordmill.backends.expressions import literal
from wordmill.errors import InvalidInput

LONGEST: Final = 500
"""The most repetitions that are counted; a larger bound is kept at this one."""
_SHARED: Final = {
    "value": "object | array | string | number | boolean | null",
    "object": '"{" (string ": " value (", " string ": " value)*)? "}"',
    "array": '"[" (value (", " value)*)? "]"',
    "string": '"\\"" char* "\\""',
    "char": '[^"\\\\\\x00-\\x1F] | "\\\\" ["\\\\/bfnrt]',
    "number": 'integer ("." [0-9] [0-9]{0,15})? ([eE] [+-]? [0-9] [0-9]{0,2})?',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "boolean": '"true" | "false"',
    "null": '"null"',
}
_FORMATS: Final = {
    "date": r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "time": r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])",
    "date-time": r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]"
    r":[0-5][0-9](Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}
_CANNOT: Final = (
    "not", "if", "then", "else", "contains", "uniqueItems", "multipleOf", "dependentRequired",
    "dependentSchemas", "propertyNames", "minProperties", "maxProperties", "unevaluatedItems",
    "$dynamicRef",
)  # fmt: skip


def grammar(form: Form) -> str:
    """The grammar of a form. Raises InvalidInput for one that cannot be followed."""
    try:
        return _written(form)
    except RecursionError as error:
        raise _cannot("it is too deep") from error
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        raise _cannot("it is no JSON schema: a keyword in it has a value of another kind") from (
            error
        )


def _written(form: Form) -> str:
    if form.kind == "choices":
        choices = " | ".join(literal(one) for one in json.loads(form.text))
        return f"root ::= {choices}\n"
    if form.kind == "regex":
        return f"root ::= {expressions.translated(form.text)}\n"
    schema = json.loads(form.text) if form.kind == "json_schema" else {"type": "object"}
    return _Schema(schema).text()


class _Schema:
    """A JSON schema on its way to being rules."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self._rules: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._shared: set[str] = set()
        self._begun: tuple[str, ...] = ()
        """References that are being followed, of whose text nothing is written yet."""

    def text(self) -> str:
        """All rules, the root first."""
        root = self._of(self._whole)
        lines = [f"root ::= {root}"]
        lines += [f"{name} ::= {body}" for name, body in self._rules.items()]
        needed = list(self._shared)
        for name in needed:
            body = _SHARED[name]
            needed += [other for other in _SHARED if other in body and other not in needed]
        lines += [f"{name} ::= {_SHARED[name]}" for name in _SHARED if name in needed]
        return "\n".join(lines) + "\n"

    def _use(self, name: str) -> str:
        self._shared.add(name)
        return name

    def _rule(self, body: str) -> str:
        name = f"r{len(self._rules)}"
        self._rules[name] = body
        return name

    def _of(self, schema: Any) -> str:
        """The rule, or the expression, of a schema."""
        if schema is True or schema == {}:
            return self._use("value")
        if not isinstance(schema, Mapping):
            raise _cannot(f"{schema!r} is no schema that anything follows")
        for name in _CANNOT:
            if schema.get(name) not in (None, False):
                raise _cannot(f"`{name}` cannot be followed while an answer is written")
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]))
        if "const" in schema:
            return literal(json.dumps(schema["const"], ensure_ascii=False))
        if "enum" in schema:
            each = [literal(json.dumps(one, ensure_ascii=False)) for one in schema["enum"]]
            if not each:
                raise _cannot("`enum` is empty")
            return self._rule(" | ".join(each))
        for name in ("anyOf", "oneOf"):
            if schema.get(name):
                return self._rule(" | ".join(self._of(one) for one in schema[name]))
        if schema.get("allOf"):
            return self._of(_together([schema, *schema["allOf"]]))
        before, self._begun = self._begun, ()  # what comes now begins with a sign of its own
        made = self._by_type(schema)
        self._begun = before
        return made

    def _by_type(self, schema: Mapping[str, Any]) -> str:
        kind = schema.get("type")
        if kind and isinstance(kind, Sequence) and not isinstance(kind, str):
            return self._rule(" | ".join(self._of({**schema, "type": one}) for one in kind))
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else ""
        return self._typed(str(kind), schema)

    def _typed(self, kind: str, schema: Mapping[str, Any]) -> str:
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        if kind == "string":
            return self._string(schema)
        if kind == "integer":
            return self._integer(schema)
        if kind == "number":
            return self._number(schema)
        if kind in ("boolean", "null"):
            return self._use(kind)
        if kind == "":
            return self._use("value")
        raise _cannot(f"`type` is {kind!r}")

    def _reference(self, pointer: str) -> str:
        if pointer in self._begun:
            raise _cannot(f"`$ref` to {pointer!r} is nothing but itself")
        if pointer not in self._references:
            if not pointer.startswith("#"):
                raise _cannot(f"`$ref` to {pointer!r} leaves the schema")
            found = self._whole
            for part in pointer[1:].split("/")[1:]:
                key = part.replace("~1", "/").replace("~0", "~")
                if not isinstance(found, Mapping) or key not in found:
                    raise _cannot(f"`$ref` to {pointer!r} leads nowhere")
                found = found[key]
            name = f"s{len(self._references)}"
            self._references[pointer] = name
            self._rules[name] = ""
            before, self._begun = self._begun, (*self._begun, pointer)
            self._rules[name] = self._of(found)
            self._begun = before
        return self._references[pointer]

    def _object(self, schema: Mapping[str, Any]) -> str:
        properties = schema.get("properties") or {}
        required = list(schema.get("required") or ())
        missing = [name for name in required if name not in properties]
        more = schema.get("additionalProperties", True)
        if missing:
            properties = {**properties, **dict.fromkeys(missing, more)}
        if not properties:
            if more is False:
                return literal("{}")
            value = self._of(more)
            pair = f'{self._use("string")} ": " {value}'
            return self._rule(f'"{{" ({pair} (", " {pair})*)? "}}"')
        later, first = '""', '""'
        for name, held in reversed(properties.items()):
            pair = f"{literal(json.dumps(name, ensure_ascii=False) + ': ')} {self._of(held)}"
            if name in required:
                first = self._rule(f"{pair} {later}")
                later = self._rule(f'", " {pair} {later}')
            else:
                first = self._rule(f"{pair} {later} | {first}")
                later = self._rule(f'(", " {pair})? {later}')
        return self._rule(f'"{{" {first} "}}"')

    def _array(self, schema: Mapping[str, Any]) -> str:
        heads = list(schema.get("prefixItems") or ())
        items = schema.get("items", True)
        least, most = _bounds(schema, "minItems", "maxItems")
        parts = [self._of(one) for one in heads]
        if items is False:
            most = len(parts)
        body = ' ", " '.join(parts[: len(parts) if most is None else most])
        rest_least = max(0, least - len(parts))
        rest_most = None if most is None else max(0, most - len(parts))
        if rest_most != 0 and items is not False:
            item = self._rule(self._of(items))
            if body:
                body += f' (", " {item}){_times(rest_least, rest_most)}'
            else:
                after = None if rest_most is None else rest_most - 1
                body = f'{item} (", " {item}){_times(max(0, rest_least - 1), after)}'
                if rest_least == 0:
                    body = f"({body})?"
        return self._rule(f'"[" {body} "]"'.replace("  ", " "))

    def _string(self, schema: Mapping[str, Any]) -> str:
        pattern = schema.get("pattern") or _FORMATS.get(str(schema.get("format")))
        if pattern is not None:
            return self._rule(f'"\\"" {expressions.translated(str(pattern), quoted=True)} "\\""')
        least, most = _bounds(schema, "minLength", "maxLength")
        if not least and most is None:
            return self._use("string")
        return self._rule(f'"\\"" {self._use("char")}{_times(least, most)} "\\""')

    def _integer(self, schema: Mapping[str, Any]) -> str:
        low, high = schema.get("minimum"), schema.get("maximum")
        if schema.get("exclusiveMinimum") is not None:
            low = int(schema["exclusiveMinimum"]) + 1
        if schema.get("exclusiveMaximum") is not None:
            high = int(schema["exclusiveMaximum"]) - 1
        if low is None and high is None:
            return self._use("integer")
        wide = 10**15
        low, high = int(-wide if low is None else low), int(wide if high is None else high)
        if low > high:
            raise _cannot(f"no whole number lies between {low} and {high}")
        ways = []
        if low < 0:
            ways += [f'"-" {one}' for one in _between(max(1, -high), -low)]
        if high >= 0:
            ways += _between(max(0, low), high)
        return self._rule(" | ".join(ways))

    def _number(self, schema: Mapping[str, Any]) -> str:
        names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        given = {name: schema[name] for name in names if schema.get(name) is not None}
        if not given:
            return self._use("number")
        low = given.get("minimum", given.get("exclusiveMinimum"))
        high = given.get("maximum", given.get("exclusiveMaximum"))
        if low is None or high is None or low != int(low) or high != int(high) or low < 0:
            if low == 0 and high is None and "minimum" in given:
                return self._rule('("0" | [1-9] [0-9]{0,15}) ("." [0-9] [0-9]{0,15})?')
            raise _cannot("bounds of a `number` are followed from a whole number up to another")
        inner = _between(int(low), int(high) - 1) if high > low else []
        ways = [f'({" | ".join(inner)}) "." [0-9]{{0,5}} [1-9]'] if inner else []
        ways += inner[: 0 if "exclusiveMinimum" in given else None]
        if "maximum" in given:
            ways.append(literal(str(int(high))))
        return self._rule(" | ".join(ways))


def _together(schemas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Schemas that all hold, as one: those that say different things of an object."""
    whole: dict[str, Any] = {}
    for schema in schemas:
        if "$ref" in schema and len(schemas) > 2:
            raise _cannot("`allOf` with several references cannot be followed")
        for name, value in schema.items():
            if name == "allOf":
                continue
            if name == "properties":
                whole[name] = {**whole.get(name, {}), **value}
            elif name == "required":
                whole[name] = [*whole.get(name, []), *value]
            elif whole.setdefault(name, value) != value:
                raise _cannot(f"`allOf` says two things of `{name}`")
    return whole


def _bounds(schema: Mapping[str, Any], low: str, high: str) -> tuple[int, int | None]:
    least, most = int(schema.get(low) or 0), schema.get(high)
    if least > LONGEST:
        raise _cannot(f"`{low}` above {LONGEST} cannot be followed")
    most = None if most is None else min(int(most), LONGEST)
    if most is not None and most < least:
        raise _cannot(f"`{low}` is above `{high}`")
    return least, most


def _times(least: int, most: int | None) -> str:
    if most is None:
        return "*" if least == 0 else "+" if least == 1 else f"{{{least},}}"
    return f"{{{least},{most}}}"


def _between(low: int, high: int) -> list[str]:
    """Ways to write the whole numbers from `low` to `high`, both 0 or more."""
    ways: list[str] = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 0 if digits == 1 else 10 ** (digits - 1))
        last = min(high, 10**digits - 1)
        if first <= last:
            ways += _same_length(str(first), str(last))
    return ways


def _same_length(first: str, last: str) -> list[str]:
    if len(first) == 1:
        return [f"[{first}-{last}]" if first != last else literal(first)]
    rest = len(first) - 1
    any_rest = f"[0-9]{{{rest}}}"
    if first[1:] == "0" * rest and last[1:] == "9" * rest:
        head = f"[{first[0]}-{last[0]}]" if first[0] != last[0] else literal(first[0])
        return [f"{head} {any_rest}"]
    if first[0] == last[0]:
        return [f"{literal(first[0])} {one}" for one in _same_length(first[1:], last[1:])]
    ways = [f"{literal(first[0])} {one}" for one in _same_length(first[1:], "9" * rest)]
    if int(last[0]) - int(first[0]) > 1:
        low, high = int(first[0]) + 1, int(last[0]) - 1
        head = f"[{low}-{high}]" if low != high else literal(str(low))
        ways.append(f"{head} {any_rest}")
    return [*ways, *(f"{literal(last[0])} {one}" for one in _same_length("0" * rest, last[1:]))]


def _cannot(why: str) -> InvalidInput:
    return InvalidInput(f"The schema of the answer cannot be used here: {why}.", "response_format")
