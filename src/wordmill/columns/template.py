"""`template`: a text made from other columns.

greeting: {type: template, template: "Dear {{ person.name }},"}
total:    {type: template, template: "{{ price * count }}", as: number}
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import ConfigDict, Field

from wordmill.columns import templates
from wordmill.columns.base import Column, Context, Filler
from wordmill.types import CellError, Row, Value

_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "string"},
    "json": {},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
}


class Template(Column):
    """A template, and what its text becomes.

    template: Jinja, in a sandbox (see `templates`).
    as: `text` as it is; or the `json`, `integer`, `number` or `boolean` (true, false) that it
        spells, white space around it aside.
    """

    model_config = ConfigDict(populate_by_name=True)

    type: Literal["template"] = "template"
    template: str = Field(kw_only=False)
    as_: Literal["text", "json", "integer", "number", "boolean"] = Field(default="text", alias="as")

    def needs(self) -> frozenset[str]:
        """The names in the template."""
        return templates.compile_template(self.template, "template").names

    def prepare(self, context: Context) -> Filler:
        """The maker."""
        where = f"columns.{context.name}.template"
        template = templates.compile_template(self.template, where, context.parameters)
        return _Filled(template, self.as_)

    def value_schema(self) -> Mapping[str, Any]:
        """By `as`."""
        return _SCHEMAS[self.as_]


class _Filled(Filler):
    def __init__(self, template: templates.Template, kind: str) -> None:
        self._render, self._kind = template.render, kind

    def fill(self, rows: Sequence[Row]) -> list[Value | CellError]:
        """A value a row."""
        render = self._render
        texts = [render(row) for row in rows]
        if self._kind == "text":
            return texts
        return [_read(text, self._kind) if isinstance(text, str) else text for text in texts]


def _read(text: str, kind: str) -> Value | CellError:
    """The value that a text spells."""
    word = text.strip()
    if kind == "boolean" and word.lower() in ("true", "false"):
        return word.lower() == "true"
    if kind == "integer" and re.fullmatch(r"[-+]?[0-9]{1,1000}", word):
        return int(word)
    if kind == "number" and re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?", word):
        number = float(word)
        if math.isfinite(number):
            return number
    if kind == "json":
        try:
            return orjson.loads(word)
        except orjson.JSONDecodeError as error:
            return CellError("template", f"the text is no JSON: {error}")
    shown = word if len(word) <= 60 else f"{word[:57]}..."
    return CellError("template", f"the text {shown!r} is no {kind}")
