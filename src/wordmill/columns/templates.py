"""The one place where a recipe's templates and expressions are compiled and run.

They are Jinja in the sandbox of `sandbox`. A text is parsed, looked through for what a template
may not hold (so that a reach for Python's internals is refused when the recipe is read, not in row
one million), rewritten so that the sandbox can count what it does, and compiled once. `names` says
which names a text needs; which names exist is the recipe's business.

No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, cast

import orjson
from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import TemplateAssertionError
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser

from wordmill.columns.jinja_words import in_our_words
from wordmill.columns.sandbox import (
    CHECKED,
    CONCATENATED,
    LIMIT,
    SCALARS,
    STEPPED,
    RowContext,
    json_text,
    sandbox,
)
from wordmill.errors import RecipeError
from wordmill.types import CellError, Row, Value

AMBIENT = frozenset({"parameters", "row", "item", "variant"})
"""Names that every template may see without naming a column."""

_RENDER_ERRORS = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
)
_COMPILE_ERRORS = (SyntaxError, RecursionError, MemoryError, ValueError, OverflowError)

# From text to code ----------------------------------------------------------------------------

_STATEMENTS = (
    nodes.Output,
    nodes.For,
    nodes.If,
    nodes.Assign,
    nodes.AssignBlock,
    nodes.With,
    nodes.FilterBlock,
)
_TAGS: Mapping[type[nodes.Node], str] = {
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.ScopedEvalContextModifier: "autoescape",
}


def _refuse(tree: nodes.Template) -> None:
    """Raise TemplateAssertionError for what a template may not hold, as far as it can be seen."""
    for node in tree.find_all(nodes.Node):
        if isinstance(node, nodes.Stmt) and not isinstance(node, _STATEMENTS):
            tag = _TAGS.get(type(node), type(node).__name__.lower())
            raise TemplateAssertionError(
                f"{{% {tag} %}} is not for templates of a recipe: they hold text, "
                "{% if %}, {% for %} and {% set %}",
                node.lineno,
            )
        if isinstance(node, nodes.For) and node.recursive:
            raise TemplateAssertionError("a loop cannot be recursive", node.lineno)
        name = None
        if isinstance(node, nodes.Getattr):
            name = node.attr
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            name = node.arg.value if str(node.arg.value).startswith("__") else None
        if isinstance(name, str) and name.startswith("_"):
            hint = "" if name.startswith("__") else f'; read a field of that name with ["{name}"]'
            raise TemplateAssertionError(
                f"{name!r} is refused: a name that begins with an underscore reaches for Python's "
                f"internals, and a template reads values only{hint}",
                node.lineno,
            )


def _count_work(node: nodes.Node) -> None:
    """Wrap what makes texts, lists and loops in filters of ours that count it, in place."""
    for child in list(node.iter_child_nodes()):
        _count_work(child)
    if isinstance(node, nodes.For):
        body = sum(
            len(data.data) for part in node.body for data in part.find_all(nodes.TemplateData)
        )
        cost = nodes.Const(100 + body, lineno=node.lineno)
        node.iter = _filtered(STEPPED, cast(nodes.Expr, node.iter), [cost])
    for field, value in node.iter_fields():
        if isinstance(value, nodes.Expr):
            setattr(node, field, _wrapped(value))
        elif isinstance(value, list):
            value[:] = [_wrapped(part) if isinstance(part, nodes.Expr) else part for part in value]


def _wrapped(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.Concat):
        return _filtered(CONCATENATED, nodes.List(node.nodes, lineno=node.lineno), [])
    if isinstance(node, nodes.List | nodes.Dict):
        return _filtered(CHECKED, node, [])
    if isinstance(node, nodes.Tuple) and node.ctx == "load":
        return _filtered(CHECKED, node, [])
    return node


def _filtered(name: str, node: nodes.Expr, args: list[nodes.Expr]) -> nodes.Filter:
    return nodes.Filter(node, name, args, [], None, None, lineno=node.lineno)


@dataclass(frozen=True, slots=True)
class _Code:
    """A compiled text. `constant` is set where nothing in it depends on a row."""

    jinja: JinjaTemplate
    names: frozenset[str]
    parameters: frozenset[str]
    lines: int
    constant: str | None = None


def _parsed_template(text: str) -> nodes.Template:
    return sandbox().parse(text)


def _parsed_expression(text: str) -> nodes.Template:
    """An expression as a template that sets `result`."""
    if text.lstrip().startswith(("{{", "{%")):
        raise TemplateSyntaxError("an expression is written without {{ }}: a name, a comparison", 1)
    parser = Parser(sandbox(), text, state="variable")
    expression = parser.parse_expression()
    if not parser.stream.eos:
        raise TemplateSyntaxError(
            f"the expression ends before '{parser.stream.current}'",
            parser.stream.current.lineno,
        )
    expression.set_environment(sandbox())
    body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)]
    tree = nodes.Template(body, lineno=1)
    tree.set_environment(sandbox())
    return tree


@lru_cache(maxsize=512)
def _code(text: str, where: str, expression: bool) -> _Code:
    """Parse, refuse, count and compile. Raises RecipeError with the line inside the text."""
    if len(text) > LIMIT:
        raise RecipeError(
            f"the template has {len(text):,} characters, and at most {LIMIT:,} are read", where
        )
    try:
        tree = _parsed_expression(text) if expression else _parsed_template(text)
        _refuse(tree)
        names = frozenset(find_undeclared_variables(tree)) - AMBIENT
        parameters = frozenset(
            part.attr
            for part in tree.find_all(nodes.Getattr)
            if isinstance(part.node, nodes.Name) and part.node.name == "parameters"
        )
        fixed = [part for node in tree.body for part in node.find_all(nodes.TemplateData)]
        plain = all(
            isinstance(node, nodes.Output)
            and all(isinstance(part, nodes.TemplateData) for part in node.nodes)
            for node in tree.body
        )
        _count_work(tree)
        jinja = JinjaTemplate.from_code(sandbox(), sandbox().compile(tree, where, where), {}, None)
    except TemplateError as error:
        said = in_our_words(error, text, expression=expression)
        line = error.lineno if isinstance(error, TemplateSyntaxError) else 1
        raise RecipeError(said.sentence, where, line or 1, max(0, said.at) + 1) from error
    except _COMPILE_ERRORS as error:
        raise RecipeError(
            f"the template is nested too deep or holds a number too large ({error})", where, 1, 1
        ) from error
    constant = "".join(part.data for part in fixed) if plain else None
    return _Code(jinja, names, parameters, text.count("\n") + 1, constant)


# What others use ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What templates and expressions share."""

    _code: _Code
    _fixed: Mapping[str, Value]

    @property
    def names(self) -> frozenset[str]:
        """Root names that it needs from a row: no loop variables, none of `AMBIENT`."""
        return self._code.names

    @property
    def parameters(self) -> frozenset[str]:
        """Names that it reads as `parameters.<name>`."""
        return self._code.parameters

    def _context(self, row: Row) -> RowContext:
        return RowContext(sandbox(), row, globals=self._fixed)

    def _error(self, error: BaseException) -> CellError:
        message = error.message if isinstance(error, TemplateError) else None
        detail = str(message or error or type(error).__name__)
        if isinstance(error, RecursionError):
            detail = "it is nested too deep"
        line = _line(error.__traceback__, self._code.jinja) if self._code.lines > 1 else 0
        return CellError("template", (f"line {line}: " if line else "") + detail[:500])


@dataclass(frozen=True, slots=True)
class Template(_Compiled):
    """A text with places to fill in."""

    def render(self, row: Row) -> str | CellError:
        """The text for a row; CellError(`template`) where it cannot be made."""
        code = self._code
        if code.constant is not None:
            return code.constant
        try:
            text = "".join(code.jinja.root_render_func(self._context(row)))
        except _RENDER_ERRORS as error:
            return self._error(error)
        if len(text) > LIMIT:
            return CellError("template", f"the text has {len(text):,} characters, above {LIMIT:,}")
        return text


@dataclass(frozen=True, slots=True)
class Expression(_Compiled):
    """A condition or a computed value, as in `when` and `keep`."""

    def evaluate(self, row: Row) -> Value | CellError:
        """The JSON value for a row; CellError(`template`) where it cannot be made."""
        context = self._context(row)
        try:
            for _ in self._code.jinja.root_render_func(context):
                pass
            value = context.vars["result"]
            if type(value) is str or type(value) in SCALARS:
                return value
            return orjson.loads(json_text(value)) if not isinstance(value, range) else list(value)
        except _RENDER_ERRORS as error:
            return self._error(error)


def compile_template(
    text: str, where: str, parameters: Mapping[str, Value] | None = None
) -> Template:
    """A template, compiled once.

    where: which text of the recipe it is, for messages (`columns.ticket.prompt`).
    parameters: the recipe's, for `parameters.<name>`; a row's own `parameters` comes first.
    Raises RecipeError with the line inside the text for what is no template, and for what reaches
    for more than values.
    """
    return Template(
        _code(text, where, False), {**sandbox().globals, "parameters": parameters or {}}
    )


def compile_expression(
    text: str, where: str = "expression", parameters: Mapping[str, Value] | None = None
) -> Expression:
    """An expression, compiled once; arguments and errors as for `compile_template`."""
    return Expression(
        _code(text, where, True), {**sandbox().globals, "parameters": parameters or {}}
    )


def _line(trace: TracebackType | None, jinja: JinjaTemplate) -> int:
    """The line of the template's text in which an exception arose; 0 if not known."""
    code: Any = jinja.root_render_func.__code__
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == code.co_filename:
            line = jinja.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line
