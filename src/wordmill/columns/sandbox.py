"""The sandbox that recipes' templates run in: what they may touch, and how much they may do.

A recipe may come from anybody. So a template sees JSON values and nothing else: what it may read,
call and filter with is listed here, and all that is not listed is refused. It also cannot ask for
the hour (no clock, no random) or run on: a render does at most `WORK` units of work and makes no
text or list above `LIMIT`, whatever it is written like.

Work is counted where it is made: 100 units for each time a loop's body runs, 10 for each filter,
operator or call, and one for each character or item that these read or make. So loop bodies run
at most 50,000 times in one render, nested loops multiplied out.

A value prints as itself if it is text and as JSON if not: `true`, `null`, `["a", "b"]`.

No I/O. `templates` compiles texts for this sandbox and is what the rest of the house uses.
"""

import re
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sized, ValuesView
from functools import cache
from types import BuiltinMethodType
from typing import NoReturn, TypeAlias, cast

import orjson
from jinja2 import StrictUndefined, Undefined
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.filters import FILTERS
from jinja2.nodes import EvalContext
from jinja2.runtime import Context as JinjaContext
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, missing, pass_context

from wordmill.errors import nearest
from wordmill.types import Value

LIMIT = 1_000_000
"""Longest text that a template may be or make, in characters; also items of a list, all told."""

WORK = 5_000_000
"""Units of work that one render may do."""

CHECKED, CONCATENATED, STEPPED = " checked", " concatenated", " stepped"
"""Filters that `templates` puts around literals, `~` and loops. After a bar no name has a space."""

_Filter: TypeAlias = Callable[..., Value]
SCALARS = frozenset({type(None), bool, int, float})


class LimitReached(TemplateRuntimeError):
    """A render would do or make too much."""


def _too_long() -> NoReturn:
    raise LimitReached(f"a text or list would be longer than {LIMIT:,} characters or items")


class RowContext(JinjaContext):
    """What a template sees: a row, then the fixed names; and the work that it may still do."""

    def __init__(
        self,
        environment: "Sandbox",
        parent: dict[str, Value],
        name: str | None = None,
        blocks: Mapping[str, Callable[[JinjaContext], Iterator[str]]] | None = None,
        globals: Mapping[str, Value] | None = None,  # noqa: A002
    ) -> None:
        # The base class builds an EvalContext and copies each time, which costs more than most
        # templates; nothing that is allowed here changes them.
        self.parent = parent
        self.vars = {}
        self.environment = environment
        self.eval_ctx = environment.evaluation
        self.exported_vars = set()
        self.name = name
        self.blocks = {}
        self.globals_keys = set()
        self.fixed = globals or {}
        self.work = WORK

    def resolve_or_missing(self, key: str) -> Value:
        """The value of a root name."""
        try:
            return self.parent[key]
        except KeyError:
            return self.fixed.get(key, missing)

    def spend(self, units: int) -> None:
        """Count work; raises LimitReached when there is none left."""
        self.work -= units
        if self.work < 0:
            raise LimitReached(f"it does more than {WORK:,} units of work; loop over less")


def text_of(value: Value) -> str:
    """How a value prints: text as itself, all else as its JSON.

    Raises UndefinedError for what is not there, TypeError for what is no JSON value.
    """
    if type(value) is str:
        return value
    if isinstance(value, Undefined):
        return str(value)
    return json_text(value)


def json_text(value: Value, indent: bool = False) -> str:
    """The JSON of a value, without a space, or over lines with an indent of two.

    Integers above 64 bits keep their digits. Raises TypeError for what is no JSON value.
    """
    if type(value) is int:
        return str(value)
    option = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(value, default=_plain, option=option).decode()
    except orjson.JSONEncodeError as error:
        raise error.__cause__ or error from None


def _plain(value: object) -> Value:
    if isinstance(value, Undefined):
        return str(value)  # raises, in words
    if isinstance(value, KeysView | ValuesView | ItemsView | range):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no text and no JSON")


def _weight(value: Value) -> int:
    """Characters and items of a value, counted as often as they would print."""
    kind = type(value)
    if kind is str:
        weight = len(value)
    elif kind in SCALARS:
        return 1
    else:
        weight, stack = 0, [value]
        while stack and weight <= LIMIT:
            part = stack.pop()
            kind = type(part)
            if kind is str:
                weight += len(part)
            elif kind is dict:
                weight += 1
                stack += part
                stack += part.values()
            elif isinstance(part, list | tuple):
                weight += 1
                stack += part
            else:
                weight += 1
    if weight > LIMIT:
        _too_long()
    return weight


# What a template may call ---------------------------------------------------------------------

# fmt: off
_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset((
        "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha",
        "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper",
        "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind",
        "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip",
        "swapcase", "title", "upper",
    )),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
}

_OF_TEXT = ("capitalize", "lower", "striptags", "title", "trim", "truncate", "upper", "wordcount")
_OF_VALUES = (
    "abs", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last",
    "length", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select",
    "selectattr", "sort", "unique",
)
# fmt: on
"""Filters of Jinja that are taken over: functions of a value and nothing else, of linear cost."""


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > LIMIT:
        _too_long()
    return numbers


def _replaced(text: Value, old: Value, new: Value, count: int = -1) -> str:
    text, old, new = text_of(text), text_of(old), text_of(new)
    found = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    if len(text) + found * (len(new) - len(old)) > LIMIT:
        _too_long()
    return cast(str, text.replace(old, new, -1 if count is None else count))


def _joined(values: Value, separator: Value = "", attribute: str | None = None) -> str:
    if attribute is not None:
        values = [value[attribute] for value in values]
    texts, separator = [text_of(value) for value in values], text_of(separator)
    if sum(map(len, texts)) + len(separator) * len(texts) > LIMIT:
        _too_long()
    return cast(str, separator.join(texts))


# Filters --------------------------------------------------------------------------------------


def _words(text: Value, count: int) -> str:
    return " ".join(text_of(text).split(None, count)[:count])


def _indented(text: Value, width: int = 4, first: bool = False, blank: bool = False) -> str:
    lines = text_of(text).split("\n")
    if len(lines) * width > LIMIT:
        _too_long()
    pad = " " * width
    return "\n".join(
        pad + line if (line or blank) and (number or first) else line
        for number, line in enumerate(lines)
    )


def _formatted(pattern: Value, *values: Value) -> str:
    pattern = text_of(pattern)
    if re.search(r"%[^%a-zA-Z]*(\*|\d{4})", pattern):
        raise LimitReached(f"the width in the format {pattern!r} is above 999")
    return cast(str, pattern % values)


def _sum(values: Value, attribute: str | None = None) -> float:
    numbers = values if attribute is None else [value[attribute] for value in values]
    return cast(float, sum(numbers))


def _batch(values: Value, size: int, fill: Value = None) -> list[list[Value]]:
    if not 1 <= size <= 10_000:
        raise ValueError(f"batch takes a size from 1 to 10,000, not {size}")
    values = list(values)
    rows = [values[start : start + size] for start in range(0, len(values), size)]
    if rows and fill is not None:
        rows[-1] += [fill] * (size - len(rows[-1]))
    return rows


def _rounded(number: float, digits: int = 0) -> float:
    return round(number, max(-300, min(300, digits)))


_OWN: Mapping[str, _Filter] = {
    "batch": _batch,
    "format": _formatted,
    "indent": _indented,
    "join": _joined,
    "json": json_text,
    "replace": _replaced,
    "round": _rounded,
    "string": text_of,
    "sum": _sum,
    "tojson": json_text,
    "words": _words,
}


def _guarded(name: str) -> _Filter:
    """A filter that counts its work and gives JSON values: lists, never generators."""
    convert = name in _OF_TEXT

    @pass_context
    def guarded(context: RowContext, value: Value, *args: Value, **kwargs: Value) -> Value:
        if convert:
            value = text_of(value)
        size = len(value) if type(value) in (str, list, dict) else 1
        context.spend(10 + size)
        made = bare().call_filter(name, value, args, kwargs, context, context.eval_ctx)
        if isinstance(made, Iterator):
            made = _collected(made)
        if isinstance(made, Undefined):
            return made
        context.spend(_weight(made))
        return made

    return cast(_Filter, guarded)


def _collected(values: Iterator[Value]) -> list[Value]:
    found: list[Value] = []
    weight = 0
    for value in values:
        weight += _weight(value)
        if weight > LIMIT:
            _too_long()
        found.append(value)
    return found


@pass_context
def _checked(context: RowContext, value: Value) -> Value:
    """A list, tuple or dict as it is written down: big ones inside it count as often as named."""
    context.spend(_weight(value))
    return value


@pass_context
def _concatenated(context: RowContext, values: list[Value]) -> str:
    text = _joined(values)
    context.spend(10 + len(text))
    return text


@pass_context
def _stepped(context: RowContext, values: Value, cost: int) -> Value:
    """What a loop walks over, paid for before its body runs."""
    if isinstance(values, Undefined):
        return iter(values)
    if not isinstance(values, Sized):
        raise TypeError(f"a loop needs a list, and this is {json_text(values)}")
    context.spend(max(cost, 100) * len(values))
    return values


@pass_context
def _printed(context: RowContext, value: Value) -> str:
    text = value if type(value) is str else text_of(value)
    context.work -= len(text)
    if context.work < 0:
        context.spend(0)
    return text


_COUNTING: Mapping[str, _Filter] = {
    CHECKED: cast(_Filter, _checked),
    CONCATENATED: cast(_Filter, _concatenated),
    STEPPED: cast(_Filter, _stepped),
}

# The sandbox ----------------------------------------------------------------------------------


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja with a short list of what is allowed, and everything counted."""

    context_class = RowContext
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, filters: Mapping[str, _Filter]) -> None:
        # optimized=False: constants are not worked out while compiling, where nothing is counted.
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            optimized=False,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_printed,
        )
        self.filters = dict(filters)
        self.globals = {"range": _range, "namespace": Namespace}
        self.evaluation = EvalContext(self)

    def getattr(self, obj: Value, attribute: str) -> Value:
        """A field of an object, else one of the listed methods, else undefined."""
        kind = type(obj)
        if kind is dict and attribute in obj:
            return obj[attribute]
        if attribute.startswith("_"):
            return self.unsafe_undefined(obj, attribute)
        if attribute in _METHODS.get(kind, ()):
            return getattr(obj, attribute)
        if isinstance(obj, LoopContext | Namespace | Undefined):
            # An undefined object raises here, and says what it was.
            return getattr(obj, attribute, None)
        return self.undefined(_no_field(obj, attribute), obj=obj, name=attribute)

    def getitem(self, obj: Value, argument: Value) -> Value:
        """An item of an object, list or text; never an attribute."""
        if type(obj) in (dict, list, str, tuple, range):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(obj, Undefined):
            return obj[argument]
        return self.undefined(_no_field(obj, argument), obj=obj, name=argument)

    def call(  # type: ignore[override]
        self, context: RowContext, called: Callable[..., Value], /, *args: Value, **kwargs: Value
    ) -> Value:
        """Call one of the listed methods or globals."""
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        if isinstance(called, Undefined):
            return called()
        owner = getattr(called, "__self__", None)
        if called is _range or called is Namespace or type(owner) is LoopContext:
            made = called(*args, **kwargs)
        elif isinstance(called, BuiltinMethodType) and type(owner) in _METHODS:
            context.spend(10 + len(cast(Sized, owner)))
            if called.__name__ == "replace":
                made = _replaced(owner, *args, **kwargs)
            elif called.__name__ == "join":
                (values,) = args
                made = _joined(values, owner)
            else:
                made = called(*args, **kwargs)
        else:
            raise SecurityError(f"{type(called).__name__!r} cannot be called in a template")
        context.spend(_weight(made))
        return made

    def call_binop(self, context: JinjaContext, operator: str, left: Value, right: Value) -> Value:
        """`+ * ** %`, refused where the result would be out of bounds."""
        assert isinstance(context, RowContext)
        if operator == "+":
            if type(left) in (str, list) and type(right) in (str, list):
                if len(left) + len(right) > LIMIT:
                    _too_long()
                context.spend(10 + len(left) + len(right))
        elif operator == "*":
            times, repeated = (left, right) if isinstance(left, int) else (right, left)
            if isinstance(times, int) and isinstance(repeated, str | list | tuple):
                if times * (_weight(repeated) + 1) > LIMIT:
                    _too_long()
                context.spend(10 + max(0, times) * len(repeated))
            elif isinstance(left, int) and isinstance(right, int):
                _check_bits(left.bit_length() + right.bit_length())
        elif operator == "**":
            if isinstance(left, int) and isinstance(right, int):
                _check_bits(left.bit_length() * right)
        elif isinstance(left, str):
            raise TypeError("texts are put together with ~ or with the filter `format`, not with %")
        made = self.binop_table[operator](left, right)
        if type(made) is list:
            context.spend(_weight(made))
        return made


def _check_bits(bits: int) -> None:
    if bits > 4096:
        raise LimitReached("a number would have more than 4,096 bits")


def _no_field(obj: Value, name: Value) -> str:
    if type(obj) is dict:
        return f"an object has no field {name!r}{nearest(str(name), map(str, obj))}".rstrip(".")
    if type(obj) is list:
        return f"a list of {len(obj)} has no {name!r}"
    return f"{_KINDS.get(type(obj), 'a value')} has no {name!r}"


_KINDS = {str: "a text", int: "a number", float: "a number", bool: "a boolean", type(None): "null"}


@cache
def bare() -> Sandbox:
    """The filters themselves; attributes that they read go through the sandbox too."""
    return Sandbox({**{name: FILTERS[name] for name in (*_OF_TEXT, *_OF_VALUES)}, **_OWN})


@cache
def sandbox() -> Sandbox:
    """The environment that all templates are compiled in."""
    return Sandbox({**{name: _guarded(name) for name in bare().filters}, **_COUNTING})
