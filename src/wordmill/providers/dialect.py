"""What a server that speaks "OpenAI" really understands.

A `Dialect` is a value: what a provider asks for. It starts from a preset and grows simpler with
each refusal; `refusals` says which.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from wordmill.types import Value

Form: TypeAlias = Literal["strict", "json_schema", "json_object", "prompt"]
"""How a schema is asked for, from the strongest to the weakest.

strict: a closed schema that the server must follow.  json_schema: a schema that it should.
json_object: some JSON object, the schema in words.  prompt: in words alone.
"""

FORMS: tuple[Form, ...] = ("strict", "json_schema", "json_object", "prompt")

BOUNDS = ("max_tokens", "max_completion_tokens")
"""The two names of the bound on an answer."""


@dataclass(frozen=True)
class Dialect:
    """What is asked for.

    form: how a schema is asked for.  weaker: schemas that the server refused, with their form.
    json_object: it knows that response format.  bound: its name for the bound on the answer.
    seed: it takes a seed.  system: it knows the system role; otherwise the text goes into the first
    user message.  parts: content may be a list of parts.  without: fields that are not sent.
    """

    form: Form = "json_schema"
    weaker: frozenset[tuple[str, Form]] = frozenset()
    json_object: bool = True
    bound: str = "max_tokens"
    seed: bool = True
    system: bool = True
    parts: bool = True
    without: frozenset[str] = frozenset()

    def lacking(self, names: Collection[str]) -> "Dialect":
        """The same without what a person knows the server lacks (`Model.without`)."""
        form: Form = self.form
        if "json_schema" in names and FORMS.index(form) < FORMS.index("json_object"):
            form = "json_object"
        special = {"json_schema", "json_object", "system", "parts"}
        bound = self.bound if self.bound not in names else BOUNDS[1 - BOUNDS.index(self.bound)]
        return replace(
            self,
            form=form,
            bound=bound,
            json_object=self.json_object and "json_object" not in names,
            seed=self.seed and "seed" not in names,
            system=self.system and "system" not in names,
            parts=self.parts and "parts" not in names,
            without=self.without | (frozenset(names) - special),
        )

    def form_of(self, schema: str) -> Form:
        """How this schema (canonical JSON text) is asked for."""
        known = [form for text, form in self.weaker if text == schema]
        return self._possible(max([self.form, *known], key=FORMS.index), schema)

    def weaken(self, schema: str) -> "Dialect | None":
        """This schema asked for in the next weaker form; None when there is none."""
        now = self.form_of(schema)
        if now == "prompt":
            return None
        after = self._possible(FORMS[FORMS.index(now) + 1], schema)
        kept = {(text, form) for text, form in self.weaker if text != schema}
        return replace(self, weaker=frozenset({*kept, (schema, after)}))

    def _possible(self, form: Form, schema: str) -> Form:
        parsed = json.loads(schema)
        if form == "strict" and closed(parsed) is None:
            return "json_schema"
        is_object = isinstance(parsed, dict) and parsed.get("type") == "object"
        if form == "json_object" and not (self.json_object and is_object):
            return "prompt"
        return form


def closed(schema: Value) -> Value | None:
    """The schema with every object closed, as `strict` wants it; None where that would change it.

    Strict servers want each object's properties all required and no others. An object that allows
    others by saying nothing is closed: every answer to the narrower schema is one to the wider.
    """
    if isinstance(schema, list):
        items = [closed(item) for item in schema]
        return None if None in items else items
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Value] = {}
    for key, value in schema.items():
        if key in ("enum", "const", "default", "examples", "required"):
            result[key] = value
            continue
        narrowed = (
            {name: closed(item) for name, item in value.items()}
            if key in ("properties", "$defs", "definitions") and isinstance(value, dict)
            else closed(value)
        )
        if narrowed is None or (isinstance(narrowed, dict) and None in narrowed.values()):
            return None
        result[key] = narrowed
    if "properties" in schema or schema.get("type") == "object":
        properties = schema.get("properties")
        if not properties or set(schema.get("required", ())) != set(properties):
            return None
        if schema.get("additionalProperties", False) is not False:
            return None
        result["additionalProperties"] = False
    return result
