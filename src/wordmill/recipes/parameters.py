"""What a recipe lets others choose: a name, a type, bounds, a default, a line of help.

A parameter's default is its value: choosing another one gives a recipe with another default, so
that the recipe of a run says everything that made its rows.
"""

import math
import re
from typing import Literal

from pydantic import Field, model_validator

from wordmill.columns.answers import encodable, told
from wordmill.columns.base import Config
from wordmill.columns.faults import shown
from wordmill.types import Value

Kind = Literal["integer", "number", "string", "boolean", "choice"]


class Parameter(Config):
    """One thing that a recipe lets others choose.

    type: `integer`, `number`, `string`, `boolean`, or `choice` (one of `choices`).
    min, max: bounds of a number; of a string, of its length in characters.
    default: the value; without one, whoever runs the recipe must give it.
    """

    type: Kind = Field(default="string", kw_only=False)
    default: Value = None
    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    choices: tuple[str | int | float | bool, ...] | None = Field(default=None, min_length=1)
    help: str = ""

    @model_validator(mode="after")
    def _fits(self) -> "Parameter":
        if (self.choices is not None) != (self.type == "choice"):
            raise ValueError("`choices` and `type: choice` go together.")
        if self.type in ("boolean", "choice") and (self.min, self.max) != (None, None):
            raise ValueError(f"a {self.type} has no `min` and no `max`.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` {_plain(self.min)} is above `max` {_plain(self.max)}.")
        if self.default is not None:
            self.checked(self.default)
        return self

    def checked(self, value: Value) -> Value:
        """A value, as its type has it (3.0 as 3). Raises ValueError for one that does not fit."""
        made = self._made(value)
        if made is None:
            raise ValueError(f"must be {self.wanted()}, not {shown(value)}.")
        return made

    def read(self, text: str) -> Value:
        """The value that a text stands for, as the command line gives it; errors as `checked`."""
        value: Value = text
        if self.type == "integer" and re.fullmatch(r"[-+]?\d{1,18}", text.strip()):
            value = int(text)
        elif self.type == "number" and re.fullmatch(
            r"[-+]?[\d.]+(?:[eE][-+]?\d{1,3})?", text.strip()
        ):
            value = _number(text)
        elif self.type == "boolean":
            value = _BOOLEANS.get(text.strip().lower(), text)
        elif self.type == "choice":
            value = next((choice for choice in self.choices or () if told(choice) == text), text)
        return self.checked(value)

    def wanted(self) -> str:
        """What a value must be, for sentences and help: `a whole number from 1 to 10`."""
        if self.type == "choice":
            return "one of " + ", ".join(told(choice) for choice in self.choices or ())
        if self.type == "boolean":
            return "true or false"
        what = {"integer": "a whole number", "number": "a number", "string": "text"}[self.type]
        bounds = ""
        if self.min is not None and self.max is not None:
            bounds = f" from {_plain(self.min)} to {_plain(self.max)}"
        elif self.min is not None:
            bounds = f" of at least {_plain(self.min)}"
        elif self.max is not None:
            bounds = f" of at most {_plain(self.max)}"
        return f"{what}{bounds}{' characters' if bounds and self.type == 'string' else ''}"

    def _made(self, value: Value) -> Value:
        """The value in its type, or None if it does not fit."""
        if self.type == "boolean":
            return value if isinstance(value, bool) else None
        if self.type == "choice":
            fits = any(
                value == choice and type(value) is type(choice) for choice in self.choices or ()
            )
            return value if fits else None
        if self.type == "string":
            fits = isinstance(value, str) and "\0" not in value and encodable(value)
            return value if fits and self._within(len(value)) else None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            return None
        if self.type == "integer":
            if value != int(value):
                return None
            value = int(value)
        return value if self._within(value) else None

    def _within(self, size: float) -> bool:
        return (self.min is None or size >= self.min) and (self.max is None or size <= self.max)


_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def _number(text: str) -> Value:
    try:
        return float(text) if any(sign in text for sign in ".eE") else int(text)
    except ValueError:
        return text


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
