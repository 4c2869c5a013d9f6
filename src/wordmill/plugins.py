"""Which class implements which name: the one table of the replaceable parts.

`kind -> name -> "module:Class"`. Nothing is imported until it is asked for. A package outside
adds its own by an entry point of the group `wordmill.<kind>`; our own names cannot be taken.
"""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from wordmill.errors import ConfigError, UnknownName

BUILT_IN: dict[str, dict[str, str]] = {
    "columns": {
        "candidates": "wordmill.columns.candidates:Candidates",
        "category": "wordmill.columns.category:Category",
        "datetime": "wordmill.columns.datetime:Datetime",
        "judge": "wordmill.columns.judge:Judge",
        "number": "wordmill.columns.number:Number",
        "person": "wordmill.columns.person:Person",
        "prompt": "wordmill.columns.prompt:Prompt",
        "python": "wordmill.columns.python:Python",
        "seed": "wordmill.columns.seed:Seed",
        "template": "wordmill.columns.template:Template",
        "uuid": "wordmill.columns.uuid:Uuid",
    },
    "channels": {
        "discord": "wordmill.channels.discord.channel:Discord",
        "matrix": "wordmill.channels.matrix.channel:Matrix",
    },
    "providers": {
        "local": "wordmill.providers.local:Local",
        "openai": "wordmill.providers.openai:OpenAI",
        "rehearsal": "wordmill.providers.rehearsal:RehearsalProvider",
    },
    "exports": {
        "csv": "wordmill.exports.csv:Csv",
        "docx": "wordmill.exports.docx:Docx",
        "dpo": "wordmill.exports.dpo:Dpo",
        "jsonl": "wordmill.exports.jsonl:Jsonl",
        "parquet": "wordmill.exports.parquet:Parquet",
        "sft": "wordmill.exports.sft:Sft",
    },
}


@cache
def _outside(kind: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=f"wordmill.{kind}")}


def names(kind: str) -> Iterable[str]:
    """All names of a kind, our own and those of installed packages, sorted."""
    return sorted({*BUILT_IN[kind], *_outside(kind)})


@cache
def load(kind: str, name: str) -> Any:
    """The class behind a name; imported now.

    Raises UnknownName for a name that nothing has, ConfigError when its module does not import.
    """
    target = BUILT_IN[kind].get(name) or _outside(kind).get(name)
    if target is None:
        raise UnknownName(kind.removesuffix("s"), name, names(kind))
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        what = f"The {kind.removesuffix('s')} {name!r} ({target})"
        raise ConfigError(f"{what} does not load: {error}.") from error
