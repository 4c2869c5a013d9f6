"""Wordmill: talk to language models, make datasets with them, review and export.

    from wordmill import Category, Prompt, Recipe, generate

Each name is imported when it is first used, so that `import wordmill` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wordmill.columns.base import Asker, Column, Filler
    from wordmill.columns.candidates import Candidates
    from wordmill.columns.category import Category
    from wordmill.columns.datetime import Datetime
    from wordmill.columns.judge import Judge
    from wordmill.columns.number import Number
    from wordmill.columns.person import Person
    from wordmill.columns.prompt import Prompt
    from wordmill.columns.python import Python
    from wordmill.columns.seed import Seed
    from wordmill.columns.template import Template
    from wordmill.columns.uuid import Uuid
    from wordmill.errors import (
        ConfigError,
        EngineError,
        ExportError,
        ExtraMissing,
        KeyMissing,
        RecipeError,
        RecipeErrors,
        RunError,
        StorageError,
        UnknownName,
        WordmillError,
    )
    from wordmill.recipes import Parameter, Recipe
    from wordmill.runs.door import agenerate, generate
    from wordmill.runs.result import Result

__all__ = [
    "Asker",
    "Candidates",
    "Category",
    "Column",
    "ConfigError",
    "Datetime",
    "EngineError",
    "ExportError",
    "ExtraMissing",
    "Filler",
    "Judge",
    "KeyMissing",
    "Number",
    "Parameter",
    "Person",
    "Prompt",
    "Python",
    "Recipe",
    "RecipeError",
    "RecipeErrors",
    "Result",
    "RunError",
    "Seed",
    "StorageError",
    "Template",
    "UnknownName",
    "Uuid",
    "WordmillError",
    "agenerate",
    "generate",
]

_MODULES = {
    **dict.fromkeys(("Asker", "Column", "Filler"), "wordmill.columns.base"),
    **{
        name: f"wordmill.columns.{name.lower()}"
        for name in (
            "Candidates", "Category", "Datetime", "Judge", "Number", "Person", "Prompt", "Python",
            "Seed", "Template", "Uuid",
        )
    },
    **dict.fromkeys(("Parameter", "Recipe"), "wordmill.recipes"),
    **dict.fromkeys(("agenerate", "generate"), "wordmill.runs.door"),
    "Result": "wordmill.runs.result",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """A public name, imported now; all that `_MODULES` does not place are errors."""
    if name not in __all__:
        raise AttributeError(f"module 'wordmill' has no attribute {name!r}")
    value = getattr(import_module(_MODULES.get(name, "wordmill.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__]
